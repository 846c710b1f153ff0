"""The 90-day signal tables, in the schema `signals`."""

import pandera.polars as pa

from engagement_pipeline.contracts.columns import Instant, count, flag, identifier, instant
from engagement_pipeline.contracts.contract import table


class Signals(pa.DataFrameModel):
    """What is known of a member at `as_of`. Other tables that carry signals inherit these."""

    events_attended_90d: int = count("Events attended, wholly or partly, in the 90 days.")
    events_attended_prev_90d: int = count("The same for the 90 days before those.")
    events_attended_total: int = count("Events attended over all time.")
    last_attended_at: Instant = instant("When an event was last attended.", nullable=True)
    no_show_count_90d: int = count("Events the member answered but did not come to.")
    rsvp_count_90d: int = count("Answers in the 90 days that were not cancelled or waitlisted.")
    event_view_count_90d: int = count(
        "Event pages looked at; null where the source has no views.", nullable=True
    )
    notifications_sent_90d: int = count(
        "Notifications sent; null where the source has none.", nullable=True
    )
    notifications_read_90d: int = count(
        "Notifications first read; null where the source has none.", nullable=True
    )
    interaction_count_90d: int = count(
        "Messages and other interactions; null where the source has none.", nullable=True
    )
    profile_updated_at: Instant = instant(
        "The newest update of a significant profile section.", nullable=True
    )
    joined_at: Instant = instant("When the membership began.")
    days_since_joined: int = count("Whole days since then.")
    last_active_at: Instant = instant(
        "The latest attendance, answer, significant profile update, first read or interaction.",
        nullable=True,
    )
    days_since_active: int = count("Whole days since then, or since joining if never active.")


SIGNAL_COLUMNS: tuple[str, ...] = tuple(Signals.to_schema().columns)
"""The names of the signals, in their order."""


@table("signals.member_90d", key=["org_id", "user_id"], time_column="as_of")
class Member90d(Signals):
    """The signals of every current member at `as_of`, over the 90 days that end there."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    as_of: Instant = instant("The moment that the signals describe.")

    class Config:
        strict = True


@table("signals.snapshot", time_column="as_of")
class Snapshot(pa.DataFrameModel):
    """What `signals.member_90d` now holds: one row, written with it."""

    as_of: Instant = instant("The moment that the signals describe.")
    members: int = count("Members in all organisations.")
    has_event_views: bool = flag("Whether the source has event views at all.")
    has_notifications: bool = flag("Whether the source has notifications at all.")
    has_interactions: bool = flag("Whether the source has interactions at all.")
    inputs_digest: str = identifier("Sha256 of all that the signals were computed from.")
    computed_at: Instant = instant("When they were computed.")

    class Config:
        strict = True
