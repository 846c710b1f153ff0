"""Write, audit, publish: the marts become a new file, are checked there, and replace yesterday's.

The published file changes by one atomic rename, the last thing that happens: whatever fails or is
killed before leaves yesterday's file, and what was left lying about is cleared by the next publish.
The Parquet copies are renamed one by one just before it: a kill among them leaves some of today
beside some of yesterday, each complete and checked, until the next publish.
What the marts are is in the SQL models, what they must keep in `audit`, reading them in
`published`.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.warehouse.audit import (
    AuditError,
    CheckResult,
    planned_checks,
    run_checks,
)
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.retention import remove_snapshots
from engagement_pipeline.warehouse.sql_models import SqlModel, SqlProject, relation

_BUILDING = "engagement_building"
"""The new file's name as a catalog, and its ending as a file."""
_UNFINISHED = ".building"


class PublicationError(RuntimeError):
    """The marts cannot be built or put in place; the text names the mart or file and why."""


@dataclass(frozen=True)
class PublishedMart:
    """One mart as it was published."""

    full_name: str
    rows: int
    parquet_path: Path
    parquet_bytes: int


@dataclass(frozen=True)
class Publication:
    """What a publish put in place."""

    path: Path
    bytes: int
    marts: tuple[PublishedMart, ...]
    checks: tuple[CheckResult, ...]
    snapshot_path: Path
    removed_snapshots: tuple[Path, ...]


def publish(
    connection: Connection,
    project: SqlProject,
    *,
    published_path: Path,
    keep_snapshots: int,
    as_of: datetime | None,
    published_at: datetime,
    parquet_folder: Path | None = None,
    history_folder: Path | None = None,
    before_swap: Callable[[], None] = lambda: None,
) -> Publication:
    """Build all marts from the warehouse, check them, and swap the new file in.

    One publish at a time: the caller's connection holds the warehouse, and that keeps others out.

    Args:
        connection: the warehouse, in no transaction.
        project: the SQL models.
        published_path: the file that analysts open.
        keep_snapshots: published files kept in the history folder, this one included.
        as_of: the moment the marts show; none before the first scoring. With `published_at`, now,
            it names the snapshot.
        parquet_folder, history_folder: default `parquet` and `history` beside the file.
        before_swap: called when all is ready but the rename.

    Raises:
        AuditError: a check failed. Yesterday's file, Parquet and snapshots are as they were.
        PublicationError: a mart's SQL fails, or its columns are not those of its contract.
    """
    parquet = parquet_folder or published_path.parent / "parquet"
    history = history_folder or published_path.parent / "history"
    building = _unfinished(published_path)
    snapshot = history / _snapshot_name(as_of, published_at)
    with _nothing_unfinished(published_path.parent, parquet, history):
        create_views(connection, project)
        checks = _audited(connection, project, building)
        marts = _finished(connection, project, building, parquet)
        size = building.stat().st_size
        for mart in marts:
            _replace(_unfinished(mart.parquet_path), mart.parquet_path)
        _keep_copy(building, snapshot)
        before_swap()
        # Left by someone who opened the old file for writing, it would be played into the new one.
        Path(f"{published_path}.wal").unlink(missing_ok=True)
        _replace(building, published_path)
    return Publication(
        path=published_path,
        bytes=size,
        marts=tuple(marts),
        checks=tuple(checks),
        snapshot_path=snapshot,
        removed_snapshots=tuple(remove_snapshots(history, keep=keep_snapshots, newest=snapshot)),
    )


def create_views(connection: Connection, project: SqlProject) -> None:
    """Make the project's views in the warehouse anew, and drop those that it no longer has."""
    schemas = sorted({view.schema for view in project.views})
    current = {view.full_name for view in project.views}
    with transaction(connection):
        for schema in schemas:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            found = connection.execute(
                "SELECT view_name FROM duckdb_views() WHERE schema_name = ? "
                "AND database_name = current_database()",
                [schema],
            ).fetchall()
            for (name,) in found:
                if f"{schema}.{name}" not in current:
                    connection.execute(f"DROP VIEW {relation(f'{schema}.{name}')}")
        for view in project.views:
            with _named(view.full_name):
                connection.execute(
                    f"CREATE OR REPLACE VIEW {relation(view.full_name)} AS {project.sql(view.name)}"
                )


def _audited(connection: Connection, project: SqlProject, building: Path) -> list[CheckResult]:
    """Build the new file and check it; raises `AuditError` if any check fails."""
    broken = None
    try:
        _build(connection, project, building, is_strict=True)
    except duckdb.ConstraintException as error:
        # A null where none may be, or a key twice: DuckDB names the first such row and stops.
        # Without constraints the audit can name all that is wrong.
        broken = error
        _build(connection, project, building, is_strict=False)
    with _attached(connection, building):
        results = run_checks(connection, planned_checks(project, _catalogs(project)))
    if not all(result.passed for result in results):
        raise AuditError(results)
    if broken is not None:
        raise PublicationError(f"the marts break a constraint that no check knows: {broken}")
    return results


def _build(connection: Connection, project: SqlProject, building: Path, *, is_strict: bool) -> None:
    _clear_unfinished(building.parent)
    with _attached(connection, building), transaction(connection):
        for schema in sorted({model.schema for model in project.tables}):
            connection.execute(f"CREATE SCHEMA {_BUILDING}.{schema}")
        for model in project.tables:
            with _named(model.full_name):
                _build_mart(connection, project, model, is_strict=is_strict)


def _build_mart(
    connection: Connection, project: SqlProject, model: SqlModel, *, is_strict: bool
) -> None:
    """One mart as a table of the new file, its rows in the order of its key."""
    promised = _contract_of(model)
    catalogs = _catalogs(project)
    target = relation(model.full_name, catalogs)
    # The break keeps a comment on the model's last line from swallowing what follows.
    select = f"SELECT * FROM (\n{project.sql(model.name, catalogs)}\n) AS model"
    given = [column[0] for column in connection.execute(f"{select} LIMIT 0").description or []]
    if set(given) != set(promised.column_names):
        # Inserted BY NAME, a column that is missing would silently be null.
        raise PublicationError(
            f"{model.path}: expected the columns of the contract of {model.full_name}; "
            f"missing {sorted(set(promised.column_names) - set(given))}, "
            f"unknown {sorted(set(given) - set(promised.column_names))}"
        )
    if is_strict:
        connection.execute(promised.ddl(target))
    else:
        columns = ", ".join(f'"{c.name}" {c.sql_type}' for c in promised.columns)
        connection.execute(f"CREATE TABLE {target} ({columns})")
    order = ", ".join(f'"{name}"' for name in promised.key) or "ALL"
    connection.execute(f"INSERT INTO {target} BY NAME {select} ORDER BY {order}")
    for statement in promised.comments(target):
        connection.execute(statement)


def _contract_of(model: SqlModel) -> Contract:
    try:
        return contract(model.full_name)
    except KeyError:
        raise PublicationError(f"{model.path}: {model.full_name} has no contract") from None


def _catalogs(project: SqlProject) -> dict[str, str]:
    return {model.schema: _BUILDING for model in project.tables}


@contextmanager
def _attached(connection: Connection, building: Path) -> Iterator[None]:
    quoted = str(building).replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS {_BUILDING}")
    try:
        yield
    finally:
        connection.execute(f"DETACH {_BUILDING}")


@contextmanager
def _named(full_name: str) -> Iterator[None]:
    """Put the model's name to what DuckDB says; broken constraints pass, the audit names them."""
    try:
        yield
    except duckdb.ConstraintException:
        raise
    except duckdb.Error as error:
        raise PublicationError(f"{full_name}: {str(error).strip()}") from None


def _finished(
    connection: Connection, project: SqlProject, building: Path, parquet: Path
) -> list[PublishedMart]:
    """Write the marts as unfinished Parquet, and have the new file whole on the disk."""
    with _attached(connection, building):
        marts = [_export(connection, model, parquet) for model in project.tables]
        connection.execute(f"CHECKPOINT {_BUILDING}")
    # Only now that DuckDB has let go of it: closing a file that it has open drops its lock.
    _sync(building)
    return marts


def _export(connection: Connection, model: SqlModel, parquet: Path) -> PublishedMart:
    """Write a mart as Parquet beside where it will be, in the order of its rows."""
    table = relation(model.full_name, {model.schema: _BUILDING})
    path = parquet / model.name / f"{model.name}.parquet"
    path.parent.mkdir(exist_ok=True)
    unfinished = _unfinished(path)
    quoted = str(unfinished).replace("'", "''")
    connection.execute(f"COPY {table} TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)")
    _sync(unfinished)
    found = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0]
    assert found is not None
    return PublishedMart(model.full_name, int(found[0]), path, unfinished.stat().st_size)


def _keep_copy(building: Path, snapshot: Path) -> None:
    """Give the new file a second name: a published file is never written to, only renamed."""
    unfinished = _unfinished(snapshot)
    try:
        unfinished.hardlink_to(building)
    except OSError:
        # Not every file system has hard links, and the history may be on another one.
        subprocess.run(["cp", "--", str(building), str(unfinished)], check=True)
        _sync(unfinished)
    _replace(unfinished, snapshot)


def _snapshot_name(as_of: datetime | None, published_at: datetime) -> str:
    moment = f"{as_of.astimezone(UTC):%Y%m%dT%H%M%SZ}" if as_of else "unscored"
    return f"engagement-{moment}-{published_at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}.duckdb"


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + _UNFINISHED)


@contextmanager
def _nothing_unfinished(*folders: Path) -> Iterator[None]:
    """Begin without what a killed publish left in these folders, and end without leavings."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        _clear_unfinished(folder)
    try:
        yield
    finally:
        for folder in folders:
            _clear_unfinished(folder)


def _clear_unfinished(folder: Path) -> None:
    """Remove unfinished files in the folder and in the folders in it."""
    for pattern in (f"*{_UNFINISHED}", f"*{_UNFINISHED}.wal"):
        for path in [*folder.glob(pattern), *folder.glob(f"*/{pattern}")]:
            path.unlink(missing_ok=True)


def _replace(unfinished: Path, path: Path) -> None:
    unfinished.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Have the disk hold a file's bytes, or a folder's names, before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
