"""One input file into the warehouse: its rows, its rejects and its log row land together or not.

Rows come in already typed and checked (`ingest.validation`). What belongs here is only what needs
the whole file or the table that is there already: duplicate keys, newer against older, too many
rejects, and the journal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query

_FILES = contract("raw.ingested_files")
_REJECTS = contract("raw.rejects")
_READS = contract("raw.notification_reads")
# Other rejects may hold no JSON, and DuckDB asks conditions in whatever order it likes.
QUARANTINED_ROWS = f"""(
    SELECT *, rowid,
           CASE WHEN starts_with(reason, 'unknown_') THEN row_json END AS row
    FROM {_REJECTS.full_name} WHERE starts_with(reason, 'unknown_')
)"""
# Rows kept out for a value that was not known, with that value. A refused file is tried as a whole
# in every run, so its rows are not taken from here.
_QUARANTINED = f"""
    SELECT r.rowid AS place, r.reason, r.row_json, r.ingested_at, r.path, r.row_number,
           json_extract_string(r.row, '$.org_id') AS org_id,
           json_extract_string(r.row, '$.' || substr(r.reason, 9)) AS value
    FROM {QUARANTINED_ROWS} AS r
    WHERE r.table_name = $table
      AND NOT EXISTS (
          SELECT 1 AS one FROM {_FILES.full_name} AS f
          WHERE f.table_name = r.table_name AND f.path = r.path
            AND f.ingested_at = r.ingested_at AND f.outcome = 'refused'
      )"""
_EXPLAINED_QUARANTINED = f"""
    FROM ({_QUARANTINED}) AS q SEMI JOIN explained AS e
    ON q.reason = e.reason AND q.org_id IS NOT DISTINCT FROM e.org_id
    AND q.value IS NOT DISTINCT FROM e.value"""
_SCRATCH = (
    "explained",
    "incoming",
    "incoming_numbers",
    "incoming_rejects",
    "incoming_reads",
    "suspects",
    "losers",
)


class LostRowsError(RuntimeError):
    """A row was neither kept nor rejected: a defect of this project, caught before it counts."""


@dataclass(frozen=True)
class FileIdentity:
    """What a file is known by: its path, and the sha256 and size of its bytes."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class CheckedBatch:
    """Rows of a file in their order: sound ones typed as the contract (and `row_number`), rejects
    as (`row_number`, `reason`, `row_json`), and reads that notifications brought along."""

    rows: pl.DataFrame
    rejects: pl.DataFrame
    rows_read: int
    reads: pl.DataFrame | None = None


@dataclass(frozen=True)
class RejectLimit:
    """Rejects that a file may have: `rows` always, more while they are at most `share` of it."""

    share: float
    rows: int

    def is_exceeded(self, rejected: int, read: int) -> bool:
        return rejected > self.rows and rejected > self.share * read


@dataclass(frozen=True)
class LoadedFile:
    """How the load of one file ended, as `raw.ingested_files` has it."""

    file: FileIdentity
    outcome: str
    rows_read: int
    rows_loaded: int
    rows_rejected: int
    rows_unchanged: int
    reasons: tuple[tuple[str, int], ...]
    newest_row_at: datetime | None

    @property
    def is_refused(self) -> bool:
        return self.outcome == "refused"


def loaded_digests(connection: Connection, table_name: str) -> set[str]:
    """The sha256 of every content of this table that has been loaded."""
    rows = connection.execute(
        f"SELECT sha256 FROM {_FILES.full_name} WHERE table_name = ? AND outcome = 'loaded'",
        [table_name],
    ).fetchall()
    return {sha256 for (sha256,) in rows}


def known_org_ids(connection: Connection) -> pl.Series:
    """The ids of all organisations in the warehouse."""
    return pl.DataFrame(connection.sql("SELECT org_id FROM raw.organizations"))["org_id"]


def quarantined_values(connection: Connection, table_name: str) -> pl.DataFrame:
    """What rows were kept out for that may have become known since.

    `reason`, `org_id` and `value` (of the column that the reason names; null where it names none)
    as they were found, each combination once.
    """
    return query(
        connection,
        f"SELECT DISTINCT reason, org_id, value FROM ({_QUARANTINED}) ORDER BY ALL",
        {"table": table_name},
    )


def quarantined_rows(connection: Connection, table_name: str, explained: pl.DataFrame) -> list[str]:
    """The rows, as JSON, that are kept out for one of `explained` (of `quarantined_values`).

    In the order in which they were quarantined.
    """
    try:
        _stage_explained(connection, explained)
        rows = connection.execute(
            f"SELECT q.row_json {_EXPLAINED_QUARANTINED} ORDER BY q.ingested_at, q.place",
            {"table": table_name},
        ).fetchall()
    finally:
        connection.execute("DROP TABLE IF EXISTS temp.explained")
    return [row_json for (row_json,) in rows]


def load_file(
    connection: Connection,
    into: Contract,
    file: FileIdentity,
    batches: Iterable[CheckedBatch],
    *,
    limit: RejectLimit,
    now: datetime,
    settles: pl.DataFrame | None = None,
) -> LoadedFile:
    """Load one file in one transaction; a file over the reject limit leaves only its rejects.

    With `settles` the file is made of the `quarantined_rows` of these values, which leave the
    rejects in the same transaction; such a row replaces another only where the table's own times
    say that it is newer. Whatever `batches` raises passes through, and then nothing of the file has
    landed.
    """
    with transaction(connection):
        _forget_refused(connection, into, file)
        if settles is not None:
            _stage_explained(connection, settles)
            connection.execute(
                f"DELETE FROM {_REJECTS.full_name} WHERE rowid IN "
                f"(SELECT q.place {_EXPLAINED_QUARANTINED})",
                {"table": into.name},
            )
        staged = _stage(connection, into)
        rows_read = 0
        for batch in batches:
            append(connection, staged, batch.rows.drop("row_number"))
            append(connection, "incoming_numbers", batch.rows.select("row_number"))
            append(connection, "incoming_rejects", batch.rejects)
            if batch.reads is not None:
                append(connection, "incoming_reads", batch.reads)
            rows_read += batch.rows_read
        _reject_duplicates(connection, into, staged)
        reasons = _reasons(connection)
        rejected = sum(count for _, count in reasons)
        sound = _count(connection, f"SELECT count(*) FROM {staged}")
        if sound + rejected != rows_read:
            raise LostRowsError(
                f"{file.path}: expected {rows_read} rows to be sound or rejected, found {sound} "
                f"and {rejected}: nothing of the file was loaded"
            )
        newest = _newest(connection, into, staged)
        is_refused = limit.is_exceeded(rejected, rows_read)
        loaded = (
            _take_back(connection, staged)
            if is_refused
            else _merge(connection, into, staged, is_late=settles is not None)
        )
        if not is_refused and into.full_name == "raw.notifications":
            _merge(connection, _READS, "(SELECT DISTINCT * FROM incoming_reads)")
        _keep_rejects(connection, into, file, now)
        outcome = LoadedFile(
            file=file,
            outcome="refused" if is_refused else "loaded",
            rows_read=rows_read,
            rows_loaded=loaded,
            rows_rejected=rejected,
            rows_unchanged=0 if is_refused else rows_read - rejected - loaded,
            reasons=tuple(reasons),
            newest_row_at=newest,
        )
        _log(connection, into, outcome, now)
        _unstage(connection)
    return outcome


def _stage(connection: Connection, into: Contract) -> str:
    """Make the tables of one file's rows; gives the name of that for the sound ones.

    An empty table takes its first file in directly: written twice, it would take half as long
    again. Rows and `incoming_numbers` are appended in step, so that the place of a row among them
    tells its number in the file.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE incoming_numbers (row_number BIGINT)")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE incoming_rejects "
        "(row_number BIGINT, reason VARCHAR, row_json VARCHAR)"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE incoming_reads (notification_id VARCHAR, read_at TIMESTAMPTZ)"
    )
    if _is_empty(connection, into.full_name):
        return into.full_name
    columns = ", ".join(f'"{c.name}" {c.sql_type}' for c in into.columns)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE incoming ({columns})")
    return "incoming"


def _stage_explained(connection: Connection, explained: pl.DataFrame) -> None:
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE explained (reason VARCHAR, org_id VARCHAR, value VARCHAR)"
    )
    append(connection, "explained", explained.select("reason", "org_id", "value"))


def _take_back(connection: Connection, staged: str) -> int:
    """Nothing of a refused file lands; gives that nothing."""
    connection.execute(f"DELETE FROM {staged}")
    return 0


def _unstage(connection: Connection) -> None:
    # The connection has more to do, and a large file's rows would stay in memory all the while.
    for scratch in _SCRATCH:
        connection.execute(f"DROP TABLE IF EXISTS temp.{scratch}")


def _forget_refused(connection: Connection, into: Contract, file: FileIdentity) -> None:
    # A refused file is tried again at every run; only its last try is kept.
    connection.execute(
        f"""DELETE FROM {_REJECTS.full_name} AS r USING {_FILES.full_name} AS f
            WHERE f.table_name = ? AND f.sha256 = ? AND f.outcome = 'refused'
              AND r.table_name = f.table_name AND r.path = f.path
              AND r.ingested_at = f.ingested_at""",
        [into.name, file.sha256],
    )
    connection.execute(
        f"DELETE FROM {_FILES.full_name} WHERE table_name = ? AND sha256 = ? "
        "AND outcome = 'refused'",
        [into.name, file.sha256],
    )


def _reject_duplicates(connection: Connection, into: Contract, staged: str) -> None:
    """Within one file the newest row of a key stays, and of equally new ones the last."""
    key = _names(into.key)
    # Comparing one hash a row finds the few suspects cheaply; only they are sorted by key.
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE suspects AS
            SELECT hash({key}) AS key_hash FROM {staged}
            GROUP BY key_hash HAVING count(*) > 1"""
    )
    if _is_empty(connection, "suspects"):
        return
    # Rows that are not committed yet are numbered from some large number on, not from 0.
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE losers AS
            SELECT rowid AS place, rowid - (SELECT min(rowid) FROM {staged}) AS nth
            FROM {staged} WHERE hash({key}) IN (SELECT key_hash FROM suspects)
            QUALIFY row_number() OVER (
                PARTITION BY {key} ORDER BY {_version(into)} DESC NULLS LAST, rowid DESC
            ) > 1"""
    )
    as_found = ", ".join(f"'{c}': s.{_name(c)}" for c in into.column_names)
    connection.execute(
        f"""INSERT INTO incoming_rejects BY NAME
            SELECT n.row_number, 'duplicate_key' AS reason, to_json({{{as_found}}}) AS row_json
            FROM {staged} AS s INNER JOIN losers AS l ON s.rowid = l.place
            INNER JOIN incoming_numbers AS n
            ON n.rowid - (SELECT min(rowid) FROM incoming_numbers) = l.nth"""
    )
    connection.execute(f"DELETE FROM {staged} WHERE rowid IN (SELECT place FROM losers)")


def _merge(connection: Connection, into: Contract, staged: str, *, is_late: bool = False) -> int:
    """Add what is new and replace what is older; gives the rows that landed."""
    target = into.full_name
    if staged == target:
        return _count(connection, f"SELECT count(*) FROM {target}")
    same_key = " AND ".join(f"t.{_name(k)} IS NOT DISTINCT FROM s.{_name(k)}" for k in into.key)
    if not into.is_event_like:
        # A tie goes to the later file, so an equally new row replaces, too.
        newer = (
            f"coalesce({_version(into, 's')} >= {_version(into, 't')}, "
            f"{_version(into, 't')} IS NULL)"
        )
        if is_late:
            # Rows out of quarantine come from earlier files than what may have landed since.
            newer += f" AND {_version(into, 's')} IS DISTINCT FROM {_version(into, 't')}"
        connection.execute(
            f"DELETE FROM {target} AS t USING {staged} AS s WHERE {same_key} AND {newer}"
        )
    return _count(
        connection,
        f"INSERT INTO {target} BY NAME SELECT {_names(into.column_names)} FROM {staged} AS s "
        f"WHERE NOT EXISTS (SELECT 1 AS one FROM {target} AS t WHERE {same_key})",
    )


def _is_empty(connection: Connection, table: str) -> bool:
    return not _count(connection, f"SELECT count(*) FROM (SELECT 1 AS one FROM {table} LIMIT 1)")


def _version(into: Contract, alias: str | None = None) -> str:
    """SQL of the time that says which of two rows is newer; null where the table has none."""
    if not into.newer_by:
        return "NULL::TIMESTAMPTZ"
    prefix = f"{alias}." if alias else ""
    return f"coalesce({', '.join(prefix + _name(c) for c in into.newer_by)})"


def _reasons(connection: Connection) -> list[tuple[str, int]]:
    return connection.execute(
        "SELECT reason, count(*) AS n FROM incoming_rejects GROUP BY reason ORDER BY n DESC, reason"
    ).fetchall()


def _newest(connection: Connection, into: Contract, staged: str) -> datetime | None:
    if into.time_column is None:
        return None
    found = pl.DataFrame(
        connection.sql(f"SELECT max({_name(into.time_column)}) AS newest FROM {staged}")
    )
    newest: datetime | None = found["newest"].dt.convert_time_zone("UTC").item()
    return newest


def _keep_rejects(
    connection: Connection, into: Contract, file: FileIdentity, now: datetime
) -> None:
    connection.execute(
        f"""INSERT INTO {_REJECTS.full_name} BY NAME
            SELECT $table AS table_name, $path AS path, row_number, reason, row_json,
                   $now AS ingested_at
            FROM incoming_rejects ORDER BY row_number""",
        {"table": into.name, "path": file.path, "now": now},
    )


def _log(connection: Connection, into: Contract, loaded: LoadedFile, now: datetime) -> None:
    row = {
        "path": loaded.file.path,
        "sha256": loaded.file.sha256,
        "bytes": loaded.file.bytes,
        "table_name": into.name,
        "outcome": loaded.outcome,
        "rows_read": loaded.rows_read,
        "rows_loaded": loaded.rows_loaded,
        "rows_rejected": loaded.rows_rejected,
        "rows_unchanged": loaded.rows_unchanged,
        "newest_row_at": loaded.newest_row_at,
        "ingested_at": now,
    }
    append(connection, _FILES.full_name, pl.DataFrame([row], schema=_FILES.polars_schema))


def _count(connection: Connection, statement: str) -> int:
    found = connection.execute(statement).fetchall()[0]
    return int(found[0]) if found else 0


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _names(columns: Sequence[str]) -> str:
    return ", ".join(map(_name, columns))
