"""Training for churn: what is learned from samples, how good it is, and what serves from now on.

Here belongs how a training goes and how it ends. Whose samples there are belongs to
`churn_samples`; the parts of a training have modules of their own; where the model is kept belongs
to the warehouse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from engagement_pipeline.behavior.champion import BASELINE, METRIC, Choice, choose_champion
from engagement_pipeline.behavior.churn_models import (
    Estimator,
    Fitter,
    ServedModel,
    churn_fitters,
    feature_rows,
)
from engagement_pipeline.behavior.classification_metrics import (
    METRICS,
    Assessment,
    Figure,
    assess,
)
from engagement_pipeline.behavior.curves import Point, importance, precision_recall, reliability
from engagement_pipeline.behavior.isotonic import fitted_knots
from engagement_pipeline.behavior.resampling import RESAMPLES
from engagement_pipeline.behavior.splits import KEYS, TEST_CUTOFFS, drawn_samples
from engagement_pipeline.behavior.validation import BaselineScores, HeldOut, walk_forward
from engagement_pipeline.contracts import contract

TARGET = "churn"
GAIN = f"{METRIC}_gain"
"""The metric that decides: the average precision less that of recency."""

MODEL_METRICS = contract("behavior.model_metrics")
MODEL_CURVES = contract("behavior.model_curves")


@dataclass(frozen=True)
class ChurnTraining:
    """How a training ended.

    Attributes:
        training: a row of `behavior.trainings` without `computed_at`.
        metrics: rows of `behavior.model_metrics`; none where nothing was measured.
        curves: rows of `behavior.model_curves`, likewise.
        model: what serves; None where nothing won.
    """

    training: Mapping[str, Any]
    metrics: pl.DataFrame
    curves: pl.DataFrame
    model: ServedModel | None


def train_churn(
    samples: pl.DataFrame,
    *,
    feature_names: Sequence[str],
    baseline_scores: BaselineScores,
    horizon_days: int,
    as_of: datetime,
    min_samples: int,
    max_training_samples: int,
    seed: int,
    population: str,
    fitters: Mapping[str, Fitter] | None = None,
    folds: int | None = None,
    test_cutoffs: int = TEST_CUTOFFS,
    in_time: bool = True,
    resamples: int = RESAMPLES,
) -> ChurnTraining:
    """Fit, compare and choose models of churn, on what was known at `as_of`.

    It ends as `too_few_samples` (under `min_samples`, or no cut-off has an earlier one whose
    outcome was known by then), `one_class` (nobody churned, or everybody did, as far as can be
    trained on or measured), `no_champion`, or `champion`. A champion is fitted again on all
    samples, and has knots from its held-out predictions; without one nothing serves.

    Args:
        samples: `org_id`, `user_id`, `cutoff`, `outcome` (1 = churned), and the features; all
            outcomes known at `as_of`; in any order.
        feature_names: which columns are features.
        baseline_scores: the baselines; `recency` is among them.
        horizon_days: days after a cut-off until its outcome is known.
        as_of: the moment trained for, with a time zone.
        min_samples: fewer are not trained on.
        max_training_samples: rows that a model is trained on at most.
        seed: of all that is drawn.
        population: who is among the samples, in words.
        fitters: model -> how it is fitted; by default `churn_fitters()`.
        folds: as `walk_forward` takes it.
        test_cutoffs: likewise.
        in_time: likewise.
        resamples: draws of a bootstrap.

    Raises:
        ValueError: a sample, a feature or a baseline is not as said; `as_of` has no time zone;
            an outcome was not known at `as_of`.
    """
    fitters = churn_fitters() if fitters is None else fitters
    described = _described(samples, horizon_days, as_of, population)
    if samples.height < min_samples:
        reason = f"There are {samples.height} samples, and a training needs {min_samples}."
        return _without_champion(described, "too_few_samples", reason)
    if samples["outcome"].n_unique() < 2:
        return _without_champion(described, "one_class", _one_class(samples, "sample"))
    held_out = walk_forward(
        samples,
        feature_names=feature_names,
        fitters=fitters,
        baseline_scores=baseline_scores,
        horizon_days=horizon_days,
        seed=seed,
        max_training_samples=max_training_samples,
        folds=folds,
        test_cutoffs=test_cutoffs,
        in_time=in_time,
    )
    if held_out.rows.is_empty():
        return _without_champion(described, *_nothing_held_out(described))
    if held_out.rows["outcome"].n_unique() < 2:
        reason = _one_class(held_out.rows, "held-out sample")
        return _without_champion(described, "one_class", reason)
    if BASELINE not in held_out.baselines:
        raise ValueError(f"expected the baseline {BASELINE}, found {list(held_out.baselines)}")
    assessment = assess(
        held_out.outcomes,
        held_out.scores,
        held_out.probabilities,
        held_out.members,
        seed=seed,
        resamples=resamples,
    )
    choice = choose_champion(assessment, tuple(fitters))
    model = None
    if choice.champion is not None:
        model = ServedModel(
            target=TARGET,
            name=choice.champion,
            feature_names=tuple(feature_names),
            horizon_days=horizon_days,
            as_of=as_of,
            estimator=_fitted_on_all(
                samples, feature_names, fitters[choice.champion], max_training_samples, seed
            ),
            knots=fitted_knots(held_out.scores[choice.champion], held_out.outcomes),
        )
    ended = {
        "outcome": "champion" if model else "no_champion",
        "champion": choice.champion,
        "reason": choice.reason,
    }
    return ChurnTraining(
        training={**described, **ended},
        metrics=_metrics(assessment, held_out.baselines, choice, as_of),
        curves=_curves(held_out, choice, feature_names, as_of, seed),
        model=model,
    )


def _fitted_on_all(
    samples: pl.DataFrame, feature_names: Sequence[str], fit: Fitter, limit: int, seed: int
) -> Estimator:
    known = drawn_samples(samples, limit, seed=seed)
    return fit(feature_rows(known, feature_names), known["outcome"].to_numpy(), seed)


def _described(
    samples: pl.DataFrame, horizon_days: int, as_of: datetime, population: str
) -> dict[str, Any]:
    if as_of.utcoffset() is None:
        raise ValueError(f"as_of must have a time zone, and {as_of.isoformat()} has none")
    missing = [name for name in (*KEYS, "outcome") if name not in samples.columns]
    if missing:
        raise ValueError(f"samples: expected the columns {missing}, found {samples.columns}")
    found = samples.select(
        samples=pl.len(),
        members=pl.struct("org_id", "user_id").n_unique(),
        organisations=pl.col("org_id").n_unique(),
        base_rate=pl.col("outcome").mean(),
        cutoffs=pl.col("cutoff").n_unique(),
        first_cutoff=pl.col("cutoff").min(),
        last_cutoff=pl.col("cutoff").max(),
    ).row(0, named=True)
    last = found["last_cutoff"]
    if last is not None and (as_of - last).total_seconds() < horizon_days * 86_400:
        raise ValueError(
            f"samples: the outcome of {last.isoformat()} takes {horizon_days} days, and is not "
            f"known at {as_of.isoformat()}"
        )
    return {
        "target": TARGET,
        "as_of": as_of,
        **found,
        "horizon_days": horizon_days,
        "population": population,
    }


def _without_champion(described: Mapping[str, Any], outcome: str, reason: str) -> ChurnTraining:
    return ChurnTraining(
        training={**described, "outcome": outcome, "champion": None, "reason": reason},
        metrics=MODEL_METRICS.empty(),
        curves=MODEL_CURVES.empty(),
        model=None,
    )


def _one_class(rows: pl.DataFrame, what: str) -> str:
    who = "No" if rows["outcome"][0] == 0 else "Every"
    return f"{who} {what} of {rows.height} churned: there is nothing to tell apart."


def _nothing_held_out(described: Mapping[str, Any]) -> tuple[str, str]:
    horizon_days = described["horizon_days"]
    days = (described["last_cutoff"] - described["first_cutoff"]).days
    if days >= horizon_days:
        return "one_class", (
            "By no cut-off was it known of other people both that some churned and that some did "
            "not: there was nothing to tell apart."
        )
    return "too_few_samples", (
        f"From the first cut-off to the last it is {days} days, and an outcome is known after "
        f"{horizon_days}: by the last cut-off nothing was known to learn from."
    )


def _metrics(
    assessment: Assessment, baselines: Sequence[str], choice: Choice, as_of: datetime
) -> pl.DataFrame:
    rows = []
    for name in assessment.names:
        figures = {metric: assessment.figure(name, metric) for metric in METRICS}
        if name != BASELINE:
            figures[GAIN] = assessment.gain(name, BASELINE, METRIC)
        rows += [_metric_row(name, metric, figure) for metric, figure in figures.items()]
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        target=pl.lit(TARGET),
        as_of=pl.lit(as_of),
        n=pl.lit(assessment.rows),
        is_baseline=pl.col("model").is_in(list(baselines)),
        is_champion=pl.col("model").eq_missing(pl.lit(choice.champion, dtype=pl.String)),
    )
    schema = MODEL_METRICS.polars_schema
    columns = [pl.col(name).cast(dtype) for name, dtype in schema.items()]
    return MODEL_METRICS.validate(frame.select(columns).sort("model", "metric"))


def _metric_row(name: str, metric: str, figure: Figure) -> dict[str, object]:
    ends = {"lower": figure.lower, "upper": figure.upper}
    return {
        "model": name,
        "metric": metric,
        "value": figure.value,
        **{end: None if np.isnan(value) else value for end, value in ends.items()},
    }


def _curves(
    held_out: HeldOut,
    choice: Choice,
    feature_names: Sequence[str],
    as_of: datetime,
    seed: int,
) -> pl.DataFrame:
    rows: list[Point] = []
    for name, scores in held_out.scores.items():
        points = [
            *reliability(held_out.outcomes, held_out.probabilities[name]),
            *precision_recall(held_out.outcomes, scores),
        ]
        if name == choice.best:
            points += importance(held_out.probes, name, feature_names, seed=seed)
        rows += [{"model": name, **point} for point in points]
    schema = MODEL_CURVES.polars_schema
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        target=pl.lit(TARGET), as_of=pl.lit(as_of)
    )
    columns = [pl.col(name).cast(dtype) for name, dtype in schema.items()]
    return MODEL_CURVES.validate(frame.select(columns).sort("model", "curve", "place"))
