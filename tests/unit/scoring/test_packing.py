"""Packing: every item once and in order, in few and even calls."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.scoring.packing import halves, in_another_order, pack

COUNTS = st.integers(0, 400)
PER_CALL = st.integers(1, 40)


@given(COUNTS, PER_CALL)
def test_every_item_is_in_exactly_one_call_and_in_order(count: int, per_call: int) -> None:
    items = list(range(count))
    assert [item for one in pack(items, per_call) for item in one] == items


@given(COUNTS, PER_CALL)
def test_calls_are_even_never_empty_and_at_most_half_as_full_again(
    count: int, per_call: int
) -> None:
    sizes = [len(one) for one in pack(range(count), per_call)]
    assert len(sizes) <= math.ceil(count / per_call)
    if sizes:
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= max(1, math.floor(per_call * 1.5))


@given(COUNTS, PER_CALL)
def test_there_are_no_fewer_calls_than_that_fullness_allows(count: int, per_call: int) -> None:
    calls = len(pack(range(count), per_call))
    fullest = max(1, math.floor(per_call * 1.5))
    assert calls >= math.ceil(count / fullest)
    # A call is saved wherever what is left over can be spread over the others.
    if count >= per_call and math.ceil(count / (count // per_call)) <= fullest:
        assert calls == count // per_call


@pytest.mark.parametrize(
    ("count", "per_call", "sizes"),
    [
        (0, 10, []),
        (12, 10, [12]),
        (15, 10, [15]),
        (16, 10, [8, 8]),
        (17, 10, [9, 8]),
        (25, 10, [13, 12]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
        (5, 100, [5]),
    ],
)
def test_a_few_left_over_go_with_the_others(count: int, per_call: int, sizes: list[int]) -> None:
    assert [len(one) for one in pack(range(count), per_call)] == sizes


def test_one_a_call_is_one_a_call() -> None:
    assert pack("abc", 1) == [["a"], ["b"], ["c"]]


def test_a_call_for_less_than_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected at least 1, found 0"):
        pack([1], 0)


@given(st.lists(st.text(), unique=True, max_size=30), st.integers())
def test_another_order_has_the_same_items_and_is_another(keys: list[str], seed: int) -> None:
    shuffled = in_another_order(keys, keys=keys, seed=seed)
    assert sorted(shuffled) == sorted(keys)
    assert shuffled == in_another_order(keys, keys=keys, seed=seed)
    if len(keys) > 1:
        assert shuffled != keys


def test_the_order_depends_on_the_keys_and_the_seed() -> None:
    keys = [f"key-{number}" for number in range(20)]
    orders = {tuple(in_another_order(range(20), keys=keys, seed=seed)) for seed in range(20)}
    assert len(orders) == 20
    turned = in_another_order(range(20), keys=keys[::-1], seed=1)
    assert turned != in_another_order(range(20), keys=keys, seed=1)


@given(st.lists(st.integers(), max_size=50))
def test_halves_are_two_and_the_first_is_the_longer(items: list[int]) -> None:
    first, second = halves(items)
    assert first + second == items
    assert len(first) - len(second) in (0, 1)
