"""Running the project's Dagster jobs in this process, recorded in the project's own instance."""

import fcntl
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any, TextIO, cast

import dagster as dg

from engagement_pipeline.defs.partitions import ORGS, partition_key, range_tags
from engagement_pipeline.defs.runs import busy_with, cli_tags
from engagement_pipeline.settings import PROJECT_FOLDER, Settings

_CLASS_PATH = re.compile(r"^(?:[a-z_0-9]+\.)+[A-Za-z]+: ")


class BusyError(RuntimeError):
    """Another run is at work; the text names it."""


class RunRecordsError(RuntimeError):
    """Dagster cannot keep its records of runs; the text says where, why, and what to do."""


@dataclass(frozen=True)
class JobRun:
    """How a job ended: its run, and what each failed step said."""

    job_name: str
    run_id: str
    is_success: bool
    failures: tuple[str, ...]


def prepare_dagster_home(settings: Settings) -> None:
    """Put the project's instance settings where Dagster looks for them."""
    home = settings.dagster_home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    shipped, used = (PROJECT_FOLDER / "dagster.yaml").read_text(), home / "dagster.yaml"
    if not used.exists() or used.read_text() != shipped:
        # By a rename: a daemon that reads it meanwhile must not find half of it.
        (home / "dagster.yaml.new").write_text(shipped)
        (home / "dagster.yaml.new").replace(used)
    os.environ["DAGSTER_HOME"] = str(home)
    # Runs that Dagster starts in other processes must find the same home.
    os.environ["ENGAGEMENT_HOME"] = str(settings.home)


@contextmanager
def dagster_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The project's instance, the one that the Dagster UI shows.

    Raises:
        RunRecordsError: its records cannot be read or written, mostly because the disk is full.
    """
    try:
        prepare_dagster_home(settings)
        with dg.DagsterInstance.get() as instance:
            yield instance
    except Exception as error:
        cause = getattr(error, "orig", None)
        if not isinstance(cause, sqlite3.Error):
            raise
        free_mb = shutil.disk_usage(settings.dagster_home).free // 1_000_000
        raise RunRecordsError(
            f"{settings.dagster_home}: the records of runs cannot be kept: {cause}; {free_mb} MB "
            "of disk are free. Work stopped there, and what was published before is as it was. "
            "Make room if there is none, and run again."
        ) from error


class _WithoutComplaints:
    """A stream without what Dagster says of each event it cannot store, statement and values
    included: the error that ends the command says it once, and in words."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if text.startswith("Exception while writing logger call to event log"):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def turn(settings: Settings) -> Iterator[None]:
    """Hold the terminals' turn: of two that would run jobs at once, the second is refused.

    Raises:
        BusyError: another terminal holds it.
    """
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    with (settings.dagster_home / "turn.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"{settings.home}: another `engagement` command is running jobs here, so nothing "
                "was started. Wait for it to end."
            ) from None
        yield


def run_job(
    instance: dg.DagsterInstance,
    job_name: str,
    *,
    options: Mapping[str, Any] | None = None,
    ops: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    is_verbose: bool = False,
) -> JobRun:
    """Run a job here and now; `options` are the pipeline resource's.

    Raises:
        BusyError: a run of one of the jobs that exclude each other is at work.
    """
    # Loading all definitions takes a second, which `engagement query` need not wait for.
    from engagement_pipeline.definitions import defs
    from engagement_pipeline.defs.jobs import EXCLUSIVE_JOBS

    # What waits in the queue of a Dagster that was shut down would wait for ever.
    busy = busy_with(instance, *EXCLUSIVE_JOBS, counts_waiting=False)
    if busy:
        raise BusyError(f"{busy}, so nothing was started. Wait for it to end.")
    config: dict[str, Any] = {
        "loggers": {"console": {"config": {"log_level": "DEBUG" if is_verbose else "CRITICAL"}}}
    }
    given = {name: value for name, value in (options or {}).items() if value}
    if given:
        config["resources"] = {"pipeline": {"config": given}}
    if ops:
        config["ops"] = dict(ops)
    complaints = sys.stderr if is_verbose else cast(TextIO, _WithoutComplaints(sys.stderr))
    with redirect_stderr(complaints):
        result = defs.resolve_job_def(job_name).execute_in_process(
            instance=instance,
            run_config=config,
            tags={**cli_tags(), **(tags or {})},
            raise_on_error=False,
        )
    return JobRun(job_name, result.run_id, result.success, tuple(_failures(result)))


def org_tags(
    instance: dg.DagsterInstance, org_ids: Sequence[str], *, may_span_others: bool = False
) -> dict[str, str]:
    """Run tags for `classify` over these organisations (see `range_tags`)."""
    return range_tags(
        [partition_key(org_id) for org_id in org_ids],
        list(instance.get_dynamic_partitions(str(ORGS.name))),
        may_span_others=may_span_others,
    )


def _failures(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    for event in result.all_events:
        if event.is_step_failure:
            if "DagsterAssetCheckFailedError" in str(event.step_failure_data.error):
                continue  # the checks say it themselves
            yield f"{event.step_key}: {_cause(event.step_failure_data)}"
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                yield (
                    f"{check.asset_key.to_user_string()}: {check.check_name}: "
                    f"{check.description or 'the check failed'}"
                )


def _cause(data: Any) -> str:
    if data.user_failure_data is not None:
        return str(data.user_failure_data.description)
    error = data.error
    if "DagsterExecutionInterruptedError" in str(error):
        return "stopped; what was done until then is kept, and the next run goes on from there"
    while error.cause is not None:
        error = error.cause
    # The class's path is for those who read the code, not for those who read the terminal.
    return _CLASS_PATH.sub("", str(error.message).strip())
