"""Which mappings gave a word to the rows of a batch, by organisation.

How a mapping is applied is in `vocabulary` and `validation`; who is told that it was is the
caller's business.
"""

from collections.abc import Mapping

import polars as pl

from engagement_pipeline.contracts import Contract
from engagement_pipeline.ingest.values import tidy
from engagement_pipeline.ingest.vocabulary import Vocabulary, fold

USES_SCHEMA = {"org_id": pl.String, "column_name": pl.String, "value": pl.String}


def mappings_used(
    batch_frame: pl.DataFrame,
    rows: pl.DataFrame,
    contract: Contract,
    *,
    vocabularies: Mapping[str, Vocabulary],
    unmapped: Mapping[str, Vocabulary],
) -> pl.DataFrame:
    """The mappings without which some row of a batch would have another word, or be a reject.

    Where no column has a mapping, nothing is computed; else of each column that has one only the
    distinct values are folded.

    Args:
        batch_frame: `row_number` and source columns, as `check_rows` was given them.
        rows: its sound rows, as `CheckedRows.rows` has them. Rejected rows use no mapping.
        contract: of the table in the schema `raw`.
        vocabularies: column -> what its values mean, as `vocabularies_of` gives it with mappings.
        unmapped: the same without mappings.

    Returns:
        `org_id`, `column_name`, `value` (folded), each combination once, in no order. Rows that
        name no organisation are passed over.
    """
    uses = []
    for column in contract.columns:
        known, plain = vocabularies.get(column.name), unmapped.get(column.name)
        if known is None or plain is None or known == plain:
            continue
        if column.name not in batch_frame.columns or "org_id" not in rows.columns:
            continue
        texts = tidy(batch_frame.get_column(column.name), column)
        if texts.dtype != pl.String:
            continue
        pairs = _pairs(batch_frame.get_column("row_number"), texts, rows, _mapped(known, plain))
        uses += [
            (org_id, column.name, fold(value))
            for org_id, value in pairs.iter_rows()
            if known.meaning(value, org_id) != plain.meaning(value, org_id)
        ]
    return pl.DataFrame(uses, schema=USES_SCHEMA, orient="row").unique()


def _mapped(known: Vocabulary, plain: Vocabulary) -> set[str]:
    """The folded values that mappings are about."""
    of_all = {
        value for value, term in known.spellings.items() if plain.spellings.get(value) != term
    }
    return of_all.union(*known.org_spellings.values())


def _pairs(
    row_number: pl.Series, texts: pl.Series, rows: pl.DataFrame, mapped: set[str]
) -> pl.DataFrame:
    """Each organisation of a sound row, with each value of its that a mapping is about."""
    # Words repeat, and most batches have none of these.
    concerned = [text for text in texts.unique().drop_nulls() if fold(text) in mapped]
    return (
        pl.DataFrame({"row_number": row_number, "value": texts})
        .filter(pl.col("value").is_in(concerned))
        .join(rows.select("row_number", "org_id"), on="row_number")
        .select("org_id", "value")
        .drop_nulls()
        .unique()
    )
