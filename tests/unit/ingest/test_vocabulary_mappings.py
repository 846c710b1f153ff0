"""What values mean once people have said so, for an organisation or for all of them."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import (
    ATTENDANCE_STATUS_SPELLINGS,
    ATTENDANCE_STATUSES,
)
from engagement_pipeline.ingest import CheckedRows, check_rows
from engagement_pipeline.ingest.validation import now_explained
from engagement_pipeline.ingest.vocabulary import (
    Vocabulary,
    fold,
    input_vocabularies,
    vocabularies_of,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
THEN = "2026-01-01T00:00:00Z"
ORGS = ("o", "p", "q")

Mapping = tuple[str, str, str | None, str, str]
"""Table, column, organisation, value, term."""


def _mappings(*rows: Mapping) -> pl.DataFrame:
    schema = contract("loops.vocabulary_mappings").polars_schema
    return pl.DataFrame([(*row, NOW) for row in rows], schema=schema, orient="row")


def _frame(table: str, rows: list[dict[str, str | None]]) -> pl.DataFrame:
    usual: dict[str, dict[str, str | None]] = {
        "attendance": {"event_id": "e", "user_id": "u", "created_at": THEN},
        "notifications": {"notification_id": "n", "user_id": "u", "sent_at": THEN},
    }
    found = pl.DataFrame([usual[table] | row for row in rows], infer_schema_length=None)
    return found.cast(pl.String).with_row_index("row_number", 1).cast({"row_number": pl.Int64})


def _check(
    table: str,
    rows: list[dict[str, str | None]],
    mappings: pl.DataFrame,
    known_features: tuple[str, ...] = (),
    known_org_ids: tuple[str, ...] = ORGS,
) -> CheckedRows:
    into = contract(f"raw.{table}")
    return check_rows(
        _frame(table, rows),
        into,
        now=NOW,
        known_org_ids=pl.Series(known_org_ids),
        vocabularies=vocabularies_of(into, known_features=known_features, mappings=mappings),
    )


# --- against the rules in plain Python ------------------------------------------------------------

TABLES = {"attendance": "status", "notifications": "feature"}
RAW = [
    "Dabei",
    " dabei ",
    "DA BEI",
    "da-bei",
    "yes",
    "No Show",
    "attended",
    "digest",
    "Digest ",
    "x",
]
TERMS = ["attended", "partial", "Weekly Digest", "weekly-digest", "none of them"]
FEATURES = [(), (" ",), ("digest",), ("Weekly Digest", "x"), ("da bei", " ")]


def _plain_fold(value: str) -> str:
    return re.sub(r"[\s-]+", "_", value.strip().casefold())


def _plain_meaning(
    table: str, value: str, org_id: str | None, features: tuple[str, ...], rows: list[Mapping]
) -> str | None:
    """What the rules of ingestion say of one value."""
    terms = (
        list(ATTENDANCE_STATUSES) if table == "attendance" else [f for f in features if f != " "]
    )
    for term in terms:
        if _plain_fold(term) == _plain_fold(value):
            return term
    own = [row for row in rows if row[2] is not None and row[2] == org_id]
    general = [row for row in rows if row[2] is None]
    for its_table, _, _, mapped, meant in [*own, *general]:
        if its_table != table or mapped != _plain_fold(value):
            continue
        if not terms:
            return meant
        known = [term for term in terms if _plain_fold(term) == _plain_fold(meant)]
        if known:
            return known[0]
    if table == "attendance":
        return ATTENDANCE_STATUS_SPELLINGS.get(_plain_fold(value))
    return None if terms else value.strip()


@st.composite
def _mapped(draw: st.DrawFn) -> list[Mapping]:
    row = st.tuples(
        st.sampled_from(sorted(TABLES)),
        st.sampled_from([None, *ORGS]),
        st.sampled_from(RAW).map(_plain_fold),
        st.sampled_from(TERMS),
    )
    rows = draw(st.lists(row, max_size=8, unique_by=lambda r: r[:3]))
    return [(table, TABLES[table], org, value, term) for table, org, value, term in rows]


@pytest.mark.parametrize("table", TABLES)
@given(
    st.lists(
        st.tuples(st.sampled_from(["o", " p\t", "q", "elsewhere"]), st.sampled_from(RAW)),
        min_size=1,
        max_size=8,
    ),
    _mapped(),
    st.sampled_from(FEATURES),
)
def test_what_values_mean_is_what_plain_python_says(
    table: str, found: list[tuple[str, str]], rows: list[Mapping], features: tuple[str, ...]
) -> None:
    column = TABLES[table]
    checked = _check(
        table,
        [{"org_id": org, column: value} for org, value in found],
        _mappings(*rows),
        features,
        known_org_ids=(*ORGS, "elsewhere"),
    )
    expected = {
        number: _plain_meaning(table, value, org.strip(), features, rows)
        for number, (org, value) in enumerate(found, start=1)
    }
    kept = dict(checked.rows.select("row_number", column).iter_rows())
    assert kept == {number: term for number, term in expected.items() if term is not None}
    assert dict(checked.rejects.select("row_number", "reason").iter_rows()) == {
        number: f"unknown_{column}" for number, term in expected.items() if term is None
    }
    for number, row_json in checked.rejects.select("row_number", "row_json").iter_rows():
        org, value = found[number - 1]
        row = json.loads(row_json)
        assert (row["org_id"], row[column]) == (org, value)


@given(
    st.lists(
        st.tuples(st.sampled_from(["o", " p\t", "elsewhere"]), st.sampled_from(RAW)),
        min_size=1,
        max_size=6,
    ),
    _mapped(),
    st.sampled_from(sorted(TABLES)),
    st.sampled_from(FEATURES),
    st.sampled_from(FEATURES),
)
def test_a_quarantined_row_is_explained_exactly_if_its_reason_no_longer_holds(
    found: list[tuple[str, str]],
    rows: list[Mapping],
    table: str,
    features_then: tuple[str, ...],
    features_now: tuple[str, ...],
) -> None:
    """Else it would be loaded again in every run for ever, or never."""
    column = TABLES[table]
    source = [{"org_id": org, column: value} for org, value in found]
    rejects = _check(table, source, _mappings(), features_then).rejects
    quarantined = pl.DataFrame(
        [
            (reason, json.loads(row_json)["org_id"], json.loads(row_json)[column])
            for _, reason, row_json in rejects.iter_rows()
        ],
        schema=dict.fromkeys(("reason", "org_id", "value"), pl.String),
        orient="row",
    ).with_columns(value=pl.when(pl.col("reason") != "unknown_org").then("value"))
    orgs_now = (*ORGS, "elsewhere")
    explained = now_explained(
        quarantined,
        vocabularies=vocabularies_of(
            contract(f"raw.{table}"), known_features=features_now, mappings=_mappings(*rows)
        ),
        known_org_ids=pl.Series(orgs_now),
    ).rows()
    now = _check(table, source, _mappings(*rows), features_now, orgs_now).rejects
    reasons_now = dict(now.select("row_number", "reason").iter_rows())
    for number, row in zip(rejects["row_number"], quarantined.rows(), strict=True):
        assert (row in explained) is (reasons_now.get(number) != row[0])


# --- the rules one by one -------------------------------------------------------------------------


@given(st.text(max_size=40) | st.text("aß -_İ\t", max_size=3_000))
def test_what_is_folded_stays_as_it_is_when_folded_again(value: str) -> None:
    assert fold(fold(value)) == fold(value)
    assert len(fold(value)) <= 1_024


def test_an_over_long_value_means_what_its_first_characters_were_said_to_mean() -> None:
    value = "x" * 3_000
    checked = _check(
        "attendance",
        [{"org_id": "o", "status": value}],
        _mappings(("attendance", "status", None, fold(value), "partial")),
    )
    assert checked.rows["status"].to_list() == ["partial"]


def test_an_organisations_own_mapping_goes_before_that_of_all() -> None:
    both = _mappings(
        ("attendance", "status", None, "dabei", "attended"),
        ("attendance", "status", "o", "dabei", "partial"),
    )
    checked = _check("attendance", [{"org_id": o, "status": "Dabei"} for o in (" o ", "p")], both)
    assert checked.rows["status"].to_list() == ["partial", "attended"]


def test_a_mapping_goes_before_a_built_in_spelling_and_never_before_a_word() -> None:
    rows = _mappings(
        ("attendance", "status", None, "yes", "attended"),
        ("attendance", "status", "o", "no_show", "attended"),
        ("attendance", "status", None, "partial", "attended"),
    )
    found = [{"org_id": "o", "status": s} for s in ("Yes", "No-Show", "Partial", "no")]
    checked = _check("attendance", found, rows)
    assert checked.rows["status"].to_list() == ["attended", "no_show", "partial", "cancelled"]


def test_a_mapping_to_what_is_no_term_counts_for_nothing_and_hides_nothing() -> None:
    rows = _mappings(
        ("attendance", "status", None, "dabei", "present"),
        ("attendance", "status", None, "yes", "bored"),
        ("attendance", "status", "o", "no", "bored"),
    )
    found = [{"org_id": "o", "status": s} for s in ("dabei", "yes", "no")]
    checked = _check("attendance", found, rows)
    assert checked.rows["status"].to_list() == ["registered", "cancelled"]
    assert checked.rejects["row_number"].to_list() == [1]


def test_organisations_are_trimmed_before_they_are_looked_for() -> None:
    quarantined = pl.DataFrame(
        {
            "reason": ["unknown_status", "unknown_org", "unknown_org"],
            "org_id": [" o\t", "\u2003p ", "p q"],
            "value": ["Dabei", None, None],
        }
    )
    into = contract("raw.attendance")
    mapping = _mappings(("attendance", "status", "o", "dabei", "attended"))
    known = vocabularies_of(into, mappings=mapping)
    found = now_explained(quarantined, vocabularies=known, known_org_ids=pl.Series(["o", "p"]))
    assert found.rows() == quarantined.rows()[:2]


def test_a_row_without_an_organisation_has_only_the_mappings_of_all() -> None:
    rows = _mappings(
        ("notifications", "feature", None, "dig", "digest"),
        ("notifications", "feature", "o", "dig", "other"),
    )
    checked = _check("notifications", [{"org_id": o, "feature": "Dig"} for o in (None, "o")], rows)
    assert checked.rows["feature"].to_list() == ["digest", "other"]


def test_any_feature_is_taken_as_it_is_unless_a_list_of_them_is_given() -> None:
    found = [{"org_id": None, "feature": f} for f in (" Weekly  Digest ", "weekly-digest", "chat")]
    taken = _check("notifications", found, _mappings())
    assert taken.rows["feature"].to_list() == ["Weekly  Digest", "weekly-digest", "chat"]
    listed = _check("notifications", found, _mappings(), ("Weekly Digest",))
    assert listed.rows["feature"].to_list() == ["Weekly Digest"] * 2
    assert listed.rejects["reason"].to_list() == ["unknown_feature"]


def test_a_feature_too_long_or_missing_is_not_an_unknown_one() -> None:
    found = [{"org_id": None, "feature": f} for f in ("x" * 257, " ", "x")]
    rejects = _check("notifications", found, _mappings(), ("digest",)).rejects
    reasons = ["too_long_feature", "missing_feature", "unknown_feature"]
    assert rejects["reason"].to_list() == reasons


def test_a_mapping_of_another_column_or_table_changes_nothing() -> None:
    rows = _mappings(
        ("memberships", "status", None, "dabei", "attended"),
        ("attendance", "user_id", None, "dabei", "attended"),
    )
    checked = _check("attendance", [{"org_id": "o", "status": "Dabei"}], rows)
    assert checked.rejects["reason"].to_list() == ["unknown_status"]


def test_the_columns_with_a_vocabulary_are_the_words_of_the_inputs_and_the_feature() -> None:
    known = input_vocabularies(("digest",))
    assert {(table, column): len(v.terms) for (table, column), v in known.items()} == {
        ("memberships", "role"): 2,
        ("attendance", "status"): 6,
        ("notifications", "feature"): 1,
        ("interactions", "type"): 8,
        ("override_requests", "action"): 2,
        ("override_requests", "level"): 5,
        ("org_settings", "setting"): 5,
    }


def test_of_two_terms_that_fold_alike_the_first_is_meant() -> None:
    known = Vocabulary(("Weekly Digest", "weekly-digest"))
    assert known.meaning("WEEKLY DIGEST") == "Weekly Digest"


def test_native_organisations_of_parquet_files_have_their_mappings_too() -> None:
    frame = pl.DataFrame(
        {
            "row_number": [1, 2],
            "org_id": pl.Series([7, 8], dtype=pl.Int32),
            "event_id": "e",
            "user_id": "u",
            "status": pl.Series(["Dabei", "Dabei"], dtype=pl.Categorical),
            "created_at": THEN,
        }
    )
    mapping = _mappings(("attendance", "status", "7", "dabei", "attended"))
    into = contract("raw.attendance")
    options: dict[str, Any] = {"vocabularies": vocabularies_of(into, mappings=mapping)}
    checked = check_rows(frame, into, now=NOW, **options)
    assert checked.rows["status"].to_list() == ["attended"]
    assert checked.rejects["row_number"].to_list() == [2]
