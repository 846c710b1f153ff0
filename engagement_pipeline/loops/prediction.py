"""Prediction → outcome: how good predicted probabilities were, and what they are published as.

Here belongs what holds for predictions of any kind that have a probability. How each kind is
predicted, and how its outcome is found, belongs to whoever predicts; forecasts of amounts are
learned from in `cost_forecast`.
"""

from collections.abc import Collection
from datetime import datetime

import numpy as np
import polars as pl
from scipy.stats import norm

from engagement_pipeline.contracts import contract
from engagement_pipeline.loops.calibration import EXPIRES_AFTER, LEARNED_SCHEMA

ARCHETYPE = "prediction"
OUTCOME = "OUTCOME"
PREDICTIONS = contract("loops.predictions")
SIGNALS = contract("loops.signals")
MAPS = contract("loops.calibration_maps")

SIGNAL_SCHEMA = pl.Schema(
    {name: dtype for name, dtype in SIGNALS.polars_schema.items() if name != "signal_id"}
)
"""A signal before it has its id."""

PAIR_SCHEMA = pl.Schema(
    {
        "prediction_id": pl.String(),
        "org_id": pl.String(),
        "predicted": pl.Float64(),
        "outcome": pl.Float64(),
    }
)
"""A prediction and what came of it."""

CALIBRATION_BINS = 10
MIN_OUTCOMES = 200
"""Outcomes below which an organisation has no map of its own."""

_NORMAL_95 = float(norm.ppf(0.975))


class PredictionInputError(ValueError):
    """Predictions or outcomes that nothing can be learned from; the text says why."""


def map_key(kind: str, predictor: str) -> str:
    """The key of the map for what one model predicts, such as `churn:random_forest`."""
    return f"{kind}:{predictor}"


def outcome_signals(outcomes: pl.DataFrame) -> pl.DataFrame:
    """What predictions came to, as loop signals without their ids.

    Args:
        outcomes: rows of `loops.predictions` with `outcome`: 1 or 0 for what came true or did not,
            for a forecast the actual amount.

    Returns:
        Rows of `SIGNAL_SCHEMA`: the subject is the prediction's kind, the source key its id, and
        the moment the end of its horizon.

    Raises:
        PredictionInputError: an outcome is missing or not a finite number.
    """
    missing = outcomes.filter(~pl.col("outcome").is_finite().fill_null(False))
    if not missing.is_empty():
        row = missing.row(0, named=True)
        raise PredictionInputError(
            f"prediction {row['prediction_id']}: expected a finite outcome, "
            f"found {row['outcome']!r}"
        )
    signals = outcomes.select(
        "org_id",
        "user_id",
        archetype=pl.lit(ARCHETYPE),
        kind=pl.lit(OUTCOME),
        subject="kind",
        value="outcome",
        occurred_at="due_at",
        attribution=pl.lit(None),
        source_key="prediction_id",
    )
    return signals.select(pl.col(name).cast(dtype) for name, dtype in SIGNAL_SCHEMA.items())


def learn_probabilities(pairs: pl.DataFrame, *, kind: str) -> pl.DataFrame:
    """How good each organisation's predicted probabilities were.

    `<kind>-brier` is the Brier score, the mean squared difference of probability and outcome
    (G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather
    Review 78, 1950), with the normal 95 % interval of a mean, cut to [0, 1]; a single outcome has
    none, and that of a handful is too narrow. `<kind>-calibration-error` is the expected
    calibration error: predictions in ten bins of equal width, in each the mean probability against
    the share that came true, weighted by predictions (M. P. Naeini, G. F. Cooper, M. Hauskrecht,
    "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015). It has no
    interval: by chance alone it is above zero, the more so the fewer the predictions.

    Args:
        pairs: rows of `PAIR_SCHEMA`; `predicted` in [0, 1], `outcome` 0 or 1.
        kind: what was predicted, such as `churn`.

    Returns:
        Rows of `LEARNED_SCHEMA`, two an organisation, sorted by `org_id, key`.

    Raises:
        PredictionInputError: a probability or an outcome is none; names the organisation.
    """
    _refuse(pairs.filter(_is_bad()), kind)
    brier = _brier_scores(pairs).with_columns(key=pl.lit(f"{kind}-brier"))
    error = _calibration_errors(pairs).with_columns(key=pl.lit(f"{kind}-calibration-error"))
    return (
        pl.concat([brier, error], how="diagonal")
        .select(pl.col(name).cast(dtype) for name, dtype in LEARNED_SCHEMA.items())
        .sort("org_id", "key")
    )


def calibration_maps(
    pairs: pl.DataFrame,
    org_ids: Collection[str],
    *,
    kind: str,
    as_of: datetime,
    min_outcomes: int = MIN_OUTCOMES,
) -> pl.DataFrame:
    """For each organisation, the map from predicted probabilities to those that came true.

    Isotonic regression (`sklearn.isotonic.IsotonicRegression`; B. Zadrozny, C. Elkan,
    "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002), of
    an organisation's own outcomes where they are enough, else of all organisations'. Where even
    those are too few nobody has a map, and what was predicted is published as it is.

    Its ends are never nearer to 0 and 1 than `1 / (n + 2)`, the rule of succession (Laplace 1774):
    however often something happened, it is not certain. Left to itself the regression ends at 0
    and 1 nearly always, and a single outcome to the contrary makes such a map infinitely bad.

    Args:
        pairs: rows of `PAIR_SCHEMA` of all organisations; `predicted` in [0, 1], `outcome` 0 or 1.
            An organisation with a bad row counts for none of the others.
        org_ids: who is to have a map.
        kind: what was predicted, and by what where that matters (`map_key`): the maps' key.
        as_of: the moment that they are computed for, with a time zone.
        min_outcomes: outcomes that a map needs.

    Returns:
        Rows of `loops.calibration_maps`: knots, between which the map is linear.

    Raises:
        PredictionInputError: a probability or an outcome of one of `org_ids` is none.
        ContractViolationError: a row breaks the contract.
    """
    bad = pairs.filter(_is_bad())
    _refuse(bad.filter(pl.col("org_id").is_in(list(org_ids))), kind)
    good = pairs.join(bad, on="org_id", how="anti")
    by_org = {str(key[0]): own for key, own in good.partition_by("org_id", as_dict=True).items()}
    pooled = _knots(good, is_pooled=True) if good.height >= min_outcomes else None
    found = []
    for org_id in sorted(set(org_ids)):
        own = by_org.get(org_id, good.clear())
        knots = _knots(own, is_pooled=False) if own.height >= min_outcomes else pooled
        if knots is not None:
            found.append(knots.with_columns(org_id=pl.lit(org_id)))
    if not found:
        return MAPS.empty()
    instant = MAPS.polars_schema["computed_at"]
    rows = pl.concat(found).with_columns(
        key=pl.lit(kind),
        computed_at=pl.lit(as_of, dtype=instant),
        expires_at=pl.lit(as_of + EXPIRES_AFTER, dtype=instant),
    )
    return MAPS.validate(rows.select(MAPS.column_names))


def apply_map(raw: pl.Series, knots: pl.DataFrame) -> pl.Series:
    """Probabilities as one map has them: linear between its knots, level beyond them.

    Args:
        raw: predicted probabilities; null stays null.
        knots: `raw` and `calibrated` of one map, in any order; without any, `raw` stays as it is.
    """
    if knots.is_empty():
        return raw
    ordered = knots.sort("raw")
    found = np.interp(raw.to_numpy(), ordered["raw"].to_numpy(), ordered["calibrated"].to_numpy())
    return pl.Series(raw.name, found, dtype=pl.Float64, nan_to_null=True)


def calibrated(predictions: pl.DataFrame, maps: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
    """Predictions with what is published of them, after the map in force for each.

    Args:
        predictions: `org_id`, `kind` (the key of the maps) and `predicted`, and whatever else.
        maps: rows of `loops.calibration_maps`; of several versions the newest that was computed by
            `as_of`, and has not expired, is in force.
        as_of: the moment, with a time zone.

    Returns:
        `predictions` in their order with `published`; without a map in force that is `predicted`.
    """
    in_force = maps.filter((pl.col("computed_at") <= as_of) & (pl.col("expires_at") > as_of))
    newest = pl.col("computed_at") == pl.col("computed_at").max().over("org_id", "key")
    by_org = in_force.filter(newest).partition_by("org_id", "key", as_dict=True)
    groups = predictions.with_columns(published="predicted", _place=pl.int_range(pl.len()))
    mapped = [
        group.with_columns(published=apply_map(group["predicted"], by_org.get(key, maps.clear())))
        for key, group in groups.partition_by("org_id", "kind", as_dict=True).items()
    ]
    return pl.concat([groups.clear(), *mapped]).sort("_place").drop("_place")


def _is_bad() -> pl.Expr:
    is_good = pl.col("predicted").is_between(0, 1) & pl.col("outcome").is_in([0.0, 1.0])
    return ~is_good.fill_null(False)


def _refuse(bad: pl.DataFrame, kind: str) -> None:
    if bad.is_empty():
        return
    row = bad.row(0, named=True)
    raise PredictionInputError(
        f"{kind}, organisation {row['org_id']}, prediction {row['prediction_id']}: expected a "
        f"probability in [0, 1] and an outcome of 0 or 1, found {row['predicted']!r} and "
        f"{row['outcome']!r}"
    )


def _brier_scores(pairs: pl.DataFrame) -> pl.DataFrame:
    squared = (pl.col("predicted") - pl.col("outcome")) ** 2
    scores = pairs.group_by("org_id").agg(value=squared.mean(), spread=squared.std(), n=pl.len())
    margin = _NORMAL_95 * pl.col("spread") / pl.col("n").sqrt()
    return scores.select(
        "org_id",
        "value",
        "n",
        lower=(pl.col("value") - margin).clip(0, 1),
        upper=(pl.col("value") + margin).clip(0, 1),
    )


def _calibration_errors(pairs: pl.DataFrame) -> pl.DataFrame:
    # A probability of 1 belongs to the last bin.
    bins = (pl.col("predicted") * CALIBRATION_BINS).floor().clip(0, CALIBRATION_BINS - 1)
    gap = (pl.col("predicted").sum() - pl.col("outcome").sum()).abs()
    return (
        pairs.group_by("org_id", bin=bins)
        .agg(gap=gap, n=pl.len())
        .group_by("org_id")
        .agg(value=pl.col("gap").sum() / pl.col("n").sum(), n=pl.col("n").sum())
    )


def _knots(pairs: pl.DataFrame, *, is_pooled: bool) -> pl.DataFrame:
    # It takes seconds to import, and most who import this module fit nothing.
    from sklearn.isotonic import IsotonicRegression

    least = 1 / (pairs.height + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(
        pairs["predicted"].to_numpy(), pairs["outcome"].to_numpy()
    )
    return pl.DataFrame(
        {
            "raw": np.asarray(fitted.X_thresholds_, dtype=np.float64),
            "calibrated": np.asarray(fitted.y_thresholds_, dtype=np.float64),
        }
    ).with_columns(n=pl.lit(pairs.height, dtype=pl.Int64), is_pooled=pl.lit(is_pooled))
