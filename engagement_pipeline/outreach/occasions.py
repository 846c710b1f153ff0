"""What a message is about, told so that the same is never said twice, and the ids made of it.

Here belong the texts of occasions and the ids of messages and cycles. Which occasions a member has
belongs to `candidates`.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import polars as pl

ABSENCE_STEPS = tuple(timedelta(days=days) for days in (5, 7, 14, 30))
"""After how long an absence a member is called, again and again: each step is an occasion."""

WELCOME = "welcome"
"""The occasion of a first message to a new member."""

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


def message_id(org_id: str, user_id: str, outreach_type: str, occasion: str, tries: int) -> str:
    """The id of a message: sha256, in hex, of all these as compact JSON in ASCII.

    Args:
        org_id: the organisation.
        user_id: the member.
        outreach_type: what the message is for.
        occasion: what it is about.
        tries: how many messages for the same were cancelled before, so that another may be made.
    """
    told = _ENCODE([org_id, user_id, outreach_type, occasion, tries])
    return hashlib.sha256(told.encode()).hexdigest()


def cycle_id(engine: str, as_of: datetime) -> str:
    """The id of a cycle: who plans, and the moment planned for, `<engine>:<moment in UTC>`.

    Raises:
        ValueError: the moment has no time zone.
    """
    return f"{engine}:{_told(as_of)}"


def manual(now: datetime) -> str:
    """The occasion of a message that somebody asked for at `now`."""
    return f"manual:{_told(now)}"


def milestone_reached(milestone_id: pl.Expr) -> pl.Expr:
    """The occasion that a milestone was reached: `milestone_reached:<id>`."""
    return _after("milestone_reached", milestone_id)


def milestone_near(milestone_id: pl.Expr) -> pl.Expr:
    """The occasion that a milestone is near: `milestone_near:<id>`."""
    return _after("milestone_near", milestone_id)


def churn(last_active_at: pl.Expr) -> pl.Expr:
    """The occasion that a member may leave, since the last activity: `churn:<when that was>`."""
    return _after("churn", _told_of(last_active_at))


def absence(last_active_at: pl.Expr, now: pl.Expr) -> pl.Expr:
    """The occasion that a member has been absent: `absent:<days>d:<last active>`; null if for less.

    The longest of `ABSENCE_STEPS` that the absence is longer than.
    """
    absent_for = now - last_active_at
    steps = pl.lit(None, dtype=pl.String)
    for step in ABSENCE_STEPS:
        steps = pl.when(absent_for > step).then(pl.lit(f"{step.days}d")).otherwise(steps)
    return _after("absent", steps, _told_of(last_active_at))


def declining(now: datetime) -> str:
    """The occasion that a member does less and less: once a month (UTC)."""
    return f"declining:{_month(now)}"


def low_mood(now: datetime) -> str:
    """The occasion that a member sounds low: once a month (UTC)."""
    return f"low_mood:{_month(now)}"


def topic(event_id: pl.Expr) -> pl.Expr:
    """The occasion of an event attended: `topic:<its id>`."""
    return _after("topic", event_id)


def feature(name: pl.Expr) -> pl.Expr:
    """The occasion of a feature not used yet: `feature:<its name>`."""
    return _after("feature", name)


def _after(prefix: str, *parts: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit(prefix), *parts, separator=":")


def _told(moment: datetime) -> str:
    if moment.utcoffset() is None:
        raise ValueError(f"expected a moment with a time zone, found {moment.isoformat()}")
    return moment.astimezone(UTC).isoformat()


def _told_of(instant: pl.Expr) -> pl.Expr:
    """As `_told` does, of instants in UTC: microseconds only where there are some."""
    return instant.dt.to_string("iso:strict").str.replace(".000000", "", literal=True)


def _month(moment: datetime) -> str:
    return _told(moment)[: len("2026-01")]
