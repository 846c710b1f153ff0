"""The finished table keeps its contract, or is refused."""

import polars as pl
import pytest

from engagement_pipeline.contracts import ContractViolationError, contract
from engagement_pipeline.signals import finish
from tests.unit.signals.communities import AS_OF, ENGINES, ago, answer, computed, instant_of, stay

TABLE = contract("signals.member_90d")
TABLES = {
    "memberships": [stay("o2", "u1"), stay("o1", "u2"), stay("o1", "u1")],
    "attendance": [answer("attended", ago(20), ago(10))],
}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_table_is_typed_and_sorted_as_its_contract_says(engine):
    table = finish(computed(TABLES, engine), as_of=instant_of(AS_OF))
    assert table.schema == TABLE.polars_schema
    assert table.select("org_id", "user_id").rows() == [("o1", "u1"), ("o1", "u2"), ("o2", "u1")]


def test_instants_are_moments_to_the_microsecond():
    first = finish(computed(TABLES), as_of=instant_of(AS_OF)).row(0, named=True)
    assert first["as_of"] == instant_of(AS_OF)
    assert first["last_attended_at"] == instant_of(ago(10))


def test_a_table_without_members_is_one_without_rows():
    nobody = computed({"memberships": [stay(left_days_ago=1)], "attendance": []})
    assert finish(nobody, as_of=instant_of(AS_OF)).equals(TABLE.empty())


def test_rows_of_another_moment_are_refused():
    with pytest.raises(ValueError, match="rows describe"):
        finish(computed(TABLES), as_of=instant_of(AS_OF + 1))


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda frame: pl.concat([frame, frame]),
        lambda frame: frame.with_columns(rsvp_count_90d=pl.lit(-1)),
        lambda frame: frame.with_columns(joined_at=pl.lit(None, pl.Int64)),
    ],
    ids=["a member twice", "a count below zero", "no moment of joining"],
)
def test_rows_that_break_the_contract_are_refused(spoiled):
    with pytest.raises(ContractViolationError, match=r"signals\.member_90d"):
        finish(spoiled(computed(TABLES)), as_of=instant_of(AS_OF))
