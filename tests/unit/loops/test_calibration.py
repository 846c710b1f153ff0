"""Of all versions of what was learned, the newest that has not expired is in force."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import ContractViolationError, contract
from engagement_pipeline.loops.calibration import (
    EXPIRES_AFTER,
    LEARNED_SCHEMA,
    Calibration,
    get_calibration,
    in_force,
    new_versions,
)

_AS_OF = datetime(2026, 6, 29, 5, 30, tzinfo=UTC)
_START = _AS_OF - timedelta(days=30)
_TICK = timedelta(microseconds=1)
_WEEK = timedelta(weeks=1)
_TABLE = contract("loops.calibrations")
_NONE = _TABLE.empty()


def _learned(*rows):
    """Rows of org, key and value; the interval is left open."""
    return pl.DataFrame(
        [(org_id, key, value, None, None, 7) for org_id, key, value in rows],
        schema=LEARNED_SCHEMA,
        orient="row",
    )


def _version(value, computed_at, *, org_id="o1", key="threshold:a", expires_at=None):
    return {
        "org_id": org_id,
        "key": key,
        "value": value,
        "lower": None,
        "upper": None,
        "n": 7,
        "window_start": computed_at - timedelta(days=30),
        "window_end": computed_at,
        "computed_at": computed_at,
        "expires_at": expires_at or computed_at + EXPIRES_AFTER,
        "previous_value": None,
    }


def _versions(*rows):
    return pl.DataFrame(list(rows), schema=_TABLE.polars_schema)


def _added(learned, versions=_NONE):
    return new_versions(learned, window_start=_START, as_of=_AS_OF, versions=versions)


# --- new_versions -------------------------------------------------------------------------------


def test_a_new_version_bears_its_window_and_expires_thirty_days_after_it() -> None:
    learned = pl.DataFrame(
        [("o1", "read-rate:a:b", 0.4, 0.2, 0.6, 12)], schema=LEARNED_SCHEMA, orient="row"
    )
    assert _added(learned).rows(named=True) == [
        {
            "org_id": "o1",
            "key": "read-rate:a:b",
            "value": 0.4,
            "lower": 0.2,
            "upper": 0.6,
            "n": 12,
            "window_start": _START,
            "window_end": _AS_OF,
            "computed_at": _AS_OF,
            "expires_at": _AS_OF + timedelta(days=30),
            "previous_value": None,
        }
    ]


def test_new_versions_keep_the_contract_in_the_order_of_its_key() -> None:
    rows = _added(_learned(("o2", "a", 1.0), ("o1", "b", 2.0), ("o1", "a", 3.0)))
    assert rows.schema == _TABLE.polars_schema
    assert rows["value"].to_list() == [3.0, 2.0, 1.0]
    assert _added(_learned()).schema == _TABLE.polars_schema


def test_the_previous_value_is_that_of_the_version_before_whether_or_not_it_expired() -> None:
    long_ago = _AS_OF - timedelta(days=400)
    versions = _versions(
        _version(2.0, _AS_OF - _WEEK),
        _version(1.0, _AS_OF - 2 * _WEEK),
        _version(8.0, long_ago, org_id="o2"),
        _version(9.0, _AS_OF - _WEEK, key="threshold:b"),
    )
    learned = [("o1", "threshold:a", 5.0), ("o2", "threshold:a", 5.0), ("o3", "threshold:a", 5.0)]
    assert _added(_learned(*learned), versions)["previous_value"].to_list() == [2.0, 8.0, None]


@pytest.mark.parametrize("later", [timedelta(), _TICK, _WEEK])
def test_learning_a_moment_again_gives_the_same_as_the_first_time(later: timedelta) -> None:
    before = _version(2.0, _AS_OF - _TICK)
    learned = _learned(("o1", "threshold:a", 5.0))
    first = _added(learned, _versions(before))
    again = _added(learned, _versions(_version(7.0, _AS_OF + later), before))
    assert first.equals(again)
    assert again["previous_value"].to_list() == [2.0]


def test_what_nothing_was_learned_of_gets_no_version() -> None:
    versions = _versions(_version(2.0, _AS_OF - _WEEK), _version(3.0, _AS_OF - _WEEK, key="b"))
    assert _added(_learned(("o1", "b", 1.0)), versions)["key"].to_list() == ["b"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("o1", "a", 1.0), ("o1", "a", 2.0)], "must be unique"),
        ([("o1", "a", float("nan"))], "value"),
        ([("o1", "a", float("inf"))], "value"),
        ([("o1", "a", None)], "value"),
        ([("", "a", 1.0)], "org_id"),
    ],
)
def test_what_breaks_the_contract_is_refused_by_name(rows, said) -> None:
    with pytest.raises(ContractViolationError, match=rf"loops\.calibrations: .*{said}"):
        _added(_learned(*rows))


# --- in_force and get_calibration ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "is_in_force"),
    [
        (_AS_OF - _TICK, False),
        (_AS_OF, True),
        (_AS_OF + EXPIRES_AFTER - _TICK, True),
        (_AS_OF + EXPIRES_AFTER, False),
    ],
    ids=["not yet", "at once", "the last microsecond", "at its expiry"],
)
def test_a_version_is_in_force_from_its_moment_until_its_expiry(moment, is_in_force) -> None:
    rows = in_force(_versions(_version(1.0, _AS_OF)), as_of=moment)
    assert rows.height == is_in_force
    found = get_calibration(_versions(_version(1.0, _AS_OF)), "o1", "threshold:a", moment)
    assert (found is not None) is is_in_force


def test_a_later_version_is_invisible_and_a_newer_one_takes_the_place_of_the_older() -> None:
    versions = _versions(
        _version(3.0, _AS_OF + _TICK), _version(1.0, _AS_OF - _WEEK), _version(2.0, _AS_OF)
    )
    found = {
        moment: in_force(versions, as_of=moment)["value"].to_list()
        for moment in (_AS_OF - _TICK, _AS_OF, _AS_OF + _TICK)
    }
    assert list(found.values()) == [[1.0], [2.0], [3.0]]


def test_an_expired_version_does_not_hide_an_older_one_that_has_not_expired() -> None:
    versions = _versions(
        _version(1.0, _AS_OF - _WEEK), _version(2.0, _AS_OF - _TICK, expires_at=_AS_OF)
    )
    assert in_force(versions, as_of=_AS_OF)["value"].to_list() == [1.0]


def test_a_calibration_is_found_by_its_organisation_and_its_whole_key() -> None:
    versions = _versions(
        _version(1.0, _AS_OF, key="read-rate:a"),
        _version(2.0, _AS_OF, key="read-rate:a:b"),
        _version(3.0, _AS_OF, key="read-rate:a", org_id="o2"),
    )
    for org_id, key, value in [
        ("o1", "read-rate:a", 1.0),
        ("o1", "read-rate:a:b", 2.0),
        ("o2", "read-rate:a", 3.0),
    ]:
        found = get_calibration(versions, org_id, key, _AS_OF)
        assert found == Calibration(**_version(value, _AS_OF, org_id=org_id, key=key))


@pytest.mark.parametrize(
    ("org_id", "key"), [("o2", "threshold:a"), ("o1", "threshold:b"), ("o1", "threshold")]
)
def test_on_a_cold_start_there_is_none_and_no_zero(org_id: str, key: str) -> None:
    assert get_calibration(_versions(_version(0.0, _AS_OF)), org_id, key, _AS_OF) is None
    assert get_calibration(_NONE, org_id, key, _AS_OF) is None


_moments = st.integers(-4, 4).map(lambda n: _AS_OF + n * _TICK)
_any_versions = st.lists(
    st.builds(
        lambda org_id, key, computed_at, expires_at, value: _version(
            value, computed_at, org_id=org_id, key=key, expires_at=expires_at
        ),
        st.sampled_from(["o1", "o2"]),
        st.sampled_from(["a", "a:b"]),
        _moments,
        _moments,
        st.floats(-9, 9),
    ),
    unique_by=lambda row: (row["org_id"], row["key"], row["computed_at"]),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(_any_versions)
def test_in_force_is_the_newest_of_those_known_and_unexpired(rows) -> None:
    best = {}
    for row in rows:
        place = (row["org_id"], row["key"])
        if row["computed_at"] <= _AS_OF < row["expires_at"] and (
            place not in best or best[place]["computed_at"] < row["computed_at"]
        ):
            best[place] = row
    found = in_force(_versions(*rows), as_of=_AS_OF).rows(named=True)
    assert found == [best[place] for place in sorted(best)]
