"""The computations of a daily run with nothing around them: no checks, no Dagster, no publishing.

Each works on an open DuckDB connection whose default catalog is a warehouse after its first run.
"""

from datetime import datetime
from pathlib import Path

import duckdb
import polars as pl

from engagement_pipeline.scoring import OrgContext, RulesClassifier, Thresholds, score_org
from engagement_pipeline.settings import PROJECT_FOLDER
from engagement_pipeline.signals import SignalSources, member_signals
from engagement_pipeline.warehouse.signals import presence, slices
from engagement_pipeline.warehouse.sql_models import load_project


def load(connection: duckdb.DuckDBPyConnection, source: Path) -> None:
    """DuckDB's own reader into tables, unchecked."""
    for path in sorted(source.glob("*.parquet")):
        connection.execute(f"CREATE TABLE bare.{path.stem} AS SELECT * FROM read_parquet('{path}')")


def _as_of(connection: duckdb.DuckDBPyConnection) -> datetime:
    frame = pl.DataFrame(connection.sql("SELECT max(as_of) AS as_of FROM signals.snapshot"))
    moment: datetime = frame["as_of"].dt.convert_time_zone("UTC").item()
    return moment


def signals(connection: duckdb.DuckDBPyConnection) -> None:
    """The signals from frames in memory."""
    assert presence(connection, as_of=_as_of(connection)).has_notifications
    (frames,) = slices(connection, slice_rows=1 << 40)
    sources = SignalSources(**{k: v for k, v in frames.items() if k not in _ABSENT})
    found = member_signals(
        sources, as_of=_as_of(connection), significant_sections=["skills", "work_history"]
    )
    found.to_native().collect(engine="streaming")


_ABSENT = {"event_views", "interactions"}


def levels(connection: duckdb.DuckDBPyConnection) -> None:
    """The levels of each organisation, from its signals in memory."""
    as_of = _as_of(connection)
    frame = pl.DataFrame(connection.sql("SELECT * FROM signals.member_90d"))
    frame = frame.with_columns(pl.selectors.datetime().dt.convert_time_zone("UTC"))
    for (org_id,), members in frame.partition_by("org_id", as_dict=True).items():
        org = OrgContext(str(org_id), "x", None, Thresholds())
        score_org(org, members, RulesClassifier(), as_of=as_of, computed_at=as_of)


def marts(connection: duckdb.DuckDBPyConnection) -> None:
    """Each mart as a bare CREATE TABLE."""
    project = load_project(PROJECT_FOLDER / "dbt_like_sql")
    connection.execute("CREATE SCHEMA bare.marts")
    for model in project.tables:
        select = project.sql(model.name, {"marts": "bare"})
        connection.execute(f"CREATE TABLE bare.marts.{model.name} AS {select}")
