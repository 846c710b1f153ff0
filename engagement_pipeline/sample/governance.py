"""What people and admins decide: preferences, overrides, settings, requests to be erased.

Overrides that a careful reader must refuse are written here on purpose; rows that no reader can
even take belong to `dirt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engagement_pipeline.sample.catalogue import ORGANISATIONS, Organisation
from engagement_pipeline.sample.dice import Dice, Mint
from engagement_pipeline.sample.layout import Row
from engagement_pipeline.sample.members import Member, founding
from engagement_pipeline.sample.phrases import CLEAR_NOTES, OVERRIDE_NOTES

ERASURE_REQUEST_COUNT = 2

_PREFERENCE_SHARE = 0.16
_QUIET_HOURS = (("22:00", "07:00"), ("21:30", "08:00"), ("23:00", "06:30"), ("13:00", "15:00"))
_OVERRIDE_WITHIN_DAYS = 175
_SETTLED_DAYS = 200
_LEVELS_GIVEN = {
    "devoted": {"highly_engaged": 1.0},
    "regular": {"highly_engaged": 0.6, "moderate": 0.2, "at_risk": 0.2},
    "occasional": {"moderate": 0.7, "highly_engaged": 0.2, "new": 0.1},
    "drifter": {"at_risk": 0.4, "moderate": 0.4, "inactive": 0.2},
    "returner": {"moderate": 0.8, "at_risk": 0.2},
    "never": {"inactive": 0.7, "at_risk": 0.3},
}


def organization_rows(as_of: datetime) -> list[Row]:
    """Rows of `organizations`, in the catalogue's order."""
    return [
        {
            "org_id": org.org_id,
            "name": org.name,
            "description": org.description,
            "timezone": org.timezone,
            "created_at": founding(org, as_of),
        }
        for org in ORGANISATIONS
    ]


def setting_rows() -> list[Row]:
    """Rows of `org_settings`: the thresholds in which an organisation differs."""
    return [
        {"org_id": org.org_id, "setting": setting, "value": value}
        for org in ORGANISATIONS
        for setting, value in org.settings.items()
    ]


def preference_rows(members: Sequence[Member], as_of: datetime, dice: Dice) -> list[Row]:
    """Rows of `preferences`: quiet hours and opt-outs, for one organisation or for every one
    (`org_id` None). Each (user, org) once."""
    rows: dict[tuple[str, str | None], Row] = {}
    for member in members:
        if not dice.chance(_PREFERENCE_SHARE):
            continue
        has_quiet_hours = dice.chance(0.65)
        start, end = dice.pick(_QUIET_HOURS) if has_quiet_hours else (None, None)
        org_id = member.org.org_id if dice.chance(0.4) else None
        rows[(member.user_id, org_id)] = {
            "user_id": member.user_id,
            "org_id": org_id,
            "opted_out": not has_quiet_hours or dice.chance(0.1),
            "quiet_start": start,
            "quiet_end": end,
            "updated_at": dice.moment(member.joined_at, as_of),
        }
    return list(rows.values())


def erasure_rows(members: Sequence[Member], as_of: datetime, dice: Dice) -> list[Row]:
    """Rows of `erasure_requests`: two people who once belonged and asked to be forgotten."""
    gone = [member for member in members if member.persona == "leaver"]
    return [
        {"user_id": member.user_id, "requested_at": dice.moment(as_of - timedelta(days=3), as_of)}
        for member in dice.sample(gone, ERASURE_REQUEST_COUNT)
    ]


@dataclass(frozen=True)
class _Office:
    """Where one organisation's override requests are written: its admins and settled members."""

    org: Organisation
    admins: Sequence[Member]
    plain: Sequence[Member]
    as_of: datetime
    dice: Dice
    mint: Mint

    def request(self, member: Member, days_ago: float, **changes: str | datetime | None) -> Row:
        """An override that an admin may make, so many days before `as_of`, with changes."""
        level = self.dice.weighted(_LEVELS_GIVEN[member.persona])
        at = self.as_of - self.dice.days(days_ago, days_ago + 0.5)
        row: Row = {
            "request_id": self.mint.issue(),
            "org_id": self.org.org_id,
            "user_id": member.user_id,
            "action": "override",
            "level": level,
            "notes": self.dice.pick(OVERRIDE_NOTES[level]),
            "performed_by": self.dice.pick(self.admins).user_id,
            "performed_at": at,
            "expires_at": None,
        }
        return {**row, **changes}


def override_rows(members: Sequence[Member], as_of: datetime, dice: Dice, mint: Mint) -> list[Row]:
    """Rows of `override_requests`, oldest first: good ones in every organisation, the special
    cases and the ones to be refused in the first."""
    rows: list[Row] = []
    settled_since = as_of - timedelta(days=_SETTLED_DAYS)
    for org in ORGANISATIONS:
        own = [member for member in members if member.org is org]
        settled = [
            member
            for member in own
            if member.persona in _LEVELS_GIVEN
            and member.joined_at < settled_since
            and not member.is_admin
        ]
        chosen = dice.sample(settled, org.override_count + _SPECIAL_COUNT)
        admins = [member for member in own if member.is_admin]
        office = _Office(org, admins, settled, as_of, dice, mint)
        rows.extend(_ordinary(office, chosen[_SPECIAL_COUNT:]))
        if org is ORGANISATIONS[0]:
            rows.extend(_special(office, chosen[:_SPECIAL_COUNT]))
            rows.extend(_to_be_refused(office, chosen[:_SPECIAL_COUNT]))
    return sorted(rows, key=lambda row: (str(row["performed_at"]), str(row["request_id"])))


_SPECIAL_COUNT = 5


def _ordinary(office: _Office, chosen: Sequence[Member]) -> list[Row]:
    """Overrides of the last months, most of them with an end."""
    rows = []
    for member in chosen:
        days_ago = office.dice.between(1, _OVERRIDE_WITHIN_DAYS)
        ends = office.as_of - timedelta(days=int(days_ago)) + office.dice.days(30, 200)
        has_end = office.dice.chance(0.6)
        rows.append(office.request(member, days_ago, expires_at=ends if has_end else None))
    return rows


def _special(office: _Office, chosen: Sequence[Member]) -> list[Row]:
    """One that has expired, one that has gone stale without an end, one that was cleared."""
    expired, stale, cleared = chosen[:3]
    as_of = office.as_of
    return [
        office.request(expired, 60, expires_at=as_of - timedelta(days=20)),
        office.request(stale, 140),
        office.request(cleared, 70),
        office.request(
            cleared, 40, action="clear", level=None, notes=office.dice.pick(CLEAR_NOTES)
        ),
    ]


def _to_be_refused(office: _Office, chosen: Sequence[Member]) -> list[Row]:
    """One request for each way in which an override is not valid."""
    member, other = chosen[3:5]
    return [
        office.request(member, 33, performed_by=other.user_id),
        office.request(member, 27, notes="   "),
        office.request(member, 22, user_id=office.mint.issue()),
        office.request(member, 16, expires_at=office.as_of - timedelta(days=45)),
        office.request(other, 11, level="super_fan", notes="Deserves a level of their own."),
    ]
