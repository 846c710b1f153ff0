"""The signals and levels that real data must give, in plain Python straight from the files.

Shares nothing with the package: rows are dicts of text as the files have them, and every member is
worked out alone.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Member = tuple[str, str]

WINDOW = timedelta(days=90)
STATUSES = {"yes": "registered", "no": "cancelled", "attended": "attended"}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """A CSV file's rows, with whatever ends in `_at` as an instant."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {
                name: (instant(value) if name.endswith("_at") else value) or None
                for name, value in row.items()
            }
            for row in csv.DictReader(file)
        ]


def instant(text: str) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


def newest_by_key(rows: Iterable[Row], *key: str) -> dict[tuple[Any, ...], Row]:
    """One row of each key: the newest, and of equally new ones the last."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        named = tuple(row[name] for name in key)
        if named not in found or _version(row) >= _version(found[named]):
            found[named] = row
    return found


def _version(row: Row) -> datetime:
    moment = row.get("responded_at") or row.get("created_at")
    return moment or datetime.min.replace(tzinfo=UTC)


def signals(
    as_of: datetime,
    memberships: Iterable[Row],
    attendance: Iterable[Row] = (),
    interactions: Iterable[Row] | None = None,
    notifications: Iterable[Row] | None = None,
) -> dict[Member, dict[str, Any]]:
    """The signals of every member at `as_of`; a table that is `None` is not in the source."""
    coming = _by_member(newest_by_key(attendance, "org_id", "event_id", "user_id").values())
    talking = _by_member(interactions or ())
    told = _by_member(notifications or ())
    found = {}
    for row in memberships:
        member = (row["org_id"], row["user_id"])
        joined, left = row["joined_at"], row.get("left_at")
        if joined > as_of or (left is not None and left <= as_of):
            continue
        answers, attended = _answers_and_attended(coming.get(member, ()), as_of)
        said = [r["sent_at"] for r in talking.get(member, ()) if r["sent_at"] <= as_of]
        sent = [r["sent_at"] for r in told.get(member, ()) if r["sent_at"] <= as_of]
        read = [
            r["read_at"]
            for r in told.get(member, ())
            if r["read_at"] is not None and r["read_at"] <= as_of
        ]
        active = max([*answers, *attended, *said, *read], default=None)
        found[member] = {
            "events_attended_90d": _recent(attended, as_of),
            "events_attended_prev_90d": _recent(attended, as_of - WINDOW),
            "events_attended_total": len(attended),
            "last_attended_at": max(attended, default=None),
            "no_show_count_90d": 0,
            "rsvp_count_90d": _recent(answers, as_of),
            "event_view_count_90d": None,
            "notifications_sent_90d": None if notifications is None else _recent(sent, as_of),
            "notifications_read_90d": None if notifications is None else _recent(read, as_of),
            "interaction_count_90d": None if interactions is None else _recent(said, as_of),
            "profile_updated_at": None,
            "joined_at": joined,
            "days_since_joined": (as_of - joined).days,
            "last_active_at": active,
            "days_since_active": (as_of - (active or joined)).days,
        }
    return found


def _answers_and_attended(
    rows: Iterable[Row], as_of: datetime
) -> tuple[list[datetime], list[datetime]]:
    answers, attended = [], []
    for row in rows:
        created, responded = row["created_at"], row.get("responded_at")
        if created > as_of:
            continue
        status = STATUSES[row["status"]]
        is_settled = responded is None or responded <= as_of
        if status != "cancelled" or not is_settled:
            answers.append(created)
        if status == "attended" and is_settled:
            attended.append(responded or created)
    return answers, attended


def _recent(moments: Iterable[datetime], end: datetime) -> int:
    return sum(end - WINDOW < moment <= end for moment in moments)


def _by_member(rows: Iterable[Row]) -> dict[Member, list[Row]]:
    found: dict[Member, list[Row]] = {}
    for row in rows:
        found.setdefault((row["org_id"], row["user_id"]), []).append(row)
    return found


def level(found: Row) -> tuple[str, str | None]:
    """The level that the written rules give with the usual thresholds, and why at risk."""
    if found["events_attended_90d"] >= 3:
        return "highly_engaged", None
    if found["days_since_joined"] < 60:
        return "new", None
    if found["events_attended_90d"] >= 1:
        return "moderate", None
    if found["days_since_active"] >= 180:
        return "inactive", None
    return "at_risk", "lapsed" if found["events_attended_total"] else "never_activated"


def levels_by_org(found: Mapping[Member, Row]) -> dict[tuple[str, str], int]:
    """Members by organisation and level."""
    return dict(Counter((org, level(row)[0]) for (org, _), row in found.items()))
