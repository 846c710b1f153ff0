"""One file of an input table as batches of raw rows, whatever its format.

Text comes as text and Parquet in its own types; what a value means is judged in `validation`.

Text files are read in blocks of whole lines, and each block on its own by the fast reader or, where
it is not plainly sound, by the careful one. So one bad line costs the speed of its block only, no
row is ever given twice, and nothing has to be restarted. gzip is decompressed as it is read, with
no copy on disk. Memory is bounded by a block (16 MiB of text, or `batch_rows` rows of Parquet).

A `BadFileError` may come after batches were given (a gzip file may turn out to be cut off, or any
file to have changed while it was read): load a file in one transaction, and roll it back then.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple, cast

import polars as pl

from engagement_pipeline.contracts import Column, Contract
from engagement_pipeline.contracts.columns import ColumnKind
from engagement_pipeline.ingest.csv_text import CsvRows, TextRows, split_row
from engagement_pipeline.ingest.errors import BadFileError
from engagement_pipeline.ingest.inspection import (
    FileFacts,
    ensure_format,
    ensure_unchanged,
    unreadable,
)
from engagement_pipeline.ingest.json_text import JsonRows
from engagement_pipeline.ingest.line_blocks import (
    BLOCK_BYTES,
    LineBlock,
    OverlongLine,
    as_line_text,
    line_blocks,
)
from engagement_pipeline.ingest.parquet_columns import parquet_batches, parquet_names
from engagement_pipeline.ingest.source import SourceFile
from engagement_pipeline.ingest.source_columns import required_columns, source_columns

_BOM = b"\xef\xbb\xbf"


class UnparseableLine(NamedTuple):
    """A line that is no row. `text` holds at most 4,096 characters of it."""

    row_number: int
    text: str


@dataclass(frozen=True)
class RawBatch:
    """Some rows of one file, in the file's order.

    `frame`: `row_number` (Int64, from 1, header and blank lines not counted), then the columns the
    file brings for the table, as String or in their Parquet type.
    `unparseable`: the lines among them that are no rows; they have their row numbers too.
    `unknown_columns`: columns the file has and the table has not, which no earlier batch named.
    """

    frame: pl.DataFrame
    unparseable: list[UnparseableLine]
    unknown_columns: tuple[str, ...] = ()


def read_batches(
    file: SourceFile,
    *,
    contract: Contract,
    facts: FileFacts | None = None,
    batch_rows: int = 250_000,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[RawBatch]:
    """Give every row of `file` exactly once, in batches of at most `batch_rows` rows.

    There is always at least one batch, if only an empty one. With `facts` (from `digest`) the rows
    are sure to be those of the content that was digested. In JSON Lines an absent key is a null,
    so there a missing column shows on the rows.

    Raises:
        BadFileError: the file is unreadable, damaged, not in the format its name says, lacks a
            required column, or changes while it is read.
    """
    try:
        before = facts or file.path.stat()
    except OSError as error:
        raise unreadable(file.path, error) from error
    ensure_unchanged(file.path, before)
    ensure_format(file)
    if file.format == "parquet":
        yield from _parquet(file, contract, batch_rows)
    else:
        yield from _text(file, contract, batch_rows, block_bytes)
    ensure_unchanged(file.path, before)


def _parquet(file: SourceFile, contract: Contract, batch_rows: int) -> Iterator[RawBatch]:
    names = parquet_names(file.path)
    columns, unknown = _matched(file, contract, names)
    next_row_number = 1
    for frame in parquet_batches(file.path, columns, batch_rows):
        end = next_row_number + frame.height
        number = pl.int_range(next_row_number, end, dtype=pl.Int64, eager=True).alias("row_number")
        yield RawBatch(frame.insert_column(0, number), [], unknown)
        next_row_number, unknown = end, ()
    if next_row_number == 1:
        yield _empty_batch([c.name for c in columns], unknown)


def _text(
    file: SourceFile, contract: Contract, batch_rows: int, block_bytes: int
) -> Iterator[RawBatch]:
    try:
        # gzip decompresses as it reads, so that a block of plain text is all that is ever held.
        with gzip.open(file.path) if file.is_gzip else file.path.open("rb") as opened:
            blocks = _without_mark(line_blocks(cast(IO[bytes], opened), block_bytes))
            if file.format == "csv":
                batches = _csv(file, contract, blocks)
            else:
                batches = _jsonl(contract, blocks)
            yield from _sliced(batches, batch_rows)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadFileError(
            file.path, "a whole gzip file", f"a damaged or truncated one ({error})"
        ) from error
    except OSError as error:
        raise unreadable(file.path, error) from error


def _csv(
    file: SourceFile, contract: Contract, blocks: Iterator[LineBlock | OverlongLine]
) -> Iterator[RawBatch]:
    header, rest = _header(file, blocks)
    columns, unknown = _matched(file, contract, header)
    wanted = [c.name for c in columns]
    rows = CsvRows(header, wanted)
    yield _batch(rows.read(rest, is_last=False), unknown)
    for block in blocks:
        if isinstance(block, LineBlock):
            yield _batch(rows.read(block.data, is_last=False))
        else:
            # An open quote cannot reach across a line that was not even held.
            yield _batch(rows.read(b"", is_last=True))
            yield _overlong(rows, wanted, block)
    yield _batch(rows.read(b"", is_last=True))


def _jsonl(contract: Contract, blocks: Iterator[LineBlock | OverlongLine]) -> Iterator[RawBatch]:
    columns = source_columns(contract)
    wanted = [c.name for c in columns]
    rows = JsonRows(wanted, [c.name for c in columns if c.kind is ColumnKind.NUMBER])
    reported: set[str] = set()
    yield _empty_batch(wanted, ())  # a file may have no line at all
    for block in blocks:
        if isinstance(block, OverlongLine):
            yield _overlong(rows, wanted, block)
            continue
        text_rows = rows.read(block.data)
        unknown = tuple(sorted(rows.unknown - reported))
        reported.update(unknown)
        yield _batch(text_rows, unknown)


def _header(
    file: SourceFile, blocks: Iterator[LineBlock | OverlongLine]
) -> tuple[list[str], bytes]:
    """The names in the first row that is not blank, and the bytes after it in its block."""
    for block in blocks:
        if isinstance(block, OverlongLine):
            raise BadFileError(file.path, "a header of column names", "a line of over 1 MiB")
        start = 0
        while start < len(block.data):
            end, fields = split_row(block.data, start, is_last=True)
            if fields == []:
                start = cast(int, end)
                continue
            line = block.data[start:end]
            if fields is None or b"\0" in line:
                raise BadFileError(
                    file.path, "a header of column names", f"{as_line_text(line)[:80]!r}"
                )
            names = [(f or b"").decode("utf-8", "backslashreplace").strip() for f in fields]
            return names, block.data[end:]
    raise BadFileError(file.path, "a header of column names", "an empty file")


def _matched(
    file: SourceFile, contract: Contract, names: Sequence[str]
) -> tuple[list[Column], tuple[str, ...]]:
    """The columns of `names` that the table knows, and the names that it does not.

    Raises:
        BadFileError: a name comes twice, or a required column is not there.
    """
    twice = sorted({n for n in names if n and names.count(n) > 1})
    if twice:
        raise BadFileError(file.path, "each column once", f"{', '.join(twice)} more than once")
    known = {c.name: c for c in source_columns(contract)}
    missing = [n for n in required_columns(contract) if n not in names]
    if missing:
        found = f"the columns {', '.join(names)}"[:500]
        delimiter = next((d for d in (";", "\t", "|") if len(names) == 1 and d in names[0]), None)
        if delimiter:
            found = f"one column {names[0][:200]!r}: the delimiter seems to be {delimiter!r}"
        raise BadFileError(file.path, f"the required columns {', '.join(missing)}", found)
    return [known[n] for n in names if n in known], tuple(n for n in names if n not in known)


def _without_mark(
    blocks: Iterator[LineBlock | OverlongLine],
) -> Iterator[LineBlock | OverlongLine]:
    """The blocks without the byte order mark that some programs put before UTF-8."""
    for number, block in enumerate(blocks):
        if number == 0 and isinstance(block, LineBlock):
            yield LineBlock(block.data.removeprefix(_BOM))
        else:
            yield block


def _batch(rows: TextRows, unknown: tuple[str, ...] = ()) -> RawBatch:
    lines = [UnparseableLine(number, text) for number, text in rows.unparseable]
    return RawBatch(rows.frame, lines, unknown)


def _empty_batch(names: Sequence[str], unknown: tuple[str, ...]) -> RawBatch:
    schema = {"row_number": pl.Int64} | dict.fromkeys(names, pl.String)
    return RawBatch(pl.DataFrame(schema=schema), [], unknown)


def _overlong(rows: CsvRows | JsonRows, names: Sequence[str], line: OverlongLine) -> RawBatch:
    number = rows.next_row_number
    rows.next_row_number += 1
    schema = {"row_number": pl.Int64} | dict.fromkeys(names, pl.String)
    return RawBatch(pl.DataFrame(schema=schema), [UnparseableLine(number, as_line_text(line.head))])


def _sliced(batches: Iterator[RawBatch], batch_rows: int) -> Iterator[RawBatch]:
    """The batches in pieces of at most `batch_rows` rows, empty ones only if there is no other."""
    empty, has_given = None, False
    for batch in batches:
        pieces = list(batch.frame.iter_slices(batch_rows)) if batch.frame.height else []
        if not pieces and not batch.unparseable and not batch.unknown_columns:
            empty = batch
            continue
        has_given = True
        yield RawBatch(
            pieces[0] if pieces else batch.frame, batch.unparseable, batch.unknown_columns
        )
        yield from (RawBatch(piece, []) for piece in pieces[1:])
    if empty and not has_given:
        yield empty
