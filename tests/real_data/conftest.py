"""Homes where the pipeline ran on public data. The data is not ours to ship: tests skip without."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engagement_pipeline.contracts.signals import SIGNAL_COLUMNS
from engagement_pipeline.settings import PROJECT_FOLDER, Settings
from tests.home import published, run_pipeline, settings_of, stored

DATA = PROJECT_FOLDER.parent / "shared" / "data"


@dataclass
class RealHome:
    """A home folder of its own, whose source is one of the data sets."""

    settings: Settings
    source: Path

    def run(self, as_of: datetime) -> None:
        assert run_pipeline(self.settings, as_of).failures == []

    def raw_rows(self, *tables: str) -> dict[str, int]:
        return {
            table: stored(self.settings, f"SELECT count(*) FROM raw.{table}")[0][0]  # type: ignore[misc]
            for table in tables
        }

    def rejects(self) -> dict[tuple[object, ...], object]:
        rows = stored(
            self.settings, "SELECT table_name, reason, count(*) FROM raw.rejects GROUP BY ALL"
        )
        return {(table, reason): count for table, reason, count in rows}

    def signals(self, as_of: datetime) -> dict[tuple[str, str], dict[str, Any]]:
        """The signals that the levels of this moment were given for."""
        columns = ", ".join(SIGNAL_COLUMNS)
        rows = stored(
            self.settings,
            f"SELECT org_id, user_id, {columns} FROM scores.classifications "
            f"WHERE as_of = '{as_of.isoformat()}'",
        )
        return {
            (str(org), str(user)): dict(zip(SIGNAL_COLUMNS, values, strict=True))
            for org, user, *values in rows
        }

    def levels(self, as_of: datetime) -> dict[tuple[str, str], tuple[object, object]]:
        rows = stored(
            self.settings,
            "SELECT org_id, user_id, level, reason FROM scores.classifications "
            f"WHERE as_of = '{as_of.isoformat()}'",
        )
        return {(str(org), str(user)): (level, reason) for org, user, level, reason in rows}

    def shown_levels(self) -> dict[tuple[str, str], object]:
        """What analysts read of the moment that is shown."""
        rows = published(
            self.settings, "SELECT org_id, user_id, effective_level FROM marts.member_engagement"
        )
        return {(str(org), str(user)): level for org, user, level in rows}


@pytest.fixture(scope="module")
def real_home(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], RealHome]]:
    """Makes a home for a data set; skips where the set is not there."""
    with pytest.MonkeyPatch.context() as patch:

        def make(name: str) -> RealHome:
            source = DATA / name
            if not source.is_dir():
                pytest.skip(f"{source} is not there")
            home = tmp_path_factory.mktemp(name)
            for variable in [v for v in os.environ if v.startswith("ENGAGEMENT_")]:
                patch.delenv(variable)
            patch.setenv("ENGAGEMENT_HOME", str(home))
            patch.setenv("DAGSTER_HOME", str(home / ".dagster"))
            return RealHome(settings_of(home, source), source)

        yield make
