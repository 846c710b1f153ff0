"""Runs in progress: who is at work, and runs whose process died without a word."""

import os
import socket
from pathlib import Path
from typing import Any

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

PROCESS_TAG = "engagement/process"
_PROC = Path("/proc")
STARTED_BY_TAG = "engagement/started_by"
_AT_WORK = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
_WAITING = [DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED]


def cli_tags() -> dict[str, str]:
    """Tags of a run that a terminal works off in its own process."""
    return {STARTED_BY_TAG: "cli", PROCESS_TAG: this_process()}


def this_process() -> str:
    """What this process is known by: host, number, and start."""
    return f"{socket.gethostname()}:{os.getpid()}:{_birth(os.getpid())}"


def bury_dead_runs(instance: DagsterInstance) -> list[DagsterRun]:
    """Mark as failed what a killed process left as started; nothing else would ever end it."""
    dead = []
    for run in instance.get_runs(RunsFilter(statuses=_AT_WORK)):
        if PROCESS_TAG in run.tags and not _is_alive(run.tags[PROCESS_TAG]):
            instance.report_run_failed(run, "The process that worked off this run is gone.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            dead.append(run)
    return dead


def busy_with(
    instance: DagsterInstance, *job_names: str, counts_waiting: bool = True
) -> str | None:
    """Why a job must not start now: one of these is at work, or waits for its turn unless
    `counts_waiting` is false. None if it may."""
    bury_dead_runs(instance)
    statuses = [*_AT_WORK, *(_WAITING if counts_waiting else [])]
    for job_name in job_names:
        runs = instance.get_runs(RunsFilter(job_name=job_name, statuses=statuses), limit=1)
        if runs:
            return f"run {runs[0].run_id} of the job {job_name} is still in progress"
    return None


def inherited_options(run: DagsterRun) -> dict[str, object]:
    """The run configuration that a following run takes over: the pipeline's options."""
    resources: Any = run.run_config.get("resources", {})
    return {"resources": {"pipeline": resources["pipeline"]}} if "pipeline" in resources else {}


def _is_alive(process: str) -> bool:
    host, _, rest = process.partition(":")
    pid, _, birth = rest.partition(":")
    if host != socket.gethostname():
        return True
    return _birth(int(pid)) == birth


def _birth(pid: int) -> str:
    """The process's start in clock ticks since boot, so that a reused number is told apart."""
    if not _PROC.is_dir():
        return _birth_without_proc(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except FileNotFoundError:
        return "gone"
    return stat.rpartition(")")[2].split()[19]


def _birth_without_proc(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        return "alive"
    return "alive"
