"""A rate drawn towards what units have in common foretells better than the rate alone."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engagement_pipeline.loops.shrinkage import (
    CONCENTRATION_BOUNDS,
    JEFFREYS,
    MEAN_BOUNDS,
    BetaPrior,
    fit_group_priors,
    fit_prior,
    shrink,
)

SEED = 20_180_301


def _units(alpha, beta, trials, seed=SEED):
    random = np.random.default_rng(seed)
    rates = random.beta(alpha, beta, len(trials))
    return rates, random.binomial(trials, rates)


def _log_likelihood(prior, successes, trials):
    return stats.betabinom.logpmf(successes, trials, prior.alpha, prior.beta).sum()


def _log_loss(predicted, rates, seed=SEED):
    """Of 200 future sends to each unit."""
    read = np.random.default_rng(seed + 1).binomial(200, rates)
    return -np.mean(read * np.log(predicted) + (200 - read) * np.log(1 - predicted)) / 200


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 6.0), (0.6, 0.4), (30.0, 4.0)])
def test_the_prior_that_units_were_drawn_from_is_found_again(alpha, beta):
    trials = np.random.default_rng(7).integers(1, 80, 4_000)
    prior = fit_prior(_units(alpha, beta, trials)[1], trials)
    assert prior.mean == pytest.approx(alpha / (alpha + beta), abs=0.02)
    assert prior.concentration == pytest.approx(alpha + beta, rel=0.12)


@given(
    st.lists(
        st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
        min_size=3,
        max_size=12,
    )
)
@settings(max_examples=25)
def test_no_prior_within_the_bounds_makes_what_units_did_likelier(units):
    successes, trials = np.array(units).T
    found = fit_prior(successes, trials)
    means = [0.001, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.999, found.mean]
    concentrations = [*np.geomspace(*CONCENTRATION_BOUNDS, 12), found.concentration]
    grid = [BetaPrior(m * c, (1 - m) * c) for m in means for c in concentrations]
    alpha, beta = np.array([(prior.alpha, prior.beta) for prior in grid]).T
    likelihoods = stats.betabinom.logpmf(
        successes[:, None], trials[:, None], alpha[None, :], beta[None, :]
    ).sum(axis=0)
    assert likelihoods.max() <= _log_likelihood(found, successes, trials) + 1e-3


@pytest.mark.parametrize(
    ("successes", "trials"),
    [([0] * 5, [9] * 5), ([9] * 5, [9] * 5), ([5] * 50, [10] * 50), ([0, 900, 0, 900], [900] * 4)],
)
def test_units_that_are_all_alike_or_quite_unlike_still_give_a_prior_within_the_bounds(
    successes, trials
):
    prior = fit_prior(successes, trials)
    slack = 1 + 1e-9
    assert MEAN_BOUNDS[0] / slack <= prior.mean <= MEAN_BOUNDS[1] * slack
    assert CONCENTRATION_BOUNDS[0] / slack <= prior.concentration
    assert prior.concentration <= CONCENTRATION_BOUNDS[1] * slack


def test_the_shrunken_rate_of_sparse_units_foretells_better_than_their_own():
    trials = np.random.default_rng(3).integers(1, 12, 400)
    rates, successes = _units(1.2, 4.0, trials)
    shrunken = _log_loss(shrink(successes, trials, fit_prior(successes, trials)), rates)
    own = _log_loss(np.clip(successes / trials, 1e-3, 1 - 1e-3), rates)
    with_one_of_each = _log_loss((successes + 1) / (trials + 2), rates)
    pooled = _log_loss(np.full(400, successes.sum() / trials.sum()), rates)
    assert shrunken < min(own, with_one_of_each, pooled)
    # What knowing every rate would give is the least there is.
    assert shrunken - _log_loss(rates, rates) < 0.5 * (own - _log_loss(rates, rates))


@given(
    st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.floats(0.01, 100),
    st.floats(0.01, 100),
)
def test_a_shrunken_rate_lies_between_the_own_rate_and_the_priors_mean(counts, alpha, beta):
    k, n = counts
    prior = BetaPrior(alpha, beta)
    (found,) = shrink([k], [n], prior)
    ends = [prior.mean, k / n if n else prior.mean]
    assert min(ends) - 1e-12 <= found <= max(ends) + 1e-12
    assert found == pytest.approx((k + alpha) / (n + alpha + beta))


def test_the_same_units_in_any_order_give_the_same_priors():
    trials = np.random.default_rng(5).integers(1, 30, 60)
    _, successes = _units(2.0, 3.0, trials)
    units = pl.DataFrame(
        {"feature": ["a", "b", "c"] * 20, "successes": successes, "trials": trials}
    )
    assert fit_group_priors(units.reverse(), group="feature") == fit_group_priors(
        units, group="feature"
    )


def _priors(*units):
    frame = pl.DataFrame(
        list(units),
        {"feature": pl.String, "successes": pl.Int64, "trials": pl.Int64},
        orient="row",
    )
    return fit_group_priors(frame, group="feature")


def test_each_group_with_three_units_has_a_prior_of_its_own():
    read = [("a", 8, 10), ("a", 9, 10), ("a", 7, 10)]
    ignored = [("b", 1, 10), ("b", 0, 10), ("b", 2, 10)]
    priors = _priors(*read, *ignored)
    assert priors.of("a") == fit_prior([8, 9, 7], [10] * 3)
    assert priors.of("b") == fit_prior([1, 0, 2], [10] * 3)
    assert priors.of("b").mean < priors.pooled.mean < priors.of("a").mean


def test_a_group_with_fewer_than_three_units_takes_the_prior_of_all():
    priors = _priors(("a", 8, 10), ("a", 9, 10), ("a", 0, 0), ("b", 1, 10))
    assert priors.of("a") == priors.of("never seen") == fit_prior([8, 9, 1], [10] * 3)


def test_fewer_than_three_units_in_all_teach_nothing():
    assert fit_prior([3, 4], [10, 10]) is None
    assert fit_prior([3, 4, 0, 0], [10, 10, 0, 0]) is None
    assert _priors(("a", 8, 10), ("b", 9, 10)).of("a") == JEFFREYS
    assert _priors().of("a") == JEFFREYS


def test_a_unit_whose_counts_contradict_themselves_troubles_no_other():
    sound = [("a", 8, 10), ("a", 9, 10), ("a", 7, 10)]
    assert _priors(*sound, ("a", 11, 10), ("a", -1, 10)) == _priors(*sound)
    with pytest.raises(ValueError, match="there are 11 of 10"):
        fit_prior([8, 9, 7, 11], [10] * 4)
