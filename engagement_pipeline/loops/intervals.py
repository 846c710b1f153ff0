"""95 % intervals of proportions, of counts and of beliefs: arrays in, arrays out.

What an interval is used for belongs to the loops; how a belief comes about, to `shrinkage`.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats: TypeAlias = npt.NDArray[np.float64]

LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2


def wilson(successes: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Wilson's score interval of a proportion (E. B. Wilson, 1927), without continuity correction.

    SciPy's `binomtest(k, n).proportion_ci(method="wilson")` gives the same, one at a time.

    Args:
        successes: how many of the trials succeeded.
        trials: how many there were. Of none nothing is known: the interval is `[0, 1]`.

    Returns:
        Lower and upper ends, in [0, 1].

    Raises:
        ValueError: there are fewer than no successes, or more than trials.
    """
    k, n = proportion_counts(successes, trials)
    z2 = stats.norm.isf(_TAIL) ** 2
    centre = (2 * k + z2) / (2 * (n + z2))
    half = np.sqrt(z2 * (z2 + 4 * k * (1 - k / np.maximum(n, 1)))) / (2 * (n + z2))
    # At the ends the two are equal but for rounding, which must not leave [0, 1] or exclude k / n.
    lower = np.where(k == 0, 0.0, centre - half)
    upper = np.where(k == n, 1.0, centre + half)
    return lower, upper


def poisson_exact(counts: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The exact interval of a Poisson mean, given one count of it (F. Garwood, 1936).

    By quantiles of the chi-squared distribution: `chi2.ppf(0.025, 2k) / 2` and
    `chi2.ppf(0.975, 2k + 2) / 2`; it holds the mean in at least 95 % of cases.

    Args:
        counts: whole numbers, zero or more.

    Returns:
        Lower and upper ends, in counts. The lower end of none is 0.

    Raises:
        ValueError: a count is negative or not a finite number.
    """
    k = _finite(counts, "counts")
    if (k < 0).any():
        raise ValueError(f"counts must be zero or more, and one is {k.min():g}")
    lower = np.where(k == 0, 0.0, stats.chi2.ppf(_TAIL, 2 * np.maximum(k, 1)) / 2)
    return lower, np.asarray(stats.chi2.isf(_TAIL, 2 * k + 2) / 2)


def beta_equal_tailed(alpha: npt.ArrayLike, beta: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The interval that leaves 2.5 % of a Beta distribution on either side (`beta.ppf`).

    Args:
        alpha: its first parameter, above 0.
        beta: its second parameter, above 0.

    Returns:
        Lower and upper ends, in [0, 1].

    Raises:
        ValueError: a parameter is not above 0, or not a finite number.
    """
    a, b = np.broadcast_arrays(_finite(alpha, "alpha"), _finite(beta, "beta"))
    for name, values in (("alpha", a), ("beta", b)):
        if (values <= 0).any():
            raise ValueError(f"{name} must be above 0, and one is {values.min():g}")
    return np.asarray(stats.beta.ppf(_TAIL, a, b)), np.asarray(stats.beta.isf(_TAIL, a, b))


def proportion_counts(successes: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Successes and trials as floats of one shape.

    Raises:
        ValueError: there are fewer than no successes, or more than trials; or a number is not
            finite.
    """
    k, n = np.broadcast_arrays(_finite(successes, "successes"), _finite(trials, "trials"))
    wrong = (k < 0) | (k > n)
    if wrong.any():
        raise ValueError(
            f"successes must be from 0 to the number of trials, and there are "
            f"{k[wrong][0]:g} of {n[wrong][0]:g}"
        )
    return k, n


def _finite(values: npt.ArrayLike, name: str) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(
            f"{name} must be finite numbers, and one is {found[~np.isfinite(found)][0]}"
        )
    return found
