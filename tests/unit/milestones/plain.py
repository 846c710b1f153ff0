"""Days and milestones once more, in plain loops over plain rows.

The loops share nothing with the package: no Polars, no prefix sums, no windows on positions.
"""

import math
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]
DAY = timedelta(days=1)

COUNTS = (
    "interactions",
    "messages",
    "commands",
    "callbacks",
    "voices",
    "documents",
    "stickers",
    "reactions",
    "inline_queries",
    "meaningful",
    "gratitude",
    "night",
    "early",
    "events_attended",
    "notifications_read",
)
TYPES = {
    "message": "messages",
    "command": "commands",
    "callback": "callbacks",
    "voice": "voices",
    "document": "documents",
    "sticker": "stickers",
    "reaction": "reactions",
    "inline_query": "inline_queries",
}


# --- Days.


def days_of(sources: dict[str, list[Row]], as_of: datetime, since: date | None) -> list[Row]:
    """Rows of `milestones.daily`, sorted by key."""
    profiles = {row["user_id"]: row["timezone"] for row in sources["profiles"]}
    orgs = {row["org_id"]: row["timezone"] for row in sources["organizations"]}
    found: dict[tuple[str, str, date], Row] = {}
    means: dict[tuple[str, str, date], dict[str, list[Fraction]]] = {}

    def on(org: str, user: str, at: datetime) -> tuple[Row, datetime] | None:
        zone = ZoneInfo(profiles.get(user) or orgs.get(org) or "UTC")
        local = at.astimezone(zone)
        if at > as_of or (since is not None and local.date() < since):
            return None
        key = org, user, local.date()
        means.setdefault(key, {"quality": [], "sentiment": []})
        return found.setdefault(key, dict.fromkeys(COUNTS, 0)), local

    for row in sources["interactions"]:
        placed = on(row["org_id"], row["user_id"], row["sent_at"])
        if placed is None:
            continue
        counts, local = placed
        counts["interactions"] += 1
        counts[TYPES[row["type"]]] += 1
        counts["meaningful"] += row["is_meaningful"]
        counts["gratitude"] += row["mood"] == "gratitude"
        counts["night"] += time(0) <= local.time() < time(5)
        counts["early"] += time(5) <= local.time() < time(8)
        for name in ("quality", "sentiment"):
            if row[name] is not None:
                values = means[row["org_id"], row["user_id"], local.date()][name]
                values.append(Fraction(row[name]))
    for row in sources["attendance"]:
        known_at = row["responded_at"] or row["created_at"]
        if row["status"] not in ("attended", "partial") or max(known_at, row["created_at"]) > as_of:
            continue
        if placed := on(row["org_id"], row["user_id"], row["starts_at"] or known_at):
            placed[0]["events_attended"] += 1
    for row in sources["first_reads"]:
        org = row["org_id"] or _org_at(sources["memberships"], row["user_id"], row["read_at"])
        if org and (placed := on(org, row["user_id"], row["read_at"])):
            placed[0]["notifications_read"] += 1
    return [
        {"org_id": org, "user_id": user, "day": day, **counts}
        | {f"mean_{name}": _mean(values) for name, values in means[org, user, day].items()}
        for (org, user, day), counts in sorted(found.items())
    ]


def _mean(values: list[Fraction]) -> float | None:
    return float(sum(values) / len(values)) if values else None


def _org_at(memberships: list[Row], user: str, at: datetime) -> str | None:
    held = [
        (row["joined_at"], row["org_id"])
        for row in memberships
        if row["user_id"] == user
        and row["joined_at"] <= at
        and (row["left_at"] is None or row["left_at"] > at)
    ]
    return min(held)[1] if held else None


# --- Milestones.


def progress_of(
    days: list[Row],
    catalogue: list[Row],
    members: list[Row],
    previous: list[Row],
    as_of: datetime,
) -> list[Row]:
    """Rows of `milestones.progress`, sorted by key."""
    known = {(row["org_id"], row["user_id"], row["milestone_id"]): row for row in previous}
    found = []
    for member in sorted(members, key=lambda row: (row["org_id"], row["user_id"])):
        zone = ZoneInfo(member["timezone"] or "UTC")
        today = as_of.astimezone(zone).date()
        own: dict[date, Row] = {
            row["day"]: row
            for row in days
            if (row["org_id"], row["user_id"]) == (member["org_id"], member["user_id"])
            and row["day"] <= today
        }
        for milestone in sorted(catalogue, key=lambda row: row["milestone_id"]):
            key = member["org_id"], member["user_id"], milestone["milestone_id"]
            row = _one(own, milestone, member, known.get(key), zone, today, as_of)
            if row is not None:
                found.append(
                    dict(zip(("org_id", "user_id", "milestone_id"), key, strict=True)) | row
                )
    return found


def _one(
    own: dict[date, Row],
    milestone: Row,
    member: Row,
    before: Row | None,
    zone: ZoneInfo,
    today: date,
    as_of: datetime,
) -> Row | None:
    target = milestone["target"]
    if milestone["metric"] == "days_since_joined":
        current = max(0, (as_of - member["joined_at"]) // DAY)
        gained = 14 if current else 0
        due_at = member["joined_at"] + target * DAY
        reached = [due_at] if due_at <= as_of else []
        due_on = due_at.date()
    else:
        current = value(own, milestone, today)
        gained = max(0, current - value(own, milestone, today - 14 * DAY))
        met = [day for day in sorted(own) if value(own, milestone, day) >= target][:1]
        reached = [min(end_of(day, zone), as_of) for day in met]
        ahead = math.ceil(Fraction((target - current) * 14, gained)) if gained else 0
        due_on = as_of.date() + ahead * DAY if ahead <= 3_652 else None
    if before and before["reached_at"]:
        reached.append(before["reached_at"])
    if not current and not reached:
        return None
    is_foreseen = not reached and gained and due_on and due_on <= as_of.date() + 3_652 * DAY
    return {
        "as_of": as_of,
        "current": current,
        "target": target,
        "share": 1.0 if reached else current / target,
        "velocity_per_day": gained / 14,
        "estimated_at": due_on if is_foreseen else None,
        "reached_at": min(reached) if reached else None,
        "celebrated_at": before["celebrated_at"] if before else None,
    }


def value(own: dict[date, Row], milestone: Row, end: date) -> int:
    """How much of its metric there is at the end of a day."""
    window = milestone["window_days"]
    seen = {day: row for day, row in own.items() if day <= end}
    if window is not None:
        seen = {day: row for day, row in seen.items() if (end - day).days < window}
    metric = milestone["metric"]
    if metric == "longest_streak_days":
        return max((_streak(seen, day) for day in seen), default=0)
    if metric == "weekly_streak_weeks":
        weeks = {day - day.weekday() * DAY for day in seen}
        this = end - end.weekday() * DAY
        begin = this if this in weeks else this - 7 * DAY
        length = 0
        while begin - 7 * length * DAY in weeks:
            length += 1
        return length
    if metric == "interaction_types":
        return len({name for row in seen.values() for name in TYPES.values() if row[name]})
    return sum(_of_a_day(metric, day, row) for day, row in seen.items())


def _streak(days: dict[date, Row], last: date) -> int:
    length = 0
    while last - length * DAY in days:
        length += 1
    return length


_SAME = {
    "messages": "messages",
    "interactions": "interactions",
    "meaningful_interactions": "meaningful",
    "voice_messages": "voices",
    "events_attended": "events_attended",
    "notifications_read": "notifications_read",
    "gratitude_interactions": "gratitude",
}


def _of_a_day(metric: str, day: date, row: Row) -> int:
    if metric in _SAME:
        return int(row[_SAME[metric]])
    quality, sentiment = row["mean_quality"], row["mean_sentiment"]
    return {
        "active_days": True,
        "quality_days": quality is not None and quality >= 0.7,
        "positive_days": sentiment is not None and sentiment >= 0.05,
        "night_days": row["night"] > 0,
        "early_days": row["early"] > 0,
        "weekend_days": day.isoweekday() in (6, 7),
    }[metric]


def end_of(day: date, zone: ZoneInfo) -> datetime:
    """The first instant after a local day, found by walking there in steps of a quarter of an hour.

    No zone in the years of the tests has changed its clock at any other time.
    """
    at = datetime.combine(day, time(0), UTC) - 15 * timedelta(hours=1)
    while at.astimezone(zone).date() <= day:
        at += timedelta(minutes=15)
    return at
