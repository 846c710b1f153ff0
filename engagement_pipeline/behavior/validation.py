"""Walk-forward validation: models measured on people and times that they were not trained on.

Here belong the predictions for rows held out, and the maps that make them probabilities. Which rows
are held out belongs to `splits`; how a model is fitted, to `churn_models`; what the predictions are
worth, to `classification_metrics`.
"""

from collections.abc import Iterable, Mapping, Sequence
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
from engagement_pipeline.behavior.isotonic import Knots, fitted_knots, probabilities
from engagement_pipeline.behavior.resampling import Floats
from engagement_pipeline.behavior.splits import (
    KEYS,
    TEST_CUTOFFS,
    Places,
    drawn_samples,
    id_hashes,
    person_codes,
    refuse_leaks,
    splits,
)

MAP_SAMPLES = 50_000
"""Rows trained on that maps are fitted with at most: each of their models takes half of them, and
all together about as long as the models that are measured."""


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
        probabilities: the same names -> the same after a map, of models and baselines alike fitted
            on other people, by outcomes that were known at the cut-off.
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

    **Probabilities.** A balanced forest's are far off, and days since the last activity are none,
    so every score goes through a map of its own: isotonic regression. Models and baselines have
    theirs by one procedure, on the same rows, of those that the split trains on: other people, and
    outcomes known by the cut-off. Of these, at most `MAP_SAMPLES`, the people are halved by a hash
    of their ids, and what is fitted to one half scores the other: nobody's own outcome taught the
    score that it is set against. The map is then applied to what was fitted to all rows, as in
    `sklearn.calibration.CalibratedClassifierCV` with `ensemble=False`. Where neither half has both
    outcomes, it has the share that churned for every score.

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
    scorers = _Scorers(feature_names, fitters, baseline_scores, horizon_days, seed)
    found, scored, maps, probes = [], [], [], []
    for split in planned:
        refuse_leaks(samples, split, horizon_days=horizon_days, in_time=in_time)
        train, test = samples[split.train], samples[split.test]
        estimators = scorers.fitted(train)
        scored.append(scorers.scores(estimators, train, test))
        maps.append(scorers.maps(train, scored[-1]))
        if split.cutoff == planned[-1].cutoff:
            features, outcomes = feature_rows(test, feature_names), test["outcome"].to_numpy()
            probes.append(Probe(estimators, features, outcomes))
        found.append(test.select(*KEYS, "outcome", fold=pl.lit(split.fold, dtype=pl.Int64)))
    if not found:
        return HeldOut(rows=samples.clear().select(*KEYS, "outcome"))
    return _collected(found, scored, maps, tuple(fitters), probes)


@dataclass(frozen=True)
class _Scorers:
    """Models and baselines, and what they all need to score rows."""

    feature_names: Sequence[str]
    fitters: Mapping[str, Fitter]
    baseline_scores: BaselineScores
    horizon_days: int
    seed: int

    def fitted(self, train: pl.DataFrame) -> dict[str, Estimator]:
        features, outcomes = feature_rows(train, self.feature_names), train["outcome"].to_numpy()
        return {name: fit(features, outcomes, self.seed) for name, fit in self.fitters.items()}

    def scores(
        self, estimators: Mapping[str, Estimator], train: pl.DataFrame, test: pl.DataFrame
    ) -> dict[str, Floats]:
        """Baseline or model -> what it gives each row of `test`, of what is known of `train`."""
        rows = test.drop("outcome")
        found = {**self.baseline_scores(train, rows, horizon_days=self.horizon_days)}
        for name, scores in found.items():
            if scores.shape != (rows.height,) or not np.isfinite(scores).all():
                raise ValueError(
                    f"baseline {name}: expected {rows.height} finite scores, found "
                    f"{np.isfinite(scores).sum()} in an array of the shape {scores.shape}"
                )
        for name, estimator in estimators.items():
            found[name] = churn_probabilities(estimator, rows, self.feature_names)
        return found

    def maps(self, train: pl.DataFrame, names: Iterable[str]) -> dict[str, Knots]:
        """The map of each named baseline and model, as `walk_forward` tells."""
        known = drawn_samples(train, MAP_SAMPLES, seed=self.seed)
        # Folds are the remainders of the same hashes, which this bit of them says nothing of.
        bit = id_hashes(known["user_id"], self.seed) >> np.uint64(32) & np.uint64(1)
        in_first = pl.Series(bit == 1)
        halves = known.filter(in_first), known.filter(~in_first)
        scored, outcomes = [], []
        for taught, asked in (halves, halves[::-1]):
            if taught["outcome"].n_unique() == 2 and not asked.is_empty():
                scored.append(self.scores(self.fitted(taught), taught, asked))
                outcomes.append(asked["outcome"].to_numpy())
        if not scored:
            level = fitted_knots(np.zeros(known.height), known["outcome"].to_numpy())
            return dict.fromkeys(names, level)
        return {
            name: fitted_knots(
                np.concatenate([part[name] for part in scored]), np.concatenate(outcomes)
            )
            for name in names
        }


def _collected(
    found: Sequence[pl.DataFrame],
    scored: Sequence[Mapping[str, Floats]],
    maps: Sequence[Mapping[str, Knots]],
    models: Sequence[str],
    probes: Sequence[Probe],
) -> HeldOut:
    rows = pl.concat(found).with_row_index("place").sort(KEYS)
    order = rows["place"].to_numpy()
    names = list(scored[0])
    mapped = [
        {name: probabilities(part[name], knots[name]) for name in names}
        for part, knots in zip(scored, maps, strict=True)
    ]
    return HeldOut(
        rows=rows.drop("place"),
        scores={name: np.concatenate([part[name] for part in scored])[order] for name in names},
        probabilities={
            name: np.concatenate([part[name] for part in mapped])[order] for name in names
        },
        baselines=tuple(name for name in names if name not in models),
        probes=tuple(probes),
    )


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
