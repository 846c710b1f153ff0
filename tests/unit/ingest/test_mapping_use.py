"""Which mappings gave words to sound rows, against the same said row by row in plain Python."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.ingest import mapping_use
from engagement_pipeline.ingest.mapping_use import USES_SCHEMA, mappings_used
from engagement_pipeline.ingest.validation import check_rows
from engagement_pipeline.ingest.vocabulary import Vocabulary, fold, vocabularies_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
REQUESTS = contract("raw.override_requests")
MAPPINGS = contract("loops.vocabulary_mappings")
BUILT_IN = {"override", "clear", "new", "moderate"}
Said = dict[tuple[str, str | None, str], str]


def _mappings(said: Said, table: str = "override_requests") -> pl.DataFrame:
    rows = [(table, column, org, value, term, NOW) for (column, org, value), term in said.items()]
    return pl.DataFrame(rows, schema=MAPPINGS.polars_schema, orient="row")


def _used(rows: list[dict[str, Any]], said: Said) -> list[tuple[str, str, str]]:
    frame = pl.DataFrame(rows).with_row_index("row_number", offset=1)
    frame = frame.with_columns(pl.col("row_number").cast(pl.Int64))
    known = vocabularies_of(REQUESTS, mappings=_mappings(said))
    checked = check_rows(frame, REQUESTS, now=NOW, vocabularies=known)
    found = mappings_used(
        frame,
        checked.rows,
        REQUESTS,
        vocabularies=known,
        unmapped=vocabularies_of(REQUESTS),
    )
    assert dict(found.schema) == USES_SCHEMA
    return sorted(found.rows())


REQUEST = {"user_id": "u", "notes": "why", "performed_by": "a"}
DATES = ["2026-01-01T00:00:00Z", "never"]
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "request_id": st.just("1"),
            "org_id": st.sampled_from(["o", " o", "p", ""]),
            "action": st.sampled_from(["clear", "Weg", " weg ", "hm"]),
            "level": st.sampled_from(["New", "Neu", "neu", "hm", ""]),
            "performed_at": st.sampled_from(DATES),
        }
    ),
    min_size=1,
    max_size=6,
)
_SAID = st.dictionaries(
    st.tuples(
        st.just("action"), st.sampled_from([None, "o", "p"]), st.sampled_from(["weg", "unseen"])
    ),
    st.just("clear"),
    max_size=3,
).flatmap(
    lambda of_actions: st.dictionaries(
        st.tuples(st.just("level"), st.sampled_from([None, "o"]), st.just("neu")),
        st.sampled_from(["new", "moderate"]),
        max_size=2,
    ).map(lambda of_levels: of_actions | of_levels)
)


@given(_ROWS, _SAID)
def test_the_mappings_used_are_those_that_plain_python_finds_row_by_row(
    rows: list[dict[str, str]], said: Said
) -> None:
    expected = set()
    for row in rows:
        org, uses, is_sound = row["org_id"].strip(), set(), row["performed_at"] != "never"
        for column in ("action", "level"):
            value = fold(row[column])
            if not value or value in BUILT_IN:
                continue
            if (column, org, value) in said or (column, None, value) in said:
                uses.add((org, column, value))
            else:
                is_sound = False
        if is_sound and org:
            expected |= uses
    assert _used([row | REQUEST for row in rows], said) == sorted(expected)


def test_a_mapping_that_says_what_was_known_is_never_used() -> None:
    attendance = contract("raw.attendance")
    said = {("status", None, "yes"): "registered", ("status", "o", "no"): "cancelled"}
    rows = [
        {"org_id": "o", "event_id": e, "user_id": "u", "status": e, "created_at": NOW}
        for e in ("yes", "no")
    ]
    frame = pl.DataFrame([{"row_number": n} | row for n, row in enumerate(rows)])
    plain = vocabularies_of(attendance)
    known = vocabularies_of(attendance, mappings=_mappings(said, "attendance"))
    checked = check_rows(frame, attendance, now=NOW, vocabularies=known)
    assert checked.rows.height == len(rows)
    assert mappings_used(
        frame, checked.rows, attendance, vocabularies=known, unmapped=plain
    ).is_empty()


def test_categories_and_whole_numbers_are_read_as_text() -> None:
    notifications = contract("raw.notifications")
    for feature in (pl.Series(["7"], dtype=pl.Categorical), pl.Series([7])):
        frame = pl.DataFrame({"row_number": [1], "feature": feature})
        rows = pl.DataFrame({"row_number": [1], "org_id": ["o"]})
        known = {"feature": Vocabulary(spellings={"7": "seven"})}
        found = mappings_used(
            frame, rows, notifications, vocabularies=known, unmapped={"feature": Vocabulary()}
        )
        assert found.rows() == [("o", "feature", "7")]


def test_without_a_mapping_no_value_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_at(*_: object) -> None:
        raise AssertionError("a value was looked at")

    monkeypatch.setattr(mapping_use, "tidy", looked_at)
    assert _used([{"action": "clear", "org_id": "o"} | REQUEST], {}) == []


def test_a_mapping_used_in_several_spellings_is_there_once() -> None:
    row = {"request_id": "1", "org_id": "o", "performed_at": "2026-01-01T00:00:00Z"} | REQUEST
    said = {("action", None, "weg"): "clear"}
    rows = [row | {"action": action} for action in ("Weg", " weg ", "WEG")]
    assert _used(rows, said) == [("o", "action", "weg")]
