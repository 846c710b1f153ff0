"""What was kept long enough: rows of the warehouse, published files and leftovers, removed.

What has to stay so that nobody's level changes is decided here. How long things are kept is a
setting; what has to be done before, and Dagster's own records of runs, belong to `defs`.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.outreach_members import KEPT_FOR_EVER, OCCASIONS_KEPT_FOR

INTERACTIONS = contract("raw.interactions")
SCORED = contract("behavior.interactions_scored")
REJECTS = contract("raw.rejects")
DECISIONS = contract("outreach.decisions")
MESSAGES = contract("outreach.messages")
DELIVERIES = contract("outreach.deliveries")
WITHHELD = contract("outreach.withheld")
OUTCOMES = contract("outreach.outcomes")


_TEXT = "text"
# The values that a row was quarantined for have to be told from each other as before, and the row
# loads when somebody says what they mean. Of all other rows nothing is asked any more.
_KEPT = ", ".join(
    f"'{name}', json_extract(row_json, '$.{name}')"
    for name in INTERACTIONS.column_names
    if name != _TEXT
)


def unscored_interactions(connection: Connection, *, before: datetime) -> int:
    """How many interactions sent before a moment were never scored: they count for nothing yet."""
    rows = connection.execute(
        f"""SELECT count(*) FROM {INTERACTIONS.full_name} AS r
            ANTI JOIN {SCORED.full_name} AS s ON r.interaction_id = s.interaction_id
            WHERE r.sent_at < $before""",
        {"before": before},
    ).fetchall()
    return int(rows[0][0])


def remove_interactions(
    connection: Connection, *, before: datetime, as_of: datetime
) -> dict[str, int]:
    """Remove interactions older than `before`, all at once; of those that stay, the texts.

    The last one of each member by `as_of` stays, without its text: by it the member's last
    activity is known, and so the level. Of two sent at once the greater id is the last. What was
    kept out of the table loses its text as well, once it has been there since before `before`.

    What was never scored goes unseen: ask `unscored_interactions` first.

    Args:
        connection: to the warehouse, in no transaction.
        before: older ones go; one sent right then stays.
        as_of: the moment that has to look as it did.

    Returns:
        Rows removed by table, and under `<table> without text` the rows that lost theirs.
    """
    named = {"before": before}
    with transaction(connection):
        removed = {
            table.full_name: _changed(
                connection,
                f"""DELETE FROM {table.full_name} WHERE sent_at < $before
                    AND interaction_id NOT IN (
                        SELECT arg_max(interaction_id, (sent_at, interaction_id))
                        FROM {table.full_name} WHERE sent_at <= $as_of
                        GROUP BY org_id, user_id
                    )""",
                {**named, "as_of": as_of},
            )
            for table in (INTERACTIONS, SCORED)
        }
        blanked = {
            INTERACTIONS.full_name: _changed(
                connection,
                f"""UPDATE {INTERACTIONS.full_name} SET {_TEXT} = NULL
                    WHERE sent_at < $before AND {_TEXT} IS NOT NULL""",
                named,
            ),
            REJECTS.full_name: _blank_rejects(connection, before),
        }
    return {**removed, **{f"{table} without text": rows for table, rows in blanked.items()}}


def remove_outreach(connection: Connection, *, before: datetime, as_of: datetime) -> dict[str, int]:
    """Remove what is known of old messages, all at once, but for the ledger itself.

    Messages planned before `before` lose their texts, in which members are called by name. Those
    keep them that may still be sent: whatever is in hand, and what is to be sent since. What is
    scheduled for earlier is too late, and whoever delivers gives it up.

    What was withheld, attempts to send messages, and what came of them go once they are older than
    `before`, and than `OCCASIONS_KEPT_FOR`: a message that was cancelled used up its occasion if an
    attempt may have reached the member. So of `KEPT_FOR_EVER` what was withheld and attempts stay.

    Args:
        connection: to the warehouse, in no transaction.
        before: what is older goes; what was planned or sent right then stays.
        as_of: the moment that is cleaned up for.

    Returns:
        As `remove_interactions`.
    """
    is_over = (
        "planned_at < $before AND status <> 'reserved' "
        "AND (status <> 'scheduled' OR send_at < $before)"
    )
    comes_again = "trigger NOT IN (SELECT unnest($for_ever))"
    long_ago = {"before": min(before, as_of - OCCASIONS_KEPT_FOR)}
    occasions = {**long_ago, "for_ever": list(KEPT_FOR_EVER)}
    with transaction(connection):
        return {
            DELIVERIES.full_name: _changed(
                connection,
                f"""DELETE FROM {DELIVERIES.full_name}
                    WHERE attempted_at < $before AND message_id IN (
                        SELECT message_id FROM {MESSAGES.full_name}
                        WHERE {is_over} AND {comes_again}
                    )""",
                occasions,
            ),
            WITHHELD.full_name: _changed(
                connection,
                f"DELETE FROM {WITHHELD.full_name} WHERE planned_at < $before AND {comes_again}",
                occasions,
            ),
            OUTCOMES.full_name: _changed(
                connection, f"DELETE FROM {OUTCOMES.full_name} WHERE sent_at < $before", long_ago
            ),
            f"{MESSAGES.full_name} without text": _changed(
                connection,
                f"""UPDATE {MESSAGES.full_name} SET {_TEXT} = ''
                    WHERE {is_over} AND {_TEXT} <> ''""",
                {"before": before},
            ),
        }


def remove_decisions(connection: Connection, *, before: datetime) -> dict[str, int]:
    """Remove decisions of outreach that are older than `before`; gives the rows by table.

    What cycles counted of them stays.
    """
    sql = f"DELETE FROM {DECISIONS.full_name} WHERE decided_at < $before"
    return {DECISIONS.full_name: _changed(connection, sql, {"before": before})}


def compact(connection: Connection) -> None:
    """Let DuckDB give back the disk that removed rows took, as far as it does.

    That is, at the file's end; it writes over other free blocks later. Rows must have been removed
    by an earlier connection: a block that one has freed is not cut off before the next.
    """
    # Where nothing has changed, a checkpoint does nothing: the same comment again is a change.
    connection.execute(INTERACTIONS.comments()[0])
    connection.execute("CHECKPOINT")


def warehouse_megabytes(path: Path) -> float:
    """What the warehouse takes on the disk, with what is not yet played into it."""
    files = [path, path.with_name(path.name + ".wal")]
    return sum(file.stat().st_size for file in files if file.exists()) / 1_000_000


def remove_snapshots(history: Path, *, keep: int, newest: Path | None = None) -> list[Path]:
    """Remove all but the newest published files that are kept for looking back; gives what went.

    Args:
        history: their folder.
        keep: how many stay.
        newest: one of them that stays even where the clock was set back.
    """
    # By the time of publishing, the last part: a past day that was computed again is new.
    found = sorted(
        history.glob("engagement-*.duckdb"),
        key=lambda path: (path == newest, path.stem.rpartition("-")[2]),
    )
    superfluous = found[: max(0, len(found) - keep)]
    for path in superfluous:
        path.unlink()
    return superfluous


def remove_leftovers(spool: Path, *, before: datetime) -> list[Path]:
    """Remove what killed processes left in the spool folder; gives the files.

    Whoever holds the warehouse uses the folder, so that is to be held, and only files that nobody
    has written since `before` are taken.
    """
    leftovers = [
        path
        for path in sorted(spool.rglob("*"))
        if path.is_file() and path.stat().st_mtime < before.timestamp()
    ]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def _blank_rejects(connection: Connection, before: datetime) -> int:
    """Lines that could not be read, and rows that are wrong by themselves, lose all they hold."""
    return _changed(
        connection,
        f"""UPDATE {REJECTS.full_name} AS r SET row_json = b.row_json
            FROM (
                SELECT rowid AS place,
                       CASE WHEN starts_with(reason, 'unknown_')
                            THEN json_object({_KEPT})::VARCHAR ELSE '{{}}' END AS row_json
                FROM {REJECTS.full_name}
                WHERE table_name = $table AND ingested_at < $before
            ) AS b
            WHERE r.rowid = b.place AND r.row_json <> b.row_json""",
        {"table": INTERACTIONS.name, "before": before},
    )


def _changed(connection: Connection, sql: str, named: Mapping[str, object]) -> int:
    """Run a statement that removes or changes rows; gives how many."""
    return int(connection.execute(sql, dict(named)).fetchall()[0][0])
