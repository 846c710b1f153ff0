"""Empirical Bayes for proportions: what many units have in common steadies the rate of each.

A unit is whatever has a rate of its own, such as one feature in one organisation. What is done
with a steadied rate belongs to the loops, and its interval to `intervals`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy import optimize, special

from engagement_pipeline.loops.intervals import Floats, proportion_counts

MIN_UNITS = 3
"""From how many units with trials on a prior is fitted: two say little of how units vary."""

MEAN_BOUNDS = (1e-4, 1 - 1e-4)
CONCENTRATION_BOUNDS = (1e-2, 1e3)
"""Of a fitted prior. Units that are all alike would otherwise make one of endless certainty."""

_START_CONCENTRATION = 10.0


@dataclass(frozen=True)
class BetaPrior:
    """What is believed of a unit's rate before it is seen: a Beta distribution."""

    alpha: float
    beta: float

    @property
    def mean(self) -> float:
        return self.alpha / self.concentration

    @property
    def concentration(self) -> float:
        """How many trials the belief weighs as much as."""
        return self.alpha + self.beta


JEFFREYS = BetaPrior(0.5, 0.5)
"""The prior of those who know nothing (H. Jeffreys, 1946)."""


@dataclass(frozen=True)
class GroupPriors:
    """Priors by group of units, and the one of all units, for groups that have none."""

    by_group: Mapping[str, BetaPrior]
    pooled: BetaPrior

    def of(self, group: str) -> BetaPrior:
        return self.by_group.get(group, self.pooled)


def fit_prior(successes: ArrayLike, trials: ArrayLike) -> BetaPrior | None:
    """The prior under which what the units did is likeliest: beta-binomial maximum likelihood.

    Maximises the sum of `scipy.stats.betabinom.logpmf` over mean and concentration, within
    `MEAN_BOUNDS` and `CONCENTRATION_BOUNDS`, so that it always ends; the same counts always give
    the same prior. On the method: C. N. Morris, 1983; G. Casella, 1985.

    Args:
        successes: how many of each unit's trials succeeded.
        trials: how many each had. Units without any say nothing and do not count.

    Returns:
        The prior; None where fewer than `MIN_UNITS` units have trials.

    Raises:
        ValueError: a unit has fewer than no successes, or more than trials.
    """
    k, n = proportion_counts(successes, trials)
    k, n = k[n > 0], n[n > 0]
    if len(n) < MIN_UNITS:
        return None
    lowest, highest = (special.logit(bound) for bound in MEAN_BOUNDS)
    pooled_mean = np.clip(special.logit(k.sum() / n.sum()), lowest, highest)
    found = optimize.minimize(
        _loss_and_slope,
        x0=[pooled_mean, np.log(_START_CONCENTRATION)],
        args=(k, n),
        jac=True,
        method="L-BFGS-B",
        bounds=[(lowest, highest), tuple(np.log(CONCENTRATION_BOUNDS))],
    )
    mean, concentration = special.expit(found.x[0]), np.exp(found.x[1])
    return BetaPrior(float(mean * concentration), float((1 - mean) * concentration))


def fit_group_priors(units: pl.DataFrame, *, group: str) -> GroupPriors:
    """A prior for each group of units that has enough of them.

    A group with fewer than `MIN_UNITS` units that have trials takes the prior of all units
    together; where those are too few as well, it is `JEFFREYS`. Units whose counts contradict
    themselves take no part, so that they trouble no other.

    Args:
        units: `group`, `successes`, `trials`; one row per unit.
        group: the name of the first column.
    """
    sound = units.filter(
        (pl.col("successes") >= 0) & (pl.col("successes") <= pl.col("trials"))
    ).sort(group, "successes", "trials")
    by_group = {
        str(name): prior
        for (name,), own in sound.group_by(group, maintain_order=True)
        if (prior := fit_prior(own["successes"], own["trials"])) is not None
    }
    pooled = fit_prior(sound["successes"], sound["trials"])
    return GroupPriors(by_group, pooled or JEFFREYS)


def posterior(
    successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike, beta: ArrayLike
) -> tuple[Floats, Floats]:
    """What is believed of rates once units are seen: parameters of Beta distributions.

    Args:
        successes: how many of each unit's trials succeeded.
        trials: how many each had.
        alpha: first parameter of what was believed before, for all or for each.
        beta: its second parameter.

    Raises:
        ValueError: a unit has fewer than no successes, or more than trials.
    """
    k, n = proportion_counts(successes, trials)
    return k + np.asarray(alpha, dtype=np.float64), n - k + np.asarray(beta, dtype=np.float64)


def shrink(successes: ArrayLike, trials: ArrayLike, prior: BetaPrior) -> Floats:
    """The rate of each unit, drawn towards the prior's mean: the posterior mean.

    `(successes + alpha) / (trials + alpha + beta)`: the fewer trials, the nearer to the prior.

    Args:
        successes: how many of each unit's trials succeeded.
        trials: how many each had; none gives the prior's mean.
        prior: what is believed of a unit before it is seen.

    Raises:
        ValueError: a unit has fewer than no successes, or more than trials.
    """
    alpha, beta = posterior(successes, trials, prior.alpha, prior.beta)
    return np.asarray(alpha / (alpha + beta))


def _loss_and_slope(point: Floats, k: Floats, n: Floats) -> tuple[float, Floats]:
    """Minus the log-likelihood at (logit of the mean, log of the concentration), and its slope.

    Up to the binomial coefficients, which do not depend on the point. `betabinom.logpmf` would
    compute them again at each step, and has no slope.
    """
    mean, concentration = special.expit(point[0]), np.exp(point[1])
    a, b = mean * concentration, (1 - mean) * concentration
    loss = np.sum(special.betaln(a, b) - special.betaln(k + a, n - k + b))
    of_both = special.digamma(n + a + b) - special.digamma(a + b)
    by_a = np.sum(special.digamma(a) - special.digamma(k + a) + of_both)
    by_b = np.sum(special.digamma(b) - special.digamma(n - k + b) + of_both)
    by_logit_mean = (by_a - by_b) * mean * (1 - mean) * concentration
    by_log_concentration = by_a * a + by_b * b
    return float(loss), np.array([by_logit_mean, by_log_concentration])
