"""How far judges agree."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.scoring.agreement import (
    CONFUSION_SCHEMA,
    agreement,
    cohens_kappa,
    confusion,
    flip_rate,
)

Judged = tuple[list[str], list[str]]

levels = st.sampled_from(vocabulary.LEVELS)
in_dispute = st.lists(st.tuples(levels, levels), min_size=1, max_size=40).map(
    lambda pairs: ([a for a, _ in pairs], [b for _, b in pairs])
)
of_one_mind = st.lists(levels, min_size=1, max_size=40).map(lambda judge: (judge, list(judge)))
judged = in_dispute | of_one_mind

# Cohen's own kind of table: 20 agreed to be new, 15 agreed to be moderate, 5 and 10 disputed.
# By hand: p_o = 35/50 = 0.7; p_e = (25/50)(30/50) + (25/50)(20/50) = 0.5; kappa = 0.4.
A = ["new"] * 25 + ["moderate"] * 25
B = ["new"] * 20 + ["moderate"] * 5 + ["new"] * 10 + ["moderate"] * 15


def test_agreement_and_kappa_are_what_they_come_to_by_hand() -> None:
    assert agreement(A, B) == pytest.approx(0.7)
    assert cohens_kappa(A, B) == pytest.approx(0.4)


def test_judges_who_agree_less_than_chance_have_a_kappa_below_nought() -> None:
    # p_o = 0, p_e = 2 * 1/2 * 1/2 = 0.5, so kappa = -1.
    assert cohens_kappa(["new", "moderate"], ["moderate", "new"]) == pytest.approx(-1)


def test_a_judge_who_always_says_the_same_agrees_by_chance_alone() -> None:
    assert cohens_kappa(["new"] * 4, ["new", "new", "moderate", "new"]) == pytest.approx(0)


def test_kappa_is_undefined_where_chance_could_not_but_agree() -> None:
    assert cohens_kappa(["new"] * 7, ["new"] * 7) is None
    assert cohens_kappa(["new"] * 7, ["moderate"] * 7) == pytest.approx(0)


def test_flips_are_counted_over_items_and_runs() -> None:
    reference = ["new", "moderate", "inactive", "at_risk"]
    others = [reference, ["new", "moderate", "inactive", "new"], list(reversed(reference))]
    assert flip_rate(reference, others) == pytest.approx((0 + 1 + 4) / 12)


def test_the_confusion_names_each_pair_that_occurs_most_frequent_first() -> None:
    found = confusion(A, B)
    assert found.schema == CONFUSION_SCHEMA
    assert found.rows() == [
        ("new", "new", 20),
        ("moderate", "moderate", 15),
        ("moderate", "new", 10),
        ("new", "moderate", 5),
    ]


@pytest.mark.parametrize("measure", [agreement, cohens_kappa, confusion])
def test_unlike_numbers_of_items_and_no_items_are_refused(
    measure: Callable[[list[str], list[str]], object],
) -> None:
    with pytest.raises(ValueError, match="found 2 and 1"):
        measure(["new", "new"], ["new"])
    with pytest.raises(ValueError, match="at least one item"):
        measure([], [])


def test_flips_of_no_run_or_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one other run"):
        flip_rate(["new"], [])
    with pytest.raises(ValueError, match="found 1 and 2"):
        flip_rate(["new"], [["new"], ["new", "new"]])


@given(judged)
def test_it_does_not_matter_which_judge_comes_first(pair: Judged) -> None:
    a, b = pair
    assert agreement(a, b) == agreement(b, a)
    assert cohens_kappa(a, b) == cohens_kappa(b, a)
    turned = {(to, of, count) for of, to, count in confusion(a, b).iter_rows()}
    assert turned == set(confusion(b, a).iter_rows())


@given(judged, st.permutations(vocabulary.LEVELS))
def test_what_the_levels_are_called_does_not_matter(pair: Judged, names: list[str]) -> None:
    renamed = dict(zip(vocabulary.LEVELS, names, strict=True))
    a, b = ([renamed[level] for level in judge] for judge in pair)
    assert agreement(a, b) == agreement(*pair)
    assert cohens_kappa(a, b) == cohens_kappa(*pair)


@given(judged, st.randoms(use_true_random=False))
def test_the_order_of_items_does_not_matter(pair: Judged, random: Random) -> None:
    items = list(zip(*pair, strict=True))
    random.shuffle(items)
    a, b = ([item[judge] for item in items] for judge in (0, 1))
    assert cohens_kappa(a, b) == cohens_kappa(*pair)
    assert confusion(a, b).equals(confusion(*pair))


@given(judged)
def test_kappa_is_one_exactly_when_judges_of_several_levels_always_agree(pair: Judged) -> None:
    a, b = pair
    kappa = cohens_kappa(a, b)
    assert (kappa == 1) == (a == b and len(set(a)) > 1)
    assert (kappa is None) == (a == b and len(set(a)) == 1)
    assert kappa is None or -1 <= kappa <= agreement(a, b)


@given(judged)
def test_what_does_not_agree_flips(pair: Judged) -> None:
    a, b = pair
    assert flip_rate(a, [b]) == pytest.approx(1 - agreement(a, b))
    assert flip_rate(a, [a, a]) == 0
    off_the_diagonal = sum(n for of, to, n in confusion(a, b).iter_rows() if of != to)
    assert off_the_diagonal == pytest.approx(flip_rate(a, [b]) * len(a))
