"""Opening the warehouse file: one process at a time, for as short as it takes.

DuckDB lets one process write and shuts out all others meanwhile, so each piece of work opens the
file, waits with backoff if someone else holds it, and closes it again.
"""

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from engagement_pipeline.settings import Settings

Connection = duckdb.DuckDBPyConnection

_LOCK_SIGNS = ("Could not set lock", "Conflicting lock")
_DAMAGE_SIGNS = ("not a valid DuckDB database", "Corrupt", "older version", "newer version")


class WarehouseError(RuntimeError):
    """The warehouse cannot be used; the text names the file and what to do."""


class WarehouseLockedError(WarehouseError):
    """Another process held the warehouse for longer than the time allowed."""


class DiskFullError(WarehouseError):
    """There is not enough free disk to work safely."""


@dataclass(frozen=True)
class Warehouse:
    """Where the warehouse is and how it is opened. Opens nothing by itself."""

    path: Path
    spool_folder: Path
    lock_timeout_seconds: float = 60
    memory_limit_mb: int = 2_048

    @classmethod
    def of(cls, settings: Settings) -> "Warehouse":
        return cls(
            settings.warehouse_path,
            settings.spool_folder,
            settings.lock_timeout_seconds,
            settings.memory_limit_mb,
        )

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """A connection that may write, closed at the end whatever happens.

        Raises:
            WarehouseLockedError: another process kept the file for `lock_timeout_seconds`.
            WarehouseError: the file is not a DuckDB database that this version reads.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.spool_folder.mkdir(parents=True, exist_ok=True)
        connection = self._wait_for_lock()
        try:
            configure(connection, self.spool_folder, self.memory_limit_mb)
            yield connection
        finally:
            connection.close()

    def _wait_for_lock(self) -> Connection:
        deadline = time.monotonic() + self.lock_timeout_seconds
        pause = 0.05
        while True:
            try:
                return duckdb.connect(str(self.path))
            except duckdb.Error as error:
                text = str(error)
                if not any(sign in text for sign in _LOCK_SIGNS):
                    raise WarehouseError(_cannot_open(self.path, text)) from None
                if time.monotonic() + pause > deadline:
                    raise WarehouseLockedError(
                        f"{self.path}: another process has held the warehouse for "
                        f"{self.lock_timeout_seconds:g} s, so nothing was done. DuckDB says: "
                        f"{_first_line(text)}. Wait for it to end, or raise lock_timeout_seconds."
                    ) from None
            # Jitter keeps two waiting processes from trying in step; it decides nothing else.
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 1.0)


def configure(connection: Connection, spool_folder: Path, memory_limit_mb: int) -> None:
    """Settings that every connection of ours has, whatever the machine's own are."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"SET memory_limit = '{memory_limit_mb}MB'")
    connection.execute("SET temp_directory = ?", [str(spool_folder)])


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """One unit of work: all of it lands, or nothing."""
    connection.execute("BEGIN TRANSACTION")
    try:
        yield connection
    except BaseException:
        # A failed statement may already have ended the transaction.
        with _ignored(duckdb.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def _ignored(*kinds: type[BaseException]) -> Iterator[None]:
    try:
        yield
    except kinds:
        return


def check_free_disk(folder: Path, min_free_mb: int) -> None:
    """Refuse to start where the disk is nearly full.

    Raises:
        DiskFullError: names the folder, what is needed and what is free.
    """
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free_mb = shutil.disk_usage(existing).free // 1_000_000
    if free_mb < min_free_mb:
        raise DiskFullError(
            f"{folder}: expected at least {min_free_mb} MB of free disk, found {free_mb} MB. "
            "Nothing was done. Free some, or lower min_free_disk_mb."
        )


def _cannot_open(path: Path, text: str) -> str:
    hint = (
        " The file is damaged or of another DuckDB version: put back a copy, or move it away and "
        "run again to rebuild it from the source."
        if any(sign in text for sign in _DAMAGE_SIGNS)
        else ""
    )
    return f"{path}: cannot be opened as the warehouse: {_first_line(text)}.{hint}"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].rstrip(".")
