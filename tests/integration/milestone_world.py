"""Rows of the schema `milestones` for the world of the marts' tests: awkward on purpose.

One organisation has progress though it is gone, one milestone has progress though it is none any
more, and one has none. What the marts must make of the rows does not belong here.
"""

import random
from datetime import timedelta
from typing import Any

from engagement_pipeline.contracts import vocabulary

DAY = timedelta(days=1)
ORGS = ("steady", "busy", "failed", "never_scored", "gone")
MILESTONES = ("first", "far", "dropped", "nobodys")
DROPPED = "dropped"
"""A milestone that the catalogue has no more."""


def add_milestones(world: Any, dice: random.Random) -> None:
    """A catalogue, and progress with it: not begun, on the way, reached, and celebrated."""
    for number, milestone_id in enumerate(MILESTONES):
        if milestone_id != DROPPED:
            world.rows("milestones.catalogue").append(_milestone(world, milestone_id, number))
    for org_number, org_id in enumerate(ORGS):
        for n in range(12):
            for number, milestone_id in enumerate(MILESTONES[:-1]):
                case = (org_number + n + number) % 4
                if case:
                    row = _progress(world, dice, org_id, f"user-{n}", milestone_id, case)
                    world.rows("milestones.progress").append(row)


def _milestone(world: Any, milestone_id: str, number: int) -> dict[str, Any]:
    return {
        "milestone_id": milestone_id,
        "name": f"The {milestone_id}'s name",
        "description": "Do it.",
        "category": vocabulary.MILESTONE_CATEGORIES[number],
        "difficulty": 1 + number,
        "points": 10 * (1 + number),
        "metric": vocabulary.MILESTONE_METRICS[number],
        "target": 10,
        "window_days": None if number % 2 else 30,
        "seeded_at": world.shown - 100 * DAY,
    }


def _progress(
    world: Any, dice: random.Random, org_id: str, user_id: str, milestone_id: str, case: int
) -> dict[str, Any]:
    """1: on the way, 2: reached, 3: reached and celebrated, and fallen back to nothing since."""
    current = 0 if case == 3 else dice.randrange(1, 10) + (10 if case == 2 else 0)
    return {
        "org_id": org_id,
        "user_id": user_id,
        "milestone_id": milestone_id,
        "as_of": world.shown + timedelta(hours=dice.randrange(-30, 30)),
        "current": current,
        "target": 10,
        "share": current / 10 if case == 1 else 1.0,
        "velocity_per_day": dice.random(),
        "estimated_at": (world.shown + 9 * DAY).date() if case == 1 and current % 2 else None,
        "reached_at": None if case == 1 else world.shown - dice.randrange(50) * DAY,
        "celebrated_at": world.shown if case == 3 else None,
    }
