"""Who signs up, who comes, and who only looks: `attendance` and `event_views`.

How warm a member is comes from `members`, when something is on from `programme`. Everything here
was known by `as_of`: an evening whose list has not been closed yet is still only registered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from engagement_pipeline.sample.catalogue import Organisation
from engagement_pipeline.sample.dice import Dice, Mint
from engagement_pipeline.sample.layout import Row
from engagement_pipeline.sample.members import Member
from engagement_pipeline.sample.phrases import STATUS_SPELLINGS
from engagement_pipeline.sample.programme import Event

OUTCOMES: dict[str, float] = {
    "attended": 0.76,
    "partial": 0.04,
    "no_show": 0.08,
    "cancelled": 0.07,
    "waitlisted": 0.03,
    "registered": 0.02,
}
"""How sign-ups for past evenings end, as shares."""

_ATTENDED_SHARE = OUTCOMES["attended"] + OUTCOMES["partial"]
_MOST_LIKELY = 0.92
_FAVOURITE_WEIGHT = 1.5
_OTHER_WEIGHT = 0.8
_SPELLED_OTHERWISE_SHARE = 0.12
_WALK_IN_SHARE = 0.08
_GUEST_SHARE = 0.05
_LONGEST_LEAD_DAYS = 21.0
_BROWSE_AHEAD = 4


class SignUp(NamedTuple):
    """One person and one event, as it stood at `as_of`; the columns of `attendance`."""

    org_id: str
    event_id: str
    user_id: str
    status: str
    created_at: datetime
    responded_at: datetime | None

    def row(self) -> Row:
        """The row of `attendance`."""
        return dict(self._asdict())


def sign_ups(
    org: Organisation,
    members: Sequence[Member],
    events: Sequence[Event],
    as_of: datetime,
    dice: Dice,
) -> list[SignUp]:
    """What the members of one organisation signed up for: each (event, member) at most once."""
    found: list[SignUp] = []
    for event in events:
        usual = event.draw / org.events_per_30d / _ATTENDED_SHARE
        for member in members:
            warmth = member.warmth(event.starts_at)
            if warmth == 0.0:
                continue
            weight = _FAVOURITE_WEIGHT if event.series == member.favourite_series else _OTHER_WEIGHT
            likely = member.attended_per_30d * warmth * weight * usual
            if dice.chance(min(_MOST_LIKELY, likely)):
                sign_up = _sign_up(event, member, as_of, dice)
                if sign_up is not None:
                    found.append(sign_up)
    return found


def guests(events: Sequence[Event], as_of: datetime, dice: Dice, mint: Mint) -> list[SignUp]:
    """Attendance of people who are nobody's members: they count for an event, and stay guests."""
    found: list[SignUp] = []
    for event in events:
        if event.ends_at > as_of or not dice.chance(_GUEST_SHARE):
            continue
        at = event.starts_at + dice.minutes(-10, 20)
        found.append(SignUp(event.org_id, event.event_id, mint.issue(), "attended", at, None))
    return found


def view_rows(
    signed_up: Sequence[SignUp], events: Sequence[Event], as_of: datetime, dice: Dice
) -> list[Row]:
    """Rows of `event_views` of one organisation: a look before signing up, a look again, a look
    at something else on the programme. Each (event, user, instant) at most once."""
    position = {event.event_id: index for index, event in enumerate(events)}
    rows: dict[tuple[str, str, datetime], Row] = {}

    def look(event: Event, user_id: str, at: datetime) -> None:
        if at <= as_of:
            rows[(event.event_id, user_id, at)] = {
                "org_id": event.org_id,
                "event_id": event.event_id,
                "user_id": user_id,
                "viewed_at": at,
            }

    for sign_up in signed_up:
        index, user_id, created_at = position[sign_up.event_id], sign_up.user_id, sign_up.created_at
        if dice.chance(0.38):
            look(events[index], user_id, created_at - dice.minutes(0.2, 5))
        if dice.chance(0.1):
            look(events[index], user_id, dice.moment(created_at, events[index].starts_at))
        if dice.chance(0.1):
            other = events[min(len(events) - 1, index + dice.whole(1, _BROWSE_AHEAD))]
            look(other, user_id, created_at + dice.minutes(0.2, 9))
    return list(rows.values())


def _sign_up(event: Event, member: Member, as_of: datetime, dice: Dice) -> SignUp | None:
    """One sign-up as it stood at `as_of`, or None if it had not been made by then."""
    if event.starts_at <= as_of - timedelta(hours=1) and dice.chance(_WALK_IN_SHARE):
        at = max(member.joined_at, event.starts_at + dice.minutes(-15, 40))
        status = _spelled("attended", dice)
        return SignUp(event.org_id, event.event_id, member.user_id, status, at, None)
    created_at = _signed_up_at(event, member, dice)
    if created_at > as_of:
        return None
    status, responded_at = _outcome(event, created_at, as_of, dice)
    status = _spelled(status, dice)
    return SignUp(event.org_id, event.event_id, member.user_id, status, created_at, responded_at)


def _signed_up_at(event: Event, member: Member, dice: Dice) -> datetime:
    lead_days = min(dice.waiting(4.0), _LONGEST_LEAD_DAYS)
    created_at = event.starts_at - timedelta(seconds=int(lead_days * 86_400)) - dice.minutes(5, 90)
    if created_at <= member.joined_at:
        return dice.moment(member.joined_at, event.starts_at)
    return created_at


def _outcome(
    event: Event, created_at: datetime, as_of: datetime, dice: Dice
) -> tuple[str, datetime | None]:
    """The status and when it was answered, as far as either was known by `as_of`."""
    status = dice.weighted(OUTCOMES)
    if status in {"cancelled", "waitlisted"}:
        at = dice.moment(created_at, event.starts_at)
        if status == "waitlisted":
            at = created_at + timedelta(seconds=dice.whole(1, 90))
        return (status, at) if created_at < at <= as_of else ("registered", None)
    if status == "registered":
        return status, None
    is_closed_at_once = dice.chance(0.8)
    closed_at = event.ends_at + (dice.minutes(2, 90) if is_closed_at_once else dice.days(0.3, 1.2))
    return (status, closed_at) if closed_at <= as_of else ("registered", None)


def _spelled(status: str, dice: Dice) -> str:
    if dice.chance(_SPELLED_OTHERWISE_SHARE):
        return dice.pick(STATUS_SPELLINGS[status])
    return status
