"""The BG/NBD model of how often people come back, and how much of them is to be expected.

P. S. Fader, B. G. S. Hardie, K. L. Lee (2005), "Counting Your Customers the Easy Way: An
Alternative to the Pareto/NBD Model", Marketing Science 24(2), 275-284; equations are numbered as
there. While people come, they come at random at a rate of their own, drawn from a gamma
distribution (r, alpha); after each time they stop for good with a probability of their own, drawn
from a beta distribution (a, b).

Only the model belongs here; whose histories it is fitted to belongs to the baselines. There is no
probability of being alive: by equation 7 it is 1 for everybody who never came back, so that members
must not be ranked by it.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

_BOUNDS = ((-9.0, 9.0), (-9.0, 9.0), (-9.0, 5.0), (-9.0, 5.0))
"""Of the logarithms of `r`, `alpha` (by the mean of `T`), `a` and `b`. Beyond, likelihoods are
flat, and with `a` over a thousand equation 10 loses its digits."""
_STARTS = ((0.5, 1.0, 1.0, 2.0), (0.25, 0.2, 0.5, 5.0), (2.0, 2.0, 0.2, 1.0))
_ITERATIONS = 300
_SINGULAR = 1e-6
_POINTS = 256


@dataclass(frozen=True)
class BgNbd:
    """A fitted model: `r` and `alpha` of the rates, `a` and `b` of stopping; all above 0.

    `alpha` is in the unit of the times that the model was fitted to.
    """

    r: float
    alpha: float
    a: float
    b: float


def fit(x: npt.ArrayLike, t_x: npt.ArrayLike, T: npt.ArrayLike) -> BgNbd:  # noqa: N803
    """The model of maximum likelihood (equation 6), by SciPy's L-BFGS-B from several starts.

    It always ends, within bounds: of histories that tell nothing, such as of people who never came
    back, the parameters mean little.

    Args:
        x: how often each person came after the first time; whole numbers.
        t_x: time from the first to the last; 0 where `x` is 0.
        T: time from the first until now, in the same unit.

    Raises:
        ValueError: there is nobody, the lengths differ, or a history is impossible.
    """
    # SciPy takes a second to import, which no command should wait for that does not need it.
    from scipy.optimize import minimize

    histories = _checked(x, t_x, T)
    unit = max(float(histories[2].mean()), _SINGULAR)
    histories[1:] /= unit
    # Many people share a history: each is computed once. Sorted, so that the order changes nothing.
    distinct, counts = np.unique(histories, axis=1, return_counts=True)
    fits = [
        minimize(
            _loss,
            np.log(start),
            args=(distinct, counts / counts.sum()),
            jac=True,
            method="L-BFGS-B",
            bounds=_BOUNDS,
            options={"maxiter": _ITERATIONS},
        )
        for start in _STARTS
    ]
    r, alpha, a, b = np.exp(min(fits, key=lambda found: float(found.fun)).x)
    return BgNbd(float(r), float(alpha * unit), float(a), float(b))


def expected_activity(
    model: BgNbd,
    x: npt.ArrayLike,
    t_x: npt.ArrayLike,
    T: npt.ArrayLike,  # noqa: N803
    days: float,
) -> Floats:
    """How often each person is expected to come in the next `days`: E[Y(t) | x, t_x, T] (eq. 10).

    The hypergeometric function is first turned by Euler's transformation (Abramowitz and Stegun
    15.3.3), so that its first two arguments do not grow with `x`: as printed it overflows for who
    came often.

    Args:
        model: fitted.
        x: as for `fit`.
        t_x: as for `fit`.
        T: as for `fit`.
        days: how far ahead, in the unit that the model was fitted in; at least 0.

    Returns:
        As many as people; never NaN, at least 0, and at most what would be expected of somebody
        who never stops, (r + x) / (alpha + T) * days.

    Raises:
        ValueError: as `fit`; or `days` is below 0.
    """
    from scipy.special import expit, hyp2f1

    if not days >= 0:
        raise ValueError(f"days must be at least 0, and are {days}")
    times, last, until = _checked(x, t_x, T)
    r, alpha, a, b = model.r, model.alpha, _away_from(model.a, 1.0), model.b
    # With a + b = 1 and nobody back, the factor is 0 where the function has a pole.
    last_argument = np.array([_away_from(value, 0.0) for value in a + b + times - 1])
    share = days / (alpha + until + days)
    with np.errstate(over="ignore", invalid="ignore"):
        turned = hyp2f1(a + b - 1 - r, a - 1, last_argument, share)
        if_alive = last_argument / (a - 1) * (1 - np.exp((a - 1) * np.log1p(-share)) * turned)
    lost = ~np.isfinite(if_alive)
    if_alive[lost] = _by_quadrature(model, times[lost], until[lost], days)
    at_most = (r + times) / (alpha + until) * days
    is_alive = expit(-_log_odds_of_stopped(r, alpha, a, b, times, last, until))
    expected: Floats = is_alive * np.clip(if_alive, 0, at_most)
    return expected


def _by_quadrature(model: BgNbd, x: Floats, until: Floats, days: float) -> Floats:
    """Equation 10 of who has not stopped, as the mean over probabilities of stopping, p.

    Of a known p it is (1 - (1 + p days / (alpha + T))^-(r + x)) / p. This always has a value, to
    three digits; it is for the few of whom the hypergeometric function has none.
    """
    from scipy.special import betaincinv

    points = (np.arange(_POINTS) + 0.5) / _POINTS
    p = np.maximum(betaincinv(model.a, model.b + x[:, None], points), np.finfo(float).tiny)
    waited = np.log1p(p * days / (model.alpha + until[:, None]))
    found: Floats = (-np.expm1(-(model.r + x[:, None]) * waited) / p).mean(axis=1)
    return found


def _checked(x: npt.ArrayLike, t_x: npt.ArrayLike, until: npt.ArrayLike) -> Floats:
    """The three as rows of one array; raises `ValueError` where no history can be like that."""
    given = [np.asarray(values, dtype=np.float64) for values in (x, t_x, until)]
    sizes = [values.shape for values in given]
    if len(set(sizes)) > 1 or given[0].ndim != 1 or given[0].size == 0:
        raise ValueError(
            f"x, t_x and T must be as many numbers, at least one, and have shapes {sizes}"
        )
    histories = np.array(given)
    times, last, end = histories
    is_possible = (
        np.isfinite(histories).all(axis=0)
        & (times >= 0)
        & (last >= 0)
        & (last <= end)
        & ((times > 0) | (last == 0))
    )
    if not is_possible.all():
        place = int(np.argmin(is_possible))
        raise ValueError(
            "a history must have x >= 0 and 0 <= t_x <= T, and t_x = 0 where x = 0; number "
            f"{place} has x = {times[place]:g}, t_x = {last[place]:g}, T = {end[place]:g}"
        )
    return histories


def _loss(logarithms: Floats, histories: Floats, weights: Floats) -> tuple[float, Floats]:
    """Minus the mean log-likelihood (equation 6), and its slopes by the parameters' logarithms."""
    from scipy.special import expit, gammaln, psi

    r, alpha, a, b = np.exp(logarithms)
    x, t_x, until = histories
    odds = _log_odds_of_stopped(r, alpha, a, b, x, t_x, until)
    likelihood = (
        gammaln(r + x)
        - gammaln(r)
        + r * np.log(alpha)
        + (gammaln(a + b) - gammaln(a + b + x))
        + (gammaln(b + x) - gammaln(b))
        - (r + x) * np.log(alpha + until)
        + np.logaddexp(0, odds)
    )
    # The slope of logaddexp is the probability of having stopped; of `odds`, what follows it.
    stopped = expit(odds)
    after_first = np.where(x > 0, b + x - 1, np.inf)
    waited = np.log(alpha + until) - np.log(alpha + t_x)
    slopes = np.array(
        [
            psi(r + x) - psi(r) + np.log(alpha) - np.log(alpha + until) + stopped * waited,
            r / alpha
            - (r + x) / (alpha + until)
            + stopped * (r + x) * (1 / (alpha + until) - 1 / (alpha + t_x)),
            psi(a + b) - psi(a + b + x) + stopped / a,
            psi(a + b) - psi(a + b + x) + psi(b + x) - psi(b) - stopped / after_first,
        ]
    )
    # Not by `@`: its threads wait busily for each other, and add up as many ways as there are.
    found = (likelihood * weights).sum(), (slopes * weights).sum(axis=1)
    return -float(found[0]), -found[1] * np.exp(logarithms)


def _log_odds_of_stopped(
    r: float, alpha: float, a: float, b: float, x: Floats, t_x: Floats, until: Floats
) -> Floats:
    """Logarithm of the odds of having stopped by now; minus infinity for who never came back."""
    at_risk = np.where(x > 0, b + x - 1, 1.0)
    waited = np.log(alpha + until) - np.log(alpha + t_x)
    odds: Floats = np.where(x > 0, np.log(a) - np.log(at_risk) + (r + x) * waited, -np.inf)
    return odds


def _away_from(value: float, singular: float) -> float:
    """`value`, or where a formula cannot be computed so near to it, one a millionth above."""
    return singular + _SINGULAR if abs(value - singular) < _SINGULAR else value
