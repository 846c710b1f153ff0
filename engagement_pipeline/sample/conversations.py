"""What members say in their organisation's chat: `interactions`.

When, how much and in which mood people write lives here; the words themselves are in `phrases`.
Someone who is about to drift away sounds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta

from engagement_pipeline.sample.catalogue import Organisation
from engagement_pipeline.sample.dice import Dice, Mint
from engagement_pipeline.sample.layout import Row
from engagement_pipeline.sample.members import Member
from engagement_pipeline.sample.phrases import (
    CALLBACKS,
    COMMANDS,
    DOCUMENTS,
    EMOJI,
    INLINE_QUERIES,
    MESSAGES,
)
from engagement_pipeline.sample.programme import local_instant

KEPT_DAYS = 365
"""How far back conversations are kept."""

SESSIONS_PER_30D = 0.9
TYPES: dict[str, float] = {
    "message": 0.62,
    "command": 0.12,
    "reaction": 0.10,
    "callback": 0.05,
    "voice": 0.04,
    "sticker": 0.03,
    "document": 0.02,
    "inline_query": 0.02,
}
HAPPY_MOODS: dict[str, float] = {
    "plain": 0.45,
    "question": 0.17,
    "excitement": 0.14,
    "gratitude": 0.14,
    "confusion": 0.06,
    "frustration": 0.04,
}
SOUR_MOODS: dict[str, float] = {
    "plain": 0.38,
    "question": 0.15,
    "gratitude": 0.04,
    "confusion": 0.13,
    "frustration": 0.30,
}
_HOURS: dict[int, float] = {
    **dict.fromkeys(range(7, 12), 1.0),
    **dict.fromkeys(range(12, 17), 1.5),
    **dict.fromkeys(range(17, 23), 4.0),
    23: 0.5,
    0: 0.3,
}
_SOUR_DAYS = 45
_REPLY_SHARE = 0.4


def interaction_rows(
    org: Organisation, members: Sequence[Member], as_of: datetime, dice: Dice, mint: Mint
) -> list[Row]:
    """Rows of `interactions` of one organisation, oldest first."""
    titles = [series.title for series in org.series] + [org.gala.title]
    rows: list[Row] = []
    for member in members:
        for at in _moments(member, as_of, dice):
            rows.append(_interaction(member, titles, at, dice, mint))
    return sorted(rows, key=lambda row: (str(row["sent_at"]), str(row["interaction_id"])))


def _moments(member: Member, as_of: datetime, dice: Dice) -> list[datetime]:
    """Instants at which a member writes: sessions on warm days, a few lines in each."""
    moments: list[datetime] = []
    since = max(member.joined_at, as_of - timedelta(days=KEPT_DAYS))
    if member.writes == 0.0:
        return moments
    mean_gap_days = 30.0 / (SESSIONS_PER_30D * member.writes)
    at = since + timedelta(days=dice.waiting(mean_gap_days))
    while at < as_of:
        if dice.chance(member.warmth(at)):
            moments.extend(_session(member, at, as_of, dice))
        at += timedelta(days=dice.waiting(mean_gap_days))
    return moments


def _session(member: Member, day: datetime, as_of: datetime, dice: Dice) -> list[datetime]:
    """A few lines within minutes of each other, mostly in the evening of the local day."""
    hour, minute = dice.weighted(_HOURS), dice.whole(0, 59)
    at = local_instant(day.date(), time(hour, minute, dice.whole(0, 59)), member.org.timezone)
    moments = []
    for _ in range(1 + min(6, int(dice.waiting(1.6)))):
        if member.belongs(at) and at <= as_of:
            moments.append(at)
        at += dice.minutes(0.1, 8)
    return moments


def _interaction(
    member: Member, titles: Sequence[str], at: datetime, dice: Dice, mint: Mint
) -> Row:
    kind = dice.weighted(TYPES)
    is_reply = kind in {"message", "voice"} and dice.chance(_REPLY_SHARE)
    return {
        "interaction_id": mint.issue(),
        "org_id": member.org.org_id,
        "user_id": member.user_id,
        "type": kind,
        "text": _text(kind, member, titles, at, dice),
        "sent_at": at,
        "response_time_seconds": round(1.0 + dice.waiting(70.0), 1) if is_reply else None,
    }


def _text(kind: str, member: Member, titles: Sequence[str], at: datetime, dice: Dice) -> str | None:
    if kind == "message":
        lapse = member.lapse_start
        is_sour = lapse is not None and abs((lapse - at).days) < _SOUR_DAYS
        mood = dice.weighted(SOUR_MOODS if is_sour else HAPPY_MOODS)
        return dice.pick(MESSAGES[mood]).format(event=dice.pick(titles))
    options = {
        "command": COMMANDS,
        "callback": CALLBACKS,
        "inline_query": INLINE_QUERIES,
        "document": DOCUMENTS,
        "reaction": EMOJI,
    }
    return dice.pick(options[kind]) if kind in options else None
