"""What is spoilt in the written files, judged by a reader that knows only the rules of ingestion.

The reader below is written from the rules, not from the generator, so that a planted fault that
is none, or a fault nobody planted, shows.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.sample.layout import SampleFile

KEYS = {
    "organizations": ["org_id"],
    "memberships": ["org_id", "user_id"],
    "profiles": ["user_id"],
    "profile_updates": ["user_id", "section", "updated_at"],
    "events": ["event_id"],
    "attendance": ["org_id", "event_id", "user_id"],
    "event_views": ["org_id", "event_id", "user_id", "viewed_at"],
    "notifications": ["notification_id"],
    "notification_reads": ["notification_id", "read_at"],
    "interactions": ["interaction_id"],
    "preferences": ["user_id", "org_id"],
    "override_requests": ["request_id"],
    "org_settings": ["org_id", "setting"],
    "erasure_requests": ["user_id"],
}
REQUIRED = {
    "organizations": ["org_id", "name"],
    "memberships": ["org_id", "user_id", "joined_at"],
    "profiles": ["user_id"],
    "profile_updates": ["user_id", "section", "updated_at"],
    "events": ["event_id", "org_id", "starts_at"],
    "attendance": ["org_id", "event_id", "user_id", "status", "created_at"],
    "event_views": ["org_id", "event_id", "user_id", "viewed_at"],
    "notifications": ["notification_id", "user_id", "feature", "sent_at"],
    "notification_reads": ["notification_id", "read_at"],
    "interactions": ["interaction_id", "org_id", "user_id", "type", "sent_at"],
    "preferences": ["user_id", "opted_out", "updated_at"],
    "override_requests": [
        "request_id",
        "org_id",
        "user_id",
        "action",
        "notes",
        "performed_by",
        "performed_at",
    ],
    "org_settings": ["org_id", "setting", "value"],
    "erasure_requests": ["user_id", "requested_at"],
}
SYNONYMS = {
    "yes": "registered",
    "going": "registered",
    "rsvp": "registered",
    "no": "cancelled",
    "declined": "cancelled",
    "waitlist": "waitlisted",
    "noshow": "no_show",
    "absent": "no_show",
    "present": "attended",
    "checked_in": "attended",
}
VOCABULARY = {
    ("memberships", "role"): {"member", "admin"},
    ("attendance", "status"): {
        "registered",
        "attended",
        "partial",
        "no_show",
        "cancelled",
        "waitlisted",
    },
    ("interactions", "type"): {
        "message",
        "command",
        "callback",
        "voice",
        "document",
        "sticker",
        "reaction",
        "inline_query",
    },
    ("override_requests", "action"): {"override", "clear"},
}
LONGEST = {"display_name": 1_024, "name": 1_024, "text": 65_536} | dict.fromkeys(
    ["org_id", "user_id", "event_id", "notification_id", "interaction_id", "request_id"], 256
)
NEVER_FUTURE = {"starts_at", "ends_at", "expires_at"}
# A share says little in a table of a few rows, so there the number counts.
FEW_ROWS = 200
FEW_SPOILT_ROWS = 4
LARGEST_SPOILT_SHARE = 0.05
SMALLEST_SPOILT_SHARE = 0.005
USUAL_LARGEST_SHARE = 0.02


def test_every_planted_fault_is_one_and_no_other_row_has_any(
    source: Path, files: list[SampleFile], as_of: datetime
) -> None:
    found = {file.path: reasons_found(source, file, as_of) for file in files}
    assert found == {file.path: file.planted for file in files}


@pytest.mark.parametrize(
    "family",
    [
        r"missing_\w+",
        r"bad_timestamp_\w+",
        r"unknown_(?!org$)\w+",
        "unknown_org",
        "duplicate_key",
        r"future_\w+",
        "unparseable",
        r"too_long_\w+",
    ],
)
def test_every_family_of_reasons_is_planted(files: list[SampleFile], family: str) -> None:
    planted = {reason for file in files for reason in file.planted}
    assert any(re.fullmatch(family, reason) for reason in planted)


def test_spoilt_rows_stay_a_realistic_share_of_every_file(files: list[SampleFile]) -> None:
    for file in files:
        spoilt = sum(file.planted.values())
        rows = file.frame.height + len(file.broken_lines)
        if rows < FEW_ROWS:
            assert spoilt <= FEW_SPOILT_ROWS, file.path
        else:
            assert SMALLEST_SPOILT_SHARE <= spoilt / rows <= USUAL_LARGEST_SHARE, file.path
            assert spoilt / rows < LARGEST_SPOILT_SHARE, file.path


@pytest.mark.parametrize("table", ["attendance", "preferences"])
def test_a_planted_duplicate_is_the_older_state_or_the_same_row(
    files: list[SampleFile], table: str
) -> None:
    for file in (file for file in files if file.table == table):
        states: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in file.frame.iter_rows(named=True):
            states.setdefault(tuple(row[name] for name in KEYS[table]), []).append(row)
        pairs = [rows for rows in states.values() if len(rows) > 1 and rows[0]["user_id"]]
        assert len(pairs) == file.planted["duplicate_key"]
        for pair in pairs:
            older, newer = sorted(pair, key=_version)
            is_earlier_state = _version(older) < _version(newer)
            assert is_earlier_state or older["status"] == newer["status"]


def _version(row: dict[str, Any]) -> datetime:
    at = _instant(row.get("responded_at") or row.get("created_at") or row.get("updated_at"))
    assert at is not None
    return at


def test_broken_times_live_only_where_a_time_is_text(files: list[SampleFile]) -> None:
    for file in files:
        if file.format == "parquet":
            instants = [name for name in file.frame.columns if name.endswith("_at")]
            assert all(file.frame.schema[name] == pl.Datetime("us", "UTC") for name in instants)
            assert not any(reason.startswith("bad_timestamp_") for reason in file.planted)
            assert not file.broken_lines


def reasons_found(source: Path, file: SampleFile, as_of: datetime) -> dict[str, int]:
    """Reason codes of one written file, each row judged for its first fault."""
    orgs = {row["org_id"] for row in _read(source / "organizations.csv") if row}
    reasons: Counter[str] = Counter()
    keys: Counter[tuple[Any, ...]] = Counter()
    for row in _read(source / file.path):
        reason = "unparseable" if row is None else _fault(file.table, row, orgs - {""}, as_of)
        if reason is None and row is not None:
            # The same instant may be written with `Z` in one row and `+00:00` in its duplicate.
            keys[
                tuple(
                    _instant(row[name]) if name.endswith("_at") else row[name]
                    for name in KEYS[file.table]
                )
            ] += 1
        elif reason is not None:
            reasons[reason] += 1
    reasons["duplicate_key"] = sum(count - 1 for count in keys.values())
    return {reason: count for reason, count in reasons.items() if count}


def _fault(table: str, row: dict[str, Any], orgs: set[str], as_of: datetime) -> str | None:
    faults = []
    for name, cell in row.items():
        if cell in (None, ""):
            faults += [f"missing_{name}"] if name in REQUIRED[table] else []
            continue
        if name.endswith("_at"):
            at = _instant(cell)
            if at is None:
                faults.append(f"bad_timestamp_{name}")
            elif name not in NEVER_FUTURE and at > as_of + timedelta(hours=24):
                assert at > as_of + timedelta(days=3_650)
                faults.append(f"future_{name}")
        if name in LONGEST and len(cell) > LONGEST[name]:
            faults.append(f"too_long_{name}")
        if (table, name) in VOCABULARY:
            term = str(cell).strip().casefold().replace(" ", "_").replace("-", "_")
            if SYNONYMS.get(term, term) not in VOCABULARY[table, name]:
                faults.append(f"unknown_{name}")
        if name == "org_id" and cell not in orgs:
            faults.append("unknown_org")
    assert len(faults) <= 1, (table, row, faults)
    return faults[0] if faults else None


def _instant(cell: object) -> datetime | None:
    if isinstance(cell, datetime):
        return cell
    try:
        at = datetime.fromisoformat(str(cell))
    except ValueError:
        return None
    assert str(cell).endswith(("Z", "+00:00")), cell
    return at


def _read(path: Path) -> Iterator[dict[str, Any] | None]:
    """Rows of a file as its format holds them; None for a line that is no row."""
    if path.suffix == ".parquet":
        yield from pl.read_parquet(path).iter_rows(named=True)
        return
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = raw.decode().splitlines()
    if ".csv" in path.name:
        header, *rows = csv.reader(lines)
        for cells in rows:
            is_row = len(cells) == len(header)
            yield dict(zip(header, cells, strict=True)) if is_row else None
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            yield None
