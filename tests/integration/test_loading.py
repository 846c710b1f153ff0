"""Real files into a real warehouse, against the same rules written once more in plain Python."""

import csv
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.ingestion import TableIngest, ingest_table
from engagement_pipeline.ingest.source import INPUT_TABLES, discover
from engagement_pipeline.settings import Settings, load_settings
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.loading import CheckedBatch, FileIdentity, RejectLimit, load_file
from engagement_pipeline.warehouse.quality import gaps, violations
from engagement_pipeline.warehouse.schema import upgrade

Row = dict[str, Any]

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ORGS = ("o", "p")
ATTENDANCE = ("org_id", "event_id", "user_id", "status", "created_at", "responded_at")


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
    for org in ORGS:
        connection.execute(
            "INSERT INTO raw.organizations VALUES (?, 'n', NULL, 'UTC', NULL)", [org]
        )


def _settings(home: Path, **given: Any) -> Settings:
    return load_settings(home=home, profile="test", **given)


def _ingest(
    connection: Connection, table: str, source: Path, now: datetime = NOW, **given: Any
) -> TableIngest:
    # Rows out of quarantine pass through a file in the home folder.
    (source / "data" / "spool").mkdir(parents=True, exist_ok=True)
    return ingest_table(
        connection,
        contract(f"raw.{table}"),
        discover(source).files[table],
        settings=_settings(source, **given),
        now=now,
        progress=_Uncounted(),
    )


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str | None]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return path


def _rows(connection: Connection, sql: str) -> list[tuple[Any, ...]]:
    return query(connection, sql).rows()


def _content(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    names = ", ".join(contract(f"raw.{table}").column_names)
    return sorted(_rows(connection, f"SELECT {names} FROM raw.{table}"), key=repr)


# --- any sequence of files ------------------------------------------------------------------------

REJECT_LIMIT = {"max_reject_rows": 1, "max_reject_share": 0.4}


@dataclass
class Kind:
    """A table and what its rows are like: columns with their possible texts, the bad ones too."""

    table: str
    values: dict[str, list[str]]
    key: tuple[str, ...]
    reason: Callable[[Row], str | None] = lambda _: None
    newer_by: Callable[[Row], str] = lambda _: ""
    only_adds: bool = False
    defaults: dict[str, str] = field(default_factory=dict)


DAYS = [f"2026-01-0{n}" for n in range(1, 5)]
KINDS = [
    Kind(
        "attendance",
        {
            "org_id": ["o"],
            "event_id": ["e", "f"],
            "user_id": ["u", "v"],
            "status": ["registered", "attended", "no_show", "nonsense"],
            "created_at": DAYS,
            "responded_at": ["", *DAYS],
        },
        ("org_id", "event_id", "user_id"),
        reason=lambda row: "unknown_status" if row["status"] == "nonsense" else None,
        newer_by=lambda row: row["responded_at"] or row["created_at"],
    ),
    Kind(
        "event_views",
        {
            "org_id": ["o", "p", "nowhere"],
            "event_id": ["e"],
            "user_id": ["u", "v"],
            "viewed_at": [*DAYS, "2026-01-04"],
        },
        ("org_id", "event_id", "user_id", "viewed_at"),
        reason=lambda row: "unknown_org" if row["org_id"] == "nowhere" else None,
        only_adds=True,
    ),
    Kind(
        "memberships",
        {
            "org_id": ["o", "p"],
            "user_id": ["u", "v"],
            "role": ["", "admin", "member"],
            "joined_at": [*DAYS, ""],
            "left_at": ["", "2026-02-01"],
        },
        ("org_id", "user_id"),
        reason=lambda row: None if row["joined_at"] else "missing_joined_at",
        defaults={"role": "member"},
    ),
    Kind(
        "preferences",
        {
            "user_id": ["u", "v"],
            "org_id": ["", "o"],
            "opted_out": ["true", "false"],
            "quiet_start": ["", "22:00"],
            "quiet_end": ["", "26:00", "06:00"],
            "updated_at": DAYS,
        },
        ("user_id", "org_id"),
        reason=lambda row: "unknown_quiet_end" if row["quiet_end"] == "26:00" else None,
        newer_by=lambda row: row["updated_at"],
    ),
]


@dataclass
class Plain:
    """What the warehouse should hold, kept row by row."""

    kind: Kind
    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)
    journal: dict[tuple[str, ...], tuple[Any, ...]] = field(default_factory=dict)
    rejects: dict[tuple[str, ...], list[tuple[str, int, str]]] = field(default_factory=dict)

    def load(self, path: Path, rows: list[Row]) -> None:
        content = tuple(str([row[name] for name in self.kind.values]) for row in rows)
        if content in self.journal and self.journal[content][1] == "loaded":
            return
        rejects, best = [], {}
        for number, row in enumerate(rows, start=1):
            reason = self.kind.reason(row)
            if reason:
                rejects.append((str(path), number, reason))
                continue
            key = self._key(row)
            if key in best:
                older, newer = sorted(
                    [best[key], (number, row)], key=lambda r: (self.kind.newer_by(r[1]), r[0])
                )
                rejects.append((str(path), older[0], "duplicate_key"))
                best[key] = newer
            else:
                best[key] = (number, row)
        self.rejects[content] = sorted(rejects)
        if len(rejects) > 1 and len(rejects) > 0.4 * len(rows):
            self.journal[content] = (str(path), "refused", len(rows), 0, len(rejects), 0)
            return
        loaded = sum(self._merge(key, row) for key, (_, row) in best.items())
        unchanged = len(rows) - len(rejects) - loaded
        counts = (len(rows), loaded, len(rejects), unchanged)
        self.journal[content] = (str(path), "loaded", *counts)

    def _merge(self, key: tuple[str, ...], row: Row) -> bool:
        there = self.rows.get(key)
        if there is not None and (
            self.kind.only_adds or self.kind.newer_by(row) < self.kind.newer_by(there)
        ):
            return False
        self.rows[key] = row
        return True

    def _key(self, row: Row) -> tuple[str, ...]:
        return tuple(row[name] for name in self.kind.key)

    def content(self) -> list[tuple[Any, ...]]:
        names = contract(f"raw.{self.kind.table}").column_names
        return sorted(
            (tuple(self._typed(row, n) for n in names) for row in self.rows.values()), key=repr
        )

    def _typed(self, row: Row, name: str) -> Any:
        text = row[name] or self.kind.defaults.get(name)
        if name.endswith("_at") and text:
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        return text == "true" if name == "opted_out" else text


def _files_of(kind: Kind) -> st.SearchStrategy[list[list[Row]]]:
    row = st.fixed_dictionaries(
        {name: st.sampled_from(texts) for name, texts in kind.values.items()}
    )
    return st.lists(st.lists(row, max_size=7), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.table)
def test_any_sequence_of_files_leaves_what_plain_python_says(
    kind: Kind, opened: Connection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @hypothesis_settings(max_examples=30, deadline=None)
    @given(_files_of(kind), st.data())
    def check(files: list[list[Row]], data: st.DataObject) -> None:
        source = tmp_path_factory.mktemp("source")
        _empty(opened)
        expected = Plain(kind)
        seen: list[tuple[Path, list[Row]]] = []
        for number, rows in enumerate(files):
            path = source / kind.table / f"{number}.csv"
            texts = [[row[name] for name in kind.values] for row in rows]
            seen.append((_write(path, list(kind.values), texts), rows))
            # Some runs find several new files; every run finds all the older ones again.
            if number + 1 < len(files) and data.draw(st.booleans()):
                continue
            result = _ingest(
                opened, kind.table, source, NOW + timedelta(days=number), **REJECT_LIMIT
            )
            assert result.problems == []
            for known, its_rows in seen:
                expected.load(known, its_rows)
        assert _content(opened, kind.table) == expected.content()
        found = _rows(opened, "SELECT path, row_number, reason FROM raw.rejects")
        assert sorted(found) == sorted(chain(*expected.rejects.values()))
        journal = _rows(
            opened,
            "SELECT path, outcome, rows_read, rows_loaded, rows_rejected, rows_unchanged "
            "FROM raw.ingested_files",
        )
        assert sorted(journal) == sorted(expected.journal.values())
        for table in (kind.table, "ingested_files", "rejects"):
            assert violations(opened, contract(f"raw.{table}")) == []

    check()


# --- rows that came before their organisation -----------------------------------------------------

MEMBERSHIPS = ("org_id", "user_id", "joined_at", "left_at")


def _after_the_organisation(
    kind: Kind, files: list[tuple[list[Row], bool]]
) -> tuple[dict[str, Row], int]:
    """What should be there of one organisation's rows once it is known: user -> row.

    The files come in their order, each with whether the organisation was known by then. From the
    first such file on nothing is quarantined, and the rows that were come after that file's own.
    Gives also how many of the quarantined are rejects of the same key's.
    """
    stored: dict[str, Row] = {}
    waiting: dict[str, Row] = {}
    duplicates = 0
    for rows, is_known in files:
        of_file: dict[str, Row] = {}
        for row in rows:
            there = of_file.get(row["user_id"])
            if there is None or kind.newer_by(row) >= kind.newer_by(there):
                of_file[row["user_id"]] = row
        for row in rows if not is_known else ():
            there = waiting.get(row["user_id"])
            duplicates += there is not None
            if there is None or kind.newer_by(row) >= kind.newer_by(there):
                waiting[row["user_id"]] = row
        for user, row in of_file.items() if is_known else ():
            there = stored.get(user)
            if there is None or kind.newer_by(row) >= kind.newer_by(there):
                stored[user] = row
        for user, row in waiting.items() if is_known else ():
            there = stored.get(user)
            if there is None or kind.newer_by(row) > kind.newer_by(there):
                stored[user] = row
        waiting = {} if is_known else waiting
    return stored, duplicates


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2]], ids=lambda kind: kind.table)
def test_rows_that_waited_for_their_organisation_never_replace_what_is_as_new(
    kind: Kind, opened: Connection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fixed = {"org_id": ["late"], "event_id": ["e"], "status": ["attended", "no_show"]}
    sound = {"joined_at": DAYS, "left_at": ["", *DAYS]}
    values = {name: (fixed | sound).get(name, texts) for name, texts in kind.values.items()}
    row = st.fixed_dictionaries({name: st.sampled_from(texts) for name, texts in values.items()})

    @hypothesis_settings(max_examples=10, deadline=None)
    @given(st.lists(st.lists(row, min_size=1, max_size=3), min_size=2, max_size=4), st.data())
    def check(files: list[list[Row]], data: st.DataObject) -> None:
        source = tmp_path_factory.mktemp("source")
        _empty(opened)
        known_from = data.draw(st.integers(1, len(files) - 1))
        for number, rows in enumerate(files):
            if number == known_from:
                opened.execute(
                    "INSERT INTO raw.organizations VALUES ('late', 'n', NULL, 'UTC', NULL)"
                )
            path = source / kind.table / f"{number}.csv"
            # The number keeps apart files that are otherwise the same.
            texts = [[*(row[name] for name in values), str(number)] for row in rows]
            _write(path, [*values, "file"], texts)
            _ingest(opened, kind.table, source, NOW + timedelta(days=number))
        expected, duplicates = _after_the_organisation(
            kind, [(rows, number >= known_from) for number, rows in enumerate(files)]
        )
        plain = Plain(kind, {(user,): row for user, row in expected.items()})
        assert _content(opened, kind.table) == plain.content()
        found = _rows(opened, "SELECT reason FROM raw.rejects WHERE path = 'raw.rejects'")
        assert found == [("duplicate_key",)] * duplicates
        assert _rows(opened, "SELECT reason FROM raw.rejects WHERE reason = 'unknown_org'") == []

    check()


@pytest.mark.parametrize("is_quarantined_first", [True, False])
def test_a_member_who_left_is_not_made_to_stay_by_a_row_that_waited_for_its_organisation(
    is_quarantined_first: bool, warehouse: Connection, tmp_path: Path
) -> None:
    late = [["late", "ann", "2026-01-01", ""]]
    left = [["late", "ann", "2026-01-01", "2026-03-01"]]
    _write(tmp_path / "memberships" / "1.csv", MEMBERSHIPS, late)
    add = "INSERT INTO raw.organizations VALUES ('late', 'n', NULL, 'UTC', NULL)"
    if not is_quarantined_first:
        # The organisation is there, goes, and comes back.
        warehouse.execute(add)
        _write(tmp_path / "memberships" / "0.csv", MEMBERSHIPS, left)
        (tmp_path / "memberships" / "1.csv").unlink()
        _ingest(warehouse, "memberships", tmp_path)
        warehouse.execute("DELETE FROM raw.organizations WHERE org_id = 'late'")
        _write(tmp_path / "memberships" / "1.csv", MEMBERSHIPS, late)
    _ingest(warehouse, "memberships", tmp_path, NOW + timedelta(days=1))
    assert _rows(warehouse, "SELECT reason FROM raw.rejects") == [("unknown_org",)]
    warehouse.execute(add)
    if is_quarantined_first:
        _write(tmp_path / "memberships" / "2.csv", MEMBERSHIPS, left)
    again = _ingest(warehouse, "memberships", tmp_path, NOW + timedelta(days=2))
    assert (again.loaded[-1].rows_loaded, again.loaded[-1].rows_unchanged) == (0, 1)
    assert [row[-1] for row in _content(warehouse, "memberships")] == [
        datetime(2026, 3, 1, tzinfo=UTC)
    ]
    assert _rows(warehouse, "SELECT reason FROM raw.rejects") == []


# --- one file -------------------------------------------------------------------------------------


def _answers(users: Sequence[str], status: str = "attended") -> list[list[str | None]]:
    return [["o", "e", user, status, "2026-01-01", ""] for user in users]


def test_the_same_content_under_another_name_loads_nothing(
    warehouse: Connection, tmp_path: Path
) -> None:
    first = _write(tmp_path / "attendance" / "a.csv", ATTENDANCE, _answers("uv"))
    assert _ingest(warehouse, "attendance", tmp_path).rows_loaded == 2
    second = tmp_path / "attendance" / "b.csv"
    second.write_bytes(first.read_bytes())
    first.rename(tmp_path / "attendance" / "c.csv")
    result = _ingest(warehouse, "attendance", tmp_path)
    assert result.loaded == []
    assert result.known == [str(second), str(tmp_path / "attendance" / "c.csv")]
    assert _rows(warehouse, "SELECT path FROM raw.ingested_files") == [(str(first),)]


def test_equal_contents_within_one_run_load_once(warehouse: Connection, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write(tmp_path / "attendance" / f"{name}.csv", ATTENDANCE, _answers("uv"))
    result = _ingest(warehouse, "attendance", tmp_path)
    assert [len(result.loaded), len(result.known)] == [1, 1]


def test_equal_contents_of_two_tables_each_load_into_their_own(
    warehouse: Connection, tmp_path: Path
) -> None:
    # A header that suits both, and no row that would not.
    for table in ("memberships", "profiles"):
        _write(
            tmp_path / f"{table}.csv",
            ["org_id", "user_id", "joined_at"],
            [["o", "u", "2026-01-01"]],
        )
        assert _ingest(warehouse, table, tmp_path).rows_loaded == 1


VIEWS = contract("raw.event_views")
LIMIT = RejectLimit(0.05, 20)
IDENTITY = FileIdentity("views.csv", "a" * 64, 1)


def _views(count: int, first: int = 0) -> CheckedBatch:
    rows = pl.DataFrame(
        {"org_id": "o", "event_id": "e", "user_id": "u", "viewed_at": NOW - timedelta(seconds=n)}
        for n in range(first, first + count)
    )
    number = pl.int_range(first + 1, first + count + 1, eager=True).alias("row_number")
    rejects = pl.DataFrame({"row_number": [0], "reason": ["unparseable"], "row_json": ["?"]})
    return CheckedBatch(rows.with_columns(number), rejects, count + 1)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_file_that_breaks_off_leaves_nothing_and_loads_at_the_next_try(
    error: type[BaseException], warehouse: Connection
) -> None:
    def breaking_off() -> Iterator[CheckedBatch]:
        yield _views(1_000)
        raise error("half-way")

    with pytest.raises(error, match="half-way"):
        load_file(warehouse, VIEWS, IDENTITY, breaking_off(), limit=LIMIT, now=NOW)
    for table in ("event_views", "rejects", "ingested_files"):
        assert _rows(warehouse, f"SELECT * FROM raw.{table}") == []
    loaded = load_file(warehouse, VIEWS, IDENTITY, [_views(9)], limit=LIMIT, now=NOW)
    assert (loaded.rows_read, loaded.rows_loaded, loaded.rows_rejected) == (10, 9, 1)
    assert len(_rows(warehouse, "SELECT * FROM raw.event_views")) == 9


def test_no_scratch_table_outlives_a_file(warehouse: Connection) -> None:
    def breaking_off() -> Iterator[CheckedBatch]:
        yield _views(5)
        raise RuntimeError

    scratch = "SELECT table_name FROM duckdb_tables() WHERE temporary"
    load_file(warehouse, VIEWS, IDENTITY, [_views(5), _views(5)], limit=LIMIT, now=NOW)
    assert _rows(warehouse, scratch) == []
    with pytest.raises(RuntimeError):
        load_file(warehouse, VIEWS, IDENTITY, breaking_off(), limit=LIMIT, now=NOW)
    assert _rows(warehouse, scratch) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from engagement_pipeline.warehouse.connection import Warehouse
from engagement_pipeline.warehouse.loading import load_file
from engagement_pipeline.warehouse.schema import upgrade
from tests.integration.test_loading import IDENTITY, LIMIT, NOW, VIEWS, _views

def batches():
    yield _views(5_000)
    if sys.argv[2] == "during":
        os.kill(os.getpid(), signal.SIGKILL)
    yield _views(5_000, 5_000)

folder = Path(sys.argv[1])
with Warehouse(folder / "warehouse.duckdb", folder / "spool").open() as connection:
    upgrade(connection, now=NOW)
    load_file(connection, VIEWS, IDENTITY, batches(), limit=LIMIT, now=NOW)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("moment", "rows"), [("during", 0), ("after", 10_000)])
def test_a_kill_leaves_a_file_wholly_in_or_wholly_out(
    moment: str, rows: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    ended = subprocess.run(command, check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == -signal.SIGKILL
    with Warehouse(tmp_path / "warehouse.duckdb", tmp_path / "spool").open() as connection:
        assert len(_rows(connection, "SELECT * FROM raw.event_views")) == rows
        assert len(_rows(connection, "SELECT * FROM raw.rejects")) == (2 if rows else 0)
        assert len(_rows(connection, "SELECT * FROM raw.ingested_files")) == (1 if rows else 0)


# --- rejects --------------------------------------------------------------------------------------


def test_a_file_over_the_limit_lands_nothing_and_keeps_its_rejects_once(
    warehouse: Connection, tmp_path: Path
) -> None:
    path = _write(
        tmp_path / "attendance" / "a.csv",
        ATTENDANCE,
        _answers([str(n) for n in range(100)]) + _answers("abc", "nonsense") + _answers("1"),
    )
    good = _write(tmp_path / "attendance" / "b.csv", ATTENDANCE, _answers("z"))
    given = {"max_reject_rows": 3, "max_reject_share": 0.01}
    for day in range(3):
        result = _ingest(warehouse, "attendance", tmp_path, NOW + timedelta(days=day), **given)
        assert [(f.file.path, f.reasons) for f in result.refused] == [
            (str(path), (("unknown_status", 3), ("duplicate_key", 1)))
        ]
        reasons = _rows(warehouse, "SELECT reason FROM raw.rejects")
        assert Counter(reasons) == {("unknown_status",): 3, ("duplicate_key",): 1}
    assert [row[2] for row in _content(warehouse, "attendance")] == ["z"]
    outcomes = _rows(warehouse, "SELECT path, outcome, ingested_at FROM raw.ingested_files")
    last = NOW + timedelta(days=2)
    assert set(outcomes) == {(str(path), "refused", last), (str(good), "loaded", NOW)}
    _write(path, ATTENDANCE, _answers("abc"))
    assert _ingest(warehouse, "attendance", tmp_path, **given).rows_loaded == 3


def test_a_refused_file_loads_once_the_limit_is_raised_and_its_rejects_are_there_once(
    warehouse: Connection, tmp_path: Path
) -> None:
    _write(tmp_path / "attendance.csv", ATTENDANCE, _answers("ab", "nonsense") + _answers("c"))
    strict = {"max_reject_rows": 1, "max_reject_share": 0.0}
    assert _ingest(warehouse, "attendance", tmp_path, **strict).refused
    later = NOW + timedelta(days=1)
    result = _ingest(warehouse, "attendance", tmp_path, later, max_reject_rows=2)
    assert (result.refused, result.rows_loaded) == ([], 1)
    rejects = _rows(warehouse, "SELECT row_number, ingested_at FROM raw.rejects ORDER BY ALL")
    assert rejects == [(1, later), (2, later)]
    assert _rows(warehouse, "SELECT outcome FROM raw.ingested_files") == [("loaded",)]


@pytest.mark.parametrize(
    ("rejected", "read", "is_exceeded"),
    [(20, 20, False), (21, 21, True), (21, 420, False), (22, 420, True), (21, 419, True)],
)
def test_the_limit_is_a_share_of_the_file_and_never_below_its_rows(
    rejected: int, read: int, is_exceeded: bool
) -> None:
    assert RejectLimit(0.05, 20).is_exceeded(rejected, read) is is_exceeded


def test_a_refused_file_does_not_touch_the_rejects_of_others(
    warehouse: Connection, tmp_path: Path
) -> None:
    _write(tmp_path / "attendance" / "a.csv", ATTENDANCE, _answers("ab", "x"))
    _write(tmp_path / "attendance" / "b.csv", ATTENDANCE, _answers("c", "x") + _answers("de"))
    for _ in range(2):
        _ingest(warehouse, "attendance", tmp_path, max_reject_rows=1, max_reject_share=0.5)
        paths = _rows(warehouse, "SELECT path FROM raw.rejects ORDER BY ALL")
        assert [Path(path).name for (path,) in paths] == ["a.csv", "a.csv", "b.csv"]


# --- what else a file may bring -------------------------------------------------------------------


def test_a_read_on_a_notification_becomes_a_read_once(
    warehouse: Connection, tmp_path: Path
) -> None:
    header = ["notification_id", "user_id", "feature", "sent_at", "read_at"]
    sent = "2026-01-01T00:00:00Z"
    _write(
        tmp_path / "notifications" / "a.csv",
        header,
        [["n", "u", "f", sent, "2026-01-02"], ["m", "u", "f", sent, ""]],
    )
    reads = tmp_path / "notification_reads.csv"
    _write(reads, ["notification_id", "read_at"], [["n", "2026-01-02"], ["n", "2026-01-03"]])
    _ingest(warehouse, "notifications", tmp_path)
    _ingest(warehouse, "notification_reads", tmp_path)
    # The next export has the same read again, and one more.
    _write(
        tmp_path / "notifications" / "b.csv",
        header,
        [["n", "u", "g", sent, "2026-01-02"], ["m", "u", "f", sent, "2026-01-09"]],
    )
    _ingest(warehouse, "notifications", tmp_path)
    found = [(i, at.day) for i, at in _content(warehouse, "notification_reads")]
    assert found == [("m", 9), ("n", 2), ("n", 3)]
    assert len(_content(warehouse, "notifications")) == 2
    assert violations(warehouse, contract("raw.notification_reads")) == []


def test_a_refused_file_of_notifications_leaves_no_read_either(
    warehouse: Connection, tmp_path: Path
) -> None:
    header = ["notification_id", "user_id", "feature", "sent_at", "read_at"]
    rows = [["n", "u", "f", "2026-01-01", "2026-01-02"], ["m", "u", "f", "never", ""]]
    _write(tmp_path / "notifications.csv", header, rows)
    strict = {"max_reject_rows": 0, "max_reject_share": 0.0}
    assert _ingest(warehouse, "notifications", tmp_path, **strict).refused
    assert _content(warehouse, "notification_reads") == []


def test_a_row_that_refers_to_nothing_is_kept_and_counted(
    warehouse: Connection, tmp_path: Path
) -> None:
    _write(
        tmp_path / "memberships.csv", ["org_id", "user_id", "joined_at"], [["o", "u", "2026-01-01"]]
    )
    _write(tmp_path / "attendance.csv", ATTENDANCE, _answers("uvw"))
    _ingest(warehouse, "memberships", tmp_path)
    result = _ingest(warehouse, "attendance", tmp_path)
    assert (result.rows_loaded, result.reasons()) == (3, [])
    found = gaps(warehouse, contract("raw.attendance"))
    assert found == [("without a membership", 2), ("of an unknown event", 3)]


def test_unknown_columns_are_told_once_for_each_file(warehouse: Connection, tmp_path: Path) -> None:
    header = (*ATTENDANCE, "mood", "weather")
    for name, users in (("a", "uv"), ("b", "wx")):
        rows = [[*row, "good", "bad"] for row in _answers(users)]
        _write(tmp_path / "attendance" / f"{name}.csv", header, rows)
    _write(tmp_path / "attendance" / "c.csv", ATTENDANCE, _answers("y"))
    lines = [
        f'{{"org_id":"o","event_id":"e","user_id":"{n}","status":"yes",'
        f'"created_at":"2026-01-01","mood":{n}}}'
        for n in range(3_000)
    ]
    (tmp_path / "attendance" / "d.jsonl").write_text("\n".join(lines))
    result = _ingest(warehouse, "attendance", tmp_path, batch_rows=1_000)
    assert result.unknown_columns == {
        str(tmp_path / "attendance" / "a.csv"): ("mood", "weather"),
        str(tmp_path / "attendance" / "b.csv"): ("mood", "weather"),
        str(tmp_path / "attendance" / "d.jsonl"): ("mood",),
    }
    assert result.rows_loaded == 3_005


def test_the_newest_time_of_a_file_is_that_of_its_sound_rows(
    warehouse: Connection, tmp_path: Path
) -> None:
    rows = _answers("u")
    rows += [["o", "e", "v", "attended", "2026-05-05", ""], ["o", "e", "w", "?", "2026-05-30", ""]]
    _write(tmp_path / "attendance.csv", ATTENDANCE, rows)
    _ingest(warehouse, "attendance", tmp_path)
    found = _rows(warehouse, "SELECT newest_row_at FROM raw.ingested_files")
    assert found == [(datetime(2026, 5, 5, tzinfo=UTC),)]


def test_the_first_and_the_last_moment_there_is_survive(
    warehouse: Connection, tmp_path: Path
) -> None:
    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
    rows = [["e", "o", first, ""], ["f", "o", last, last]]
    _write(tmp_path / "events.csv", ["event_id", "org_id", "starts_at", "ends_at"], rows)
    assert _ingest(warehouse, "events", tmp_path).rows_loaded == 2
    starts = [row[3] for row in _content(warehouse, "events")]
    assert starts == [datetime.fromisoformat(first), datetime.fromisoformat(last)]
