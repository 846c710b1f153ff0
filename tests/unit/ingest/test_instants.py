"""Which texts are moments, and which moment each is."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.ingest.instants import INSTANT, native_text, read_instants


def _read(*texts: str | None) -> list[datetime | None]:
    return read_instants(pl.Series(texts, dtype=pl.String)).to_list()


def _at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


MOMENTS = {
    "2013-02-06T00:58:03.000000+0000": _at(2013, 2, 6, 0, 58, 3),
    "2026-01-01 00:00": _at(2026, 1, 1),
    "2026-01-01": _at(2026, 1, 1),
    "2026-01-01T01:02:03Z": _at(2026, 1, 1, 1, 2, 3),
    "2026-01-01t01:02:03z": _at(2026, 1, 1, 1, 2, 3),
    "2026-01-01 01:02:03": _at(2026, 1, 1, 1, 2, 3),
    "2026-01-01 01:02:03+00": _at(2026, 1, 1, 1, 2, 3),
    "2026-01-01T01:02:03+00:00": _at(2026, 1, 1, 1, 2, 3),
    "2026-01-01T01:02:03.456Z": _at(2026, 1, 1, 1, 2, 3, 456_000),
    "2026-01-01T01:02:03.456+00:00": _at(2026, 1, 1, 1, 2, 3, 456_000),
    "2026-01-01T01:02:03.456+0000": _at(2026, 1, 1, 1, 2, 3, 456_000),
    "2026-01-01T01:02:03.456": _at(2026, 1, 1, 1, 2, 3, 456_000),
    "2026-01-01T01:02:03.456789": _at(2026, 1, 1, 1, 2, 3, 456_789),
    "2026-01-01T01:02:03.456789+00:00": _at(2026, 1, 1, 1, 2, 3, 456_789),
    "2026-01-01T01:02:03.4Z": _at(2026, 1, 1, 1, 2, 3, 400_000),
    "2026-01-01T01:02:03.999999999Z": _at(2026, 1, 1, 1, 2, 3, 999_999),
    "2026-01-01T01:02:03-05:30": _at(2026, 1, 1, 6, 32, 3),
    "2026-01-01T01:02+0200": _at(2025, 12, 31, 23, 2),
    "2024-02-29T23:59:59Z": _at(2024, 2, 29, 23, 59, 59),
    "0001-01-01": _at(1, 1, 1),
    "9999-12-31T23:59:59.999999Z": _at(9999, 12, 31, 23, 59, 59, 999_999),
    "1913-02-06T00:00:00.000001Z": _at(1913, 2, 6, 0, 0, 0, 1),
}


@pytest.mark.parametrize("text", MOMENTS)
def test_an_iso_8601_text_is_its_moment_in_utc(text: str) -> None:
    assert _read(text) == [MOMENTS[text]]


def test_the_formats_may_be_mixed_in_one_column() -> None:
    texts = [*MOMENTS, None, "yesterday"]
    assert _read(*texts) == [*MOMENTS.values(), None, None]


NO_MOMENTS = [
    "2026-13-01",
    "2026-02-30",
    "2026-02-30T10:00:00Z",
    "2025-02-29",
    "yesterday",
    "2016-12-31T23:59:60Z",
    "2026-01-01T24:00:00Z",
    "0000-01-01",
    "0001-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59-00:01",
    "10000-01-01",
    "1767225600",
    "1767225600.5",
    "2026",
    "2026-01",
    "2026-1-1",
    "01/02/2026",
    "2026-01-01T",
    "2026-01-01T10",
    "2026-01-01T10:00:00.",
    "2026-01-01T10:00:00.1234567890Z",
    "2026-01-01T10:00:00 Z",
    "2026-01-01T10:00:00Z\n",
    "2026-01-01T10:00:00+24:00",
    "2026-01-01T10:00:00+0",
    "\uff12026-01-01",
    "-026-01-01",
    "NaT",
]


@pytest.mark.parametrize("text", NO_MOMENTS)
def test_anything_else_is_no_moment(text: str) -> None:
    assert _read(text, "2026-01-01") == [None, datetime(2026, 1, 1, tzinfo=UTC)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.datetimes(timezones=st.timezones() | st.just(UTC)), min_size=1))
def test_what_python_writes_is_read_as_python_reads_it(moments: list[datetime]) -> None:
    texts = [m.isoformat() for m in moments]
    # Historic offsets go down to the second, which ISO 8601 cannot say.
    pairs = [(t, m) for t, m in zip(texts, moments, strict=True) if m.utcoffset().seconds % 60 == 0]

    def in_utc(moment: datetime) -> datetime | None:
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            return None

    assert _read(*(t for t, _ in pairs)) == [in_utc(m) for _, m in pairs]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_native_moments_of_any_unit_and_zone_are_the_same_moments(unit, zone) -> None:
    found = pl.Series([0, -1, None]).cast(pl.Datetime(unit, zone))
    ticks = {"ms": -1_000, "us": -1, "ns": -1}[unit]
    read = read_instants(found)
    assert read.dtype == INSTANT
    assert read.to_physical().to_list() == [0, ticks, None]


@pytest.mark.parametrize("dtype", [pl.Datetime("ms"), pl.Datetime("us", "UTC")])
def test_native_moments_outside_of_pythons_years_are_none_and_can_still_be_shown(dtype) -> None:
    found = pl.Series([2**62, -(2**62), 0]).cast(dtype)
    assert read_instants(found).is_null().to_list() == [True, True, False]
    assert native_text(found)[0] == str(2**62)


def test_native_days_are_their_midnights_and_days_out_of_range_are_none() -> None:
    found = pl.Series([0, 2**31 - 1, -(2**31), None], dtype=pl.Int32).cast(pl.Date)
    assert read_instants(found).to_list() == [datetime(1970, 1, 1, tzinfo=UTC), None, None, None]
    assert native_text(found)[0] == "1970-01-01"
