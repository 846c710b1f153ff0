"""What loop signals are drawn from, cut out of a real warehouse with rows put in directly.

What is made of it by the learners, and whole runs, are in `test_loops`.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.loops.prediction import PAIR_SCHEMA
from engagement_pipeline.loops.suggestion import ACCEPTED_AFTER, SPELLS_SCHEMA
from engagement_pipeline.loops.suggestion import judgements as judged
from engagement_pipeline.loops.vocabulary import unknown_value_signals
from engagement_pipeline.warehouse import loop_signals as stored
from engagement_pipeline.warehouse import predictions
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.frames import append, query
from engagement_pipeline.warehouse.schema import upgrade
from engagement_pipeline.warehouse.vocabulary import rejected_rows_with_unknown_values
from tests.small_source import ADMIN, AS_OF

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
LONG_AGO = AS_OF - 400 * DAY

TABLES = (
    "loops.signals",
    "loops.judgements",
    "loops.productions",
    "loops.predictions",
    "raw.rejects",
    "scores.classifications",
    "scores.org_runs",
    "scores.override_history",
)

History = Mapping[str, Sequence[tuple[datetime, Mapping[str, str]]]]
"""Organisation -> its scored moments in order, and the level of each member who was there."""
Spell = tuple[str, str, str, datetime, datetime | None]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder: Path = tmp_path_factory.mktemp("warehouse")
    with Warehouse(folder / "w.duckdb", folder / "spool").open() as connection:
        upgrade(connection, now=AS_OF)
        yield connection


@pytest.fixture
def warehouse(opened: Connection) -> Connection:
    """A warehouse without rows. Whoever needs several in a test empties it with `_empty`."""
    _empty(opened)
    return opened


def _empty(connection: Connection) -> None:
    for table in TABLES:
        connection.execute(f"DELETE FROM {table}")


def _put(connection: Connection, table: str, given: Sequence[Mapping[str, object]]) -> None:
    frame = pl.DataFrame(list(given), schema=contract(table).polars_schema)
    append(connection, table, contract(table).validate(frame))


def _at(days: float) -> datetime:
    """So many days after `AS_OF`, where histories begin."""
    return AS_OF + timedelta(days=days)


# --- spells ---------------------------------------------------------------------------------------


def _label(org: str, user: str, level: str, moment: datetime) -> dict[str, object]:
    counts = (
        "events_attended_90d",
        "events_attended_prev_90d",
        "events_attended_total",
        "no_show_count_90d",
        "rsvp_count_90d",
        "days_since_active",
    )
    texts = ("admin_explanation", "user_explanation", "fingerprint")
    return {
        **dict.fromkeys(counts, 0),
        **dict.fromkeys(texts, "-"),
        "org_id": org,
        "user_id": user,
        "as_of": moment,
        "level": level,
        "baseline_level": level,
        "source": "rules",
        "model_version": "rules-1",
        "prompt_version": "templates-1",
        "classified_at": moment,
        "computed_at": moment,
        "joined_at": moment - 400 * DAY,
        "days_since_joined": 400,
    }


def _run(org: str, moment: datetime, outcome: str = "classified") -> dict[str, object]:
    return {
        "org_id": org,
        "as_of": moment,
        "outcome": outcome,
        "members": 0,
        "error": None if outcome == "classified" else "no answer",
        "inputs_digest": "-",
        "computed_at": moment,
    }


def _put_history(connection: Connection, history: History) -> None:
    _put(
        connection,
        "scores.org_runs",
        [_run(org, at) for org, moments in history.items() for at, _ in moments],
    )
    _put(
        connection,
        "scores.classifications",
        [
            _label(org, user, level, at)
            for org, moments in history.items()
            for at, levels in moments
            for user, level in levels.items()
        ],
    )


def _override(
    number: int, org: str, user: str, at: datetime, **changes: object
) -> dict[str, object]:
    return {
        "org_id": org,
        "user_id": user,
        "new_level": "moderate",
        "notes": "known better",
        "action": "override",
        "performed_by": ADMIN,
        "performed_at": at,
        "request_id": f"r{number:03d}",
        "recorded_at": at,
        **changes,
    }


def _spells(
    connection: Connection, as_of: datetime, window_start: datetime = LONG_AGO
) -> list[Spell]:
    found = stored.level_spells(connection, window_start=window_start, as_of=as_of)
    return found.select("org_id", "user_id", "level", "began_at", "ended_at").rows()


def _walked(history: History, as_of: datetime) -> list[Spell]:
    """The spells of a whole history, walked through moment by moment."""
    found: list[Spell] = []
    for org, moments in history.items():
        known = [(at, levels) for at, levels in moments if at <= as_of]
        for user in {user for _, levels in known for user in levels}:
            began: tuple[datetime, str] | None = None
            for at, levels in known:
                level = levels.get(user)
                if began is not None and began[1] != level:
                    found.append((org, user, began[1], began[0], at))
                    began = None
                if began is None and level is not None:
                    began = (at, level)
            if began is not None:
                found.append((org, user, began[1], began[0], None))
    return sorted(found, key=lambda spell: (spell[0], spell[1], spell[3]))


def _produced(connection: Connection, at: datetime) -> None:
    stored.record_production(connection, as_of=at, signals=0, computed_at=at)


def test_a_member_who_was_gone_the_next_day_has_left_the_level_that_day(
    warehouse: Connection,
) -> None:
    _put_history(
        warehouse,
        {
            "choir": [(_at(0), {"once": "new", "keen": "new"}), (_at(1), {"keen": "new"})],
            "garden": [(_at(0), {"once": "new"})],
        },
    )
    assert _spells(warehouse, _at(9)) == [
        ("choir", "keen", "new", _at(0), None),
        ("choir", "once", "new", _at(0), _at(1)),
        # Nobody has looked since.
        ("garden", "once", "new", _at(0), None),
    ]
    # What comes later is not known yet.
    assert _spells(warehouse, _at(1) - TICK)[1] == ("choir", "once", "new", _at(0), None)


def test_a_member_who_is_back_at_the_same_level_begins_a_new_spell(warehouse: Connection) -> None:
    _put_history(
        warehouse,
        {"choir": [(_at(0), {"u": "new"}), (_at(1), {}), (_at(2), {"u": "new"})]},
    )
    assert _spells(warehouse, _at(9)) == [
        ("choir", "u", "new", _at(0), _at(1)),
        ("choir", "u", "new", _at(2), None),
    ]


def test_a_moment_at_which_classifying_failed_ends_no_spell(warehouse: Connection) -> None:
    _put_history(warehouse, {"choir": [(_at(0), {"u": "new"}), (_at(2), {"u": "new"})]})
    _put(warehouse, "scores.org_runs", [_run("choir", _at(day), "failed") for day in (1, 3)])
    assert _spells(warehouse, _at(9)) == [("choir", "u", "new", _at(0), None)]


def test_a_level_that_changed_while_nobody_scored_for_weeks_begins_on_return(
    warehouse: Connection,
) -> None:
    _put_history(
        warehouse,
        {
            "choir": [
                (_at(0), {"same": "new", "other": "new"}),
                (_at(40), {"same": "new", "other": "inactive", "joined": "new"}),
            ],
            # Its only day is the first of those that are looked back at.
            "garden": [(_at(25), {"u": "new"})],
        },
    )
    _produced(warehouse, _at(39))
    began = [spell for spell in _spells(warehouse, _at(40)) if spell[3] >= _at(25)]
    assert began == [
        ("choir", "joined", "new", _at(40), None),
        ("choir", "other", "inactive", _at(40), None),
        ("garden", "u", "new", _at(25), None),
    ]


def _history(dice: random.Random) -> History:
    """Two organisations, one scored day by day or week by week, both with gaps of weeks."""
    history = {}
    for org in ("choir", "garden"):
        at, moments = _at(dice.randrange(20)), []
        usual = dice.choice((1, 7))
        while at < _at(60):
            levels = {
                user: level
                for user in ("ann", "ben", "cat")
                if (level := dice.choice(("new", "new", "new", "moderate", None)))
            }
            if not moments or dice.random() < 0.6:
                # Mostly all stays as it was.
                levels = dict(moments[-1][1]) if moments else levels
            moments.append((at, levels))
            at += timedelta(days=dice.choice((usual, usual, usual, usual, 13, 14, 15, 33)))
        history[org] = moments
    return history


def _productions(dice: random.Random) -> list[datetime]:
    usual = dice.choice((1, 7, 14, 23))
    return [_at(day) for day in range(dice.randrange(20, 40), 80, usual)][:8]


_DICE = st.integers(0, 2**32).map(random.Random)


def test_however_often_signals_are_drawn_the_same_spells_begin(opened: Connection) -> None:
    @settings(max_examples=10, deadline=None)
    @given(_DICE)
    def check(dice: random.Random) -> None:
        _empty(opened)
        history = _history(dice)
        _put_history(opened, history)
        # Of whom an override names, all is looked at, always.
        _put(opened, "scores.override_history", [_override(1, "choir", "ann", _at(0))])
        since = LONG_AGO
        for at in _productions(dice):
            found, expected = _spells(opened, at), _walked(history, at)
            assert set(found) <= set(expected)
            assert [s for s in found if s[3] >= since or s[:2] == ("choir", "ann")] == [
                s for s in expected if s[3] >= since or s[:2] == ("choir", "ann")
            ]
            _produced(opened, at)
            since = at - 14 * DAY
        opened.execute("DELETE FROM loops.productions")
        assert _spells(opened, _at(200)) == _walked(history, _at(200))

    check()


# --- judgements -----------------------------------------------------------------------------------


def _judge(connection: Connection, as_of: datetime) -> None:
    found = judged(
        stored.level_spells(connection, window_start=LONG_AGO, as_of=as_of),
        stored.overrides(connection, as_of=as_of),
        as_of=as_of,
        window_start=LONG_AGO,
    )
    stored.add_judgements(connection, found)
    _produced(connection, as_of)


def _learned_from(connection: Connection, as_of: datetime) -> list[tuple[Any, ...]]:
    found = stored.judgements(
        connection, window_start=LONG_AGO, as_of=as_of, accepted_after=ACCEPTED_AFTER
    )
    return (
        found.select("user_id", "kind", "occurred_at").sort("user_id", "occurred_at", "kind").rows()
    )


def test_an_override_that_is_taken_in_late_leaves_no_acceptance_to_learn_from(
    warehouse: Connection,
) -> None:
    overruled = ("early", "at_once", "just_before", "at_the_end", "other", "taken_back")
    # Theirs had ended when the spell began.
    users = (*overruled, "cleared", "expired")
    _put_history(warehouse, {"choir": [(_at(0), dict.fromkeys(users, "new"))]})
    _judge(warehouse, _at(8))
    assert [row[1:] for row in _learned_from(warehouse, _at(8))] == [("ACCEPT", _at(7))] * 8
    performed = {
        "early": _at(0) - TICK,
        "at_once": _at(0),
        "just_before": _at(7) - TICK,
        "at_the_end": _at(7),
    }
    _put(
        warehouse,
        "scores.override_history",
        [_override(n, "choir", user, at) for n, (user, at) in enumerate(performed.items())],
    )
    others = [
        _override(7, "choir", "taken_back", _at(0)),
        _override(8, "choir", "taken_back", _at(0), action="clear", new_level=None),
        _override(4, "choir", "expired", _at(-3), expires_at=_at(0)),
        _override(5, "choir", "cleared", _at(-3)),
        _override(6, "choir", "cleared", _at(0), action="clear", new_level=None),
        # Another organisation's member of the same name.
        _override(9, "garden", "other", _at(3)),
    ]
    _put(warehouse, "scores.override_history", others)
    _judge(warehouse, _at(9))
    assert _learned_from(warehouse, _at(9)) == [
        ("at_once", "REJECT", _at(0)),
        # Stood seven days, and was overruled then.
        ("at_the_end", "ACCEPT", _at(7)),
        ("at_the_end", "REJECT", _at(7)),
        ("cleared", "ACCEPT", _at(7)),
        # Of `early` nobody saw the level: the override was in force when it began.
        ("expired", "ACCEPT", _at(7)),
        ("just_before", "REJECT", _at(7) - TICK),
        ("other", "ACCEPT", _at(7)),
        ("taken_back", "REJECT", _at(0)),
    ]
    kept = query(warehouse, "SELECT count(*) AS n FROM loops.judgements WHERE kind = 'ACCEPT'")
    assert kept["n"].item() == len(users)


def test_an_acceptance_that_an_admin_spoke_out_is_never_left_out(warehouse: Connection) -> None:
    _put_history(warehouse, {"choir": [(_at(0), {"u": "moderate"})]})
    given = [_override(n, "choir", "u", _at(day)) for n, day in enumerate((1, 3))]
    _put(warehouse, "scores.override_history", given)
    _judge(warehouse, _at(8))
    assert _learned_from(warehouse, _at(8)) == [
        ("u", "ACCEPT", _at(1)),
        ("u", "ACCEPT", _at(3)),
    ]


def _steps(dice: random.Random) -> list[tuple[datetime, dict[str, object]]]:
    """Overrides and what ends them, with the moment that each is taken in, at most weeks later."""
    found = []
    for number in range(dice.randrange(4, 13)):
        at = _at(dice.randrange(0, 60 * 4) / 4)
        step = _override(number, dice.choice(("choir", "garden")), dice.choice(("ann", "ben")), at)
        if dice.random() < 0.3:
            step |= {"action": "clear", "new_level": None}
        elif dice.random() < 0.4:
            step |= {"expires_at": at + timedelta(days=dice.randrange(1, 20))}
        found.append((at + timedelta(days=dice.choice((0, 1, 8, 30))), step))
    return found


def test_what_is_learned_from_does_not_depend_on_what_arrived_first(opened: Connection) -> None:
    @settings(max_examples=8, deadline=None)
    @given(_DICE)
    def check(dice: random.Random) -> None:
        _empty(opened)
        history, waiting = _history(dice), _steps(dice)
        steps = pl.DataFrame(
            [step for _, step in waiting], schema=contract("scores.override_history").polars_schema
        )
        _put_history(opened, history)
        end = _at(150)
        for at in [*_productions(dice), end]:
            arrived = [(seen, step) for seen, step in waiting if seen <= at]
            waiting = [(seen, step) for seen, step in waiting if seen > at]
            _put(opened, "scores.override_history", [step for _, step in arrived])
            _judge(opened, at)
        spells = pl.DataFrame(
            [(*spell[:3], "templates-1", "rules-1", *spell[3:]) for spell in _walked(history, end)],
            schema=SPELLS_SCHEMA,
            orient="row",
        )
        expected = judged(spells, steps, as_of=end, window_start=LONG_AGO)
        found = stored.judgements(
            opened, window_start=LONG_AGO, as_of=end, accepted_after=ACCEPTED_AFTER
        )
        assert found.rows() == expected.select(found.columns).sort("source_key").rows()

    check()


def test_a_judgement_is_added_once_and_stays_as_it_was(warehouse: Connection) -> None:
    _put_history(warehouse, {"choir": [(_at(0), {"u": "new"})]})
    _judge(warehouse, _at(8))
    before = query(warehouse, "SELECT * FROM loops.judgements")
    again = before.with_columns(admin_level=pl.lit("inactive"))
    other = before.with_columns(source_key=pl.lit("spell:another"))
    stored.add_judgements(warehouse, pl.concat([again, other]))
    after = query(warehouse, "SELECT * FROM loops.judgements ORDER BY source_key")
    assert after.rows() == pl.concat([before, other]).sort("source_key").rows()
    stored.add_judgements(warehouse, before.clear())
    assert query(warehouse, "SELECT * FROM loops.judgements").height == 2


# --- predictions ----------------------------------------------------------------------------------


def _prediction(
    name: str, due: datetime, kind: str = "churn", **changes: object
) -> dict[str, object]:
    return {
        "prediction_id": name,
        "kind": kind,
        "org_id": "choir",
        "subject": "u",
        "predicted": 0.25,
        "made_at": min(due, AS_OF) - DAY,
        "due_at": due,
        "predicted_by": "a-model",
        **changes,
    }


def _signal(key: str, at: datetime, **changes: object) -> dict[str, object]:
    row = {
        "archetype": "prediction",
        "kind": "OUTCOME",
        "org_id": "choir",
        "subject": "churn",
        "value": 1.0,
        "occurred_at": at,
        "source_key": key,
        **changes,
    }
    return row | {"signal_id": f"{row['kind']}-{key}"}


def test_a_prediction_is_due_from_its_horizon_on_until_it_has_met_its_outcome(
    warehouse: Connection,
) -> None:
    given = [
        _prediction("later", AS_OF + TICK),
        _prediction("now", AS_OF),
        _prediction("before", AS_OF - 90 * DAY),
        _prediction("unmade", AS_OF, made_at=AS_OF + TICK),
        _prediction("made now", AS_OF, made_at=AS_OF),
        _prediction("met", AS_OF - DAY),
        _prediction("named alike", AS_OF - 2 * DAY),
    ]
    _put(warehouse, "loops.predictions", given)
    alike = {"archetype": "engagement", "kind": "ENGAGE"}
    _put(
        warehouse,
        "loops.signals",
        [_signal("met", AS_OF - DAY), _signal("named alike", AS_OF, **alike)],
    )
    due = predictions.due_predictions(warehouse, as_of=AS_OF)
    assert due["prediction_id"].to_list() == ["before", "named alike", "made now", "now"]
    assert due.schema == contract("loops.predictions").polars_schema


def test_a_forecast_of_cost_is_given_up_after_thirty_days_and_no_other_prediction(
    warehouse: Connection,
) -> None:
    then = AS_OF - 30 * DAY
    given = [
        _prediction("cost then", then, "cost:input_tokens"),
        _prediction("cost before", then - TICK, "cost:output_tokens"),
        _prediction("churn before", then - TICK),
        _prediction("costly before", then - TICK, "costs"),
    ]
    _put(warehouse, "loops.predictions", given)
    due = predictions.due_predictions(warehouse, as_of=AS_OF)["prediction_id"].to_list()
    assert due == ["churn before", "costly before", "cost then"]


def test_outcomes_of_the_window_are_paired_with_their_predictions_of_every_kind(
    warehouse: Connection,
) -> None:
    start = AS_OF - 180 * DAY
    moments = {
        "at the start": start,
        "in it": start + TICK,
        "at the end": AS_OF,
        "after it": AS_OF + TICK,
    }
    cost = _prediction("cost", AS_OF, "cost:input_tokens", org_id="garden", predicted=900.0)
    unmade = _prediction("unmade", AS_OF, made_at=AS_OF + TICK)
    _put(
        warehouse,
        "loops.predictions",
        [*(_prediction(n, at) for n, at in moments.items()), cost, unmade],
    )
    _put(
        warehouse,
        "loops.signals",
        [
            *(_signal(name, at) for name, at in moments.items()),
            _signal("cost", AS_OF, value=700.0),
            _signal("unmade", AS_OF),
            _signal("of no prediction", AS_OF),
            _signal("in it", AS_OF, archetype="engagement", kind="ENGAGE", value=7.0),
        ],
    )
    found = predictions.outcome_pairs(warehouse, window_start=start, as_of=AS_OF)
    assert found.to_dicts() == [
        _pair("choir", "churn", "at the end", 0.25, 1.0),
        _pair("choir", "churn", "in it", 0.25, 1.0),
        _pair("garden", "cost:input_tokens", "cost", 900.0, 700.0),
    ]
    assert found.select(PAIR_SCHEMA.names()).schema == PAIR_SCHEMA
    nothing = predictions.outcome_pairs(warehouse, window_start=LONG_AGO, as_of=LONG_AGO + DAY)
    assert nothing.select(PAIR_SCHEMA.names()).schema == PAIR_SCHEMA


def _pair(
    org: str, kind: str, prediction_id: str, predicted: float, outcome: float
) -> dict[str, object]:
    return {
        "org_id": org,
        "kind": kind,
        "prediction_id": prediction_id,
        "predicted": predicted,
        "predicted_by": "a-model",
        "outcome": outcome,
    }


# --- values that nobody knows, and productions ----------------------------------------------------


def _reject(value: str, at: datetime, row_number: int = 1) -> dict[str, object]:
    return {
        "table_name": "attendance",
        "path": "raw.rejects",
        "row_number": row_number,
        "reason": "unknown_status",
        "row_json": f'{{"org_id": "choir", "status": "{value}"}}',
        "ingested_at": at,
    }


def _tell_of_unknown_values(connection: Connection) -> int:
    since = stored.drawn_last_at(connection)
    return stored.emit(
        connection, unknown_value_signals(rejected_rows_with_unknown_values(connection, since))
    )


def test_rejects_that_land_within_a_day_of_their_moment_are_told_of_once(
    warehouse: Connection,
) -> None:
    _put(warehouse, "raw.rejects", [_reject("first", AS_OF - DAY)])
    assert _tell_of_unknown_values(warehouse) == 1
    stored.record_production(warehouse, as_of=AS_OF - 90 * DAY, signals=1, computed_at=AS_OF)
    assert _tell_of_unknown_values(warehouse) == 0
    # A run that began before signals were drawn, and ended after it.
    late = [
        _reject("late", AS_OF - DAY + TICK),
        _reject("at the edge", AS_OF - DAY),
        _reject("too late", AS_OF - DAY - TICK),
    ]
    _put(warehouse, "raw.rejects", late)
    assert _tell_of_unknown_values(warehouse) == 2
    assert _tell_of_unknown_values(warehouse) == 0


def test_two_rows_that_wait_again_after_two_reloads_are_told_of_both(
    warehouse: Connection,
) -> None:
    _put(warehouse, "raw.rejects", [_reject("maybe", AS_OF)])
    assert _tell_of_unknown_values(warehouse) == 1
    _put(warehouse, "raw.rejects", [_reject("maybe", AS_OF + DAY)])
    assert _tell_of_unknown_values(warehouse) == 1


def test_signals_drawn_twice_for_a_moment_count_once_and_those_that_were_new_add_up(
    warehouse: Connection,
) -> None:
    for at, signals in ((AS_OF - DAY, 9), (AS_OF, 5), (AS_OF, 0), (AS_OF, 2)):
        stored.record_production(warehouse, as_of=at, signals=signals, computed_at=at)
    found = query(warehouse, "SELECT as_of, signals FROM loops.productions ORDER BY as_of")
    assert found.rows() == [(AS_OF - DAY, 9), (AS_OF, 7)]
