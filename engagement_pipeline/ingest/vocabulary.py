"""What a raw value means: which of its column's known terms, if any.

The words themselves and their built-in spellings are in `contracts.vocabulary`, and what people
said that a value means (the mappings) is an argument here. How candidates for mappings are found is
in `loops.vocabulary`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from engagement_pipeline.contracts import Column, Contract, contract
from engagement_pipeline.contracts.columns import NAME_MAX_LENGTH, ColumnKind
from engagement_pipeline.ingest.source import INPUT_TABLES

_GAPS = re.compile(r"[\s\-]+")
_FEATURE = ("notifications", "feature")


def fold(value: str) -> str:
    """Trim, case-fold, and make each run of spaces and hyphens one underscore.

    Of a very long value only the first 1,024 characters are left, which is as much of it as the
    tables of mappings and candidates take.
    """
    return _GAPS.sub("_", value.strip().casefold())[:NAME_MAX_LENGTH]


@dataclass(frozen=True)
class Vocabulary:
    """What the values of one column mean. Values are compared as `fold` makes them.

    A term is always itself. Else an organisation's own spellings go before those of all. A spelling
    of something that is no term counts for nothing.

    Attributes:
        terms: the known terms; empty: what no spelling is about is taken as it is.
        spellings: value -> term, for every organisation.
        org_spellings: organisation -> value -> term.
    """

    terms: tuple[str, ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)
    org_spellings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def term(self, name: str) -> str | None:
        """The known term that `name` is, however it is written; None if it is none of them."""
        return self._terms.get(fold(name))

    def meaning(self, value: str, org_id: str | None = None) -> str | None:
        """What `value` means in a row of `org_id`; None where that is not known."""
        folded = fold(value)
        own = self._org_spellings.get(org_id, {}) if org_id is not None else {}
        if folded in own and folded not in self._terms:
            return own[folded]
        return self.known.get(folded, None if self.terms else value)

    def with_mappings(self, mappings: pl.DataFrame) -> "Vocabulary":
        """The same with further spellings, which go before those that it has.

        `mappings` are rows of `loops.vocabulary_mappings`, of this column only.
        """
        of_all = {fold(value): term for value, term in self.spellings.items()}
        of_orgs = {org_id: dict(own) for org_id, own in self.org_spellings.items()}
        for org_id, value, term in mappings.select("org_id", "value", "term").iter_rows():
            # What is no term any more must not hide a built-in spelling of the same value.
            if not self.terms or self.term(term) is not None:
                (of_all if org_id is None else of_orgs.setdefault(org_id, {}))[value] = term
        return Vocabulary(self.terms, of_all, of_orgs)

    @cached_property
    def known(self) -> dict[str, str]:
        """Folded value -> term: the terms, and the spellings of all organisations."""
        return self._known(self.spellings) | self._terms

    @cached_property
    def _terms(self) -> dict[str, str]:
        return {fold(term): term for term in reversed(self.terms)}

    @cached_property
    def _org_spellings(self) -> dict[str, dict[str, str]]:
        return {org_id: self._known(own) for org_id, own in self.org_spellings.items()}

    def _known(self, spellings: Mapping[str, str]) -> dict[str, str]:
        if not self.terms:
            return {fold(value): term for value, term in spellings.items()}
        found = {fold(value): self.term(term) for value, term in spellings.items()}
        return {value: term for value, term in found.items() if term is not None}


def vocabularies_of(
    table: Contract,
    *,
    known_features: Sequence[str] = (),
    mappings: pl.DataFrame | None = None,
) -> dict[str, Vocabulary]:
    """Column -> vocabulary, for each column of an input table that has one.

    Args:
        table: of the schema `raw`.
        known_features: what `notifications.feature` may be; empty: anything.
        mappings: rows of `loops.vocabulary_mappings`; those of other tables are not looked at.
    """
    rows = contract("loops.vocabulary_mappings").empty() if mappings is None else mappings
    rows = rows.filter(pl.col("table_name") == table.name)
    return {
        column.name: _vocabulary(column, known_features).with_mappings(
            rows.filter(pl.col("column_name") == column.name)
        )
        for column in table.columns
        if column.kind is ColumnKind.WORD or (table.name, column.name) == _FEATURE
    }


def input_vocabularies(
    known_features: Sequence[str] = (), mappings: pl.DataFrame | None = None
) -> dict[tuple[str, str], Vocabulary]:
    """(table, column) -> vocabulary, for all input tables; see `vocabularies_of`."""
    return {
        (table, column): vocabulary
        for table in INPUT_TABLES
        for column, vocabulary in vocabularies_of(
            contract(f"raw.{table}"), known_features=known_features, mappings=mappings
        ).items()
    }


def _vocabulary(column: Column, known_features: Sequence[str]) -> Vocabulary:
    if column.kind is ColumnKind.WORD:
        return Vocabulary(column.allowed or (), column.metadata.get("spellings") or {})
    return Vocabulary(tuple(feature.strip() for feature in known_features if feature.strip()))


def read_words(
    text: pl.Series, vocabulary: Vocabulary, org_ids: pl.Series | None = None
) -> pl.Series:
    """What each value of `text` (String) means; null where that is unknown, or the value null.

    `org_ids` (String, as long as `text`) are the rows' organisations; without them no spelling of
    an organisation's own applies.
    """
    if vocabulary.org_spellings and org_ids is not None:
        return _read_by_org(text, vocabulary, org_ids)
    if not vocabulary.terms and not vocabulary.spellings:
        return text
    # Words repeat: only the distinct values are folded.
    meanings = {value: vocabulary.meaning(value) for value in text.unique().drop_nulls()}
    if all(value == word for value, word in meanings.items()):
        return text
    return text.replace_strict(meanings, default=None, return_dtype=pl.String)


def _read_by_org(text: pl.Series, vocabulary: Vocabulary, org_ids: pl.Series) -> pl.Series:
    found = pl.DataFrame({"value": text, "org_id": org_ids.cast(pl.String)})
    # Only those with spellings of their own are told apart, or a million organisations would make
    # as many distinct pairs.
    own = pl.col("org_id").is_in(list(vocabulary.org_spellings))
    found = found.with_columns(org_id=pl.when(own).then("org_id"))
    pairs = found.unique().drop_nulls("value")
    meanings = [vocabulary.meaning(value, org_id) for value, org_id in pairs.iter_rows()]
    told = pairs.with_columns(meaning=pl.Series(meanings, dtype=pl.String))
    return found.join(
        told, on=["value", "org_id"], how="left", nulls_equal=True, maintain_order="left"
    )["meaning"]
