"""CSV as rows of text: a fast reader for sound stretches, a careful one for the rest.

The grammar, for both: rows end with a line feed (a carriage return before it is dropped); a field
is quoted as a whole (a doubled quote stands for one, line feeds may be inside) or not at all (a
quote further inside an unquoted field is an ordinary character); a blank line is no row; missing
fields at a row's end are null, as are empty unquoted ones. A row with too many fields, a quote
that is never closed properly, a NUL or a byte that is no UTF-8 spoil that line alone: reading goes
on with the next one. What a column means is not known here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from engagement_pipeline.ingest.line_blocks import MAX_LINE_BYTES, as_line_text

# A well-formed quoted field. It begins with the quote, so that the search hops from quote to
# quote; the look-behind then makes sure that the quote opens a field.
_QUOTED = re.compile(rb'"(?<=[,\n]")(?:[^"]++|"")*+"(?=[,\r\n]|\Z)')
_ROW = re.compile(
    rb'(?:"(?:[^"]++|"")*+"|[^",\n][^,\n]*+)?+(?:,(?:"(?:[^"]++|"")*+"|[^",\n][^,\n]*+)?+)*+\r?(?:\n|\Z)'
)
_OPEN_ROW = re.compile(rb'(?:(?:"(?:[^"]++|"")*+"|[^",\n][^,\n]*+)?+,)*+"(?:[^"]++|"")*+\Z')
_FIELD = re.compile(rb'(?:"((?:[^"]++|"")*+)"|([^,\n]*+))(,|\r?\n|\r?\Z)')


@dataclass
class TextRows:
    """Rows read from a stretch of a file, in order.

    `frame`: `row_number` (Int64) and the wanted columns as String.
    `unparseable`: (row number, line) of those that are no rows.
    """

    frame: pl.DataFrame
    unparseable: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class CsvRows:
    """Reads stretches of one CSV file, one after the other, into rows.

    `header` names the fields in the file's order; `wanted` are those to give.
    """

    header: Sequence[str]
    wanted: Sequence[str]
    next_row_number: int = 1
    _open: bytes = b""

    def read(self, data: bytes, *, is_last: bool) -> TextRows:
        """Read whole lines. A row whose quotes are still open waits for the next call.

        `is_last` says that nothing that could close an open quote will follow.
        """
        data = self._open + data
        cut = len(data) if is_last else _end_of_closed_rows(data)
        # Past that length an open quote is taken for a stray one.
        if cut and len(data) - cut <= MAX_LINE_BYTES:
            fast = self._read_fast(data[:cut])
            if fast is not None:
                self._open = data[cut:]
                return fast
        return self._read_carefully(data, is_last=is_last)

    def _read_fast(self, data: bytes) -> TextRows | None:
        """The rows by the Polars reader, or None if `data` is not plainly sound."""
        bare = _QUOTED.sub(b"q", b"\n" + data)[1:] if b'"' in data else data
        if b'"' in bare or _has_blank_line(bare) or _has_lone_carriage_return(bare):
            return None
        if b"\0" in data or not _is_utf8(data):
            return None
        rows = bare.count(b"\n") + (not bare.endswith(b"\n"))
        # Polars looks at the first row to learn how many fields there are, so it is given one.
        names = [f"f{i}" for i in range(len(self.header))]
        try:
            frame = pl.read_csv(",".join(names).encode() + b"\n" + data, infer_schema=False)
        except pl.exceptions.PolarsError:
            return None
        # A reader that sees other rows than the line ends say must not have the last word.
        if frame.height != rows:
            return None
        return TextRows(self._numbered(frame))

    def _numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        first = self.next_row_number
        self.next_row_number = first + frame.height
        return frame.select(
            pl.int_range(first, first + frame.height, dtype=pl.Int64).alias("row_number"),
            *(pl.col(f"f{self.header.index(name)}").alias(name) for name in self.wanted),
        )

    def _read_carefully(self, data: bytes, *, is_last: bool) -> TextRows:
        places = [self.header.index(name) for name in self.wanted]
        numbers: list[int] = []
        columns: list[list[str | None]] = [[] for _ in places]
        unparseable: list[tuple[int, str]] = []
        start = 0
        while start < len(data):
            end, fields = split_row(data, start, is_last=is_last)
            if end is None:
                break
            line = data[start:end]
            start = end
            if fields == []:
                continue
            texts = None if fields is None else _as_texts(fields)
            if texts is None or len(texts) > len(self.header):
                unparseable.append((self.next_row_number, as_line_text(line)))
            else:
                texts += [None] * (len(self.header) - len(texts))
                numbers.append(self.next_row_number)
                for column, place in zip(columns, places, strict=True):
                    column.append(texts[place])
            self.next_row_number += 1
        self._open = data[start:]
        named = dict(zip(self.wanted, columns, strict=True))
        schema = {"row_number": pl.Int64} | dict.fromkeys(self.wanted, pl.String)
        return TextRows(pl.DataFrame({"row_number": numbers, **named}, schema), unparseable)


def split_row(
    data: bytes, start: int, *, is_last: bool
) -> tuple[int | None, list[bytes | None] | None]:
    """The row that begins at `start`: (where it ends, its fields).

    No fields at all for a blank line; None in their place for a line that is no row; an end of
    None for a row whose end is not in `data` (never if `is_last`). A field that is empty and
    unquoted is None.
    """
    end = data.find(b"\n", start) + 1 or len(data)
    line = data[start:end].rstrip(b"\n").removesuffix(b"\r")
    if not line:
        return end, []
    if b'"' not in line:
        return end, [f or None for f in line.split(b",")]
    limit = min(len(data), start + MAX_LINE_BYTES)
    match = _ROW.match(data, start, limit)
    if match and (match.end() < limit or limit == len(data) or data[limit - 1] == 0x0A):
        return match.end(), _fields(match.group())
    if not is_last and limit == len(data) and _OPEN_ROW.match(data, start):
        return None, None
    return end, None


def _fields(row: bytes) -> list[bytes | None]:
    found: list[bytes | None] = []
    start = 0
    while match := _FIELD.match(row, start):
        quoted, plain, after = match.groups()
        if quoted is not None:
            found.append(quoted.replace(b'""', b'"'))
        else:
            found.append((plain if after == b"," else plain.removesuffix(b"\r")) or None)
        if after != b",":
            return found
        start = match.end()
    raise AssertionError("a row matches field by field, because it matched as a whole")


def _as_texts(fields: Sequence[bytes | None]) -> list[str | None] | None:
    try:
        texts = [None if f is None else f.decode() for f in fields]
    except UnicodeDecodeError:
        return None
    return None if any(t is not None and "\0" in t for t in texts) else texts


def _end_of_closed_rows(data: bytes) -> int:
    """Where the last line ends before which every quote is closed; 0 if there is none."""
    cut = data.rfind(b"\n") + 1
    is_open = data.count(b'"', 0, cut) % 2 == 1
    while is_open and cut:
        quote = data.rfind(b'"', 0, cut)
        before = data.rfind(b"\n", 0, quote) + 1
        is_open = is_open ^ (data.count(b'"', before, cut) % 2 == 1)
        cut = before
    return cut


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_blank_line(bare: bytes) -> bool:
    # Two line feeds in a row are found far faster by `in` than by a regular expression.
    return b"\n\n" in bare or b"\n\r\n" in bare or bare.startswith((b"\n", b"\r\n"))


def _has_lone_carriage_return(bare: bytes) -> bool:
    # Polars drops one at the end of any field, not only of a row.
    return b"\r" in bare and bare.count(b"\r") != bare.count(b"\r\n")
