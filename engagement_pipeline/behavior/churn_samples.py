"""Members at past moments, and whether they did anything afterwards: what churn is learned from.

What is known of them at the moment belongs to `features`; who is trained and who is tested on which
samples, to the validation.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from engagement_pipeline.behavior.features import FEATURES, member_features
from engagement_pipeline.behavior.last_activity import last_activity
from engagement_pipeline.behavior.sources import BehaviorSources
from engagement_pipeline.behavior.splits import id_hashes
from engagement_pipeline.signals.activity import PAIR
from engagement_pipeline.signals.windows import microseconds

_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "cutoff": pl.Datetime("us", "UTC"),
        "outcome": pl.Float64(),
        **{name: pl.Float64() for name in FEATURES},
    }
)


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


def first_activity_at(sources: BehaviorSources) -> datetime | None:
    """When anybody first did anything; `None` if nobody ever did.

    Rows of attendance (by `created_at`), interactions and reads count, whosever they are.
    """
    told = [
        rows.select(pl.col(column).min().alias("at"))
        for rows, column in (
            (sources.attendance, "created_at"),
            (sources.interactions, "sent_at"),
            (sources.notification_reads, "read_at"),
        )
        if rows is not None
    ]
    (earliest,) = pl.concat(told).select(pl.from_epoch(pl.col("at").min(), "us")).collect().row(0)
    return None if earliest is None else earliest.replace(tzinfo=UTC)


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
    first_active_at: datetime | None = None,
) -> pl.DataFrame:
    """Who was a member at each cut-off, what was known then, and whether they churned.

    A member who leaves within the horizon counts by activity alone: leaving is none. Cut-offs
    before anybody did anything are left out: of them nothing is known but when people joined.

    Args:
        sources: the tables; rows later than the last outcome need not be taken out.
        cutoffs: the moments, with time zones; their outcomes have to be known by now.
        horizon_days: days after a cut-off that its outcome is taken from.
        first_active_at: when anybody first did anything, if `sources` are only some of the people;
            by default `first_activity_at(sources)`.

    Returns:
        `org_id`, `user_id`, `cutoff`, `outcome` (1: no activity in `(cutoff, cutoff + horizon]`,
        else 0) and `features.FEATURES`; sorted by `cutoff, org_id, user_id`.

    Raises:
        ValueError: a cut-off has no time zone.
    """
    since = first_activity_at(sources) if first_active_at is None else first_active_at
    useful = [at for at in sorted(cutoffs) if since is not None and at >= since]
    parts = [_samples_at(sources, at, timedelta(days=horizon_days)) for at in useful]
    return pl.concat([pl.DataFrame(schema=_SCHEMA), *parts])


def _samples_at(sources: BehaviorSources, cutoff: datetime, horizon: timedelta) -> pl.DataFrame:
    features = member_features(sources, as_of=cutoff).rename({"as_of": "cutoff"})
    later: pl.LazyFrame = last_activity(
        sources.signal_sources, at=cutoff.astimezone(UTC) + horizon
    ).to_native()
    was_active = (pl.col("last_at") > microseconds(cutoff)).fill_null(False)
    return (
        features.lazy()
        .join(later, on=PAIR, how="left", maintain_order="left")
        .with_columns(outcome=(~was_active).cast(pl.Float64))
        .select(_SCHEMA.names())
        .collect(engine="streaming")
    )
