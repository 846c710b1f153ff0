"""Which rows are kept, as what, and for which one reason the others are not."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.ingest import CheckedRows, check_rows, rejects_of_lines
from engagement_pipeline.ingest.source import INPUT_TABLES
from engagement_pipeline.ingest.vocabulary import Vocabulary

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NEVER_FUTURE = "2020-01-01T00:00:00Z"

SOUND: dict[str, dict[str, Any]] = {
    "organizations": {"org_id": "o", "name": "n"},
    "memberships": {"org_id": "o", "user_id": "u", "joined_at": NEVER_FUTURE},
    "profiles": {"user_id": "u", "timezone": "Europe/Berlin"},
    "profile_updates": {"user_id": "u", "section": "skills", "updated_at": NEVER_FUTURE},
    "events": {"event_id": "e", "org_id": "o", "starts_at": NEVER_FUTURE},
    "attendance": {
        "org_id": "o",
        "event_id": "e",
        "user_id": "u",
        "status": "attended",
        "created_at": NEVER_FUTURE,
    },
    "event_views": {"org_id": "o", "event_id": "e", "user_id": "u", "viewed_at": NEVER_FUTURE},
    "notifications": {
        "notification_id": "n",
        "user_id": "u",
        "feature": "digest",
        "sent_at": NEVER_FUTURE,
    },
    "notification_reads": {"notification_id": "n", "read_at": NEVER_FUTURE},
    "interactions": {
        "interaction_id": "i",
        "org_id": "o",
        "user_id": "u",
        "type": "message",
        "sent_at": NEVER_FUTURE,
    },
    "preferences": {"user_id": "u", "opted_out": "yes", "updated_at": NEVER_FUTURE},
    "override_requests": {
        "request_id": "r",
        "org_id": "o",
        "user_id": "u",
        "action": "override",
        "level": "new",
        "notes": "why",
        "performed_by": "a",
        "performed_at": NEVER_FUTURE,
    },
    "org_settings": {"org_id": "o", "setting": "inactive_days", "value": "30"},
    "erasure_requests": {"user_id": "u", "requested_at": NEVER_FUTURE},
}


def _check(table: str, *changes: dict[str, Any], **options: Any) -> CheckedRows:
    rows = [SOUND[table] | change for change in changes or ({},)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    frame = pl.DataFrame({"row_number": range(1, len(rows) + 1), **columns})
    return check_rows(frame, contract(f"raw.{table}"), **({"now": NOW} | options))


def _reason(table: str, change: dict[str, Any], **options: Any) -> str | None:
    """The reason why the changed row is kept out; a sound row beside it always stays."""
    checked = _check(table, {}, change, **options)
    assert checked.rows["row_number"].to_list()[0] == 1
    assert checked.rows.height + checked.rejects.height == 2
    return checked.rejects["reason"][0] if checked.rejects.height else None


def _value(table: str, column: str, value: Any, **options: Any) -> Any:
    checked = _check(table, {column: value}, **options)
    assert checked.rejects.is_empty(), checked.rejects["reason"][0]
    return checked.rows[column][0]


@pytest.mark.parametrize("table", INPUT_TABLES)
def test_a_sound_row_keeps_its_tables_contract(table: str) -> None:
    checked = _check(table)
    assert checked.rejects.is_empty()
    rows = contract(f"raw.{table}").validate(checked.rows.drop("row_number"))
    assert rows.schema == contract(f"raw.{table}").polars_schema
    assert rows.height == 1


@pytest.mark.parametrize("table", INPUT_TABLES)
def test_a_batch_without_rows_gives_frames_of_the_right_shape(table: str) -> None:
    empty = pl.DataFrame(schema={"row_number": pl.Int64, "org_id": pl.String})
    checked = check_rows(empty, contract(f"raw.{table}"), now=NOW, known_org_ids=pl.Series(["o"]))
    assert checked.rows.drop("row_number").schema == contract(f"raw.{table}").polars_schema
    assert checked.rejects.is_empty()


@pytest.mark.parametrize("table", INPUT_TABLES)
@pytest.mark.parametrize("blank", [None, "", " \t\u2003\n"])
def test_a_required_value_that_is_blank_is_missing(table: str, blank: str | None) -> None:
    for column in contract(f"raw.{table}").columns:
        if not column.is_nullable and column.metadata.get("default") is None:
            assert _reason(table, {column.name: blank}) == f"missing_{column.name}"


def test_a_blank_optional_value_is_null_and_a_default_fills_in() -> None:
    assert _value("organizations", "description", "  ") is None
    assert _value("organizations", "timezone", "") == "UTC"
    assert _value("memberships", "role", None) == "member"


def test_texts_are_too_long_past_their_limit_in_characters() -> None:
    for table, column, limit in (
        ("organizations", "org_id", 256),
        ("organizations", "name", 1_024),
        ("organizations", "description", 65_536),
    ):
        assert _value(table, column, " " + "é" * limit) == "é" * limit
        assert _reason(table, {column: "é" * (limit + 1)}) == f"too_long_{column}"


def test_a_word_is_trimmed_folded_and_spelled_as_the_vocabulary_has_it() -> None:
    spelled = {
        " Attended ": "attended",
        "NO  -Show": "no_show",
        "No\tshow": "no_show",
        "yes": "registered",
        "RSVP": "registered",
        "declined": "cancelled",
        "Checked In": "attended",
        "waitlist": "waitlisted",
    }
    for raw, word in spelled.items():
        assert _value("attendance", "status", raw) == word
    assert _reason("attendance", {"status": "maybe"}) == "unknown_status"
    assert _reason("interactions", {"type": "Inline-Query "}) is None


def test_extra_spellings_go_before_the_built_in_ones_but_never_before_the_words() -> None:
    words = ("registered", "attended", "partial")
    extra = {"yes": "attended", "May Be": "Registered", "attended": "partial", "x": "y"}
    known = {"status": Vocabulary(words, extra)}
    assert _value("attendance", "status", "may-be", vocabularies=known) == "registered"
    assert _value("attendance", "status", "Yes", vocabularies=known) == "attended"
    assert _value("attendance", "status", "attended", vocabularies=known) == "attended"
    assert _reason("attendance", {"status": "x"}, vocabularies=known) == "unknown_status"


def test_a_time_that_is_none_is_a_bad_timestamp() -> None:
    for text in ("yesterday", "2026-02-30", "1767225600"):
        assert _reason("memberships", {"joined_at": text}) == "bad_timestamp_joined_at"
        assert _reason("memberships", {"left_at": text}) == "bad_timestamp_left_at"


def test_the_future_begins_after_24_hours_and_some_columns_may_lie_in_it() -> None:
    limit = NOW + timedelta(hours=24)
    past_limit = (limit + timedelta(microseconds=1)).isoformat()
    assert _value("memberships", "joined_at", limit.isoformat()) == limit
    assert _reason("memberships", {"joined_at": past_limit}) == "future_joined_at"
    assert _reason("events", {"starts_at": past_limit, "ends_at": "9999-01-01"}) is None
    assert _reason("override_requests", {"expires_at": past_limit}) is None


def test_flags_numbers_and_times_of_day_outside_of_their_forms_are_unknown() -> None:
    for raw in ("true", "T", "YES", "1", " y es "):
        expected = None if raw != " y es " else "unknown_opted_out"
        assert _reason("preferences", {"opted_out": raw}) == expected
    for raw in ("false", "f", "No", "0"):
        assert _value("preferences", "opted_out", raw) is False
    for raw, time in (("9:05", "09:05"), ("23:59:30", "23:59"), (" 00:00 ", "00:00")):
        assert _value("preferences", "quiet_start", raw) == time
    for raw in ("24:00", "9", "09:60", "9:5", "09:00 am", "09:00\u0660"):
        assert _reason("preferences", {"quiet_end": raw}) == "unknown_quiet_end"
    for raw, number in (("1.5", 1.5), ("+2", 2.0), ("1e3", 1_000.0), (".5", 0.5), ("0", 0.0)):
        assert _value("interactions", "response_time_seconds", raw) == number
    for raw in ("-1", "nan", "inf", "1e999", "1,5", "0x1", "12 s", "1_0"):
        change = {"response_time_seconds": raw}
        assert _reason("interactions", change) == "unknown_response_time_seconds"


def test_a_time_zone_must_be_an_iana_name() -> None:
    assert _value("profiles", "timezone", " Asia/Kolkata ") == "Asia/Kolkata"
    for raw in ("Mars/Olympus", "europe/berlin", "+02:00"):
        assert _reason("profiles", {"timezone": raw}) == "unknown_timezone"
        assert _reason("organizations", {"timezone": raw}) == "unknown_timezone"


def test_a_row_of_an_organisation_that_is_not_known_is_kept_out() -> None:
    known = pl.Series(["o", "p"])
    assert _reason("attendance", {"org_id": "x"}, known_org_ids=known) == "unknown_org"
    assert _reason("attendance", {"org_id": " p "}, known_org_ids=known) is None
    assert _reason("attendance", {"org_id": "x"}) is None
    assert _reason("organizations", {"org_id": "x"}, known_org_ids=known) is None
    assert _reason("notifications", {"org_id": None}, known_org_ids=known) is None
    assert _reason("notifications", {"org_id": "x"}, known_org_ids=known) == "unknown_org"
    assert _reason("profiles", {}, known_org_ids=known) is None


def test_no_organisation_is_known_where_the_list_of_them_is_empty() -> None:
    checked = _check("attendance", known_org_ids=pl.Series([], dtype=pl.String))
    assert checked.rejects["reason"].to_list() == ["unknown_org"]


def test_an_organisations_setting_is_a_whole_number_within_bounds() -> None:
    for setting, lowest, highest in (
        ("highly_engaged_min", 1, 1_000),
        ("moderate_min", 1, 1_000),
        ("new_member_days", 0, 3_650),
        ("inactive_days", 1, 3_650),
    ):
        for raw in (str(lowest), str(highest), f" 00{highest} "):
            assert _reason("org_settings", {"setting": setting, "value": raw}) is None
        outside = (str(lowest - 1), str(highest + 1), "-1", "+1", "1.5", "ten", "9" * 30, "\uff11")
        for raw in outside:
            found = _reason("org_settings", {"setting": setting, "value": raw})
            assert found == "unknown_value", (setting, raw)
    assert _reason("org_settings", {"setting": "colour"}) == "unknown_setting"


def test_an_override_needs_a_level_and_notes_and_a_clearing_no_level() -> None:
    assert _reason("override_requests", {"level": None}) == "missing_level"
    assert _reason("override_requests", {"level": "stellar"}) == "unknown_level"
    assert _reason("override_requests", {"level": None, "action": "clear"}) is None
    assert _reason("override_requests", {"notes": " "}) == "missing_notes"
    assert _reason("override_requests", {"level": None, "action": "dance"}) == "unknown_action"


def test_a_read_beside_a_notification_becomes_a_read_of_its_own() -> None:
    checked = _check("notifications", {}, {"notification_id": "m", "read_at": "2021-01-01"})
    assert checked.reads is not None
    assert checked.reads.rows() == [(2, "m", datetime(2021, 1, 1, tzinfo=UTC))]
    assert checked.rows.height == 2
    assert "read_at" not in checked.rows.columns
    contract("raw.notification_reads").validate(checked.reads.drop("row_number"))
    assert _reason("notifications", {"read_at": "soon"}) == "bad_timestamp_read_at"
    assert _reason("notifications", {"read_at": "2030-01-01"}) == "future_read_at"


def test_a_row_has_only_the_first_of_its_reasons() -> None:
    broken = {"org_id": "x" * 300, "user_id": None, "status": "maybe", "created_at": "?"}
    known = pl.Series(["o"])
    for column, reason in (
        ("org_id", "too_long_org_id"),
        ("user_id", "missing_user_id"),
        ("status", "unknown_status"),
        ("created_at", "bad_timestamp_created_at"),
    ):
        assert _reason("attendance", broken, known_org_ids=known) == reason
        broken = {name: value for name, value in broken.items() if name != column}
        broken.setdefault("org_id", "x")
    assert _reason("attendance", broken, known_org_ids=known) == "unknown_org"


def test_a_reject_holds_the_row_as_it_was_found() -> None:
    found = {"joined_at": ' "never"\n\\ é\u2028\x01', "role": None, "user_id": " u "}
    row_json = _check("memberships", found).rejects["row_json"][0]
    assert json.loads(row_json) == {"org_id": "o", **found}


def test_a_reject_of_native_values_shows_them_as_text() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    checked = _check("memberships", {"joined_at": None, "left_at": moment, "user_id": 7})
    row = json.loads(checked.rejects["row_json"][0])
    assert row["user_id"] == 7
    assert row["left_at"].startswith("2026-01-01 00:00:00")


def test_a_reject_keeps_texts_too_long_for_their_column_whole() -> None:
    texts = {"description": '"\n' * 60_000, "name": "x" * 70_000}
    checked = _check("organizations", texts)
    assert checked.rejects["reason"].to_list() == ["too_long_name"]
    assert json.loads(checked.rejects["row_json"].item()) == {"org_id": "o", **texts}


def test_a_reject_too_long_for_its_table_is_cut_and_stays_json() -> None:
    checked = _check("organizations", {"description": "x" * 9_000_000})
    row_json = checked.rejects["row_json"].item()
    assert len(row_json) <= 8_388_608
    row = json.loads(row_json)
    assert row["org_id"] == "o"
    assert row["description"].endswith("… (9000000 characters)")


def test_lines_that_are_no_rows_are_rejects_too() -> None:
    rejects = rejects_of_lines([(3, "oops")])
    assert rejects.rows() == [(3, "unparseable", "oops")]
    assert rejects_of_lines([]).schema == rejects.schema == _check("events").rejects.schema


@pytest.mark.parametrize(
    ("table", "column", "values", "expected"),
    [
        (
            "events",
            "event_id",
            pl.Series([2**63, 7], dtype=pl.UInt64),
            ["9223372036854775808", "7"],
        ),
        ("events", "title", pl.Series(["a", " b"], dtype=pl.Categorical), ["a", "b"]),
        ("preferences", "opted_out", pl.Series([True, False]), [True, False]),
        ("preferences", "opted_out", pl.Series([1, 0], dtype=pl.Int8), [True, False]),
        (
            "preferences",
            "quiet_end",
            pl.Series([0, 1], dtype=pl.Int64).cast(pl.Time),
            ["00:00"] * 2,
        ),
        ("interactions", "response_time_seconds", pl.Series([1, 0]), [1.0, 0.0]),
        ("interactions", "response_time_seconds", pl.Series([None, None]), [None, None]),
        ("memberships", "left_at", pl.Series([None, None]), [None, None]),
    ],
)
def test_native_parquet_types_become_the_contracts(
    table: str, column: str, values: pl.Series, expected: list[Any]
) -> None:
    frame = pl.DataFrame([SOUND[table]] * 2).with_columns(values.alias(column), row_number=1)
    checked = check_rows(frame, contract(f"raw.{table}"), now=NOW)
    assert checked.rejects.is_empty()
    assert checked.rows[column].to_list() == expected


def test_native_numbers_that_are_not_finite_or_below_zero_are_unknown() -> None:
    values = [float("nan"), float("inf"), -0.5, 0.5]
    checked = _check("interactions", *({"response_time_seconds": v} for v in values))
    assert checked.rejects["reason"].to_list() == ["unknown_response_time_seconds"] * 3


NASTY = [
    "00123",
    "1e5",
    "0x1F",
    "NULL",
    "nan",
    "None",
    "'; DROP TABLE users;--",
    "a\u200bb",
    "\ufeffx",
    "e\u0301",
    "👩‍👩‍👧",
    "\u202etxet",
    "Ω≈ç√",
    "{{7*7}}",
    "=1+1",
    "a\x00b",
    "a\nb",
    "İstanbul",
    "ﬁ",
]
_BLNS = Path(__file__).parents[4] / "shared" / "data" / "naughty_strings" / "blns.json"


def _survive(texts: list[str]) -> None:
    rows = [{"event_id": t, "user_id": t, "section": t} for t in texts]
    rows = [r for r in rows if r["event_id"].strip() and len(r["event_id"].strip()) <= 256]
    frame = pl.DataFrame(rows).with_row_index("row_number", 1).cast({"row_number": pl.Int64})
    frame = frame.with_columns(org_id=pl.lit("o"), starts_at=pl.lit(NEVER_FUTURE), title="event_id")
    checked = check_rows(frame, contract("raw.events"), now=NOW)
    assert checked.rejects.is_empty()
    expected = [r["event_id"].strip() for r in rows]
    assert checked.rows["event_id"].to_list() == expected
    assert checked.rows["title"].to_list() == expected
    words = frame.rename({"event_id": "status"}).with_columns(
        event_id="section", created_at=pl.lit(NEVER_FUTURE)
    )
    checked = check_rows(words, contract("raw.attendance"), now=NOW)
    for reject in checked.rejects.iter_rows(named=True):
        row = rows[reject["row_number"] - 1]
        assert reject["reason"] == "unknown_status"
        assert json.loads(reject["row_json"])["status"] == row["event_id"]


def test_nasty_texts_survive_as_ids_and_names() -> None:
    _survive(NASTY)


def test_the_big_list_of_naughty_strings_survives_as_ids_and_names() -> None:
    if not _BLNS.exists():
        pytest.skip(f"{_BLNS} is not there")
    _survive(json.loads(_BLNS.read_text()))
