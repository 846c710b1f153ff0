"""`check_rows` against the same rules written once more, row by row, in plain Python."""

import math
import re
import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import Column, contract
from engagement_pipeline.contracts.columns import ColumnKind
from engagement_pipeline.contracts.vocabulary import ORG_SETTING_BOUNDS
from engagement_pipeline.ingest import check_rows
from engagement_pipeline.ingest.source import INPUT_TABLES
from engagement_pipeline.ingest.vocabulary import fold, vocabularies_of

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ORGS = ["o", "00123", "p q"]
EXTRA = {"status": {"Dabei": "attended", "yes": "partial"}, "type": {"Text": "message"}}
MAPPINGS = pl.DataFrame(
    [
        (table, column, None, fold(value), term, NOW)
        for column, table in (("status", "attendance"), ("type", "interactions"))
        for value, term in EXTRA[column].items()
    ],
    schema=contract("loops.vocabulary_mappings").polars_schema,
    orient="row",
)
# Unicode's White_Space. Python's own strip would also take the separators \x1c to \x1f.
SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


class BadError(Exception):
    pass


def _moment(text: str) -> datetime:
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d)?(?:(?<=:\d\d:\d\d)\.(\d{1,9}))?"
        r"([Zz]|[+-]\d\d(?::?\d\d)?)?)?",
        text,
        re.ASCII,
    )
    if not match:
        raise BadError
    day, clock, second, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z", "z") else zone
    digits = zone[1:].replace(":", "").ljust(4, "0")
    micro = ((fraction or "") + "000000")[:6]
    plain = f"{day}T{clock or '00:00'}{second or ':00'}.{micro}"
    try:
        hours, minutes = int(digits[:2]), int(digits[2:])
        if hours > 23 or minutes > 59:
            raise BadError
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
        return datetime.fromisoformat(plain).replace(tzinfo=UTC) - offset
    except (ValueError, OverflowError) as error:
        raise BadError from error


def _word(text: str, column: Column) -> str:
    folded = re.sub(r"[\s-]+", "_", text.strip().casefold())
    spellings = dict(column.metadata["spellings"])
    spellings |= {k.casefold(): v for k, v in EXTRA.get(column.name, {}).items()}
    word = folded if folded in column.allowed else spellings.get(folded)
    if word is None:
        raise BadError
    return word


def _number(text: str) -> float:
    if not re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", text, re.ASCII):
        raise BadError
    if not math.isfinite(value := float(text)) or value < 0:
        raise BadError
    return value


def _clock(text: str) -> str:
    if not re.fullmatch(r"\d?\d:\d\d(:\d\d)?", text, re.ASCII):
        raise BadError
    parts = [int(part) for part in text.split(":")]
    if parts[0] > 23 or parts[1] > 59 or parts[-1] > 59:
        raise BadError
    return f"{parts[0]:02}:{parts[1]:02}"


def _flag(text: str) -> bool:
    if text.lower() not in ["true", "yes", "1", "t", "false", "no", "0", "f"]:
        raise BadError
    return text.lower() in ["true", "yes", "1", "t"]


def _zone(text: str) -> str:
    if text not in zoneinfo.available_timezones():
        raise BadError
    return text


READERS: dict[ColumnKind, Any] = {
    ColumnKind.INSTANT: _moment,
    ColumnKind.NUMBER: _number,
    ColumnKind.CLOCK_TIME: _clock,
    ColumnKind.FLAG: _flag,
    ColumnKind.TIME_ZONE: _zone,
    ColumnKind.TEXT: str,
}


def _oracle(table: str, row: dict[str, str | None]) -> tuple[str | None, dict[str, Any]]:
    """The row's reason, or None and its values."""
    values: dict[str, Any] = {}
    for column in contract(f"raw.{table}").columns:
        text = (row[column.name] or "").strip(SPACES)
        default = column.metadata.get("default")
        values[column.name] = default
        if not text:
            if not column.is_nullable and default is None:
                return f"missing_{column.name}", {}
            continue
        if len(text) > column.metadata.get("max_length", math.inf):
            return f"too_long_{column.name}", {}
        try:
            is_word = column.kind is ColumnKind.WORD
            value = _word(text, column) if is_word else READERS[column.kind](text)
        except BadError:
            is_time = column.kind is ColumnKind.INSTANT
            return f"{'bad_timestamp' if is_time else 'unknown'}_{column.name}", {}
        values[column.name] = value
        may_be_future = column.name in ("starts_at", "ends_at", "expires_at")
        if isinstance(value, datetime) and value > NOW + timedelta(days=1) and not may_be_future:
            return f"future_{column.name}", {}
    if table == "org_settings" and not re.fullmatch("[0-9]{1,9}", values["value"]):
        return "unknown_value", {}
    if table == "org_settings":
        lowest, highest = ORG_SETTING_BOUNDS[values["setting"]]
        if not lowest <= int(values["value"]) <= highest:
            return "unknown_value", {}
    if table == "override_requests" and values["action"] == "override" and not values["level"]:
        return "missing_level", {}
    if table != "organizations" and values.get("org_id", "o") not in (None, *ORGS):
        return "unknown_org", {}
    return None, values


_NASTY = st.text(
    st.sampled_from([*'ab 0:-T"\\\n\t', *SPACES, *"\x1c\x00\u200b\ufeffßİé😀"]), max_size=4
)
_DIGITS = st.integers(-1, 70).map(lambda n: f"{n:02}")
_TIMES = st.one_of(
    st.datetimes(timezones=st.just(UTC)).map(str),
    st.datetimes(datetime(2026, 5, 30), datetime(2026, 6, 4)).map(lambda m: m.isoformat()),  # noqa: DTZ001
    st.builds(
        lambda year, month, day, gap, h, m, s, fraction, zone: (
            f"{year}-{month}-{day}{gap}{h}:{m}{s}{fraction}{zone}"
        ),
        st.sampled_from(["2026", "0001", "9999", "0000", "1969", "12026"]),
        st.sampled_from(["01", "02", "12", "13", "1"]),
        st.sampled_from(["01", "28", "29", "31"]),
        st.sampled_from(["T", " ", "t", "", "  "]),
        st.sampled_from(["00", "23", "24"]),
        st.sampled_from(["00", "59", "60"]),
        st.sampled_from(["", ":00", ":59", ":60"]),
        st.sampled_from(["", ".1", ".123", ".123456", ".123456789", ".1234567890", ".", ",5"]),
        st.sampled_from(
            ["", "Z", "z", "+00:00", "+0000", "-05:30", "+14", "+23:59", "+24:00", "-00", " Z"]
        ),
    ),
    st.dates().map(str),
)
_BY_KIND: dict[ColumnKind, st.SearchStrategy[str]] = {
    ColumnKind.INSTANT: _TIMES,
    ColumnKind.NUMBER: st.floats().map(str) | st.sampled_from(["1.", ".5", "+1e2", "1e400", "."]),
    ColumnKind.CLOCK_TIME: st.builds(
        lambda *parts: ":".join(parts), st.integers(0, 25).map(str), _DIGITS
    )
    | st.builds(lambda *parts: ":".join(parts), _DIGITS, _DIGITS, _DIGITS),
    ColumnKind.FLAG: st.sampled_from(["true", "TRUE", "No", "1", "t", "F", "2", "yes"]),
    ColumnKind.TIME_ZONE: st.sampled_from(["UTC", "utc", "Europe/Berlin", "Mars"]),
    ColumnKind.TEXT: st.sampled_from(
        [*ORGS, "1000", "1001", "3650", "3651", "0", "1", "x" * 257, "é" * 256, "x" * 1_025]
    ),
}
_PADDING = st.text(st.sampled_from(SPACES), max_size=2)


def _cells(column: Column) -> st.SearchStrategy[str | None]:
    usual = _BY_KIND.get(column.kind, st.nothing())
    if column.kind is ColumnKind.WORD:
        words = [*(column.allowed or ()), *column.metadata["spellings"], "dabei", "text", "none"]
        usual = st.sampled_from(words).flatmap(
            lambda w: st.sampled_from([w, w.upper(), w.replace("_", " - "), w.title()])
        )
    if column.name == "org_id":
        usual = st.sampled_from([*ORGS, *ORGS, "elsewhere"])
    padded = st.builds(lambda a, text, b: a + text + b, _PADDING, usual, _PADDING)
    # Mostly sound values: a row has several columns, and one fault hides those after it.
    return st.one_of(usual, usual, usual, padded, padded, st.none() | _NASTY)


@pytest.mark.parametrize("table", INPUT_TABLES)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_vectorised_and_row_by_row_checks_agree(table: str, data: st.DataObject) -> None:
    columns = contract(f"raw.{table}").columns
    row = st.fixed_dictionaries({c.name: _cells(c) for c in columns})
    rows = data.draw(st.lists(row, min_size=1, max_size=8))
    frame = pl.DataFrame(rows, dict.fromkeys((c.name for c in columns), pl.String))
    frame = frame.with_row_index("row_number", 1).cast({"row_number": pl.Int64})
    checked = check_rows(
        frame,
        contract(f"raw.{table}"),
        now=NOW,
        known_org_ids=pl.Series(ORGS),
        vocabularies=vocabularies_of(contract(f"raw.{table}"), mappings=MAPPINGS),
    )
    expected = [_oracle(table, row) for row in rows]
    assert dict(checked.rejects.select("row_number", "reason").iter_rows()) == {
        n: reason for n, (reason, _) in enumerate(expected, 1) if reason
    }
    assert list(checked.rows.iter_rows(named=True)) == [
        {"row_number": n, **values} for n, (reason, values) in enumerate(expected, 1) if not reason
    ]
    contract(f"raw.{table}").model.validate(checked.rows.drop("row_number"))
