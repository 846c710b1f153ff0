"""Override requests and the history of overrides, as they are stored.

What makes a request valid, and what follows from it, is decided in `scoring.overrides`.
"""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query, read_table

_REQUESTS = contract("raw.override_requests")
_HISTORY = contract("scores.override_history")
_MEMBERSHIPS = contract("raw.memberships")
_REJECTS = contract("raw.rejects")


@dataclass(frozen=True)
class OverrideInputs:
    """All that overrides are decided from: contracts' frames, memberships and levels only of the
    people that some request or override names."""

    requests: pl.DataFrame
    memberships: pl.DataFrame
    history: pl.DataFrame
    levels: pl.DataFrame


def read_inputs(connection: Connection) -> OverrideInputs:
    """Requests not rejected so far, and what they are judged by."""
    people = (
        f"SELECT org_id, user_id FROM {_REQUESTS.full_name} UNION "
        f"SELECT org_id, performed_by AS user_id FROM {_REQUESTS.full_name}"
    )
    return OverrideInputs(
        requests=read_table(connection, _REQUESTS),
        memberships=query(
            connection,
            f"SELECT m.* FROM {_MEMBERSHIPS.full_name} AS m SEMI JOIN ({people}) AS p "
            "ON p.org_id = m.org_id AND p.user_id = m.user_id",
        ),
        history=read_table(connection, _HISTORY),
        levels=query(
            connection,
            "SELECT c.org_id, c.user_id, c.as_of, c.level FROM scores.classifications AS c "
            f"SEMI JOIN ({people}) AS p ON p.org_id = c.org_id AND p.user_id = c.user_id "
            "ORDER BY ALL",
        ),
    )


def add_request(connection: Connection, request: pl.DataFrame) -> None:
    """Put one request, a frame that keeps the contract, beside those of the source."""
    with transaction(connection):
        append(connection, _REQUESTS.full_name, _REQUESTS.validate(request))


def record(
    connection: Connection, *, new_history: pl.DataFrame, rejected: pl.DataFrame, now: datetime
) -> None:
    """Add history rows, and move rejected requests to the rejects, in one transaction."""
    with transaction(connection):
        append(connection, _HISTORY.full_name, new_history)
        if rejected.is_empty():
            return
        found_in = _path_of_source(connection)
        rejects = rejected.select(
            table_name=pl.lit(_REQUESTS.name),
            path=pl.col("request_id").map_elements(
                lambda request_id: path_of(request_id, found_in), return_dtype=pl.String
            ),
            row_number=pl.lit(0, dtype=pl.Int64),
            reason=pl.col("reason"),
            row_json=pl.struct(_REQUESTS.column_names).struct.json_encode(),
            ingested_at=pl.lit(now),
        )
        append(connection, _REJECTS.full_name, rejects)
        connection.execute(
            f"DELETE FROM {_REQUESTS.full_name} WHERE request_id IN (SELECT unnest($ids))",
            {"ids": rejected["request_id"].to_list()},
        )


def path_of(request_id: str, source_path: str) -> str:
    """Where a request was made: `cli` or `dagster` for those made there, else the source."""
    made_at, _, _ = request_id.partition(":")
    return made_at if made_at in ("cli", "dagster") else source_path


def _path_of_source(connection: Connection) -> str:
    rows = connection.execute(
        "SELECT DISTINCT path FROM raw.ingested_files WHERE table_name = ? ORDER BY path",
        [_REQUESTS.name],
    ).fetchall()
    return ", ".join(path for (path,) in rows)[:65_536] or "unknown"
