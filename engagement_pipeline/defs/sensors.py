"""What starts by itself when something happened: new files, a refresh done, orgs left failed."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from engagement_pipeline.defs.batches import has_news, open_batches, quick_way_of
from engagement_pipeline.defs.classifying import CLASSIFICATIONS
from engagement_pipeline.defs.jobs import (
    BEHAVIOR_JOBS,
    EXCLUSIVE_JOBS,
    MILESTONE_JOBS,
    TUNING_JOBS,
    classify,
    publish,
    refresh,
)
from engagement_pipeline.defs.partitions import ORGS, range_tags
from engagement_pipeline.defs.resources import PipelineResource
from engagement_pipeline.defs.runs import STARTED_BY_TAG, busy_with, inherited_options
from engagement_pipeline.ingest.watching import Look, look_at
from engagement_pipeline.warehouse import classifications as stored

_DAY_SECONDS = 86_400
_PATIENCE_SECONDS = 20


@dg.run_status_sensor(
    name="classify_after_refresh",
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[refresh],  # type: ignore[list-item]
    request_job=classify,  # type: ignore[arg-type]
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=5,
    description="Starts `classify` when `refresh` has succeeded.",
)
def classify_after_refresh(
    context: dg.RunStatusSensorContext,
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run over all organisations, or several over neighbouring ones."""
    run = context.dagster_run
    if run.tags.get(STARTED_BY_TAG) == "cli":
        yield dg.SkipReason("the terminal that ran `refresh` runs `classify` itself")
        return
    settings = PipelineResource().settings()
    keys = list(context.instance.get_dynamic_partitions(str(ORGS.name)))
    size = settings.orgs_per_run or max(len(keys), 1)
    for start in range(0, max(len(keys), 1), size):
        yield dg.RunRequest(
            run_key=f"{run.run_id}:{start}",
            job_name="classify",
            run_config=inherited_options(run),
            tags=range_tags(keys[start : start + size], keys),
        )


@dg.run_status_sensor(
    name="publish_after_change",
    run_status=dg.DagsterRunStatus.SUCCESS,
    request_job=publish,  # type: ignore[arg-type]
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=5,
    description="Starts `publish` when an override was set or cleared, something was learned, "
    "trained, described or reached, or organisations were classified anew by hand.",
)
def publish_after_change(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
    """What an admin or the data team changed by hand reaches the analysts at once."""
    run = context.dagster_run
    if run.tags.get(STARTED_BY_TAG) == "cli":
        return dg.SkipReason("a terminal publishes itself")
    has_changed = run.job_name in (
        "override_engagement",
        "clear_override",
        *TUNING_JOBS,
        *BEHAVIOR_JOBS,
        *MILESTONE_JOBS,
    )
    is_retry = run.job_name not in (*EXCLUSIVE_JOBS,) and CLASSIFICATIONS in (
        run.asset_selection or ()
    )
    if not (has_changed or is_retry):
        return dg.SkipReason(f"a run of {run.job_name} changes no level by hand")
    return dg.RunRequest(run_key=run.run_id, run_config=inherited_options(run))


@dg.sensor(
    name="new_source_files",
    job=refresh,  # type: ignore[arg-type]
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    description="Starts `refresh` when the source folder has a new or changed file.",
)
def new_source_files(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """The cursor is the content of all files, so that a touched file starts nothing."""
    folder = PipelineResource().settings().source_folder
    if not folder.is_dir():
        return dg.SkipReason(f"the source folder {folder} is not there")
    before = Look.of_text(context.cursor)
    look = look_at(folder, before)
    if before is not None and look.contents == before.contents:
        return dg.SensorResult(skip_reason=f"nothing new in {folder}", cursor=look.as_text())
    busy = busy_with(context.instance, *EXCLUSIVE_JOBS)
    if busy:
        return dg.SkipReason(busy)
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=look.contents)], cursor=look.as_text()
    )


@dg.sensor(
    name="failed_partitions",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=_DAY_SECONDS,
    asset_selection=dg.AssetSelection.assets(CLASSIFICATIONS),
    description="Once a day: lists the organisations that were left failed.",
)
def failed_partitions(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Starts nothing: a failure that nobody looked at would only fail again."""
    settings = PipelineResource().settings()
    if not settings.warehouse_path.exists():
        return dg.SkipReason("nothing has been classified yet")
    # Dagster gives a sensor a minute; a run that holds the warehouse may take longer.
    warehouse = replace(PipelineResource().warehouse(), lock_timeout_seconds=_PATIENCE_SECONDS)
    with warehouse.open() as connection:
        as_of = stored.shown_as_of(connection)
        failed = stored.failed_orgs(connection, as_of=as_of) if as_of else []
    if not failed:
        return dg.SkipReason("no organisation was left failed")
    listed = "; ".join(f"{run.org_id}: {run.error}" for run in failed)
    context.log.warning(f"left failed as of {as_of}: {listed}")
    return dg.SkipReason(f"{len(failed)} left failed as of {as_of}: {listed}")


@dg.sensor(
    name="collect_batches",
    job=classify,  # type: ignore[arg-type]
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    description="Starts `classify` when a batch of questions to the model has been answered.",
)
def collect_batches(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """A batch may take a day, so no run is held open for it: this one looks, a new run collects."""
    settings = PipelineResource().settings()
    if not settings.warehouse_path.exists():
        return dg.SkipReason("nothing has been classified yet")
    if busy := busy_with(context.instance, *EXCLUSIVE_JOBS):
        return dg.SkipReason(busy)
    batches = open_batches(settings, patience_seconds=_PATIENCE_SECONDS)
    if not batches:
        return dg.SkipReason("no batch is out")
    if not settings.has_api_key:
        return dg.SkipReason(f"{len(batches)} batches are out, and there is no ANTHROPIC_API_KEY")
    if not has_news(quick_way_of(settings), batches):
        return dg.SkipReason(f"{len(batches)} batches are out, none of them has been answered yet")
    keys = list(context.instance.get_dynamic_partitions(str(ORGS.name)))
    # Once an hour at most for the same batches: a run that fails would otherwise be started anew
    # with every look.
    hour = datetime.now(UTC).strftime("%Y-%m-%dT%H")
    return dg.RunRequest(
        run_key=":".join([*(batch["batch_key"] for batch in batches), hour]),
        run_config=_options_of(context.instance, str(batches[-1]["run_id"])),
        tags=range_tags(keys, keys),
    )


def _options_of(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """What the run that made a batch was started with, but for its moment: that has moved on."""
    run = instance.get_run_by_id(run_id)
    options: Any = copy.deepcopy(inherited_options(run)) if run else {}
    pipeline = options.get("resources", {}).get("pipeline", {}).get("config", {})
    pipeline.pop("as_of", None)
    return dict(options)


SENSORS = [
    classify_after_refresh,
    publish_after_change,
    new_source_files,
    failed_partitions,
    collect_batches,
]
