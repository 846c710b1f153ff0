"""What people tell about themselves: `profiles` and `profile_updates`.

Only the rows of those two tables. Names come with the person from `members`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from engagement_pipeline.sample.dice import Dice
from engagement_pipeline.sample.layout import Row
from engagement_pipeline.sample.members import Member, Person

SECTIONS: dict[str, float] = {"photo": 0.3, "bio": 0.25, "skills": 0.25, "work_history": 0.2}

_NO_PROFILE_SHARE = 0.01
_NO_ZONE_SHARE = 0.06
_NO_NAME_SHARE = 0.02
_MEAN_GAP_DAYS = 240.0
_FIRST_SESSION_DAYS = 3


def profile_rows(
    people: Sequence[Person],
    members: Sequence[Member],
    last_active: Mapping[str, datetime],
    dice: Dice,
) -> list[Row]:
    """Rows of `profiles`; a few people have none, some show no name or no zone.

    `last_active` maps a user to the last thing they did; who never did anything is not in it.
    """
    first_joined: dict[str, datetime] = {}
    for member in members:
        known = first_joined.get(member.user_id, member.joined_at)
        first_joined[member.user_id] = min(known, member.joined_at)
    return [
        {
            "user_id": person.user_id,
            "display_name": None if dice.chance(_NO_NAME_SHARE) else person.display_name,
            "timezone": None if dice.chance(_NO_ZONE_SHARE) else person.timezone,
            "last_active_at": last_active.get(person.user_id),
            "created_at": first_joined[person.user_id] - dice.minutes(1, 3_000),
        }
        for person in people
        if not dice.chance(_NO_PROFILE_SHARE)
    ]


def profile_update_rows(members: Sequence[Member], as_of: datetime, dice: Dice) -> list[Row]:
    """Rows of `profile_updates`: some at joining, then now and then while warm.

    Who was never activated may still have put up a photo on the first day.
    """
    updates: dict[tuple[str, str, datetime], None] = {}
    for member in members:
        for section in SECTIONS:
            at = member.joined_at + dice.minutes(1, 60 * 24 * _FIRST_SESSION_DAYS)
            is_likely = section == "photo" or member.persona != "never"
            if is_likely and dice.chance(0.4):
                updates[(member.user_id, section, at)] = None
        at = member.joined_at + timedelta(days=dice.waiting(_MEAN_GAP_DAYS))
        while at < as_of:
            if dice.chance(member.warmth(at)):
                moment = at.replace(microsecond=0)
                updates[(member.user_id, dice.weighted(SECTIONS), moment)] = None
            at += timedelta(days=dice.waiting(_MEAN_GAP_DAYS))
    return [
        {"user_id": user_id, "section": section, "updated_at": at}
        for user_id, section, at in sorted(updates, key=lambda update: (update[2], *update[:2]))
        if at <= as_of
    ]
