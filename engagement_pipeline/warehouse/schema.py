"""The warehouse's schemas and tables, and how an older warehouse becomes today's.

Tables and their comments come from the contracts, and are brought up to date whenever the contracts
have changed. A change that a contract cannot make to a table that exists already is a migration:
appended to `MIGRATIONS`, never edited, each in a transaction.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from engagement_pipeline.contracts import contracts
from engagement_pipeline.warehouse.connection import Connection, WarehouseError, transaction

SCHEMAS = ("raw", "signals", "behavior", "scores", "loops", "milestones", "outreach")


_CALIBRATIONS_CURRENT = """
CREATE OR REPLACE VIEW loops.calibrations_current AS
WITH shown AS (
    SELECT as_of FROM scores.scoring_runs
    QUALIFY row_number() OVER (ORDER BY run_number DESC, run_id DESC) = 1
), drawn AS (
    SELECT as_of FROM loops.productions
    QUALIFY row_number() OVER (ORDER BY computed_at DESC, as_of DESC) = 1
), present AS (
    SELECT max(as_of) AS as_of FROM (SELECT as_of FROM shown UNION ALL SELECT as_of FROM drawn)
)
SELECT c.* FROM loops.calibrations AS c CROSS JOIN present AS p
WHERE c.computed_at <= p.as_of AND c.expires_at > p.as_of
QUALIFY row_number() OVER (PARTITION BY c.org_id, c.key ORDER BY c.computed_at DESC) = 1
"""
# The pipeline's own present, not the clock's: a warehouse that was computed for a past day shows
# what was in force on that day.
VIEWS = (
    _CALIBRATIONS_CURRENT,
    "COMMENT ON VIEW loops.calibrations_current IS 'Calibrations in force: one row per "
    "organisation and key, at the last moment that was scored or learned for.'",
)


@dataclass(frozen=True)
class Migration:
    """One step of the schema's history: its number, what it does, and its statements."""

    version: int
    title: str
    statements: tuple[str, ...]


# Every warehouse has version 1 on record, the oldest ones too. Its statements are not history but
# today's contracts (`contract_statements`), and it is given again whenever those were run again.
TABLES = Migration(1, "the tables of the contracts", ())

# Numbered from 2. A warehouse may lack a table that came later than it, and gets that table from
# its contract once these have run: hence `ALTER TABLE IF EXISTS`.
MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        2,
        "how grave an at-risk flag is",
        (
            "ALTER TABLE IF EXISTS scores.classifications "
            "ADD COLUMN IF NOT EXISTS flag_severity VARCHAR",
        ),
    ),
)


def upgrade(
    connection: Connection, *, now: datetime, migrations: Sequence[Migration] = MIGRATIONS
) -> list[Migration]:
    """Bring the warehouse up to the newest version; gives what was run.

    That is the migrations an older warehouse lacked, and `TABLES` if tables or comments were
    made from the contracts. A warehouse that has everything is only read.

    Raises:
        WarehouseError: the warehouse was made by a newer version of the project.
    """
    known = sorted(migrations, key=lambda m: m.version)
    newest = max((m.version for m in known), default=TABLES.version)
    digest = _digest(contract_statements())
    found = _found(connection)
    if found.version > newest:
        raise WarehouseError(
            f"the warehouse has schema version {found.version}, this project knows versions up to "
            f"{newest}: update the project"
        )
    if found.is_fresh:
        with transaction(connection):
            _run_contracts(connection, digest, now)
            for migration in (TABLES, *known):
                _record(connection, migration, now)
        return [TABLES]

    applied = [m for m in known if m.version > found.version]
    for migration in applied:
        with transaction(connection):
            for statement in migration.statements:
                connection.execute(statement)
            _record(connection, migration, now)
    if found.digest != digest:
        with transaction(connection):
            _run_contracts(connection, digest, now)
            if found.version == 0:
                _record(connection, TABLES, now)
        applied.append(TABLES)
    return applied


def version(connection: Connection) -> int:
    """The newest migration on record; 0 if there is none."""
    found = connection.execute(
        "SELECT coalesce(max(version), 0) FROM meta.schema_migrations"
    ).fetchall()[0]
    assert found is not None
    return int(found[0])


@cache
def contract_statements() -> tuple[str, ...]:
    """What makes every table that a contract describes, and its comments; harmless to run again."""
    statements = [f"CREATE SCHEMA IF NOT EXISTS {schema}" for schema in SCHEMAS]
    for schema in SCHEMAS:
        for found in contracts(schema):
            statements += [found.ddl(), *found.comments()]
    return (*statements, *VIEWS)


@dataclass(frozen=True)
class _Found:
    """What a warehouse says of itself."""

    version: int
    digest: str | None
    is_fresh: bool


def _found(connection: Connection) -> _Found:
    rows = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = "
        "current_database() AND schema_name IN (SELECT unnest(?))",
        [["meta", *SCHEMAS]],
    ).fetchall()
    tables = set(rows)
    history = "(SELECT coalesce(max(version), 0) FROM meta.schema_migrations)"
    stored = "(SELECT max(digest) FROM meta.contracts)"
    answer = connection.execute(
        f"SELECT {history if ('meta', 'schema_migrations') in tables else 0}, "
        f"{stored if ('meta', 'contracts') in tables else 'NULL'}"
    ).fetchall()[0]
    assert answer is not None
    current, digest = answer
    is_fresh = current == 0 and not any(schema in SCHEMAS for schema, _ in tables)
    return _Found(current, digest, is_fresh)


def _digest(statements: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(statements).encode()).hexdigest()


def _run_contracts(connection: Connection, digest: str, now: datetime) -> None:
    for statement in contract_statements():
        connection.execute(statement)
    connection.execute("CREATE SCHEMA IF NOT EXISTS meta")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS meta.contracts "
        "(digest VARCHAR NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"
    )
    connection.execute("DELETE FROM meta.contracts")
    connection.execute("INSERT INTO meta.contracts VALUES (?, ?)", [digest, now])


def _record(connection: Connection, migration: Migration, now: datetime) -> None:
    connection.execute("CREATE SCHEMA IF NOT EXISTS meta")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS meta.schema_migrations "
        "(version BIGINT NOT NULL, title VARCHAR NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"
    )
    connection.execute(
        "INSERT INTO meta.schema_migrations VALUES (?, ?, ?)",
        [migration.version, migration.title, now],
    )
