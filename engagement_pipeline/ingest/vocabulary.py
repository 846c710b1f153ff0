"""How a raw value is folded onto one of a column's words.

The words themselves and their built-in spellings are in `contracts.vocabulary`.
"""

import re
from collections.abc import Iterable, Mapping

import polars as pl

from engagement_pipeline.contracts import Column

_GAPS = re.compile(r"[\s\-]+")


def fold(value: str) -> str:
    """Trim, case-fold, and make each run of spaces and hyphens one underscore."""
    return _GAPS.sub("_", value.strip().casefold())


def words_of(
    values: Iterable[str], column: Column, spellings: Mapping[str, str]
) -> dict[str, str | None]:
    """What each raw value means: one of the column's words, or None.

    `spellings` (raw value -> word) go before the column's own, but a word of the column is always
    itself. A spelling of something that is no word of the column counts for nothing.
    """
    allowed = column.allowed or ()
    own: Mapping[str, str] = column.metadata.get("spellings") or {}
    known = {fold(raw): fold(word) for raw, word in (*own.items(), *spellings.items())}
    known = {raw: word for raw, word in known.items() if word in allowed}
    known |= {word: word for word in allowed}
    return {value: known.get(fold(value)) for value in values}


def read_words(text: pl.Series, column: Column, spellings: Mapping[str, str]) -> pl.Series:
    """The column's words for `text` (String), null where the value is unknown or null."""
    # Words repeat: only the distinct values are folded.
    meanings = words_of(text.unique().drop_nulls().to_list(), column, spellings)
    if all(value == word for value, word in meanings.items()):
        return text
    return text.replace_strict(meanings, default=None, return_dtype=pl.String)
