"""The daily run from a terminal: refresh, classify and publish, and what came of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from engagement_pipeline.defs.batches import has_news, open_batches, quick_way_of
from engagement_pipeline.defs.classifying import CLASSIFICATIONS
from engagement_pipeline.defs.partitions import ORGS, org_id_of
from engagement_pipeline.defs.resources import parse_moment
from engagement_pipeline.defs.runs import bury_dead_runs
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal import reading, showing
from engagement_pipeline.terminal.plan import check_source, due_org_ids
from engagement_pipeline.terminal.running import JobRun, dagster_instance, org_tags, run_job, turn
from engagement_pipeline.warehouse import llm
from engagement_pipeline.warehouse.connection import Warehouse, check_free_disk
from engagement_pipeline.warehouse.published import NotPublishedError

Row = dict[str, Any]


@dataclass
class Outcome:
    """What a run did: its jobs, what failed, and what is published now.

    Attributes:
        has_published: whether it got as far as publishing; else what is published is from before.
        waiting: organisations whose levels wait for a batch.
    """

    jobs: list[JobRun]
    seconds: float
    published: list[Row] = field(default_factory=list)
    levels: list[Row] = field(default_factory=list)
    rejects: list[Row] = field(default_factory=list)
    has_published: bool = False
    waiting: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        return [failure for job in self.jobs for failure in job.failures]

    def as_dict(self) -> Row:
        return {**asdict(self), "failures": self.failures}


def run(
    settings: Settings,
    *,
    as_of: str | None,
    org_ids: Sequence[str],
    is_verbose: bool = False,
    waits_for_batches: bool = True,
) -> Outcome:
    """Refresh, then classify and publish; the second only if the first went well.

    Where questions to the model are out in a batch, waits for it and classifies once more, unless
    told not to.
    """
    started, since = time.monotonic(), time.time()
    check_source(settings)
    check_free_disk(settings.data_folder, settings.min_free_disk_mb)
    moment = parse_moment(as_of).isoformat() if as_of else ""
    options = {
        "home": str(settings.home),
        "source": str(settings.source_folder),
        "classifier": settings.classifier,
        "max_cost_usd": settings.max_cost_usd,
        "as_of": moment,
        "orgs": list(org_ids),
    }
    with turn(settings), dagster_instance(settings) as instance:
        jobs = [run_job(instance, "refresh", options=options, is_verbose=is_verbose)]
        if jobs[0].is_success:
            # Without tags where nothing is due: each organisation planned costs a record of it.
            # What a killed run wrote but could not record is no longer due, yet not recorded.
            due = list(org_ids) or sorted({*due_org_ids(settings), *_unrecorded_orgs(instance)})
            tags = org_tags(instance, due, may_span_others=not org_ids)
            classified = run_job(
                instance, "classify", options=options, tags=tags, is_verbose=is_verbose
            )
            jobs.append(classified)
            out = _batches_waited_for(settings, org_ids) if waits_for_batches else set()
            while out:
                _wait_for_one_of(settings)
                again = run_job(
                    instance, "classify", options=options, tags=tags, is_verbose=is_verbose
                )
                # The earlier runs of this command ended as they did only because they could not
                # wait; what they left failed, the last one tells.
                jobs[-1] = again
                before, out = out, _batches_waited_for(settings, org_ids)
                if out == before:
                    break  # it came back, and could not be taken in: the run has said why
    outcome = _outcome(settings, jobs, started)
    outcome.has_published = _is_published_since(settings, since)
    outcome.waiting = sorted(_orgs_waiting(settings)) if outcome.has_published else []
    return outcome


def _is_published_since(settings: Settings, moment: float) -> bool:
    path = settings.published_path
    return path.exists() and path.stat().st_mtime >= moment


def _orgs_waiting(settings: Settings) -> set[str]:
    if settings.chosen_classifier == "rules":
        return set()
    with Warehouse.of(settings).open() as connection:
        return llm.orgs_waiting(connection)


def _batches_waited_for(settings: Settings, org_ids: Sequence[str]) -> set[str]:
    """Batches at the API that an organisation of this run waits for."""
    waiting = _orgs_waiting(settings)
    batches = open_batches(settings, patience_seconds=settings.lock_timeout_seconds)
    if not (waiting & set(org_ids) if org_ids else waiting):
        return set()
    return {str(batch["batch_key"]) for batch in batches if batch["batch_id"]}


def _wait_for_one_of(settings: Settings) -> None:
    found = open_batches(settings, patience_seconds=settings.lock_timeout_seconds)
    batches = [batch for batch in found if batch["batch_id"]]
    way = quick_way_of(settings)
    while not has_news(way, batches):
        showing.note(
            f"{len(batches)} batches are out; looking again in {settings.batch_poll_seconds:g} s. "
            "It is safe to stop here: the next run takes them in."
        )
        time.sleep(settings.batch_poll_seconds)


def override(
    settings: Settings, job_name: str, op: str, config: Mapping[str, Any], *, is_verbose: bool
) -> Outcome:
    """Take in one decision of an admin, then publish."""
    started = time.monotonic()
    given = {name: value for name, value in config.items() if value is not None}
    options = {"home": str(settings.home)}
    with turn(settings), dagster_instance(settings) as instance:
        jobs = [
            run_job(
                instance,
                job_name,
                options=options,
                ops={op: {"config": given}},
                is_verbose=is_verbose,
            )
        ]
        if jobs[0].is_success:
            jobs.append(run_job(instance, "publish", options=options, is_verbose=is_verbose))
    return Outcome(jobs, time.monotonic() - started)


def _outcome(settings: Settings, jobs: list[JobRun], started: float) -> Outcome:
    try:
        shown = (
            reading.published_tables(settings),
            reading.levels_by_org(settings),
            reading.rejects_by_reason(settings),
        )
    except NotPublishedError:
        shown = ([], [], [])
    return Outcome(jobs, time.monotonic() - started, *shown)


def status(settings: Settings) -> dict[str, list[Row]]:
    """What is published, the last run of each job, and the organisations left failed."""
    try:
        found = {
            "published": reading.published_tables(settings),
            "members_by_level": reading.levels_by_org(settings),
        }
    except NotPublishedError:
        found = {"published": []}
    with dagster_instance(settings) as instance:
        bury_dead_runs(instance)
        found["last_runs"] = list(_last_runs(instance))
        found["organisations_left_failed"] = list(_failed_orgs(instance))
    return found


def _last_runs(instance: dg.DagsterInstance) -> list[Row]:
    rows = []
    for job_name in ("refresh", "classify", "publish"):
        records = instance.get_run_records(dg.RunsFilter(job_name=job_name), limit=1)
        for record in records:
            run = record.dagster_run
            started = record.start_time and datetime.fromtimestamp(record.start_time, UTC)
            rows.append(
                {
                    "job": job_name,
                    "status": run.status.value,
                    "started": started,
                    "seconds": (record.end_time or 0) - (record.start_time or 0)
                    if record.end_time
                    else None,
                    "run": run.run_id,
                }
            )
    return rows


def _failed_orgs(instance: dg.DagsterInstance) -> list[Row]:
    states = _partition_states(instance)
    return [{"organisation": org} for org, state in states.items() if state == "FAILED"]


def _unrecorded_orgs(instance: dg.DagsterInstance) -> list[str]:
    return [org for org, state in _partition_states(instance).items() if state != "MATERIALIZED"]


def _partition_states(instance: dg.DagsterInstance) -> dict[str, str]:
    keys = instance.get_dynamic_partitions(str(ORGS.name))
    states = instance.get_status_by_partition(CLASSIFICATIONS, keys, ORGS) or {}
    found = {key: states.get(key) for key in keys}
    return {org_id_of(key): state.name if state else "" for key, state in found.items()}
