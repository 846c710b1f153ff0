"""One raw column into one column of the contract's type, and what is wrong with its values.

What a value means depends on its column's kind only. Rules that look at several columns of a row,
and what becomes of a row, are in `validation`.
"""

import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import polars as pl

from engagement_pipeline.contracts import Column
from engagement_pipeline.contracts.columns import ColumnKind
from engagement_pipeline.ingest.instants import INSTANT, read_instants
from engagement_pipeline.ingest.vocabulary import Vocabulary, read_words

FUTURE_TOLERANCE = timedelta(hours=24)
"""Clocks of sources are off by hours (a local time read as UTC), hardly by more than a day."""

_FLAGS = {
    "true": True, "t": True, "yes": True, "1": True,
    "false": False, "f": False, "no": False, "0": False,
}  # fmt: skip
_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_CLOCK_TIME = r"^(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?$"


@dataclass(frozen=True)
class Fault:
    """A reason code, and for every row of the batch whether it holds (Boolean, no nulls)."""

    reason: str
    rows: pl.Series


@dataclass(frozen=True)
class ReadColumn:
    """`values`: in the contract's type, as many as were found. `faults`: in order of precedence.

    Where a fault holds, the value means nothing.
    """

    values: pl.Series
    faults: list[Fault]


def read_column(
    found: pl.Series,
    column: Column,
    *,
    now: datetime,
    vocabulary: Vocabulary | None = None,
    org_ids: pl.Series | None = None,
) -> ReadColumn:
    """Read `found` (String, or a Parquet type that suits the column's kind) as `column`.

    `vocabulary` is what its values mean, if it has one, and `org_ids` the rows' organisations, some
    of which may have spellings of their own.

    Faults, in this order: `missing_`, `too_long_`, `unknown_` or `bad_timestamp_`, `future_`, each
    followed by the column's name; only those that some row has.
    """
    present = tidy(found, column)
    default = column.metadata.get("default")
    is_optional = column.is_nullable or default is not None
    faults = [] if is_optional else [Fault(f"missing_{column.name}", present.is_null())]
    max_length = column.metadata.get("max_length")
    # Bytes are counted in no time, and there are never fewer of them than characters.
    if max_length and (present.str.len_bytes().max() or 0) > max_length:
        rows = (present.str.len_chars() > max_length).fill_null(False)
        faults.append(Fault(f"too_long_{column.name}", rows))
    if vocabulary is None:
        values = _READERS[column.kind](present, column)
    else:
        values = read_words(present, vocabulary, org_ids)
    if values is not present and values.null_count() > present.null_count():
        what = "bad_timestamp" if column.kind is ColumnKind.INSTANT else "unknown"
        faults.append(Fault(f"{what}_{column.name}", values.is_null() & present.is_not_null()))
    if column.kind is ColumnKind.INSTANT and not column.metadata.get("may_be_future"):
        faults.append(Fault(f"future_{column.name}", _is_future(values, now)))
    if default is not None and values.null_count():
        values = values.fill_null(default)
    return ReadColumn(values.alias(column.name), [f for f in faults if f.rows.any()])


def tidy(found: pl.Series, column: Column) -> pl.Series:
    """Text without outer white space, and null where nothing is left; native types as they are."""
    if found.dtype in (pl.Categorical, pl.Enum) or (
        found.dtype.is_integer() and column.kind is not ColumnKind.NUMBER
    ):
        found = found.cast(pl.String)
    if found.dtype == pl.Null:
        return found.cast(INSTANT if column.kind is ColumnKind.INSTANT else pl.String)
    if found.dtype != pl.String:
        return found
    text = found.str.strip_chars()
    is_empty = text.str.len_bytes() == 0
    if not is_empty.any():
        return text
    return text.set(is_empty.fill_null(False), None)


def _texts(present: pl.Series, column: Column) -> pl.Series:
    del column
    return present


def _instants(present: pl.Series, column: Column) -> pl.Series:
    del column
    return read_instants(present)


def _flags(present: pl.Series, column: Column) -> pl.Series:
    del column
    if present.dtype == pl.Boolean:
        return present
    folded = present.str.to_lowercase()
    return folded.replace_strict(_FLAGS, default=None, return_dtype=pl.Boolean)


def _numbers(present: pl.Series, column: Column) -> pl.Series:
    if present.dtype == pl.String:
        # Polars alone would also take `inf` and `nan` for numbers.
        is_number = present.str.contains(_NUMBER).fill_null(False)
        present = present.set(~is_number, None)
    values = present.cast(pl.Float64, strict=False)
    sound = values.is_finite()
    for check, statistics in column.checks:
        if check == "greater_than_or_equal_to":
            sound &= values >= statistics["min_value"]
        elif check == "less_than_or_equal_to":
            sound &= values <= statistics["max_value"]
    return values.set(~sound.fill_null(False), None)


def _clock_times(present: pl.Series, column: Column) -> pl.Series:
    del column
    if present.dtype == pl.Time:
        return present.dt.strftime("%H:%M")
    is_time = present.str.contains(_CLOCK_TIME).fill_null(False)
    text = present.set(~is_time, None)
    return text.str.replace("^([0-9]):", "0$1:").str.slice(0, 5)


def _time_zones(present: pl.Series, column: Column) -> pl.Series:
    del column
    return present.set(~present.is_in(_known_time_zones()).fill_null(False), None)


@lru_cache(maxsize=1)
def _known_time_zones() -> list[str]:
    return sorted(zoneinfo.available_timezones())


_READERS: dict[ColumnKind, Callable[[pl.Series, Column], pl.Series]] = {
    ColumnKind.TEXT: _texts,
    ColumnKind.INSTANT: _instants,
    ColumnKind.FLAG: _flags,
    ColumnKind.NUMBER: _numbers,
    ColumnKind.CLOCK_TIME: _clock_times,
    ColumnKind.TIME_ZONE: _time_zones,
}


def _is_future(values: pl.Series, now: datetime) -> pl.Series:
    return (values > now + FUTURE_TOLERANCE).fill_null(False)
