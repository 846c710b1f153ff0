"""What is removed once it was kept long enough, and what has to stay."""

import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse import retention
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.frames import append, query
from engagement_pipeline.warehouse.loading import quarantined_rows, quarantined_values

AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)
BEFORE = AS_OF - timedelta(days=365)
RAW, SCORED = "raw.interactions", "behavior.interactions_scored"
_TABLES = (RAW, SCORED, "raw.rejects", "raw.ingested_files", "outreach.decisions")
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
