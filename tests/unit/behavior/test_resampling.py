"""The bootstrap by members."""

import math

import numpy as np
import pytest

from engagement_pipeline.behavior.resampling import intervals, member_bootstrap, resampled


def weighted_mean(values):
    return lambda weights: float(np.average(values, weights=weights))


def test_all_rows_of_a_member_are_drawn_together():
    members = np.array(["a", "b", "a", "c", "b", "a"])
    seen = []
    resampled(lambda weights: seen.append(weights) or np.zeros(1), members, seed=1, resamples=50)
    assert len(seen) == 50
    for weights in seen:
        by_member = {member: set(weights[members == member]) for member in "abc"}
        assert all(len(found) == 1 for found in by_member.values())
        assert sum(min(found) for found in by_member.values()) == 3
    assert len({tuple(weights) for weights in seen}) > 5


def test_the_interval_holds_the_mean_and_is_that_of_independent_people():
    values = np.random.default_rng(3).normal(10, 2, 400)
    lower, upper = member_bootstrap(weighted_mean(values), np.arange(400), seed=1)
    half = 1.96 * values.std() / math.sqrt(400)
    assert lower == pytest.approx(values.mean() - half, abs=0.05)
    assert upper == pytest.approx(values.mean() + half, abs=0.05)


def test_ten_copies_of_each_row_make_the_interval_no_narrower():
    values = np.random.default_rng(3).normal(10, 2, 100)
    once = member_bootstrap(weighted_mean(values), np.arange(100), seed=1)
    tenfold = member_bootstrap(
        weighted_mean(np.repeat(values, 10)), np.repeat(np.arange(100), 10), seed=1
    )
    assert tenfold == pytest.approx(once)


def test_the_order_of_rows_does_not_move_the_interval():
    values = np.random.default_rng(3).normal(10, 2, 60)
    members = np.array([f"u{number % 20}" for number in range(60)])
    shuffled = np.random.default_rng(4).permutation(60)
    assert member_bootstrap(
        weighted_mean(values[shuffled]), members[shuffled], seed=1
    ) == pytest.approx(member_bootstrap(weighted_mean(values), members, seed=1))


def test_the_seed_decides_the_draws():
    values, members = np.arange(30.0), np.arange(30)
    first = member_bootstrap(weighted_mean(values), members, seed=1)
    assert member_bootstrap(weighted_mean(values), members, seed=1) == first
    assert member_bootstrap(weighted_mean(values), members, seed=2) != first


def test_draws_that_the_statistic_is_undefined_in_are_left_out():
    values = np.array([1.0, 2.0, 3.0, 4.0])

    def mean_unless_the_first_is_missing(weights):
        return math.nan if weights[0] == 0 else float(np.average(values, weights=weights))

    lower, upper = member_bootstrap(mean_unless_the_first_is_missing, np.arange(4), seed=1)
    assert 1.0 <= lower < upper < 4.0


def test_a_statistic_undefined_in_most_draws_has_no_interval():
    ends = member_bootstrap(lambda _: math.nan, np.arange(4), seed=1)
    assert all(math.isnan(end) for end in ends)
    lower, upper = intervals(np.array([[1.0, math.nan], [2.0, math.nan], [3.0, 1.0]]))
    assert not math.isnan(lower[0])
    assert math.isnan(lower[1])
    assert math.isnan(upper[1])


def test_a_single_member_has_no_interval():
    ends = member_bootstrap(weighted_mean(np.arange(5.0)), np.zeros(5), seed=1)
    assert all(math.isnan(end) for end in ends)
    assert resampled(lambda _: np.zeros(3), np.zeros(5), seed=1).shape == (0, 3)


def test_no_rows_are_an_error():
    with pytest.raises(ValueError, match="found 0 rows"):
        member_bootstrap(lambda _: 0.0, np.array([]), seed=1)
    with pytest.raises(ValueError, match="0 draws"):
        member_bootstrap(lambda _: 0.0, np.arange(3), seed=1, resamples=0)
