"""Values outside a vocabulary: what they may mean, and what people say that they mean.

Candidates, signals and the checks of a mapping belong here. How a mapping is applied to the rows of
a file is in `ingest.vocabulary`; where mappings are kept is the warehouse's business.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import numpy as np
import polars as pl
from rapidfuzz import fuzz, process

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.columns import ID_MAX_LENGTH, NAME_MAX_LENGTH
from engagement_pipeline.ingest.vocabulary import Vocabulary, fold, input_vocabularies

Vocabularies = Mapping[tuple[str, str], Vocabulary]
"""(table, column) -> what its values mean; see `ingest.vocabulary.input_vocabularies`."""

LIKE_ENOUGH = 0.65
"""Least similarity of a nearest term.

Chosen on 67 values written down by hand (slips of the pen, longer and shorter wordings, and words
that mean something else), of which 59 come out right: the right term, or rightly none.
"""
_OF_SHARED_WORDS = 0.9
_PATH_MAX_LENGTH = 4_096
"""Characters of a path in a source key, whose own length has a limit."""
_RELOADED_FROM = "raw.rejects"
"""The path of rows that were taken out of quarantine, tried again, and kept out once more."""

_CANDIDATES = contract("loops.vocabulary_candidates")
_MAPPINGS = contract("loops.vocabulary_mappings")
_SIGNALS = contract("loops.signals")
SIGNAL_COLUMNS = tuple(name for name in _SIGNALS.column_names if name != "signal_id")


class VocabularyError(ValueError):
    """A mapping that cannot be made; the text names what was expected and what was found."""


class UnknownColumnError(VocabularyError):
    """No input table has such a column, or the column has no vocabulary."""


class UnknownTermError(VocabularyError):
    """The column does not know the term that a value is said to mean."""


class UnknownOrgError(VocabularyError):
    """There is no such organisation."""


class NothingToMapError(VocabularyError):
    """The value is blank, or means itself already."""


def vocabulary_of(table: str, column: str, known_features: Sequence[str] = ()) -> Vocabulary:
    """What the values of an input table's column mean, mappings aside.

    Raises:
        UnknownColumnError: names the columns that have a vocabulary.
    """
    vocabularies = input_vocabularies(known_features)
    if (table, column) not in vocabularies:
        known = ", ".join(".".join(name) for name in vocabularies)
        raise UnknownColumnError(
            f"expected a column with a vocabulary, one of {known}; found {table}.{column}"
        )
    return vocabularies[table, column]


def new_mapping(
    table_column: str,
    value: str,
    term: str,
    *,
    org_id: str | None,
    accepted_at: datetime,
    known_features: Sequence[str] = (),
    known_org_ids: Collection[str] = (),
) -> pl.DataFrame:
    """What a person says that a value means, as the one row of `loops.vocabulary_mappings`.

    Args:
        table_column: `<table>.<column>`, such as `attendance.status`.
        value: as it is written in the files, or folded.
        term: a known term of the column, however it is written; any, where the column takes any.
        org_id: the organisation that means it so; None: all do.
        accepted_at: the moment, with a time zone.
        known_features: as the setting has them.
        known_org_ids: the organisations there are; not looked at without an `org_id`.

    Raises:
        UnknownColumnError, NothingToMapError, UnknownTermError, UnknownOrgError: the first that
            holds.
    """
    table, _, column = table_column.strip().partition(".")
    vocabulary = vocabulary_of(table, column, known_features)
    folded = fold(value)
    if not folded:
        raise NothingToMapError(f"{table}.{column}: expected a value, found a blank one")
    if vocabulary.term(folded) is not None:
        raise NothingToMapError(
            f"{table}.{column}: expected a value that it does not know, found {folded!r}, which is "
            f"one of its terms ({', '.join(vocabulary.terms)}) and always means itself"
        )
    meaning = _known_term(f"{table}.{column}", vocabulary, term)
    if org_id is not None and org_id not in known_org_ids:
        raise UnknownOrgError(
            f"expected an organisation there is, one of {_first_few(known_org_ids)}; "
            f"found {org_id!r}"
        )
    row = {
        "table_name": table,
        "column_name": column,
        "org_id": org_id,
        "value": folded,
        "term": meaning,
        "accepted_at": accepted_at,
    }
    return _MAPPINGS.validate(pl.DataFrame([row], schema=_MAPPINGS.polars_schema))


def _known_term(table_column: str, vocabulary: Vocabulary, term: str) -> str:
    found = vocabulary.term(term) if vocabulary.terms else term.strip()
    if found and len(found) <= ID_MAX_LENGTH:
        return found
    expected = (
        f"one of {', '.join(vocabulary.terms)}"
        if vocabulary.terms
        else f"a term of 1 to {ID_MAX_LENGTH} characters"
    )
    raise UnknownTermError(f"{table_column}: expected {expected}; found {term[:ID_MAX_LENGTH]!r}")


def _first_few(names: Collection[str], count: int = 20) -> str:
    return ", ".join(sorted(names)[:count]) + (" …" if len(names) > count else "") or "none"


def candidates(
    rejected: pl.DataFrame, mappings: pl.DataFrame, vocabularies: Vocabularies
) -> pl.DataFrame:
    """Values that rows were quarantined for, with the nearest known term and what they mean by now.

    Args:
        rejected: `table_name`, `column_name`, `org_id` (nullable), `value` (raw), `rows`,
            `first_seen_at`, `last_seen_at`. What is not about a column with a vocabulary, or has no
            value, is passed over.
        mappings: rows of `loops.vocabulary_mappings`.
        vocabularies: without the mappings.

    Returns:
        Rows of `loops.vocabulary_candidates`, sorted by its key; values are folded, and those that
        are then the same counted together.
    """
    found = _folded(rejected, vocabularies)
    found = (
        found.with_columns(org_id=pl.col("org_id").str.strip_chars())
        .group_by(_CANDIDATES.key)
        .agg(
            pl.col("rows").sum(),
            pl.col("first_seen_at").min(),
            pl.col("last_seen_at").max(),
        )
        .sort(_CANDIDATES.key)
    )
    meant = {
        (table, column): known.with_mappings(
            mappings.filter(pl.col("table_name") == table, pl.col("column_name") == column)
        )
        for (table, column), known in vocabularies.items()
    }
    found = found.with_columns(
        accepted_term=pl.Series(
            [
                meant[table, column].meaning(value, org_id)
                for table, column, org_id, value in found.select(_CANDIDATES.key).iter_rows()
            ],
            dtype=pl.String,
        )
    ).join(
        _nearest_terms(found, vocabularies),
        on=["table_name", "column_name", "value"],
        how="left",
        maintain_order="left",
    )
    return _CANDIDATES.validate(
        found.select(_CANDIDATES.column_names).cast(_CANDIDATES.polars_schema)
    )


def _folded(rejected: pl.DataFrame, vocabularies: Vocabularies) -> pl.DataFrame:
    """The rows that are about a vocabulary and have a value, with that value folded."""
    known = pl.DataFrame(
        list(vocabularies),
        schema={"table_name": pl.String, "column_name": pl.String},
        orient="row",
    )
    rows = rejected.join(
        known, on=["table_name", "column_name"], how="semi", maintain_order="left"
    ).drop_nulls("value")
    folded = pl.Series("value", [fold(value) for value in rows["value"]], dtype=pl.String)
    return rows.with_columns(folded).filter(pl.col("value") != "")


def _nearest_terms(found: pl.DataFrame, vocabularies: Vocabularies) -> pl.DataFrame:
    """The nearest term of each table, column and value that has one that is like enough."""
    key = ["table_name", "column_name"]
    rows = []
    for (table, column), of_column in found.group_by(key, maintain_order=True):
        vocabulary = vocabularies[str(table), str(column)]
        values = of_column["value"].unique(maintain_order=True).to_list()
        for value, (term, similarity) in zip(values, nearest(values, vocabulary), strict=True):
            rows.append((table, column, value, term, similarity))
    names = (*key, "value", "nearest_term", "similarity")
    return pl.DataFrame(
        rows, schema={name: _CANDIDATES.polars_schema[name] for name in names}, orient="row"
    )


def nearest(
    values: Sequence[str], vocabulary: Vocabulary
) -> list[tuple[str, float] | tuple[None, None]]:
    """For each folded value the known term that is most like it, and how like from 0 to 1.

    A value is as like a term as it is to any of the term's spellings: rapidfuzz's `fuzz.ratio`
    (Indel similarity), or nine tenths of its `fuzz.token_set_ratio`, whichever is more, so that
    `cancelled_by_host` is like `cancelled`. Of equally like terms the first counts. No term under
    `LIKE_ENOUGH` counts at all.
    """
    if not vocabulary.terms or not values:
        return [(None, None)] * len(values)
    known = vocabulary.known
    spellings = sorted(known, key=lambda spelling: vocabulary.terms.index(known[spelling]))
    texts, choices = ([t.replace("_", " ") for t in names] for names in (values, spellings))
    similarity = np.maximum(
        process.cdist(texts, choices, scorer=fuzz.ratio, dtype=np.float64),
        process.cdist(texts, choices, scorer=fuzz.token_set_ratio, dtype=np.float64)
        * _OF_SHARED_WORDS,
    )
    best = similarity.argmax(axis=1)
    return [
        (known[spellings[place]], float(row[place]) / 100)
        if row[place] >= LIKE_ENOUGH * 100
        else (None, None)
        for row, place in zip(similarity, best, strict=True)
    ]


def unknown_value_signals(rejects: pl.DataFrame) -> pl.DataFrame:
    """A signal for each quarantined row that names an organisation and whose value is unknown.

    The source key does not change when a refused file is tried again, so that it is told of once.
    Rows that were loaded again from `raw.rejects` and kept out once more are numbered anew each
    time: there the number tells them apart only together with the moment.

    Args:
        rejects: `table_name`, `column_name`, `path`, `row_number`, `org_id` (nullable), `value`
            (raw), `ingested_at`. What is not about a column with a vocabulary is passed over.

    Returns:
        The columns of `loops.signals` but `signal_id`; each source key once, the earliest.
    """
    rows = _folded(
        rejects.with_columns(
            org_id=pl.col("org_id").str.strip_chars(),
            found_in=pl.col("path").str.tail(_PATH_MAX_LENGTH),
            found=pl.col("value").str.slice(0, NAME_MAX_LENGTH),
        ).filter(pl.col("org_id") != ""),
        input_vocabularies(),
    )
    key = rows.select("table_name", "column_name", "found_in", "row_number", "found")
    reloaded_at = rows.select(
        pl.when(path=_RELOADED_FROM).then(pl.col("ingested_at").dt.strftime("%+"))
    ).to_series()
    source_keys = [
        json.dumps(parts if at is None else (*parts, at), ensure_ascii=False)
        for parts, at in zip(key.iter_rows(), reloaded_at, strict=True)
    ]
    subject = pl.format("{}.{}={}", "table_name", "column_name", "value")
    return (
        rows.with_columns(
            archetype=pl.lit("vocabulary"),
            kind=pl.lit("UNKNOWN_VALUE"),
            subject=subject.str.slice(0, NAME_MAX_LENGTH),
            user_id=pl.lit(None),
            value=pl.lit(None),
            occurred_at="ingested_at",
            attribution=pl.lit(None),
            source_key=pl.Series(source_keys, dtype=pl.String),
        )
        .select(SIGNAL_COLUMNS)
        .cast({name: _SIGNALS.polars_schema[name] for name in SIGNAL_COLUMNS})
        .sort("occurred_at", "source_key")
        .unique("source_key", keep="first", maintain_order=True)
    )
