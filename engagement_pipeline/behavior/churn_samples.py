"""Members at past moments, and whether they did anything afterwards: what churn is learned from.

What is known of them at the moment belongs to `features`; who is trained and who is tested on which
samples, to the validation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from engagement_pipeline.behavior.features import FEATURES, member_features
from engagement_pipeline.behavior.last_activity import last_activity
from engagement_pipeline.behavior.sources import BehaviorSources
from engagement_pipeline.behavior.splits import id_hashes
from engagement_pipeline.signals.activity import PAIR
from engagement_pipeline.signals.windows import microseconds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "cutoff": pl.Datetime("us", "UTC"),
        "outcome": pl.Float64(),
        **{name: pl.Float64() for name in FEATURES},
    }
)

_FIRST_COLUMNS = {
    "event_views": "viewed_at",
    "notifications": "sent_at",
    "interactions": "sent_at",
}
"""Tables that a source may begin to have later -> the instants of their rows."""


@dataclass(frozen=True)
class SourceStarts:
    """Since when there is anything to know: of each organisation, and in each table.

    Attributes:
        orgs: `org_id`, `starts_at` (`Datetime("us", "UTC")`): when anybody first did anything
            there. Organisations where nobody ever did are not among them.
        tables: `event_views`, `notifications`, `interactions` -> their first row in the whole
            source; without those that never had one.
    """

    orgs: pl.DataFrame
    tables: Mapping[str, datetime]


def cutoffs(as_of: datetime, *, horizon_days: int, count: int) -> list[datetime]:
    """The last past moments whose outcomes are known at `as_of`, the oldest first.

    They lie a horizon apart, the last of them a horizon before `as_of`: each outcome is taken from
    the time up to the next, so that no two of them tell of the same days.

    Args:
        as_of: the moment that is trained for, with a time zone.
        horizon_days: days that an outcome is taken from.
        count: how many.

    Raises:
        ValueError: `as_of` has no time zone; `horizon_days` or `count` is below 1.
    """
    microseconds(as_of)
    for name, value in (("horizon_days", horizon_days), ("count", count)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, and is {value}")
    # In a zone with summer time, days differ in length; in UTC they do not.
    end = as_of.astimezone(UTC)
    return [end - timedelta(days=horizon_days * back) for back in range(count, 0, -1)]


def source_starts(sources: BehaviorSources) -> SourceStarts:
    """When each organisation and each table began, of the rows at hand.

    An organisation begins with the first row of attendance (by `created_at`), interaction or first
    read, whosever it is. A read of a notification that names no organisation counts for each that
    the person had joined by then, also if they had left it: it shows that reads were recorded.

    Who has slices of people takes the starts of the whole source instead
    (`warehouse.behavior_sources.source_starts`): each slice knows only its own.
    """
    told = [
        rows.select("org_id", starts_at=column)
        for rows, column in (
            (sources.attendance, "created_at"),
            (sources.interactions, "sent_at"),
            (_reads_of_orgs(sources), "read_at"),
        )
        if rows is not None
    ]
    orgs = (
        pl.concat(told)
        .group_by("org_id")
        .agg(pl.from_epoch(pl.col("starts_at").min(), "us").dt.replace_time_zone("UTC"))
        .sort("org_id")
        .collect()
    )
    tables = {}
    for table, column in _FIRST_COLUMNS.items():
        rows = sources.tables[table]
        first = None if rows is None else rows.select(pl.col(column).min()).collect().item()
        if first is not None:
            tables[table] = _EPOCH + timedelta(microseconds=first)
    return SourceStarts(orgs, tables)


def drawn_people(sources: BehaviorSources, *, share: float, seed: int) -> pl.DataFrame:
    """Some of the people who ever were members, for `sources.only_people`: about that share.

    Of a million members at twelve cut-offs there would be more samples than are learned from. Who
    is drawn depends on the id and the seed alone, so that slices of people draw as all would.

    Args:
        sources: the tables; only memberships are looked at.
        share: of the people, from 0 to 1.
        seed: of the draw.

    Returns:
        `user_id`, sorted.

    Raises:
        ValueError: `share` is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, and is {share}")
    people = sources.memberships.select("user_id").unique().sort("user_id").collect()
    if share == 1:
        return people
    # Folds are the remainders of the same hashes, which their size says nothing of.
    return people.filter(pl.Series(id_hashes(people["user_id"], seed) < share * 2.0**64))


def churn_samples(
    sources: BehaviorSources,
    cutoffs: Sequence[datetime],
    *,
    horizon_days: int,
    starts: SourceStarts | None = None,
) -> pl.DataFrame:
    """Who was a member at each cut-off, what was known then, and whether they churned.

    A member who leaves within the horizon counts by activity alone: leaving is none. Cut-offs
    before an organisation's own start are left out for it: nothing was recorded of it then, and
    silence would look like churn. Before a table's start its features are null, as they are where
    the source has no such table.

    Args:
        sources: the tables; rows later than the last outcome need not be taken out.
        cutoffs: the moments, with time zones; their outcomes have to be known by now.
        horizon_days: days after a cut-off that its outcome is taken from.
        starts: when organisations and tables began, if `sources` are only some of the people; by
            default `source_starts(sources)`.

    Returns:
        `org_id`, `user_id`, `cutoff`, `outcome` (1: no activity in `(cutoff, cutoff + horizon]`,
        else 0) and `features.FEATURES`; sorted by `cutoff, org_id, user_id`.

    Raises:
        ValueError: a cut-off has no time zone.
    """
    for cutoff in cutoffs:
        microseconds(cutoff)
    starts = source_starts(sources) if starts is None else starts
    horizon = timedelta(days=horizon_days)
    parts = []
    for cutoff in sorted(cutoffs):
        begun = starts.orgs.filter(pl.col("starts_at") <= cutoff.astimezone(UTC))
        if begun.is_empty():
            continue
        features = member_features(_recorded(sources, starts, cutoff), as_of=cutoff)
        # Not sooner: a notification without an organisation is attributed by all memberships.
        known = features.join(begun, on="org_id", how="semi", maintain_order="left")
        parts.append(_with_outcomes(known, sources, cutoff, horizon))
    return pl.concat([pl.DataFrame(schema=_SCHEMA), *parts])


def _reads_of_orgs(sources: BehaviorSources) -> pl.LazyFrame | None:
    """First reads by the organisations that they show to be recorded: `org_id`, `read_at`."""
    notifications, reads = sources.notifications, sources.notification_reads
    if notifications is None or reads is None:
        return None
    first = reads.group_by("notification_id").agg(pl.col("read_at").min())
    told = notifications.join(first, on="notification_id").select("user_id", "org_id", "read_at")
    joined = sources.memberships.select("user_id", "org_id", "joined_at")
    unnamed = told.filter(pl.col("org_id").is_null()).drop("org_id").join(joined, on="user_id")
    return pl.concat(
        [
            told.filter(pl.col("org_id").is_not_null()).select("org_id", "read_at"),
            unnamed.filter(pl.col("joined_at") <= pl.col("read_at")).select("org_id", "read_at"),
        ]
    )


def _recorded(sources: BehaviorSources, starts: SourceStarts, cutoff: datetime) -> BehaviorSources:
    """The tables without those that had not begun."""
    missing: dict[str, Any] = {
        table: None
        for table in _FIRST_COLUMNS
        if table not in starts.tables or starts.tables[table] > cutoff
    }
    if "notifications" in missing:
        missing["notification_reads"] = None
    return replace(sources, **missing)


def _with_outcomes(
    features: pl.DataFrame, sources: BehaviorSources, cutoff: datetime, horizon: timedelta
) -> pl.DataFrame:
    later: pl.LazyFrame = last_activity(
        sources.signal_sources, at=cutoff.astimezone(UTC) + horizon
    ).to_native()
    was_active = (pl.col("last_at") > microseconds(cutoff)).fill_null(False)
    return (
        features.lazy()
        .rename({"as_of": "cutoff"})
        .join(later, on=PAIR, how="left", maintain_order="left")
        .with_columns(outcome=(~was_active).cast(pl.Float64))
        .select(_SCHEMA.names())
        .collect(engine="streaming")
    )
