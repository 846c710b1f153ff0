"""Who belongs to which organisation, since when, and how warm they are to it over time.

People and memberships live here, with the habits the other modules act out. What they do
(come, read, write) belongs to `turnout`, `notices` and `conversations`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from engagement_pipeline.sample.catalogue import ORGANISATIONS, Organisation
from engagement_pipeline.sample.dice import Dice, Mint
from engagement_pipeline.sample.layout import Row
from engagement_pipeline.sample.names import CULTURES

HISTORY_DAYS = 730
"""How far before `as_of` the recorded life of the communities begins."""

Persona = Literal[
    "devoted", "regular", "occasional", "drifter", "returner", "never", "leaver", "newcomer"
]

PERSONA_SHARES: dict[Persona, float] = {
    "devoted": 0.07,
    "regular": 0.22,
    "occasional": 0.19,
    "drifter": 0.20,
    "returner": 0.07,
    "never": 0.11,
    "leaver": 0.06,
    "newcomer": 0.08,
}
ATTENDED_PER_30D: dict[Persona, tuple[float, float]] = {
    "devoted": (3.5, 6.5),
    "regular": (0.9, 2.2),
    "occasional": (0.2, 0.6),
    "drifter": (0.7, 2.0),
    "returner": (0.8, 2.2),
    "never": (0.0, 0.0),
    "leaver": (0.6, 1.6),
    "newcomer": (0.0, 3.0),
}
_BORROWED_SHARE = 0.06
_LOCAL_CULTURE_SHARE = 0.75
_ESTABLISHED_SHARE = 0.42
_COOLING_DAYS = 10.0
_COLD_AFTER_DAYS = 35.0
_NEW_WITHIN_DAYS = 58.0


@dataclass(frozen=True, slots=True)
class Member:
    """One person in one organisation, with the habits that the rest of the sample acts out.

    `attended_per_30d` is the usual number of attended events in 30 days; a lapse is a span of
    absence, open-ended for someone who drifted away. `reads` and `writes` scale notification
    reads and conversations; `keeps_reading` marks who still reads while away.
    """

    org: Organisation
    user_id: str
    persona: Persona
    is_admin: bool
    joined_at: datetime
    left_at: datetime | None
    attended_per_30d: float
    lapse_start: datetime | None
    lapse_end: datetime | None
    favourite_series: int
    reads: float
    writes: float
    keeps_reading: bool

    def belongs(self, at: datetime) -> bool:
        """Whether the membership holds at an instant."""
        return self.joined_at <= at and (self.left_at is None or at < self.left_at)

    def warmth(self, at: datetime) -> float:
        """How much of the usual habit is alive at an instant, in [0, 1]."""
        if self.persona == "never" or not self.belongs(at):
            return 0.0
        if self.lapse_start is None or at < self.lapse_start:
            return 1.0
        if self.lapse_end is not None and at >= self.lapse_end:
            return 1.0
        away_days = (at - self.lapse_start).total_seconds() / 86_400
        return math.exp(-away_days / _COOLING_DAYS) if away_days < _COLD_AFTER_DAYS else 0.0


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the platform: an id, a name to show, and the zone they live in."""

    user_id: str
    display_name: str
    timezone: str


def communities(as_of: datetime, dice: Dice, mint: Mint) -> tuple[list[Person], list[Member]]:
    """All people and their memberships, organisation by organisation.

    A few members of an organisation come from the ones before it, so that some people are in two.
    Each (org, user) occurs once.
    """
    people: list[Person] = []
    members: list[Member] = []
    for org in ORGANISATIONS:
        draw = dice.about(org.org_id)
        borrowed = draw.sample(people, int(org.size * _BORROWED_SHARE))
        fresh = [_person(org, draw, mint) for _ in range(org.size - len(borrowed))]
        # Admins come first and are never borrowed: they have been there from the beginning.
        for index, person in enumerate([*fresh, *borrowed]):
            members.append(_member(org, person, as_of, draw, is_admin=index < org.admins))
        people.extend(fresh)
    return people, members


def membership_rows(members: Sequence[Member], dice: Dice) -> list[Row]:
    """Rows of `memberships`; the role is left out for some plain members (it has a default)."""
    return [
        {
            "org_id": member.org.org_id,
            "user_id": member.user_id,
            "role": "admin" if member.is_admin else None if dice.chance(0.1) else "member",
            "joined_at": member.joined_at,
            "left_at": member.left_at,
        }
        for member in members
    ]


def _person(org: Organisation, dice: Dice, mint: Mint) -> Person:
    is_local = dice.chance(_LOCAL_CULTURE_SHARE)
    culture = CULTURES[dice.pick(org.cultures) if is_local else dice.pick(list(CULTURES))]
    name = culture.full_name(dice.pick(culture.given), dice.pick(culture.family))
    lives_near = dice.chance(0.88)
    zone = org.timezone if lives_near else dice.pick(ORGANISATIONS).timezone
    return Person(mint.issue(), name, zone)


def _member(
    org: Organisation, person: Person, as_of: datetime, dice: Dice, *, is_admin: bool
) -> Member:
    persona: Persona = "regular" if is_admin else dice.weighted(PERSONA_SHARES)
    joined_at = _joined(org, persona, as_of, dice, is_admin=is_admin)
    lapse_start, lapse_end = _lapse(persona, joined_at, as_of, dice)
    low, high = ATTENDED_PER_30D[persona]
    return Member(
        org=org,
        user_id=person.user_id,
        persona=persona,
        is_admin=is_admin,
        joined_at=joined_at,
        left_at=_left(persona, joined_at, as_of, dice),
        attended_per_30d=dice.between(low, high) * org.pace,
        lapse_start=lapse_start,
        lapse_end=lapse_end,
        favourite_series=dice.whole(0, len(org.series) - 1),
        reads=dice.between(0.2, 1.3),
        writes=dice.waiting(1.0) if dice.chance(0.5) else 0.0,
        keeps_reading=dice.chance(0.25),
    )


def _joined(
    org: Organisation, persona: Persona, as_of: datetime, dice: Dice, *, is_admin: bool
) -> datetime:
    founded_at = founding(org, as_of)
    if is_admin:
        return dice.moment(founded_at, founded_at + timedelta(days=30))
    if persona == "newcomer":
        return dice.moment(as_of - timedelta(days=_NEW_WITHIN_DAYS), as_of - timedelta(hours=6))
    if persona == "never" and dice.chance(0.5):
        return dice.moment(as_of - timedelta(days=175), as_of - timedelta(days=95))
    if dice.chance(_ESTABLISHED_SHARE):
        return dice.moment(founded_at, as_of - timedelta(days=HISTORY_DAYS))
    earliest_days = 200 if persona in {"drifter", "returner", "leaver"} else 65
    return dice.moment(as_of - timedelta(days=HISTORY_DAYS), as_of - timedelta(days=earliest_days))


def founding(org: Organisation, as_of: datetime) -> datetime:
    """When the organisation came to the platform."""
    return (as_of - timedelta(days=org.age_days)).replace(minute=0, second=0, microsecond=0)


def _left(persona: Persona, joined_at: datetime, as_of: datetime, dice: Dice) -> datetime | None:
    if persona != "leaver":
        return None
    earliest = max(joined_at + timedelta(days=60), as_of - timedelta(days=HISTORY_DAYS - 60))
    return dice.moment(earliest, as_of - timedelta(days=3))


def _lapse(
    persona: Persona, joined_at: datetime, as_of: datetime, dice: Dice
) -> tuple[datetime | None, datetime | None]:
    """When someone stopped coming, and when they came back (None: not, or not yet)."""
    if persona == "drifter":
        start = as_of - dice.days(40, 420)
        return max(start, joined_at + timedelta(days=45)), None
    if persona == "returner":
        start = as_of - dice.days(190, 330)
        return max(start, joined_at + timedelta(days=30)), as_of - dice.days(15, 85)
    return None, None
