"""What is drawn of a model: reliability, precision by recall, and how much each feature counts.

Here belong the points. The figures in one number belong to `classification_metrics`; pictures of
the points, to whoever draws.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from engagement_pipeline.behavior.churn_models import Estimator, one_openmp_thread
from engagement_pipeline.behavior.classification_metrics import CALIBRATION_BINS, calibration_bins
from engagement_pipeline.behavior.resampling import Floats
from engagement_pipeline.behavior.validation import Probe

Point: TypeAlias = dict[str, object]
"""`curve`, `place`, `label`, `x`, `y`, `n`, as `behavior.model_curves` has them."""

RECALL_POINTS = 50
IMPORTANCE_ROWS = 4_000
IMPORTANCE_REPEATS = 3


def reliability(outcomes: Floats, probabilities: Floats) -> list[Point]:
    """Mean probability (x) and the share that came true (y), in ten bins of equal width.

    The place is that of the bin; empty bins are left out.
    """
    bins = calibration_bins(probabilities)
    counts, predicted, observed = (
        np.bincount(bins, weights, minlength=CALIBRATION_BINS)
        for weights in (np.ones(bins.size), probabilities, outcomes)
    )
    return [
        _point("reliability", place, predicted[place] / n, observed[place] / n, int(n))
        for place, n in enumerate(counts)
        if n
    ]


def precision_recall(
    outcomes: Floats, scores: Floats, *, points: int = RECALL_POINTS
) -> list[Point]:
    """Precision (y) at rising recall (x), each of the rows that score at least so high.

    At most so many thresholds, the first to reach each of as many equal steps of recall; rows of
    equal scores are never parted. `n` is how many rows are above the threshold.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), ranked.size - 1)
    hits, counted = np.cumsum(outcomes[order])[ends], ends + 1
    if hits[-1] == 0:
        return []
    recall = hits / hits[-1]
    # The last step is 1 exactly, where the sum of steps could be a rounding above it.
    steps = np.linspace(1 / points, 1.0, points)
    chosen = np.unique(np.searchsorted(recall, steps))
    return [
        _point("precision_recall", place, recall[at], hits[at] / counted[at], int(counted[at]))
        for place, at in enumerate(chosen)
    ]


def importance(
    probes: Sequence[Probe], name: str, feature_names: Sequence[str], *, seed: int
) -> list[Point]:
    """How much average precision is lost where a feature is shuffled among held-out rows (y).

    Permutation importance (`sklearn.inspection.permutation_importance`; L. Breiman, "Random
    forests", 2001), the mean of three shuffles, and by rows the mean of the models that were fitted
    for the last cut-off: of a champion refitted on all rows nothing is held out. Of features that
    say the same each seems to count little. The largest is first.

    Args:
        probes: models, each with the rows held out from it.
        name: which model.
        feature_names: the columns of the rows.
        seed: of the shuffles.

    Returns:
        A point a feature; none where the held-out rows are of one class.
    """
    lost, rows = np.zeros(len(feature_names)), 0
    for probe in probes:
        chosen = np.random.default_rng(seed).permutation(probe.outcomes.size)
        chosen = np.sort(chosen[: max(1, IMPORTANCE_ROWS // len(probes))])
        outcomes = probe.outcomes[chosen]
        if np.unique(outcomes).size == 2:
            lost += outcomes.size * _lost(
                probe.estimators[name], probe.features[chosen], outcomes, seed
            )
            rows += outcomes.size
    if not rows:
        return []
    found = sorted(zip(-lost / rows, feature_names, strict=True))
    return [
        _point("importance", place, None, -value, rows, label)
        for place, (value, label) in enumerate(found)
    ]


def _lost(estimator: Estimator, features: Floats, outcomes: Floats, seed: int) -> Floats:
    # It takes seconds to import.
    from sklearn.inspection import permutation_importance

    with one_openmp_thread():
        found: Floats = permutation_importance(
            estimator,
            features,
            outcomes,
            scoring="average_precision",
            n_repeats=IMPORTANCE_REPEATS,
            random_state=seed,
        ).importances_mean
    return found


def _point(
    curve: str, place: int, x: float | None, y: float, n: int, label: str | None = None
) -> Point:
    return {
        "curve": curve,
        "place": place,
        "label": label,
        "x": None if x is None else float(x),
        "y": float(y),
        "n": n,
    }
