"""Members of two communities as a simulation has them: what each does, and what outreach changes.

Seeded, and known through and through: how likely each template is to be answered, at which hour,
and how many come back because of a message. What the pipeline makes of them is in
`benchmarks.outreach_year`.

Members come back of themselves with a chance of their own each day, so that what would have
happened without outreach is known of every one. A message does two things. To those who would come
back within a week anyway it brings forward when: as likely as the template and the hour have it.
Of the others `UPLIFT` of all who are written to come back because of it, whatever the template.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

START = datetime(2026, 1, 1, 4, tzinfo=UTC)
DAY = timedelta(days=1)
HORIZON_DAYS = 7
UPLIFT = 0.03
ORGS = ("choir", "garden")
ZONES = (
    "Europe/Amsterdam",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
)
NEVER = -1

_QUIET = (("22:00", "07:00"), ("13:00", "15:00"), ("00:00", "09:30"))
_NAMES = ("Robin", "Zoë", "Mehmet", "Ana María", "Li", None, "https://example.org", "{name}")

Instants = npt.NDArray[np.int64]
Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class People:
    """What is true of each member, by place.

    Attributes:
        pairs: organisation and id.
        names: what they are called; some in ways that cannot be shown.
        zones: time zones.
        created: when the accounts were made; some in the course of the year.
        chance: chance to do something on a day.
        peak: the hour that each is mostly there at, by the own clock.
        natural: members x days: when each does something of itself, in seconds after `START`, in
            the 24 hours after that day's cycle; `NEVER` where not.
        last_before: when each last did something before it all begins.
        opted_out: spans in which members want no messages, start included.
        erased_at: when a member asks to be forgotten; None: never.
        quiet: quiet hours of the first half of the time, and of the second.
        changes_at: when the halves meet.
    """

    pairs: Sequence[tuple[str, str]]
    names: Sequence[str | None]
    zones: Sequence[str]
    created: Sequence[datetime]
    chance: npt.NDArray[np.float64]
    peak: npt.NDArray[np.int64]
    natural: Instants
    last_before: Sequence[datetime]
    opted_out: Sequence[Sequence[Span]]
    erased_at: Sequence[datetime | None]
    quiet: Sequence[tuple[tuple[str, str] | None, tuple[str, str] | None]]
    changes_at: datetime

    def is_opted_out(self, member: int, at: datetime) -> bool:
        """Whether a member wants no messages at a moment."""
        return any(start <= at < end for start, end in self.opted_out[member])

    def is_erased(self, member: int, at: datetime) -> bool:
        """Whether a member has asked to be forgotten by a moment."""
        erased_at = self.erased_at[member]
        return erased_at is not None and erased_at <= at

    def quiet_hours(self, member: int, at: datetime) -> tuple[str, str] | None:
        """The quiet hours that a member has set by a moment, `HH:MM` each."""
        return self.quiet[member][at >= self.changes_at]

    def comes_of_itself(self, member: int, day: int, days: int) -> bool:
        """Whether a member does something within so many days after a day's cycle."""
        return bool((self.natural[member, day : day + days] != NEVER).any())

    def added_chance(self, member: int) -> float:
        """How likely a message brings back who would not come: so that it is `UPLIFT` of all."""
        return UPLIFT / float((1 - self.chance[member]) ** HORIZON_DAYS)


def people(members: int, days: int, seed: int) -> People:
    """So many members over so many days; the same of the same seed."""
    chance, draw = np.random.default_rng(seed), random.Random(seed)
    zones = [draw.choice(ZONES) for _ in range(members)]
    created = [START - timedelta(hours=draw.uniform(24, 9_000)) for _ in range(members)]
    for late in range(0, members, 7):
        created[late] = START + timedelta(hours=draw.uniform(0, 24 * days))
    daily = np.clip(chance.beta(1, 7, members), 0.01, 0.35)
    peak = chance.integers(7, 23, members)
    natural = _natural(daily, peak, zones, created, days + HORIZON_DAYS + 1, chance)
    before = [
        max(made, START - timedelta(days=draw.expovariate(often)))
        for made, often in zip(created, daily.tolist(), strict=True)
    ]
    quiet = [draw.choice(_QUIET) if draw.random() < 0.4 else None for _ in range(members)]
    return People(
        pairs=[(ORGS[n % 2], f"u{n:05}") for n in range(members)],
        names=[draw.choice(_NAMES) for _ in range(members)],
        zones=zones,
        created=created,
        chance=daily,
        peak=peak,
        natural=natural,
        last_before=before,
        opted_out=[_spans(draw, days) for _ in range(members)],
        erased_at=[
            START + days * DAY * draw.random() if draw.random() < 0.01 else None
            for _ in range(members)
        ],
        quiet=[(hours, draw.choice(_QUIET) if draw.random() < 0.1 else hours) for hours in quiet],
        changes_at=START + days * DAY / 2,
    )


def response_rate(template_id: str, hours_off: int) -> float:
    """How likely who would come back anyway responds to a message within 24 hours.

    Args:
        template_id: the template, each of which has its own rate.
        hours_off: how far from the member's own hour it comes, in hours of the clock.
    """
    return template_rate(template_id) * (1 - hours_off / 24)


def template_rate(template_id: str) -> float:
    """The same at the member's own hour: from 0.2 to 0.8."""
    return random.Random(template_id).uniform(0.2, 0.8)


def hours_apart(one: int, other: int) -> int:
    """How far two hours of the day are apart, 0 to 12."""
    apart = abs(one - other) % 24
    return min(apart, 24 - apart)


def local_hour(zone: str, at: datetime) -> int:
    """What a clock in a zone shows."""
    return at.astimezone(ZoneInfo(zone)).hour


def _natural(
    daily: npt.NDArray[np.float64],
    peak: npt.NDArray[np.int64],
    zones: Sequence[str],
    created: Sequence[datetime],
    days: int,
    chance: np.random.Generator,
) -> Instants:
    """Who comes on which day, and when: mostly at about the own hour."""
    members = len(zones)
    comes = chance.random((members, days)) < daily[:, None]
    near = peak[:, None] + chance.integers(-1, 2, (members, days))
    anywhen = chance.integers(8, 24, (members, days))
    wanted = np.where(chance.random((members, days)) < 0.6, near, anywhen) % 24
    # Of each day's 24 hours, which begin with the cycle, the one that the clock shows this in.
    clocks = {zone: _clock(zone, days) for zone in set(zones)}
    hour = np.empty((members, days), dtype=np.int64)
    for zone, clock in clocks.items():
        rows = np.array([place for place, name in enumerate(zones) if name == zone])
        hour[rows] = (clock[None] == wanted[rows][:, :, None]).argmax(axis=2)
    at = (np.arange(days) * 24 + hour) * 3_600 + chance.integers(1, 900, (members, days))
    made = np.array([(moment - START).total_seconds() for moment in created])
    return np.where(comes & (at > made[:, None]), at, NEVER)


def _clock(zone: str, days: int) -> npt.NDArray[np.int64]:
    """Days x 24: the hour that the clock shows in each hour after a day's cycle."""
    clock = ZoneInfo(zone)
    hours = (START + timedelta(hours=n) for n in range(days * 24))
    return np.array([at.astimezone(clock).hour for at in hours]).reshape(days, 24)


def _spans(draw: random.Random, days: int) -> list[Span]:
    """Spans of wanting no messages, of three weeks on average; most members have none."""
    spans, at = [], START + timedelta(days=draw.expovariate(1 / 400))
    while at < START + days * DAY:
        end = at + timedelta(days=draw.expovariate(1 / 20))
        spans.append((at, end))
        at = end + timedelta(days=draw.expovariate(1 / 100))
    return spans
