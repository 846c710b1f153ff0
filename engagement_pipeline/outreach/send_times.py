"""When a message goes out: the member's best hour, quiet hours, and how late is too late.

Only clocks belong here. Which hour is a member's best is learned in `behavior.timing`; how many
messages a member may have is told in `caps`.

A time of day may happen twice, once or not at all where clocks are changed. So hours are never
looked up in a calendar: a span is added to an instant, and looked at again where the clock jumped
on the way.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from engagement_pipeline.behavior.local_time import FALLBACK_ZONE, known_zones

Timeliness = Literal["wait", "send", "missed"]
"""Whether a message is not due yet, is to go now, or came too late."""

MISSED_AFTER = timedelta(hours=1)
"""Late by less still goes out now."""

_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A span of the day in which nobody is written to.

    Attributes:
        start: its first moment, by the member's clock.
        end: the first moment after it. Earlier than `start`, it is of the next day; the same: the
            span is empty.
    """

    start: time
    end: time

    @classmethod
    def of(cls, start: str | None, end: str | None) -> Self | None:
        """Quiet hours of two times of day, `HH:MM` or ISO 8601; None where there are none.

        That is where either is missing, or both are the same.

        Raises:
            ValueError: one is no time of day, or tells of a zone.
        """
        if start is None or end is None:
            return None
        first, last = _time_of_day("start", start), _time_of_day("end", end)
        return None if first == last else cls(first, last)

    def holds(self, at: time) -> bool:
        """Whether a time of day lies within."""
        if self.start <= self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


def quiet_until(at: datetime, zone: str | None, quiet: QuietHours | None) -> datetime | None:
    """The end of the quiet hours that an instant lies in; None if it lies in none.

    That is the first instant from then on at which the member's clock shows none of them, be it
    that it was put forward past their end or that it runs through their end twice.

    Args:
        at: the instant, with a zone.
        zone: the member's time zone; a missing or unknown one is UTC.
        quiet: the member's quiet hours; None: none.

    Returns:
        The end, in UTC.

    Raises:
        ValueError: `at` has no zone.
    """
    if quiet is None:
        return None
    clock = _clock(zone)
    began = moment = _in_utc(at)
    local = moment.astimezone(clock)
    end_us = _since_midnight_us(quiet.end)
    while quiet.holds(local.time()):
        end = moment + timedelta(microseconds=(end_us - _since_midnight_us(local)) % _DAY_US)
        if end.astimezone(clock).time() == quiet.end:
            return end
        # The clock was changed before the end came.
        moment = _change_between(moment, end, clock)
        local = moment.astimezone(clock)
    return None if moment == began else moment


def send_at(
    now: datetime, *, zone: str | None, best_hour: int, quiet: QuietHours | None
) -> datetime:
    """When a message that is ready now goes out.

    Now, if this is the member's best hour, else when that next begins; and at the end of quiet
    hours if that lies within. On a day that has no such hour, it is when the clock jumps over it.

    Args:
        now: the earliest moment, with a zone.
        zone: the member's time zone; a missing or unknown one is UTC.
        best_hour: the hour of the member's day, 0 to 23.
        quiet: the member's quiet hours; None: none.

    Returns:
        The moment, in UTC.

    Raises:
        ValueError: `now` has no zone, or there is no such hour.
    """
    if not 0 <= best_hour <= 23:
        raise ValueError(f"best_hour: expected 0 to 23, found {best_hour}")
    at = _next_hour(_in_utc(now), best_hour, _clock(zone))
    return quiet_until(at, zone, quiet) or at


def judge(send_at: datetime, now: datetime) -> Timeliness:
    """Whether a message waits, goes now, or is late by `MISSED_AFTER` or more."""
    if now < send_at:
        return "wait"
    return "send" if now - send_at < MISSED_AFTER else "missed"


def _next_hour(moment: datetime, hour: int, clock: ZoneInfo) -> datetime:
    """The first instant from then on at which the clock shows that hour, or jumps over it."""
    local = moment.astimezone(clock)
    while local.hour != hour:
        left_us = (hour * _HOUR_US - _since_midnight_us(local)) % _DAY_US
        begins = moment + timedelta(microseconds=left_us)
        shown = begins.astimezone(clock)
        if shown.hour == hour and shown.minute == 0:
            return begins
        change = _change_between(moment, begins, clock)
        shown = change.astimezone(clock)
        to_go = begins - change
        if timedelta(0) <= to_go < _offset(shown) - _offset(local):
            return change
        moment, local = change, shown
    return moment


def _change_between(before: datetime, after: datetime, clock: ZoneInfo) -> datetime:
    """The instant at which the clock was changed, when it shows two offsets at these two.

    By bisection: `zoneinfo` does not tell its changes. It happens on two days of a year.
    """
    low, high = 0, (after - before) // timedelta(microseconds=1)
    offset = _offset(before.astimezone(clock))
    while high - low > 1:
        middle = (low + high) // 2
        at = (before + timedelta(microseconds=middle)).astimezone(clock)
        low, high = (middle, high) if _offset(at) == offset else (low, middle)
    return before + timedelta(microseconds=high)


def _offset(local: datetime) -> timedelta:
    offset = local.utcoffset()
    assert offset is not None
    return offset


def _in_utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"expected an instant with a zone, found {at}")
    return at if at.tzinfo is UTC else at.astimezone(UTC)


def _since_midnight_us(at: datetime | time) -> int:
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000_000 + at.microsecond


def _time_of_day(name: str, given: str) -> time:
    try:
        found = time.fromisoformat(given)
    except ValueError:
        raise ValueError(f"quiet hours: {name}: expected HH:MM, found {given!r}") from None
    if found.tzinfo is not None:
        raise ValueError(f"quiet hours: {name}: expected HH:MM without a zone, found {given!r}")
    return found


@lru_cache(maxsize=4_096)
def _clock(zone: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(known_zones(pl.Series([zone], dtype=pl.String))[0])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # Polars has a time zone database of its own; it may know more than the machine's.
        return ZoneInfo(FALLBACK_ZONE)
