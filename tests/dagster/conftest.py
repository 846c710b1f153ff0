"""A pipeline that has run once on the small source, in a real instance."""

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
