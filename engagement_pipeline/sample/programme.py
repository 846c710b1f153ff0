"""The events of each organisation: evenings in local time, with lulls, a pause and a gala.

When something is put on belongs here. Who comes is decided in `turnout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from engagement_pipeline.sample.catalogue import EventSeries, Organisation
from engagement_pipeline.sample.dice import Dice, Mint
from engagement_pipeline.sample.layout import Row
from engagement_pipeline.sample.members import HISTORY_DAYS

AHEAD_DAYS = 35
"""How far after `as_of` the programme is already announced."""

_LULL_SKIP_SHARE = 0.4
_LULL_DRAW = 0.7
_GALA_DRAW = 2.2
_SATURDAY = 5
_CHRISTMAS = ((12, 21), (1, 5))


@dataclass(frozen=True, slots=True)
class Event:
    """One evening. `series` is the position in the organisation's list, None for the gala;
    `draw` scales how many come (1 = a usual evening)."""

    event_id: str
    org_id: str
    title: str
    venue: str
    series: int | None
    starts_at: datetime
    ends_at: datetime
    draw: float


def programme(org: Organisation, as_of: datetime, dice: Dice, mint: Mint) -> list[Event]:
    """Events from two years before `as_of` to a few weeks after it, by starting time."""
    first = (as_of - timedelta(days=HISTORY_DAYS)).date()
    last = (as_of + timedelta(days=AHEAD_DAYS)).date()
    events = [_gala_event(org, year, dice, mint) for year in range(first.year, last.year + 1)]
    for index, series in enumerate(org.series):
        events.extend(
            _series_event(org, index, day, dice, mint)
            for day in _series_days(org, series, first, last, dice)
        )
    begin, end = as_of - timedelta(days=HISTORY_DAYS), as_of + timedelta(days=AHEAD_DAYS)
    within = [event for event in events if begin <= event.starts_at <= end]
    return sorted(within, key=lambda event: (event.starts_at, event.event_id))


def event_rows(events: Sequence[Event], dice: Dice) -> list[Row]:
    """Rows of `events`, with a `venue` that the input table does not know."""
    return [
        {
            "event_id": event.event_id,
            "org_id": event.org_id,
            "title": None if dice.chance(0.01) else event.title,
            "starts_at": event.starts_at,
            "ends_at": None if dice.chance(0.05) else event.ends_at,
            "venue": event.venue,
        }
        for event in events
    ]


def _series_days(
    org: Organisation, series: EventSeries, first: date, last: date, dice: Dice
) -> list[date]:
    """Local days on which a series takes place."""
    days = []
    for ordinal in range(first.toordinal(), last.toordinal() + 1):
        day = date.fromordinal(ordinal)
        is_on = day.weekday() == series.weekday and (ordinal // 7) % series.every_weeks == 0
        if not is_on or is_christmas_pause(day):
            continue
        is_skipped = day.month in org.lull_months and dice.chance(_LULL_SKIP_SHARE)
        if not is_skipped:
            days.append(day)
    return days


def is_christmas_pause(day: date) -> bool:
    """Whether nothing but the gala is put on that day, in any organisation."""
    begin, end = _CHRISTMAS
    return (day.month, day.day) >= begin or (day.month, day.day) <= end


def _series_event(org: Organisation, index: int, day: date, dice: Dice, mint: Mint) -> Event:
    series = org.series[index]
    topic = f": {dice.pick(series.topics)}" if series.topics else ""
    starts_at = local_instant(day, time(series.hour, series.minute), org.timezone)
    season = _LULL_DRAW if day.month in org.lull_months else 1.0
    return Event(
        event_id=mint.issue(),
        org_id=org.org_id,
        title=series.title + topic,
        venue=series.venue,
        series=index,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(minutes=series.length_minutes),
        draw=season * dice.between(0.7, 1.3),
    )


def _gala_event(org: Organisation, year: int, dice: Dice, mint: Mint) -> Event:
    month_begin = date(year, org.gala.month, 1)
    first_saturday = month_begin + timedelta(days=(_SATURDAY - month_begin.weekday()) % 7)
    starts_at = local_instant(first_saturday + timedelta(days=7), time(19, 0), org.timezone)
    return Event(
        event_id=mint.issue(),
        org_id=org.org_id,
        title=f"{org.gala.title} {year}",
        venue=org.gala.venue,
        series=None,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(hours=4),
        draw=_GALA_DRAW * dice.between(0.9, 1.1),
    )


def local_instant(day: date, at: time, zone: str) -> datetime:
    """The UTC instant of a wall-clock time on a day in an IANA zone."""
    return datetime.combine(day, at, tzinfo=ZoneInfo(zone)).astimezone(UTC)
