"""Training for mood: whether a model foretells it better than "it stays as it is".

Here belongs how a training goes and how it ends. Whose samples there are, and how the model is
asked, belongs to `mood`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from engagement_pipeline.behavior.churn_models import TREES, ServedModel, feature_rows
from engagement_pipeline.behavior.classification_metrics import Figure
from engagement_pipeline.behavior.mood import MOOD_DAYS, MOOD_FEATURES, Regressor
from engagement_pipeline.behavior.resampling import RESAMPLES, Floats, intervals, resampled
from engagement_pipeline.behavior.splits import (
    FOLDS_OF_MANY,
    KEYS,
    TEST_CUTOFFS,
    Split,
    drawn_samples,
    id_hashes,
    person_codes,
    refuse_leaks,
)
from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import MOOD_BASELINES, MOOD_MODELS
from engagement_pipeline.signals.windows import microseconds

TARGET = "mood"
(BASELINE,) = MOOD_BASELINES
(MODEL,) = MOOD_MODELS
METRICS = ("mae", "rmse")
GAIN = "mae_gain"
"""The metric that decides: the mean absolute error of the baseline less that of the model."""

MAX_TRAINING_SAMPLES = 20_000
"""Gradient boosting looks at every value of every feature: of more samples a fit takes minutes, and
mood is mostly chance."""
MEASURED_AT_MOST = 50_000

POPULATION = (
    "Members whose texts of the 7 days up to a cut-off have a sentiment, and those of the 7 days "
    "after it too. Measured at the last cut-offs, on people whom nothing was trained on."
)

MODEL_METRICS = contract("behavior.model_metrics")

_UNKNOWN = -9.0
_COUNTED = {
    "org_id": pl.String(),
    "user_id": pl.String(),
    "cutoff": pl.Datetime("us", "UTC"),
    "outcome": pl.Float64(),
}


@dataclass(frozen=True)
class MoodTraining:
    """How a training ended.

    Attributes:
        training: a row of `behavior.trainings` without `computed_at`.
        metrics: rows of `behavior.model_metrics`; none where nothing was measured.
        model: a fitted scikit-learn pipeline over `mood.MOOD_FEATURES`; None where none won.
    """

    training: Mapping[str, Any]
    metrics: pl.DataFrame
    model: Any | None

    @property
    def served(self) -> ServedModel | None:
        """The model with what is kept beside it. It has no probabilities, and so no knots."""
        if self.model is None:
            return None
        return ServedModel(
            target=TARGET,
            name=MODEL,
            feature_names=MOOD_FEATURES,
            horizon_days=MOOD_DAYS,
            as_of=self.training["as_of"],
            estimator=self.model,
            knots=((0.0, 1.0), (0.0, 1.0)),
        )


def train_mood(
    samples: pl.DataFrame | None,
    *,
    as_of: datetime,
    min_samples: int,
    seed: int,
    resamples: int = RESAMPLES,
    trees: int = TREES,
) -> MoodTraining:
    """Fit gradient boosting to the moods of the weeks after, and see whether it beats those before.

    People are in two folds, by a hash of their id. At each of the last three cut-offs a fold is
    tested with a model of the other one's samples whose outcome was known by then: nobody and no
    week is in both. The baseline is `mood_now`.

    The model wins where the 95 % interval of its gain in mean absolute error lies above 0, by the
    paired bootstrap of people. Then it is fitted again, on all samples.

    Args:
        samples: as `mood_samples` gives them, in any order, all outcomes known at `as_of`; None
            where the source has no interactions at all.
        as_of: the moment trained for, with a time zone.
        min_samples: fewer samples are not trained on.
        seed: of folds, draws and the model.
        resamples: draws of the bootstrap.
        trees: how many the model grows.

    Raises:
        ValueError: `as_of` has no time zone; an outcome was not known at `as_of`.
    """
    described = _described(samples, as_of)
    if samples is None:
        return _without_model(described, "off", "The source has no interactions.")
    if samples.height < min_samples:
        reason = f"There are {samples.height} samples, and a training needs {min_samples}."
        return _without_model(described, "too_few_samples", reason)
    ordered = samples.sort(KEYS)
    held_out = _held_out(ordered, seed, trees)
    if held_out is None:
        reason = (
            f"By no cut-off that others could be tested at, the {MOOD_DAYS} days after an earlier "
            "one were known: nothing to learn from."
        )
        return _without_model(described, "too_few_samples", reason)
    figures = _figures(drawn_samples(held_out, MEASURED_AT_MOST, seed=seed), seed, resamples)
    gain = figures[MODEL, GAIN]
    # Also false where there is no interval.
    has_won = gain.lower > 0
    model = None
    if has_won:
        model = _fitted(drawn_samples(ordered, MAX_TRAINING_SAMPLES, seed=seed), seed, trees)
    ended = {
        "outcome": "champion" if has_won else "no_champion",
        "champion": MODEL if has_won else None,
        "reason": None if has_won else _reason(figures),
    }
    return MoodTraining(
        training={**described, **ended},
        metrics=_metrics(figures, min(held_out.height, MEASURED_AT_MOST), as_of, has_won),
        model=model,
    )


def _described(samples: pl.DataFrame | None, as_of: datetime) -> dict[str, Any]:
    moment = microseconds(as_of)
    rows = pl.DataFrame(schema=_COUNTED) if samples is None else samples
    found = rows.select(
        samples=pl.len(),
        members=pl.struct("org_id", "user_id").n_unique(),
        organisations=pl.col("org_id").n_unique(),
        base_rate=pl.col("outcome").mean(),
        cutoffs=pl.col("cutoff").n_unique(),
        first_cutoff=pl.col("cutoff").min(),
        last_cutoff=pl.col("cutoff").max(),
    ).row(0, named=True)
    last = found["last_cutoff"]
    if last is not None and microseconds(last + timedelta(days=MOOD_DAYS)) > moment:
        raise ValueError(
            f"samples: the outcome of {last.isoformat()} takes {MOOD_DAYS} days, and is not known "
            f"at {as_of.isoformat()}"
        )
    return {
        "target": TARGET,
        "as_of": as_of,
        **found,
        "horizon_days": MOOD_DAYS,
        "population": POPULATION,
    }


def _without_model(described: Mapping[str, Any], outcome: str, reason: str) -> MoodTraining:
    return MoodTraining(
        training={**described, "outcome": outcome, "champion": None, "reason": reason},
        metrics=MODEL_METRICS.empty(),
        model=None,
    )


def _held_out(ordered: pl.DataFrame, seed: int, trees: int) -> pl.DataFrame | None:
    """The samples that were tested, with what was expected as `predicted`; None if none were."""
    tested = []
    for split in _splits(ordered, seed):
        refuse_leaks(ordered, split, horizon_days=MOOD_DAYS)
        train = drawn_samples(ordered[split.train], MAX_TRAINING_SAMPLES, seed=seed)
        test = ordered[split.test]
        predicted = _fitted(train, seed, trees).predict(feature_rows(test, MOOD_FEATURES))
        tested.append(test.with_columns(pl.Series("predicted", np.clip(predicted, -1.0, 1.0))))
    return pl.concat(tested).sort(KEYS) if tested else None


def _splits(ordered: pl.DataFrame, seed: int) -> list[Split]:
    """Each fold of people at each of the last cut-offs that something was known by of the other."""
    fold_of = id_hashes(ordered["user_id"], seed) % np.uint64(FOLDS_OF_MANY)
    cutoffs = ordered["cutoff"]
    found = []
    for cutoff in cutoffs.unique().sort()[-TEST_CUTOFFS:]:
        is_known = (cutoffs <= cutoff - timedelta(days=MOOD_DAYS)).to_numpy()
        is_here = (cutoffs == cutoff).to_numpy()
        for fold in range(FOLDS_OF_MANY):
            train = np.flatnonzero(is_known & (fold_of != fold))
            test = np.flatnonzero(is_here & (fold_of == fold))
            if train.size and test.size:
                found.append(Split(cutoff, fold, train, test))
    return found


def _fitted(train: pl.DataFrame, seed: int, trees: int) -> Regressor:
    # It takes seconds to import, and nobody who asks for patterns or levels should wait for it.
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    model: Regressor = make_pipeline(
        # What is unknown becomes lower than all that is known: a tree can tell it apart.
        SimpleImputer(strategy="constant", fill_value=_UNKNOWN, keep_empty_features=True),
        GradientBoostingRegressor(
            n_estimators=trees,
            max_depth=6,
            learning_rate=0.1,
            # Half of the samples a tree, and leaves of many: single moods are mostly chance.
            subsample=0.5,
            min_samples_leaf=20,
            random_state=seed,
        ),
    ).fit(feature_rows(train, MOOD_FEATURES), train["outcome"].to_numpy())
    return model


def _figures(rows: pl.DataFrame, seed: int, resamples: int) -> dict[tuple[str, str], Figure]:
    """Each metric of model and baseline with its interval, all of the same draws of people."""
    actual = rows["outcome"].to_numpy()
    errors = {
        name: rows[column].to_numpy() - actual
        for name, column in ((BASELINE, "mood_now"), (MODEL, "predicted"))
    }

    def values(weights: Floats) -> Floats:
        maes = {n: np.average(np.abs(e), weights=weights) for n, e in errors.items()}
        rmses = {n: np.sqrt(np.average(e**2, weights=weights)) for n, e in errors.items()}
        return np.array([*maes.values(), *rmses.values(), maes[BASELINE] - maes[MODEL]])

    names = [(name, metric) for metric in METRICS for name in errors] + [(MODEL, GAIN)]
    found = values(np.ones(rows.height))
    lower, upper = intervals(resampled(values, person_codes(rows), seed=seed, resamples=resamples))
    ends = zip(found, lower, upper, strict=True)
    figures = [Figure(float(value), float(low), float(high)) for value, low, high in ends]
    return dict(zip(names, figures, strict=True))


def _reason(figures: Mapping[tuple[str, str], Figure]) -> str:
    model, baseline, gain = (
        figures[key] for key in ((MODEL, "mae"), (BASELINE, "mae"), (MODEL, GAIN))
    )
    return (
        f"{MODEL} is not surely better than {BASELINE}: a mean absolute error of "
        f"{model.value:.4f} against {baseline.value:.4f}, a gain of {gain.value:+.4f}, 95 % "
        f"interval {gain.lower:+.4f} to {gain.upper:+.4f}."
    )


def _metrics(
    figures: Mapping[tuple[str, str], Figure], n: int, as_of: datetime, has_won: bool
) -> pl.DataFrame:
    rows = [
        {
            "target": TARGET,
            "as_of": as_of,
            "model": name,
            "metric": metric,
            "value": figure.value,
            "lower": None if np.isnan(figure.lower) else figure.lower,
            "upper": None if np.isnan(figure.upper) else figure.upper,
            "n": n,
            "is_baseline": name == BASELINE,
            "is_champion": has_won and name == MODEL,
        }
        for (name, metric), figure in figures.items()
    ]
    frame = pl.DataFrame(rows, schema=MODEL_METRICS.polars_schema)
    return MODEL_METRICS.validate(frame.sort("model", "metric"))
