"""Clocks on the wall, on days that are not like others, against the standard library."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.behavior.local_time import INSTANT, with_local_time

_ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "UTC",
)
_DECADE = st.integers(0, 10 * 365 * 24 * 4).map(
    lambda quarters: datetime(2008, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * quarters)
)
# Around changes of the clock: Berlin, New York, Lord Howe by half an hour, Apia by a whole day.
_CHANGES = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2011, 12, 30, 10, tzinfo=UTC),
]
_NEAR = st.tuples(st.sampled_from(_CHANGES), st.integers(-200, 200)).map(
    lambda pair: pair[0] + timedelta(minutes=pair[1])
)


def _frame(rows):
    return pl.DataFrame(
        rows, schema={"at": INSTANT, "timezone": pl.String, "n": pl.Int64}, orient="row"
    )


def _clock(at, zone):
    found = with_local_time(_frame([(at, zone, 0)]), "at").row(0, named=True)
    return found["local_day"], found["local_hour"], found["local_weekday"]


@given(st.lists(st.tuples(_DECADE | _NEAR, st.sampled_from(_ZONES)), max_size=30))
def test_every_clock_shows_what_the_standard_library_says(rows):
    found = with_local_time(_frame([(at, zone, n) for n, (at, zone) in enumerate(rows)]), "at")
    assert found.height == len(rows)
    for row in found.iter_rows(named=True):
        at, zone = rows[row["n"]]
        local = at.astimezone(ZoneInfo(zone))
        shown = (row["local_day"], row["local_hour"], row["local_weekday"])
        assert shown == (local.date(), local.hour, local.isoweekday())


def test_an_hour_that_happens_twice_is_one_hour_of_one_day():
    first, second = (datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1))
    assert _clock(first, "Europe/Berlin") == _clock(second, "Europe/Berlin")
    assert _clock(first, "Europe/Berlin") == (date(2026, 10, 25), 2, 7)


def test_an_hour_that_is_left_out_is_in_nobodys_day():
    before, after = (datetime(2026, 3, 29, hour, 59, tzinfo=UTC) for hour in (0, 1))
    assert [_clock(at, "Europe/Berlin")[1] for at in (before, after)] == [1, 3]


def test_a_zone_of_half_hours_begins_its_day_at_half_past():
    last, first = (datetime(2026, 1, 1, 18, minute, tzinfo=UTC) for minute in (29, 30))
    assert _clock(last, "Asia/Kolkata") == (date(2026, 1, 1), 23, 4)
    assert _clock(first, "Asia/Kolkata") == (date(2026, 1, 2), 0, 5)


@pytest.mark.parametrize("zone", [None, "Factory", "localtime"])
def test_who_has_no_zone_has_utc_and_the_rows_say_so(zone):
    at = datetime(2026, 1, 1, 18, 30, tzinfo=UTC)
    found = with_local_time(_frame([(at, zone, 0), (at, "Asia/Kolkata", 1)]), "at").sort("n")
    assert found["timezone"].to_list() == ["UTC", "Asia/Kolkata"]
    assert found["local_hour"].to_list() == [18, 0]


def test_no_rows_have_the_same_columns_as_rows():
    empty = with_local_time(_frame([]), "at")
    full = with_local_time(_frame([(_CHANGES[0], "UTC", 0)]), "at")
    assert empty.schema == full.schema
    assert {"local_day", "local_hour", "local_weekday"} < set(empty.columns)


def test_instants_of_another_type_are_refused_by_name():
    with pytest.raises(ValueError, match=r"expected at as Datetime.*found Int64"):
        with_local_time(_frame([]).with_columns(pl.col("at").cast(pl.Int64)), "at")
