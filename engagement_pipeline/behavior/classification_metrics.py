"""How well scores rank, and how well probabilities hold: figures of a classifier, with intervals.

Here belongs what is computed of outcomes and scores that are already there. Which rows they are
measured on belongs to `validation`; which model wins by them, to `champion`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engagement_pipeline.behavior.resampling import RESAMPLES, Floats, intervals, resampled

METRICS = ("roc_auc", "average_precision", "brier", "calibration_error")
"""The figures, in the order that `ScoredRows.figures` gives them in."""

CALIBRATION_BINS = 10


class Figure(NamedTuple):
    """A figure and its 95 % interval; the ends are NaN where it has none."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class ScoredRows:
    """Outcomes with the scores of one model, prepared: weighted figures then cost O(rows).

    scikit-learn sorts at each call, and a thousand resamples of as many rows are a thousand sorts.
    The figures are those of `sklearn.metrics` with `sample_weight`.
    """

    order: npt.NDArray[np.int64]
    """The rows by falling score."""
    ends: npt.NDArray[np.int64]
    """The last place of each run of equal scores in that order."""
    is_positive: Floats
    """1 or 0 for each row in that order."""
    gap: Floats
    """Probability less outcome, in the order of the rows."""
    squared: Floats
    """The same squared."""
    bins: npt.NDArray[np.int64]
    """The bin of each probability, in the order of the rows."""

    @classmethod
    def of(cls, outcomes: Floats, scores: Floats, probabilities: Floats) -> "ScoredRows":
        """Prepare one model's scores.

        Args:
            outcomes: 0 or 1 a row.
            scores: what rows are ranked by; the higher, the likelier is a 1.
            probabilities: of a 1, in [0, 1].

        Raises:
            ValueError: lengths differ; a number is missing, or no outcome or probability.
        """
        _refuse(outcomes, scores, probabilities)
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
        return cls(
            order=order,
            ends=ends,
            is_positive=outcomes[order],
            gap=probabilities - outcomes,
            squared=(probabilities - outcomes) ** 2,
            bins=calibration_bins(probabilities),
        )

    def figures(self, weights: Floats) -> Floats:
        """All of `METRICS`, each row counted as often as its weight says.

        - `roc_auc`: the area under the curve of true by false positives; equal scores share.
        - `average_precision`: the mean precision over the positives, as
          `sklearn.metrics.average_precision_score` sums it, without interpolation.
        - `brier`: mean squared difference of probability and outcome (G. W. Brier, 1950).
        - `calibration_error`: the expected calibration error: ten bins of equal width, in each the
          mean probability against the share that came true, weighted by rows (M. P. Naeini,
          G. F. Cooper, M. Hauskrecht, AAAI 2015), as `loops.prediction` has it. It is above zero
          by chance alone, the more so the fewer the rows.

        Where only one class counts, the first two are NaN; where nothing counts, all are.
        """
        total = float(weights.sum())
        if total == 0:
            return np.full(len(METRICS), np.nan)
        squared = float((weights * self.squared).sum())
        by_bin = np.bincount(self.bins, weights * self.gap, minlength=CALIBRATION_BINS)
        return np.array(
            [*self._ranked_figures(weights), squared / total, float(np.abs(by_bin).sum()) / total]
        )

    def _ranked_figures(self, weights: Floats) -> tuple[float, float]:
        ranked = weights[self.order]
        hits = np.cumsum(ranked * self.is_positive)[self.ends]
        counted = np.cumsum(ranked)[self.ends]
        positives, negatives = hits[-1], counted[-1] - hits[-1]
        if positives == 0 or negatives == 0:
            return np.nan, np.nan
        gained = np.diff(hits, prepend=0.0)
        missed = np.diff(counted - hits, prepend=0.0)
        # Sums of products and no `@`: that is done by several threads, which wait for each other
        # where the machine is busy, and add up in an order of their own.
        area = float((missed * (hits - gained / 2)).sum())
        # Weights of none at the top leave nothing counted, and nothing gained.
        precision = hits / np.maximum(counted, np.finfo(np.float64).tiny)
        return area / (positives * negatives), float((gained * precision).sum()) / positives


@dataclass(frozen=True)
class Assessment:
    """The figures of several models on the same rows, and on the same resamples of them."""

    names: tuple[str, ...]
    rows: int
    values: Floats
    """Names x metrics."""
    draws: Floats
    """Resamples x names x metrics."""

    def figure(self, name: str, metric: str) -> Figure:
        """One figure of one model.

        The interval of `calibration_error` tells how far it would move with other people, and not
        how far it is above zero by chance: that is more in each resample than in the rows
        themselves, so that many an interval would lie wholly above its figure. Its resamples are
        moved to have the figure as their mean, and cut at zero.

        Raises:
            ValueError: there is no such model or metric.
        """
        place, column = self.names.index(name), METRICS.index(metric)
        value, draws = self.values[place, column], self.draws[:, place, column]
        if metric == "calibration_error" and draws.size:
            draws = np.maximum(draws - np.nanmean(draws) + value, 0.0)
        return _figure(value, draws)

    def gain(self, name: str, over: str, metric: str = "average_precision") -> Figure:
        """By how much a model's figure is above another's; draw by draw, and so paired.

        Raises:
            ValueError: there is no such model or metric.
        """
        place, other = self.names.index(name), self.names.index(over)
        column = METRICS.index(metric)
        return _figure(
            self.values[place, column] - self.values[other, column],
            self.draws[:, place, column] - self.draws[:, other, column],
        )


def assess(
    outcomes: Floats,
    scores: Mapping[str, Floats],
    probabilities: Mapping[str, Floats],
    members: npt.NDArray[np.generic],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Assessment:
    """All figures of all models, with bootstrap draws of members.

    Args:
        outcomes: 0 or 1 a row.
        scores: name -> what rows are ranked by.
        probabilities: the same names -> probabilities of a 1.
        members: whose each row is, as `resampling.member_bootstrap` takes it.
        seed: of the draws.
        resamples: how many draws.

    Raises:
        ValueError: the names differ, there is no row, or a number is none; names the model.
    """
    if not scores or list(scores) != list(probabilities):
        raise ValueError(
            f"expected scores and probabilities of the same models, found {list(scores)} and "
            f"{list(probabilities)}"
        )
    prepared = [_prepared(name, outcomes, scores, probabilities) for name in scores]

    def figures(weights: Floats) -> Floats:
        return np.concatenate([rows.figures(weights) for rows in prepared])

    shape = (len(prepared), len(METRICS))
    draws = resampled(figures, members, seed=seed, resamples=resamples)
    return Assessment(
        names=tuple(scores),
        rows=outcomes.size,
        values=figures(np.ones(outcomes.size)).reshape(shape),
        draws=draws.reshape(-1, *shape),
    )


def calibration_bins(probabilities: Floats) -> npt.NDArray[np.int64]:
    """The bin, from 0, that each probability belongs to; 1 belongs to the last."""
    return np.minimum((probabilities * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def _prepared(
    name: str, outcomes: Floats, scores: Mapping[str, Floats], probabilities: Mapping[str, Floats]
) -> ScoredRows:
    try:
        return ScoredRows.of(outcomes, scores[name], probabilities[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _figure(value: float, draws: Floats) -> Figure:
    lower, upper = intervals(draws[:, None])
    return Figure(float(value), float(lower[0]), float(upper[0]))


def _refuse(outcomes: Floats, scores: Floats, probabilities: Floats) -> None:
    if not outcomes.size or not outcomes.size == scores.size == probabilities.size:
        raise ValueError(
            "expected an outcome, a score and a probability a row, found "
            f"{outcomes.size}, {scores.size} and {probabilities.size}"
        )
    if not np.isin(outcomes, (0.0, 1.0)).all():
        raise ValueError(f"expected outcomes of 0 and 1, found {np.unique(outcomes)[:5].tolist()}")
    bad = scores[~np.isfinite(scores)]
    if bad.size:
        raise ValueError(f"expected finite scores, found {bad[0]} in {bad.size} rows")
    bad = probabilities[~((probabilities >= 0) & (probabilities <= 1))]
    if bad.size:
        raise ValueError(f"expected probabilities, found {bad[0]} in {bad.size} rows")
