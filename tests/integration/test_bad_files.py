"""Bad rows, bad files and nasty texts: what is sound lands, and nothing is lost without a word."""

import gzip
import io
import json
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.ingestion import TableIngest, ingest_table
from engagement_pipeline.ingest.source import ENDINGS, INPUT_TABLES, discover
from engagement_pipeline.settings import load_settings
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.schema import upgrade
from tests.home import run_pipeline, settings_of, stored
from tests.small_source import AS_OF, write_small_source

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
THEN = "2026-01-01T00:00:00Z"


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
    """An open warehouse that holds one organisation and nothing else."""
    for table in (*INPUT_TABLES, "ingested_files", "rejects"):
        opened.execute(f"DELETE FROM raw.{table}")
    opened.execute("INSERT INTO raw.organizations VALUES ('o', 'n', NULL, 'UTC', NULL)")
    return opened


def _ingest(connection: Connection, table: str, source: Path, **given: Any) -> TableIngest:
    found = discover(source)
    result = ingest_table(
        connection,
        contract(f"raw.{table}"),
        found.files[table],
        settings=load_settings(home=source, profile="test", **given),
        now=NOW,
        progress=_Uncounted(),
    )
    result.problems[:0] = found.problems[table]
    return result


def _rows(connection: Connection, sql: str) -> list[tuple[Any, ...]]:
    return query(connection, sql).rows()


def _csv(header: Sequence[str], rows: Sequence[Sequence[str | None]]) -> bytes:
    lines = [",".join('"' + (t or "").replace('"', '""') + '"' for t in r) for r in (header, *rows)]
    return ("\n".join(lines) + "\n").encode()


def _jsonl(header: Sequence[str], rows: Sequence[Sequence[str | None]]) -> bytes:
    lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def _unescaped_jsonl(header: Sequence[str], rows: Sequence[Sequence[str | None]]) -> bytes:
    lines = [json.dumps(dict(zip(header, row, strict=True)), ensure_ascii=False) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def _parquet(header: Sequence[str], rows: Sequence[Sequence[str | None]]) -> bytes:
    stream = io.BytesIO()
    schema = dict.fromkeys(header, pl.String)
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(stream)
    return stream.getvalue()


FORMATS: dict[str, tuple[str, Callable[..., bytes]]] = {
    "csv": (".csv", _csv),
    "csv.gz": (".csv.gz", lambda header, rows: gzip.compress(_csv(header, rows))),
    "jsonl": (".jsonl", _jsonl),
    "unescaped jsonl": (".jsonl", _unescaped_jsonl),
    "parquet": (".parquet", _parquet),
}


# --- bad rows -------------------------------------------------------------------------------------

SOUND: dict[str, dict[str, str]] = {
    "organizations": {"org_id": "q", "name": "n"},
    "memberships": {"org_id": "o", "user_id": "u", "role": "admin", "joined_at": THEN},
    "attendance": {
        "org_id": "o",
        "event_id": "e",
        "user_id": "u",
        "status": "attended",
        "created_at": THEN,
    },
    "events": {"event_id": "e", "org_id": "o", "title": "t", "starts_at": "2027-01-01"},
    "interactions": {
        "interaction_id": "i",
        "org_id": "o",
        "user_id": "u",
        "type": "message",
        "text": "t",
        "sent_at": THEN,
    },
}
BAD_ROWS: list[tuple[str, dict[str, str], str]] = [
    ("memberships", {"joined_at": ""}, "missing_joined_at"),
    ("memberships", {"joined_at": " \t"}, "missing_joined_at"),
    ("attendance", {"user_id": ""}, "missing_user_id"),
    ("attendance", {"created_at": "yesterday"}, "bad_timestamp_created_at"),
    ("attendance", {"created_at": "2026-02-30"}, "bad_timestamp_created_at"),
    ("attendance", {"created_at": "1767225600"}, "bad_timestamp_created_at"),
    ("attendance", {"status": "dancing"}, "unknown_status"),
    ("memberships", {"role": "queen"}, "unknown_role"),
    ("interactions", {"type": "smell"}, "unknown_type"),
    ("attendance", {"created_at": "2025-12-31"}, "duplicate_key"),
    ("attendance", {"created_at": "2026-06-02T12:00:00.000001Z"}, "future_created_at"),
    ("memberships", {"joined_at": "2099-01-01"}, "future_joined_at"),
    ("attendance", {"org_id": "nowhere"}, "unknown_org"),
    ("events", {"org_id": "nowhere", "event_id": "f"}, "unknown_org"),
    ("attendance", {"user_id": "x" * 257}, "too_long_user_id"),
    ("organizations", {"name": "é" * 1_025}, "too_long_name"),
    ("events", {"title": "x" * 1_025}, "too_long_title"),
    ("interactions", {"text": "x" * 65_537}, "too_long_text"),
]


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("table", "change", "reason"), BAD_ROWS, ids=[f"{b[2]}-{i}" for i, b in enumerate(BAD_ROWS)]
)
def test_a_bad_row_is_kept_out_with_its_reason_its_number_and_its_content(
    file_format: str,
    table: str,
    change: dict[str, str],
    reason: str,
    warehouse: Connection,
    tmp_path: Path,
) -> None:
    ending, encode = FORMATS[file_format]
    sound = SOUND[table]
    bad = sound | change
    path = tmp_path / f"{table}{ending}"
    path.write_bytes(encode(list(sound), [list(bad.values()), list(sound.values())]))
    before = len(_rows(warehouse, f"SELECT * FROM raw.{table}"))
    result = _ingest(warehouse, table, tmp_path)
    assert (result.rows_read, result.rows_loaded, result.problems) == (2, 1, [])
    ((name, found_in, number, why, row_json, at),) = _rows(
        warehouse,
        "SELECT table_name, path, row_number, reason, row_json, ingested_at FROM raw.rejects",
    )
    assert (name, found_in, number, why, at) == (table, str(path), 1, reason, NOW)
    kept = json.loads(row_json)
    if reason == "duplicate_key":
        assert kept["created_at"].startswith("2025-12-31 00:00:00")
    else:
        assert {key: kept[key] or "" for key in change} == change
    assert len(_rows(warehouse, f"SELECT * FROM raw.{table}")) == before + 1


def test_a_time_to_come_is_no_reason_where_times_may_lie_ahead(
    warehouse: Connection, tmp_path: Path
) -> None:
    rows = [["e", "o", "2099-01-01", "2099-01-02"]]
    (tmp_path / "events.csv").write_bytes(
        _csv(["event_id", "org_id", "starts_at", "ends_at"], rows)
    )
    assert _ingest(warehouse, "events", tmp_path).rows_loaded == 1


HEADER = list(SOUND["attendance"])
GOOD = [["o", "e", f"u{n}", "attended", THEN] for n in range(3)]


@pytest.mark.parametrize(
    "bad",
    [
        b"o,e,a\0b,attended,2026-01-01\n",
        "o,e,café,attended,2026-01-01\n".encode("latin-1"),
        b"o,e,u,attended,2026-01-01,more\n",
        b'o,e,"never closed,attended,2026-01-01\n',
    ],
    ids=["NUL", "Latin-1", "too many fields", "open quote"],
)
def test_a_line_that_is_no_row_is_kept_as_it_is_and_spoils_no_other(
    bad: bytes, warehouse: Connection, tmp_path: Path
) -> None:
    text = _csv(HEADER, GOOD)
    (tmp_path / "attendance.csv").write_bytes(
        text + bad + _csv(["o", "e", "last"], []).strip() + b",yes,2026-01-01\n"
    )
    result = _ingest(warehouse, "attendance", tmp_path)
    assert (result.rows_read, result.rows_loaded) == (5, 4)
    ((number, reason, line),) = _rows(
        warehouse, "SELECT row_number, reason, row_json FROM raw.rejects"
    )
    assert (number, reason) == (4, "unparseable")
    assert line == bad.strip().decode("utf-8", "backslashreplace").replace("\0", "\\x00")


# --- bad files ------------------------------------------------------------------------------------


def _random_users(count: int) -> list[list[str]]:
    dice = random.Random(1)
    return [["o", "e", f"{dice.random()}", "attended", THEN] for _ in range(count)]


def _cut_gzip() -> bytes:
    # Long enough that whole blocks of rows are given before the end turns out to be missing.
    return gzip.compress(_csv(HEADER, _random_users(400_000)), compresslevel=1)[:-1_000]


def _damaged_parquet() -> bytes:
    data = bytearray(_parquet(HEADER, _random_users(20_000)))
    data[1_000:3_000] = random.Random(1).randbytes(2_000)
    return bytes(data)


BAD_FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "truncated Parquet": (
        "b.parquet",
        lambda: _parquet(HEADER, GOOD)[:-50],
        "expected Parquet that ends with PAR1, found a truncated file",
    ),
    "damaged Parquet": ("b.parquet", _damaged_parquet, "expected sound Parquet, found a damaged"),
    "text named Parquet": (
        "b.parquet",
        lambda: _csv(HEADER, GOOD),
        "expected Parquet (first bytes PAR1), found a file that begins with",
    ),
    "numbers for times": (
        "b.parquet",
        lambda: _typed_parquet(created_at=[1_767_225_600]),
        "expected timestamps, dates or text in the column created_at, found the type Int64",
    ),
    "wrong delimiter": (
        "b.csv",
        lambda: _csv(HEADER, GOOD).replace(b'"', b"").replace(b",", b";"),
        "the delimiter seems to be ';'",
    ),
    "UTF-16": (
        "b.csv",
        lambda: _csv(HEADER, GOOD).decode().encode("utf-16"),
        "expected csv as UTF-8 text, found UTF-16 text",
    ),
    "empty": ("b.csv", lambda: b"", "expected a header of column names, found an empty file"),
    "missing column": (
        "b.csv",
        lambda: _csv(HEADER[:-1], [row[:-1] for row in GOOD]),
        "expected the required columns created_at, found the columns org_id, event_id",
    ),
    "column twice": (
        "b.csv",
        lambda: _csv([*HEADER, "status"], [[*row, "no_show"] for row in GOOD]),
        "expected each column once, found status more than once",
    ),
    "a header over 1 MiB": (
        "b.csv",
        lambda: b"x" * (3 << 20),
        "expected a header of column names, found a line of over 1 MiB",
    ),
    "cut gzip": ("b.csv.gz", _cut_gzip, "expected a whole gzip file, found a damaged or truncated"),
    "text named gzip": (
        "b.csv.gz",
        lambda: _csv(HEADER, GOOD),
        "expected gzip, found a file that begins with",
    ),
    "gzip named text": (
        "b.csv",
        lambda: gzip.compress(_csv(HEADER, GOOD)),
        "expected csv as UTF-8 text, found gzip",
    ),
}


def _typed_parquet(**columns: list[Any]) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(dict(zip(HEADER, GOOD[0], strict=True)) | columns).write_parquet(stream)
    return stream.getvalue()


def _land(folder: Path) -> Path:
    """Sound files of the table on both sides of what a test puts between them."""
    (folder / "attendance").mkdir()
    (folder / "attendance" / "a.csv").write_bytes(_csv(HEADER, GOOD[:1]))
    (folder / "attendance" / "c.csv").write_bytes(_csv(HEADER, GOOD[1:2]))
    return folder / "attendance"


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_lands_nothing_and_stops_no_other(
    name: str, warehouse: Connection, tmp_path: Path
) -> None:
    file_name, content, expected = BAD_FILES[name]
    path = _land(tmp_path) / file_name
    path.write_bytes(content())
    for rows_loaded in (2, 0):
        result = _ingest(warehouse, "attendance", tmp_path, batch_rows=50_000)
        (problem,) = result.problems
        assert problem.startswith(f"{path}: expected ")
        assert expected in problem
        assert result.rows_loaded == rows_loaded
        users = _rows(warehouse, "SELECT user_id FROM raw.attendance ORDER BY ALL")
        assert users == [("u0",), ("u1",)]
        assert _rows(warehouse, "SELECT * FROM raw.rejects") == []
        assert len(_rows(warehouse, "SELECT * FROM raw.ingested_files")) == 2
    path.unlink()
    (path.parent / "b.csv").write_bytes(_csv(HEADER, GOOD[2:]))
    mended = _ingest(warehouse, "attendance", tmp_path)
    assert (mended.problems, mended.rows_loaded) == ([], 1)


def test_a_folder_in_the_place_of_a_file_is_named_and_stops_no_other(
    warehouse: Connection, tmp_path: Path
) -> None:
    path = _land(tmp_path) / "b.csv"
    path.mkdir()
    result = _ingest(warehouse, "attendance", tmp_path)
    assert result.problems == [f"{path}: expected a file, found a folder"]
    assert result.rows_loaded == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named_and_stops_no_other(
    warehouse: Connection, tmp_path: Path
) -> None:
    path = _land(tmp_path) / "b.csv"
    path.write_bytes(b"x")
    path.chmod(0)
    result = _ingest(warehouse, "attendance", tmp_path)
    assert result.problems == [f"{path}: expected a readable file, found Permission denied"]
    assert result.rows_loaded == 2


def test_text_in_utf_16_without_a_mark_is_no_table(warehouse: Connection, tmp_path: Path) -> None:
    path = _land(tmp_path) / "b.csv"
    path.write_bytes(_csv(HEADER, GOOD).decode().encode("utf-16-le"))
    result = _ingest(warehouse, "attendance", tmp_path)
    (problem,) = result.problems
    assert problem.startswith(f"{path}: expected a header of column names, found ")
    assert result.rows_loaded == 2


def _peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize("file_name", ["attendance.csv", "attendance.csv.gz", "attendance.jsonl"])
def test_a_line_of_a_hundred_megabytes_is_one_reject_and_costs_no_memory(
    file_name: str, warehouse: Connection, tmp_path: Path
) -> None:
    encode = _jsonl if "jsonl" in file_name else _csv
    text = encode(HEADER, GOOD)
    opening = gzip.open if file_name.endswith("gz") else open
    with opening(tmp_path / file_name, "wb") as stream:
        stream.write(text)
        for _ in range(100):
            stream.write(b"x" * (1 << 20))
        stream.write(b"\n" + text.splitlines(keepends=True)[-1].replace(b"u2", b"last"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = _peak_memory()
    result = _ingest(warehouse, "attendance", tmp_path)
    assert (result.rows_read, result.rows_loaded, result.problems) == (5, 4, [])
    assert result.reasons() == [("unparseable", 1)]
    assert _rows(warehouse, "SELECT row_number, length(row_json) FROM raw.rejects") == [(4, 4_096)]
    assert _peak_memory() - before < 90 << 20


def test_a_whole_run_names_every_bad_file_and_loads_every_sound_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("ENGAGEMENT_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / ".dagster"))
    source = write_small_source(tmp_path / "source")
    bad = {
        "events.parquet": b"PAR1 cut off",
        "profiles.csv": b"user_id;timezone\nu;UTC\n",
        "interactions.jsonl.gz": b"no gzip",
        "preferences.csv": b"",
    }
    for name, content in bad.items():
        (source / name).write_bytes(content)
    (source / "event_views.csv").mkdir()
    (source / "org_settings.csv").write_text("org_id,setting,value\nchoir,inactive_days,90\n")
    settings = settings_of(home, source)
    failures = run_pipeline(settings, AS_OF).failures
    for name in (*bad, "event_views.csv"):
        assert any(f"{source / name}: expected " in failure for failure in failures), name
    loaded = stored(settings, "SELECT table_name FROM raw.ingested_files ORDER BY ALL")
    assert [table for (table,) in loaded] == [
        "attendance",
        "memberships",
        "org_settings",
        "organizations",
    ]


# --- nasty texts ----------------------------------------------------------------------------------

NASTY = [
    *("", " ", "\u3000\u2003", "null", "NULL", "None", "NaN", "-0", "1e309", "true", "0x1F", "007"),
    *("a,b", 'a"b', '"a"', '""', "'", "a\nb", "a\r\nb", "a\rb", "a\tb", "\\", "\\n", "\\u0000"),
    *("'; DROP TABLE raw.attendance; --", "$1", "?", "{{7*7}}", "%s%n", "=1+1", "@SUM(1)", "../.."),
    *("İstanbul", "ﬁ", "ß", "e\u0301", "é", "\u202eabc", "\ufeffa", "a\ufeff", "\u200b", "\x1f"),
    *("👩‍👩‍👧‍👦", "🏳️‍🌈", "\U0010ffff", "\ufffe", "\x7f", "\x01", "\x85a", "a\u2028b", "Z̡͊͠a̕l̴g̷o"),
    *("x" * 256, "🎻" * 256, "🎻" * 257, "x" * 1_024, "x" * 1_025, "x" * 65_537, "a\0b", "\0"),
]
BLNS = Path(__file__).parents[3] / "shared" / "data" / "naughty_strings" / "blns.json"
# What Unicode calls white space. Python's own strip would also take \x1c to \x1f.
SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


@pytest.fixture(params=["built in", "the big list"])
def nasty(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "built in":
        return NASTY
    if not BLNS.exists():
        pytest.skip(f"{BLNS} is not there")
    texts: list[str] = json.loads(BLNS.read_text(encoding="utf-8"))
    return texts


def _expected(text: str, file_format: str, *limits: tuple[str, int, bool]) -> str | None:
    """The reason why a row is kept out all of whose columns (name, limit, required) hold `text`."""
    if "\0" in text and file_format.startswith("csv"):
        return "unparseable"
    stripped = text.strip(SPACES)
    for column, limit, is_required in limits:
        if is_required and not stripped:
            return f"missing_{column}"
        if len(stripped) > limit:
            return f"too_long_{column}"
    return None


def _survives(
    warehouse: Connection,
    folder: Path,
    file_format: str,
    table: str,
    texts: list[str],
    row: Callable[[int, str], dict[str, str]],
    *limits: tuple[str, int, bool],
) -> None:
    ending, encode = FORMATS[file_format]
    rows = [row(number, text) for number, text in enumerate(texts, start=1)]
    path = folder / f"{table}{ending}"
    path.write_bytes(encode(list(rows[0]), [list(r.values()) for r in rows]))
    result = _ingest(warehouse, table, folder, max_reject_rows=1_000)
    (file,) = result.loaded
    assert result.problems == []
    assert file.rows_read == len(texts) == file.rows_loaded + file.rows_rejected
    reasons = {n: _expected(t, file_format, *limits) for n, t in enumerate(texts, start=1)}
    key = contract(f"raw.{table}").key[0]
    columns = [column for column, *_ in limits]
    found = _rows(warehouse, f"SELECT {key}, {', '.join(columns)} FROM raw.{table}")
    assert {int(k): values for k, *values in found if k != "o"} == {
        number: [text.strip(SPACES) or None] * len(columns)
        for number, text in enumerate(texts, start=1)
        if reasons[number] is None
    }
    rejects = _rows(warehouse, "SELECT row_number, reason, row_json FROM raw.rejects")
    assert {n: reason for n, reason, _ in rejects} == {n: r for n, r in reasons.items() if r}
    for number, reason, row_json in rejects:
        if reason != "unparseable":
            assert (json.loads(row_json)[columns[0]] or "") == texts[number - 1]


@pytest.mark.parametrize("file_format", FORMATS)
def test_nasty_texts_survive_as_names_of_organisations_or_are_rejects(
    file_format: str, nasty: list[str], warehouse: Connection, tmp_path: Path
) -> None:
    _survives(
        warehouse,
        tmp_path,
        file_format,
        "organizations",
        nasty,
        lambda number, text: {"org_id": str(number), "name": text},
        ("name", 1_024, True),
    )


@pytest.mark.parametrize("file_format", FORMATS)
def test_nasty_texts_survive_as_people_and_as_what_they_say_or_are_rejects(
    file_format: str, nasty: list[str], warehouse: Connection, tmp_path: Path
) -> None:
    _survives(
        warehouse,
        tmp_path,
        file_format,
        "interactions",
        nasty,
        lambda number, text: {
            "interaction_id": str(number),
            "org_id": "o",
            "user_id": text,
            "type": "message",
            "text": text,
            "sent_at": THEN,
        },
        ("user_id", 256, True),
        ("text", 65_536, False),
    )


def test_nasty_texts_survive_as_keys_that_come_twice(
    nasty: list[str], warehouse: Connection, tmp_path: Path
) -> None:
    texts = {text.strip(SPACES) for text in nasty}
    texts = sorted(text for text in texts if 0 < len(text) <= 256)
    rows = [[text, text, f"2026-01-0{day}"] for day in (1, 2) for text in texts]
    (tmp_path / "profiles.parquet").write_bytes(
        _parquet(["user_id", "display_name", "created_at"], rows)
    )
    result = _ingest(warehouse, "profiles", tmp_path, max_reject_rows=1_000)
    assert result.rows_loaded == len(texts)
    assert result.reasons() == [("duplicate_key", len(texts))]
    found = _rows(warehouse, "SELECT user_id, display_name, created_at FROM raw.profiles")
    assert sorted((user, name) for user, name, _ in found) == [(t, t) for t in texts]
    assert {at.day for *_, at in found} == {2}
    rejects = _rows(warehouse, "SELECT row_number, row_json FROM raw.rejects ORDER BY row_number")
    assert [number for number, _ in rejects] == list(range(1, len(texts) + 1))
    assert [json.loads(row)["user_id"] for _, row in rejects] == texts


def test_every_ending_is_read_the_same(warehouse: Connection, tmp_path: Path) -> None:
    assert set(ENDINGS) == {ending for ending, _ in FORMATS.values()} | {".jsonl.gz"}
    (tmp_path / "attendance").mkdir()
    for number, (ending, encode) in enumerate(FORMATS.values()):
        rows = [["o", f"e{number}", *row[2:]] for row in GOOD]
        path = tmp_path / "attendance" / f"{number}{ending}"
        path.write_bytes(encode(HEADER, rows))
    packed = gzip.compress(_jsonl(HEADER, [["o", "gz", *row[2:]] for row in GOOD]))
    (tmp_path / "attendance" / "packed.jsonl.gz").write_bytes(packed)
    assert _ingest(warehouse, "attendance", tmp_path).rows_loaded == 18
    found = _rows(warehouse, "SELECT DISTINCT user_id, status, created_at FROM raw.attendance")
    then = datetime.fromisoformat(THEN)
    assert sorted(found) == [(f"u{n}", "attended", then) for n in range(3)]
