"""What each person did on each day of their own calendar: the table `milestones.daily`.

Here belongs the counting of days, by the clock of the person's zone. What the days add up to
belongs to `progress`; which days are still counted, to whoever keeps the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime

import narwhals as nw
import polars as pl

from engagement_pipeline.behavior.local_time import FALLBACK_ZONE, INSTANT, with_local_time
from engagement_pipeline.contracts import contract
from engagement_pipeline.signals.attribution import attributed
from engagement_pipeline.signals.windows import microseconds

TABLE = contract("milestones.daily")

CAME = ("attended", "partial")
"""The statuses of attendance that count as an event attended."""

NIGHT_HOURS = (0, 4)
EARLY_HOURS = (5, 7)
"""The local hours, both included, of what happens at night and early."""

_TYPES = {
    "messages": "message",
    "commands": "command",
    "callbacks": "callback",
    "voices": "voice",
    "documents": "document",
    "stickers": "sticker",
    "reactions": "reaction",
    "inline_queries": "inline_query",
}
TYPE_COUNTS = tuple(_TYPES)
"""The columns that count one kind of interaction each."""

_PERSON = ("org_id", "user_id")
_DAY = ("person", "local_day")
_DECIMALS = 9
_UNITS = 10**_DECIMALS
_COUNTS = (
    "interactions",
    *TYPE_COUNTS,
    "meaningful",
    "gratitude",
    "night",
    "early",
    "events_attended",
    "notifications_read",
)


@dataclass(frozen=True)
class DaySources:
    """What days are counted from. All instants are `Datetime("us", "UTC")`.

    Attributes:
        interactions: `org_id`, `user_id`, `type`, `sent_at`, `mood`, `sentiment`, `quality`,
            `is_meaningful` of `behavior.interactions_scored`.
        attendance: `org_id`, `user_id`, `status`, `created_at`, `responded_at` (nullable) and the
            event's `starts_at`; null where the event is not known.
        first_reads: `user_id`, `org_id` (nullable), `read_at`: the first read of each notification.
        memberships: `org_id`, `user_id`, `joined_at`, `left_at` (nullable) of the readers.
        profiles: `user_id`, `timezone` (nullable).
        organizations: `org_id`, `timezone` (nullable).
    """

    interactions: pl.DataFrame
    attendance: pl.DataFrame
    first_reads: pl.DataFrame
    memberships: pl.DataFrame
    profiles: pl.DataFrame
    organizations: pl.DataFrame

    @classmethod
    def of(cls, frames: Mapping[str, pl.DataFrame]) -> "DaySources":
        """The frames by their names; others are passed over.

        Raises:
            ValueError: one is missing.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in frames]
        if missing:
            raise ValueError(f"expected the frames {names}, and found no {missing}")
        return cls(**{name: frames[name] for name in names})


def daily(sources: DaySources, *, as_of: datetime, since: date | None = None) -> pl.DataFrame:
    """What each person did on each day on which they did anything, by what was known at `as_of`.

    The zone is the profile's, else the organisation's, else UTC (see `local_time`). An event counts
    on the day that it started, once it is known that the person came; where the event is not known,
    on the day that this became known. A notification counts on the day that it was first read,
    for its organisation, or for the person's only or oldest membership then (`attribution`).

    Args:
        sources: see `DaySources`; what happened after `as_of` is not seen.
        as_of: the moment, with a time zone.
        since: the first day that is counted; by default all are.

    Returns:
        One row per `org_id, user_id, day`, as the contract of `milestones.daily` says, sorted.
        Means are rounded to 9 decimals, and are the same whatever the order of rows.

    Raises:
        ValueError: `as_of` has no time zone.
        ContractViolationError: a row breaks the table's contract.
    """
    microseconds(as_of)
    end = pl.lit(as_of.astimezone(UTC), dtype=INSTANT)
    said = sources.interactions.rename({"sent_at": "at"}).filter(pl.col("at") <= end)
    came = _came(sources.attendance, end)
    read = _attributed_reads(sources, end)
    people = _people([said, came, read], sources)
    days = [
        _said_by_day(_local(said, people, since)),
        _by_day(_local(came, people, since), "events_attended"),
        _by_day(_local(read, people, since), "notifications_read"),
    ]
    counts = [pl.col(name).sum().cast(pl.Int64) for name in _COUNTS]
    # At most one part of a day's has sums of interactions, so that nothing is added to them.
    means = [pl.col(name).max() for name in ("mean_quality", "mean_sentiment")]
    found = (
        pl.concat(days, how="diagonal")
        .group_by(_DAY)
        .agg(*counts, *means)
        .join(people.select("person", *_PERSON), on="person")
        .rename({"local_day": "day"})
        .select(TABLE.column_names)
        .cast(TABLE.polars_schema)
        .sort(*TABLE.key)
    )
    return TABLE.validate(found)


def _came(attendance: pl.DataFrame, end: pl.Expr) -> pl.DataFrame:
    """Events attended by the moment: `org_id`, `user_id`, `at`."""
    known_at = pl.coalesce("responded_at", "created_at")
    return (
        attendance.filter(
            pl.col("status").is_in(CAME), pl.col("created_at") <= end, known_at <= end
        )
        .select(*_PERSON, pl.coalesce("starts_at", known_at).alias("at"))
        # Who is marked as come before the event has begun has not come yet.
        .filter(pl.col("at") <= end)
    )


def _attributed_reads(sources: DaySources, end: pl.Expr) -> pl.DataFrame:
    """First reads by the moment: `org_id`, `user_id`, `at`; those of no organisation fall away."""
    reads = sources.first_reads.filter(pl.col("read_at") <= end).select(
        "user_id", "org_id", pl.col("read_at").dt.epoch("us").alias("at")
    )
    stays = sources.memberships.select(*_PERSON, pl.col("joined_at", "left_at").dt.epoch("us"))
    found = attributed(nw.from_native(reads.lazy()), nw.from_native(stays.lazy())).to_native()
    rows: pl.DataFrame = found.collect()
    return rows.select(*_PERSON, pl.from_epoch("at", time_unit="us").cast(INSTANT))


def _people(frames: list[pl.DataFrame], sources: DaySources) -> pl.DataFrame:
    """Everybody who did anything: `org_id`, `user_id`, a number `person`, and `timezone`."""
    orgs = sources.organizations.select("org_id", pl.col("timezone").alias("org_timezone"))
    return (
        pl.concat([frame.select(_PERSON) for frame in frames])
        .unique()
        .sort(_PERSON)
        .with_row_index("person")
        .join(sources.profiles.select("user_id", "timezone"), on="user_id", how="left")
        .join(orgs, on="org_id", how="left")
        .select(
            "person",
            *_PERSON,
            pl.coalesce("timezone", "org_timezone", pl.lit(FALLBACK_ZONE)).alias("timezone"),
        )
    )


def _local(frame: pl.DataFrame, people: pl.DataFrame, since: date | None) -> pl.DataFrame:
    """What happened, with `person` and their own day and hour, from the first day counted on."""
    found = with_local_time(frame.join(people, on=_PERSON).drop(_PERSON), "at")
    return found if since is None else found.filter(pl.col("local_day") >= since)


def _said_by_day(said: pl.DataFrame) -> pl.DataFrame:
    hour = pl.col("local_hour")
    return (
        said.lazy()
        .group_by(_DAY)
        .agg(
            pl.len().alias("interactions"),
            *((pl.col("type") == word).sum().alias(name) for name, word in _TYPES.items()),
            pl.col("is_meaningful").sum().alias("meaningful"),
            # A null mood is none.
            (pl.col("mood") == "gratitude").sum().alias("gratitude"),
            hour.is_between(*NIGHT_HOURS).sum().alias("night"),
            hour.is_between(*EARLY_HOURS).sum().alias("early"),
            _mean("quality"),
            _mean("sentiment"),
        )
        .collect()
    )


def _mean(column: str) -> pl.Expr:
    """The mean of what is known, null of nothing.

    Whole billionths are added up: sums of floats depend on the order of rows.
    """
    units = (pl.col(column) * _UNITS).round().cast(pl.Int64)
    mean: pl.Expr = (units.sum() / units.count() / _UNITS).round(_DECIMALS)
    return mean.fill_nan(None).alias(f"mean_{column}")


def _by_day(happened: pl.DataFrame, name: str) -> pl.DataFrame:
    return happened.group_by(_DAY).agg(pl.len().alias(name))
