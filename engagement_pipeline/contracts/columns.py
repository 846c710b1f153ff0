"""Kinds of column: the handful of shapes that every table is made of.

Each function returns a pandera `Field` with its description, its checks, and in the field's
metadata what ingestion needs to know (`ColumnKind`, longest length, default, spellings).
Nothing about a particular table belongs here.
"""

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl

Instant = Annotated[pl.Datetime, "us", "UTC"]
"""A moment: `Datetime("us", "UTC")` in Polars, `TIMESTAMPTZ` in DuckDB."""

ID_MAX_LENGTH = 256
NAME_MAX_LENGTH = 1_024
TEXT_MAX_LENGTH = 65_536
DOCUMENT_MAX_LENGTH = 8_388_608
"""A line of a source is at most a megabyte, and JSON escapes can lengthen it sixfold."""
LARGEST_NUMBER = sys.float_info.max


class ColumnKind(StrEnum):
    """How ingestion reads a raw value into a column."""

    TEXT = "text"
    WORD = "word"
    INSTANT = "instant"
    FLAG = "flag"
    NUMBER = "number"
    CLOCK_TIME = "clock_time"
    TIME_ZONE = "time_zone"


def _field(
    description: str,
    *,
    nullable: bool = False,
    kind: ColumnKind = ColumnKind.TEXT,
    metadata: Mapping[str, Any] | None = None,
    **checks: Any,
) -> Any:
    return pa.Field(
        description=description,
        nullable=nullable,
        metadata={"kind": kind, **(metadata or {})},
        **checks,
    )


def identifier(description: str, *, nullable: bool = False) -> Any:
    """An id: a non-empty string of at most 256 characters, never parsed as a number."""
    return _field(
        description,
        nullable=nullable,
        metadata={"max_length": ID_MAX_LENGTH},
        str_length={"min_value": 1, "max_value": ID_MAX_LENGTH},
    )


def name(description: str, *, nullable: bool = False) -> Any:
    """A short human text of at most 1,024 characters."""
    return _field(
        description,
        nullable=nullable,
        metadata={"max_length": NAME_MAX_LENGTH},
        str_length={"min_value": 1, "max_value": NAME_MAX_LENGTH},
    )


def text(description: str, *, nullable: bool = False) -> Any:
    """A long human text of at most 65,536 characters."""
    return _field(
        description,
        nullable=nullable,
        metadata={"max_length": TEXT_MAX_LENGTH},
        str_length={"max_value": TEXT_MAX_LENGTH},
    )


def document(description: str) -> Any:
    """A whole row as it was found, of at most 8 Mi characters."""
    return _field(
        description,
        metadata={"max_length": DOCUMENT_MAX_LENGTH},
        str_length={"max_value": DOCUMENT_MAX_LENGTH},
    )


def word(
    description: str,
    allowed: Sequence[str],
    *,
    nullable: bool = False,
    default: str | None = None,
    spellings: Mapping[str, str] | None = None,
) -> Any:
    """One of a closed list of words; `spellings` maps other ways to write them."""
    return _field(
        description,
        nullable=nullable,
        kind=ColumnKind.WORD,
        metadata={"default": default, "spellings": dict(spellings or {})},
        isin=list(allowed),
    )


def instant(description: str, *, nullable: bool = False, may_be_future: bool = False) -> Any:
    """A moment in UTC. Unless `may_be_future`, a time well past ingestion is a reject."""
    return _field(
        description,
        nullable=nullable,
        kind=ColumnKind.INSTANT,
        metadata={"may_be_future": may_be_future},
    )


def time_zone(description: str, *, default: str | None = None) -> Any:
    """An IANA time zone name."""
    return _field(
        description,
        nullable=default is None,
        kind=ColumnKind.TIME_ZONE,
        metadata={"default": default, "max_length": ID_MAX_LENGTH},
    )


def clock_time(description: str) -> Any:
    """A local time of day as `HH:MM`, 24 hours."""
    return _field(
        description,
        nullable=True,
        kind=ColumnKind.CLOCK_TIME,
        str_matches=r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
    )


def flag(description: str) -> Any:
    """True or false, never null."""
    return _field(description, kind=ColumnKind.FLAG)


def count(description: str, *, nullable: bool = False) -> Any:
    """A whole number, zero or more."""
    return _field(description, nullable=nullable, kind=ColumnKind.NUMBER, ge=0)


def whole(description: str, *, nullable: bool = False) -> Any:
    """A whole number of either sign."""
    return _field(description, nullable=nullable, kind=ColumnKind.NUMBER)


def amount(description: str, *, nullable: bool = False, ge: float | None = 0.0) -> Any:
    """A finite real number, at least `ge`."""
    # NaN counts as larger than every number, in Polars and in DuckDB, so `le` catches it as well.
    low = -LARGEST_NUMBER if ge is None else ge
    return _field(description, nullable=nullable, kind=ColumnKind.NUMBER, ge=low, le=LARGEST_NUMBER)


def share(description: str, *, nullable: bool = False) -> Any:
    """A proportion in [0, 1]."""
    return _field(description, nullable=nullable, kind=ColumnKind.NUMBER, ge=0.0, le=1.0)


def signed_share(description: str, *, nullable: bool = False) -> Any:
    """A number in [-1, 1]."""
    return _field(description, nullable=nullable, kind=ColumnKind.NUMBER, ge=-1.0, le=1.0)


def date(description: str, *, nullable: bool = False) -> Any:
    """A calendar day, in UTC unless the description says otherwise."""
    return _field(description, nullable=nullable, kind=ColumnKind.INSTANT)
