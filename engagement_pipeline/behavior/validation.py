"""Walk-forward validation: models measured on people and times that they were not trained on.

Here belong the predictions for rows held out. Which rows those are belongs to `splits`; how a model
is fitted, to `churn_models`; what the predictions are worth, to `classification_metrics`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl

from engagement_pipeline.behavior.churn_models import (
    Estimator,
    Fitter,
    churn_probabilities,
    feature_rows,
)
from engagement_pipeline.behavior.isotonic import fitted_knots, probabilities
from engagement_pipeline.behavior.resampling import Floats
from engagement_pipeline.behavior.splits import (
    KEYS,
    TEST_CUTOFFS,
    Places,
    person_codes,
    refuse_leaks,
    splits,
)


class BaselineScores(Protocol):
    """Scores rows by rules of its own that need no model; higher: likelier to churn."""

    def __call__(
        self, train: pl.DataFrame, test: pl.DataFrame, *, horizon_days: int
    ) -> Mapping[str, Floats]:
        """Name -> a score for each row of `test`, of what is known of `train`."""
        ...


@dataclass(frozen=True)
class Probe:
    """Models as they were fitted for one split, and the rows held out from them."""

    estimators: Mapping[str, Estimator]
    features: Floats
    outcomes: Floats


@dataclass(frozen=True)
class HeldOut:
    """Predictions for rows that were held out.

    Attributes:
        rows: `user_id`, `org_id`, `cutoff`, `outcome`, `fold`, sorted by the first three.
        scores: model or baseline -> what it ranks the rows by; of models a probability.
        probabilities: the same names -> probabilities: of baselines after a map that was fitted on
            the rows trained on, of models after one fitted on the held-out rows of other people.
        baselines: which of the names are baselines.
        probes: of the last cut-off, one a fold: to ask what counts.
    """

    rows: pl.DataFrame
    scores: Mapping[str, Floats] = field(default_factory=dict)
    probabilities: Mapping[str, Floats] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()

    @property
    def outcomes(self) -> Floats:
        """1 for each row that churned, else 0."""
        return self.rows["outcome"].to_numpy()

    @property
    def members(self) -> Places:
        """Whose each row is: one code a person, in all organisations."""
        return person_codes(self.rows)


def walk_forward(
    samples: pl.DataFrame,
    *,
    feature_names: Sequence[str],
    fitters: Mapping[str, Fitter],
    baseline_scores: BaselineScores,
    horizon_days: int,
    seed: int,
    max_training_samples: int,
    folds: int | None = None,
    test_cutoffs: int = TEST_CUTOFFS,
    in_time: bool = True,
) -> HeldOut:
    """Predictions of every model and baseline for people and times that it knew nothing of.

    Args:
        samples: `org_id`, `user_id`, `cutoff`, `outcome` (0 or 1), and the features, in any order.
        feature_names: which columns are features.
        fitters: model -> how it is fitted.
        baseline_scores: the baselines.
        horizon_days: days after a cut-off until its outcome is known.
        seed: of folds, draws and models.
        max_training_samples: rows that a model is trained on, and rows held out, at most.
        folds: of people; by default 5, of over 100,000 samples 2.
        test_cutoffs: how many of the last cut-offs are predicted.
        in_time: as `splits` takes it.

    Returns:
        The held-out rows and predictions; none where no cut-off can be predicted.

    Raises:
        ValueError: the samples are not as said, or the baselines are not; names what is wrong.
        LeakError: somebody or something would be in both train and test.
    """
    _refuse(samples)
    planned = splits(
        samples,
        horizon_days=horizon_days,
        seed=seed,
        folds=folds,
        test_cutoffs=test_cutoffs,
        max_training_samples=max_training_samples,
        in_time=in_time,
    )
    found = []
    scored: list[dict[str, tuple[Floats, Floats]]] = []
    probes = []
    for split in planned:
        refuse_leaks(samples, split, horizon_days=horizon_days, in_time=in_time)
        train, test = samples[split.train], samples[split.test]
        estimators = _fitted(train, feature_names, fitters, seed)
        raw = {
            name: churn_probabilities(estimator, test, feature_names)
            for name, estimator in estimators.items()
        }
        mapped = _mapped_baselines(train, test, baseline_scores, horizon_days)
        scored.append({**mapped, **{name: (score, score) for name, score in raw.items()}})
        if split.cutoff == planned[-1].cutoff:
            features, outcomes = feature_rows(test, feature_names), test["outcome"].to_numpy()
            probes.append(Probe(estimators, features, outcomes))
        found.append(test.select(*KEYS, "outcome", fold=pl.lit(split.fold, dtype=pl.Int64)))
    if not found:
        return HeldOut(rows=samples.clear().select(*KEYS, "outcome"))
    return _collected(found, scored, tuple(fitters), probes)


def _fitted(
    train: pl.DataFrame, feature_names: Sequence[str], fitters: Mapping[str, Fitter], seed: int
) -> dict[str, Estimator]:
    features, outcomes = feature_rows(train, feature_names), train["outcome"].to_numpy()
    return {name: fit(features, outcomes, seed) for name, fit in fitters.items()}


def _mapped_baselines(
    train: pl.DataFrame, test: pl.DataFrame, baseline_scores: BaselineScores, horizon_days: int
) -> dict[str, tuple[Floats, Floats]]:
    """Baseline -> its scores of the test, and the probabilities that those of train make of them.

    Days since the last activity are no probability, nor is any other baseline's score.
    """
    outcomes = train["outcome"].to_numpy()
    # Together, since some fit a model of their own to `train` each time that they are asked.
    rows = pl.concat([train, test]).drop("outcome")
    mapped = {}
    for name, scores in baseline_scores(train, rows, horizon_days=horizon_days).items():
        if scores.shape != (rows.height,) or not np.isfinite(scores).all():
            raise ValueError(
                f"baseline {name}: expected {rows.height} finite scores, found "
                f"{np.isfinite(scores).sum()} in an array of the shape {scores.shape}"
            )
        of_train, of_test = scores[: train.height], scores[train.height :]
        mapped[name] = (of_test, probabilities(of_test, fitted_knots(of_train, outcomes)))
    return mapped


def _collected(
    found: Sequence[pl.DataFrame],
    scored: Sequence[Mapping[str, tuple[Floats, Floats]]],
    models: Sequence[str],
    probes: Sequence[Probe],
) -> HeldOut:
    rows = pl.concat(found).with_row_index("place").sort(KEYS)
    order = rows["place"].to_numpy()
    rows = rows.drop("place")
    names = list(scored[0])
    scores = {name: np.concatenate([part[name][0] for part in scored])[order] for name in names}
    mapped = {name: np.concatenate([part[name][1] for part in scored])[order] for name in names}
    outcomes, folds = rows["outcome"].to_numpy(), rows["fold"].to_numpy()
    return HeldOut(
        rows=rows,
        scores=scores,
        probabilities={
            name: _mapped_across(mapped[name], outcomes, folds) if name in models else mapped[name]
            for name in names
        },
        baselines=tuple(name for name in names if name not in models),
        probes=tuple(probes),
    )


def _mapped_across(raw: Floats, outcomes: Floats, folds: Places) -> Floats:
    """A model's probabilities after a map fitted on the held-out rows of the other folds.

    That is what a champion will publish: balanced classes alone put a forest's probabilities far
    off. Who is in one fold has no part in the map of it.
    """
    mapped = np.empty_like(raw)
    for fold in np.unique(folds):
        is_here = folds == fold
        if is_here.all():
            return raw
        knots = fitted_knots(raw[~is_here], outcomes[~is_here])
        mapped[is_here] = probabilities(raw[is_here], knots)
    return mapped


def _refuse(samples: pl.DataFrame) -> None:
    missing = [name for name in (*KEYS, "outcome") if name not in samples.columns]
    if missing:
        raise ValueError(f"samples: expected the columns {missing}, found {samples.columns}")
    bad = samples.filter(~pl.col("outcome").is_in([0.0, 1.0]).fill_null(False))
    if not bad.is_empty():
        row = bad.row(0, named=True)
        raise ValueError(
            f"samples: expected an outcome of 0 or 1, found {row['outcome']!r} of "
            f"{row['user_id']} in {row['org_id']}"
        )
    if samples.select(pl.struct(KEYS).is_duplicated().any()).item():
        raise ValueError(f"samples: expected one row for each {', '.join(KEYS)}, found several")
