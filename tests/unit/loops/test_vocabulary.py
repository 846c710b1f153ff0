"""Candidates, mappings and signals of values that no vocabulary knows."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.ingest.vocabulary import fold, input_vocabularies
from engagement_pipeline.loops.vocabulary import (
    LIKE_ENOUGH,
    NothingToMapError,
    UnknownColumnError,
    UnknownOrgError,
    UnknownTermError,
    candidates,
    nearest,
    new_mapping,
    unknown_value_signals,
    vocabulary_of,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MAPPINGS = contract("loops.vocabulary_mappings")
CANDIDATES = contract("loops.vocabulary_candidates")
SIGNALS = contract("loops.signals")

_REJECTED = {
    "table_name": pl.String,
    "column_name": pl.String,
    "org_id": pl.String,
    "value": pl.String,
    "rows": pl.Int64,
    "first_seen_at": pl.Datetime("us", "UTC"),
    "last_seen_at": pl.Datetime("us", "UTC"),
}


def _rejected(*rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_REJECTED, orient="row")


def _mappings(*rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame([(*r, NOW) for r in rows], schema=MAPPINGS.polars_schema, orient="row")


def _status(value: str, org_id: str | None = "o", rows: int = 1) -> tuple[Any, ...]:
    return ("attendance", "status", org_id, value, rows, NOW, NOW)


# --- candidates -----------------------------------------------------------------------------------

_DAYS = st.integers(0, 3).map(lambda n: NOW + timedelta(days=n))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [("attendance", "status"), ("interactions", "type"), ("profiles", "timezone")]
            ),
            st.sampled_from(["o", " o", "p", None]),
            st.sampled_from(["Dabei", "da bei", "DA-BEI ", "dabei", "smell", " ", None]),
            st.integers(1, 9),
            st.lists(_DAYS, min_size=2, max_size=2).map(sorted),
        ),
        max_size=12,
    ),
    st.lists(
        st.tuples(
            st.just("attendance"),
            st.just("status"),
            st.sampled_from([None, "o"]),
            st.sampled_from(["dabei", "da_bei"]),
            st.sampled_from(["attended", "no such word"]),
        ),
        unique_by=lambda r: r[:4],
        max_size=4,
    ),
    st.randoms(),
)
def test_candidates_are_what_plain_python_counts(
    found: list[Any], mappings: list[tuple[Any, ...]], dice: random.Random
) -> None:
    expected: dict[tuple[Any, ...], list[Any]] = {}
    for (table, column), org, value, rows, (first, last) in found:
        if table == "profiles" or value is None or not value.strip():
            continue
        key = (table, column, org and org.strip(), fold(value))
        known = expected.setdefault(key, [0, first, last])
        known[0] += rows
        known[1], known[2] = min(known[1], first), max(known[2], last)
    rejected = [(t, c, org, value, n, *seen) for (t, c), org, value, n, seen in found]
    dice.shuffle(rejected)
    rows = candidates(_rejected(*rejected), _mappings(*mappings), input_vocabularies())
    assert CANDIDATES.validate(rows) is not None
    counted = rows.select(*CANDIDATES.key, "rows", "first_seen_at", "last_seen_at").rows()
    assert {row[:4]: list(row[4:]) for row in counted} == expected
    for table, _, org, value, accepted in rows.select(*CANDIDATES.key, "accepted_term").rows():
        said = [
            term
            for *_, of_org, mapped, term in mappings
            if table == "attendance" and mapped == value and of_org in (None, org)
        ]
        assert accepted == ("attended" if "attended" in said else None)


def test_no_rejects_give_no_candidates_in_the_contracts_shape() -> None:
    rows = candidates(_rejected(), _mappings(), input_vocabularies())
    assert rows.is_empty()
    assert rows.schema == CANDIDATES.polars_schema


def test_what_an_organisation_was_said_to_mean_is_accepted_for_no_other() -> None:
    rejected = _rejected(_status("Dabei", "o"), _status("Dabei", "p"), _status("Dabei", None))
    mapping = _mappings(("attendance", "status", "o", "dabei", "attended"))
    rows = candidates(rejected, mapping, input_vocabularies())
    found = dict(rows.select("org_id", "accepted_term").iter_rows())
    assert found == {"o": "attended", "p": None, None: None}


def test_a_feature_on_the_list_by_now_is_accepted_without_a_mapping() -> None:
    rejected = _rejected(("notifications", "feature", "o", "Weekly digest", 1, NOW, NOW))
    rows = candidates(rejected, _mappings(), input_vocabularies(("weekly_digest",)))
    assert rows["accepted_term"].to_list() == ["weekly_digest"]


def test_an_over_long_value_is_cut_to_what_the_table_takes() -> None:
    rejected = _rejected(_status("x" * 5_000), _status("x" * 1_024 + "y"))
    rows = candidates(rejected, _mappings(), input_vocabularies())
    assert rows.select("value", "rows").rows() == [("x" * 1_024, 2)]


@pytest.mark.parametrize(
    ("table_column", "value", "term"),
    [
        ("attendance.status", "atended", "attended"),
        ("attendance.status", "Cancelled by the host", "cancelled"),
        ("attendance.status", "No Shows", "no_show"),
        ("attendance.status", "check-in", "attended"),  # near the spelling `checked_in`
        ("attendance.status", "maybe", None),
        ("attendance.status", "unknown", None),
        ("attendance.status", "???", None),
        ("attendance.status", "出席", None),
        ("interactions.type", "text message", "message"),
        ("memberships.role", "superadmin", "admin"),
        ("memberships.role", "owner", None),
        ("override_requests.level", "at risk!", "at_risk"),
    ],
)
def test_the_nearest_term_is_the_one_that_a_person_would_think_of(
    table_column: str, value: str, term: str | None
) -> None:
    vocabulary = vocabulary_of(*table_column.split("."))
    ((found, similarity),) = nearest([fold(value)], vocabulary)
    assert found == term
    if term is None:
        assert similarity is None
    else:
        assert similarity is not None
        assert LIKE_ENOUGH <= similarity < 1


@given(st.lists(st.text("abdnotsw_", min_size=1, max_size=9), min_size=1, max_size=6))
def test_the_nearest_term_does_not_depend_on_the_values_beside_it(values: Sequence[str]) -> None:
    vocabulary = vocabulary_of("attendance", "status")
    together = nearest(values, vocabulary)
    assert together == [nearest([value], vocabulary)[0] for value in values]
    for term, similarity in together:
        assert (term is None) is (similarity is None)
        assert similarity is None or LIKE_ENOUGH <= similarity <= 1


def test_where_any_value_is_taken_nothing_is_near() -> None:
    assert nearest(["digest"], vocabulary_of("notifications", "feature")) == [(None, None)]


# --- mappings -------------------------------------------------------------------------------------


def _new(column: str, value: str, term: str, **given: Any) -> dict[str, Any]:
    options = {"org_id": None, "accepted_at": NOW, "known_org_ids": ["o", "p"]} | given
    (row,) = new_mapping(column, value, term, **options).to_dicts()
    return row


def test_a_mapping_has_its_value_folded_and_its_term_as_the_column_has_it() -> None:
    assert _new("attendance.status", " Ja - klar ", "No Show", org_id="p") == {
        "table_name": "attendance",
        "column_name": "status",
        "org_id": "p",
        "value": "ja_klar",
        "term": "no_show",
        "accepted_at": NOW,
    }
    feature = _new("notifications.feature", "dig", "DIGEST ", known_features=("Digest",))
    assert feature["term"] == "Digest"
    assert _new("notifications.feature", "dig", " Any Thing ")["term"] == "Any Thing"
    # A built-in spelling may be said to mean something else, a word may not.
    assert _new("attendance.status", "yes", "attended")["value"] == "yes"


@pytest.mark.parametrize(
    ("error", "told", "given"),
    [
        (UnknownColumnError, ["attendance.status", "found attendance.mood"], {"column": "mood"}),
        (UnknownColumnError, ["found ingested_files.outcome"], {"table": "ingested_files"}),
        (
            UnknownTermError,
            ["status", "waitlisted", "found 'absend'"],
            {"term": "absend"},
        ),
        (UnknownTermError, ["found 'yes'"], {"term": "yes"}),
        (NothingToMapError, ["attendance.status", "blank"], {"value": " \t"}),
        (NothingToMapError, ["'no_show'", "always means itself"], {"value": "No-Show"}),
        (UnknownOrgError, ["one of o, p", "found 'x'"], {"org_id": "x"}),
        (UnknownOrgError, ["found ''"], {"org_id": ""}),
    ],
)
def test_a_mapping_that_cannot_be_made_names_what_was_expected_and_found(
    error: type[Exception], told: list[str], given: dict[str, str]
) -> None:
    table = given.pop("table", "attendance")
    column = given.pop("column", "outcome" if table == "ingested_files" else "status")
    words = {"value": "dabei", "term": "attended"} | given
    with pytest.raises(error) as raised:
        _new(f"{table}.{column}", words.pop("value"), words.pop("term"), **words)
    for word in told:
        assert word in str(raised.value)


def test_where_any_term_is_taken_it_must_fit_its_column_and_not_be_blank() -> None:
    for term in (" ", "x" * 257):
        with pytest.raises(UnknownTermError, match="1 to 256 characters"):
            _new("notifications.feature", "dig", term)


# --- signals --------------------------------------------------------------------------------------

_ROWS = {
    "table_name": pl.String,
    "column_name": pl.String,
    "path": pl.String,
    "row_number": pl.Int64,
    "org_id": pl.String,
    "value": pl.String,
    "ingested_at": pl.Datetime("us", "UTC"),
}


def _signals(*changes: dict[str, Any]) -> pl.DataFrame:
    usual = dict(zip(_ROWS, ("attendance", "status", "a.csv", 1, "o", "Da bei", NOW), strict=True))
    return unknown_value_signals(pl.DataFrame([usual | c for c in changes], schema=_ROWS))


def test_a_quarantined_row_gives_a_signal_of_its_organisation() -> None:
    (row,) = _signals({"org_id": " o "}).to_dicts()
    assert row == {
        "archetype": "vocabulary",
        "kind": "UNKNOWN_VALUE",
        "org_id": "o",
        "subject": "attendance.status=da_bei",
        "user_id": None,
        "value": None,
        "occurred_at": NOW,
        "attribution": None,
        "source_key": '["attendance", "status", "a.csv", 1, "Da bei"]',
    }


def test_a_row_that_names_no_organisation_or_no_value_of_a_vocabulary_gives_none() -> None:
    assert _signals(
        {"org_id": None},
        {"org_id": " "},
        {"value": " "},
        {"table_name": "profiles", "column_name": "timezone"},
        {"column_name": "org", "value": None},
    ).is_empty()


def test_a_refused_file_that_is_tried_again_gives_no_new_signal() -> None:
    first = _signals({}, {"row_number": 2})
    again = _signals(
        {"ingested_at": NOW + timedelta(days=1)},
        {"row_number": 2, "ingested_at": NOW + timedelta(days=1)},
    )
    assert set(again["source_key"]) == set(first["source_key"])
    both = _signals({"ingested_at": NOW + timedelta(days=1)}, {})
    assert both["occurred_at"].to_list() == [NOW]


def test_rows_that_were_loaded_again_in_vain_are_other_rows_each_time() -> None:
    reloaded = {"path": "raw.rejects"}
    later = {**reloaded, "ingested_at": NOW + timedelta(microseconds=1)}
    rows = _signals(reloaded, later, {**reloaded, "row_number": 2}, reloaded)
    assert rows["source_key"].to_list() == [
        '["attendance", "status", "raw.rejects", 1, "Da bei", "2026-06-01T12:00:00+00:00"]',
        '["attendance", "status", "raw.rejects", 2, "Da bei", "2026-06-01T12:00:00+00:00"]',
        '["attendance", "status", "raw.rejects", 1, "Da bei", "2026-06-01T12:00:00.000001+00:00"]',
    ]


def test_signals_of_very_long_values_and_paths_keep_the_contract() -> None:
    rows = _signals({"value": "\x01" * 70_000, "path": "\x01" * 65_536}, {"value": "y" * 2_000})
    SIGNALS.validate(
        rows.with_columns(signal_id="source_key")
        .with_columns(signal_id=pl.col("signal_id").str.len_bytes().cast(pl.String))
        .select(SIGNALS.column_names)
    )
    assert all(json.loads(key)[0] == "attendance" for key in rows["source_key"])


def test_signals_of_no_rows_have_the_contracts_types() -> None:
    expected = {n: t for n, t in SIGNALS.polars_schema.items() if n != "signal_id"}
    assert dict(_signals().schema) == expected
