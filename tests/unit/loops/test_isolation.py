"""One organisation's trouble stays with it: every other organisation is learned for."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from engagement_pipeline.loops.isolation import learn_each

_ORGS = [f"o{n}" for n in range(9)]


class _Learner:
    """Learns a row or two for each organisation unless one of the bad ones is among them."""

    def __init__(self, *bad):
        self.bad = set(bad)
        self.calls = []

    def __call__(self, org_ids):
        self.calls.append(list(org_ids))
        for org_id in org_ids:
            if org_id in self.bad:
                raise ValueError(f"{org_id}: expected a number, found none")
        rows = [(o, float(n)) for o in org_ids for n in range(1 + int(o[1:]) % 2)]
        return pl.DataFrame(rows, schema={"org_id": pl.String, "value": pl.Float64}, orient="row")


def test_without_trouble_all_are_learned_at_once() -> None:
    learner = _Learner()
    learned, failed = learn_each(_ORGS, learner)
    assert failed == {}
    assert learned is not None
    assert_frame_equal(learned, _Learner()(_ORGS))
    assert learner.calls == [_ORGS]


@pytest.mark.parametrize("bad", [_ORGS[0], _ORGS[4], _ORGS[-1]])
def test_one_that_fails_is_alone_with_its_error_and_all_others_are_learned(bad: str) -> None:
    learned, failed = learn_each(_ORGS, _Learner(bad))
    assert failed == {bad: f"ValueError: {bad}: expected a number, found none"}
    assert learned is not None
    assert_frame_equal(learned, _Learner()([o for o in _ORGS if o != bad]))


def test_when_all_fail_each_has_its_own_error_and_nothing_is_learned() -> None:
    learned, failed = learn_each(_ORGS, _Learner(*_ORGS))
    assert learned is None
    assert failed == {o: f"ValueError: {o}: expected a number, found none" for o in _ORGS}


def test_for_no_organisation_the_learner_is_not_even_asked() -> None:
    learner = _Learner()
    assert learn_each([], learner) == (None, {})
    assert learner.calls == []


def test_organisations_of_which_nothing_was_learned_have_not_failed() -> None:
    nothing = _Learner()([])
    learned, failed = learn_each(_ORGS, lambda _: nothing)
    assert learned is not None
    assert learned.is_empty()
    assert failed == {}


def test_nothing_learned_beside_one_that_failed_is_a_frame_without_rows() -> None:
    learned, failed = learn_each(_ORGS, lambda org_ids: _Learner("o0")(org_ids).clear())
    assert set(failed) == {"o0"}
    assert learned is not None
    assert_frame_equal(learned, _Learner()([]))


def test_what_is_no_error_of_an_organisation_stops_learning() -> None:
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_each(_ORGS, interrupted)


def test_one_among_a_thousand_costs_no_more_than_halving_down_to_it() -> None:
    org_ids = [f"o{n}" for n in range(1024)]
    learner = _Learner("o300")
    learn_each(org_ids, learner)
    # At each of the ten halvings one half fails and the other is learned.
    assert len(learner.calls) == 1 + 2 * 10


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 99), unique=True, max_size=20).map(lambda ns: [f"o{n}" for n in ns]))
def test_the_good_are_learned_for_as_if_the_bad_were_not_there(org_ids: list[str]) -> None:
    bad = {org_id for org_id in org_ids if int(org_id[1:]) % 3 == 0}
    good = [org_id for org_id in org_ids if org_id not in bad]
    learned, failed = learn_each(org_ids, _Learner(*bad))
    assert set(failed) == bad
    assert (learned is None) is (not good)
    if learned is not None:
        assert_frame_equal(learned, _Learner()(good))
