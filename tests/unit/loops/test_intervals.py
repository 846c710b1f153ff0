"""95 % intervals hold the truth as often as they say, and are SciPy's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engagement_pipeline.loops.intervals import beta_equal_tailed, poisson_exact, wilson

TRIALS = 2_000


def _coverage(interval, truth):
    lower, upper = interval
    return np.mean((lower <= truth) & (truth <= upper))


@pytest.mark.parametrize(("p", "n"), [(0.02, 600), (0.1, 100), (0.3, 50), (0.5, 40), (0.93, 200)])
def test_wilson_holds_the_true_proportion_95_times_in_100(p, n):
    drawn = np.random.default_rng(20_170_512).binomial(n, p, TRIALS)
    assert 0.93 <= _coverage(wilson(drawn, n), p) <= 0.97


@pytest.mark.parametrize("mean", [50, 120, 1_000, 30_000])
def test_the_exact_interval_holds_a_large_mean_95_times_in_100(mean):
    drawn = np.random.default_rng(1936).poisson(mean, TRIALS)
    assert 0.93 <= _coverage(poisson_exact(drawn), mean) <= 0.97


@pytest.mark.parametrize("mean", [0.02, 0.5, 1, 3, 3.7, 8])
def test_the_exact_interval_never_holds_a_small_mean_less_often_than_it_says(mean):
    counts = np.arange(200)
    lower, upper = poisson_exact(counts)
    held = (lower <= mean) & (mean <= upper)
    assert stats.poisson.pmf(counts[held], mean).sum() >= 0.95
    drawn = np.random.default_rng(1936).poisson(mean, TRIALS)
    assert _coverage(poisson_exact(drawn), mean) >= 0.95


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 5.0), (9.0, 0.7), (0.5, 0.5)])
def test_a_posterior_interval_holds_rates_drawn_from_the_prior_95_times_in_100(alpha, beta):
    random = np.random.default_rng(1763)
    rates = random.beta(alpha, beta, TRIALS)
    trials = random.integers(1, 60, TRIALS)
    read = random.binomial(trials, rates)
    interval = beta_equal_tailed(alpha + read, beta + trials - read)
    assert 0.93 <= _coverage(interval, rates) <= 0.97


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_what_scipy_finds_for_one_proportion(counts):
    k, n = counts
    found = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    lower, upper = wilson([k], [n])
    assert (lower[0], upper[0]) == pytest.approx((found.low, found.high), abs=1e-12)
    assert 0 <= lower[0] <= k / n <= upper[0] <= 1


@given(st.integers(0, 1_000_000))
def test_the_ends_of_an_exact_interval_leave_a_fortieth_beyond_what_was_counted(count):
    (lower,), (upper,) = poisson_exact([count])
    assert stats.poisson.cdf(count, upper) == pytest.approx(0.025, rel=1e-6)
    if count == 0:
        assert lower == 0
    else:
        assert stats.poisson.sf(count - 1, lower) == pytest.approx(0.025, rel=1e-6)


@given(st.floats(0.05, 5_000), st.floats(0.05, 5_000))
def test_a_posterior_interval_leaves_a_fortieth_on_either_side(alpha, beta):
    (lower,), (upper,) = beta_equal_tailed([alpha], [beta])
    assert stats.beta.cdf(lower, alpha, beta) == pytest.approx(0.025, rel=1e-4)
    # Close to 1 floats are too coarse to name the upper end exactly.
    if upper < 1 - 1e-9:
        assert stats.beta.sf(upper, alpha, beta) == pytest.approx(0.025, rel=1e-4)


def test_of_no_trials_every_proportion_is_possible():
    with np.errstate(all="raise"):
        assert wilson([0], [0]) == ([0.0], [1.0])


def test_intervals_of_nothing_are_nothing():
    for lower, upper in (wilson([], []), poisson_exact([]), beta_equal_tailed([], [])):
        assert (len(lower), len(upper)) == (0, 0)


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        (lambda: wilson([3, 5], [4, 4]), "there are 5 of 4"),
        (lambda: wilson([-1], [4]), "there are -1 of 4"),
        (lambda: wilson([np.nan], [4]), "successes must be finite numbers, and one is nan"),
        (lambda: poisson_exact([2, -3]), "counts must be zero or more, and one is -3"),
        (lambda: poisson_exact([np.inf]), "counts must be finite numbers, and one is inf"),
        (lambda: beta_equal_tailed([1.0], [0.0]), "beta must be above 0, and one is 0"),
        (lambda: beta_equal_tailed([-2.0], [1.0]), "alpha must be above 0, and one is -2"),
    ],
)
def test_numbers_that_no_interval_can_be_of_are_named(interval, told):
    with pytest.raises(ValueError, match=told):
        interval()
