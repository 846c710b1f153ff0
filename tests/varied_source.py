"""A source whose members differ in many ways, for tests of what a model is asked.

Every name and id carries a token of its own, so that what leaves the machine can be told.
"""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.small_source import write_table

AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)


def org_name(org: int) -> str:
    return f"Society of orgtoken{org:04d}x"


def org_id(org: int) -> str:
    return f"orgid{org:04d}x"


def member_id(org: int, member: int) -> str:
    return f"membertoken{org:04d}m{member:05d}x"


def write_varied_source(
    folder: Path, *, orgs: int, members: int, seed: int = 7, changed: float = 0.0
) -> Path:
    """Write organisations of so many members each; a share of them `changed` has done one thing
    more, a day later."""
    dice, later = random.Random(seed), random.Random(seed + 1)
    organizations, memberships, attendance, profiles = [], [], [], []
    for org in range(orgs):
        organizations.append([org_id(org), org_name(org)])
        for member in range(members):
            user = member_id(org, member)
            joined = dice.choice([10, 45, 100, 200, 400, 900])
            memberships.append([org_id(org), user, "member", _ago(joined)])
            profiles.append([user, f"Name of {user}"])
            for number in range(dice.choice([0, 0, 1, 1, 2, 3, 5, 8])):
                days = dice.uniform(0, min(joined, 300))
                status = dice.choice(["attended", "attended", "no_show", "registered", "partial"])
                attendance.append([org_id(org), f"e{number}", user, status, _ago(days)])
            if later.random() < changed:
                attendance.append([org_id(org), "extra", user, "attended", _ago(-0.5)])
    write_table(folder, "organizations", ["org_id", "name"], organizations)
    write_table(folder, "memberships", ["org_id", "user_id", "role", "joined_at"], memberships)
    write_table(
        folder,
        "attendance",
        ["org_id", "event_id", "user_id", "status", "created_at"],
        attendance,
    )
    write_table(folder, "user_profiles", ["user_id", "display_name"], profiles)
    return folder


def _ago(days: float) -> str:
    return (AS_OF - timedelta(days=days)).isoformat()
