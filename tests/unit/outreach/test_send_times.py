"""When a message goes out, also on days on which clocks are changed."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.outreach.send_times import (
    MISSED_AFTER,
    QuietHours,
    judge,
    quiet_until,
    send_at,
)

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
AMSTERDAM = "Europe/Amsterdam"

# Instants at which the clocks of a zone were changed: forward, back, by half an hour (Lord Howe),
# by two hours (Troll), at midnight (Havana), by a whole day (Apia); and one that changes nothing.
CHANGES = (
    (AMSTERDAM, datetime(2026, 3, 29, 1, tzinfo=UTC)),
    (AMSTERDAM, datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 3, 8, 5, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 11, 1, 5, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(2026, 5, 5, tzinfo=UTC)),
)

# Often at night, when clocks are changed.
times = st.one_of(st.times(), st.times(max_value=time(3, 59))).map(
    lambda at: at.replace(second=0, microsecond=0)
)
quiets = st.one_of(
    st.none(), st.builds(QuietHours.of, times.map(time.isoformat), times.map(time.isoformat))
)
hours = st.integers(0, 23)


@st.composite
def zones_and_instants(
    draw: st.DrawFn, unit: timedelta = timedelta(seconds=1)
) -> tuple[str, datetime]:
    zone, change = draw(st.sampled_from(CHANGES))
    reach = timedelta(hours=30) // unit
    return zone, change + draw(st.integers(-reach, reach)) * unit


def at_wall(zone: str, *moment: int, fold: int = 0) -> datetime:
    """An instant by what a clock on the wall shows."""
    return datetime(*moment, fold=fold, tzinfo=ZoneInfo(zone)).astimezone(UTC)  # type: ignore[misc,arg-type]


def is_quiet(at: datetime, zone: str, quiet: QuietHours | None) -> bool:
    if quiet is None:
        return False
    shown, start, end = (
        60 * one.hour + one.minute
        for one in (at.astimezone(ZoneInfo(zone)), quiet.start, quiet.end)
    )
    return (shown - start) % 1440 < (end - start) % 1440


def scanned_end(at: datetime, zone: str, quiet: QuietHours | None) -> datetime | None:
    """The end of quiet hours, found minute by minute."""
    moment = at
    while is_quiet(moment, zone, quiet):
        moment += MINUTE
    return None if moment == at else moment


def scanned_hour(at: datetime, zone: str, hour: int) -> datetime:
    """The next such hour, or the jump over it, found minute by minute."""
    clock, moment, before = ZoneInfo(zone), at, None
    while True:
        shown = moment.astimezone(clock).replace(tzinfo=None)
        if shown.hour == hour:
            return moment
        # A day that is left out altogether holds no hour that anybody waits for.
        while before is not None and before < shown and shown - before < DAY:
            if (before.hour, before.minute) == (hour, 0):
                return moment
            before += MINUTE
        before, moment = shown + MINUTE, moment + MINUTE


@given(zones_and_instants(MINUTE), quiets)
def test_quiet_hours_end_at_the_first_minute_that_is_not_quiet(
    found: tuple[str, datetime], quiet: QuietHours | None
) -> None:
    zone, at = found
    assert quiet_until(at, zone, quiet) == scanned_end(at, zone, quiet)


@given(zones_and_instants(MINUTE), hours)
def test_the_best_hour_is_the_next_that_a_clock_shows(
    found: tuple[str, datetime], hour: int
) -> None:
    zone, now = found
    assert send_at(now, zone=zone, best_hour=hour, quiet=None) == scanned_hour(now, zone, hour)


@given(zones_and_instants(), quiets, hours)
def test_a_message_goes_out_within_a_day_and_is_never_early_nor_in_quiet_hours(
    found: tuple[str, datetime], quiet: QuietHours | None, hour: int
) -> None:
    zone, now = found
    at = send_at(now, zone=zone, best_hour=hour, quiet=quiet)
    assert at.tzinfo is UTC
    assert now <= at <= now + timedelta(hours=26) + DAY
    assert not is_quiet(at, zone, quiet)
    unmoved = send_at(now, zone=zone, best_hour=hour, quiet=None)
    assert now <= unmoved <= now + timedelta(hours=26)
    assert (at == unmoved) == (not is_quiet(unmoved, zone, quiet))


@given(zones_and_instants(), hours)
def test_the_hour_is_the_best_one_unless_the_clock_jumped_over_it(
    found: tuple[str, datetime], hour: int
) -> None:
    zone, now = found
    at = send_at(now, zone=zone, best_hour=hour, quiet=None)
    clock = ZoneInfo(zone)
    before, shown = ((at - wait).astimezone(clock) for wait in (MINUTE, timedelta(0)))
    if shown.hour != hour:
        assert before.utcoffset() < shown.utcoffset()  # type: ignore[operator]
        # Counted round the clock: some are put forward at midnight.
        assert 0 < (hour - before.hour) % 24 < (shown.hour - before.hour) % 24


def test_an_hour_that_is_left_out_becomes_the_moment_at_which_the_clock_jumps() -> None:
    now = at_wall(AMSTERDAM, 2026, 3, 28, 20)
    at = send_at(now, zone=AMSTERDAM, best_hour=2, quiet=None)
    assert at == at_wall(AMSTERDAM, 2026, 3, 29, 3)


def test_an_hour_that_comes_twice_is_taken_the_first_time() -> None:
    now = at_wall(AMSTERDAM, 2026, 10, 24, 20)
    at = send_at(now, zone=AMSTERDAM, best_hour=2, quiet=None)
    assert at == at_wall(AMSTERDAM, 2026, 10, 25, 2, fold=0)


def test_quiet_hours_that_end_in_a_left_out_hour_end_with_it() -> None:
    quiet = QuietHours.of("22:00", "02:30")
    at = at_wall(AMSTERDAM, 2026, 3, 29, 1)
    assert quiet_until(at, AMSTERDAM, quiet) == at_wall(AMSTERDAM, 2026, 3, 29, 3)


def test_quiet_hours_begin_anew_when_the_clock_is_put_back_into_them() -> None:
    quiet = QuietHours.of("22:00", "02:30")
    at = at_wall(AMSTERDAM, 2026, 10, 25, 2, 10, fold=1)
    assert quiet_until(at, AMSTERDAM, quiet) == at_wall(AMSTERDAM, 2026, 10, 25, 2, 30, fold=1)


def test_now_is_best_in_the_best_hour_to_the_microsecond() -> None:
    now = at_wall(AMSTERDAM, 2026, 5, 5, 14, 59, 59, 999_999)
    assert send_at(now, zone=AMSTERDAM, best_hour=14, quiet=None) == now
    later = now + timedelta(microseconds=1)
    next_day = at_wall(AMSTERDAM, 2026, 5, 6, 14)
    assert send_at(later, zone=AMSTERDAM, best_hour=14, quiet=None) == next_day


def test_the_best_hour_within_quiet_hours_gives_way_to_their_end() -> None:
    now = at_wall(AMSTERDAM, 2026, 5, 5, 9)
    quiet = QuietHours.of("13:00", "15:00")
    at = send_at(now, zone=AMSTERDAM, best_hour=14, quiet=quiet)
    assert at == at_wall(AMSTERDAM, 2026, 5, 5, 15)


def test_quiet_hours_are_quiet_at_their_start_and_no_more_at_their_end() -> None:
    quiet = QuietHours.of("22:00", "07:00")
    start, end = at_wall(AMSTERDAM, 2026, 5, 5, 22), at_wall(AMSTERDAM, 2026, 5, 6, 7)
    moment = timedelta(microseconds=1)
    assert quiet_until(start - moment, AMSTERDAM, quiet) is None
    assert quiet_until(start, AMSTERDAM, quiet) == end
    assert quiet_until(end - moment, AMSTERDAM, quiet) == end
    assert quiet_until(end, AMSTERDAM, quiet) is None


@pytest.mark.parametrize("zone", [None, "", "Mars/Olympus", "localtime", "Factory", "../etc"])
def test_an_unknown_zone_is_utc(zone: str | None) -> None:
    now = datetime(2026, 5, 5, 9, tzinfo=UTC)
    at = send_at(now, zone=zone, best_hour=14, quiet=None)
    assert at == datetime(2026, 5, 5, 14, tzinfo=UTC)


@pytest.mark.parametrize(("start", "end"), [(None, "07:00"), ("22:00", None), ("07:00", "07:00")])
def test_quiet_hours_without_two_ends_are_none(start: str | None, end: str | None) -> None:
    assert QuietHours.of(start, end) is None


@pytest.mark.parametrize("given_time", ["24:00", "7", "", "noon", "07:00+01:00"])
def test_what_is_no_time_of_day_is_refused_by_name(given_time: str) -> None:
    with pytest.raises(ValueError, match=r"quiet hours: end: expected HH:MM.*found"):
        QuietHours.of("22:00", given_time)


def test_an_instant_without_a_zone_is_refused() -> None:
    naive = datetime(2026, 5, 5, 9)  # noqa: DTZ001
    with pytest.raises(ValueError, match="expected an instant with a zone"):
        send_at(naive, zone=AMSTERDAM, best_hour=14, quiet=None)
    with pytest.raises(ValueError, match="expected an instant with a zone"):
        quiet_until(naive, AMSTERDAM, QuietHours.of("08:00", "10:00"))


def test_an_hour_that_no_day_has_is_refused() -> None:
    now = datetime(2026, 5, 5, 9, tzinfo=UTC)
    with pytest.raises(ValueError, match="expected 0 to 23, found 24"):
        send_at(now, zone=AMSTERDAM, best_hour=24, quiet=None)


def test_a_message_is_missed_from_an_hour_late_on() -> None:
    due = datetime(2026, 5, 5, 9, tzinfo=UTC)
    moment = timedelta(microseconds=1)
    assert judge(due, due - moment) == "wait"
    assert judge(due, due) == "send"
    assert judge(due, due + MISSED_AFTER - moment) == "send"
    assert judge(due, due + MISSED_AFTER) == "missed"
