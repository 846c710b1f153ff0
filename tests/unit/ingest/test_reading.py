"""Every row of a file comes exactly once, whatever is wrong with the lines beside it."""

import csv
import gzip
import io
import json
import os
import re
import tempfile
import tracemalloc
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.ingest import BadFileError, SourceFile, digest, read_batches
from engagement_pipeline.ingest.csv_text import CsvRows
from engagement_pipeline.ingest.json_text import JsonRows
from engagement_pipeline.ingest.source import ENDINGS, discover

EVENTS = contract("raw.events")
HEADER = b"event_id,org_id,title,starts_at\n"


def _file(path: Path, content: bytes, table: str = "events") -> SourceFile:
    path.write_bytes(content)
    ending = max((e for e in ENDINGS if path.name.endswith(e)), key=len)
    return SourceFile(table, path, *ENDINGS[ending])


def _read(
    file: SourceFile, **options: int
) -> tuple[list[dict[str, object]], list[tuple[int, str]]]:
    table = contract(f"raw.{file.table}")
    batches = list(read_batches(file, contract=table, **options))
    rows = [row for batch in batches for row in batch.frame.iter_rows(named=True)]
    return rows, [tuple(line) for batch in batches for line in batch.unparseable]


def _titles(rows: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(row["row_number"], row["title"]) for row in rows]


def _csv_bytes(rows: list[list[str]], quoting: int, end: str) -> bytes:
    text = io.StringIO()
    # The writer quotes what holds a character of the line end, so it is given both of them.
    csv.writer(text, quoting=quoting, lineterminator="\r\n").writerows(rows)
    data = text.getvalue()
    assert list(csv.reader(io.StringIO(data, newline=""))) == rows
    if end == "\n":
        ends = re.compile(r'("(?:[^"]|"")*")|\r\n')
        data = ends.sub(lambda match: match.group(1) or "\n", data)
    return data.encode()


_CELLS = st.text(
    st.one_of(
        st.sampled_from(list('",\n\r ;é😀\u2028a0')),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    max_size=6,
)
_TABLES = st.lists(st.lists(_CELLS, min_size=3, max_size=3), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(
    _TABLES,
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_fast_careful_and_pythons_own_csv_reader_agree(
    rows: list[list[str]], quoting: int, end: str, has_last_end: bool
) -> None:
    data = _csv_bytes(rows, quoting, end)
    data = data if has_last_end else data.removesuffix(end.encode())
    names = ["a", "b", "c"]
    careful = CsvRows(names, names)._read_carefully(data, is_last=True)
    fast = CsvRows(names, names)._read_fast(data)
    expected = [[cell or None for cell in row] for row in rows]
    assert careful.unparseable == []
    found = [[cell or None for cell in row[1:]] for row in careful.frame.rows()]
    assert found == expected
    assert careful.frame["row_number"].to_list() == list(range(1, len(rows) + 1))
    assert fast is not None
    assert fast.frame.equals(careful.frame)


@settings(max_examples=300, deadline=None)
@given(
    _TABLES, st.integers(1, 40), st.lists(st.sampled_from(['"', "\n", 'x,"y', "\r"]), max_size=3)
)
def test_the_size_of_a_block_changes_nothing(
    rows: list[list[str]], block_bytes: int, noise: list[str]
) -> None:
    data = _csv_bytes(rows, csv.QUOTE_MINIMAL, "\n") + "\n".join(noise).encode()
    with tempfile.TemporaryDirectory() as folder:
        file = _file(Path(folder) / "events.csv", HEADER + data)
        assert _read(file, block_bytes=block_bytes) == _read(file)


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda v: st.lists(v, max_size=2) | st.dictionaries(_CELLS, v, max_size=2),
    max_leaves=4,
)
_OBJECTS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "other", 'q"']), _VALUES), min_size=1, max_size=8
)


@settings(max_examples=500, deadline=None)
@given(_OBJECTS, st.booleans(), st.sampled_from([(", ", ": "), (",", ":"), (" ,", " : ")]))
def test_json_values_come_as_they_are_spelled_by_either_reader(
    rows: list[dict[str, object]], is_ascii: bool, separators: tuple[str, str]
) -> None:
    lines = [json.dumps(r, ensure_ascii=is_ascii, separators=separators) for r in rows]
    data = ("\n".join(lines) + "\n").encode()

    def spelled(value: object) -> str | None:
        if value is None or isinstance(value, str):
            return value
        return json.dumps(value, ensure_ascii=False)

    expected = [(i + 1, spelled(r.get("a")), spelled(r.get("b"))) for i, r in enumerate(rows)]
    careful = JsonRows(["a", "b"])
    assert careful._read_carefully(data).frame.rows() == expected
    assert careful.unknown == {k for r in rows for k in r} - {"a", "b"}
    either = JsonRows(["a", "b"])
    assert either.read(data).frame.rows() == expected
    assert either.unknown == careful.unknown


@pytest.mark.parametrize("number", ["1.0", "1.10", "1e5", "12345678901234567.5", "9" * 50, "-0"])
def test_a_number_in_an_id_keeps_its_digits(number: str, tmp_path: Path) -> None:
    line = f'{{"event_id": {number}, "org_id": "00123", "starts_at": 100349082}}\n'
    rows, _ = _read(_file(tmp_path / "events.jsonl", line.encode()))
    assert (rows[0]["event_id"], rows[0]["org_id"]) == (number, "00123")
    assert rows[0]["starts_at"] == "100349082"


def test_half_a_surrogate_pair_is_unparseable_and_a_whole_one_a_character(tmp_path: Path) -> None:
    data = b'{"title": "\\ud83d\\ude00"}\n{"title": "\\ud83d"}\n{"title": "x"}\n'
    rows, bad = _read(_file(tmp_path / "events.jsonl", data))
    assert _titles(rows) == [(1, "😀"), (3, "x")]
    assert bad == [(2, '{"title": "\\ud83d"}')]


def test_of_a_repeated_key_the_first_value_counts_in_both_readers() -> None:
    data = b'{"a":"x","a":"y"}\n'
    assert JsonRows(["a"]).read(data).frame.rows() == [(1, "x")]
    assert JsonRows(["a"])._read_carefully(data).frame.rows() == [(1, "x")]


BAD_JSON = [
    b'{"title":',
    b"[1]",
    b"5",
    b"null",
    b'{"title":NaN}',
    b'{"a":1} {"a":2}',
    b'{"a\xff":1}',
    b'{"a":"\0"}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("bad", BAD_JSON)
def test_a_bad_json_line_is_unparseable_alone(bad: bytes, tmp_path: Path) -> None:
    data = b'{"title":"a"}\n\n' + bad + b'\n  \n{"title":"b"}'
    rows, lines = _read(_file(tmp_path / "events.jsonl", data))
    assert _titles(rows) == [(1, "a"), (3, "b")]
    assert [number for number, _ in lines] == [2]


BAD_CSV = [
    b'2,o,"open,t',
    b'2,o,"closed"wrong,t',
    b"2,o,x,t,one too many",
    b"2,o,nul \0,t",
    b"2,o,latin \xe9,t",
]


@pytest.mark.parametrize("bad", BAD_CSV)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_bad_csv_line_is_unparseable_alone(bad: bytes, end: bytes, tmp_path: Path) -> None:
    lines = [b"1,o,a,t", bad, b'3,o,"b, ""c"" \n\nd",t', b"4,o,e,t"]
    rows, found = _read(_file(tmp_path / "events.csv", HEADER + end.join(lines) + end))
    assert _titles(rows) == [(1, "a"), (3, 'b, "c" \n\nd'), (4, "e")]
    assert found == [(2, bad.decode("utf-8", "backslashreplace").replace("\0", "\\x00"))]


def test_a_quote_inside_an_unquoted_field_is_an_ordinary_character(tmp_path: Path) -> None:
    rows, bad = _read(_file(tmp_path / "events.csv", HEADER + b'1,o,5" nails,t\n2,o,"x",t\n'))
    assert _titles(rows) == [(1, '5" nails'), (2, "x")]
    assert not bad


def test_two_such_quotes_do_not_join_the_rows_between_them(tmp_path: Path) -> None:
    data = HEADER + b'1,o,5" nails,t\n' + b"2,o,x,t\n" * 9 + b'3,o,6" nails,t\n'
    rows, bad = _read(_file(tmp_path / "events.csv", data))
    assert [row["title"] for row in rows] == ['5" nails', *"x" * 9, '6" nails']
    assert not bad


def test_a_carriage_return_inside_a_row_is_kept(tmp_path: Path) -> None:
    rows, _ = _read(_file(tmp_path / "events.csv", HEADER + b"1,\r,a\r,t\r\n2,o,b,t\r\n"))
    assert [(row["org_id"], row["title"], row["starts_at"]) for row in rows] == [
        ("\r", "a\r", "t"),
        ("o", "b", "t"),
    ]


def test_missing_fields_are_null_and_blank_lines_no_rows_in_both_readers(tmp_path: Path) -> None:
    data = HEADER + b"1,o\n\n2,o,x,t\n\r\n\n3\n\n"
    plain, _ = _read(_file(tmp_path / "events.csv", data))
    careful, bad = _read(_file(tmp_path / "events.csv", data + b"\0\n"))
    assert plain == careful
    assert _titles(plain) == [(1, None), (2, "x"), (3, None)]
    assert [number for number, _ in bad] == [4]


def test_a_stray_quote_does_not_swallow_what_follows(tmp_path: Path) -> None:
    rows = [b"%d,o,t%d,t\n" % (i, i) for i in range(1, 200_001)]
    rows[10] = b'11,o,"never closed,t\n'
    found, bad = _read(_file(tmp_path / "events.csv", HEADER + b"".join(rows)))
    assert len(found) == 199_999
    assert [number for number, _ in bad] == [11]


def test_a_line_of_a_hundred_megabytes_is_one_reject_and_never_held(tmp_path: Path) -> None:
    for name, good, open_line in (
        ("events.csv", b"1,o,a,t\n", b'2,o,"'),
        ("events.jsonl", b'{"title":"a"}\n', b'{"title":"'),
    ):
        path = tmp_path / name
        with path.open("wb") as stream:
            stream.write((HEADER if name.endswith("csv") else b"") + good + open_line)
            for _ in range(100):
                stream.write(b"x" * (1 << 20))
            stream.write(b'"\n' + good)
        file = SourceFile("events", path, *ENDINGS[path.suffix])
        tracemalloc.start()
        rows, bad = _read(file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert _titles(rows) == [(1, "a"), (3, "a")]
        assert [(number, len(text)) for number, text in bad] == [(2, 4_096)]
        assert peak < 80 << 20


def test_an_overlong_line_inside_a_block_is_one_reject(tmp_path: Path) -> None:
    data = HEADER + b"1,o,a,t\n" + b"x" * (2 << 20) + b"\n3,o,b,t\n"
    rows, bad = _read(_file(tmp_path / "events.csv", data))
    assert _titles(rows) == [(1, "a"), (3, "b")]
    assert [number for number, _ in bad] == [2]


def test_many_rows_with_line_feeds_in_fields_keep_their_numbers(tmp_path: Path) -> None:
    data = b"".join(b'%d,o,"t\n%d, ""x""",t\n' % (i, i) for i in range(300_000))
    rows, bad = _read(_file(tmp_path / "events.csv", HEADER + data), block_bytes=1 << 20)
    assert not bad
    assert [row["event_id"] for row in rows] == [str(i) for i in range(300_000)]
    assert [row["row_number"] for row in rows] == list(range(1, 300_001))


def test_unknown_columns_are_kept_out_and_named_once(tmp_path: Path) -> None:
    for name, data in (
        ("events.csv", b"event_id,mood,org_id,starts_at\n" + b"1,m,o,t\n" * 5),
        ("events.jsonl", b'{"event_id":"1","mood":1}\n' * 5),
    ):
        batches = list(
            read_batches(_file(tmp_path / name, data), contract=EVENTS, batch_rows=2, block_bytes=9)
        )
        assert [u for batch in batches for u in batch.unknown_columns] == ["mood"]
        assert all("mood" not in batch.frame.columns for batch in batches)
        assert sum(batch.frame.height for batch in batches) == 5
        assert max(batch.frame.height for batch in batches) <= 2


def test_a_file_with_a_header_only_gives_one_empty_batch(tmp_path: Path) -> None:
    for name, data in (("events.csv", HEADER), ("events.jsonl", b"")):
        (batch,) = read_batches(_file(tmp_path / name, data), contract=EVENTS)
        assert batch.frame.height == 0
        assert "title" in batch.frame.columns


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    rows, _ = _read(_file(tmp_path / "events.csv", b"\xef\xbb\xbf" + HEADER + b"1,o,x,t\n"))
    assert rows[0]["event_id"] == "1"
    rows, _ = _read(_file(tmp_path / "events.jsonl", b'\xef\xbb\xbf{"title":"x"}\n'))
    assert _titles(rows) == [(1, "x")]


def test_gzip_gives_the_rows_of_the_plain_file(tmp_path: Path) -> None:
    data = HEADER + b"1,o,x,t\n2,o,y,t\n"
    plain = _read(_file(tmp_path / "events.csv", data))
    assert _read(_file(tmp_path / "events.csv.gz", gzip.compress(data))) == plain


def test_parquet_keeps_its_types_and_numbers_its_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame({"event_id": [7, 8], "org_id": ["o", None], "starts_at": [0, 1]})
    frame = frame.cast({"starts_at": pl.Datetime("ms")})
    frame.with_columns(mood=1).write_parquet(tmp_path / "events.parquet")
    (file,) = discover(tmp_path).files["events"]
    (batch,) = read_batches(file, contract=EVENTS)
    assert batch.unknown_columns == ("mood",)
    assert batch.frame.drop("row_number").equals(frame)
    assert batch.frame["row_number"].to_list() == [1, 2]


def test_parquet_in_several_batches_numbers_its_rows_through(tmp_path: Path) -> None:
    pl.DataFrame(
        {"event_id": ["a", "b", "c"], "org_id": "o", "starts_at": "2026-01-01", "mood": 1}
    ).write_parquet(tmp_path / "events.parquet")
    file = SourceFile("events", tmp_path / "events.parquet", "parquet")
    batches = list(read_batches(file, contract=EVENTS, batch_rows=2))
    assert [batch.frame["row_number"].to_list() for batch in batches] == [[1, 2], [3]]
    assert [batch.unknown_columns for batch in batches] == [("mood",), ()]


def _parquet(**columns: object) -> bytes:
    stream = io.BytesIO()
    rows = {"event_id": ["1"], "org_id": ["o"], "starts_at": ["2026-01-01"]} | columns
    pl.DataFrame(rows).write_parquet(stream)
    return stream.getvalue()


BAD_FILES = {
    "empty.csv": (b"", "a header of column names, found an empty file"),
    "blank.csv": (b"\n\n", "found an empty file"),
    "absent_column.csv": (
        b"event_id,title\n1,x\n",
        "the required columns org_id, starts_at, found",
    ),
    "twice.csv": (b"event_id,org_id,org_id,starts_at\n", "found org_id more than once"),
    "semicolon.csv": (b"event_id;org_id;starts_at\n", "the delimiter seems to be ';'"),
    "tab.csv": (b"event_id\torg_id\tstarts_at\n", "the delimiter seems to be '\\t'"),
    "utf16.csv": ("event_id,org_id\n".encode("utf-16"), "found UTF-16 text"),
    "really_gzip.csv": (gzip.compress(HEADER), "csv as UTF-8 text, found gzip"),
    "really_parquet.csv": (_parquet(), "found Parquet"),
    "really_csv.parquet": (HEADER, "Parquet (first bytes PAR1), found"),
    "empty.parquet": (b"", "found an empty file"),
    "really_csv.csv.gz": (HEADER, "expected gzip, found"),
    "cut.csv.gz": (gzip.compress(HEADER + os.urandom(9_999).hex().encode())[:-2_000], "whole gzip"),
    "cut.parquet": (_parquet()[:-30], "a truncated file"),
    "damaged.parquet": (b"PAR1" + b"\1" * 99 + _parquet()[-40:-8] + b"\xff\xff\0\0PAR1", "damaged"),
    "list.parquet": (_parquet(org_id=[["o"]]), "in the column org_id, found the type List"),
    "float_id.parquet": (_parquet(event_id=[1.5]), "text or whole numbers in the column event_id"),
    "epoch.parquet": (_parquet(starts_at=[5]), "timestamps, dates or text in the column starts_at"),
    "narrow.parquet": (pl.DataFrame({"event_id": ["1"]}).write_parquet, "org_id, starts_at"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_an_error_that_names_it_and_what_was_found(name: str, tmp_path: Path) -> None:
    content, expected = BAD_FILES[name]
    if callable(content):
        content(tmp_path / name)
        content = (tmp_path / name).read_bytes()
    file = _file(tmp_path / name, content)
    with pytest.raises(BadFileError) as caught:
        _read(file)
    assert str(caught.value).startswith(f"{file.path}: expected ")
    assert expected in str(caught.value)


def test_a_file_that_cannot_be_opened_is_a_bad_file(tmp_path: Path) -> None:
    file = SourceFile("events", tmp_path / "gone.csv", "csv")
    for read in (lambda: digest(file.path), lambda: _read(file)):
        with pytest.raises(BadFileError, match="a readable file, found No such file"):
            read()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_bad_file(tmp_path: Path) -> None:
    file = _file(tmp_path / "events.csv", HEADER)
    file.path.chmod(0)
    with pytest.raises(BadFileError, match="Permission denied"):
        _read(file)


def test_a_file_that_changes_while_it_is_read_is_a_bad_file(tmp_path: Path) -> None:
    file = _file(tmp_path / "events.csv", HEADER + b"1,o,x,t\n" * 9)
    batches = read_batches(file, contract=EVENTS, batch_rows=1)
    next(batches)
    with file.path.open("ab") as stream:
        stream.write(b"2,o,y,t\n")
    with pytest.raises(BadFileError, match="changed or replaced"):
        list(batches)


def test_a_file_replaced_after_its_digest_is_a_bad_file(tmp_path: Path) -> None:
    file = _file(tmp_path / "events.csv", HEADER)
    facts = digest(file.path)
    (tmp_path / "other").write_bytes(HEADER)
    (tmp_path / "other").replace(file.path)
    with pytest.raises(BadFileError, match="changed or replaced"):
        list(read_batches(file, contract=EVENTS, facts=facts))


def test_the_digest_is_of_the_bytes_as_stored(tmp_path: Path) -> None:
    file = _file(tmp_path / "events.csv", b"abc")
    facts = digest(file.path)
    assert facts.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert facts.bytes == 3
