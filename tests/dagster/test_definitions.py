"""What Dagster finds, and what it is told of it."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from engagement_pipeline.contracts import Contract, contracts
from engagement_pipeline.definitions import defs
from engagement_pipeline.settings import PROJECT_FOLDER

_GRAPH = defs.resolve_asset_graph()
_NODES = {key: _GRAPH.get(key) for key in _GRAPH.get_all_asset_keys()}


def test_the_workspace_file_loads_in_a_fresh_interpreter(tmp_path: Path) -> None:
    dagster = Path(sys.executable).with_name("dagster")
    env = {**os.environ, "DAGSTER_HOME": str(tmp_path)}
    found = subprocess.run(
        [dagster, "definitions", "validate", "-w", "workspace.yaml"],
        cwd=PROJECT_FOLDER,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_jobs_schedules_and_sensors_have_the_names_that_people_know() -> None:
    repository = defs.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs()}
    assert {"refresh", "classify", "publish", "override_engagement", "clear_override"} <= jobs
    assert {"tune_thresholds", "tune_engagement", "accept_vocabulary"} <= jobs
    assert {"analyze_patterns", "train_models"} <= jobs
    assert {"schedule_outreach", "process_outreach", "check_milestones", "cleanup"} <= jobs
    assert {s.name for s in repository.schedule_defs} == {
        "daily_engagement",
        "weekly_thresholds",
        "weekly_engagement",
        "weekly_models",
        "frequent_patterns",
        "daily_milestones",
        "hourly_outreach",
        "frequent_deliveries",
        "monthly_cleanup",
    }
    assert {
        "classify_after_refresh",
        "new_source_files",
        "failed_partitions",
    } <= {s.name for s in repository.sensor_defs}


def test_the_daily_path_is_on_by_itself_at_four_utc() -> None:
    repository = defs.get_repository_def()
    schedule = repository.get_schedule_def("daily_engagement")
    assert schedule.cron_schedule == "0 4 * * *"
    assert schedule.execution_timezone == "UTC"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    for sensor in repository.sensor_defs:
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING, sensor.name


def test_learning_is_on_by_itself_on_mondays_thresholds_first() -> None:
    repository = defs.get_repository_def()
    for name, job, cron in (
        ("weekly_thresholds", "tune_thresholds", "0 5 * * 1"),
        ("weekly_engagement", "tune_engagement", "30 5 * * 1"),
    ):
        schedule = repository.get_schedule_def(name)
        assert (schedule.job_name, schedule.cron_schedule) == (job, cron)
        assert schedule.execution_timezone == "UTC"
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


@pytest.mark.parametrize(
    ("name", "job", "cron", "is_on"),
    [
        ("daily_milestones", "check_milestones", "0 2 * * *", True),
        ("monthly_cleanup", "cleanup", "30 3 1 * *", True),
        ("hourly_outreach", "schedule_outreach", "0 * * * *", False),
        ("frequent_deliveries", "process_outreach", "*/5 * * * *", False),
    ],
)
def test_what_reaches_members_is_off_until_someone_turns_it_on(
    name: str, job: str, cron: str, is_on: bool
) -> None:
    schedule = defs.get_repository_def().get_schedule_def(name)
    assert (schedule.job_name, schedule.cron_schedule) == (job, cron)
    assert schedule.execution_timezone == "UTC"
    assert (schedule.default_status == dg.DefaultScheduleStatus.RUNNING) == is_on


@pytest.mark.parametrize("key", sorted(_NODES), ids=lambda key: key.to_user_string())
def test_every_asset_says_what_it_is_and_whose(key: dg.AssetKey) -> None:
    node = _NODES[key]
    assert node.description
    assert node.owners
    assert node.group_name in {
        "ingest",
        "signals",
        "scoring",
        "behavior",
        "loops",
        "milestones",
        "outreach",
        "marts",
    }
    assert node.code_version
    assert node.kinds


@pytest.mark.parametrize("table", contracts(), ids=lambda table: table.full_name)
def test_every_table_shows_its_contracts_columns(table: Contract) -> None:
    node = _NODES[dg.AssetKey([table.schema, table.name])]
    schema = node.metadata["dagster/column_schema"]
    assert [column.name for column in schema.columns] == table.column_names
    assert all(column.description for column in schema.columns)


def test_marts_carry_their_column_lineage() -> None:
    node = _NODES[dg.AssetKey(["marts", "member_engagement"])]
    lineage = node.metadata["dagster/column_lineage"].deps_by_column
    assert (
        dg.TableColumnDep(dg.AssetKey(["raw", "profiles"]), "display_name")
        in lineage["display_name"]
    )


def test_every_step_that_opens_the_warehouse_waits_in_its_pool() -> None:
    steps = [assets for assets in _GRAPH.assets_defs if assets.is_executable]
    assert len(steps) >= 6
    for assets in steps:
        assert assets.op.pools == {"warehouse"}, assets.op.name


def test_the_launchpad_describes_every_field_of_an_override() -> None:
    job = defs.resolve_job_def("override_engagement")
    op = job.graph.node_named("set_override").definition
    fields = op.config_schema.config_type.fields
    assert {"org_id", "user_id", "level", "notes", "performed_by", "expires_at"} <= set(fields)
    assert all(field.description for field in fields.values())
