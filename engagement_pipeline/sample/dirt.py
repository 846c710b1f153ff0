"""Spoilt rows, as real exports have them, planted next to the clean ones.

A spoilt row is always an extra row: take all of them away and the clean sample is left, so what a
reader should keep is known. Each has exactly one fault and a key of its own, so that the reason
for which it is refused is not a matter of order. Overrides that are readable but not valid are
in `governance`.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from datetime import datetime, timedelta

from engagement_pipeline.sample.dice import Dice, Mint
from engagement_pipeline.sample.layout import (
    COLUMNS,
    KEYS,
    Cell,
    CleanFile,
    Format,
    Row,
    SampleFile,
    as_text,
    frame_of,
)

FAULTS: dict[str, tuple[str, ...]] = {
    "organizations": ("missing_org_id",),
    "memberships": (
        "missing_joined_at",
        "missing_user_id",
        "bad_timestamp_joined_at",
        "unknown_role",
        "duplicate_key",
        "future_joined_at",
        "unknown_org",
        "too_long_user_id",
        "unparseable",
    ),
    "profiles": (
        "missing_user_id",
        "bad_timestamp_created_at",
        "future_last_active_at",
        "duplicate_key",
        "too_long_display_name",
        "unparseable",
    ),
    "profile_updates": (
        "missing_section",
        "missing_updated_at",
        "bad_timestamp_updated_at",
        "future_updated_at",
        "duplicate_key",
        "unparseable",
    ),
    "events": (
        "missing_starts_at",
        "bad_timestamp_starts_at",
        "duplicate_key",
        "unknown_org",
        "unparseable",
    ),
    "attendance": (
        "unknown_status",
        "missing_user_id",
        "bad_timestamp_created_at",
        "duplicate_key",
        "missing_created_at",
        "future_created_at",
        "missing_status",
        "unknown_org",
        "bad_timestamp_responded_at",
        "unparseable",
    ),
    "event_views": (
        "missing_viewed_at",
        "future_viewed_at",
        "duplicate_key",
        "unknown_org",
        "missing_event_id",
        "too_long_user_id",
    ),
    "notifications": (
        "missing_feature",
        "missing_user_id",
        "bad_timestamp_sent_at",
        "duplicate_key",
        "future_sent_at",
        "unknown_org",
        "unparseable",
    ),
    "notification_reads": (
        "missing_notification_id",
        "missing_read_at",
        "future_read_at",
        "duplicate_key",
    ),
    "interactions": (
        "unknown_type",
        "missing_user_id",
        "bad_timestamp_sent_at",
        "duplicate_key",
        "unparseable",
        "future_sent_at",
        "unknown_org",
        "too_long_text",
    ),
    "preferences": ("bad_timestamp_updated_at", "duplicate_key", "unknown_org"),
    "override_requests": ("unknown_action", "bad_timestamp_performed_at"),
    "org_settings": ("unknown_org",),
    "erasure_requests": (),
}
"""Which reason codes are planted in which table; every one at least once per file."""

TEXT_ONLY = ("bad_timestamp_", "unparseable")
"""Faults that a typed file cannot have."""

SPOILT_SHARE = 0.008
_FAMILIES = ("missing_", "bad_timestamp_", "future_", "too_long_")
_ONCE = ("too_long_text",)
_FEW_ROWS = 200
_FEW_FAULTS = 3

BAD_TIMES = ("31/02/2025 18:00", "2025-13-45T10:00:00Z", "yesterday evening", "0000-00-00 00:00:00")
FOREIGN_ORGS = ("chess-circle", "riverside-gardeners", "test-org-do-not-use")
UNKNOWN_TERMS: dict[str, tuple[str, ...]] = {
    "unknown_role": ("chair", "moderator", "treasurer"),
    "unknown_status": ("canceled", "maybe", "tentative", "atended"),
    "unknown_type": ("video_note", "poll", "msg"),
    "unknown_action": ("overide",),
}
_LONG_CELLS = {"user_id": 300, "display_name": 1_200, "text": 66_000}
_FUTURE_YEARS = (12, 30)
_BORROWS_USER = ("attendance", "event_views", "profile_updates")
_OWN_ID_COLUMN = {
    "organizations": "org_id",
    "events": "event_id",
    "notifications": "notification_id",
    "interactions": "interaction_id",
    "override_requests": "request_id",
}


class Spoiler:
    """Plants faults into the rows of one file, drawing from a stream of its own."""

    def __init__(self, clean: CleanFile, as_of: datetime, dice: Dice, mint: Mint) -> None:
        self._table = clean.table
        self._rows = clean.rows
        self._as_of = as_of
        self._dice = dice
        self._mint = mint
        self._taken = {_key(clean.table, row) for row in clean.rows}

    def row(self, reason: str) -> Row:
        """A new row that a reader refuses for this reason, and for no other."""
        if reason == "duplicate_key":
            return self._duplicate()
        row = self._with_fresh_key(dict(self._dice.pick(self._rows)))
        if reason == "unknown_org":
            row["org_id"] = self._dice.pick(FOREIGN_ORGS)
        elif reason in UNKNOWN_TERMS:
            row[reason.removeprefix("unknown_")] = self._dice.pick(UNKNOWN_TERMS[reason])
        else:
            column = _column(reason)
            row[column] = self._spoilt_cell(reason, column)
        return row

    def cells_too_many(self) -> list[Cell]:
        """The cells of an ordinary row with a few more behind, as when a comma was not quoted."""
        row = self._dice.pick(self._rows)
        return [*(row[column] for column in COLUMNS[self._table]), "or later", "", "#REF!"]

    def row_to_truncate(self) -> Row:
        """An ordinary row, for a line that breaks off."""
        return self._dice.pick(self._rows)

    def _duplicate(self) -> Row:
        """An earlier state of a row that is there too, or the same row once more."""
        row = dict(self._dice.pick(self._rows))
        if self._table == "attendance" and row["responded_at"] is not None:
            row |= {"status": "registered", "responded_at": None}
        updated_at = row.get("updated_at")
        if self._table == "preferences" and isinstance(updated_at, datetime):
            row["updated_at"] = updated_at - timedelta(days=30)
        return row

    def _with_fresh_key(self, row: Row) -> Row:
        while True:
            self._redraw_key(row)
            if _key(self._table, row) not in self._taken:
                self._taken.add(_key(self._table, row))
                return row

    def _redraw_key(self, row: Row) -> None:
        if self._table in _OWN_ID_COLUMN:
            row[_OWN_ID_COLUMN[self._table]] = self._mint.issue()
        elif self._table in _BORROWS_USER:
            row["user_id"] = self._dice.pick(self._rows)["user_id"]
        elif self._table == "notification_reads":
            row["read_at"] = self._dice.moment(self._as_of - timedelta(days=30), self._as_of)
        elif self._table == "org_settings":
            row["org_id"] = self._dice.pick(FOREIGN_ORGS)
        else:
            row["user_id"] = self._mint.issue()

    def _spoilt_cell(self, reason: str, column: str) -> Cell:
        if reason.startswith("missing_"):
            return None
        if reason.startswith("bad_timestamp_"):
            return self._dice.pick(BAD_TIMES)
        if reason.startswith("future_"):
            low, high = _FUTURE_YEARS
            return self._as_of.replace(microsecond=0) + self._dice.days(365 * low, 365 * high)
        word = self._dice.pick(("lorem ", "0", "na", "🎵"))
        return (word * _LONG_CELLS[column])[: _LONG_CELLS[column]]


def with_dirt(clean: CleanFile, spoiler: Spoiler, dice: Dice) -> SampleFile:
    """A file of clean rows and, strewn among them, spoilt ones."""
    planted = _faults(clean, dice)
    spoilt = [spoiler.row(reason) for reason in planted.elements() if reason != "unparseable"]
    mixed = list(clean.rows)
    for row in spoilt:
        mixed.insert(dice.whole(0, len(mixed)), row)
    broken = [
        (dice.whole(0, len(mixed)), _broken_line(clean.format, spoiler, dice))
        for _ in range(planted["unparseable"])
    ]
    return SampleFile(
        path=clean.path,
        table=clean.table,
        format=clean.format,
        frame=frame_of(clean.table, clean.format, mixed, dice),
        broken_lines=tuple(sorted(broken)),
        planted={reason: count for reason, count in planted.items() if count},
    )


def _faults(clean: CleanFile, dice: Dice) -> Counter[str]:
    """How many rows of a file are spoilt for which reason: each once, and more in large files."""
    possible = [
        reason
        for reason in FAULTS[clean.table]
        if clean.format != "parquet" or not reason.startswith(TEXT_ONLY)
    ]
    # A handful of rows (a folder's first days, say) cannot bear every fault at once.
    if len(clean.rows) < _FEW_ROWS:
        return Counter(possible[:_FEW_FAULTS]) if clean.rows else Counter()
    repeatable = [reason for reason in possible if reason not in _ONCE]
    more = max(0, int(len(clean.rows) * SPOILT_SHARE) - len(possible))
    return Counter([*possible, *(dice.pick(repeatable) for _ in range(more))])


def _broken_line(file_format: Format, spoiler: Spoiler, dice: Dice) -> str:
    """A line that no parser takes: a CSV line with too many fields, a JSON line cut short."""
    if file_format.startswith("csv"):
        line = io.StringIO()
        cells = [as_text(cell, dice) for cell in spoiler.cells_too_many()]
        csv.writer(line, lineterminator="").writerow(cells)
        return line.getvalue()
    row = {name: as_text(cell, dice) for name, cell in spoiler.row_to_truncate().items()}
    text = json.dumps(row, ensure_ascii=False)
    return text[: int(len(text) * dice.between(0.4, 0.9))]


def _column(reason: str) -> str:
    """The column that a reason code such as `bad_timestamp_sent_at` names."""
    for family in _FAMILIES:
        reason = reason.removeprefix(family)
    return reason


def _key(table: str, row: Row) -> tuple[Cell, ...]:
    return tuple(row[column] for column in KEYS[table])
