"""What is removed once it was kept long enough, and what has to stay."""

import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.warehouse import outreach_members, retention
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.frames import append, query
from engagement_pipeline.warehouse.loading import quarantined_rows, quarantined_values
from engagement_pipeline.warehouse.quality import violations
from tests.outreach_home import NOW, World, close_all, connection_of, outreach_settings

AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)
BEFORE = AS_OF - timedelta(days=365)
RAW, SCORED = "raw.interactions", "behavior.interactions_scored"
MESSAGES, DELIVERIES = "outreach.messages", "outreach.deliveries"
WITHHELD, OUTCOMES = "outreach.withheld", "outreach.outcomes"
_OUTREACH = (MESSAGES, DELIVERIES, WITHHELD, OUTCOMES)
_TABLES = (RAW, SCORED, "raw.rejects", "raw.ingested_files", "outreach.decisions", *_OUTREACH)
_SCORE = {"quality": 0.5, "is_meaningful": False, "session_id": "s"}


@pytest.fixture(scope="module")
def empty() -> Iterator[Connection]:
    """A database with these tables, and nothing in them."""
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        for name in _TABLES:
            opened.execute(f"CREATE SCHEMA IF NOT EXISTS {contract(name).schema}")
            opened.execute(contract(name).ddl())
        yield opened


@pytest.fixture
def connection(empty: Connection) -> Connection:
    _clear(empty)
    return empty


def _clear(connection: Connection) -> None:
    for name in _TABLES:
        connection.execute(f"DELETE FROM {name}")


def _put(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=contract(table).polars_schema)
    append(connection, table, contract(table).validate(frame))


def _rows(connection: Connection, table: str) -> list[dict[str, Any]]:
    return query(connection, f"SELECT * FROM {table} ORDER BY ALL").to_dicts()


def _say(connection: Connection, said: list[dict[str, Any]]) -> None:
    _put(connection, RAW, said)
    names = ("interaction_id", "org_id", "user_id", "type", "sent_at")
    _put(connection, SCORED, [{**{n: row[n] for n in names}, **_SCORE} for row in said])


def _said(number: int, org: str, user: str, at: datetime, text: str | None) -> dict[str, Any]:
    return {
        "interaction_id": f"i{number:03d}",
        "org_id": org,
        "user_id": user,
        "type": "message" if text else "sticker",
        "text": text,
        "sent_at": at,
        "response_time_seconds": None,
    }


# --- Interactions.

# On the edge, either side of it, at once, and after the moment that has to look as it did.
_AGES = st.sampled_from([-2.0, 0.0, 1.0, 89.0, 364.9, 365.0, 365.1, 366.0, 400.0, 700.0, 701.0])
_HISTORIES = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from("uv"), _AGES, st.sampled_from([None, "", "hello"])
    ),
    max_size=14,
)


@given(history=_HISTORIES, seed=st.integers(0, 9))
def test_what_is_old_goes_but_for_each_members_last_which_loses_its_text(
    empty: Connection, history: list[tuple[str, str, float, str | None]], seed: int
) -> None:
    _clear(empty)
    said = [
        _said(number, org, user, AS_OF - timedelta(days=age), text)
        for number, (org, user, age, text) in enumerate(history)
    ]
    random.Random(seed).shuffle(said)
    _say(empty, said)

    last: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(said, key=lambda row: (row["sent_at"], row["interaction_id"])):
        if row["sent_at"] <= AS_OF:
            last[row["org_id"], row["user_id"]] = row
    staying = [
        {**row, "text": row["text"] if row["sent_at"] >= BEFORE else None}
        for row in said
        if row["sent_at"] >= BEFORE or row is last[row["org_id"], row["user_id"]]
    ]
    old = [row for row in last.values() if row["sent_at"] < BEFORE]

    counts = retention.remove_interactions(empty, before=BEFORE, as_of=AS_OF)
    assert _rows(empty, RAW) == sorted(staying, key=lambda row: row["interaction_id"])
    assert {row["interaction_id"] for row in _rows(empty, SCORED)} == {
        row["interaction_id"] for row in staying
    }
    assert counts == {
        RAW: len(said) - len(staying),
        SCORED: len(said) - len(staying),
        f"{RAW} without text": sum(row["text"] is not None for row in old),
        "raw.rejects without text": 0,
    }
    again = retention.remove_interactions(empty, before=BEFORE, as_of=AS_OF)
    assert set(again.values()) == {0}


def test_an_interaction_that_was_never_scored_takes_no_other_members_last_with_it(
    connection: Connection,
) -> None:
    _say(connection, [_said(1, "a", "u", AS_OF - timedelta(days=500), "hello")])
    _put(connection, RAW, [_said(2, "a", "u", AS_OF - timedelta(days=450), "later")])
    retention.remove_interactions(connection, before=BEFORE, as_of=AS_OF)
    assert [row["interaction_id"] for row in _rows(connection, RAW)] == ["i002"]
    assert [row["interaction_id"] for row in _rows(connection, SCORED)] == ["i001"]


def test_only_what_is_older_and_has_no_score_of_its_own_is_unscored(
    connection: Connection,
) -> None:
    late = timedelta(microseconds=1)
    _say(connection, [_said(1, "a", "u", BEFORE - late, "hello")])
    moments = (BEFORE - timedelta(days=99), BEFORE - late, BEFORE, AS_OF)
    unscored = [_said(2 + n, "a", "u", at, None) for n, at in enumerate(moments)]
    _put(connection, RAW, unscored)
    assert retention.unscored_interactions(connection, before=BEFORE) == 2
    assert retention.unscored_interactions(connection, before=BEFORE + late) == 3


# --- What was kept out.


def _reject(
    number: int, reason: str, row: str, *, table: str = "interactions", days: int = 400
) -> dict[str, Any]:
    return {
        "table_name": table,
        "path": "f.csv",
        "row_number": number,
        "reason": reason,
        "row_json": row,
        "ingested_at": AS_OF - timedelta(days=days),
    }


def _as_found(**given: object) -> str:
    return json.dumps({"org_id": "a", "user_id": "u", "text": "secret", **given})


def test_what_was_kept_out_loses_its_text_and_is_still_quarantined_for_the_same(
    connection: Connection,
) -> None:
    recent, other = _as_found(type="b"), _as_found(status="c")
    rejects = [
        _reject(1, "unknown_type", _as_found(type="postcard", interaction_id="x")),
        _reject(2, "unknown_org", _as_found(org_id="nowhere", type="message")),
        _reject(3, "missing_sent_at", _as_found(type="message")),
        _reject(4, "unparseable", 'a,b,"secret'),
        _reject(5, "unknown_type", recent, days=364),
        _reject(6, "unknown_status", other, table="attendance"),
    ]
    _put(connection, "raw.rejects", rejects)
    before = quarantined_values(connection, "interactions")
    counts = retention.remove_interactions(connection, before=BEFORE, as_of=AS_OF)
    assert counts["raw.rejects without text"] == 4
    after = {row["row_number"]: row["row_json"] for row in _rows(connection, "raw.rejects")}
    assert "secret" not in "".join(after[number] for number in (1, 2, 3, 4))
    assert (after[3], after[4], after[5], after[6]) == ("{}", "{}", recent, other)
    assert quarantined_values(connection, "interactions").equals(before)
    # It loads once the word is known, as it would have but for the text.
    explained = before.filter(pl.col("value") == "postcard")
    (row,) = quarantined_rows(connection, "interactions", explained)
    found = {name: value for name, value in json.loads(row).items() if value is not None}
    assert found == {"org_id": "a", "user_id": "u", "type": "postcard", "interaction_id": "x"}
    again = retention.remove_interactions(connection, before=BEFORE, as_of=AS_OF)
    assert again["raw.rejects without text"] == 0


# --- Messages.


def _planned(message_id: str, at: datetime, **given: Any) -> dict[str, Any]:
    known = {
        "message_id": message_id,
        "org_id": "choir",
        "user_id": "u",
        "engine": "engagement",
        "cycle_id": "engagement:earlier",
        "outreach_type": "re_engagement",
        "trigger": "absent",
        "occasion": f"occasion:{message_id}",
        "tries": 0,
        "priority": 0.5,
        "planned_at": at,
        "send_at": at,
    }
    return known | given


def _message(message_id: str, at: datetime, **given: Any) -> dict[str, Any]:
    known = {
        "tone": "warm",
        "template_id": "t",
        "is_rewritten": False,
        "propensity": 1.0,
        "channel": "log",
        "status": "sent",
        "attempts": 1,
        "text": "Hey Ada, we miss you!",
    }
    return _planned(message_id, at, **known | given)


def _delivery(message_id: str, attempt: int, at: datetime) -> dict[str, Any]:
    return {
        "message_id": message_id,
        "attempt": attempt,
        "channel": "log",
        "attempted_at": at,
        "outcome": "accepted",
        "http_status": None,
        "error": None,
    }


def _outcome(message_id: str, at: datetime) -> dict[str, Any]:
    return {
        "message_id": message_id,
        "org_id": "choir",
        "user_id": "u",
        "outreach_type": "re_engagement",
        "template_id": "t",
        "sent_at": at,
        "is_response": False,
        "is_meaningful": False,
        "effectiveness": 0.0,
    }


def _may_still_be_sent(row: dict[str, Any], before: datetime) -> bool:
    return row["status"] == "reserved" or (
        row["status"] == "scheduled" and row["send_at"] >= before
    )


def test_old_messages_lose_their_texts_but_for_those_that_may_still_be_sent(
    connection: Connection,
) -> None:
    late = timedelta(microseconds=1)
    moments = (BEFORE - timedelta(days=300), BEFORE - late, BEFORE, AS_OF)
    delays = (timedelta(0), timedelta(hours=30))
    rows = [
        _message(f"m{number:02d}", at, status=status, send_at=at + delay)
        for number, (status, at, delay) in enumerate(
            product(vocabulary.MESSAGE_STATUSES, moments, delays)
        )
    ]
    _put(connection, MESSAGES, rows)
    over = {
        row["message_id"]
        for row in rows
        if row["planned_at"] < BEFORE and not _may_still_be_sent(row, BEFORE)
    }
    assert 0 < len(over) < len(rows) / 2

    counts = retention.remove_outreach(connection, before=BEFORE, as_of=AS_OF)
    assert counts[f"{MESSAGES} without text"] == len(over)
    left = _rows(connection, MESSAGES)
    assert {row["message_id"] for row in left if not row["text"]} == over
    names = [name for name in contract(MESSAGES).column_names if name != "text"]
    assert [{n: row[n] for n in names} for row in left] == [
        {n: row.get(n) for n in names} for row in rows
    ]
    assert violations(connection, contract(MESSAGES)) == []
    again = retention.remove_outreach(connection, before=BEFORE, as_of=AS_OF)
    assert set(again.values()) == {0}


@pytest.mark.parametrize(("days", "at_least"), [(30, 366), (400, 400)])
def test_an_attempt_stays_as_long_as_its_message_may_be_sent_or_counts_for_others(
    connection: Connection, days: int, at_least: int
) -> None:
    bound, late = AS_OF - timedelta(days=at_least), timedelta(microseconds=1)
    rows = [
        _message(f"m{number}", at, status=status, trigger=trigger, send_at=at + delay)
        for number, (status, trigger, at, delay) in enumerate(
            product(
                ("scheduled", "reserved", "cancelled", "delivered"),
                ("absent", "feature", "milestone_near"),
                (bound - late, bound),
                (timedelta(0), timedelta(hours=30)),
            )
        )
    ]
    _put(connection, MESSAGES, rows)
    # The first at once, the second as late as nobody expects.
    attempts = [
        (row, attempt, row["planned_at"] + (attempt - 1) * timedelta(days=5))
        for row in rows
        for attempt in (1, 2)
    ]
    _put(connection, DELIVERIES, [_delivery(row["message_id"], n, at) for row, n, at in attempts])
    staying = {
        (row["message_id"], attempt)
        for row, attempt, at in attempts
        if at >= bound or row["trigger"] != "absent" or _may_still_be_sent(row, bound)
    }
    assert len(rows) < len(staying) < len(attempts)
    counts = retention.remove_outreach(connection, before=AS_OF - timedelta(days=days), as_of=AS_OF)
    assert counts[DELIVERIES] == len(attempts) - len(staying)
    left = _rows(connection, DELIVERIES)
    assert {(row["message_id"], row["attempt"]) for row in left} == staying


@pytest.mark.parametrize(("days", "at_least"), [(30, 366), (365, 366), (400, 400)])
def test_what_was_withheld_and_what_came_of_messages_stays_for_a_year_at_least(
    connection: Connection, days: int, at_least: int
) -> None:
    late = timedelta(microseconds=1)
    bound = AS_OF - timedelta(days=at_least)
    moments = {"older": bound - late, "just": bound, "newer": bound + late}
    _put(connection, WITHHELD, [_planned(name, at) for name, at in moments.items()])
    _put(connection, OUTCOMES, [_outcome(name, at) for name, at in moments.items()])
    before = AS_OF - timedelta(days=days)
    counts = retention.remove_outreach(connection, before=before, as_of=AS_OF)
    assert (counts[WITHHELD], counts[OUTCOMES]) == (1, 1)
    for table in (WITHHELD, OUTCOMES):
        assert {row["message_id"] for row in _rows(connection, table)} == {"just", "newer"}


def test_what_used_up_an_occasion_is_known_as_before(tmp_path: Path) -> None:
    settings = outreach_settings(tmp_path)
    world = World().member("choir", "u").member("choir", "held")
    ages = (20, 365.9, 366, 366.1, 900)
    for trigger, age, status in product(vocabulary.TRIGGERS, ages, ("sent", "cancelled", "lost")):
        at, name = NOW - timedelta(days=age), f"{trigger}:{age}:{status}"
        if status == "lost":
            # Given up after an attempt that may have reached the member all the same.
            world.add(DELIVERIES, **_delivery(name, 1, at) | {"outcome": "timed_out"})
        shown = "cancelled" if status == "lost" else status
        world.add(MESSAGES, **_message(name, at, trigger=trigger, status=shown))
        world.add(WITHHELD, **_planned(name, at, trigger=trigger, user_id="held"))
    reading = outreach_members.Reading(
        now=NOW,
        cycle_id="engagement:now",
        channel="log",
        caps_reach=timedelta(days=2),
        fresh_for=timedelta(days=2),
        gamification_enabled=1,
    )
    try:
        connection = connection_of(world.put(settings))

        def used_up() -> list[tuple[Any, ...]]:
            (found,) = outreach_members.slices(connection, reading)
            return sorted(found.occasions.select("user_id", "occasion", "is_cancelled").rows())

        before = used_up()
        counts = retention.remove_outreach(connection, before=NOW - timedelta(days=30), as_of=NOW)
        assert used_up() == before
    finally:
        close_all()
    # Not for nothing: of most triggers nobody asks any more after a year.
    over = 2 * (len(vocabulary.TRIGGERS) - len(retention.KEPT_FOR_EVER))
    assert (counts[DELIVERIES], counts[WITHHELD]) == (over, 3 * over)


# --- Decisions and files.


def test_a_decision_stays_until_it_is_older_than_it_may_be(connection: Connection) -> None:
    late = timedelta(microseconds=1)
    decided = {"org_id": "a", "eligible": False, "reason": "active", "is_target": False}
    moments = {"older": BEFORE - late, "just": BEFORE, "newer": BEFORE + late}
    _put(
        connection,
        "outreach.decisions",
        [
            {"cycle_id": "c", "user_id": user, "decided_at": at, **decided}
            for user, at in moments.items()
        ],
    )
    removed = retention.remove_decisions(connection, before=BEFORE)
    assert removed == {"outreach.decisions": 1}
    left = {row["user_id"] for row in _rows(connection, "outreach.decisions")}
    assert left == {"just", "newer"}


def test_of_published_files_the_last_published_stay_whatever_moment_they_show(
    tmp_path: Path,
) -> None:
    published = ["20260301T040000000001Z", "20260302T040000000000Z", "20260303T040000000000Z"]
    shown = ["20260301T040000Z", "20260302T040000Z", "20250101T040000Z"]
    names = [
        f"engagement-{moment}-{at}.duckdb" for moment, at in zip(shown, published, strict=True)
    ]
    for name in [*names, "engagement.txt"]:
        (tmp_path / name).touch()
    assert retention.remove_snapshots(tmp_path, keep=2) == [tmp_path / names[0]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*names[1:], "engagement.txt"]
    )
    assert retention.remove_snapshots(tmp_path, keep=2) == []
    assert retention.remove_snapshots(tmp_path / "nowhere", keep=2) == []


def test_of_the_spool_only_what_nobody_has_written_for_long_is_removed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    old, new = tmp_path / "deep" / "old.tmp", tmp_path / "new.tmp"
    for path, age in ((old, 3_600), (new, -3_600)):
        path.touch()
        at = BEFORE.timestamp() - age
        os.utime(path, (at, at))
    assert retention.remove_leftovers(tmp_path, before=BEFORE) == [old]
    assert (old.exists(), new.exists()) == (False, True)


def test_the_file_gives_back_what_its_end_held_when_it_is_compacted(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as opened:
        opened.execute("CREATE SCHEMA raw")
        opened.execute(contract(RAW).ddl())
        opened.execute("CREATE TABLE t AS SELECT hash(range)::VARCHAR AS x FROM range(300000)")
    full = retention.warehouse_megabytes(path)
    with duckdb.connect(str(path)) as opened:
        opened.execute("DELETE FROM t")
        # What is not yet played into the file takes disk too.
        assert retention.warehouse_megabytes(path) > full
    with duckdb.connect(str(path)) as opened:
        retention.compact(opened)
    assert retention.warehouse_megabytes(path) < full / 2
