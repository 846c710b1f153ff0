"""A value that no vocabulary knows: from quarantine, by what a person says, into the tables."""

import csv
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engagement_pipeline import cli
from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.ingestion import TableIngest, ingest_table
from engagement_pipeline.ingest.source import INPUT_TABLES, discover
from engagement_pipeline.ingest.vocabulary import fold, input_vocabularies
from engagement_pipeline.loops.vocabulary import candidates, new_mapping, unknown_value_signals
from engagement_pipeline.settings import load_settings
from engagement_pipeline.warehouse import vocabulary as stored
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.quality import violations
from engagement_pipeline.warehouse.schema import upgrade
from tests.home import published, settings_of
from tests.home import stored as in_warehouse
from tests.small_source import AS_OF, ago, write_small_source, write_table

DONE, FAILED, USAGE = 0, 1, 2
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
THEN = "2026-01-01T00:00:00Z"


# --- the warehouse alone --------------------------------------------------------------------------


class _Uncounted:
    def advance(self, by: int) -> None:
        pass


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder = tmp_path_factory.mktemp("warehouse")
    with Warehouse(folder / "warehouse.duckdb", folder / "spool").open() as connection:
        upgrade(connection, now=NOW)
        yield connection


@pytest.fixture
def warehouse(opened: Connection) -> Connection:
    """An open warehouse that holds two organisations and nothing else."""
    _empty(opened)
    return opened


def _empty(connection: Connection) -> None:
    for table in (*INPUT_TABLES, "ingested_files", "rejects"):
        connection.execute(f"DELETE FROM raw.{table}")
    for table in ("vocabulary_mappings", "vocabulary_candidates", "consumer_uses"):
        connection.execute(f"DELETE FROM loops.{table}")
    for org in ("o", "p"):
        connection.execute(
            "INSERT INTO raw.organizations VALUES (?, 'n', NULL, 'UTC', NULL)", [org]
        )


def _ingest(
    connection: Connection,
    table: str,
    source: Path,
    day: int = 0,
    used_at: datetime | None = None,
    **given: Any,
) -> TableIngest:
    (source / "data" / "spool").mkdir(parents=True, exist_ok=True)
    return ingest_table(
        connection,
        contract(f"raw.{table}"),
        discover(source).files[table],
        settings=load_settings(home=source, profile="test", **given),
        now=NOW + timedelta(days=day),
        progress=_Uncounted(),
        used_at=used_at,
    )


def _write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _answer(user: str, status: str, org: str = "o", created_at: str = THEN) -> dict[str, str]:
    named = {"org_id": org, "event_id": "e", "user_id": user}
    return named | {"status": status, "created_at": created_at}


def _accept(
    connection: Connection, column: str, value: str, term: str, org: str | None = None
) -> bool:
    row = new_mapping(column, value, term, org_id=org, accepted_at=NOW, known_org_ids=["o", "p"])
    return stored.record_mapping(connection, row)


def _rows(connection: Connection, sql: str) -> list[tuple[Any, ...]]:
    return query(connection, sql).rows()


def _statuses(connection: Connection) -> dict[str, str]:
    return dict(_rows(connection, "SELECT user_id, status FROM raw.attendance"))


def _reasons(connection: Connection) -> Counter[str]:
    return Counter(reason for (reason,) in _rows(connection, "SELECT reason FROM raw.rejects"))


def _journal(connection: Connection) -> list[tuple[Any, ...]]:
    return _rows(
        connection,
        "SELECT path, rows_read, rows_loaded, rows_rejected, rows_unchanged "
        "FROM raw.ingested_files ORDER BY ingested_at, path",
    )


def test_a_mapping_loads_the_rows_that_it_explains_once_and_no_others(
    warehouse: Connection, tmp_path: Path
) -> None:
    path = _write(
        tmp_path / "attendance.csv",
        [
            _answer("a", "Da bei"),
            _answer("b", " da-bei\t"),
            _answer("c", "smell"),
            _answer("d", "Dabei"),
            _answer("e", "attended"),
        ],
    )
    _ingest(warehouse, "attendance", tmp_path)
    assert _reasons(warehouse) == {"unknown_status": 4}
    _accept(warehouse, "attendance.status", "DA BEI", "attended")
    again = _ingest(warehouse, "attendance", tmp_path, day=1)
    assert (again.rows_read, again.rows_loaded) == (2, 2)
    for day in (2, 3):
        assert _ingest(warehouse, "attendance", tmp_path, day=day).loaded == []
    assert _statuses(warehouse) == {"a": "attended", "b": "attended", "e": "attended"}
    assert _reasons(warehouse) == {"unknown_status": 2}
    assert _journal(warehouse) == [(str(path), 5, 1, 4, 0), ("raw.rejects", 2, 2, 0, 0)]


def test_a_row_explained_in_one_column_and_bad_in_another_is_a_reject_of_the_other_once(
    warehouse: Connection, tmp_path: Path
) -> None:
    _write(
        tmp_path / "attendance.csv",
        [
            _answer("a", "Dabei", created_at="never"),
            _answer("b", "Dabei", org="nowhere"),
            _answer("c", "Dabei"),
        ],
    )
    _ingest(warehouse, "attendance", tmp_path)
    assert _reasons(warehouse) == {"unknown_status": 3}
    _accept(warehouse, "attendance.status", "Dabei", "attended")
    for day in (1, 2):
        _ingest(warehouse, "attendance", tmp_path, day=day)
        assert _reasons(warehouse) == {"bad_timestamp_created_at": 1, "unknown_org": 1}
    rejects = _rows(
        warehouse, "SELECT json_extract_string(row_json, '$.status'), path FROM raw.rejects"
    )
    assert set(rejects) == {("Dabei", "raw.rejects")}
    assert list(_statuses(warehouse)) == ["c"]
    warehouse.execute("INSERT INTO raw.organizations VALUES ('nowhere', 'n', NULL, 'UTC', NULL)")
    _ingest(warehouse, "attendance", tmp_path, day=3)
    assert _reasons(warehouse) == {"bad_timestamp_created_at": 1}
    assert _statuses(warehouse) == {"b": "attended", "c": "attended"}


def test_an_organisations_mapping_leaves_the_rows_of_others_in_quarantine(
    warehouse: Connection, tmp_path: Path
) -> None:
    _write(
        tmp_path / "attendance.csv",
        [_answer("a", "Dabei", org=" o "), _answer("b", "Dabei", org="p")],
    )
    _ingest(warehouse, "attendance", tmp_path)
    _accept(warehouse, "attendance.status", "Dabei", "partial", "o")
    assert _ingest(warehouse, "attendance", tmp_path, day=1).rows_read == 1
    assert _statuses(warehouse) == {"a": "partial"}
    _accept(warehouse, "attendance.status", "Dabei", "attended")
    _ingest(warehouse, "attendance", tmp_path, day=2)
    assert _statuses(warehouse) == {"a": "partial", "b": "attended"}
    assert _reasons(warehouse) == {}


def test_what_is_said_of_one_column_moves_no_row_kept_out_for_another(
    warehouse: Connection, tmp_path: Path
) -> None:
    named = {"org_id": "o", **REQUEST}
    _write(
        tmp_path / "override_requests.csv",
        [
            {"request_id": "1", "action": "neu", "level": "new", **named},
            {"request_id": "2", "action": "override", "level": "neu", **named},
        ],
    )
    _ingest(warehouse, "override_requests", tmp_path)
    _accept(warehouse, "override_requests.level", "neu", "new")
    assert _ingest(warehouse, "override_requests", tmp_path, day=1).rows_read == 1
    assert _reasons(warehouse) == {"unknown_action": 1}


def test_rows_of_a_refused_file_load_with_their_file_and_never_without_it(
    warehouse: Connection, tmp_path: Path
) -> None:
    strict = {"max_reject_rows": 1, "max_reject_share": 0.0}
    path = _write(
        tmp_path / "attendance.csv",
        [_answer("a", "Dabei"), _answer("b", "Dabei"), _answer("c", "?")],
    )
    assert _ingest(warehouse, "attendance", tmp_path, **strict).refused
    found = candidates(
        stored.rejected_values(warehouse), stored.mappings(warehouse), input_vocabularies()
    )
    assert dict(found.select("value", "rows").iter_rows()) == {"dabei": 2, "?": 1}
    _accept(warehouse, "attendance.status", "Dabei", "attended")
    content = path.read_text()
    path.unlink()
    assert _ingest(warehouse, "attendance", tmp_path, day=1, **strict).loaded == []
    assert _statuses(warehouse) == {}
    path.write_text(content)
    assert _ingest(warehouse, "attendance", tmp_path, day=2, **strict).rows_loaded == 2
    assert _journal(warehouse) == [(str(path), 3, 2, 1, 0)]
    assert _reasons(warehouse) == {"unknown_status": 1}


def test_a_refused_file_mended_in_its_place_leaves_no_candidates(
    warehouse: Connection, tmp_path: Path
) -> None:
    strict = {"max_reject_rows": 1, "max_reject_share": 0.0}
    path = _write(tmp_path / "attendance.csv", [_answer("a", "Dabei"), _answer("b", "Dabei")])
    assert _ingest(warehouse, "attendance", tmp_path, **strict).refused
    assert stored.rejected_values(warehouse).height == 1
    _write(path, [_answer("a", "attended"), _answer("b", "Hier")])
    _ingest(warehouse, "attendance", tmp_path, day=1, **strict)
    assert stored.rejected_values(warehouse)["value"].to_list() == ["Hier"]


def test_features_outside_of_a_list_wait_until_they_are_on_it_or_explained(
    warehouse: Connection, tmp_path: Path
) -> None:
    sent = {"user_id": "u", "sent_at": THEN}
    features = {"1": "Weekly Digest", "2": "weekly-digest", "3": "chat", "4": "nudge"}
    _write(
        tmp_path / "notifications.csv",
        [{"notification_id": n, "feature": f} | sent for n, f in features.items()],
    )

    def taken() -> dict[str, str]:
        sql = "SELECT notification_id, feature FROM raw.notifications"
        return dict(_rows(warehouse, sql))

    _ingest(warehouse, "notifications", tmp_path, known_features=["weekly_digest"])
    assert taken() == {"1": "weekly_digest", "2": "weekly_digest"}
    assert _reasons(warehouse) == {"unknown_feature": 2}
    _ingest(warehouse, "notifications", tmp_path, day=1, known_features=["weekly_digest", "Chat"])
    assert taken()["3"] == "Chat"
    _accept(warehouse, "notifications.feature", "Nudge", "Reminder")
    # It is said to mean something that is not on the list.
    _ingest(warehouse, "notifications", tmp_path, day=2, known_features=["weekly_digest"])
    assert _reasons(warehouse) == {"unknown_feature": 1}
    _ingest(warehouse, "notifications", tmp_path, day=3)
    assert taken()["4"] == "Reminder"
    assert _reasons(warehouse) == {}


def test_rejects_that_are_no_json_stop_nobody(warehouse: Connection, tmp_path: Path) -> None:
    rows = [{"org_id": "o", "user_id": f"u{n}", "role": "Chef", "joined_at": THEN} for n in "ab"]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "memberships.jsonl").write_text("\n".join([lines[0], "{not", lines[1], "]"]))
    _ingest(warehouse, "memberships", tmp_path)
    assert _reasons(warehouse) == {"unknown_role": 2, "unparseable": 2}
    assert stored.rejected_values(warehouse)["rows"].to_list() == [2]
    since = stored.rejected_rows_with_unknown_values(warehouse, NOW)
    assert unknown_value_signals(since).height == 2
    assert stored.rejected_rows_with_unknown_values(warehouse, NOW + timedelta(1)).is_empty()
    _accept(warehouse, "memberships.role", "chef", "admin")
    _ingest(warehouse, "memberships", tmp_path, day=1)
    assert _reasons(warehouse) == {"unparseable": 2}
    assert set(_rows(warehouse, "SELECT user_id, role FROM raw.memberships")) == {
        ("ua", "admin"),
        ("ub", "admin"),
    }


def test_a_mapping_is_replaced_by_another_term_and_left_alone_by_the_same(
    warehouse: Connection,
) -> None:
    assert _accept(warehouse, "attendance.status", "Dabei", "attended")
    assert not _accept(warehouse, "attendance.status", "dabei ", "Attended")
    assert _accept(warehouse, "attendance.status", "Dabei", "attended", "o")
    assert _accept(warehouse, "attendance.status", "Dabei", "partial")
    found = stored.mappings(warehouse).select("org_id", "value", "term").rows()
    assert found == [(None, "dabei", "partial"), ("o", "dabei", "attended")]
    assert violations(warehouse, contract("loops.vocabulary_mappings")) == []


def test_candidates_are_replaced_as_a_whole(warehouse: Connection, tmp_path: Path) -> None:
    table = contract("loops.vocabulary_candidates")
    for status in ("Dabei", "Hier"):
        _write(tmp_path / "attendance.csv", [_answer("a", status)])
        warehouse.execute("DELETE FROM raw.rejects")
        _ingest(warehouse, "attendance", tmp_path)
        found = candidates(
            stored.rejected_values(warehouse), stored.mappings(warehouse), input_vocabularies()
        )
        stored.replace_candidates(warehouse, found)
        values = _rows(warehouse, f"SELECT value FROM {table.full_name}")
        assert values == [(fold(status),)]


ACTIONS = ["override", "clear", "Setzen", "weg"]
LEVELS = ["new", "moderate", "Neu", "mittel", ""]
ACCEPTED = {
    ("action", "setzen"): "override",
    ("action", "weg"): "clear",
    ("level", "neu"): "new",
    ("level", "mittel"): "moderate",
}
REQUEST = {"user_id": "u", "notes": "why", "performed_by": "a", "performed_at": THEN}


def _plain_reason(row: dict[str, str], said: set[tuple[str, str, str | None]]) -> str | None:
    meant = {}
    for column in ("action", "level"):
        text = row[column].casefold()
        known = ["override", "clear"] if column == "action" else ["new", "moderate"]
        is_said = {(column, text, None), (column, text, row["org_id"])} & said
        meant[column] = text if text in known else ACCEPTED[column, text] if is_said else None
        if text and meant[column] is None:
            return f"unknown_{column}"
    if meant["action"] == "override" and not meant["level"]:
        return "missing_level"
    return "unknown_org" if row["org_id"] == "nowhere" else None


@st.composite
def _requests(draw: st.DrawFn) -> list[dict[str, str]]:
    row = st.fixed_dictionaries(
        {
            "org_id": st.sampled_from(["o", "p", "nowhere"]),
            "action": st.sampled_from(ACTIONS),
            "level": st.sampled_from(LEVELS),
        }
    )
    rows = draw(st.lists(row, min_size=1, max_size=6))
    return [{"request_id": str(n)} | row | REQUEST for n, row in enumerate(rows)]


def test_whatever_is_said_in_whatever_order_no_row_is_lost_or_there_twice(
    opened: Connection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @hypothesis_settings(max_examples=12, deadline=None)
    @given(
        _requests(),
        st.lists(
            st.tuples(st.sampled_from(sorted(ACCEPTED)), st.sampled_from([None, "o", "p"])),
            min_size=1,
            max_size=4,
        ),
    )
    def check(rows: list[dict[str, str]], steps: list[tuple[tuple[str, str], str | None]]) -> None:
        source = tmp_path_factory.mktemp("source")
        _empty(opened)
        _write(source / "override_requests.csv", rows)
        _ingest(opened, "override_requests", source)
        said: set[tuple[str, str, str | None]] = set()
        for day, ((column, value), org) in enumerate(steps, start=1):
            said.add((column, value, org))
            term = ACCEPTED[column, value]
            _accept(opened, f"override_requests.{column}", value, term, org)
            _ingest(opened, "override_requests", source, day=day)
            expected = {row["request_id"]: _plain_reason(row, said) for row in rows}
            loaded = _rows(opened, "SELECT request_id FROM raw.override_requests")
            rejected = _rows(
                opened,
                "SELECT json_extract_string(row_json, '$.request_id'), reason FROM raw.rejects",
            )
            assert sorted(loaded) == sorted((n,) for n, reason in expected.items() if not reason)
            assert sorted(rejected) == sorted(
                (n, reason) for n, reason in expected.items() if reason
            )
        for _, read, loaded_rows, rejected_rows, unchanged in _journal(opened):
            assert read == loaded_rows + rejected_rows + unchanged

    check()


# --- which row stays ------------------------------------------------------------------------------


def _member(role: str, left_at: str = "") -> dict[str, str]:
    named = {"org_id": "o", "user_id": "ann", "role": role}
    return named | {"joined_at": THEN, "left_at": left_at}


def _take_in_order(
    connection: Connection, source: Path, table: str, files: list[list[dict[str, str]]]
) -> TableIngest:
    """A file a day; gives what comes of them the day after people said what the values mean."""
    for day, rows in enumerate(files):
        _write(source / table / f"{day}.csv", rows)
        _ingest(connection, table, source, day=day)
    _accept(connection, "memberships.role", "chair", "admin")
    _accept(connection, "attendance.status", "dabei", "attended")
    again = _ingest(connection, table, source, day=len(files))
    assert _reasons(connection) == {}
    return again


@pytest.mark.parametrize("is_quarantined_first", [True, False])
def test_a_row_out_of_quarantine_never_replaces_one_where_no_time_says_which_is_newer(
    is_quarantined_first: bool, warehouse: Connection, tmp_path: Path
) -> None:
    files = [[_member("chair")], [_member("member", "2026-03-01")]]
    if not is_quarantined_first:
        files.reverse()
    again = _take_in_order(warehouse, tmp_path, "memberships", files)
    assert (again.rows_read, again.rows_loaded, again.loaded[0].rows_unchanged) == (1, 0, 1)
    left = datetime(2026, 3, 1, tzinfo=UTC)
    assert _rows(warehouse, "SELECT role, left_at FROM raw.memberships") == [("member", left)]


@pytest.mark.parametrize("is_quarantined_first", [True, False])
@pytest.mark.parametrize(
    ("day", "status"), [(1, "no_show"), (2, "no_show"), (3, "attended")], ids=["<", "=", ">"]
)
def test_a_row_out_of_quarantine_replaces_one_only_when_it_is_newer(
    day: int, status: str, is_quarantined_first: bool, warehouse: Connection, tmp_path: Path
) -> None:
    files = [
        [_answer("a", "dabei", created_at=f"2026-01-0{day}")],
        [_answer("a", "no_show", created_at="2026-01-02")],
    ]
    if not is_quarantined_first:
        files.reverse()
    again = _take_in_order(warehouse, tmp_path, "attendance", files)
    (loaded,) = again.loaded
    expected = (1, 0) if status == "attended" else (0, 1)
    assert (loaded.rows_loaded, loaded.rows_unchanged) == expected
    assert _statuses(warehouse) == {"a": status}


def test_of_several_rows_out_of_quarantine_the_last_quarantined_stays(
    warehouse: Connection, tmp_path: Path
) -> None:
    for day, names in enumerate((["z"], ["a", "b"])):
        for name in names:
            _write(
                tmp_path / "memberships" / f"{name}.csv", [_member("chair", f"2026-03-0{day + 1}")]
            )
        # It is found after the folder, though its path goes before.
        _write(tmp_path / "memberships.csv", [_member("Chair", f"2026-04-0{day + 1}")])
        _ingest(warehouse, "memberships", tmp_path, day=day)
    _accept(warehouse, "memberships.role", "chair", "admin")
    _ingest(warehouse, "memberships", tmp_path, day=2)
    last = datetime(2026, 4, 2, tzinfo=UTC)
    assert _rows(warehouse, "SELECT role, left_at FROM raw.memberships") == [("admin", last)]


# --- when mappings were used ----------------------------------------------------------------------


def _uses(connection: Connection) -> dict[str, tuple[datetime, int]]:
    found = _rows(
        connection,
        "SELECT org_id, used_at, calibrations, archetype, consumer FROM loops.consumer_uses",
    )
    assert {row[3:] for row in found} <= {("vocabulary", "ingestion")}
    return {org: (used_at, count) for org, used_at, count, *_ in found}


def test_what_a_mapping_gave_words_to_counts_as_used_at_the_runs_moment(
    warehouse: Connection, tmp_path: Path
) -> None:
    _accept(warehouse, "attendance.status", "Dabei", "attended")
    _accept(warehouse, "attendance.status", "Weg", "no_show", "o")
    _accept(warehouse, "attendance.status", "never written", "no_show")
    # It means this without anybody's saying so.
    _accept(warehouse, "attendance.status", "present", "attended")
    rows = [
        _answer("a", "dabei"),
        _answer("b", " DABEI"),
        _answer("c", "weg", org=" o "),
        _answer("d", "attended", org="p"),
        _answer("e", "present", org="p"),
        _answer("f", "weg", org="p"),
        _answer("g", "dabei", org="p", created_at="never"),
    ]
    _write(tmp_path / "attendance" / "1.csv", rows)
    as_of = NOW - timedelta(days=100)
    _ingest(warehouse, "attendance", tmp_path, used_at=as_of, batch_rows=1_000)
    assert _uses(warehouse) == {"o": (as_of, 2)}
    # Nothing new: nothing used.
    _ingest(warehouse, "attendance", tmp_path, day=1)
    assert _uses(warehouse) == {"o": (as_of, 2)}
    _write(tmp_path / "attendance" / "2.csv", [_answer("h", "Dabei", org="p")])
    _ingest(warehouse, "attendance", tmp_path, day=2)
    assert _uses(warehouse) == {"o": (as_of, 2), "p": (NOW + timedelta(days=2), 1)}


def test_a_mapping_is_used_when_it_brings_rows_out_of_quarantine(
    warehouse: Connection, tmp_path: Path
) -> None:
    _write(
        tmp_path / "attendance.csv",
        [_answer("a", "Dabei"), _answer("b", "dabei", org="p"), _answer("c", "hm", org="p")],
    )
    _ingest(warehouse, "attendance", tmp_path)
    _accept(warehouse, "attendance.status", "Dabei", "attended", "o")
    assert _uses(warehouse) == {}
    _ingest(warehouse, "attendance", tmp_path, day=1)
    assert _uses(warehouse) == {"o": (NOW + timedelta(days=1), 1)}


def test_no_mapping_is_used_when_an_organisation_or_a_feature_becomes_known(
    warehouse: Connection, tmp_path: Path
) -> None:
    _accept(warehouse, "attendance.status", "Dabei", "attended")
    _accept(warehouse, "notifications.feature", "Nudge", "Reminder")
    _write(tmp_path / "attendance.csv", [_answer("a", "attended", org="late")])
    _write(
        tmp_path / "notifications.csv",
        [{"notification_id": "1", "org_id": "o", "user_id": "u", "feature": "C", "sent_at": THEN}],
    )
    _ingest(warehouse, "attendance", tmp_path)
    _ingest(warehouse, "notifications", tmp_path, known_features=["Reminder"])
    assert _reasons(warehouse) == {"unknown_org": 1, "unknown_feature": 1}
    warehouse.execute("INSERT INTO raw.organizations VALUES ('late', 'n', NULL, 'UTC', NULL)")
    assert _ingest(warehouse, "attendance", tmp_path, day=1).rows_loaded == 1
    both = ["Reminder", "C"]
    again = _ingest(warehouse, "notifications", tmp_path, day=1, known_features=both)
    assert again.rows_loaded == 1
    assert _uses(warehouse) == {}


def test_a_refused_file_uses_no_mapping(warehouse: Connection, tmp_path: Path) -> None:
    _accept(warehouse, "attendance.status", "Dabei", "attended")
    strict = {"max_reject_rows": 0, "max_reject_share": 0.0}
    _write(tmp_path / "attendance.csv", [_answer("a", "Dabei"), _answer("b", "hm")])
    assert _ingest(warehouse, "attendance", tmp_path, **strict).refused
    assert _uses(warehouse) == {}


# --- the loops off --------------------------------------------------------------------------------


def test_with_the_loops_off_no_mapping_is_applied_and_all_are_once_they_are_on(
    warehouse: Connection, tmp_path: Path
) -> None:
    off = {"loops_enabled": False}
    _write(tmp_path / "attendance" / "1.csv", [_answer("a", "Dabei"), _answer("b", "hm")])
    _ingest(warehouse, "attendance", tmp_path)
    for value in ("Dabei", "yes"):
        _accept(warehouse, "attendance.status", value, "attended")
    rows = [_answer("c", "dabei"), _answer("d", "yes"), _answer("e", "dabei", org="late")]
    _write(tmp_path / "attendance" / "2.csv", [*rows, _answer("f", "no", org="late")])
    taken = _ingest(warehouse, "attendance", tmp_path, day=1, **off)
    assert taken.mappings_not_applied == 2
    assert _statuses(warehouse) == {"d": "registered"}
    warehouse.execute("INSERT INTO raw.organizations VALUES ('late', 'n', NULL, 'UTC', NULL)")
    # What is known without any mapping comes out of quarantine all the same.
    _ingest(warehouse, "attendance", tmp_path, day=2, **off)
    assert _ingest(warehouse, "attendance", tmp_path, day=3, **off).loaded == []
    assert _statuses(warehouse) == {"d": "registered", "f": "cancelled"}
    assert _reasons(warehouse) == {"unknown_status": 4}
    assert _uses(warehouse) == {}
    back = _ingest(warehouse, "attendance", tmp_path, day=4)
    assert (back.rows_loaded, back.mappings_not_applied) == (3, 0)
    assert {user for user, status in _statuses(warehouse).items() if status == "attended"} == {
        "a",
        "c",
        "e",
    }
    assert {org: count for org, (_, count) in _uses(warehouse).items()} == {"o": 1, "late": 1}


def test_with_the_loops_off_newly_known_features_come_out_of_quarantine(
    warehouse: Connection, tmp_path: Path
) -> None:
    features = {"1": "Chat", "2": "Nudge"}
    _write(
        tmp_path / "notifications.csv",
        [
            {"notification_id": n, "feature": f, "user_id": "u", "sent_at": THEN}
            for n, f in features.items()
        ],
    )
    _ingest(warehouse, "notifications", tmp_path, known_features=["Reminder"])
    _accept(warehouse, "notifications.feature", "Nudge", "Reminder")
    both = ["Reminder", "Chat"]
    _ingest(warehouse, "notifications", tmp_path, day=1, known_features=both, loops_enabled=False)
    assert _rows(warehouse, "SELECT feature FROM raw.notifications") == [("Chat",)]
    assert _reasons(warehouse) == {"unknown_feature": 1}


def _ingest_asset(home: Path, source: Path) -> dict[str, dict[str, Any]]:
    """Table -> the metadata of it, of one run of the assets."""
    import dagster as dg

    from engagement_pipeline.defs.ingest import RAW_KEYS, ingest
    from engagement_pipeline.defs.resources import PipelineResource

    pipeline = PipelineResource(home=str(home), source=str(source), as_of=AS_OF.isoformat())
    wanted = [RAW_KEYS[table] for table in ("organizations", "attendance")]
    ended = dg.materialize([ingest], resources={"pipeline": pipeline}, selection=wanted)
    return {
        event.asset_key.path[-1]: dict(event.materialization.metadata)
        for event in ended.get_asset_materialization_events()
    }


def test_the_tables_metadata_say_which_mappings_are_not_applied_and_uses_have_the_runs_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engagement_pipeline.defs.metadata import LOOPS_OFF

    home, source = tmp_path / "home", tmp_path / "source"
    _write(source / "organizations.csv", [{"org_id": "o", "name": "n"}])
    _write(source / "attendance.csv", [_answer("a", "Dabei")])
    _in_home(monkeypatch, home, source)
    settings = settings_of(home, source)
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=NOW)
        _accept(connection, "attendance.status", "Dabei", "attended")
    monkeypatch.setenv("LOOPS_ENABLED", "false")
    told = _ingest_asset(home, source)
    assert told["attendance"]["mappings_not_applied"].value == f"1, for {LOOPS_OFF}"
    assert told["attendance"]["rows_loaded"].value == 0
    assert "mappings_not_applied" not in told["organizations"]
    monkeypatch.setenv("LOOPS_ENABLED", "true")
    told = _ingest_asset(home, source)
    assert "mappings_not_applied" not in told["attendance"]
    assert told["attendance"]["rows_loaded"].value == 1
    uses = in_warehouse(settings, "SELECT used_at FROM loops.consumer_uses")
    assert uses == [(AS_OF,)]


# --- from the terminal ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def told(self) -> str:
        return " ".join(self.err.replace("│", " ").split())


def _engagement(*words: str) -> Answer:
    out, err, status = io.StringIO(), io.StringIO(), DONE
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["engagement", *words])
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
    return Answer(status, out.getvalue(), err.getvalue())


def _in_home(patch: pytest.MonkeyPatch, home: Path, source: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ENGAGEMENT_")]:
        patch.delenv(name)
    patch.setenv("ENGAGEMENT_HOME", str(home))
    patch.setenv("ENGAGEMENT_SOURCE", str(source))
    patch.setenv("DAGSTER_HOME", str(home / ".dagster"))


ATTENDANCE = ["org_id", "event_id", "user_id", "status", "created_at"]
STATUS = "attendance.status"


@dataclass(frozen=True)
class Story:
    """What each command answered, and what there was after each of three runs."""

    answers: dict[str, Answer]
    quarantined: dict[str, dict[str, int]]
    levels: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """An unknown status in two organisations, told for one, then for all; and a refused file."""
    folder = tmp_path_factory.mktemp("home")
    source = write_small_source(tmp_path_factory.mktemp("source"))
    (source / "attendance").mkdir()
    (source / "attendance.csv").rename(source / "attendance" / "first.csv")
    rows = [
        [org, f"{org}-lost-{days}", "lost", "Attendeed", ago(days)]
        for org in ("choir", "garden")
        for days in (3, 9, 27)
    ]
    write_table(source / "attendance", "second", ATTENDANCE, rows)
    answers: dict[str, Answer] = {}
    quarantined: dict[str, dict[str, int]] = {}
    levels: dict[str, dict[str, str]] = {}
    settings = settings_of(folder, source)

    def run(name: str) -> None:
        answers[name] = _engagement("run", "--as-of", AS_OF.isoformat(), "--json")
        answers[f"list after {name}"] = _engagement("vocabulary", "list", "--json")
        rejects = "SELECT json_extract_string(row_json, '$.org_id'), count(*) FROM raw.rejects"
        quarantined[name] = dict(in_warehouse(settings, f"{rejects} GROUP BY ALL"))  # type: ignore[arg-type]
        shown = "SELECT org_id, effective_level FROM marts.member_engagement WHERE user_id = 'lost'"
        levels[name] = dict(published(settings, shown))  # type: ignore[arg-type]

    def accept(name: str, *words: str) -> None:
        answers[name] = _engagement("vocabulary", "accept", STATUS, *words)

    with pytest.MonkeyPatch.context() as patch:
        _in_home(patch, folder, source)
        run("first")
        accept("for choir", "attendeed", "Attended", "--org", "choir", "--json")
        rows = [["runners", f"r-{n}", "lost", "Yup!", ago(n + 1)] for n in range(30)]
        write_table(source / "attendance", "third", ATTENDANCE, rows)
        run("second")
        accept("for all", "Attendeed", "attended")
        accept("yup", "yup!", "attended")
        run("third")
        yield Story(answers, quarantined, levels)


def _candidates(answer: Answer) -> list[tuple[Any, ...]]:
    assert answer.status == DONE, answer.err
    names = ("org_id", "value", "rows", "nearest_term", "accepted_term")
    return [tuple(row[name] for name in names) for row in answer.json["candidates"]]


def test_an_unknown_value_is_a_candidate_with_its_count_and_the_nearest_term(story: Story) -> None:
    assert story.answers["first"].status == DONE
    assert _candidates(story.answers["list after first"]) == [
        ("choir", "attendeed", 3, "attended", None),
        ("garden", "attendeed", 3, "attended", None),
    ]
    assert story.levels["first"] == dict.fromkeys(("choir", "garden", "runners"), "at_risk")
    assert story.answers["list after first"].json["mappings"] == []


def test_what_an_organisation_was_said_to_mean_loads_its_rows_and_no_others(story: Story) -> None:
    told = story.answers["for choir"].json
    assert (told["org_id"], told["value"], told["term"]) == ("choir", "attendeed", "attended")
    assert story.quarantined["first"] == {"choir": 3, "garden": 3}
    assert story.quarantined["second"] == {"garden": 3, "runners": 30}
    assert [row[:3] for row in _candidates(story.answers["list after second"])] == [
        ("garden", "attendeed", 3),
        ("runners", "yup!", 30),
    ]


def test_a_refused_file_passes_as_a_whole_once_its_values_are_explained(story: Story) -> None:
    refused = story.answers["second"]
    assert refused.status == FAILED
    assert "30 of 30 rows rejected" in refused.told
    assert "unknown_status 30" in refused.told
    assert story.answers["third"].status == DONE
    assert story.quarantined["third"] == {}


def test_levels_follow_the_rows_that_were_loaded_again(story: Story) -> None:
    everywhere = dict.fromkeys(("choir", "garden", "runners"), "highly_engaged")
    assert story.levels["third"] == everywhere


def test_people_are_told_what_was_recorded_and_when_its_rows_load(story: Story) -> None:
    answer = story.answers["for all"]
    assert (answer.status, answer.out) == (DONE, "")
    assert "attendance.status: attendeed means attended everywhere" in answer.told
    assert "load at the next run; there are" in answer.told
    found = story.answers["list after third"].json
    assert found["candidates"] == []
    assert [(row["org_id"], row["value"], row["term"]) for row in found["mappings"]] == [
        (None, "attendeed", "attended"),
        (None, "yup!", "attended"),
        ("choir", "attendeed", "attended"),
    ]


@pytest.mark.usefixtures("story")
def test_people_see_candidates_and_mappings_in_tables() -> None:
    shown = _engagement("vocabulary", "list")
    assert shown.status == DONE
    for word in ("Values that are not known: none", "attendeed", "choir", "yup!"):
        assert word in shown.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([STATUS, "hm", "bored"], "expected one of registered, attended"),
        (["attendance.mood", "hm", "attended"], "found attendance.mood"),
        ([STATUS, "no-show", "attended"], "always means itself"),
        ([STATUS, " ", "attended"], "blank"),
        ([STATUS, "hm", "attended", "--org", "chior"], "one of choir, garden, runners"),
        ([STATUS, "hm"], "Missing argument 'term'"),
    ],
)
def test_what_cannot_be_accepted_is_usage_and_says_what_was_expected(
    story: Story, words: list[str], told: str
) -> None:
    answer = _engagement("vocabulary", "accept", *words)
    assert (answer.status, answer.out) == (USAGE, "")
    assert told in answer.told
    mappings = _engagement("vocabulary", "list", "--json").json["mappings"]
    assert mappings == story.answers["list after third"].json["mappings"]


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder where nothing has ever run."""
    _in_home(monkeypatch, tmp_path / "home", tmp_path / "source")
    return tmp_path / "home"


def test_where_nothing_ever_ran_there_is_nothing_to_list_and_asking_creates_nothing(
    empty_home: Path,
) -> None:
    answer = _engagement("vocabulary", "list", "--json")
    assert (answer.status, answer.json) == (DONE, {"candidates": [], "mappings": []})
    assert _engagement("vocabulary", "accept", STATUS, "x", "no", "--org", "o").status == USAGE
    assert not empty_home.exists()


# --- from the launchpad ---------------------------------------------------------------------------


def _run_job(home: Path, **config: str) -> list[str]:
    from engagement_pipeline.terminal.running import dagster_instance, run_job

    settings = settings_of(home, home / "source")
    with dagster_instance(settings) as instance:
        run = run_job(
            instance,
            "accept_vocabulary",
            options={"home": str(home)},
            ops={"accept_term": {"config": config}},
        )
        recorded = instance.get_latest_materialization_event(_MAPPINGS_KEY)
        return [*run.failures, "recorded"] if recorded else list(run.failures)


def _mappings_key() -> Any:
    from engagement_pipeline.defs.vocabulary import MAPPINGS

    return MAPPINGS


_MAPPINGS_KEY = _mappings_key()
_WORDS = {"column": STATUS, "value": "Dabei", "term": "attended"}


@pytest.fixture
def launch(empty_home: Path) -> Callable[..., list[str]]:
    return lambda **config: _run_job(empty_home, **(_WORDS | config))


def test_a_mapping_from_the_launchpad_is_recorded_as_the_tables_and_a_bad_one_names_why(
    launch: Callable[..., list[str]], empty_home: Path
) -> None:
    (failure,) = launch(term="bored")
    assert "expected one of registered, attended" in failure
    (failure,) = launch(org_id="nowhere")
    assert "one of none; found 'nowhere'" in failure
    assert launch() == ["recorded"]
    rows = in_warehouse(
        settings_of(empty_home, empty_home),
        "SELECT table_name, column_name, org_id, value, term FROM loops.vocabulary_mappings",
    )
    assert rows == [("attendance", "status", None, "dabei", "attended")]


def test_the_launchpad_describes_every_field_and_lists_the_columns() -> None:
    from engagement_pipeline.definitions import defs

    job = defs.resolve_job_def("accept_vocabulary")
    fields = job.graph.node_named("accept_term").definition.config_schema.config_type.fields
    assert set(fields) == {"column", "value", "term", "org_id"}
    assert all(field.description for field in fields.values())
    listed = {value.config_value for value in fields["column"].config_type.enum_values}
    assert {STATUS, "memberships.role", "notifications.feature"} <= listed
