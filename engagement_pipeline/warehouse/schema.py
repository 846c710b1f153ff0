"""The warehouse's schemas and tables, and how an older warehouse becomes today's.

Tables come from their contracts. A change that a contract alone cannot make to a table that
exists already is a migration: appended to `MIGRATIONS`, never edited, each in a transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from engagement_pipeline.contracts import contracts
from engagement_pipeline.warehouse.connection import Connection, WarehouseError, transaction

SCHEMAS = ("raw", "signals", "scores")


@dataclass(frozen=True)
class Migration:
    """One step of the schema's history: its number, what it does, and its statements."""

    version: int
    title: str
    statements: tuple[str, ...]


def _create_tables() -> tuple[str, ...]:
    statements = [f"CREATE SCHEMA IF NOT EXISTS {schema}" for schema in SCHEMAS]
    for schema in SCHEMAS:
        for found in contracts(schema):
            statements += [found.ddl(), *found.comments()]
    return tuple(statements)


MIGRATIONS: tuple[Migration, ...] = (Migration(1, "the first tables", _create_tables()),)


def upgrade(
    connection: Connection, *, now: datetime, migrations: Sequence[Migration] = MIGRATIONS
) -> list[Migration]:
    """Bring the warehouse up to the newest version; gives the migrations that were applied.

    Raises:
        WarehouseError: the warehouse was made by a newer version of the project.
    """
    with transaction(connection):
        connection.execute("CREATE SCHEMA IF NOT EXISTS meta")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS meta.schema_migrations "
            "(version BIGINT NOT NULL, title VARCHAR NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"
        )
    current = version(connection)
    newest = max(m.version for m in migrations)
    if current > newest:
        raise WarehouseError(
            f"the warehouse has schema version {current}, this project knows versions up to "
            f"{newest}: update the project"
        )
    pending = sorted((m for m in migrations if m.version > current), key=lambda m: m.version)
    for migration in pending:
        with transaction(connection):
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute(
                "INSERT INTO meta.schema_migrations VALUES (?, ?, ?)",
                [migration.version, migration.title, now],
            )
    return pending


def version(connection: Connection) -> int:
    """The newest migration that was applied; 0 for an empty warehouse."""
    found = connection.execute(
        "SELECT coalesce(max(version), 0) FROM meta.schema_migrations"
    ).fetchone()
    assert found is not None
    return int(found[0])
