"""Parquet as batches of native columns, after a check that their types can be what they must be.

Values are not looked at here (see `values`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from engagement_pipeline.contracts import Column
from engagement_pipeline.contracts.columns import ColumnKind
from engagement_pipeline.ingest.errors import BadFileError

_WORDS = ("text or whole numbers", (pl.String, pl.Categorical, pl.Enum))

# A fraction is no id, and a float has already lost the digits of a long one. A whole number is no
# time: whether it counts seconds or microseconds is anybody's guess.
_READABLE: dict[ColumnKind, tuple[str, tuple[type[pl.DataType], ...]]] = {
    ColumnKind.TEXT: _WORDS,
    ColumnKind.WORD: _WORDS,
    ColumnKind.TIME_ZONE: _WORDS,
    ColumnKind.INSTANT: (
        "timestamps, dates or text",
        (pl.Datetime, pl.Date, pl.String, pl.Categorical, pl.Enum),
    ),
    ColumnKind.FLAG: ("booleans, whole numbers or text", (pl.Boolean, *_WORDS[1])),
    ColumnKind.NUMBER: ("numbers or text", (pl.Float32, pl.Float64, pl.Decimal, *_WORDS[1])),
    ColumnKind.CLOCK_TIME: ("times of day or text", (pl.Time, *_WORDS[1])),
}
_WHOLE_NUMBERS_TOO = {
    ColumnKind.TEXT,
    ColumnKind.WORD,
    ColumnKind.TIME_ZONE,
    ColumnKind.FLAG,
    ColumnKind.NUMBER,
}


def parquet_names(path: Path) -> list[str]:
    """The file's column names. Raises `BadFileError` if its footer cannot be read."""
    return list(_schema(path))


def parquet_batches(
    path: Path, columns: Sequence[Column], batch_rows: int
) -> Iterator[pl.DataFrame]:
    """Frames of at most `batch_rows` rows with `columns` in the types the file has them in.

    Raises:
        BadFileError: the file is damaged, or a column's type cannot be read as its kind.
    """
    schema = _schema(path)
    for column in columns:
        _ensure_readable(path, column, schema[column.name])
    names = [c.name for c in columns]
    try:
        batches = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(names)
        for frame in batches.collect_batches(chunk_size=batch_rows, maintain_order=True):
            yield from frame.iter_slices(batch_rows)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


# A damaged page can make the decoder panic, which is no ordinary exception.
_DAMAGE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


def _damaged(path: Path, error: BaseException) -> BadFileError:
    what = (str(error).splitlines() or [""])[0][:200]
    return BadFileError(path, "sound Parquet", f"a damaged or truncated file ({what})")


def _schema(path: Path) -> dict[str, pl.DataType]:
    try:
        return dict(pl.read_parquet_schema(path))
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _ensure_readable(path: Path, column: Column, dtype: pl.DataType) -> None:
    expected, readable = _READABLE[column.kind]
    if isinstance(dtype, (*readable, pl.Null)):
        return
    if dtype.is_integer() and column.kind in _WHOLE_NUMBERS_TOO:
        return
    raise BadFileError(path, f"{expected} in the column {column.name}", f"the type {dtype}")
