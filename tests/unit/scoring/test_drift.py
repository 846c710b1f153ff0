"""Whether levels have moved."""

import math
from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.scoring.drift import (
    DRIFT_SCHEMA,
    MAJOR_SHIFT_PSI,
    DriftInputError,
    level_drift,
)

Counts = Mapping[str, Mapping[str, float]]

CHI_SQUARE_LIMIT = 13.2767

orgs = st.sampled_from(("a", "b", "c", "d"))


def some_counts(
    members: st.SearchStrategy[int] | st.SearchStrategy[float],
) -> st.SearchStrategy[Counts]:
    return st.dictionaries(
        orgs, st.dictionaries(st.sampled_from(vocabulary.LEVELS), members, min_size=1)
    )


some_now = some_counts(st.integers(0, 400))
some_before = some_counts(st.floats(0, 400))


def frame(counts: Counts, members: type[pl.DataType] = pl.Float64) -> pl.DataFrame:
    rows = [(org, level, n) for org, levels in counts.items() for level, n in levels.items()]
    schema: dict[str, type[pl.DataType]] = {
        "org_id": pl.String,
        "level": pl.String,
        "members": members,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def drift(now: Counts, before: Counts) -> dict[str, tuple[Any, ...]]:
    found = level_drift(frame(now, pl.Int64), frame(before))
    assert found.schema == DRIFT_SCHEMA
    return {row[0]: row[1:] for row in found.iter_rows()}


def plain_drift(now: Mapping[str, float], before: Mapping[str, float]) -> tuple[Any, ...]:
    n_now, n_before = sum(now.values()), sum(before.values())
    if not n_now or not n_before:
        return n_now, n_before, None, None, False
    psi = 0.0
    for level in vocabulary.LEVELS:
        p = (now.get(level, 0) + 0.5) / (n_now + 2.5)
        q = (before.get(level, 0) + 0.5) / (n_before + 2.5)
        psi += (p - q) * math.log(p / q)
    limit = CHI_SQUARE_LIMIT * (1 / n_now + 1 / n_before)
    return n_now, n_before, psi, limit, psi > 0.25 and psi > limit


@given(some_now, some_before)
def test_drift_is_what_it_comes_to_one_organisation_after_another(
    now: Counts, before: Counts
) -> None:
    found = drift(now, before)
    assert list(found) == sorted(now)
    for org, row in found.items():
        *numbers, has_drifted = plain_drift(now[org], before.get(org, {}))
        assert row == (
            *(n if n is None else pytest.approx(n, rel=1e-9, abs=1e-9) for n in numbers),
            has_drifted,
        )


def test_the_index_of_two_levels_that_change_places_is_what_it_comes_to_by_hand() -> None:
    # With half a member added, 77.5 and 20.5 of 99.5 change places; the three others cancel out.
    now, before = {"moderate": 77, "at_risk": 20}, {"moderate": 20.0, "at_risk": 77.0}
    n_now, n_before, psi, limit, has_drifted = drift({"a": now}, {"a": before})["a"]
    assert (n_now, n_before, has_drifted) == (97, 97.0, True)
    assert psi == pytest.approx(2 * (77.5 - 20.5) / 99.5 * math.log(77.5 / 20.5))
    assert limit == pytest.approx(13.2767 * 2 / 97)


def test_the_limit_is_passed_by_chance_once_in_a_hundred() -> None:
    # With four degrees of freedom, chi-square is above x with the chance exp(-x/2) * (1 + x/2).
    limit = drift({"a": {"new": 1}}, {"a": {"new": 1}})["a"][3]
    # One member on either side: the limit is the quantile times two.
    half = limit / 2 / 2
    assert math.exp(-half) * (1 + half) == pytest.approx(0.01, abs=1e-6)


@given(some_now)
def test_levels_that_stayed_have_an_index_of_nought(now: Counts) -> None:
    assert all(row[2] in (None, 0) and not row[4] for row in drift(now, now).values())


@given(some_now, some_now)
def test_now_and_before_may_change_places(one: Counts, other: Counts) -> None:
    there, back = drift(one, other), drift(other, one)
    for org in there.keys() & back.keys():
        assert there[org][2:] == pytest.approx(back[org][2:])


def test_an_organisation_without_days_before_has_not_drifted() -> None:
    found = drift({"a": {"new": 5}, "b": {"new": 0}}, {"b": {"new": 5.0}, "gone": {"new": 9.0}})
    assert found == {"a": (5, 0.0, None, None, False), "b": (0, 5.0, None, None, False)}


def test_few_members_need_more_than_a_major_shift_to_have_drifted() -> None:
    def moved(times: int) -> tuple[Any, ...]:
        now = {"a": {"moderate": 2 * times, "at_risk": 4 * times}}
        return drift(now, {"a": {"moderate": 4.0 * times, "at_risk": 2.0 * times}})["a"]

    few, many = moved(1), moved(100)
    assert few[2] > MAJOR_SHIFT_PSI
    assert not few[4]
    assert many[4]


def test_many_members_need_more_than_what_chance_moves_to_have_drifted() -> None:
    now, before = {"moderate": 55_000, "new": 45_000}, {"moderate": 45_000.0, "new": 55_000.0}
    _, _, psi, limit, has_drifted = drift({"a": now}, {"a": before})["a"]
    assert limit < psi < MAJOR_SHIFT_PSI
    assert not has_drifted


@pytest.mark.parametrize(("thousands", "has_drifted"), [(62, False), (63, True)])
def test_a_shift_is_major_from_an_index_of_a_quarter(thousands: int, has_drifted: bool) -> None:
    # With shares of 0.62 and 0.38 it is 2 * 0.24 * ln(0.62 / 0.38) = 0.235; with 0.63, 0.277.
    now = {"moderate": thousands * 1_000, "new": (100 - thousands) * 1_000}
    before = {"moderate": now["new"], "new": now["moderate"]}
    assert drift({"a": now}, {"a": before})["a"][4] == has_drifted


def test_rows_of_one_level_add_up() -> None:
    now = frame({"a": {"new": 2, "moderate": 1}}, pl.Int64)
    before = frame({"a": {"new": 1.5, "moderate": 3.0}})
    doubled = level_drift(pl.concat([now, now]), pl.concat([before, before]))
    twice = drift({"a": {"new": 4, "moderate": 2}}, {"a": {"new": 3.0, "moderate": 6.0}})
    assert doubled.row(0)[1:] == twice["a"]


def test_no_organisation_gives_no_row() -> None:
    assert level_drift(frame({}), frame({})).schema == DRIFT_SCHEMA


@pytest.mark.parametrize("level", ["active", None])
def test_an_unknown_level_is_refused(level: str | None) -> None:
    with pytest.raises(DriftInputError, match=f"'a' has members of the level {level!r}"):
        level_drift(frame({}), frame({"a": {level: 1.0}}))  # type: ignore[dict-item]


@pytest.mark.parametrize("members", [-1.0, math.inf, math.nan, None])
def test_what_is_no_number_of_members_is_refused(members: float | None) -> None:
    with pytest.raises(DriftInputError, match=r"'a' has .* members of the level 'new'"):
        level_drift(frame({"a": {"new": members}}), frame({}))  # type: ignore[dict-item]
