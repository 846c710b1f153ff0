"""What the signals are computed from, read as frames, and the signals written back.

Instants go out as whole microseconds since the epoch, which is what `signals` computes in. Large
inputs go out in slices of members, so that memory does not grow with the rows.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query, read_table, replace_all
from engagement_pipeline.warehouse.quality import row_count

_MEMBERS = contract("signals.member_90d")
_SNAPSHOT = contract("signals.snapshot")

_ACTIVITY_TABLES = (
    "attendance",
    "event_views",
    "notifications",
    "notification_reads",
    "interactions",
    "profile_updates",
)

SELECTS = {
    "memberships": "SELECT org_id, user_id, epoch_us(joined_at) AS joined_at, "
    "epoch_us(left_at) AS left_at FROM raw.memberships",
    "attendance": "SELECT org_id, event_id, user_id, status, epoch_us(created_at) AS created_at, "
    "epoch_us(responded_at) AS responded_at FROM raw.attendance",
    "event_views": "SELECT org_id, event_id, user_id, epoch_us(viewed_at) AS viewed_at "
    "FROM raw.event_views",
    "notifications": "SELECT notification_id, user_id, org_id, epoch_us(sent_at) AS sent_at "
    "FROM raw.notifications",
    "notification_reads": "SELECT r.notification_id, epoch_us(r.read_at) AS read_at "
    "FROM raw.notification_reads AS r INNER JOIN raw.notifications AS n USING (notification_id)",
    "interactions": "SELECT org_id, user_id, epoch_us(sent_at) AS sent_at FROM raw.interactions",
    "profile_updates": "SELECT user_id, section, epoch_us(updated_at) AS updated_at "
    "FROM raw.profile_updates",
}
"""Table -> what is read of it, with instants as whole microseconds."""


@dataclass(frozen=True)
class Presence:
    """Which optional tables the source has at all: without them, a count is unknown, not zero."""

    has_event_views: bool
    has_notifications: bool
    has_interactions: bool


@dataclass(frozen=True)
class SnapshotState:
    """What `signals.member_90d` now holds."""

    as_of: datetime
    members: int
    inputs_digest: str


def presence(connection: Connection, *, as_of: datetime) -> Presence:
    """Which optional tables had any row at `as_of`: what came later was not known."""
    found = connection.execute(
        """SELECT EXISTS (SELECT 1 AS one FROM raw.event_views WHERE viewed_at <= $as_of),
                  EXISTS (SELECT 1 AS one FROM raw.notifications WHERE sent_at <= $as_of),
                  EXISTS (SELECT 1 AS one FROM raw.interactions WHERE sent_at <= $as_of)""",
        {"as_of": as_of},
    ).fetchall()[0]
    assert found is not None
    return Presence(*found)


def inputs_digest(
    connection: Connection, *, as_of: datetime, significant_sections: Collection[str], version: str
) -> str:
    """Sha256 of all that the signals depend on: the loaded files, the moment and the settings."""
    files = connection.execute(
        "SELECT table_name, sha256 FROM raw.ingested_files WHERE outcome = 'loaded' ORDER BY ALL"
    ).fetchall()
    described = [files, as_of.isoformat(), sorted(significant_sections), version]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def relations(connection: Connection) -> dict[str, Any]:
    """All inputs, by table, as rows in DuckDB that are not read yet; Narwhals understands them."""
    return {table: connection.sql(select) for table, select in SELECTS.items()}


def slices(connection: Connection, *, slice_rows: int) -> Iterator[dict[str, pl.LazyFrame]]:
    """Frames of all inputs, by table, for one slice of the people after another.

    All that concerns a person is in one slice, because a notification without an organisation is
    attributed by all the person's memberships.
    """
    tables = [f"raw.{table}" for table in _ACTIVITY_TABLES]
    yield from sliced(connection, SELECTS, tables, slice_rows=slice_rows)


def sliced(
    connection: Connection,
    selects: Mapping[str, str],
    activity_tables: Sequence[str],
    *,
    slice_rows: int,
) -> Iterator[dict[str, pl.LazyFrame]]:
    """The answers to several queries, by table, for one slice of the people after another.

    Args:
        connection: to the warehouse.
        selects: table -> a query without conditions, of a table with a `user_id`; that of
            `notification_reads` has it in the joined notification, `n`.
        activity_tables: the tables, with their schema, by whose rows slices are made.
        slice_rows: rows of them all in a slice, about.
    """
    rows = sum(row_count(connection, contract(table)) for table in activity_tables)
    parts = max(1, -(-rows // slice_rows))
    for part in range(parts):
        yield {
            table: query(connection, _sliced(select, table, part, parts)).lazy()
            for table, select in selects.items()
        }


def _sliced(select: str, table: str, part: int, parts: int) -> str:
    if parts == 1:
        return select
    user = "n.user_id" if table == "notification_reads" else "user_id"
    return f"{select} WHERE hash({user}) % {parts} = {part}"


def snapshot(connection: Connection) -> SnapshotState | None:
    """What the signals table now describes; none before the first computation."""
    rows = read_table(connection, _SNAPSHOT).rows(named=True)
    if not rows:
        return None
    row = rows[0]
    return SnapshotState(row["as_of"], row["members"], row["inputs_digest"])


def write(
    connection: Connection,
    members: Iterator[pl.DataFrame],
    *,
    as_of: datetime,
    present: Presence,
    digest: str,
    computed_at: datetime,
) -> int:
    """Replace the signals and their snapshot row in one transaction; gives the members written.

    Takes the slices as frames that keep the contract of `signals.member_90d`.
    """
    with transaction(connection):
        connection.execute(f"DELETE FROM {_MEMBERS.full_name}")
        count = 0
        for frame in members:
            append(connection, _MEMBERS.full_name, frame)
            count += frame.height
        row = {
            "as_of": as_of,
            "members": count,
            "has_event_views": present.has_event_views,
            "has_notifications": present.has_notifications,
            "has_interactions": present.has_interactions,
            "inputs_digest": digest,
            "computed_at": computed_at,
        }
        replace_all(connection, _SNAPSHOT, pl.DataFrame([row], schema=_SNAPSHOT.polars_schema))
    return count
