"""Rows of the schema `outreach` for the world of the marts' tests: awkward on purpose.

Cases go round by number, not by dice, so that every world has all of them; the dice give amounts
only. One organisation has nothing, and one has rows though it is gone. What the marts must make of
the rows does not belong here.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import count, cycle, product
from typing import Any

from engagement_pipeline.contracts import contract, vocabulary
from tests.integration.loop_world import DAY, HOUR, TICK, VERSIONS

Row = dict[str, Any]

WITHOUT_OUTREACH = "sparse"
TEMPLATES = ("back_soon", "a:template:with:colons")
TYPES = vocabulary.OUTREACH_TYPES[:3]
PLANNED: Sequence[timedelta] = (-40 * DAY, -DAY, timedelta(), TICK, 2 * DAY)
"""When messages were planned, from the moment shown: of today's, too, people want to know."""
ANSWERS: Sequence[tuple[float | None, bool]] = (
    # Minutes to a response, and whether it is known at all what came of the message.
    (None, True),
    (0.5, True),
    (None, False),
    (240.0, True),
    (1_440.0, True),
)


def add_outreach(world: Any, dice: random.Random) -> None:
    """Rows for every table of the schema `outreach` that the marts read, and beliefs about
    templates.

    Args:
        world: has its organisations, runs and loops already.
        dice: of its own, so that no other row depends on it.
    """
    named = [row["org_id"] for row in world.rows("raw.organizations")]
    org_ids = [org_id for org_id in [*named, "gone"] if org_id != WITHOUT_OUTREACH]
    _add_messages(world, dice, org_ids)
    _add_posteriors(world, dice, org_ids)
    _add_cycles(world, dice, org_ids)
    _add_uplift(world, dice, ["*", *org_ids])


def _arms(org_ids: list[str]) -> Iterator[tuple[int, str, str, str]]:
    for number, arm in enumerate(product(org_ids, TYPES, TEMPLATES)):
        yield number, *arm


def _add_messages(world: Any, dice: random.Random, org_ids: list[str]) -> None:
    numbers, planned, answers = count(), cycle(PLANNED), cycle(ANSWERS)
    statuses = cycle(vocabulary.MESSAGE_STATUSES)
    for number, org_id, outreach_type, template_id in _arms(org_ids):
        # Of some templates nothing was ever planned.
        for _ in range(0 if number % 5 == 4 else 1 + number % 4):
            message = next(numbers)
            status = next(statuses)
            at = world.shown + next(planned)
            row = _message(message, status, at) | {
                "org_id": org_id,
                "outreach_type": outreach_type,
                "template_id": template_id,
                "priority": dice.random(),
                "propensity": dice.random(),
            }
            world.rows("outreach.messages").append(row)
            if row["sent_at"] is not None:
                minutes, is_known = next(answers)
                if is_known:
                    world.rows("outreach.outcomes").append(_outcome(dice, row, minutes))
    dice.shuffle(world.rows("outreach.messages"))


def _message(number: int, status: str, at: datetime) -> Row:
    """A message that came as far as this; what has not happened yet is null."""
    place = vocabulary.MESSAGE_STATUSES.index(status)
    is_sent = status in vocabulary.SENT_STATUSES
    moments = {
        name: at + HOUR * hours if is_sent and place >= hours else None
        for name, hours in (("sent_at", 2), ("delivered_at", 3), ("read_at", 4))
    }
    return {
        "message_id": f"message-{number}",
        "user_id": f"user-{number % 25}",
        "engine": vocabulary.OUTREACH_ENGINES[number % 3],
        "cycle_id": f"cycle-{number % 4}",
        "trigger": vocabulary.TRIGGERS[number % len(vocabulary.TRIGGERS)],
        "occasion": f"occasion-{number}",
        "tries": number % 2,
        "planned_at": at,
        "send_at": at + HOUR,
        "segment": (*vocabulary.SEGMENTS, None)[number % 4],
        "tone": vocabulary.TONES[number % 3],
        "is_rewritten": number % 7 == 0,
        "channel": vocabulary.CHANNELS[number % 2],
        "status": status,
        "reason": "missed_window" if status == "cancelled" else None,
        "attempts": number % 3,
        "last_error": "timed out" if status == "failed" else None,
        "text": f"Good to have you, {number}.",
        "reserved_at": at + HOUR if is_sent or status == "reserved" else None,
        **moments,
        "responded_at": at + 5 * HOUR if status == "responded" else None,
    }


def _outcome(dice: random.Random, message: Row, minutes: float | None) -> Row:
    kept = ("message_id", "org_id", "user_id", "outreach_type", "template_id", "sent_at")
    is_response = minutes is not None
    return {name: message[name] for name in kept} | {
        "is_response": is_response,
        "interaction_id": f"interaction-{dice.random()}" if is_response else None,
        "responded_at": message["sent_at"] + timedelta(minutes=minutes or 0)
        if is_response
        else None,
        "response_minutes": minutes,
        "response_sentiment": dice.choice((None, dice.uniform(-1, 1))) if is_response else None,
        "is_meaningful": is_response and dice.random() < 0.5,
        "effectiveness": dice.uniform(0.5, 1) if is_response else 0.0,
    }


def _add_posteriors(world: Any, dice: random.Random, org_ids: list[str]) -> None:
    """What is believed at the moment that the loops are shown for; of some arms nothing is."""
    last = max(world.rows("loops.productions"), key=lambda r: (r["computed_at"], r["as_of"]))
    now = max(world.shown, last["as_of"])
    cases = cycle(VERSIONS)
    for _, org_id, outreach_type, template_id in _arms(org_ids):
        for computed, expires in next(cases):
            world.rows("loops.arm_posteriors").append(
                {
                    "org_id": org_id,
                    "outreach_type": outreach_type,
                    "template_id": template_id,
                    "computed_at": now + computed,
                    "alpha": dice.uniform(1, 9),
                    "beta": dice.uniform(1, 9),
                    "n": dice.randrange(9),
                    "expires_at": now + expires,
                }
            )
    dice.shuffle(world.rows("loops.arm_posteriors"))


def _add_cycles(world: Any, dice: random.Random, org_ids: list[str]) -> None:
    table = contract("outreach.cycles")
    counts = [column.name for column in table.columns if column.sql_type == "BIGINT"]
    for (number, after), org_id in product(enumerate(PLANNED), org_ids):
        world.rows(table.full_name).append(
            {name: dice.randrange(50) for name in counts}
            | {
                "cycle_id": f"engagement:{number}",
                "org_id": org_id,
                "as_of": world.shown + after,
                "computed_at": world.shown + after + HOUR,
            }
        )


def _add_uplift(world: Any, dice: random.Random, org_ids: list[str]) -> None:
    table = contract("outreach.uplift")
    counts = [column.name for column in table.columns if column.sql_type == "BIGINT"]
    for number, org_id in enumerate(org_ids):
        # Of some nobody was held out, so that nothing can be told.
        can_be_told = number % 3 < 2
        world.rows(table.full_name).append(
            {name: dice.randrange(50) for name in counts}
            | {
                "org_id": org_id,
                "as_of": world.shown + PLANNED[number % len(PLANNED)],
                "window_start": world.shown - 180 * DAY,
                "window_end": world.shown - 7 * DAY,
                "treated_rate": dice.random(),
                "held_out_rate": dice.random() if can_be_told else None,
                "uplift": dice.uniform(-1, 1) if can_be_told else None,
                "uplift_lower": -1.0 if can_be_told else None,
                "uplift_upper": 1.0 if can_be_told else None,
                "holdout_share": 0.05,
                "sample_ratio_p": dice.random() if can_be_told else None,
                "is_sample_ratio_ok": number % 2 == 0,
            }
        )
