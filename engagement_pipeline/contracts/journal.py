"""The tables that ingestion keeps about its own work, in the schema `raw`."""

import pandera.polars as pa

from engagement_pipeline.contracts.columns import (
    Instant,
    count,
    document,
    identifier,
    instant,
    text,
    whole,
    word,
)
from engagement_pipeline.contracts.contract import table

FILE_OUTCOMES = ("loaded", "refused")


class _Journal(pa.DataFrameModel):
    class Config:
        strict = True


@table("raw.ingested_files", key=["table_name", "sha256"], time_column="ingested_at")
class IngestedFiles(_Journal):
    """Ingested files: one row per table and file content. The same content never loads twice."""

    path: str = text("Where the content was found.")
    sha256: str = identifier("The sha256 of the file's bytes, in hexadecimal.")
    bytes: int = count("The file's size in bytes.")
    table_name: str = identifier("The input table the file belongs to.")
    outcome: str = word(
        "`loaded`, or `refused` when too many of its rows were rejected (nothing of it landed).",
        FILE_OUTCOMES,
    )
    rows_read: int = count("Rows found in the file.")
    rows_loaded: int = count("Rows that were added or that replaced an older row.")
    rows_rejected: int = count("Rows that went to `raw.rejects`.")
    rows_unchanged: int = count("Sound rows that brought nothing newer than what was there.")
    newest_row_at: Instant = instant("The newest time among the file's rows.", nullable=True)
    ingested_at: Instant = instant("When the file was ingested.")


@table("raw.rejects", time_column="ingested_at")
class Rejects(_Journal):
    """Rejects: rows kept out, each with its reason and its content. Nothing is dropped."""

    table_name: str = identifier("The input table the row was meant for.")
    path: str = text("The file it came from, or `cli` or `dagster` for a request made there.")
    row_number: int = whole("The row's number in the file, from 1, the header not counted.")
    reason: str = identifier("Why it was kept out, as a code such as `missing_joined_at`.")
    row_json: str = document("The row as it was found: a JSON object, or the line itself.")
    ingested_at: Instant = instant("When it was rejected.")
