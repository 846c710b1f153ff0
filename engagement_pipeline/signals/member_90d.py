"""The table `signals.member_90d`: one row per member and moment.

Here the members are found, what each source says of them is put beside them, and the result is
typed and checked. How one source is counted belongs to `activity`; nothing here opens a
database or decides when to compute.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial

import narwhals as nw
import polars as pl
from narwhals.typing import IntoFrame

from engagement_pipeline.contracts import contract
from engagement_pipeline.signals.activity import (
    PAIR,
    attendance_activity,
    event_view_activity,
    interaction_activity,
    notification_activity,
    profile_activity,
)
from engagement_pipeline.signals.sources import Rows, SignalSources, lazy
from engagement_pipeline.signals.windows import Horizon, microseconds

TABLE = "signals.member_90d"

_ATTENDANCE_COUNTS = (
    "events_attended_90d",
    "events_attended_prev_90d",
    "events_attended_total",
    "no_show_count_90d",
    "rsvp_count_90d",
)
_ACTIVE_AT = (
    "last_attended_at",
    "last_answered_at",
    "profile_updated_at",
    "last_first_read_at",
    "last_interaction_at",
)


def member_signals(
    sources: SignalSources, *, as_of: datetime, significant_sections: Collection[str]
) -> Rows:
    """The signals of everyone who is a member at `as_of`, not yet computed.

    Only rows known at `as_of` count, so a past moment gives today what it gave then. Nothing is
    ordered, and instants (`as_of` among them) are Int64 microseconds: `finish` makes the table.

    Args:
        sources: the source tables; their engine computes the result.
        as_of: the moment described, with a time zone.
        significant_sections: profile sections whose update counts as activity.

    Returns:
        One row per `org_id, user_id` with the columns of `signals.member_90d`, in its order.

    Raises:
        ValueError: `as_of` has no time zone.
    """
    horizon = Horizon.at(as_of)
    profiles = partial(profile_activity, significant_sections=significant_sections)
    described = _beside(
        _members(lazy(sources.memberships), horizon),
        attendance_activity(lazy(sources.attendance), horizon),
        counts=_ATTENDANCE_COUNTS,
        instants=("last_attended_at", "last_answered_at"),
    )
    described = _beside(
        described,
        _if_there(sources.event_views, event_view_activity, horizon),
        counts=("event_view_count_90d",),
    )
    described = _beside(
        described,
        _notifications(sources, horizon),
        counts=("notifications_sent_90d", "notifications_read_90d"),
        instants=("last_first_read_at",),
    )
    described = _beside(
        described,
        _if_there(sources.interactions, interaction_activity, horizon),
        counts=("interaction_count_90d",),
        instants=("last_interaction_at",),
    )
    described = _beside(
        described,
        _if_there(sources.profile_updates, profiles, horizon),
        on=("user_id",),
        instants=("profile_updated_at",),
    )
    return _in_order(described, horizon)


def finish(frame: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
    """The table itself, from the collected rows of `member_signals`.

    Args:
        frame: the rows, in any order, from any engine.
        as_of: the moment that they were computed for.

    Returns:
        Typed as the contract of `signals.member_90d` says, sorted by `org_id, user_id`.

    Raises:
        ValueError: `as_of` has no time zone, or rows describe another moment.
        ContractViolationError: a row breaks the table's contract.
    """
    described_at = frame.get_column("as_of").unique().to_list()
    if described_at not in ([], [microseconds(as_of)]):
        raise ValueError(f"rows describe {described_at} microseconds, not {as_of.isoformat()}")
    promised = contract(TABLE)
    typed = frame.select(pl.col(name).cast(dtype) for name, dtype in promised.polars_schema.items())
    return promised.validate(typed.sort(promised.key))


def _members(memberships: Rows, horizon: Horizon) -> Rows:
    """Who is a member at `as_of`: `org_id`, `user_id`, `joined_at`.

    Where stays overlap, the person is still one member, since the first of them.
    """
    left_at = nw.col("left_at")
    return (
        memberships.filter(
            horizon.knows(nw.col("joined_at")), left_at.is_null() | ~horizon.knows(left_at)
        )
        .group_by(*PAIR)
        .agg(nw.col("joined_at").min())
    )


def _if_there(
    table: IntoFrame | None, activity: Callable[[Rows, Horizon], Rows], horizon: Horizon
) -> Rows | None:
    return None if table is None else activity(lazy(table), horizon)


def _notifications(sources: SignalSources, horizon: Horizon) -> Rows | None:
    if sources.notifications is None:
        return None
    reads = sources.notification_reads
    return notification_activity(
        lazy(sources.notifications),
        None if reads is None else lazy(reads),
        lazy(sources.memberships),
        horizon,
    )


def _beside(
    members: Rows,
    activity: Rows | None,
    *,
    on: Sequence[str] = PAIR,
    counts: Sequence[str] = (),
    instants: Sequence[str] = (),
) -> Rows:
    """`members` with the columns of one source.

    A member of whom a source says nothing has zero counts and no instants. Where there is no
    source (`None`) all of its columns are null.
    """
    if activity is None:
        unknown = nw.lit(None, dtype=nw.Int64)
        return members.with_columns(*(unknown.alias(name) for name in (*counts, *instants)))
    joined = members.join(activity, on=list(on), how="left")
    zeros = [nw.col(name).fill_null(0) for name in counts]
    return joined.with_columns(zeros) if zeros else joined


def _in_order(described: Rows, horizon: Horizon) -> Rows:
    """What follows from several sources, and then the columns of the table, all Int64."""
    last_active_at = nw.max_horizontal(*_ACTIVE_AT)
    derived = described.with_columns(
        last_active_at.alias("last_active_at"),
        nw.lit(horizon.as_of).alias("as_of"),
        horizon.days_since(nw.col("joined_at")).alias("days_since_joined"),
        horizon.days_since(nw.coalesce(last_active_at, "joined_at")).alias("days_since_active"),
    )
    # Engines count in unsigned, 32-bit or 128-bit integers; here they become one type.
    return derived.select(
        *(
            nw.col(name) if name in PAIR else nw.col(name).cast(nw.Int64)
            for name in contract(TABLE).column_names
        )
    )
