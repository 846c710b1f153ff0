"""Interactions that are not scored yet, read in batches, and scored ones with their sessions.

How one is scored, and what makes a session, is decided in `behavior`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query

_SCORED = contract("behavior.interactions_scored")
_RAW = contract("raw.interactions")

_NEW = "new_interactions"
_MOVED = "moved_sessions"

_BLOCK_ROWS = 1_000
_BATCH_BYTES = 128 * 2**20
"""Text in a batch: rows alone bound no memory where a text may have 65,536 characters."""


@dataclass(frozen=True)
class Batch:
    """Some of the new interactions: all from one place to another of their order by member."""

    first: int
    end: int


@dataclass(frozen=True)
class NewInteractions:
    """The interactions that are not scored yet, set apart for this connection until `forget_new`.

    They are in the order of `org_id, user_id, sent_at, interaction_id`, so that a batch has few
    members, and nearly all of each.

    Attributes:
        rows: how many there are.
        batch_rows: how many a batch has at most.
    """

    connection: Connection
    rows: int
    batch_rows: int

    def batches(self) -> Iterator[Batch]:
        """Batches of at most `batch_rows` rows and 128 MiB of text, of 1,000 rows at least."""
        blocks = query(
            self.connection,
            f"SELECT rowid // {_BLOCK_ROWS} AS block, coalesce(sum(strlen(text)), 0) AS bytes "
            f"FROM {_NEW} GROUP BY block ORDER BY block",
        )
        first = held = 0
        for block, size in blocks.cast(pl.Int64).iter_rows():
            start = block * _BLOCK_ROWS
            end = min(start + _BLOCK_ROWS, self.rows)
            if first < start and (end - first > self.batch_rows or held + size > _BATCH_BYTES):
                yield Batch(first, start)
                first, held = start, 0
            held += size
        if first < self.rows:
            yield Batch(first, self.rows)

    def read(self, batch: Batch) -> pl.DataFrame:
        """The interactions of a batch, in the columns of `raw.interactions`."""
        names = ", ".join(_RAW.column_names)
        return query(
            self.connection,
            f"SELECT {names} FROM {_NEW} WHERE rowid >= $first AND rowid < $end ORDER BY rowid",
            {"first": batch.first, "end": batch.end},
        ).cast(_RAW.polars_schema)

    def sessions_near(self, batch: Batch, *, gap: timedelta) -> pl.DataFrame:
        """The stored sessions of a batch's members that any of its interactions might be within.

        These are the ones with an interaction no more than `gap` before the member's first in the
        batch, or after the last. All others are as they were, whatever comes of the batch.

        Returns:
            `org_id`, `user_id`, `started_at`, `ended_at`, `first_id` (the session's id).
        """
        return query(
            self.connection,
            f"""WITH coming AS (
                    SELECT org_id, user_id, min(sent_at) - $gap AS since,
                           max(sent_at) + $gap AS until
                    FROM {_NEW} WHERE rowid >= $first AND rowid < $end GROUP BY org_id, user_id
                ), near AS (
                    SELECT DISTINCT s.session_id FROM {_SCORED.full_name} AS s
                    INNER JOIN coming AS c ON s.org_id = c.org_id AND s.user_id = c.user_id
                    WHERE s.sent_at >= c.since AND s.sent_at <= c.until
                )
                SELECT s.org_id, s.user_id, min(s.sent_at) AS started_at,
                       max(s.sent_at) AS ended_at, s.session_id AS first_id
                FROM {_SCORED.full_name} AS s INNER JOIN near AS n ON s.session_id = n.session_id
                GROUP BY s.org_id, s.user_id, s.session_id""",
            {"first": batch.first, "end": batch.end, "gap": gap},
        )


def set_new_apart(connection: Connection, *, as_of: datetime, batch_rows: int) -> NewInteractions:
    """Find the interactions sent by `as_of` that are not scored yet."""
    names = ", ".join(_RAW.column_names)
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE {_NEW} AS
            SELECT {names} FROM {_RAW.full_name} AS r
            WHERE r.sent_at <= $as_of
              AND NOT EXISTS (SELECT 1 AS one FROM {_SCORED.full_name} AS s
                              WHERE s.interaction_id = r.interaction_id)
            ORDER BY org_id, user_id, sent_at, interaction_id""",
        {"as_of": as_of},
    )
    return NewInteractions(connection, _rows(connection, _NEW), batch_rows)


def forget_new(connection: Connection) -> None:
    """Let go of what `set_new_apart` set apart."""
    connection.execute(f"DROP TABLE IF EXISTS temp.{_NEW}")


def store(connection: Connection, scored: pl.DataFrame, moved: pl.DataFrame) -> None:
    """Add scored interactions, and give stored ones the session that they now belong to, at once.

    Args:
        scored: rows that keep the contract of `behavior.interactions_scored`.
        moved: `session_id` as it was, `joined_id` as it is now, for each session that was joined
            with an earlier one.
    """
    rows = _SCORED.validate(scored.select(_SCORED.column_names))
    with transaction(connection):
        if not moved.is_empty():
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {_MOVED} (session_id VARCHAR, joined_id VARCHAR)"
            )
            append(connection, _MOVED, moved)
            connection.execute(
                f"UPDATE {_SCORED.full_name} AS s SET session_id = m.joined_id "
                f"FROM {_MOVED} AS m WHERE s.session_id = m.session_id"
            )
            connection.execute(f"DROP TABLE temp.{_MOVED}")
        append(connection, _SCORED.full_name, rows)


def scored_rows(connection: Connection) -> int:
    """How many interactions are scored."""
    return _rows(connection, _SCORED.full_name)


def _rows(connection: Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])
