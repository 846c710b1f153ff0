"""A pipeline on the small source, in a real instance: not run yet, or run once."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal.daily import Outcome
from tests.home import run_pipeline, settings_of
from tests.small_source import AS_OF, write_small_source


@dataclass
class Pipeline:
    settings: Settings
    source: Path
    outcome: Outcome

    def run(self, *org_ids: str) -> Outcome:
        self.outcome = run_pipeline(self.settings, AS_OF, *org_ids)
        return self.outcome


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The small source, not run yet; Dagster's and the project's home are the test's."""
    home = tmp_path / "home"
    monkeypatch.setenv("ENGAGEMENT_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / ".dagster"))
    source = write_small_source(tmp_path / "source")
    return Pipeline(settings_of(home, source), source, Outcome([], 0.0))


@pytest.fixture(scope="session")
def home_run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has run once on the small source, to copy: a run takes seconds, a copy none."""
    folder = tmp_path_factory.mktemp("run_once")
    home = folder / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGAGEMENT_HOME", str(home))
        patch.setenv("DAGSTER_HOME", str(home / ".dagster"))
        source = write_small_source(folder / "source")
        assert run_pipeline(settings_of(home, source), AS_OF).failures == []
    return home


@pytest.fixture
def ran(pipeline: Pipeline, home_run_once: Path) -> Pipeline:
    """The small source, run once; for tests of what comes after a first run."""
    shutil.copytree(home_run_once, pipeline.settings.home)
    return pipeline
