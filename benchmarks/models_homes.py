"""Homes of a study: a folder of its own in which the project runs as a person would have it run.

What is measured in a home belongs to the studies.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from engagement_pipeline.settings import ENV_PREFIX, Settings, load_settings

A_MODEL_SERVES = ("behavior", "predictions"), "a_model_serves"
MODELS_WIN = ("behavior", "trainings"), "models_beat_their_baselines"


@dataclass(frozen=True)
class Home:
    """A home folder with a source, and how the project is told of both."""

    settings: Settings

    def run(self, as_of: datetime) -> None:
        """What `engagement run` does."""
        from engagement_pipeline.terminal import daily

        _demand(daily.run(self.settings, as_of=as_of.isoformat(), org_ids=()))

    def train(self, as_of: datetime, *, min_samples: int | None = None, **variables: str) -> None:
        """What `engagement train-models` does, with these settings in the environment."""
        from engagement_pipeline.terminal import behavior

        with environment(variables):
            at = as_of.isoformat()
            _demand(behavior.train(self.settings, min_samples=min_samples, as_of=at))

    def rows(self, sql: str) -> pl.DataFrame:
        """Rows of a query on the warehouse."""
        from engagement_pipeline.warehouse.connection import Warehouse
        from engagement_pipeline.warehouse.frames import query

        with Warehouse.of(self.settings).open() as connection:
            return query(connection, sql)

    def trained(self, target: str) -> tuple[dict[str, Any], pl.DataFrame]:
        """The row of `behavior.trainings` that was written last, and its figures."""
        own = f"WHERE target = '{target}'"
        training = self.rows(
            f"SELECT * FROM behavior.trainings {own} ORDER BY computed_at DESC, as_of DESC LIMIT 1"
        ).row(0, named=True)
        metrics = self.rows(f"SELECT * FROM behavior.model_metrics {own} ORDER BY ALL")
        return training, metrics.filter(pl.col("as_of") == training["as_of"])

    def check(self, which: tuple[tuple[str, str], str]) -> tuple[bool, str]:
        """Whether a check passed the last time, and what it said."""
        import dagster as dg

        from engagement_pipeline.terminal.running import dagster_instance

        path, name = which
        key = dg.AssetCheckKey(dg.AssetKey(list(path)), name)
        with dagster_instance(self.settings) as instance:
            (last,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        found = last.event.dagster_event.asset_check_evaluation_data  # type: ignore[union-attr]
        return found.passed, found.description or ""


def home_at(folder: Path, source: Path) -> Home:
    """A home in a folder, whose source is another."""
    return Home(load_settings(home=folder, source=source, profile="test", classifier="rules"))


@contextmanager
def temporary_home(source: Path) -> Iterator[Home]:
    """A home that is gone afterwards, whatever this machine's own settings are."""
    with tempfile.TemporaryDirectory(prefix="models-") as folder, environment({}):
        yield home_at(Path(folder), source)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment with these of our settings and no others; as it was afterwards."""
    before = dict(os.environ)
    kept = ("ENGAGEMENT_HOME",) if variables else ()
    for name in [n for n in before if n.startswith(ENV_PREFIX) and n not in kept]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _demand(outcome: Any) -> None:
    if outcome.failures:
        raise SystemExit("; ".join(outcome.failures))
