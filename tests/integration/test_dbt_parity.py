"""The folder is a real dbt project: dbt builds the same marts from it, and its own tests pass."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from engagement_pipeline.contracts import contract
from engagement_pipeline.settings import PROJECT_FOLDER
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.publication import Publication
from engagement_pipeline.warehouse.published import open_published
from engagement_pipeline.warehouse.sql_models import SqlProject


def _has_dbt() -> bool:
    try:
        return all(importlib.util.find_spec(name) for name in ("dbt.cli", "dbt.adapters.duckdb"))
    except ModuleNotFoundError:
        return False


pytestmark = pytest.mark.skipif(
    not _has_dbt(),
    reason="dbt-core and dbt-duckdb are not installed (pip install -e '.[dbt]')",
)


def run_dbt(folder: Path, warehouse: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """dbt as an analyst would run it, on a copy of the folder: it writes beside the models."""
    return subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", *arguments, "--profiles-dir", str(folder)],
        cwd=folder,
        env=os.environ
        | {
            "ENGAGEMENT_WAREHOUSE": str(warehouse),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DBT_USE_COLORS": "false",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


@contextmanager
def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(str(path), read_only=True)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


@pytest.fixture(scope="module")
def dbt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dbt") / "dbt_like_sql"
    ignored = shutil.ignore_patterns("target", "logs")
    shutil.copytree(PROJECT_FOLDER / "dbt_like_sql", folder, ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def built_by_dbt(
    dbt_folder: Path, make_seeded_world: Callable[[int], Any]
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    warehouse = dbt_folder.parent / "warehouse.duckdb"
    make_seeded_world(11).write(warehouse)
    return warehouse, run_dbt(dbt_folder, warehouse, "build")


def test_dbt_accepts_the_project_and_all_its_tests_pass_there(
    built_by_dbt: tuple[Path, subprocess.CompletedProcess[str]], sql_project: SqlProject
) -> None:
    _, outcome = built_by_dbt
    assert outcome.returncode == 0, outcome.stdout[-5_000:] + outcome.stderr[-2_000:]
    done = len(sql_project.models) + len(sql_project.tests)
    assert f"PASS={done} WARN=0 ERROR=0 SKIP=0" in outcome.stdout
    assert "eprecat" not in outcome.stdout


def test_every_mart_is_the_same_row_for_row(
    built_by_dbt: tuple[Path, subprocess.CompletedProcess[str]],
    make_seeded_world: Callable[[int], Any],
    build_marts: Callable[[Any], Publication],
    sql_project: SqlProject,
) -> None:
    warehouse, _ = built_by_dbt
    published = build_marts(make_seeded_world(11))
    assert {m.full_name for m in published.marts} == {m.full_name for m in sql_project.tables}
    with opened(warehouse) as theirs, open_published(published.path) as ours:
        for mart in published.marts:
            names = ", ".join(f'"{name}"' for name in contract(mart.full_name).column_names)
            frames: list[pl.DataFrame] = [
                query(connection, f"SELECT {names} FROM {mart.full_name} ORDER BY ALL")
                for connection in (theirs, ours)
            ]
            assert frames[0].height > 0
            assert_frame_equal(frames[0], frames[1], check_exact=True)


def test_a_test_that_fails_here_fails_in_dbt_too(
    dbt_folder: Path,
    make_seeded_world: Callable[[int], Any],
    tmp_path: Path,
) -> None:
    world = make_seeded_world(12)
    world.rows("scores.classifications")[0]["level"] = "thrilled"
    world.write(tmp_path / "warehouse.duckdb")
    outcome = run_dbt(dbt_folder, tmp_path / "warehouse.duckdb", "build")
    assert outcome.returncode == 1
    assert "accepted_values_engagement_history_computed_level" in outcome.stdout
