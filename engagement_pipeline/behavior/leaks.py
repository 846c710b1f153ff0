"""Whether features of a moment tell what was only known later.

A leak makes a model look good in every validation and fail in use. It is found by hiding all that
came later: features that are not the same then had looked at it. How features are computed belongs
elsewhere; this module takes any way of computing them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

import polars as pl

from engagement_pipeline.behavior.sources import BehaviorSources, only_people
from engagement_pipeline.signals.activity import PAIR
from engagement_pipeline.signals.windows import microseconds

Build: TypeAlias = Callable[[BehaviorSources, datetime], pl.DataFrame]
"""Features of the members at a moment: `org_id`, `user_id` (together unique), and any columns."""

MEMBERSHIP = "membership"
"""Stands for a feature where somebody is a member only by what came later, or only without it."""

_UNANSWERED = "registered"
_TIME_COLUMNS = {
    "memberships": "joined_at",
    "attendance": "created_at",
    "event_views": "viewed_at",
    "notifications": "sent_at",
    "notification_reads": "read_at",
    "interactions": "sent_at",
}


@dataclass(frozen=True)
class Leak:
    """A feature that depends on what came later: of how many members, and one of them in words."""

    feature: str
    members: int
    example: str


def leaks(
    build: Build,
    sources: BehaviorSources,
    *,
    at: datetime,
    members: pl.DataFrame | None = None,
) -> list[Leak]:
    """The features that are otherwise when everything later than `at` is hidden.

    Args:
        build: computes the features.
        sources: the tables, with rows from after `at`: without any, nothing can be found.
        at: the moment, with a time zone.
        members: `user_id`, if only these people are to be looked at; by default all.

    Returns:
        A leak for each feature, in the order of the columns; none if `build` is clean. A difference
        in the last digit counts as well.

    Raises:
        ValueError: `at` has no time zone.
    """
    if members is not None:
        sources = only_people(sources, members)
    seen = build(sources, at).sort(PAIR)
    known = build(as_known(sources, at=at), at).sort(PAIR)
    names = [name for name in seen.columns if name not in PAIR]
    added = seen.join(known, on=PAIR, how="anti", maintain_order="left")
    lost = known.join(seen, on=PAIR, how="anti", maintain_order="left")
    both = seen.join(
        known.select(*PAIR, *(pl.col(name).alias(f"{name} known") for name in names)),
        on=PAIR,
        maintain_order="left",
    )
    found = {
        MEMBERSHIP: [
            *((pair, "a member", "none") for pair in added.select(PAIR).rows()),
            *((pair, "none", "a member") for pair in lost.select(PAIR).rows()),
        ]
    }
    for name in names:
        later, then = pl.col(name), pl.col(f"{name} known")
        changed = both.filter(later.ne_missing(then)).select(*PAIR, later, then)
        found[name] = [((org, user), *values) for org, user, *values in changed.iter_rows()]
    return [_leak(name, rows) for name, rows in found.items() if rows]


def as_known(sources: BehaviorSources, *, at: datetime) -> BehaviorSources:
    """The tables as they stood at a moment: rows from later are gone, and ends not yet known.

    Who left later is still there, and who responded later has a row without response, that says no
    more than that they answered.

    Raises:
        ValueError: `at` has no time zone.
    """
    moment = microseconds(at)
    stood: dict[str, Any] = {
        table: None if rows is None else rows.filter(pl.col(_TIME_COLUMNS[table]) <= moment)
        for table, rows in sources.tables.items()
    }
    known = replace(sources, **stood)
    left_at, responded_at = pl.col("left_at"), pl.col("responded_at")
    is_later = responded_at.is_not_null() & (responded_at > moment)
    return replace(
        known,
        memberships=known.memberships.with_columns(pl.when(left_at <= moment).then(left_at)),
        attendance=known.attendance.with_columns(
            pl.when(is_later).then(pl.lit(_UNANSWERED)).otherwise("status").alias("status"),
            pl.when(~is_later).then(responded_at).alias("responded_at"),
        ),
    )


def _leak(feature: str, rows: list[tuple[tuple[str, str], Any, Any]]) -> Leak:
    (org, user), seen, known = rows[0]
    example = f"{org}/{user}: {seen}, and without what came later {known}"
    return Leak(feature, len(rows), example)
