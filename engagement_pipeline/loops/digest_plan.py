"""The digest plan: how each feature's notifications are delivered, by how often they are read.

What is learned of reading belongs to `engagement`; who sends, and when, belongs elsewhere.
"""

from datetime import datetime

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import DELIVERIES
from engagement_pipeline.loops.engagement import ENGAGEMENT_RATE, READ_RATE, READ_RATE_SHRUNK

TABLE = "loops.digest_decisions"

_PAIR = ["org_id", "feature"]
_IMMEDIATE, _WEEKLY = 0, len(DELIVERIES) - 1
_READ_REASONS = ("read_often", "read_sometimes", "read_rarely")
"""Why a delivery fits, delivery by delivery."""


def plan(
    calibrations_in_force: pl.DataFrame,
    counts: pl.DataFrame,
    previous: pl.DataFrame,
    *,
    immediate_min: float,
    daily_min: float,
    as_of: datetime,
    known: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """How notifications are to be delivered from `as_of` on, per organisation and feature.

    Rates of `immediate_min` and more are the band of `immediate`, of `daily_min` and more that of
    `daily_digest`, and others that of `weekly_digest`. A delivery is compatible if the interval of
    the read rate reaches into its band. What was decided before stays as long as it is compatible;
    else it moves to the nearest that is, but no further than the shrunken rate has come as well. So
    it crosses a bound only where the whole interval lies across it, and what is likely, too. Where
    no read rate is known, or no longer, delivery is immediate.

    Args:
        calibrations_in_force: rows of `loops.calibrations`, at most one per organisation and key,
            as `calibration.in_force` gives them; other loops' are not looked at.
        counts: `org_id`, `feature`, `n_sent`, `n_read`: of all attributions, in the window.
        previous: rows of `loops.digest_decisions`; those of `as_of` and later are not looked at,
            and of each organisation and feature only the newest of the others is.
        immediate_min: share read from which notifications go out at once.
        daily_min: share read from which they go out daily.
        as_of: the moment, with a time zone.
        known: `org_id`, `feature`: those that get a decision also where nothing is known of them
            and nothing was decided before.

    Returns:
        Rows of `loops.digest_decisions`, of every organisation and feature that has a read rate or
        an engagement rate in force, or had a decision before, or is in `known`; sorted by key. A
        decision expires with the first of the read rates that it rests on.

    Raises:
        ValueError: the bounds do not keep 0 <= daily_min < immediate_min <= 1, or `as_of` has no
            time zone.
        ContractViolationError: a row breaks the contract.
    """
    if not 0 <= daily_min < immediate_min <= 1:
        raise ValueError(
            "expected 0 <= daily_min < immediate_min <= 1, and found "
            f"daily_min {daily_min} and immediate_min {immediate_min}"
        )
    if as_of.utcoffset() is None:
        raise ValueError(f"as_of must have a time zone, and {as_of.isoformat()} has none")
    described = _described(calibrations_in_force, _newest(previous, as_of), counts, known)
    bands = {
        f"{rate}_band": _band(f"read_rate_{rate}", immediate_min, daily_min)
        for rate in ("lower", "upper", "shrunk")
    }
    return _rows(described.with_columns(**bands), as_of)


def _described(
    calibrations: pl.DataFrame,
    before: pl.DataFrame,
    counts: pl.DataFrame,
    known: pl.DataFrame | None,
) -> pl.DataFrame:
    """All that a decision takes, one row per organisation and feature; null where unknown."""
    read_rate = _of_feature(calibrations, READ_RATE).select(
        *_PAIR,
        pl.col("value").alias("read_rate"),
        # Of an interval without ends nothing is known: every band is compatible.
        pl.col("lower").fill_null(0.0).alias("read_rate_lower"),
        pl.col("upper").fill_null(1.0).alias("read_rate_upper"),
        "expires_at",
    )
    shrunk = _of_feature(calibrations, READ_RATE_SHRUNK).select(
        *_PAIR,
        pl.col("value").alias("read_rate_shrunk"),
        pl.col("expires_at").alias("shrunk_until"),
    )
    engagement = _of_feature(calibrations, ENGAGEMENT_RATE).select(
        *_PAIR, pl.col("value").alias("engagement_rate")
    )
    pairs = [frame.select(_PAIR) for frame in (read_rate, engagement, before)]
    if known is not None:
        pairs.append(known.select(_PAIR))
    sources = (read_rate, shrunk, engagement, before, counts.select(*_PAIR, "n_sent", "n_read"))
    described = pl.concat(pairs).unique()
    for source in sources:
        described = described.join(source, on=_PAIR, how="left")
    return described


def _of_feature(calibrations: pl.DataFrame, prefix: str) -> pl.DataFrame:
    return calibrations.filter(pl.col("key").str.starts_with(prefix)).with_columns(
        pl.col("key").str.strip_prefix(prefix).alias("feature")
    )


def _newest(previous: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """What is in place: the newest decision before `as_of`; an expired one delivers at once.

    `place` is the delivery's place in `DELIVERIES`; `has_known`, whether anything was ever known.
    """
    has_expired = pl.col("expires_at").is_not_null() & (pl.col("expires_at") <= as_of)
    place = pl.col("delivery").replace_strict(
        DELIVERIES, range(len(DELIVERIES)), return_dtype=pl.Int64
    )
    return (
        previous.filter(pl.col("decided_at") < as_of)
        .sort("decided_at")
        .unique(_PAIR, keep="last")
        .select(
            *_PAIR,
            pl.when(has_expired).then(_IMMEDIATE).otherwise(place).alias("place"),
            (pl.col("expires_at").is_not_null() | (pl.col("reason") == "expired")).alias(
                "has_known"
            ),
        )
    )


def _band(rate: str, immediate_min: float, daily_min: float) -> pl.Expr:
    """The place in `DELIVERIES` of the band that a rate lies in; null where there is none."""
    return (
        pl.when(pl.col(rate) >= immediate_min)
        .then(_IMMEDIATE)
        .when(pl.col(rate) >= daily_min)
        .then(_IMMEDIATE + 1)
        .when(pl.col(rate).is_not_null())
        .then(_WEEKLY)
    )


def _rows(described: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    table = contract(TABLE)
    # The higher the rate, the lower the place: the upper end gives the first that is compatible.
    first, last = pl.col("upper_band"), pl.col("lower_band")
    in_place = pl.col("place").fill_null(_IMMEDIATE)
    nearest = _clamped(in_place, first, last)
    # No further than the shrunken rate has come as well.
    reached = pl.coalesce("shrunk_band", nearest)
    place_known = (
        pl.when(nearest > in_place)
        .then(pl.min_horizontal(nearest, pl.max_horizontal(reached, in_place)))
        .otherwise(pl.max_horizontal(nearest, pl.min_horizontal(reached, in_place)))
    )
    is_known = pl.col("read_rate").is_not_null()
    place = pl.when(is_known).then(place_known).otherwise(_IMMEDIATE)
    unknown = pl.when(pl.col("has_known")).then(pl.lit("expired")).otherwise(pl.lit("cold_start"))
    reason = (
        pl.when(~is_known)
        .then(unknown)
        .when((first == last) & (place == first))
        .then(_word(place, _READ_REASONS))
        .when(place == in_place)
        .then(pl.lit("kept"))
        .when(place > in_place)
        .then(pl.lit("read_less"))
        .otherwise(pl.lit("read_more"))
    )
    rows = described.with_columns(
        delivery=_word(place, DELIVERIES),
        reason=reason,
        decided_at=pl.lit(as_of),
        expires_at=pl.when(is_known).then(pl.min_horizontal("expires_at", "shrunk_until")),
    )
    return table.validate(rows.select(table.column_names).cast(table.polars_schema).sort(table.key))


def _clamped(place: pl.Expr, first: pl.Expr, last: pl.Expr) -> pl.Expr:
    return pl.min_horizontal(pl.max_horizontal(place, first), last)


def _word(place: pl.Expr, words: tuple[str, ...]) -> pl.Expr:
    return place.replace_strict(range(len(words)), words, return_dtype=pl.String)
