"""The bootstrap by members: how far a figure would move with other people.

Here belongs the drawing of people, and the interval that follows. What is computed of a draw
belongs to whoever asks; which figures there are of a classifier, to `classification_metrics`.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

RESAMPLES = 1_000
LEVEL = 0.95
LEAST_DEFINED = 0.5
"""The share of the resamples that a figure must be defined in to have an interval."""


def member_bootstrap(
    statistic: Callable[[Floats], float],
    members: npt.NDArray[np.generic],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic, by drawing members with replacement.

    The cluster bootstrap (A. C. Davison, D. V. Hinkley, "Bootstrap Methods and their Application",
    1997, section 3.8; intervals B. Efron 1981): who is drawn brings all rows of theirs, in every
    organisation and at every cut-off, since these are no independent observations.
    `scipy.stats.bootstrap` draws rows, and knows no clusters.

    Args:
        statistic: takes how often each row counts, an array as long as `members`; gives NaN where
            it is undefined, such as where all rows drawn are of one class.
        members: whose each row is: integer codes or ids.
        seed: of the draws. They go by the order of the ids, and not by that of the rows.
        resamples: how many draws.

    Returns:
        The lower and the upper end. Draws that the statistic is undefined in are left out; where
        it is undefined in over half of them, or there are fewer than two members, both are NaN.

    Raises:
        ValueError: there is no row, or no draw.
    """

    def figures(weights: Floats) -> Floats:
        return np.array([statistic(weights)])

    lower, upper = intervals(resampled(figures, members, seed=seed, resamples=resamples))
    return float(lower[0]), float(upper[0])


def resampled(
    figures: Callable[[Floats], Floats],
    members: npt.NDArray[np.generic],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> Floats:
    """Several figures of the same draws of members, so that they can be compared draw by draw.

    Args:
        figures: takes how often each row counts, as `member_bootstrap` says; always gives equally
            many figures.
        members: whose each row is.
        seed: of the draws.
        resamples: how many draws.

    Returns:
        `resamples` x figures; no rows where there are fewer than two members, of whom nothing can
        be drawn but themselves.

    Raises:
        ValueError: there is no row, or no draw.
    """
    if members.size == 0 or resamples < 1:
        raise ValueError(
            f"a bootstrap needs at least one row and one draw, found {members.size} rows and "
            f"{resamples} draws"
        )
    found = [figures(weights) for weights in _draws(members, seed, resamples)]
    return np.array(found) if found else np.empty((0, figures(np.ones(members.size)).size))


def intervals(draws: Floats) -> tuple[Floats, Floats]:
    """The 95 % percentile interval of each column; NaN where under half of its draws are numbers.

    Args:
        draws: resamples x figures.

    Returns:
        Lower and upper ends, one a column.
    """
    is_defined = ~np.isnan(draws)
    ends = np.full((2, draws.shape[1]), np.nan)
    for column in range(draws.shape[1]):
        defined = draws[is_defined[:, column], column]
        if defined.size and defined.size >= LEAST_DEFINED * draws.shape[0]:
            ends[:, column] = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return ends[0], ends[1]


def _draws(members: npt.NDArray[np.generic], seed: int, resamples: int) -> Iterator[Floats]:
    ids, codes = np.unique(members, return_inverse=True)
    if ids.size < 2:
        return
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = generator.integers(ids.size, size=ids.size)
        yield np.bincount(drawn, minlength=ids.size).astype(np.float64)[codes]
