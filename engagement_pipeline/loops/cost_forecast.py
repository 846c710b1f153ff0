"""Forecast → bill: by how much an organisation's tokens differ from what was foreseen.

Here belongs what a run's forecast is, what it came to, and the ratio of the two. How forecasts are
kept until they meet an outcome is `prediction`'s; what an estimate makes of the ratios belongs to
`scoring.anthropic`.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime

import polars as pl
from scipy.stats import norm

from engagement_pipeline.contracts import contract
from engagement_pipeline.loops.calibration import COST_RATIO, LEARNED_SCHEMA
from engagement_pipeline.loops.prediction import PREDICTIONS, PredictionInputError

INPUT_TOKENS = "cost:input_tokens"
OUTPUT_TOKENS = "cost:output_tokens"
KINDS = (INPUT_TOKENS, OUTPUT_TOKENS)
"""The kinds of prediction that a run's forecast consists of."""

PRIOR_TOKENS = 10_000
"""Foreseen tokens that the ratio of all organisations counts for, beside an organisation's own."""

CALLS = contract("scores.llm_calls")

_KEYS = {kind: COST_RATIO + kind.removeprefix("cost:") for kind in KINDS}
_NORMAL_95 = float(norm.ppf(0.975))


def forecast_rows(
    run_id: str, as_of: datetime, model: str, by_org: Mapping[str, tuple[int, int]]
) -> pl.DataFrame:
    """What a run is expected to take, as predictions to be kept.

    A run's forecast for an organisation always has the same ids: made again, it is the same one.

    Args:
        run_id: the run.
        as_of: the moment that it classifies, with a time zone.
        model: who is asked.
        by_org: organisation -> input and output tokens expected, before any correction. Where none
            are expected there is nothing to compare with, and no row.

    Returns:
        Rows of `loops.predictions`, at most two an organisation, due at once.

    Raises:
        PredictionInputError: a number of tokens is negative.
    """
    rows = []
    for org_id, tokens in sorted(by_org.items()):
        for kind, predicted in zip(KINDS, tokens, strict=True):
            if predicted < 0:
                raise PredictionInputError(
                    f"{kind}, organisation {org_id}: expected tokens of 0 or more, "
                    f"found {predicted}"
                )
            if predicted:
                named = json.dumps([kind, run_id, org_id]).encode()
                rows.append((hashlib.sha256(named).hexdigest(), kind, org_id, float(predicted)))
    found = pl.DataFrame(
        rows,
        schema={
            "prediction_id": pl.String,
            "kind": pl.String,
            "org_id": pl.String,
            "predicted": pl.Float64,
        },
        orient="row",
    ).with_columns(
        user_id=pl.lit(None),
        subject=pl.lit(run_id),
        made_at=pl.lit(as_of),
        due_at=pl.lit(as_of),
        predicted_by=pl.lit(model),
    )
    schema = PREDICTIONS.polars_schema
    return PREDICTIONS.validate(
        found.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    )


def actuals(forecasts: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """What forecasts came to: the tokens billed by the run's calls about the organisation.

    Input tokens are all that were read, those written to and found in the cache included, for a
    forecast knows no cache. Questions that had to be repeated count, for they are paid.

    A forecast has no outcome yet while one of the calls is out. It never has one where the API did
    not say what a call took, or billed nothing: that the model was not asked tells nothing of what
    asking takes. For the same reason forecasts about organisations of which the budget or a
    failure left something unasked should not come in here; calls alone do not show it.

    Args:
        forecasts: rows of `loops.predictions`; those of other kinds are passed over.
        calls: rows of `scores.llm_calls`, of any runs.

    Returns:
        Rows of `forecasts` with `outcome`, in tokens.
    """
    is_known = pl.col("ended_at").is_not_null() & pl.col("is_spent_certain")
    read = pl.col("input_tokens") + pl.col("cache_write_tokens") + pl.col("cache_read_tokens")
    billed = (
        calls.group_by("run_id", "org_id")
        .agg(
            is_known.all().alias("is_known"),
            read.sum().alias(INPUT_TOKENS),
            pl.col("output_tokens").sum().alias(OUTPUT_TOKENS),
        )
        .filter("is_known", pl.col(INPUT_TOKENS) > 0)
        .unpivot(KINDS, index=["run_id", "org_id"], variable_name="kind", value_name="outcome")
        .with_columns(pl.col("outcome").cast(pl.Float64))
    )
    return forecasts.join(
        billed,
        left_on=["subject", "org_id", "kind"],
        right_on=["run_id", "org_id", "kind"],
        how="inner",
        maintain_order="left",
    )


def learn_cost(pairs: pl.DataFrame, org_ids: Collection[str], *, kind: str) -> pl.DataFrame:
    """The ratio of billed to foreseen tokens, for each organisation with forecasts that came due.

    The ratio of an organisation's sums, drawn towards that of all of them, `R`:
    `(billed + k * R) / (foreseen + k)` with `k = PRIOR_TOKENS`. So an organisation's own ratio
    counts in proportion to the tokens foreseen for it.

    The ratio of sums is the best linear unbiased estimate where the variance of what is billed
    grows in proportion to what is foreseen (W. G. Cochran, "Sampling Techniques", 3rd ed., 1977,
    section 6.7). Under that model, the residuals being normal, the ratio drawn towards `R` is the
    posterior mean for a prior worth `k` tokens, and its variance is `s² / (foreseen + k)`. `s²` is
    the sum of `(billed - R * foreseen)² / foreseen` over the forecasts of all organisations,
    divided by their number less one; it holds how organisations differ as well. The 95 % interval
    is that of the posterior, cut at zero, and for that reason rather too wide than too narrow. A
    single forecast in all gives none.

    Args:
        pairs: rows of `prediction.PAIR_SCHEMA` of all organisations, in tokens. An organisation
            with a bad row counts for none of the others.
        org_ids: whom to learn for.
        kind: one of `KINDS`.

    Returns:
        Rows of `LEARNED_SCHEMA`, the key `cost-ratio:input_tokens` or `cost-ratio:output_tokens`,
        `n` in forecasts, sorted by `org_id`.

    Raises:
        PredictionInputError: another kind; or one of `org_ids` has a forecast that is not above
            zero, or a bill below it.
    """
    if kind not in _KEYS:
        raise PredictionInputError(f"kind: expected one of {', '.join(KINDS)}, found {kind!r}")
    bad = pairs.filter(~_is_good())
    _refuse(bad.filter(pl.col("org_id").is_in(list(org_ids))), kind)
    good = pairs.join(bad, on="org_id", how="anti")
    pooled, variance = _of_all(good)
    weight = pl.col("foreseen") + PRIOR_TOKENS
    margin = _NORMAL_95 * (pl.lit(variance, dtype=pl.Float64) / weight).sqrt()
    return (
        good.filter(pl.col("org_id").is_in(list(org_ids)))
        .group_by("org_id")
        .agg(foreseen=pl.col("predicted").sum(), billed=pl.col("outcome").sum(), n=pl.len())
        .with_columns(
            key=pl.lit(_KEYS[kind]), value=(pl.col("billed") + PRIOR_TOKENS * pooled) / weight
        )
        .with_columns(
            lower=(pl.col("value") - margin).clip(lower_bound=0), upper=pl.col("value") + margin
        )
        .select(pl.col(name).cast(dtype) for name, dtype in LEARNED_SCHEMA.items())
        .sort("org_id")
    )


def _is_good() -> pl.Expr:
    predicted, outcome = pl.col("predicted"), pl.col("outcome")
    is_finite = predicted.is_finite() & outcome.is_finite()
    return (is_finite & (predicted > 0) & (outcome >= 0)).fill_null(False)


def _of_all(pairs: pl.DataFrame) -> tuple[float, float | None]:
    """The ratio of all sums, and the variance of what is billed for a token foreseen."""
    if pairs.is_empty():
        return 1.0, None
    pooled = float(pairs["outcome"].sum()) / float(pairs["predicted"].sum())
    if pairs.height == 1:
        return pooled, None
    squared = (pairs["outcome"] - pooled * pairs["predicted"]) ** 2 / pairs["predicted"]
    return pooled, float(squared.sum()) / (pairs.height - 1)


def _refuse(bad: pl.DataFrame, kind: str) -> None:
    if bad.is_empty():
        return
    row = bad.row(0, named=True)
    raise PredictionInputError(
        f"{kind}, organisation {row['org_id']}, prediction {row['prediction_id']}: expected a "
        f"forecast above zero and a bill of zero or more, found {row['predicted']!r} and "
        f"{row['outcome']!r}"
    )
