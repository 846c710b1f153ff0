"""JSON Lines as rows of text: a fast reader for plain stretches, a careful one for the rest.

A line is one JSON object; a line of white space is no row. Every value becomes text as it is
spelled in the file: numbers keep their digits, `true` and `false` their names, a nested value is
its JSON; `null` and an absent key are null. Of a key that comes twice the first
value counts. Only of a number in a column of numbers the spelling may change (`1e1` or `10`).
What a column means is not known here.
"""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

import polars as pl

from engagement_pipeline.ingest.csv_text import TextRows
from engagement_pipeline.ingest.line_blocks import as_line_text

_WHITE_SPACE = b" \t\r\n"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]")
_SAMPLED_LINES = 100


class JsonRows:
    """Reads stretches of one JSON Lines file, one after the other, into rows.

    `wanted` are the keys to give, `numbers` those of them whose spelling does not matter.
    `unknown` gathers the other keys: all that the careful reader met, and those in the first 100
    lines of every stretch that the fast one read.
    """

    def __init__(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> None:
        self.wanted = list(wanted)
        self.unknown: set[str] = set()
        self.next_row_number = 1
        self._schema = dict.fromkeys(self.wanted, pl.String)
        exact = b"|".join(re.escape(k).encode() for k in self.wanted if k not in numbers)
        # Polars writes a number its own way, rounds a long one, and does not escape what is
        # inside a nested value.
        self._respelled = re.compile(
            rb'"(?:%b)"[ \t\r]*:[ \t\r]*(?:-?[0-9]+(?:[.eE]|[0-9]{17})|-0|[\[{])' % exact
        )
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_first_of_each,
            parse_int=str,
            parse_float=str,
            parse_constant=_refuse_constant,
        )

    def read(self, data: bytes) -> TextRows:
        """Read whole lines."""
        if self._is_plain(data):
            try:
                frame = pl.read_ndjson(data, schema=self._schema)
                self._sample_unknown(data)
            except (pl.exceptions.PolarsError, ValueError):
                return self._read_carefully(data)
            first = self.next_row_number
            self.next_row_number = first + frame.height
            number = pl.int_range(first, first + frame.height, dtype=pl.Int64)
            return TextRows(frame.select(number.alias("row_number"), *self.wanted))
        return self._read_carefully(data)

    def _is_plain(self, data: bytes) -> bool:
        if b"\0" in data or self._respelled.search(data):
            return False
        # Polars reads half a surrogate pair as NUL.
        if b"\\u" in data and len(_SURROGATE.findall(data)) != 2 * len(
            _SURROGATE_PAIR.findall(data)
        ):
            return False
        try:
            data.isascii() or data.decode()
        except UnicodeDecodeError:
            return False
        return True

    def _sample_unknown(self, data: bytes) -> None:
        for line in data.split(b"\n", _SAMPLED_LINES)[:_SAMPLED_LINES]:
            if line.strip(_WHITE_SPACE):
                self.unknown.update(json.loads(line))
        self.unknown.difference_update(self.wanted)

    def _read_carefully(self, data: bytes) -> TextRows:
        numbers: list[int] = []
        columns: dict[str, list[str | None]] = {key: [] for key in self.wanted}
        unparseable: list[tuple[int, str]] = []
        for line in data.split(b"\n"):
            if not line.strip(_WHITE_SPACE):
                continue
            row = self._row(line)
            if row is None:
                unparseable.append((self.next_row_number, as_line_text(line)))
            else:
                numbers.append(self.next_row_number)
                for key, column in columns.items():
                    column.append(row.get(key))
            self.next_row_number += 1
        frame = pl.DataFrame(
            {"row_number": numbers, **columns}, {"row_number": pl.Int64, **self._schema}
        )
        return TextRows(frame, unparseable)

    def _row(self, line: bytes) -> dict[str, str | None] | None:
        """The wanted values of one line, or None if it is no JSON object in UTF-8."""
        try:
            text = line.decode().strip(_WHITE_SPACE.decode())
            found = self._decoder.decode(text)
            if not isinstance(found, dict) or "\0" in text:
                return None
            row = {key: _as_text(found[key], text, key) for key in self.wanted if key in found}
            if "\\u" in text:
                for value in row.values():
                    (value or "").encode()  # half a surrogate pair is no character
        except (ValueError, RecursionError):
            return None
        self.unknown.update(key for key in found if key not in self._schema)
        return row


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _as_text(value: Any, line: str, key: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    # The row's own decoder has turned the numbers inside a nested value into strings.
    exact = json.loads(line, object_pairs_hook=_first_of_each)[key]
    return json.dumps(exact, ensure_ascii=False)
