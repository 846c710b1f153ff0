"""The golden set: profiles that a person has judged, to hold a model's answers against.

Reading and checking `golden_set.yaml` belongs here, and turning its entries into members that a
classifier takes; the only module of this package that opens a file, and only that one. How answers
are compared belongs to `agreement`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any

import polars as pl
import yaml

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.scoring.explanations import WINDOW_DAYS
from engagement_pipeline.scoring.levels import OrgContext, Thresholds
from engagement_pipeline.scoring.profiles import Profile, with_profiles

GOLDEN_ORG = OrgContext(
    org_id="golden",
    name="Riverside Makers",
    description=(
        "A neighbourhood workshop run by volunteers: open evenings every week, courses in wood, "
        "textiles and electronics, and a repair cafe once a month."
    ),
    thresholds=Thresholds(),
)
"""The organisation whose members the golden entries are, at default thresholds."""

_FILE = "golden_set.yaml"
_KEYS = ("id", "signals", "expected", "why")
_NOT_OF_NEW_MEMBERS = ("at_risk", "inactive")


class InvalidGoldenSetError(ValueError):
    """The golden set contradicts itself; the message names the entry and says how."""


@dataclass(frozen=True)
class GoldenSignals:
    """A member in plain terms: counts of the 90 days, whole days before the moment of judging.

    Attributes:
        attended: events attended.
        previous: events attended in the 90 days before those.
        total: events attended over all time.
        rsvps: answers that were not cancelled.
        no_shows: events answered but missed.
        days_since_attended: None: never attended.
        days_since_active: as many as since joining, if there never was an activity.
        days_since_joined: since the membership began.
        sent: notifications; None: unknown.
        read: notifications first read; None: unknown.
        interactions: messages and the like; None: unknown.
        days_since_profile_update: None: never updated.
    """

    attended: int
    previous: int
    total: int
    rsvps: int
    no_shows: int
    days_since_attended: int | None
    days_since_active: int
    days_since_joined: int
    sent: int | None
    read: int | None
    interactions: int | None
    days_since_profile_update: int | None

    @property
    def did_something(self) -> bool:
        """Whether any of the 90 days' counts is of the member's own doing, no-shows aside."""
        return bool(self.attended or self.rsvps or self.read or self.interactions)


_SIGNALS = tuple(field.name for field in fields(GoldenSignals))
_NULLABLE = (
    "days_since_attended",
    "sent",
    "read",
    "interactions",
    "days_since_profile_update",
)


@dataclass(frozen=True)
class GoldenEntry:
    """A judged profile.

    Attributes:
        slug: its name, and the user id of its member.
        signals: what is known of the member.
        expected: the level that a person gives.
        why: the reason, in one sentence.
    """

    slug: str
    signals: GoldenSignals
    expected: str
    why: str


def expected() -> dict[str, tuple[str, str]]:
    """User id of each golden member -> the level that a person gives, and why.

    Raises:
        InvalidGoldenSetError: the golden set contradicts itself.
    """
    return {entry.slug: (entry.expected, entry.why) for entry in _packaged()}


def golden_members(as_of: datetime) -> pl.DataFrame:
    """The golden entries as members of `GOLDEN_ORG`.

    Args:
        as_of: the moment that the signals are to describe, with a time zone. Profiles do not
            depend on it.

    Returns:
        One row per entry in the order of the file, with the columns of `signals.member_90d`;
        `user_id` is the entry's slug.

    Raises:
        InvalidGoldenSetError: the golden set contradicts itself.
    """
    return _members(_packaged(), as_of)


def read_golden_set(text: str) -> tuple[GoldenEntry, ...]:
    """The entries of a golden set, checked.

    Args:
        text: YAML: a list of entries as `golden_set.yaml` describes them.

    Raises:
        InvalidGoldenSetError: an entry is not formed as it should be, has an unknown level or
            signals that no member could have, calls a new member what the veto forbids, or shares
            its slug or its profile with another.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidGoldenSetError(f"the golden set is no YAML: {error}") from error
    if not isinstance(found, list) or not found:
        raise InvalidGoldenSetError("the golden set is no list of entries")
    entries = tuple(_entry(place, raw) for place, raw in enumerate(found, start=1))
    for slug, count in Counter(entry.slug for entry in entries).items():
        if count > 1:
            raise InvalidGoldenSetError(f"{slug}: {count} entries have this id")
    _check_profiles(entries)
    return entries


@cache
def _packaged() -> tuple[GoldenEntry, ...]:
    package = resources.files("engagement_pipeline.scoring")
    return read_golden_set((package / _FILE).read_text(encoding="utf-8"))


def _entry(place: int, raw: Any) -> GoldenEntry:
    if not isinstance(raw, dict) or set(raw) != set(_KEYS):
        raise InvalidGoldenSetError(f"entry {place}: expected exactly {', '.join(_KEYS)}")
    slug, level, why = raw["id"], raw["expected"], raw["why"]
    if not isinstance(slug, str) or not slug.strip():
        raise InvalidGoldenSetError(f"entry {place}: expected a word as id, found {slug!r}")
    if level not in vocabulary.LEVELS:
        raise InvalidGoldenSetError(
            f"{slug}: expected one of {', '.join(vocabulary.LEVELS)}, found {level!r}"
        )
    if not isinstance(why, str) or not why.strip():
        raise InvalidGoldenSetError(f"{slug}: does not say why")
    entry = GoldenEntry(slug, _signals(slug, raw["signals"]), level, why)
    for contradiction, holds in _contradictions(entry).items():
        if holds:
            raise InvalidGoldenSetError(f"{slug}: {contradiction}")
    return entry


def _signals(slug: str, raw: Any) -> GoldenSignals:
    if not isinstance(raw, Mapping) or set(raw) != set(_SIGNALS):
        raise InvalidGoldenSetError(f"{slug}: expected exactly the signals {', '.join(_SIGNALS)}")
    for name, value in raw.items():
        # A bool is an int to Python, and YAML reads `yes` as one.
        is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not is_whole and not (value is None and name in _NULLABLE):
            raise InvalidGoldenSetError(
                f"{slug}: {name}: expected a whole number from 0, found {value!r}"
            )
    return GoldenSignals(**raw)


def _contradictions(entry: GoldenEntry) -> dict[str, bool]:
    """What no member's signals can be, and what no answer may be -> whether it is so here."""
    s = entry.signals
    joined, active, attended = s.days_since_joined, s.days_since_active, s.days_since_attended
    is_new = joined < GOLDEN_ORG.thresholds.new_member_days
    earlier = s.total - s.attended - s.previous
    moments = [days for days in (attended, s.days_since_profile_update) if days is not None]
    return {
        "total is less than attended and previous together": earlier < 0,
        "total and days_since_attended disagree on whether it ever was": (attended is None)
        == (s.total > 0),
        "days_since_attended is not in the 90 days that it was last attended in": attended
        is not None
        and not _is_when_last_attended(s, attended),
        "attended events before joining": (s.previous > 0 and joined < WINDOW_DAYS)
        or (earlier > 0 and joined < 2 * WINDOW_DAYS),
        "something happened before joining": max((active, *moments)) > joined,
        "something happened after days_since_active": min((active, *moments)) < active,
        "was active in the 90 days and yet not": s.did_something and active >= WINDOW_DAYS,
        "sent and read are not known together": (s.sent is None) != (s.read is None),
        "a new member is called at_risk or inactive": is_new
        and entry.expected in _NOT_OF_NEW_MEMBERS,
    }


def _is_when_last_attended(signals: GoldenSignals, days: int) -> bool:
    if signals.attended:
        return days < WINDOW_DAYS
    if signals.previous:
        return WINDOW_DAYS <= days < 2 * WINDOW_DAYS
    return days >= 2 * WINDOW_DAYS


def _check_profiles(entries: tuple[GoldenEntry, ...]) -> None:
    # Any moment does: profiles do not depend on it.
    members = _members(entries, datetime(2000, 1, 1, tzinfo=UTC))
    first: dict[Profile, str] = {}
    for slug, text in with_profiles(members, GOLDEN_ORG.thresholds)[["user_id", "profile"]].rows():
        other = first.setdefault(Profile(text), slug)
        if other != slug:
            raise InvalidGoldenSetError(f"{slug}: has the profile of {other}: {text}")


def _members(entries: tuple[GoldenEntry, ...], as_of: datetime) -> pl.DataFrame:
    as_of = as_of.astimezone(UTC)
    rows = [_member(entry, as_of) for entry in entries]
    return pl.DataFrame(rows, schema=contract("signals.member_90d").polars_schema)


def _member(entry: GoldenEntry, as_of: datetime) -> dict[str, object]:
    def ago(days: int | None) -> datetime | None:
        return None if days is None else as_of - timedelta(days=days)

    s = entry.signals
    moments = (s.days_since_attended, s.days_since_profile_update)
    was_never_active = (
        s.days_since_active == s.days_since_joined
        and moments == (None, None)
        and not s.did_something
    )
    return {
        "org_id": GOLDEN_ORG.org_id,
        "user_id": entry.slug,
        "as_of": as_of,
        "events_attended_90d": s.attended,
        "events_attended_prev_90d": s.previous,
        "events_attended_total": s.total,
        "last_attended_at": ago(s.days_since_attended),
        "no_show_count_90d": s.no_shows,
        "rsvp_count_90d": s.rsvps,
        "event_view_count_90d": None,
        "notifications_sent_90d": s.sent,
        "notifications_read_90d": s.read,
        "interaction_count_90d": s.interactions,
        "profile_updated_at": ago(s.days_since_profile_update),
        "joined_at": ago(s.days_since_joined),
        "days_since_joined": s.days_since_joined,
        "last_active_at": None if was_never_active else ago(s.days_since_active),
        "days_since_active": s.days_since_active,
    }
