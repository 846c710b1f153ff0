"""What starts by itself, and what does not."""

import os
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from engagement_pipeline.definitions import defs
from engagement_pipeline.defs.partitions import ORGS
from engagement_pipeline.defs.runs import PROCESS_TAG, bury_dead_runs, busy_with, cli_tags
from engagement_pipeline.defs.schedules import daily_engagement
from engagement_pipeline.defs.sensors import (
    classify_after_refresh,
    failed_partitions,
    new_source_files,
)
from engagement_pipeline.terminal.running import dagster_instance
from tests.dagster.conftest import Pipeline
from tests.home import run_unpublished
from tests.small_source import AS_OF, write_table


def _new_files(instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    result = new_source_files(context)
    if isinstance(result, dg.SkipReason):
        return dg.SensorResult(skip_reason=result)
    assert isinstance(result, dg.SensorResult)
    return result


def test_new_content_starts_one_refresh_and_a_touched_file_none(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_SOURCE", str(pipeline.source))
    with dagster_instance(pipeline.settings) as instance:
        first = _new_files(instance, None)
        assert len(first.run_requests or []) == 1
        again = _new_files(instance, first.cursor)
        assert not again.run_requests
        os.utime(pipeline.source / "attendance.csv", ns=(1, 1))
        touched = _new_files(instance, first.cursor)
        assert not touched.run_requests
        write_table(pipeline.source, "events", ["event_id", "org_id", "starts_at"], [])
        changed = _new_files(instance, touched.cursor)
        assert len(changed.run_requests or []) == 1


def test_a_missing_source_folder_starts_nothing_and_says_so(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENGAGEMENT_SOURCE", str(tmp_path / "nowhere"))
    with dagster_instance(pipeline.settings) as instance:
        result = _new_files(instance, None)
        assert "nowhere" in str(result.skip_reason)


def _after_refresh(
    instance: dg.DagsterInstance, tags: dict[str, str], config: dict[str, object]
) -> list[dg.RunRequest | dg.SkipReason]:
    job = defs.resolve_job_def("refresh")
    run = instance.create_run_for_job(job, run_config=config, tags=tags)
    context = dg.build_run_status_sensor_context(
        sensor_name="classify_after_refresh",
        dagster_instance=instance,
        dagster_run=run,
        dagster_event=dg.DagsterEvent("PIPELINE_SUCCESS", "refresh"),
    )
    return list(classify_after_refresh(context))


def test_classify_follows_refresh_over_all_organisations_with_its_options(
    pipeline: Pipeline,
) -> None:
    config = {"resources": {"pipeline": {"config": {"source": str(pipeline.source)}}}}
    with dagster_instance(pipeline.settings) as instance:
        instance.add_dynamic_partitions(str(ORGS.name), ["a", "b", "c"])
        (request,) = _after_refresh(instance, {}, config)
        assert isinstance(request, dg.RunRequest)
        assert request.run_config == config
        assert request.tags["dagster/asset_partition_range_start"] == "a"
        assert request.tags["dagster/asset_partition_range_end"] == "c"


def test_a_smaller_number_of_organisations_a_run_spreads_them_over_several(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_ORGS_PER_RUN", "2")
    with dagster_instance(pipeline.settings) as instance:
        instance.add_dynamic_partitions(str(ORGS.name), ["a", "b", "c"])
        requests = _after_refresh(instance, {}, {})
        ranges = [
            (
                r.tags["dagster/asset_partition_range_start"],
                r.tags["dagster/asset_partition_range_end"],
            )
            for r in requests
            if isinstance(r, dg.RunRequest)
        ]
        assert ranges == [("a", "b"), ("c", "c")]


def test_a_terminal_that_classifies_itself_starts_no_second_run(pipeline: Pipeline) -> None:
    with dagster_instance(pipeline.settings) as instance:
        (found,) = _after_refresh(instance, cli_tags(), {})
        assert isinstance(found, dg.SkipReason)


def _in_progress(instance: dg.DagsterInstance, tags: dict[str, str]) -> dg.DagsterRun:
    run = instance.create_run_for_job(defs.resolve_job_def("refresh"), tags=tags)
    instance.handle_run_event(run.run_id, dg.DagsterEvent("PIPELINE_START", "refresh"))
    return run


def test_the_schedule_skips_while_a_refresh_is_at_work(pipeline: Pipeline) -> None:
    with dagster_instance(pipeline.settings) as instance:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=None)
        run = _in_progress(instance, {})
        found = daily_engagement(context)
        assert isinstance(found, dg.SkipReason)
        assert run.run_id in (found.skip_message or "")


def test_a_run_whose_process_was_killed_is_buried_and_blocks_nothing(pipeline: Pipeline) -> None:
    with dagster_instance(pipeline.settings) as instance:
        mine = _in_progress(instance, cli_tags())
        host, pid, _ = cli_tags()[PROCESS_TAG].split(":")
        dead = _in_progress(instance, {PROCESS_TAG: f"{host}:{pid}:0"})
        assert [run.run_id for run in bury_dead_runs(instance)] == [dead.run_id]
        found = instance.get_run_by_id(dead.run_id)
        assert found is not None
        assert found.status == DagsterRunStatus.FAILURE
        assert mine.run_id in (busy_with(instance, "refresh") or "")


def test_the_daily_look_names_the_organisations_left_failed(pipeline: Pipeline) -> None:
    write_table(
        pipeline.source,
        "org_settings",
        ["org_id", "setting", "value"],
        [["runners", "moderate_min", "9"]],
    )
    assert run_unpublished(pipeline.settings, AS_OF).failures
    with dagster_instance(pipeline.settings) as instance:
        found = failed_partitions(dg.build_sensor_context(instance=instance))
        assert isinstance(found, dg.SkipReason)
        assert "runners" in (found.skip_message or "")
        assert "choir" not in (found.skip_message or "")
