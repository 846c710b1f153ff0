"""A home folder of its own for a test, and what is in its files afterwards."""

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import duckdb
import polars as pl
import pytest

from engagement_pipeline.settings import Settings, load_settings
from engagement_pipeline.terminal import daily
from engagement_pipeline.terminal.running import dagster_instance, run_job
from tests.dagster_records import keep_engines

keep_engines()

# When something was written is the clock's, and no two runs share it.
CLOCK_COLUMNS = {"computed_at", "ingested_at", "recorded_at", "run_id"}


def settings_of(home: Path, source: Path, **given: object) -> Settings:
    """Settings of a home folder whose source is `source`."""
    return load_settings(home=home, source=source, profile="test", **given)


def run_pipeline(settings: Settings, as_of: datetime, *org_ids: str) -> daily.Outcome:
    """What `engagement run` does."""
    return daily.run(settings, as_of=as_of.isoformat(), org_ids=org_ids)


def run_unpublished(
    settings: Settings, as_of: datetime, *org_ids: str, waits: bool = True
) -> daily.Outcome:
    """What `engagement run` does but for the marts, half of the time it takes; for what is to
    have happened before a run."""
    # The definitions take a second to load, which who only wants settings need not wait for.
    from engagement_pipeline.definitions import defs
    from engagement_pipeline.defs.marts import publish_marts

    def without_marts(name: str) -> dg.JobDefinition:
        job = defs.resolve_job_def(name)
        return job.get_subset(asset_selection=job.asset_layer.selected_asset_keys - marts)

    marts, jobs = publish_marts.keys, SimpleNamespace(resolve_job_def=without_marts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engagement_pipeline.definitions.defs", jobs)
        outcome = daily.run(
            settings, as_of=as_of.isoformat(), org_ids=org_ids, waits_for_batches=waits
        )
    assert not outcome.has_published
    return outcome


def refresh(settings: Settings, as_of: datetime) -> None:
    """Take in the source and compute the signals, and no more."""
    options = {
        "home": str(settings.home),
        "source": str(settings.source_folder),
        "as_of": as_of.isoformat(),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGAGEMENT_HOME", str(settings.home))
        patch.setenv("DAGSTER_HOME", str(settings.home / ".dagster"))
        patch.setenv("ENGAGEMENT_PROFILE", "test")
        with dagster_instance(settings) as instance:
            assert run_job(instance, "refresh", options=options).failures == ()


def tables(path: Path, *schemas: str) -> dict[str, pl.DataFrame]:
    """Every table of a DuckDB file in these schemas, sorted, without the clock's columns."""
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        names = connection.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() "
            "WHERE list_contains(?, schema_name) ORDER BY ALL",
            [list(schemas)],
        ).fetchall()
        found = {}
        for (name,) in names:
            frame = pl.DataFrame(connection.sql(f"SELECT * FROM {name} ORDER BY ALL"))
            kept = frame.drop(CLOCK_COLUMNS & set(frame.columns))
            found[name] = kept.sort(kept.columns) if kept.width else kept
        return found


def published(settings: Settings, sql: str) -> list[tuple[object, ...]]:
    """Rows of a query on the published file."""
    with duckdb.connect(str(settings.published_path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(sql).fetchall()


def stored(settings: Settings, sql: str) -> list[tuple[object, ...]]:
    """Rows of a query on the warehouse."""
    with duckdb.connect(str(settings.warehouse_path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(sql).fetchall()
