"""Dagster's records of runs in the tests: the same SQLite files, written with less ado.

Dagster makes a new SQLAlchemy engine for every event that it stores, so each statement is compiled
anew: a third of what a small run takes. Here a file keeps its engine for as long as the process
lives. Engines pool no connection, so nothing stays open: a test may copy a home, remove it, or look
at it from another process. What is stored, and when it is committed, is the same.

What a run leaves in these files belongs to the tests.
"""

from functools import cache
from typing import Any

import sqlalchemy
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

_STORAGES = (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage)
_engines: dict[str, sqlalchemy.Engine] = {}


def keep_engines() -> None:
    """Let this process's instances keep their engines, and read Dagster's migrations but once."""
    for storage in _STORAGES:
        storage.create_engine = _kept_engine
    # By the file's settings, which Dagster keeps too: they are the same object for the same files.
    ScriptDirectory.from_config = cache(ScriptDirectory.from_config)


def _kept_engine(url: str, *, poolclass: type[sqlalchemy.Pool], **given: Any) -> sqlalchemy.Engine:
    assert poolclass is sqlalchemy.NullPool, f"{url}: a kept engine would keep its connections"
    if url not in _engines:
        engine = _engines[url] = sqlalchemy.create_engine(url, poolclass=poolclass, **given)
        # Dagster disposes of an engine after each use; this one has no connection to close.
        engine.dispose = lambda close=True: None  # noqa: ARG005
    return _engines[url]
