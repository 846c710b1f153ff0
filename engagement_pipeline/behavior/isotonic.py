"""Maps from scores to probabilities, by isotonic regression.

Here belongs the fitting and the use of one map. Which rows it is fitted on belongs to `validation`;
the maps that organisations learn from what came of predictions, to the loop of predictions.
"""

from typing import TypeAlias

import numpy as np

from engagement_pipeline.behavior.resampling import Floats

Knots: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Scores, rising, and the probability at each; linear between them, level beyond."""


def fitted_knots(scores: Floats, outcomes: Floats) -> Knots:
    """The map that fits best among those that never fall.

    `sklearn.isotonic.IsotonicRegression` (B. Zadrozny, C. Elkan, KDD 2002). Its ends are never
    nearer to 0 and 1 than `1 / (n + 2)`, the rule of succession (Laplace 1774): however often
    something happened, it is not certain.

    Args:
        scores: finite; the higher, the likelier is a 1.
        outcomes: 0 or 1 a score.

    Raises:
        ValueError: there is no row.
    """
    # It takes seconds to import, and who only applies a map needs none of it.
    from sklearn.isotonic import IsotonicRegression

    if not scores.size:
        raise ValueError("a map from scores to probabilities needs at least one row, found none")
    least = 1 / (scores.size + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(
        scores, outcomes
    )
    return (
        tuple(np.asarray(fitted.X_thresholds_, dtype=np.float64).tolist()),
        tuple(np.asarray(fitted.y_thresholds_, dtype=np.float64).tolist()),
    )


def probabilities(scores: Floats, knots: Knots) -> Floats:
    """Scores as a map has them."""
    return np.interp(scores, *knots)
