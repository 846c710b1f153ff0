"""What each source table says of a person: one aggregation per table, and nothing joined to it.

Every function takes a source table as in `SignalSources` and gives at most one row per
`org_id, user_id` (profile updates: per `user_id`), of members and others alike. Instants are Int64
microseconds. Who is a member, and what an absent row means, belongs to `member_90d`.
"""

from collections.abc import Collection

import narwhals as nw

from engagement_pipeline.signals.attribution import attributed
from engagement_pipeline.signals.sources import Rows
from engagement_pipeline.signals.windows import Horizon

PAIR = ("org_id", "user_id")

_CAME = ("attended", "partial")
_NOT_AN_RSVP = ("cancelled", "waitlisted")


def attendance_activity(attendance: Rows, horizon: Horizon) -> Rows:
    """Attendance, no-shows and RSVPs.

    A status holds from `responded_at` on. Before that, and from `created_at`, the row says only
    that the person answered: an RSVP, whatever the status became later.
    """
    created_at, status = nw.col("created_at"), nw.col("status")
    occurred_at = nw.coalesce("responded_at", "created_at")
    is_settled = horizon.knows(occurred_at)
    is_rsvp = ~(is_settled & status.is_in(_NOT_AN_RSVP))
    facts = attendance.filter(horizon.knows(created_at)).select(
        *PAIR,
        nw.when(is_settled & status.is_in(_CAME)).then(occurred_at).alias("came_at"),
        nw.when(is_settled & (status == "no_show")).then(occurred_at).alias("missed_at"),
        nw.when(is_rsvp).then(created_at).alias("answered_at"),
    )
    came_at, answered_at = nw.col("came_at"), nw.col("answered_at")
    return facts.group_by(*PAIR).agg(
        _number_of(horizon.in_90d(came_at)).alias("events_attended_90d"),
        _number_of(horizon.in_prev_90d(came_at)).alias("events_attended_prev_90d"),
        came_at.count().alias("events_attended_total"),
        came_at.max().alias("last_attended_at"),
        _number_of(horizon.in_90d(nw.col("missed_at"))).alias("no_show_count_90d"),
        _number_of(horizon.in_90d(answered_at)).alias("rsvp_count_90d"),
        answered_at.max().alias("last_answered_at"),
    )


def event_view_activity(event_views: Rows, horizon: Horizon) -> Rows:
    """Event pages looked at in the 90 days."""
    viewed_at = nw.col("viewed_at")
    seen = event_views.filter(horizon.knows(viewed_at), horizon.in_90d(viewed_at))
    return seen.group_by(*PAIR).agg(nw.len().alias("event_view_count_90d"))


def interaction_activity(interactions: Rows, horizon: Horizon) -> Rows:
    """Interactions in the 90 days, and the last one of all time."""
    sent_at = nw.col("sent_at")
    return (
        interactions.filter(horizon.knows(sent_at))
        .group_by(*PAIR)
        .agg(
            _number_of(horizon.in_90d(sent_at)).alias("interaction_count_90d"),
            sent_at.max().alias("last_interaction_at"),
        )
    )


def notification_activity(
    notifications: Rows,
    reads: Rows | None,
    memberships: Rows,
    horizon: Horizon,
) -> Rows:
    """Notifications sent and first read in the 90 days, and the last first read of all time.

    A sending belongs to the organisation at the sending, a read to that at the first read. A read
    of a notification that is not known at `as_of` is ignored.
    """
    sent_at = nw.col("sent_at")
    known = notifications.filter(horizon.knows(sent_at))
    touches = [
        known.filter(horizon.in_90d(sent_at)).select(
            "user_id", "org_id", sent_at.alias("at"), nw.lit(False).alias("is_read")
        )
    ]
    if reads is not None:
        touches.append(
            known.join(first_reads(reads, horizon), on="notification_id", how="inner").select(
                "user_id",
                "org_id",
                nw.col("first_read_at").alias("at"),
                nw.lit(True).alias("is_read"),
            )
        )
    at, is_read = nw.col("at"), nw.col("is_read")
    return (
        attributed(nw.concat(touches, how="vertical"), memberships)
        .group_by(*PAIR)
        .agg(
            _number_of(~is_read).alias("notifications_sent_90d"),
            _number_of(is_read & horizon.in_90d(at)).alias("notifications_read_90d"),
            nw.when(is_read).then(at).max().alias("last_first_read_at"),
        )
    )


def first_reads(reads: Rows, horizon: Horizon) -> Rows:
    """The first read of each notification that is known at `as_of`, whatever followed it.

    Args:
        reads: `notification_id`, `read_at`, revisits included.
        horizon: the moment as of which.

    Returns:
        `notification_id` (once each), `first_read_at`.
    """
    read_at = nw.col("read_at")
    return (
        reads.filter(horizon.knows(read_at))
        .group_by("notification_id")
        .agg(read_at.min().alias("first_read_at"))
    )


def profile_activity(
    profile_updates: Rows, horizon: Horizon, significant_sections: Collection[str]
) -> Rows:
    """The newest update of a significant profile section, per `user_id`."""
    updated_at = nw.col("updated_at")
    return (
        profile_updates.filter(
            horizon.knows(updated_at), nw.col("section").is_in(sorted(significant_sections))
        )
        .group_by("user_id")
        .agg(updated_at.max().alias("profile_updated_at"))
    )


def _number_of(condition: nw.Expr) -> nw.Expr:
    """How many rows of a group meet `condition`.

    Spark does not sum booleans, and a cast to Int64 makes Polars a tenth slower than this.
    """
    return nw.when(condition).then(nw.lit(1)).otherwise(nw.lit(0)).sum()
