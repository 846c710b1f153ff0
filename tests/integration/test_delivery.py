"""Delivery on a real warehouse, to a real receiver: what is stored, and what the receiver saw."""

import hmac
import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pytest

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.contracts.signals import SIGNAL_COLUMNS
from engagement_pipeline.defs.delivering import WarehouseLedger
from engagement_pipeline.outreach.delivery.breaker import Breaker
from engagement_pipeline.outreach.delivery.channels import Receipt
from engagement_pipeline.outreach.delivery.ledger import Attempt, Ending
from engagement_pipeline.warehouse import outreach_ledger as stored
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.quality import violations
from tests.delivery_home import (
    NOW,
    message_row,
    rows_of,
    send,
    settings_for,
    write_due_messages,
    write_into,
)
from tests.webhook_server import Fault, WebhookServer

Row = dict[str, Any]
_DAY = timedelta(days=1)
_DELIVERIES = "outreach.deliveries"
_TABLES = ("messages", "deliveries", "channels", "channel_opt_outs")


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer() as started:
        yield started


def _in_memory(tables: dict[str, list[Row]]) -> Connection:
    connection = duckdb.connect()
    write_into(connection, tables)
    return connection


# What is known when a message is due.


def test_facts_are_what_plain_loops_find_in_the_tables() -> None:
    dice = random.Random(5)
    world = _random_world(dice)
    found = stored.due(_in_memory(world), channel="webhook", now=NOW, limit=10_000)
    expected = _plain_due(world, NOW, "webhook")
    assert len(expected) > 60
    for fact in (
        "is_member",
        "is_opted_out",
        "is_erased",
        "is_channel_opted_out",
        "may_have_left",
        "is_reached",
    ):
        assert {row[fact] for row in expected} == {True, False}, fact
    some = ("zone", "quiet_start", "last_active_at", "message_times", "failures")
    for fact in (*some, "gamification_enabled"):
        assert len({repr(row[fact]) for row in expected}) > 1, fact
    assert found == expected


def test_a_limit_takes_the_first_in_order() -> None:
    world = _random_world(random.Random(6))
    connection = _in_memory(world)
    everything = stored.due(connection, channel="log", now=NOW, limit=10_000)
    assert stored.due(connection, channel="log", now=NOW, limit=7) == everything[:7]
    assert stored.count_due(connection, now=NOW) == len(everything)


def test_the_order_of_rows_in_the_tables_does_not_show() -> None:
    world = _random_world(random.Random(7))
    turned = {name: rows[::-1] for name, rows in world.items()}
    first, second = (
        stored.due(_in_memory(tables), channel="log", now=NOW, limit=10_000)
        for tables in (world, turned)
    )
    assert first == second


def _random_world(dice: random.Random) -> dict[str, list[Row]]:
    orgs, users = ("choir", "garden", "gone"), [f"user-{n}" for n in range(12)]
    members = [(org, user) for org in orgs for user in users]

    def near(days: float) -> datetime:
        return NOW + dice.choice((-1, 1)) * timedelta(days=days) * dice.choice((0, 0, 0.5, 1))

    world: dict[str, list[Row]] = {
        "raw.organizations": [
            {"org_id": org, "name": org, "timezone": zone}
            for org, zone in (("choir", "Europe/Amsterdam"), ("garden", "UTC"))
        ],
        "raw.memberships": [
            {
                "org_id": org,
                "user_id": user,
                "role": "member",
                "joined_at": near(30),
                "left_at": near(3) if dice.random() < 0.4 else None,
            }
            for org, user in members
            if dice.random() < 0.9
        ],
        "raw.profiles": [
            {"user_id": user, "timezone": dice.choice((None, "Asia/Tokyo"))}
            for user in users
            if dice.random() < 0.6
        ],
        "raw.preferences": [
            {
                "user_id": user,
                "org_id": org,
                "opted_out": dice.random() < 0.3,
                "quiet_start": dice.choice((None, "22:00", "23:30")),
                "quiet_end": dice.choice((None, "07:00")),
                "updated_at": near(2),
            }
            for org in ("choir", "garden", None)
            for user in users
            if dice.random() < 0.6
        ],
        "raw.erasure_requests": [{"user_id": user, "requested_at": near(1)} for user in users[:4]],
        "signals.member_90d": [
            {
                **dict.fromkeys(SIGNAL_COLUMNS, 0),
                **dict.fromkeys((n for n in SIGNAL_COLUMNS if n.endswith("_at")), None),
                "org_id": org,
                "user_id": user,
                "as_of": NOW,
                "joined_at": NOW - 9 * _DAY,
                "last_active_at": near(1) if dice.random() < 0.8 else None,
            }
            for org, user in members
        ],
        "outreach.channel_opt_outs": [
            {
                "org_id": org,
                "user_id": user,
                "channel": dice.choice(vocabulary.CHANNELS),
                "opted_out_at": NOW - _DAY,
                "message_id": "m",
            }
            for org, user in members
            if dice.random() < 0.6
        ],
        "raw.org_settings": [
            {"org_id": org, "setting": setting, "value": value}
            for org, value in (("choir", "0"), ("garden", "1"))
            for setting in ("gamification_enabled", "active_days_high")
        ],
        "milestones.progress": [
            {
                "org_id": org,
                "user_id": user,
                "milestone_id": f"goal-{number}",
                "as_of": NOW,
                "current": 1,
                "target": 2,
                "share": 0.5,
                "velocity_per_day": 0.0,
                "reached_at": near(1) if dice.random() < 0.8 else None,
            }
            for org, user in members
            for number in range(2)
        ],
    }
    predictions = contract("behavior.predictions")
    world["behavior.predictions"] = [
        {
            **{column.name: 0 for column in predictions.columns if not column.is_nullable},
            "org_id": org,
            "user_id": user,
            "as_of": near(1),
            "churn_model": "heuristic",
            "timing_model": "default",
            "timezone": "America/New_York",
        }
        for org, user in members
        if dice.random() < 0.5
    ]
    world["outreach.messages"] = [
        _random_message(dice, n, *dice.choice(members)) for n in range(200)
    ]
    world["outreach.deliveries"] = [
        {
            "message_id": row["message_id"],
            "attempt": attempt,
            "channel": "webhook",
            "attempted_at": NOW - timedelta(hours=dice.randrange(50)),
            "outcome": dice.choice(vocabulary.ATTEMPT_OUTCOMES),
        }
        for row in world["outreach.messages"]
        for attempt in range(1, dice.randrange(1, 4))
    ]
    return world


def _random_message(dice: random.Random, number: int, org: str, user: str) -> Row:
    status = dice.choice((*vocabulary.MESSAGE_STATUSES, "scheduled", "reserved", "scheduled"))
    has_left = status in vocabulary.SENT_STATUSES
    return message_row(
        number,
        org_id=org,
        user_id=user,
        status=status,
        occasion=dice.choice(("milestone_near:goal-0", "milestone_near:goal-1", "absent:5d")),
        channel=dice.choice(vocabulary.CHANNELS),
        send_at=NOW + timedelta(hours=dice.randrange(-3, 2)),
        priority=dice.choice((0.5, 0.9)),
        reserved_at=NOW - _DAY if has_left or status == "reserved" else None,
        sent_at=NOW - number * _DAY / 50 if has_left else None,
    )


def _plain_due(world: dict[str, list[Row]], now: datetime, channel: str) -> list[Row]:
    """What `due` promises, member by member."""

    def first(table: str, **keys: object) -> Row | None:
        found = [
            row
            for row in world[table]
            if all(row.get(name) == value for name, value in keys.items())
        ]
        return found[0] if found else None

    def doubtful(message: Row) -> list[datetime]:
        return [
            delivery["attempted_at"]
            for delivery in world["outreach.deliveries"]
            if delivery["message_id"] == message["message_id"]
            and delivery["outcome"] in ("server_error", "timed_out", "connection_lost")
        ]

    def counts_at(message: Row) -> datetime | None:
        if message["status"] == "reserved":
            return message["reserved_at"]
        if message["status"] in vocabulary.SENT_STATUSES:
            return message["sent_at"]
        return max(doubtful(message), default=None)

    def known(row: Row | None, at: str) -> Row | None:
        return row if row is not None and row[at] <= now else None

    ready = [
        row
        for row in world["outreach.messages"]
        if row["status"] in ("scheduled", "reserved") and row["send_at"] <= now
    ]
    ready.sort(
        key=lambda m: (m["status"] != "reserved", m["send_at"], -m["priority"], m["message_id"])
    )
    found = []
    for row in ready:
        org, user = row["org_id"], row["user_id"]
        member = first("raw.memberships", org_id=org, user_id=user)
        home = first("raw.organizations", org_id=org)
        here = known(first("raw.preferences", org_id=org, user_id=user), "updated_at")
        anywhere = known(first("raw.preferences", org_id=None, user_id=user), "updated_at")
        wishes = [wish for wish in (here, anywhere) if wish is not None]
        hours = [w for w in wishes if w["quiet_start"] and w["quiet_end"]]
        predicted = known(first("behavior.predictions", org_id=org, user_id=user), "as_of")
        zones = [
            place["timezone"]
            for place in (predicted, first("raw.profiles", user_id=user), home)
            if place is not None and place["timezone"] is not None
        ]
        last = first("signals.member_90d", org_id=org, user_id=user)
        assert last is not None
        erased = first("raw.erasure_requests", user_id=user)
        names = ("message_id", "org_id", "user_id", "outreach_type", "trigger", "template_id")
        more = ("text", "planned_at", "send_at", "status", "occasion", "reserved_at")
        gone = first("outreach.channel_opt_outs", org_id=org, user_id=user, channel=channel)
        reached = [
            goal
            for goal in world["milestones.progress"]
            if (goal["org_id"], goal["user_id"]) == (org, user)
            and row["occasion"] == f"milestone_near:{goal['milestone_id']}"
            and goal["reached_at"] is not None
            and goal["reached_at"] <= now
        ]
        games = first("raw.org_settings", org_id=org, setting="gamification_enabled")
        found.append(
            {
                **{name: row[name] for name in (*names, *more)},
                "may_have_left": row["status"] == "reserved" or bool(doubtful(row)),
                "is_reached": bool(reached),
                "gamification_enabled": games["value"] == "1" if games else None,
                "failures": sum(
                    delivery["message_id"] == row["message_id"]
                    and delivery["outcome"]
                    in ("rate_limited", "server_error", "timed_out", "connection_lost")
                    for delivery in world["outreach.deliveries"]
                ),
                "is_member": home is not None
                and member is not None
                and member["joined_at"] <= now
                and (member["left_at"] is None or member["left_at"] > now),
                "is_opted_out": any(wish["opted_out"] for wish in wishes),
                "is_erased": known(erased, "requested_at") is not None,
                "is_channel_opted_out": gone is not None
                and not any(
                    not wish["opted_out"] and wish["updated_at"] > gone["opted_out_at"]
                    for wish in wishes
                ),
                "zone": zones[0] if zones else None,
                "quiet_start": hours[0]["quiet_start"] if hours else None,
                "quiet_end": hours[0]["quiet_end"] if hours else None,
                "last_active_at": (
                    last["last_active_at"]
                    if last["last_active_at"] is not None and last["last_active_at"] <= now
                    else None
                ),
                "message_times": [
                    counts_at(other)
                    for other in sorted(
                        world["outreach.messages"], key=lambda other: str(other["message_id"])
                    )
                    if (other["org_id"], other["user_id"]) == (org, user)
                    and other["message_id"] != row["message_id"]
                    and counts_at(other) is not None
                ],
            }
        )
    return found


# What is put down.


def test_what_came_of_an_attempt_lands_as_a_whole_or_not_at_all() -> None:
    rows = [message_row(1)]
    connection = _in_memory({"outreach.messages": rows})
    ledger = WarehouseLedger(connection)
    (message,) = ledger.due("webhook", NOW, 10)
    number = ledger.reserve(message, "webhook", NOW)
    attempt = Attempt(message, number, "webhook", NOW, Receipt("accepted", 200))
    spoilt = Attempt(message, number, None, NOW, Receipt("accepted", 200))  # type: ignore[arg-type]
    with pytest.raises(duckdb.ConstraintException):
        ledger.settle(spoilt, Ending("sent", sent_at=NOW), Breaker(3), NOW)
    assert [row["status"] for row in stored.due(connection, channel="log", now=NOW, limit=9)] == [
        "reserved"
    ]
    assert connection.execute("SELECT count(*) FROM outreach.deliveries").fetchall() == [(0,)]
    ledger.settle(attempt, Ending("sent", sent_at=NOW), Breaker(3), NOW)
    assert ledger.breaker("webhook") == Breaker(3)
    assert ledger.count_due(NOW) == 0


def test_attempts_are_numbered_through_however_each_ends() -> None:
    connection = _in_memory({"outreach.messages": [message_row(1)]})
    ledger = WarehouseLedger(connection)
    (message,) = ledger.due("webhook", NOW, 10)
    assert [ledger.reserve(message, "webhook", NOW) for _ in range(3)] == [1, 2, 3]
    # Those that nobody knows the end of do not count against it.
    assert ledger.due("webhook", NOW, 10)[0].failures == 0


# What a receiver sees.


def test_the_ledger_agrees_with_a_receiver_that_goes_wrong_in_every_way(
    tmp_path: Path, server: WebhookServer
) -> None:
    messages = [message_row(number) for number in range(12)]
    write_due_messages(tmp_path, messages)
    settings = settings_for(tmp_path, server.url, webhook_timeout_seconds=0.2)
    # One after another: no four failures stand in a row.
    for wrong in (Fault.RESET, 500, 503):
        server.misbehave(wrong)  # the first is given up
    server.misbehave(200)
    server.misbehave(Fault.SILENCE, seconds=5)
    server.misbehave(400)  # the third, at its second attempt
    for wrong in (Fault.RESET_BEFORE_WORK, Fault.DROP, 200, 410, 429, 422):
        server.misbehave(wrong)
    report = send(settings)
    found = {int(row["message_id"], 16): row for row in rows_of(settings, "outreach.messages")}
    assert {number: row["status"] for number, row in found.items() if row["status"] != "sent"} == {
        0: "failed",
        2: "failed",
        4: "cancelled",
        5: "failed",
    }
    assert (report.sent, report.failed, report.cancelled) == (8, 3, {"channel_opted_out": 1})
    assert report.errors == {"HTTP 503": 1, "HTTP 400": 1, "HTTP 422": 1}
    assert [found[number]["attempts"] for number in range(6)] == [3, 1, 2, 3, 1, 2]
    assert [found[n]["last_error"] for n in (0, 3, 4)] == ["HTTP 503", None, "HTTP 410"]
    # All but the one attempt that was reset before it was read reached the receiver, in this order.
    attempts = [(row["message_id"], row["attempt"]) for row in rows_of(settings, _DELIVERIES)]
    unread = (messages[3]["message_id"], 1)
    assert server.keys == [key for key, attempt in attempts if (key, attempt) != unread]
    assert len(attempts) == report.attempts
    _keeps_contracts(settings)


def test_every_message_is_signed_under_its_own_id(tmp_path: Path, server: WebhookServer) -> None:
    write_due_messages(tmp_path, [message_row(number) for number in range(3)])
    send(settings_for(tmp_path, server.url, webhook_secret="secret"))
    for request in server.received:
        digest = hmac.digest(b"secret", request.body, "sha256").hex()
        assert request.headers["x-signature-256"] == f"sha256={digest}"
        assert json.loads(request.body)["message_id"] == request.key
    assert len(server.received) == 3


@pytest.mark.parametrize("is_date", [False, True])
def test_a_receiver_that_asks_for_minutes_is_left_alone_until_then(
    tmp_path: Path, server: WebhookServer, is_date: bool
) -> None:
    write_due_messages(tmp_path, [message_row(1), message_row(2)])
    settings = settings_for(tmp_path, server.url)
    until = NOW + timedelta(minutes=7)
    wait = format_datetime(until, usegmt=True) if is_date else "420"
    server.misbehave(429, headers={"retry-after": wait})
    report = send(settings)
    assert (report.stopped_by, report.put_off, len(server.keys)) == ("rate_limited", 1, 1)
    first, second = rows_of(settings, "outreach.messages")
    assert (first["status"], first["send_at"], first["attempts"]) == ("scheduled", until, 1)
    assert (second["status"], second["attempts"]) == ("scheduled", 0)
    assert send(settings, now=until).sent == 2


def test_a_broken_receiver_is_left_alone_by_later_runs_too(
    tmp_path: Path, server: WebhookServer
) -> None:
    write_due_messages(tmp_path, [message_row(number) for number in range(3)])
    settings = settings_for(tmp_path, server.url)
    server.misbehave(500, times=6)
    assert send(settings).stopped_by == "breaker_open"
    assert len(server.keys) == 5
    (channel,) = rows_of(settings, "outreach.channels")
    assert (channel["failures_in_a_row"], channel["opened_at"]) == (5, NOW)
    assert send(settings, now=NOW + timedelta(seconds=59)).attempts == 0
    trial = send(settings, now=NOW + timedelta(seconds=60))
    assert (trial.attempts, trial.stopped_by) == (1, "breaker_open")
    # Those in whose hands it opened wait, each for a quarter of an hour.
    waiting = rows_of(settings, "outreach.messages")[1:]
    assert [row["status"] for row in waiting] == ["scheduled"] * 2
    assert [row["send_at"] - NOW for row in waiting] == [
        timedelta(minutes=15),
        timedelta(minutes=16),
    ]
    healed = send(settings, now=NOW + timedelta(minutes=16))
    assert (healed.sent, healed.breaker) == (2, Breaker())
    statuses = [row["status"] for row in rows_of(settings, "outreach.messages")]
    assert statuses == ["failed", "sent", "sent"]
    (channel,) = rows_of(settings, "outreach.channels")
    assert (channel["failures_in_a_row"], channel["opened_at"]) == (0, None)


def test_who_is_gone_is_on_record_and_gets_nothing_more_there(
    tmp_path: Path, server: WebhookServer
) -> None:
    theirs: Row = {"user_id": "user-1"}
    tomorrow = NOW + _DAY
    write_due_messages(
        tmp_path,
        [
            message_row(1),
            message_row(2, **theirs, send_at=tomorrow),
            message_row(3, **theirs, send_at=tomorrow, channel="log"),
            message_row(4, **theirs, send_at=tomorrow, org_id="garden"),
            message_row(5, **theirs, status="sent", sent_at=NOW - 9 * _DAY),
        ],
    )
    settings = settings_for(tmp_path, server.url)
    server.misbehave(410)
    assert send(settings).cancelled == {"channel_opted_out": 2}
    assert [(row["status"], row["reason"]) for row in rows_of(settings, "outreach.messages")] == [
        ("cancelled", "channel_opted_out"),
        ("cancelled", "channel_opted_out"),
        ("scheduled", None),
        ("scheduled", None),
        ("sent", None),
    ]
    (gone,) = rows_of(settings, "outreach.channel_opt_outs")
    assert gone == {
        "org_id": "choir",
        "user_id": "user-1",
        "channel": "webhook",
        "opted_out_at": NOW,
        "message_id": message_row(1)["message_id"],
    }
    # Messages leave by the channel that is in force then.
    later = send(settings, now=tomorrow)
    assert (later.sent, later.cancelled) == (1, {"channel_opted_out": 1})
    assert server.keys == [message_row(1)["message_id"], message_row(4)["message_id"]]


def test_what_a_killed_run_had_in_hand_is_sent_first_and_late_or_not(
    tmp_path: Path, server: WebhookServer
) -> None:
    in_hand = {"status": "reserved", "attempts": 2, "reserved_at": NOW - _DAY}
    write_due_messages(
        tmp_path,
        [
            message_row(1, send_at=NOW - timedelta(hours=1)),
            message_row(2),
            message_row(3, **in_hand, send_at=NOW - _DAY),
            message_row(4, user_id="user-3", org_id="choir"),
        ],
    )
    settings = settings_for(tmp_path, server.url)
    report = send(settings)
    assert server.keys == [message_row(3)["message_id"], message_row(2)["message_id"]]
    assert report.cancelled == {"missed_window": 1, "recently_messaged": 1}
    assert server.received[0].headers["x-attempt"] == "3"


def test_what_was_in_hand_for_too_long_fails_and_counts_as_of_when_it_was(
    tmp_path: Path, server: WebhookServer
) -> None:
    taken_at = NOW - _DAY - timedelta(seconds=1)
    in_hand: Row = {"status": "reserved", "attempts": 2, "reserved_at": taken_at}
    write_due_messages(tmp_path, [message_row(1, **in_hand), message_row(2, user_id="user-1")])
    settings = settings_for(tmp_path, server.url, message_frequency_hours=48)
    report = send(settings)
    assert (report.failed, report.cancelled, server.keys) == (1, {"recently_messaged": 1}, [])
    failed, other = rows_of(settings, "outreach.messages")
    assert (failed["status"], failed["reserved_at"]) == ("failed", taken_at)
    (attempt,) = rows_of(settings, _DELIVERIES)
    told = {name: attempt[name] for name in ("message_id", "attempt", "attempted_at", "outcome")}
    assert told == {
        "message_id": failed["message_id"],
        "attempt": 2,
        "attempted_at": taken_at,
        "outcome": "connection_lost",
    }
    assert other["status"] == "cancelled"
    _keeps_contracts(settings)


def test_a_last_attempt_that_is_on_record_is_not_told_twice() -> None:
    taken_at = NOW - 2 * _DAY
    row = message_row(1, status="reserved", attempts=1, reserved_at=taken_at)
    attempt = {"message_id": row["message_id"], "attempt": 1, "channel": "webhook"}
    known = {**attempt, "attempted_at": taken_at, "outcome": "timed_out"}
    connection = _in_memory({"outreach.messages": [row], _DELIVERIES: [known]})
    stored.give_up(connection, row["message_id"], planned_at=row["planned_at"], error="late")
    found = connection.execute(f"SELECT outcome FROM {_DELIVERIES}").fetchall()
    assert found == [("timed_out",)]
    assert stored.count_due(connection, now=NOW) == 0


def test_only_attempts_since_a_moment_are_held_to_the_contract() -> None:
    def attempt(number: int, at: datetime) -> Row:
        told = {"message_id": "m", "attempt": number, "channel": "webhook", "attempted_at": at}
        return {**told, "outcome": "no such word"}

    rows = [attempt(1, NOW - timedelta(microseconds=1)), attempt(2, NOW), attempt(3, NOW + _DAY)]
    connection = _in_memory({_DELIVERIES: rows})
    (broken,) = stored.violations(connection, since=NOW)
    assert (broken.column_name, broken.rows) == ("outcome", 2)
    assert stored.violations(connection, since=NOW + 2 * _DAY) == []


def test_quiet_hours_move_a_message_to_their_end_and_nothing_else(
    tmp_path: Path, server: WebhookServer
) -> None:
    write_due_messages(tmp_path, [message_row(1)])
    settings = settings_for(tmp_path, server.url, quiet_start="11:00", quiet_end="12:30")
    (before,) = rows_of(settings, "outreach.messages")
    report = send(settings)
    (after,) = rows_of(settings, "outreach.messages")
    end = NOW + timedelta(minutes=30)
    assert after == {**before, "send_at": end}
    assert (report.put_off, report.attempts) == (1, 0)
    assert send(settings, now=end).sent == 1


def test_who_is_held_out_by_the_settings_gets_nothing(tmp_path: Path) -> None:
    write_due_messages(tmp_path, [message_row(number) for number in range(40)])
    settings = settings_for(tmp_path, holdout_share=0.3, holdout_salt="tests")
    report = send(settings)
    assert report.sent + report.cancelled["held_out"] == 40
    assert 4 <= report.cancelled["held_out"] <= 24
    drawn = (
        int(sha256(f'["tests","choir","user-{number}"]'.encode()).hexdigest(), 16) % 10_000 < 3_000
        for number in range(40)
    )
    assert [row["reason"] == "held_out" for row in rows_of(settings, "outreach.messages")] == list(
        drawn
    )


@pytest.mark.parametrize(("enabled", "status"), [(0, "cancelled"), (1, "delivered")])
def test_milestones_go_by_the_settings_where_an_organisation_does_not_say(
    tmp_path: Path, enabled: int, status: str
) -> None:
    near = {"trigger": "milestone_near", "occasion": "milestone_near:goal"}
    write_due_messages(tmp_path, [message_row(1, **near)])
    settings = settings_for(tmp_path, gamification_enabled=enabled)
    send(settings)
    (row,) = rows_of(settings, "outreach.messages")
    assert row["status"] == status


def test_in_the_log_a_message_is_delivered_as_it_is_sent(tmp_path: Path) -> None:
    write_due_messages(tmp_path, [message_row(1)])
    settings = settings_for(tmp_path)
    assert send(settings).sent == 1
    (row,) = rows_of(settings, "outreach.messages")
    told = {name: row[name] for name in ("status", "channel", "attempts")}
    assert told == {"status": "delivered", "channel": "log", "attempts": 1}
    assert row["reserved_at"] == row["sent_at"] == row["delivered_at"] == NOW
    _keeps_contracts(settings)


def _keeps_contracts(settings: Any) -> None:
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        for table in _TABLES:
            assert violations(connection, contract(f"outreach.{table}")) == []
