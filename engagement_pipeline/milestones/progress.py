"""How far each member is on the way to each milestone: the table `milestones.progress`.

Here belong what is reached and when, the pace, and the day that it is reached at that pace. How a
metric is counted belongs to `counting`; who is congratulated, and when, to `outreach`.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from engagement_pipeline.behavior.local_time import INSTANT, known_zones, with_local_time
from engagement_pipeline.contracts import contract
from engagement_pipeline.milestones.catalogue import InvalidCatalogueError, uncountable
from engagement_pipeline.milestones.counting import VELOCITY_DAYS, Tally, Timeline
from engagement_pipeline.signals.windows import microseconds

TABLE = contract("milestones.progress")

MEMBER_COLUMNS = ("org_id", "user_id", "joined_at", "timezone")
PREVIOUS_COLUMNS = ("org_id", "user_id", "milestone_id", "reached_at", "celebrated_at")
FURTHEST_DAYS = 3_652
"""Ten years: what is reached later than that is not foreseen at all."""

JOINED = "days_since_joined"

_PERSON = ("org_id", "user_id")
_DAY = timedelta(days=1)


def progress(
    days: pl.DataFrame,
    catalogue: pl.DataFrame,
    members: pl.DataFrame,
    previous: pl.DataFrame,
    *,
    as_of: datetime,
) -> pl.DataFrame:
    """How far each member is with each milestone, at `as_of`.

    A milestone is reached at the end of the first local day on which there was as much as is
    wanted, or at `as_of` if that is earlier; one of membership, to the microsecond. It stays
    reached, by the earlier of what is found and what `previous` says: also when a streak is broken,
    a window has passed, or days are gone. So late rows only ever move it to an earlier moment.

    The pace is what there is less what there was 14 local days ago, by 14, and never negative;
    membership grows by a day a day. What is missing by that pace, rounded up to days from that of
    `as_of` in UTC, is when it will be reached.

    Args:
        days: rows of `milestones.daily`; those of others than members, and of days after the
            member's today, are not seen.
        catalogue: rows of `milestones.catalogue`.
        members: `MEMBER_COLUMNS`, one row of each current member; `joined_at` is an instant, and
            `timezone` may be null (UTC).
        previous: `PREVIOUS_COLUMNS` of `milestones.progress` as it was.
        as_of: the moment, with a time zone.

    Returns:
        Rows as the contract of `milestones.progress` says, sorted by its key, where there is
        anything of the milestone, or it was reached.

    Raises:
        ValueError: `as_of` has no time zone, or a column is missing.
        InvalidCatalogueError: a milestone cannot be counted (`catalogue.uncountable`).
        ContractViolationError: a row breaks the table's contract.
    """
    microseconds(as_of)
    faults = uncountable(catalogue)
    if faults:
        raise InvalidCatalogueError("milestones.catalogue: " + "; ".join(faults))
    now = as_of.astimezone(UTC)
    wanted = catalogue.sort("milestone_id").with_row_index("milestone")
    people = _people(_with(members, MEMBER_COLUMNS), now)
    counted = _counted(days, wanted, people, now)
    told = wanted.select("milestone", "milestone_id", "metric", "target")
    before = (
        _with(previous, PREVIOUS_COLUMNS)
        .join(people.select("person", *_PERSON), on=_PERSON)
        .join(told.select("milestone", "milestone_id"), on="milestone_id")
        .select(
            "person", "milestone", pl.col("reached_at").alias("was_reached_at"), "celebrated_at"
        )
    )
    found = (
        counted.join(before, on=["person", "milestone"], how="full", coalesce=True)
        .with_columns(
            pl.col("current", "gained").fill_null(0),
            pl.min_horizontal("reached_at", "was_reached_at").alias("reached_at"),
        )
        .filter((pl.col("current") > 0) | pl.col("reached_at").is_not_null())
        .sort("person", "milestone")
        .join(told, on="milestone", how="left", maintain_order="left")
        .join(people, on="person", how="left", maintain_order="left")
    )
    return TABLE.validate(_told(found, now))


def _with(frame: pl.DataFrame, columns: Collection[str]) -> pl.DataFrame:
    if not set(columns) <= set(frame.columns):
        raise ValueError(f"expected the columns {list(columns)}, and found {frame.columns}")
    return frame.select(columns)


def _people(members: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The members, sorted, with their number `person` and the day that it is there, `today`."""
    named = members.with_columns(known_zones(members["timezone"]).alias("timezone"))
    zones = named.select("timezone").unique().with_columns(pl.lit(now, INSTANT).alias("at"))
    today = with_local_time(zones, "at").select("timezone", pl.col("local_day").alias("today"))
    return (
        named.join(today, on="timezone", how="left")
        .sort(_PERSON)
        .with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("person"))
    )


def _counted(
    days: pl.DataFrame, wanted: pl.DataFrame, people: pl.DataFrame, now: datetime
) -> pl.DataFrame:
    """`person`, `milestone`, `current`, `gained` (in 14 days), `reached_at`; where any is there."""
    timeline = Timeline(days, people)
    tallies: dict[tuple[str, int | None], Tally] = {}
    parts = []
    for row in wanted.rows(named=True):
        if row["metric"] == JOINED:
            parts.append(_joined(row, people, now))
            continue
        what = row["metric"], row["window_days"]
        if what not in tallies:
            tallies[what] = timeline.tally(*what)
        parts.append(_counted_days(row, tallies[what], people))
    columns = ("person", "milestone", "current", "gained", "day", "reached_at")
    empty = pl.DataFrame(
        schema=dict(
            zip(columns, (pl.Int64, pl.UInt32, *2 * [pl.Int64], pl.Int64, INSTANT), strict=True)
        )
    )
    found = pl.concat([empty, *parts], how="diagonal")
    zones = people.select("person", "timezone")
    ends = _ends_of_days(found.join(zones, on="person").select("timezone", "day").drop_nulls())
    reached_at = pl.coalesce("reached_at", pl.min_horizontal("ends_at", pl.lit(now, INSTANT)))
    return (
        found.join(zones, on="person", how="left")
        .join(ends, on=["timezone", "day"], how="left")
        .select(
            "person",
            "milestone",
            "current",
            "gained",
            # The least of nothing and a moment is the moment.
            pl.when(pl.col("day").is_not_null() | pl.col("reached_at").is_not_null())
            .then(reached_at)
            .alias("reached_at"),
        )
    )


def _counted_days(row: Mapping[str, Any], tally: Tally, people: pl.DataFrame) -> pl.DataFrame:
    gained = (tally.now - tally.before).clip(lower_bound=0)
    return (
        people.select(
            "person",
            pl.lit(row["milestone"], pl.UInt32).alias("milestone"),
            tally.now.alias("current"),
            gained.alias("gained"),
        )
        .join(tally.reached(row["target"]), on="person", how="left")
        .filter((pl.col("current") > 0) | pl.col("day").is_not_null())
    )


def _joined(row: Mapping[str, Any], people: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Whole days of membership."""
    current = (pl.lit(now, INSTANT) - pl.col("joined_at")).dt.total_days()
    reached_at = _reached_by_staying(pl.lit(row["target"]))
    return people.select(
        "person",
        pl.lit(row["milestone"], pl.UInt32).alias("milestone"),
        current.clip(lower_bound=0).alias("current"),
        pl.lit(VELOCITY_DAYS, pl.Int64).alias("gained"),
        pl.when(current >= row["target"]).then(reached_at).alias("reached_at"),
    ).filter(pl.col("current") > 0)


def _reached_by_staying(target: pl.Expr) -> pl.Expr:
    return pl.col("joined_at") + pl.duration(days=target)


def _ends_of_days(days: pl.DataFrame) -> pl.DataFrame:
    """The instants at which days ended: `timezone`, `day` (days since 1970), `ends_at`."""
    parts = [
        part.with_columns(_start_of_next(part["timezone"][0]).alias("ends_at"))
        for part in days.unique().partition_by("timezone")
    ]
    empty = pl.DataFrame(schema={"timezone": pl.String, "day": pl.Int64, "ends_at": INSTANT})
    return pl.concat([empty, *parts])


def _start_of_next(zone: str) -> pl.Expr:
    """The first instant of the day after `day` in a zone.

    Midnight is left out where clocks go forward at it, and Samoa once left out a whole day. What
    happens twice begins with the first time.
    """
    midnight = (pl.col("day") + 1).cast(pl.Int32).cast(pl.Date).cast(pl.Datetime("us"))
    later = (timedelta(0), timedelta(hours=1), _DAY)
    instants = [
        (midnight + by).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        for by in later
    ]
    return pl.coalesce(instants).dt.convert_time_zone("UTC")


def _told(found: pl.DataFrame, now: datetime) -> pl.DataFrame:
    current, target = pl.col("current"), pl.col("target")
    is_reached = pl.col("reached_at").is_not_null()
    is_joined = pl.col("metric") == JOINED
    velocity = pl.col("gained") / VELOCITY_DAYS
    today = pl.lit(now.date())
    # In floats: what is missing of an absurd target times 14 is no whole number of 64 bits.
    missing_days = ((target - current).cast(pl.Float64) * VELOCITY_DAYS / pl.col("gained")).ceil()
    is_foreseen = ~is_reached & (pl.col("gained") > 0) & (missing_days <= FURTHEST_DAYS)
    in_days = pl.when(is_foreseen).then(missing_days).cast(pl.Int64)
    # A day of membership does not end at midnight.
    stayed = pl.when(is_foreseen & is_joined).then(
        _reached_by_staying(pl.when(is_foreseen).then(target)).dt.date()
    )
    return (
        found.select(
            *_PERSON,
            "milestone_id",
            pl.lit(now, INSTANT).alias("as_of"),
            "current",
            "target",
            pl.when(is_reached)
            .then(1.0)
            .otherwise(pl.min_horizontal(current / target, 1.0))
            .alias("share"),
            velocity.alias("velocity_per_day"),
            pl.coalesce(stayed, today + pl.duration(days=in_days)).alias("estimated_at"),
            "reached_at",
            "celebrated_at",
        )
        .select(TABLE.column_names)
        .cast(TABLE.polars_schema)
    )
