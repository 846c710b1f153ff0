"""What the tables of behaviour were last computed from, so that nothing is computed twice."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query

_SNAPSHOTS = contract("behavior.snapshots")

_COUNTED = (
    "organizations",
    "memberships",
    "profiles",
    "attendance",
    "event_views",
    "notifications",
    "notification_reads",
    "interactions",
)


def inputs_digest(
    connection: Connection, *, as_of: datetime, settings: Mapping[str, object], models: Path
) -> str:
    """Sha256 of all that patterns and predictions depend on.

    That is the loaded files, the moment, settings, interactions scored, trainings, maps of the
    loops, and the files of models as the file system tells of them.

    Args:
        connection: to the warehouse.
        as_of: the moment that is computed for.
        settings: those that matter, by name, and the version of the computation.
        models: the folder of models.
    """
    found = {
        "files": "SELECT table_name, sha256, rows_loaded FROM raw.ingested_files "
        "WHERE outcome = 'loaded' ORDER BY ALL",
        "scored": "SELECT count(*), max(sent_at)::VARCHAR FROM behavior.interactions_scored",
        "trainings": "SELECT target, as_of::VARCHAR, computed_at::VARCHAR FROM behavior.trainings "
        "ORDER BY ALL",
        "maps": "SELECT key, computed_at::VARCHAR, count(*) FROM loops.calibration_maps "
        "GROUP BY ALL ORDER BY ALL",
    }
    # Rows that come out of quarantine have no file of their own.
    found |= {table: f"SELECT count(*) FROM raw.{table}" for table in _COUNTED}
    described: dict[str, object] = {
        name: connection.execute(sql).fetchall() for name, sql in found.items()
    }
    described["models"] = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(models.glob("*"))
    ]
    described["settings"] = {**settings, "as_of": as_of.isoformat()}
    return hashlib.sha256(json.dumps(described, default=str).encode()).hexdigest()


def is_unchanged(connection: Connection, table: str, digest: str) -> bool:
    """Whether a table was computed from just this."""
    found = query(
        connection,
        f"SELECT inputs_digest FROM {_SNAPSHOTS.full_name} WHERE table_name = $name",
        {"name": table},
    )
    return digest in found["inputs_digest"].to_list()


def record(
    connection: Connection,
    table: str,
    digest: str | None,
    *,
    as_of: datetime,
    computed_at: datetime,
) -> None:
    """Write down what a table was computed from; None where only some of it was."""
    row = {
        "table_name": table,
        "as_of": as_of,
        "inputs_digest": digest,
        "computed_at": computed_at,
    }
    with transaction(connection):
        connection.execute(f"DELETE FROM {_SNAPSHOTS.full_name} WHERE table_name = ?", [table])
        if digest is not None:
            frame = pl.DataFrame([row], schema=_SNAPSHOTS.polars_schema)
            append(connection, _SNAPSHOTS.full_name, _SNAPSHOTS.validate(frame))
