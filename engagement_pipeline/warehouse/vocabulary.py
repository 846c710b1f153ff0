"""What values were said to mean, and those that rows were kept out for, as they are stored.

Which columns have a vocabulary, what is folded and what is near is decided in `ingest.vocabulary`
and `loops.vocabulary`; loading rows again is in `loading`.
"""

from datetime import datetime

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query, read_table, replace_all
from engagement_pipeline.warehouse.loading import QUARANTINED_ROWS

_MAPPINGS = contract("loops.vocabulary_mappings")
_CANDIDATES = contract("loops.vocabulary_candidates")
_FILES = contract("raw.ingested_files")

# The reason names the column. Whether it is one with a vocabulary does not matter here.
_UNKNOWN_VALUES = f"""
    SELECT table_name, substr(reason, 9) AS column_name, path, row_number,
           json_extract_string(row, '$.org_id') AS org_id,
           json_extract_string(row, '$.' || substr(reason, 9)) AS value,
           ingested_at
    FROM {QUARANTINED_ROWS}"""
# Of a refused file that was mended in its place nothing is waiting any more.
_IS_OUTDATED = f"""EXISTS (
    SELECT 1 AS one FROM {_FILES.full_name} AS f INNER JOIN {_FILES.full_name} AS later
    ON f.table_name = later.table_name AND f.path = later.path
    WHERE f.table_name = u.table_name AND f.path = u.path AND f.ingested_at = u.ingested_at
      AND f.outcome = 'refused'
      AND later.outcome = 'loaded' AND later.ingested_at > f.ingested_at
)"""


def mappings(connection: Connection) -> pl.DataFrame:
    """All rows of `loops.vocabulary_mappings`, the order of the key."""
    return read_table(connection, _MAPPINGS).sort(_MAPPINGS.key)


def record_mapping(connection: Connection, row: pl.DataFrame) -> bool:
    """Put one row in the place of that with the same key; gives whether that changes what is meant.

    One transaction. A mapping that says the same already stays as it is.
    """
    _MAPPINGS.validate(row)
    ((table_name, column_name, org_id, value, term),) = row.select(*_MAPPINGS.key, "term").rows()
    same_key = (
        f"FROM {_MAPPINGS.full_name} WHERE table_name = $table AND column_name = $column "
        "AND org_id IS NOT DISTINCT FROM $org AND value = $value"
    )
    key = {"table": table_name, "column": column_name, "org": org_id, "value": value}
    with transaction(connection):
        if connection.execute(f"SELECT term {same_key}", key).fetchall() == [(term,)]:
            return False
        connection.execute(f"DELETE {same_key}", key)
        append(connection, _MAPPINGS.full_name, row)
    return True


def rejected_values(connection: Connection) -> pl.DataFrame:
    """Values that quarantined rows have in a column that does not know them, as they were found.

    `table_name`, `column_name`, `org_id` (nullable), `value`, `rows`, `first_seen_at`,
    `last_seen_at`. Rows of refused files count, for these are what their files are refused for,
    unless another content was loaded from the same path since.
    """
    return query(
        connection,
        f"""SELECT table_name, column_name, org_id, value, count(*) AS rows,
                   min(ingested_at) AS first_seen_at, max(ingested_at) AS last_seen_at
            FROM ({_UNKNOWN_VALUES}) AS u WHERE value IS NOT NULL AND NOT {_IS_OUTDATED}
            GROUP BY table_name, column_name, org_id, value ORDER BY ALL""",
    )


def rejected_rows_with_unknown_values(connection: Connection, since: datetime) -> pl.DataFrame:
    """The rows themselves that were quarantined at `since` or later.

    `table_name`, `column_name`, `path`, `row_number`, `org_id` (nullable), `value`, `ingested_at`.
    """
    return query(
        connection,
        f"SELECT * FROM ({_UNKNOWN_VALUES}) WHERE value IS NOT NULL AND ingested_at >= $since "
        "ORDER BY ALL",
        {"since": since},
    )


def replace_candidates(connection: Connection, frame: pl.DataFrame) -> None:
    """Make `frame`, which keeps the contract, all of `loops.vocabulary_candidates`.

    In the caller's transaction.
    """
    replace_all(connection, _CANDIDATES, _CANDIDATES.validate(frame))
