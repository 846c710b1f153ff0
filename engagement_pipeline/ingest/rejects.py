"""Rows that are kept out, in the shape of `raw.rejects`: number, reason, and the row as found.

Which rows these are is decided in `validation`.
"""

import json
from collections.abc import Iterable

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.ingest.instants import native_text

REJECTS_SCHEMA = {"row_number": pl.Int64, "reason": pl.String, "row_json": pl.String}

_MAX_JSON: int = next(
    c.metadata["max_length"] for c in contract("raw.rejects").columns if c.name == "row_json"
)


def rejects_of_rows(found: pl.DataFrame, reasons: pl.Series) -> pl.DataFrame:
    """`row_number`, `reason`, `row_json` of `found`: `row_number` and source columns as found.

    `row_json` is a JSON object. Where it would be longer than `raw.rejects` allows, the row's
    longest texts are cut, each ending with `… (<n> characters)`.
    """
    source = found.drop("row_number")
    source = source.with_columns(
        native_text(s)
        if s.dtype == pl.Date or isinstance(s.dtype, pl.Datetime)
        else s.cast(pl.String)
        for s in source.get_columns()
        if s.dtype != pl.Boolean and not s.dtype.is_integer()
    )
    encoded = source.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    is_too_long = encoded.str.len_chars() > _MAX_JSON
    if is_too_long.any():
        short = [_shortened(text) for text in encoded.filter(is_too_long)]
        encoded = encoded.scatter(is_too_long.arg_true(), short)
    return pl.DataFrame(
        [
            found.get_column("row_number"),
            reasons.alias("reason"),
            encoded.alias("row_json"),
        ],
        schema=REJECTS_SCHEMA,
    )


def rejects_of_lines(lines: Iterable[tuple[int, str]]) -> pl.DataFrame:
    """The same for lines that are no rows: `row_json` is the line's text."""
    rows = [(number, "unparseable", text) for number, text in lines]
    return pl.DataFrame(rows, schema=REJECTS_SCHEMA, orient="row")


def _shortened(encoded: str) -> str:
    row = json.loads(encoded)
    lengths = {key: len(value) for key, value in row.items() if isinstance(value, str)}
    while len(encoded) > _MAX_JSON:
        longest = max(lengths, key=lambda key: len(row[key]))
        # The escapes of a text can make it six times longer in JSON than it is.
        kept = len(row[longest]) // 2
        row[longest] = f"{row[longest][:kept]}… ({lengths[longest]} characters)"
        encoded = json.dumps(row, ensure_ascii=False)
    return encoded
