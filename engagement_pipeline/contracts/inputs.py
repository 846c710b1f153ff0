"""The input tables of a source, as they land in the schema `raw`.

One model per table, with exactly the columns a source may bring. How a raw value becomes one of
these columns is `ingest`'s business; the tables that ingestion keeps for itself are in `journal`.
"""

import pandera.polars as pa

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.columns import (
    Instant,
    amount,
    clock_time,
    flag,
    identifier,
    instant,
    name,
    text,
    time_zone,
    word,
)
from engagement_pipeline.contracts.contract import table


class _Input(pa.DataFrameModel):
    class Config:
        strict = True


@table("raw.organizations", key=["org_id"], newer_by=("created_at",), is_required=True)
class Organizations(_Input):
    """Organisations: the communities whose members are scored."""

    org_id: str = identifier("The organisation.")
    name: str = name("What the organisation calls itself.")
    description: str = text("What the organisation is about, in its own words.", nullable=True)
    timezone: str = time_zone("IANA time zone of the organisation.", default="UTC")
    created_at: Instant = instant("When the organisation was created.", nullable=True)


@table("raw.memberships", key=["org_id", "user_id"], is_required=True)
class Memberships(_Input):
    """Memberships: who belongs, or belonged, to which organisation."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    role: str = word("What the member may do.", vocabulary.ROLES, default="member")
    joined_at: Instant = instant("When the membership began.")
    left_at: Instant = instant("When the membership ended; null while it holds.", nullable=True)


@table("raw.profiles", key=["user_id"], newer_by=("created_at",))
class Profiles(_Input):
    """Profiles: what is known of a person, whatever the organisation."""

    user_id: str = identifier("The person.")
    display_name: str = name("The name the person shows to others.", nullable=True)
    timezone: str = time_zone("IANA time zone of the person.")
    last_active_at: Instant = instant("Last activity that the source reports.", nullable=True)
    created_at: Instant = instant("When the account was created.", nullable=True)


@table(
    "raw.profile_updates",
    key=["user_id", "section", "updated_at"],
    is_event_like=True,
    time_column="updated_at",
)
class ProfileUpdates(_Input):
    """Profile updates: one row each time a section of a profile was changed."""

    user_id: str = identifier("The person.")
    section: str = identifier("The section that was changed, such as `skills`.")
    updated_at: Instant = instant("When it was changed.")


@table("raw.events", key=["event_id"], time_column="starts_at")
class Events(_Input):
    """Events: what an organisation's members can come to."""

    event_id: str = identifier("The event.")
    org_id: str = identifier("The organisation that holds it.")
    title: str = name("What it is called.", nullable=True)
    starts_at: Instant = instant("When it starts.", may_be_future=True)
    ends_at: Instant = instant("When it ends.", nullable=True, may_be_future=True)


@table(
    "raw.attendance",
    key=["org_id", "event_id", "user_id"],
    newer_by=("responded_at", "created_at"),
    is_required=True,
    time_column="created_at",
)
class Attendance(_Input):
    """Attendance: one row per person and event, from the answer to the turning up."""

    org_id: str = identifier("The organisation.")
    event_id: str = identifier("The event.")
    user_id: str = identifier("The person.")
    status: str = word(
        "Where the person stands with the event.",
        vocabulary.ATTENDANCE_STATUSES,
        spellings=vocabulary.ATTENDANCE_STATUS_SPELLINGS,
    )
    created_at: Instant = instant("When the person first answered.")
    responded_at: Instant = instant("When the status became what it is.", nullable=True)


@table(
    "raw.event_views",
    key=["org_id", "event_id", "user_id", "viewed_at"],
    is_event_like=True,
    time_column="viewed_at",
)
class EventViews(_Input):
    """Event views: one row each time a person looked at an event's page."""

    org_id: str = identifier("The organisation.")
    event_id: str = identifier("The event.")
    user_id: str = identifier("The person.")
    viewed_at: Instant = instant("When the page was looked at.")


@table("raw.notifications", key=["notification_id"], time_column="sent_at")
class Notifications(_Input):
    """Notifications: what was sent to people, by feature and channel."""

    notification_id: str = identifier("The notification.")
    user_id: str = identifier("Whom it was sent to.")
    org_id: str = identifier("The organisation it speaks for, where it names one.", nullable=True)
    feature: str = identifier("The feature that sent it.")
    channel: str = identifier("How it was sent, such as `email` or `push`.", nullable=True)
    sent_at: Instant = instant("When it was sent.")
    delivered_at: Instant = instant("When it arrived.", nullable=True)


@table(
    "raw.notification_reads",
    key=["notification_id", "read_at"],
    is_event_like=True,
    time_column="read_at",
)
class NotificationReads(_Input):
    """Notification reads: one row per read, revisits included."""

    notification_id: str = identifier("The notification.")
    read_at: Instant = instant("When it was read.")


@table(
    "raw.interactions",
    key=["interaction_id"],
    is_event_like=True,
    time_column="sent_at",
)
class Interactions(_Input):
    """Interactions: what members say and do in an organisation's channels."""

    interaction_id: str = identifier("The interaction.")
    org_id: str = identifier("The organisation.")
    user_id: str = identifier("Who said or did it.")
    type: str = word("What kind of interaction it was.", vocabulary.INTERACTION_TYPES)
    text: str = text("What was said, where anything was.", nullable=True)
    sent_at: Instant = instant("When it was sent.")
    response_time_seconds: float = amount(
        "Seconds from the message it answers, where it answers one.", nullable=True
    )


@table("raw.preferences", key=["user_id", "org_id"], newer_by=("updated_at",))
class Preferences(_Input):
    """Preferences: whether and when a person wants to be written to."""

    user_id: str = identifier("The person.")
    org_id: str = identifier("The organisation; null: every organisation.", nullable=True)
    opted_out: bool = flag("Whether the person wants no messages.")
    quiet_start: str = clock_time("Start of the quiet hours, local.")
    quiet_end: str = clock_time("End of the quiet hours, local.")
    updated_at: Instant = instant("When the preference was set.")


@table("raw.override_requests", key=["request_id"], time_column="performed_at")
class OverrideRequests(_Input):
    """Override requests: what admins asked for, from the source, the terminal or Dagster."""

    request_id: str = identifier("The request.")
    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member whose level is set or cleared.")
    action: str = word("What is asked.", vocabulary.OVERRIDE_ACTIONS)
    level: str = word("The level to set; none for `clear`.", vocabulary.LEVELS, nullable=True)
    notes: str = text("Why, in the admin's words.")
    performed_by: str = identifier("The admin who asks.")
    performed_at: Instant = instant("When it was asked.")
    expires_at: Instant = instant(
        "When the override ends by itself; null: never.", nullable=True, may_be_future=True
    )


@table("raw.org_settings", key=["org_id", "setting"])
class OrgSettings(_Input):
    """Organisation settings: values that one organisation sets for itself."""

    org_id: str = identifier("The organisation.")
    setting: str = word("The setting's name.", vocabulary.ORG_SETTINGS)
    value: str = identifier("The value, as text.")


@table("raw.erasure_requests", key=["user_id"], time_column="requested_at")
class ErasureRequests(_Input):
    """Erasure requests: people who asked to be forgotten."""

    user_id: str = identifier("The person.")
    requested_at: Instant = instant("When the person asked.")
