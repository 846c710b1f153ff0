"""What came of outreach, in a real warehouse: answers, receipts, returns, and what is learned."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from engagement_pipeline.contracts import contract, contracts, vocabulary
from engagement_pipeline.defs.outcomes import NOTHING_SENT, NOTHING_TAKEN_IN, OUTCOMES, compute
from engagement_pipeline.loops.calibration import WINDOW
from engagement_pipeline.loops.routing import PRIOR_OUTREACHES
from engagement_pipeline.settings import Settings
from engagement_pipeline.signals import SignalSources, finish, member_signals
from engagement_pipeline.warehouse import outreach_outcomes as stored
from engagement_pipeline.warehouse import schema
from engagement_pipeline.warehouse import signals as stored_signals
from engagement_pipeline.warehouse.calibrations import record_uses
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.frames import append, query
from engagement_pipeline.warehouse.publication import create_views
from engagement_pipeline.warehouse.sql_models import SqlProject
from tests.home import settings_of
from tests.loop_home import learn, take_in
from tests.small_source import AS_OF, write_small_source

Row = dict[str, Any]

TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SENT = AS_OF - 10 * DAY
SECTIONS = ("skills",)


@pytest.fixture(scope="module")
def tables() -> Iterator[Connection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        schema.upgrade(connection, now=AS_OF)
        yield connection


@pytest.fixture
def warehouse(tables: Connection) -> Connection:
    """An empty warehouse; to make all its tables takes longer than any of these tests."""
    for table in (*contracts("raw"), *contracts("outreach"), *contracts("behavior")):
        tables.execute(f"DELETE FROM {table.full_name}")
    tables.execute("DELETE FROM signals.snapshot")
    return tables


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path, tmp_path, significant_sections=SECTIONS, retention_days=365)


def put(connection: Connection, table: str, *rows: Row) -> None:
    frame = pl.DataFrame(list(rows), schema=contract(table).polars_schema)
    append(connection, table, contract(table).validate(frame))


def rows(connection: Connection, sql: str) -> list[Row]:
    return query(connection, sql).to_dicts()


def message(number: int, **given: Any) -> Row:
    planned_at = given.get("planned_at", given.get("sent_at") or SENT)
    row: Row = dict.fromkeys(contract("outreach.messages").column_names)
    return row | {
        "message_id": f"message-{number}",
        "org_id": "choir",
        "user_id": "keen",
        "engine": "engagement",
        "cycle_id": "cycle",
        "outreach_type": "re_engagement",
        "trigger": "absent",
        "occasion": f"occasion-{number}",
        "tries": 0,
        "priority": 0.5,
        "planned_at": planned_at,
        "send_at": planned_at,
        "tone": "neutral",
        "template_id": "back_soon",
        "is_rewritten": False,
        "propensity": 1.0,
        "channel": "log",
        "status": "sent" if given.get("sent_at") else "scheduled",
        "attempts": 1,
        "text": "Good to have you.",
        **given,
    }


def withheld(number: int, planned_at: datetime, **given: Any) -> Row:
    names = contract("outreach.withheld").column_names
    row = message(number, planned_at=planned_at, message_id=f"withheld-{number}")
    return {name: row[name] for name in names} | given


def interaction(number: int, at: datetime, **given: Any) -> Row:
    return {
        "interaction_id": f"interaction-{number}",
        "org_id": "choir",
        "user_id": "keen",
        "type": "message",
        "text": None,
        "sent_at": at,
        "response_time_seconds": None,
        **given,
    }


def scored(number: int, at: datetime, **given: Any) -> Row:
    row: Row = dict.fromkeys(contract("behavior.interactions_scored").column_names)
    return row | {
        "interaction_id": f"interaction-{number}",
        "org_id": "choir",
        "user_id": "keen",
        "type": "message",
        "sent_at": at,
        "quality": 0.5,
        "is_meaningful": True,
        "session_id": f"interaction-{number}",
        **given,
    }


def took_in(connection: Connection, as_of: datetime) -> None:
    """As after a refresh for that moment."""
    connection.execute("DELETE FROM signals.snapshot")
    row = {"as_of": as_of, "members": 0, "inputs_digest": "digest", "computed_at": as_of}
    has = dict.fromkeys(("has_event_views", "has_notifications", "has_interactions"), True)
    put(connection, "signals.snapshot", row | has)


# --- Outcomes.


def test_without_any_message_nothing_but_one_count_is_done(
    warehouse: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    took_in(warehouse, AS_OF)
    for name in ("slices", "mark_received", "first_enrolments", "write_uplift"):
        monkeypatch.delattr(stored, name)
    assert compute(warehouse, settings, moment=AS_OF).skipped == NOTHING_SENT


def test_before_anything_was_taken_in_nobody_is_called_silent(
    warehouse: Connection, settings: Settings
) -> None:
    put(warehouse, "outreach.messages", message(1, sent_at=SENT))
    assert compute(warehouse, settings, moment=AS_OF).skipped == NOTHING_TAKEN_IN
    assert rows(warehouse, "FROM outreach.outcomes") == []


@pytest.mark.parametrize(
    ("taken_in", "moment", "is_known"),
    [
        (SENT + DAY, AS_OF, True),
        (SENT + DAY - TICK, AS_OF, False),
        (AS_OF, SENT + DAY, True),
        (AS_OF, SENT + DAY - TICK, False),
    ],
)
def test_silence_is_known_only_of_what_was_taken_in_by_the_moment(
    warehouse: Connection,
    settings: Settings,
    taken_in: datetime,
    moment: datetime,
    is_known: bool,
) -> None:
    put(warehouse, "outreach.messages", message(1, sent_at=SENT))
    took_in(warehouse, taken_in)
    done = compute(warehouse, settings, moment=moment)
    assert done.failed == {}
    assert len(rows(warehouse, "FROM outreach.outcomes")) == is_known


def test_only_what_was_sent_can_be_answered(warehouse: Connection, settings: Settings) -> None:
    for number, status in enumerate(vocabulary.MESSAGE_STATUSES):
        is_sent = status in vocabulary.SENT_STATUSES
        user = f"user-{number}"
        put(
            warehouse,
            "outreach.messages",
            message(number, user_id=user, status=status, sent_at=SENT if is_sent else None),
        )
        put(warehouse, "raw.interactions", interaction(number, SENT + HOUR, user_id=user))
    took_in(warehouse, AS_OF)
    compute(warehouse, settings, moment=AS_OF)
    found = rows(warehouse, "SELECT * FROM outreach.messages ORDER BY message_id")
    for row, status in zip(found, vocabulary.MESSAGE_STATUSES, strict=True):
        is_sent = status in vocabulary.SENT_STATUSES
        assert row["status"] == ("responded" if is_sent else status)
        assert row["responded_at"] == (SENT + HOUR if is_sent else None)
    assert len(rows(warehouse, "FROM outreach.outcomes")) == len(vocabulary.SENT_STATUSES)


def test_a_response_that_arrives_late_takes_the_place_of_the_silence(
    warehouse: Connection, settings: Settings
) -> None:
    put(warehouse, "outreach.messages", message(1, sent_at=SENT))
    took_in(warehouse, SENT + 2 * DAY)
    compute(warehouse, settings, moment=AS_OF)
    (silence,) = rows(warehouse, "FROM outreach.outcomes")
    assert (silence["is_response"], silence["effectiveness"]) == (False, 0)
    put(warehouse, "raw.interactions", interaction(1, SENT + HOUR))
    put(warehouse, "behavior.interactions_scored", scored(1, SENT + HOUR, sentiment=0.5))
    took_in(warehouse, AS_OF)
    told = compute(warehouse, settings, moment=AS_OF).metadata[OUTCOMES.full_name]
    assert (told["new_or_changed"], told["responses"]) == (1, 1)
    (answered,) = rows(warehouse, "FROM outreach.outcomes")
    assert (answered["response_minutes"], answered["is_meaningful"]) == (60, True)
    assert answered["effectiveness"] == pytest.approx(0.5 + 0.3 + 0.05 + 0.1)
    # And once more: nothing changes, and nothing is written.
    told = compute(warehouse, settings, moment=AS_OF).metadata[OUTCOMES.full_name]
    assert told["new_or_changed"] == 0
    assert rows(warehouse, "FROM outreach.outcomes") == [answered]


@pytest.mark.parametrize(("age", "is_found"), [(30 * DAY, False), (30 * DAY - TICK, True)])
def test_a_response_counts_that_arrives_within_30_days_of_sending(
    warehouse: Connection, settings: Settings, age: timedelta, is_found: bool
) -> None:
    put(warehouse, "outreach.messages", message(1, sent_at=AS_OF - age))
    put(warehouse, "raw.interactions", interaction(1, AS_OF - age + HOUR))
    took_in(warehouse, AS_OF)
    compute(warehouse, settings, moment=AS_OF)
    assert len(rows(warehouse, "FROM outreach.outcomes")) == is_found


def test_many_messages_are_looked_at_in_slices_that_keep_people_together(
    warehouse: Connection,
) -> None:
    sent = [
        message(number, sent_at=SENT + number * HOUR, user_id=f"user-{number % 7}")
        for number in range(40)
    ]
    put(warehouse, "outreach.messages", *sent)
    put(
        warehouse,
        "raw.interactions",
        *(interaction(n, SENT + n * HOUR + TICK, user_id=f"user-{n % 9}") for n in range(40)),
    )
    looked_at, people = 0, []
    for messages, interactions in stored.slices(
        warehouse, since=SENT - TICK, until=AS_OF, slice_messages=9
    ):
        looked_at += messages.height
        people.append(set(messages["user_id"]))
        assert set(interactions["user_id"]) <= people[-1]
    assert looked_at == 40
    assert len(people) > 1
    assert sum(map(len, people)) == len(set().union(*people)) == 7


# --- Receipts that come in with the source.


RECEIPTS = [
    # How far a message had come, whether it was told that it was delivered and read, and then.
    ("sent", False, False, "sent"),
    ("sent", True, False, "delivered"),
    ("sent", False, True, "read"),
    ("sent", True, True, "read"),
    ("delivered", True, True, "read"),
    ("read", True, False, "read"),
    ("responded", True, True, "responded"),
    ("scheduled", True, True, "scheduled"),
    ("cancelled", True, True, "cancelled"),
    ("failed", True, True, "failed"),
    ("reserved", True, True, "reserved"),
]


def notification(name: str, **given: Any) -> Row:
    row: Row = dict.fromkeys(contract("raw.notifications").column_names)
    told = {"notification_id": name, "user_id": "keen", "feature": "outreach", "sent_at": SENT}
    return row | told | given


def test_a_receipt_moves_a_message_forward_and_never_back(warehouse: Connection) -> None:
    for number, (status, delivered, read, _) in enumerate(RECEIPTS):
        is_sent = status in vocabulary.SENT_STATUSES
        sent_at = SENT if is_sent else None
        put(warehouse, "outreach.messages", message(number, status=status, sent_at=sent_at))
        told = notification(f"message-{number}", delivered_at=SENT + HOUR if delivered else None)
        put(warehouse, "raw.notifications", told)
        for hours in (3, 2) if read else ():
            receipt = {"notification_id": f"message-{number}", "read_at": SENT + hours * HOUR}
            put(warehouse, "raw.notification_reads", receipt)
    put(warehouse, "outreach.messages", message(99, sent_at=SENT))
    stored.mark_received(warehouse, until=AS_OF)
    found = {r["message_id"]: r for r in rows(warehouse, "FROM outreach.messages")}
    for number, (status, delivered, read, expected) in enumerate(RECEIPTS):
        row, is_sent = found[f"message-{number}"], status in vocabulary.SENT_STATUSES
        assert row["status"] == expected
        assert row["delivered_at"] == (SENT + HOUR if delivered and is_sent else None)
        assert row["read_at"] == (SENT + 2 * HOUR if read and is_sent else None)
    assert found["message-99"]["status"] == "sent"
    # What is on record stays.
    assert stored.mark_received(warehouse, until=AS_OF) == (0, 0)


def test_a_receipt_of_later_is_not_known_yet(warehouse: Connection) -> None:
    put(warehouse, "outreach.messages", message(1, sent_at=SENT))
    put(warehouse, "raw.notifications", notification("message-1", delivered_at=SENT + HOUR))
    read = {"notification_id": "message-1", "read_at": SENT + 2 * HOUR}
    put(warehouse, "raw.notification_reads", read)
    assert stored.mark_received(warehouse, until=SENT + HOUR - TICK) == (0, 0)
    assert stored.mark_received(warehouse, until=SENT + 2 * HOUR) == (1, 1)


# --- Who came back.

ORGS, USERS = ("choir", "garden"), tuple(f"user-{number}" for number in range(8))
HORIZON = 7 * DAY
START, END = AS_OF - 30 * DAY, AS_OF - HORIZON


def a_world(connection: Connection, seed: int) -> dict[str, list[Row]]:
    """Members who do all kinds of things around the moments that they were enrolled at."""
    dice = random.Random(seed)
    moments = [START + timedelta(days=days) for days in range(0, 38)]

    def moment() -> datetime:
        return dice.choice(moments) + dice.choice((-TICK, 0 * TICK, TICK))

    def member() -> Row:
        return {"org_id": dice.choice(ORGS), "user_id": dice.choice(USERS)}

    world: dict[str, list[Row]] = {
        "raw.memberships": [
            {
                "org_id": org_id,
                "user_id": user_id,
                "role": "member",
                "joined_at": START + timedelta(days=dice.randrange(-9, 9)),
                "left_at": moment() + 20 * DAY if dice.random() < 0.3 else None,
            }
            for org_id in ORGS
            for user_id in USERS
            if dice.random() < 0.8
        ],
        "raw.attendance": [
            member()
            | {
                "event_id": f"event-{number}",
                "status": dice.choice(vocabulary.ATTENDANCE_STATUSES),
                "created_at": (created_at := moment()),
                "responded_at": dice.choice((None, created_at + dice.randrange(9) * DAY)),
            }
            for number in range(12)
        ],
        "raw.interactions": [interaction(n, moment(), **member()) for n in range(8)],
        "raw.notifications": [
            {
                "notification_id": f"{dice.choice(('other', 'message'))}-{number}",
                "user_id": dice.choice(USERS),
                "org_id": dice.choice((None, *ORGS)),
                "feature": "digest",
                "channel": None,
                "sent_at": START + dice.randrange(20) * DAY,
                "delivered_at": None,
            }
            for number in range(20)
        ],
        "raw.profile_updates": [
            {
                "user_id": dice.choice(USERS),
                "section": dice.choice((*SECTIONS, "photo")),
                "updated_at": moment(),
            }
            for _ in range(4)
        ],
        "outreach.messages": [
            message(
                number,
                **member(),
                planned_at=moment(),
                engine=dice.choice(("engagement", "engagement", "milestones")),
                tries=dice.choice((0, 0, 0, 1)),
                status=dice.choice(("scheduled", "cancelled", "failed")),
            )
            for number in range(40)
        ],
        "outreach.withheld": [
            withheld(number, moment(), **member(), tries=dice.choice((0, 0, 1)))
            for number in range(15)
        ],
    }
    world["raw.notification_reads"] = [
        {"notification_id": row["notification_id"], "read_at": moment() + n * HOUR}
        for row in world["raw.notifications"]
        for n in range(dice.randrange(3))
    ]
    for table, given in world.items():
        put(connection, table, *given)
    return world


def activity(world: dict[str, list[Row]], known: datetime) -> dict[tuple[str, str], list[datetime]]:
    """When each member did something that counts, in plain Python."""
    found: dict[tuple[str, str], list[datetime]] = defaultdict(list)
    for row in world["raw.attendance"]:
        member = (row["org_id"], row["user_id"])
        settled_at = row["responded_at"] or row["created_at"]
        is_settled = settled_at <= known
        if row["created_at"] <= known:
            if is_settled and row["status"] in ("attended", "partial"):
                found[member].append(settled_at)
            if not (is_settled and row["status"] in ("cancelled", "waitlisted")):
                found[member].append(row["created_at"])
    for row in world["raw.interactions"]:
        found[row["org_id"], row["user_id"]].append(row["sent_at"])
    ours = {row["message_id"] for row in world["outreach.messages"]}
    for row in world["raw.notifications"]:
        if row["notification_id"] in ours or row["sent_at"] > known:
            continue
        read = [
            other["read_at"]
            for other in world["raw.notification_reads"]
            if other["notification_id"] == row["notification_id"] and other["read_at"] <= known
        ]
        if read:
            org_id = row["org_id"] or oldest(world, row["user_id"], min(read))
            if org_id:
                found[org_id, row["user_id"]].append(min(read))
    for row in world["raw.profile_updates"]:
        if row["section"] in SECTIONS:
            for org_id in ORGS:
                found[org_id, row["user_id"]].append(row["updated_at"])
    return {member: [at for at in moments if at <= known] for member, moments in found.items()}


def oldest(world: dict[str, list[Row]], user_id: str, at: datetime) -> str | None:
    holding = [
        (row["joined_at"], row["org_id"])
        for row in world["raw.memberships"]
        if row["user_id"] == user_id
        and row["joined_at"] <= at
        and (row["left_at"] is None or at < row["left_at"])
    ]
    return min(holding)[1] if holding else None


def enrolled(connection: Connection, known: datetime, horizon: timedelta = HORIZON) -> pl.DataFrame:
    return stored.first_enrolments(
        connection,
        window_start=START,
        window_end=END,
        known_until=known,
        horizon=horizon,
        significant_sections=SECTIONS,
    )


@pytest.mark.parametrize("seed", range(4))
def test_who_came_back_after_the_first_enrolment_is_what_plain_python_finds(
    warehouse: Connection, seed: int
) -> None:
    world = a_world(warehouse, seed)
    moments = activity(world, AS_OF)
    enrolments = defaultdict(list)
    for table, arm in (("outreach.messages", "treated"), ("outreach.withheld", "held_out")):
        for row in world[table]:
            at = row["planned_at"]
            if row["engine"] == "engagement" and row["tries"] == 0 and START < at <= END:
                enrolments[row["org_id"], row["user_id"]].append((at, arm))
    expected = []
    for member, own in sorted(enrolments.items()):
        at, arm = min(own)
        returned = any(at < moment <= at + HORIZON for moment in moments.get(member, []))
        expected.append((*member, arm, returned))
    found = enrolled(warehouse, AS_OF)
    assert found.columns == ["org_id", "user_id", "arm", "returned"]
    assert found.rows() == expected
    assert found["returned"].n_unique() == found["arm"].n_unique() == 2
    assert len(expected) < sum(map(len, enrolments.values()))


@pytest.mark.parametrize(
    ("treated", "held_out", "expected"),
    # When messages were planned, to a member who came back two days after `SENT`, or withheld.
    [
        ([START, SENT], [], [("treated", True)]),
        ([SENT, START + TICK], [], [("treated", False)]),
        ([END], [SENT], [("held_out", True)]),
        ([SENT], [END], [("treated", True)]),
        ([SENT], [SENT], [("held_out", True)]),
        ([END], [], [("treated", False)]),
        ([END + TICK], [], []),
    ],
)
def test_a_member_counts_once_by_the_first_enrolment_in_the_window(
    warehouse: Connection,
    treated: list[datetime],
    held_out: list[datetime],
    expected: list[tuple[str, bool]],
) -> None:
    put(warehouse, "raw.interactions", interaction(1, SENT + 2 * DAY))
    for number, at in enumerate(treated):
        put(warehouse, "outreach.messages", message(number, planned_at=at))
    for number, at in enumerate(held_out):
        put(warehouse, "outreach.withheld", withheld(number, at))
    assert enrolled(warehouse, AS_OF).rows() == [("choir", "keen", *row) for row in expected]


@pytest.mark.parametrize("seed", range(4, 7))
def test_a_return_is_activity_as_the_signals_know_it(warehouse: Connection, seed: int) -> None:
    a_world(warehouse, seed)
    for table in ("messages", "withheld"):
        warehouse.execute(f"DELETE FROM outreach.{table}")
    sources = SignalSources(**stored_signals.relations(warehouse))
    known = AS_OF - 3 * DAY
    signals = member_signals(sources, as_of=known, significant_sections=SECTIONS)
    last = {
        (row["org_id"], row["user_id"]): row["last_active_at"]
        for row in finish(pl.DataFrame(signals.to_native()), as_of=known).to_dicts()
    }
    assert any(last.values())
    for ticks, returns in ((-1, True), (0, False)):
        warehouse.execute("DELETE FROM outreach.withheld")
        put(
            warehouse,
            "outreach.withheld",
            *(
                withheld(number, (at or known) + ticks * TICK, org_id=org_id, user_id=user_id)
                for number, ((org_id, user_id), at) in enumerate(last.items())
            ),
        )
        found = stored.first_enrolments(
            warehouse,
            window_start=START - 90 * DAY,
            window_end=AS_OF,
            known_until=known,
            horizon=HORIZON,
            significant_sections=SECTIONS,
        )
        assert {
            (org_id, user_id): returned for org_id, user_id, _, returned in found.iter_rows()
        } == {member: at is not None and returns for member, at in last.items()}


def test_reading_our_own_message_is_no_return(warehouse: Connection) -> None:
    put(warehouse, "outreach.messages", message(1, planned_at=SENT))
    for name in ("message-1", "digest-1"):
        put(warehouse, "raw.notifications", notification(name, org_id="choir"))
    read = {"notification_id": "message-1", "read_at": SENT + HOUR}
    put(warehouse, "raw.notification_reads", read)
    assert enrolled(warehouse, AS_OF)["returned"].to_list() == [False]
    put(warehouse, "raw.notification_reads", read | {"notification_id": "digest-1"})
    assert enrolled(warehouse, AS_OF)["returned"].to_list() == [True]


def test_the_uplift_looks_no_further_back_than_interactions_are_kept(
    warehouse: Connection, settings: Settings
) -> None:
    took_in(warehouse, AS_OF)
    old = withheld(1, AS_OF - 40 * DAY)
    put(warehouse, "outreach.withheld", old, withheld(2, SENT), withheld(3, SENT, user_id="other"))
    put(warehouse, "raw.interactions", interaction(1, SENT + DAY))
    for days, rate in ((365, 0.0), (30, 0.5)):
        shorter = settings.model_copy(update={"retention_days": days})
        assert compute(warehouse, shorter, moment=AS_OF).failed == {}
        found = rows(warehouse, "FROM outreach.uplift")
        assert [row["held_out_rate"] for row in found] == [rate] * 2
        assert {row["window_start"] for row in found} == {AS_OF - min(days, 180) * DAY}
        assert {row["window_end"] for row in found} == {AS_OF - HORIZON}


# --- What is learned.


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    settings = settings_of(tmp_path / "home", write_small_source(tmp_path / "source"))
    take_in(settings, AS_OF)
    return settings


def _ranking(settings: Settings, do: Callable[[Connection], None]) -> tuple[list[str], list[Row]]:
    """Do something, tell what came of it, learn: the kinds of signals, and what is believed."""
    with Warehouse.of(settings).open() as connection:
        do(connection)
        took_in(connection, AS_OF)
        assert compute(connection, settings, moment=AS_OF).failed == {}
    learn(settings, AS_OF, "ranking")
    with Warehouse.of(settings).open() as connection:
        kinds = rows(connection, "SELECT kind FROM loops.signals ORDER BY occurred_at, kind")
        return [row["kind"] for row in kinds], rows(
            connection, "FROM loops.arm_posteriors ORDER BY org_id, template_id"
        )


def test_a_message_that_was_answered_late_counts_as_answered_and_once(home: Settings) -> None:
    def send(connection: Connection) -> None:
        put(connection, "outreach.messages", message(1, sent_at=SENT))

    def answer(connection: Connection) -> None:
        put(connection, "raw.interactions", interaction(1, SENT + HOUR))

    kinds, believed = _ranking(home, send)
    assert kinds == ["SILENCE"]
    assert [(row["alpha"], row["beta"], row["n"]) for row in believed if row["n"]] == [(1, 2, 1)]
    kinds, believed = _ranking(home, answer)
    assert kinds == ["RESPONSE", "SILENCE"]
    assert [(row["alpha"], row["beta"], row["n"]) for row in believed if row["n"]] == [(2, 1, 1)]
    assert PRIOR_OUTREACHES > 1  # or the other organisations would not have heard of it
    assert [(row["alpha"], row["n"]) for row in believed if not row["n"]] == [(2, 0)] * 2
    with Warehouse.of(home).open() as connection:
        (response, silence) = rows(connection, "FROM loops.signals ORDER BY kind")
    assert response["subject"] == "re_engagement:back_soon"
    assert (response["user_id"], response["source_key"]) == ("keen", "message-1")
    assert (response["occurred_at"], response["value"]) == (SENT + DAY, pytest.approx(0.8))
    assert (silence["occurred_at"], silence["value"]) == (SENT + DAY, 0)


@pytest.mark.parametrize(
    ("taken_in", "learned_at"), [(AS_OF, AS_OF), (AS_OF + DAY, AS_OF)], ids=["fresh", "later on"]
)
def test_who_answers_at_once_does_not_count_before_who_is_silent(
    home: Settings, taken_in: datetime, learned_at: datetime
) -> None:
    """An old template is answered by six of twenty, a new one, sent this morning, by one of ten."""
    numbers = iter(range(100))
    with Warehouse.of(home).open() as connection:
        for template, n, responses, at in (("old", 20, 6, SENT), ("new", 10, 1, AS_OF - 15 * HOUR)):
            for place in range(n):
                number = next(numbers)
                user = f"{template}-{place}"
                row = message(number, sent_at=at, user_id=user, template_id=template)
                put(connection, "outreach.messages", row)
                if place < responses:
                    answer = interaction(number, at + 2 * HOUR, user_id=user)
                    put(connection, "raw.interactions", answer)
        took_in(connection, taken_in)
        assert compute(connection, home, moment=taken_in).failed == {}
        marked = rows(connection, "FROM outreach.messages WHERE status = 'responded'")
        assert sum(row["template_id"] == "new" for row in marked) == 1
    learn(home, learned_at, "ranking")
    with Warehouse.of(home).open() as connection:
        own = rows(connection, "FROM loops.arm_posteriors WHERE org_id = 'choir'")
    assert {row["template_id"]: (row["alpha"], row["beta"]) for row in own} == {"old": (7, 15)}


@pytest.mark.parametrize("ticks", [0, 1])
def test_a_response_and_a_silence_leave_the_window_together(home: Settings, ticks: int) -> None:
    sent_at = AS_OF - WINDOW - DAY + ticks * TICK
    with Warehouse.of(home).open() as connection:
        for number, user in enumerate(("keen", "silent")):
            put(connection, "outreach.messages", message(number, sent_at=sent_at, user_id=user))
        put(connection, "raw.interactions", interaction(1, sent_at + HOUR))
        took_in(connection, sent_at + DAY)
        compute(connection, home, moment=sent_at + DAY)
    learn(home, sent_at + DAY, "ranking")
    learn(home, AS_OF, "ranking")
    with Warehouse.of(home).open() as connection:
        own = rows(
            connection,
            "SELECT * FROM loops.arm_posteriors WHERE org_id = 'choir' "
            "ORDER BY computed_at DESC LIMIT 1",
        )
    assert [row["n"] for row in own if row["computed_at"] == AS_OF] == [2] * ticks


def test_nothing_is_drawn_while_the_loops_are_off(home: Settings) -> None:
    off = home.model_copy(update={"loops_enabled": False})

    def send(connection: Connection) -> None:
        put(connection, "outreach.messages", message(1, sent_at=SENT))

    kinds, _ = _ranking(off, send)
    assert kinds == []
    kinds, _ = _ranking(home, lambda _: None)
    assert kinds == ["SILENCE"]


def test_the_loop_is_closed_once_messages_are_answered_learned_from_and_chosen_by(
    home: Settings, sql_project: SqlProject
) -> None:
    def send(connection: Connection) -> None:
        put(connection, "outreach.messages", message(1, sent_at=SENT))

    def state() -> str:
        with Warehouse.of(home).open() as connection:
            create_views(connection, sql_project)
            (row,) = rows(
                connection,
                f"SELECT state FROM ({sql_project.sql('loop_status')}) "
                "WHERE org_id = 'choir' AND archetype = 'ranking'",
            )
        return str(row["state"])

    _ranking(home, send)
    assert state() == "learned"
    with Warehouse.of(home).open() as connection:
        record_uses(connection, "ranking", "template_choice", {"choir": 1}, as_of=AS_OF)
    assert state() == "closed"
