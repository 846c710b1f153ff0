"""Dagster's records of runs in the tests: the same SQLite files, written with less ado.

Dagster makes a new SQLAlchemy engine for every event that it stores, compiles each statement anew,
and opens and closes the file, which is then checkpointed; it asks each time which columns there
are; and for each step it starts four processes that copy what the step prints. Together that is
half of what a small run takes. Here a file keeps its engine for as long as the process lives, and
its connection for as long as an instance is open: no longer, so that a test may copy a home, remove
it, or look at it from another process. What is stored, and when it is committed, is the same.

What a run leaves in these files belongs to the tests.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import sqlalchemy
from alembic.script import ScriptDirectory
from dagster import DagsterInstance
from dagster._core.storage import local_compute_log_manager
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sqlalchemy.pool import NullPool, QueuePool

_STORAGES = (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage)
_engines: dict[str, sqlalchemy.Engine] = {}
_dispose = DagsterInstance.dispose


def keep_engines() -> None:
    """Let this process's instances keep their engines, and read Dagster's migrations but once."""
    for storage in _STORAGES:
        storage.create_engine = _kept_engine
    # By the file's settings, which Dagster keeps too: they are the same object for the same files.
    ScriptDirectory.from_config = cache(ScriptDirectory.from_config)
    DagsterInstance.dispose = _closing_files
    # All files are of the installed version, so they have what it asks them for.
    events = sqlite_event_log.SqliteEventLogStorage
    events.supports_asset_checks = True
    events._has_asset_key_col_on_connection = lambda *_: True
    local_compute_log_manager.mirror_stream_to_file = _not_copied


def _kept_engine(url: str, *, poolclass: type[sqlalchemy.Pool], **given: Any) -> sqlalchemy.Engine:
    assert poolclass is NullPool, f"{url}: its connections are not for us to keep"
    if url not in _engines:
        # One connection to keep; two instances of one home may ask at once, and then get another.
        pool = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": -1}
        engine = _engines[url] = sqlalchemy.create_engine(url, **pool, **given)
        # Dagster disposes of an engine after each use.
        engine.dispose = lambda close=True: None  # noqa: ARG005
    return _engines[url]


def _closing_files(instance: DagsterInstance) -> None:
    _dispose(instance)
    for engine in _engines.values():
        engine.pool.dispose()


@contextmanager
def _not_copied(*_: object) -> Iterator[None]:
    yield
