"""The shape of the sample: columns of each table, format of each file, cells as text.

What a table or file looks like lives here. What is in it belongs to the modules that invent it;
touching the disk belongs to `folder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from engagement_pipeline.sample.dice import Dice

Cell = str | float | bool | datetime | None
Row = dict[str, Cell]
Format = Literal["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "organizations": ("org_id", "name", "description", "timezone", "created_at"),
    "memberships": ("org_id", "user_id", "role", "joined_at", "left_at"),
    "profiles": ("user_id", "display_name", "timezone", "last_active_at", "created_at"),
    "profile_updates": ("user_id", "section", "updated_at"),
    # `venue` is no column of the input table: readers keep it out and say so once.
    "events": ("event_id", "org_id", "title", "starts_at", "ends_at", "venue"),
    "attendance": ("org_id", "event_id", "user_id", "status", "created_at", "responded_at"),
    "event_views": ("org_id", "event_id", "user_id", "viewed_at"),
    "notifications": (
        "notification_id",
        "user_id",
        "org_id",
        "feature",
        "channel",
        "sent_at",
        "delivered_at",
    ),
    "notification_reads": ("notification_id", "read_at"),
    "interactions": (
        "interaction_id",
        "org_id",
        "user_id",
        "type",
        "text",
        "sent_at",
        "response_time_seconds",
    ),
    "preferences": ("user_id", "org_id", "opted_out", "quiet_start", "quiet_end", "updated_at"),
    "override_requests": (
        "request_id",
        "org_id",
        "user_id",
        "action",
        "level",
        "notes",
        "performed_by",
        "performed_at",
        "expires_at",
    ),
    "org_settings": ("org_id", "setting", "value"),
    "erasure_requests": ("user_id", "requested_at"),
}
"""Columns of every table, in the order in which they are written."""

KEYS: dict[str, tuple[str, ...]] = {
    "organizations": ("org_id",),
    "memberships": ("org_id", "user_id"),
    "profiles": ("user_id",),
    "profile_updates": ("user_id", "section", "updated_at"),
    "events": ("event_id",),
    "attendance": ("org_id", "event_id", "user_id"),
    "event_views": ("org_id", "event_id", "user_id", "viewed_at"),
    "notifications": ("notification_id",),
    "notification_reads": ("notification_id", "read_at"),
    "interactions": ("interaction_id",),
    "preferences": ("user_id", "org_id"),
    "override_requests": ("request_id",),
    "org_settings": ("org_id", "setting"),
    "erasure_requests": ("user_id",),
}
"""The columns that tell a table's rows apart."""

FORMATS: dict[str, Format] = {
    "organizations": "csv",
    "memberships": "csv",
    "profiles": "jsonl",
    "profile_updates": "csv",
    "events": "csv",
    "event_views": "parquet",
    "notifications": "csv.gz",
    "notification_reads": "parquet",
    "interactions": "jsonl.gz",
    "preferences": "csv",
    "override_requests": "csv",
    "org_settings": "csv",
    "erasure_requests": "csv",
}
"""The format of every table that is one file; `attendance` is a folder of several."""

_NUMBERS = {"response_time_seconds": pl.Float64(), "opted_out": pl.Boolean()}
_ZULU_SHARE = 0.7


@dataclass(frozen=True)
class CleanFile:
    """One file's rows before any of them is spoilt; `path` is relative to the source folder."""

    path: str
    table: str
    format: Format
    rows: Sequence[Row]


@dataclass(frozen=True)
class SampleFile:
    """One file of the sample, before it touches the disk.

    `frame` holds its rows, spoilt ones included: text columns for text formats, timestamps as
    `Datetime("us", "UTC")` for Parquet. `broken_lines` are raw lines that no parser takes, each
    with the number of rows that stand before it. `planted` counts spoilt rows by reason code.
    """

    path: str
    table: str
    format: Format
    frame: pl.DataFrame
    broken_lines: tuple[tuple[int, str], ...]
    planted: dict[str, int]


def frame_of(table: str, file_format: Format, rows: Sequence[Row], dice: Dice) -> pl.DataFrame:
    """Rows as a frame with the table's columns: typed for Parquet, times as text otherwise."""
    is_text = file_format != "parquet"
    series = [
        pl.Series(
            column,
            [as_text(row[column], dice) if is_text else row[column] for row in rows],
            dtype=_dtype(column, is_text=is_text),
            strict=True,
        )
        for column in COLUMNS[table]
    ]
    return pl.DataFrame(series)


def _dtype(column: str, *, is_text: bool) -> pl.DataType:
    if column in _NUMBERS:
        return _NUMBERS[column]
    return pl.Datetime("us", "UTC") if column.endswith("_at") and not is_text else pl.String()


def as_text(cell: Cell, dice: Dice) -> Cell:
    """A cell as a text format holds it: an instant as ISO 8601 in UTC, ending in `Z` or `+00:00`
    (both are about in real exports); anything else unchanged."""
    if not isinstance(cell, datetime):
        return cell
    text = cell.isoformat()
    return text.replace("+00:00", "Z") if dice.chance(_ZULU_SHARE) else text


def times_as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """A typed frame with its instants as ISO 8601 text ending in `Z`; a text frame unchanged."""
    instants = pl.selectors.datetime()
    return frame.with_columns(instants.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
