"""A warehouse that takes in a source and learns from it, without Dagster and without publishing.

For what is about the loops alone, and has to be done often.
"""

import logging
from datetime import datetime

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.drawing import draw
from engagement_pipeline.defs.guidance import guides_at
from engagement_pipeline.defs.ingestion import ingest_table
from engagement_pipeline.defs.learning import Learned, Learning
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.ingest.source import INPUT_TABLES, discover
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.classifications import stored_orgs
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.frames import append
from engagement_pipeline.warehouse.schema import upgrade

_LOG = logging.getLogger("taken in")


def take_in(settings: Settings, now: datetime) -> None:
    """Load the new files of the source, as the job `refresh` does."""
    found = discover(settings.source_folder)
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=now)
        for table in INPUT_TABLES:
            files = found.files[table]
            progress = Progress(_LOG, table, len(files), "files")  # type: ignore[arg-type]
            taken = ingest_table(
                connection,
                contract(f"raw.{table}"),
                files,
                settings=settings,
                now=now,
                progress=progress,
            )
            assert taken.problems == []


def learn(
    settings: Settings, as_of: datetime, *archetypes: str, plans_digests: bool = False
) -> dict[str, Learned]:
    """Draw signals and learn these loops, as the tuning jobs do; then plan digests, if asked to."""
    with Warehouse.of(settings).open() as connection:
        assert draw(connection, settings, as_of=as_of, computed_at=as_of).failed == {}
        learning = learning_at(connection, settings, as_of)
        learned = {archetype: learning.learn(archetype) for archetype in archetypes}
        if plans_digests:
            learning.plan_digests()
    return learned


def learning_at(connection: Connection, settings: Settings, as_of: datetime) -> Learning:
    """The learning of one moment, on an open warehouse from which signals have been drawn."""
    orgs = {org.org_id: org for org in stored_orgs(connection)}
    guides = guides_at(connection, settings, as_of=as_of)
    return Learning(connection, settings, guides, orgs, as_of, as_of)


def rows(settings: Settings, sql: str) -> list[dict[str, object]]:
    """Rows of a query on the warehouse."""
    with Warehouse.of(settings).open() as connection:
        return pl.DataFrame(connection.sql(sql)).to_dicts()


def put(settings: Settings, table: str, given: list[dict[str, object]]) -> None:
    """Put rows into a table of the warehouse; what they leave out is null."""
    frame = pl.DataFrame(given, schema=contract(table).polars_schema)
    with Warehouse.of(settings).open() as connection:
        append(connection, table, contract(table).validate(frame))
