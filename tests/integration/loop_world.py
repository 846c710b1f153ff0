"""Rows of the schema `loops` for the world of the marts' tests: awkward on purpose.

Whatever has an edge stands on it and a microsecond beside it. Cases go round by number, not by
dice, so that every world has all of them; the dice give amounts only, and one organisation has
nothing at all. What the marts must make of the rows does not belong here.
"""

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import count, cycle, product
from typing import Any

from engagement_pipeline.contracts import contract, contracts, vocabulary

Row = dict[str, Any]

TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WINDOW = timedelta(days=30)
LONG_WINDOW = timedelta(days=180)
DRAWN_AFTER_SHOWN = (-3 * DAY, 2 * DAY, timedelta())
"""When signals were last drawn, from the moment of the run shown; worlds take turns."""

WITHOUT_LOOPS = "sparse"
FEATURES = ("events", "a:feature:with:colons")
KINDS = {
    "suggestion": ("ACCEPT", "REJECT"),
    "prediction": ("OUTCOME",),
    "vocabulary": ("UNKNOWN_VALUE",),
    "threshold": ("OVERRIDE",),
    "ranking": ("RESPONSE", "SILENCE"),
    "engagement": ("ENGAGE",),
}
VERSIONS: Sequence[Sequence[tuple[timedelta, timedelta]]] = (
    # Each version: when it was computed and when it expires, from the moment shown.
    [(-DAY, 29 * DAY)],
    [(-30 * DAY, timedelta())],
    [(-30 * DAY + TICK, TICK)],
    [],
    [(timedelta(), 30 * DAY)],
    [(TICK, 30 * DAY)],
    [(-40 * DAY, -10 * DAY), (-8 * DAY, 22 * DAY), (-DAY, 29 * DAY), (6 * DAY, 36 * DAY)],
    [(-47 * DAY, -17 * DAY), (-40 * DAY, -10 * DAY)],
    [(-30 * DAY, timedelta()), (-23 * DAY, 7 * DAY)],
    # The newest expires before the one that it followed, which is in force again then.
    [(-9 * DAY, 21 * DAY), (-2 * DAY, timedelta())],
    [(-40 * DAY, -10 * DAY), (DAY, 31 * DAY)],
    [(-2 * DAY, 28 * DAY), (-DAY, -DAY + TICK), (-DAY + TICK, timedelta())],
)
EXPIRED = (VERSIONS[1], VERSIONS[7])
SIGNALS: Sequence[Sequence[timedelta]] = (
    [],
    [timedelta(), TICK],
    [-WINDOW, TICK],
    [-WINDOW + TICK, -WINDOW],
    [-5 * DAY, -5 * DAY, -5 * DAY, -40 * DAY],
    [-LONG_WINDOW, TICK],
    [-LONG_WINDOW + TICK, -LONG_WINDOW],
)
LEARNING: Sequence[Sequence[tuple[timedelta, str]]] = (
    [(-DAY, "learned")],
    [(-8 * DAY, "learned"), (-DAY, "failed")],
    [(-8 * DAY, "failed"), (-DAY, "learned")],
    [],
    [(timedelta(), "failed"), (-DAY, "learned")],
    [(-DAY, "learned"), (TICK, "failed")],
    [(TICK, "learned")],
)
SUGGESTIONS: Sequence[Sequence[tuple[timedelta, str, bool]]] = (
    # Each learning of what admins make of levels: when, how it ended, and whether a level was
    # found that people should look at. One that failed left rows of the same moment before.
    [(-8 * DAY, "learned", True), (-DAY, "learned", True), (timedelta(), "failed", True)],
    [(-8 * DAY, "learned", True), (-DAY, "learned", False)],
    [(timedelta(), "learned", True), (TICK, "learned", True)],
    [(-WINDOW, "learned", True)],
    [(-WINDOW + TICK, "learned", True)],
    [(-WINDOW, "learned", False), (-2 * DAY, "learned", True)],
)
USES: Sequence[Sequence[tuple[timedelta, str]]] = (
    [(-DAY, "the_prompt")],
    [],
    [(-WINDOW, "the_prompt")],
    [(-WINDOW + TICK, "the_prompt")],
    [(-LONG_WINDOW, "the_prompt")],
    [(-LONG_WINDOW + TICK, "the_prompt")],
    # Two at the same moment; one has been used for later since.
    [(-2 * DAY, "second"), (-2 * DAY, "first"), (-3 * DAY, "a_third")],
    [(TICK, "the_prompt"), (timedelta(), "the_budget"), (-DAY, "a_third")],
    [(TICK, "the_prompt")],
)
DECISIONS: Sequence[Sequence[tuple[timedelta, timedelta | None, str]]] = (
    # Each decision: when it was made, when what it rests on expires, and what was decided.
    [(-DAY, 29 * DAY, "weekly_digest")],
    [(-30 * DAY, timedelta(), "weekly_digest")],
    [(-30 * DAY + TICK, TICK, "daily_digest")],
    [(-DAY, None, "immediate")],
    [(-60 * DAY, -30 * DAY, "daily_digest"), (timedelta(), 30 * DAY, "weekly_digest")],
    [(-9 * DAY, 21 * DAY, "immediate"), (TICK, 30 * DAY, "weekly_digest")],
    # The last decision counts, expired or not.
    [(-9 * DAY, 21 * DAY, "weekly_digest"), (-DAY, timedelta(), "daily_digest")],
    [(TICK, 30 * DAY, "daily_digest")],
)


def add_loops(world: Any, dice: random.Random) -> None:
    """Rows for every table of the schema `loops`, and a severity for every label.

    Args:
        world: has its organisations, labels and scoring runs already.
        dice: of its own, so that no other row depends on it.
    """
    for found in contracts("loops"):
        world.rows(found.full_name)
    after = DRAWN_AFTER_SHOWN[dice.randrange(len(DRAWN_AFTER_SHOWN))]
    _add_productions(world, world.shown + after)
    now = max(world.shown, world.shown + after)
    named = [row["org_id"] for row in world.rows("raw.organizations")]
    org_ids = [org_id for org_id in [*named, "gone"] if org_id != WITHOUT_LOOPS]
    _add_signals(world, dice, org_ids, now)
    _add_calibrations(world, dice, org_ids, now)
    _add_runs_and_uses(world, org_ids, now)
    _add_digest_decisions(world, dice, org_ids, now)
    _add_findings(world, dice, org_ids, now)
    _add_vocabulary(world, now)
    _add_what_no_mart_shows(world, now)
    for label in world.rows("scores.classifications"):
        label["flag_severity"] = dice.choice((None, *vocabulary.FLAG_SEVERITIES))


def _add_productions(world: Any, drawn_for: datetime) -> None:
    """The last one computed counts, whichever moment others were for."""
    for as_of, computed_at in [
        (drawn_for - 7 * DAY, world.shown + HOUR),
        (drawn_for, world.shown + HOUR),
        (drawn_for + 40 * DAY, world.shown + HOUR - TICK),
    ]:
        world.rows("loops.productions").append(
            {"as_of": as_of, "signals": 3, "computed_at": computed_at}
        )


def _add_signals(world: Any, dice: random.Random, org_ids: list[str], now: datetime) -> None:
    cases, numbers = cycle(SIGNALS), count()
    for org_id, archetype in product(org_ids, vocabulary.ARCHETYPES):
        for moment in next(cases):
            number = next(numbers)
            world.rows("loops.signals").append(
                {
                    "signal_id": f"signal-{number}",
                    "archetype": archetype,
                    "kind": dice.choice(KINDS[archetype]),
                    "org_id": org_id,
                    "subject": dice.choice(FEATURES),
                    "user_id": f"user-{number}" if number % 3 else None,
                    "value": dice.uniform(-1, 1) if number % 2 else None,
                    "occurred_at": now + moment,
                    "attribution": dice.choice((None, *vocabulary.ATTRIBUTIONS)),
                    "source_key": f"source-{number}",
                }
            )


def _keys(org_ids: list[str]) -> Iterator[tuple[str, str, bool]]:
    """Organisation, key, and whether it must have expired; of some loops there is no key."""
    for number, (org_id, archetype) in enumerate(product(org_ids, vocabulary.ARCHETYPES)):
        if number % 4 == 2:
            continue
        for prefix, loop in vocabulary.CALIBRATION_ARCHETYPES.items():
            if loop == archetype:
                for key in (prefix, *(f"{prefix}:{feature}" for feature in FEATURES)):
                    yield org_id, key, number % 4 == 3


def _add_calibrations(world: Any, dice: random.Random, org_ids: list[str], now: datetime) -> None:
    cases, expired = cycle(VERSIONS), cycle(EXPIRED)
    for org_id, key, is_expired in _keys(org_ids):
        value = None
        for computed, expires in next(expired if is_expired else cases):
            has_interval = dice.random() < 0.5
            row = {
                "org_id": org_id,
                "key": key,
                "value": dice.uniform(-2, 2),
                "lower": -3.0 if has_interval else None,
                "upper": 3.0 if has_interval else None,
                "n": dice.randrange(100),
                "window_start": now + computed - WINDOW,
                "window_end": now + computed,
                "computed_at": now + computed,
                "expires_at": now + expires,
                "previous_value": value,
            }
            value = row["value"]
            world.rows("loops.calibrations").append(row)
    # Nothing says that rows lie in the order in which they were computed.
    dice.shuffle(world.rows("loops.calibrations"))


def _add_runs_and_uses(world: Any, org_ids: list[str], now: datetime) -> None:
    learning, uses, suggestions = cycle(LEARNING), cycle(USES), cycle(SUGGESTIONS)
    for number, (org_id, archetype) in enumerate(product(org_ids, vocabulary.ARCHETYPES)):
        runs = next(learning)
        if archetype == "suggestion":
            runs = [(moment, outcome) for moment, outcome, _ in next(suggestions)]
        for moment, outcome in runs:
            world.rows("loops.learning_runs").append(
                {
                    "org_id": org_id,
                    "archetype": archetype,
                    "as_of": now + moment,
                    "outcome": outcome,
                    "calibrations": number,
                    "error": f"ValueError: {number}" if outcome == "failed" else None,
                    "computed_at": now + HOUR,
                }
            )
        if number % 5 == 0:  # or the two would go round together
            next(uses)
        for moment, consumer in next(uses):
            world.rows("loops.consumer_uses").append(
                {
                    "org_id": org_id,
                    "archetype": archetype,
                    "consumer": consumer,
                    "used_at": now + moment,
                    "calibrations": 1,
                }
            )


def _add_digest_decisions(
    world: Any, dice: random.Random, org_ids: list[str], now: datetime
) -> None:
    cases = cycle(DECISIONS)
    for org_id, feature in product(org_ids, (*FEATURES, "messages")):
        for decided, expires, delivery in next(cases):
            is_known = expires is not None
            rate = dice.random()
            world.rows("loops.digest_decisions").append(
                {
                    "org_id": org_id,
                    "feature": feature,
                    "delivery": delivery,
                    "reason": dice.choice(("read_rarely", "kept")) if is_known else "cold_start",
                    "engagement_rate": 10 * rate if is_known else None,
                    "read_rate": rate if is_known else None,
                    "read_rate_lower": rate / 2 if is_known else None,
                    "read_rate_upper": (1 + rate) / 2 if is_known else None,
                    "read_rate_shrunk": rate / 3 if is_known else None,
                    "n_sent": 100 if is_known else None,
                    "n_read": dice.randrange(100) if is_known else None,
                    "decided_at": now + decided,
                    "expires_at": now + expires if expires is not None else None,
                }
            )


def _add_findings(world: Any, dice: random.Random, org_ids: list[str], now: datetime) -> None:
    """What each learning found: confusion matrices, and levels to be looked at.

    An organisation's later learning finds other pairs and fewer levels than the one before.
    """
    for org_id, learned in zip(org_ids, cycle(SUGGESTIONS), strict=False):
        for number, (moment, _, has_queue) in enumerate(learned):
            _add_agreement(world, dice, org_id, now + moment, vocabulary.LEVELS[number:][:2])
            if has_queue:
                _add_queue(world, dice, org_id, now + moment, vocabulary.LEVELS[number:])


def _add_agreement(
    world: Any, dice: random.Random, org_id: str, end: datetime, levels: Sequence[str]
) -> None:
    for model, computed, admin in product(("rules-1", "a-model"), levels, levels):
        world.rows("loops.label_agreement").append(
            {
                "org_id": org_id,
                "prompt_version": "a-prompt",
                "model_version": model,
                "computed_level": computed,
                "admin_level": admin,
                "judgements": dice.randrange(20),
                "n": 80,
                "agreement": dice.random(),
                "kappa": dice.choice((None, -0.5, 0.5)),
                "window_start": end - LONG_WINDOW,
                "window_end": end,
            }
        )


def _add_queue(
    world: Any, dice: random.Random, org_id: str, moment: datetime, levels: Sequence[str]
) -> None:
    for level in levels:
        world.rows("loops.review_queue").append(
            {
                "org_id": org_id,
                "level": level,
                "acceptance_rate": dice.random(),
                "acceptance_rate_lower": 0.0,
                "acceptance_rate_upper": 1.0,
                "n": dice.randrange(100),
                "queued_at": moment,
                "expires_at": moment + WINDOW,
            }
        )


def _add_vocabulary(world: Any, now: datetime) -> None:
    place = {"table_name": "attendance", "column_name": "status"}
    for org_id, value, moment in [
        (None, "came", -90 * DAY),
        (None, "was_there", TICK),
        ("busy", "came", -DAY),
        ("busy", "came_late", timedelta()),
        ("steady", "came", TICK),
        ("gone", "came", -DAY),
    ]:
        world.rows("loops.vocabulary_mappings").append(
            place
            | {"org_id": org_id, "value": value, "term": "attended", "accepted_at": now + moment}
        )
    for n, org_id in enumerate((None, "steady", "busy", "gone")):
        world.rows("loops.vocabulary_candidates").append(
            place
            | {
                "org_id": org_id,
                "value": "came: perhaps",
                "rows": n,
                "nearest_term": "cancelled" if n % 2 else None,
                "similarity": 0.5 if n % 2 else None,
                "accepted_term": "attended" if n == 1 else None,
                "first_seen_at": now - DAY,
                "last_seen_at": now + n * DAY,
            }
        )


def _add_what_no_mart_shows(world: Any, now: datetime) -> None:
    """A row for each table that the marts do not read: it must not show anywhere."""
    for name in ("judgements", "corrections", "predictions", "calibration_maps", "arm_posteriors"):
        table = contract(f"loops.{name}")
        row: Row = {}
        for column in table.columns:
            sample = {"VARCHAR": "unread", "TIMESTAMPTZ": now, "BOOLEAN": True, "DOUBLE": 0.5}
            allowed = column.allowed
            row[column.name] = allowed[0] if allowed else sample.get(column.sql_type, 1)
        world.rows(table.full_name).append(row)
