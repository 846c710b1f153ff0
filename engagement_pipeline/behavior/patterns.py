"""How members behave habitually: the table `behavior.patterns`, from their interactions alone.

Here belong the 30 days' counts, means, habits and flags. How an interaction is scored belongs to
scoring it; where members stand by periods, to `lifecycle`; what is predicted of them, elsewhere.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import polars as pl

from engagement_pipeline.behavior.lifecycle import PERIOD, PERIOD_DAYS, lifecycle_state
from engagement_pipeline.behavior.local_time import INSTANT, known_zones, with_local_time
from engagement_pipeline.contracts import contract
from engagement_pipeline.signals.windows import microseconds

TABLE = "behavior.patterns"

INTERACTION_COLUMNS = (
    "org_id",
    "user_id",
    "interaction_id",
    "type",
    "sent_at",
    "sentiment",
    "quality",
    "is_meaningful",
    "session_id",
)
MEMBER_COLUMNS = ("org_id", "user_id", "joined_at", "timezone")

HIGH_QUALITY = 0.7
LOW_QUALITY = 0.4
DECLINE = -0.1
ABSENT_AFTER = timedelta(days=3)
TREND_NEEDS = 4
TOP_TYPES = 5

_DECIMALS = 9
"""What means are rounded to: the sum of three times 0.7, divided by three, is not quite 0.7, and a
limit that is not reached for the last bit's sake is no limit."""

_PAIR = ("org_id", "user_id")
# A number stands for organisation and person: what is grouped and sorted is long, and ids are text.
_MEMBER = "member"


def patterns(
    interactions: pl.DataFrame | pl.LazyFrame,
    members: pl.DataFrame | pl.LazyFrame,
    *,
    as_of: datetime,
) -> pl.DataFrame:
    """How each member behaved in the 30 days `(as_of - 30 d, as_of]`.

    Args:
        interactions: `INTERACTION_COLUMNS`, of `behavior.interactions_scored`. Of those before the
            30 days only each member's last is looked at, and of that only whose it is and when it
            was sent. Those of others than members, and those after `as_of`, are not seen.
        members: `MEMBER_COLUMNS` of who is a member at `as_of`; several stays of one person in one
            organisation are one member, since the first of them.
        as_of: the moment, with a time zone.

    Returns:
        One row per member, as the contract of `behavior.patterns` says, sorted by `org_id,
        user_id`. Of whom nothing is known, counts are 0 and means null. Means and the trend are
        rounded to 9 decimals.

    Raises:
        ValueError: `as_of` has no time zone, or a column is missing.
        ContractViolationError: a row breaks the table's contract.
    """
    microseconds(as_of)
    end = pl.lit(as_of.astimezone(UTC), dtype=INSTANT)
    start = end - PERIOD
    current = _members(_with(members, MEMBER_COLUMNS))
    known = (
        _with(interactions, INTERACTION_COLUMNS)
        .filter(pl.col("sent_at") <= end)
        .join(current.lazy(), on=_PAIR)
        .drop(*_PAIR, "joined_at")
        .with_columns((pl.col("sent_at") > start).alias("is_recent"))
        .collect()
    )
    sent_at = pl.col("sent_at")
    last = known.group_by(_MEMBER).agg(
        sent_at.max().alias("last_interaction_at"),
        sent_at.filter(~pl.col("is_recent")).max().alias("last_before"),
    )
    # Sums of floats depend on the order that they are added in.
    recent = with_local_time(known.filter("is_recent"), "sent_at").sort(
        _MEMBER, "sent_at", "interaction_id"
    )
    found = current.join(last, on=_MEMBER, how="left")
    for part in (_figures(recent), *_habits(recent)):
        found = found.join(part, on=_MEMBER, how="left")
    return _described(found, start, end)


def _with(frame: pl.DataFrame | pl.LazyFrame, columns: Collection[str]) -> pl.LazyFrame:
    lazy = frame.lazy()
    names = lazy.collect_schema().names()
    if not set(columns) <= set(names):
        raise ValueError(f"expected the columns {list(columns)}, and found {names}")
    return lazy.select(columns)


def _members(members: pl.LazyFrame) -> pl.DataFrame:
    found = members.collect()
    return (
        found.with_columns(known_zones(found["timezone"]))
        .group_by(_PAIR)
        .agg(pl.col("joined_at").min(), pl.col("timezone").min())
        .sort(_PAIR)
        .with_row_index(_MEMBER)
    )


def _figures(recent: pl.DataFrame) -> pl.DataFrame:
    """Counts, means and the trend of each member with an interaction in the window."""
    quality = pl.col("quality")
    half = pl.len() // 2
    is_enough = pl.len() >= TREND_NEEDS
    return (
        recent.group_by(_MEMBER, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("interactions"),
            pl.col("local_day").n_unique().cast(pl.Int64).alias("active_days"),
            (pl.col("type") == "message").sum().alias("messages"),
            pl.col("session_id").n_unique().cast(pl.Int64).alias("sessions"),
            quality.mean().alias("mean_quality"),
            pl.col("sentiment").mean().alias("mean_sentiment"),
            pl.col("is_meaningful").mean().alias("meaningful_share"),
            pl.when(is_enough)
            .then(quality.tail(half).mean() - quality.head(half).mean())
            .alias("trend"),
        )
        .with_columns(
            pl.col("mean_quality", "mean_sentiment", "trend").round(_DECIMALS),
            (pl.col("messages") / pl.col("active_days")).alias("messages_per_active_day"),
        )
    )


def _habits(recent: pl.DataFrame) -> list[pl.DataFrame]:
    """The kinds, hours and weekdays of each member's interactions, the commonest first."""
    return [
        _commonest(recent, "type", "top_types", at_most=TOP_TYPES),
        _commonest(recent, "local_hour", "active_hours"),
        _commonest(recent, "local_weekday", "active_weekdays"),
    ]


def _commonest(
    recent: pl.DataFrame, column: str, name: str, *, at_most: int | None = None
) -> pl.DataFrame:
    values = pl.col(column) if at_most is None else pl.col(column).head(at_most)
    return (
        recent.group_by(_MEMBER, column)
        .len()
        .sort(_MEMBER, "len", column, descending=[False, True, False])
        .group_by(_MEMBER, maintain_order=True)
        .agg(values.cast(pl.String).str.join(",").alias(name))
    )


def _described(found: pl.DataFrame, start: pl.Expr, end: pl.Expr) -> pl.DataFrame:
    """What follows for each member, and the table's columns in their order and types."""
    last_at, quality = pl.col("last_interaction_at"), pl.col("mean_quality")
    is_absent = end - pl.coalesce(last_at, "joined_at") > ABSENT_AFTER
    promised = contract(TABLE)
    rows = (
        found.with_columns(
            end.alias("as_of"),
            pl.col("interactions", "active_days", "sessions").fill_null(0),
            (end - last_at).dt.total_days().alias("days_since_interaction"),
            lifecycle_state(last_at, pl.col("last_before"), start).alias("lifecycle_state"),
            (quality >= HIGH_QUALITY).fill_null(False).alias("is_highly_engaged"),
            (pl.col("trend") < DECLINE).fill_null(False).alias("is_declining"),
            (quality < LOW_QUALITY).fill_null(False).alias("is_poor"),
        )
        .with_columns(
            # The 30 days touch 31 days of the calendar, unless they begin at midnight.
            (pl.col("active_days") / PERIOD_DAYS).clip(upper_bound=1).alias("stickiness"),
            (is_absent | pl.col("is_declining") | pl.col("is_poor")).alias("needs_reengagement"),
        )
        .sort(_PAIR)
        .select(pl.col(name).cast(dtype) for name, dtype in promised.polars_schema.items())
    )
    return promised.validate(rows)
