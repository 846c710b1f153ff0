"""The command `start-tasks`: the Dagster daemon, with the schedules that are on.

What runs when belongs to `defs.schedules` and `defs.sensors`; here it is told, and started.
"""

import fcntl
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import typer
import yaml

from engagement_pipeline.settings import PROJECT_FOLDER, Settings, load_settings
from engagement_pipeline.terminal import showing
from engagement_pipeline.terminal.options import Debug
from engagement_pipeline.terminal.running import BusyError, dagster_instance

REACHING_MEMBERS = ("hourly_outreach", "frequent_deliveries")
"""The schedules that write to members: off, until somebody turns them on."""

_WORKSPACE = PROJECT_FOLDER / "workspace.yaml"
_HEARTBEAT_SECONDS = 60


@dataclass(frozen=True)
class Task:
    """A schedule or sensor, whether it is on, and when it looks next."""

    name: str
    kind: str
    job: str
    when: str
    is_on: bool
    next_at: datetime | None

    def as_row(self) -> dict[str, object]:
        return {
            "task": self.name,
            "starts": self.job,
            "when": self.when,
            "on": self.is_on,
            "next (UTC)": self.next_at,
        }


def add_to(app: typer.Typer) -> None:
    """Put the command into the command line."""
    app.command(name="start-tasks")(start_tasks)


def start_tasks(
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Runs that may be at work at once.")
    ] = 2,
    with_outreach: Annotated[
        bool,
        typer.Option(
            "--with-outreach",
            help=f"Turn on {' and '.join(REACHING_MEMBERS)}, which write to members.",
        ),
    ] = False,
    _debug: Debug = False,
) -> None:
    """Run the schedules and sensors that are on, until it is stopped."""
    settings = load_settings()
    with dagster_instance(settings) as instance:
        _take_turn(settings)
        if with_outreach:
            turn_on(instance, *REACHING_MEMBERS)
        found = tasks(instance, now=datetime.now(UTC))
        showing.table([task.as_row() for task in found], title="Tasks")
        for note in _notes(instance, found, with_outreach=with_outreach):
            showing.note(note)
        words = daemon_words(instance, workers=workers)
    showing.note(f"At most {workers} runs at once. Stop it with Ctrl-C; runs at work are finished.")
    sys.stdout.flush()
    # In the place of this process: whoever stops it stops the daemon, and sees how it ended.
    os.chdir(PROJECT_FOLDER)
    os.execv(words[0], words)


def daemon_words(instance: dg.DagsterInstance, *, workers: int) -> list[str]:
    """The command that runs the daemon on this instance, with so many runs at once at most.

    `dagster.yaml` takes no number from outside, and every other command writes it as it is shipped:
    so the daemon is handed its instance whole.
    """
    # Dagster's own modules take a second to load, and only this command needs them.
    from dagster._core.instance.ref import InstanceRef
    from dagster._serdes import serialize_value

    home = Path(instance.root_directory)
    shipped: Any = yaml.safe_load((PROJECT_FOLDER / "dagster.yaml").read_text())
    concurrency = {**shipped["concurrency"], "runs": {"max_concurrent_runs": workers}}
    ref = InstanceRef.from_dir(str(home), overrides={"concurrency": concurrency})
    return [
        str(Path(sys.executable).with_name("dagster-daemon")),
        "run",
        "--instance-ref",
        serialize_value(ref),
        "--workspace",
        str(_WORKSPACE),
    ]


def tasks(instance: dg.DagsterInstance, *, now: datetime) -> list[Task]:
    """All schedules and sensors, those that are on first, as the instance has them."""
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._utils.schedules import get_next_cron_tick

    from engagement_pipeline.definitions import defs

    repository = defs.get_repository_def()
    found = []
    states = _states(instance, InstigatorType.SCHEDULE)
    for schedule in repository.schedule_defs:
        is_on = states.get(
            schedule.name, schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        )
        cron, zone = str(schedule.cron_schedule), schedule.execution_timezone or "UTC"
        tick = get_next_cron_tick(cron, now, zone) if is_on else None
        next_at = tick.astimezone(UTC) if tick else None
        found.append(Task(schedule.name, "schedule", schedule.job_name, cron, is_on, next_at))
    states = _states(instance, InstigatorType.SENSOR)
    for sensor in repository.sensor_defs:
        is_on = states.get(sensor.name, sensor.default_status is dg.DefaultSensorStatus.RUNNING)
        jobs = ", ".join(job.name for job in sensor.jobs) if sensor.has_jobs else ""
        when = f"every {sensor.minimum_interval_seconds or 30} s"
        found.append(Task(sensor.name, "sensor", jobs, when, is_on, now if is_on else None))
    return sorted(found, key=lambda task: (not task.is_on, task.kind, task.name))


def turn_on(instance: dg.DagsterInstance, *names: str) -> None:
    """Turn these schedules on, as a click on them in the UI does. Those that are on stay as they
    are, with the moment since when they are."""
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.remote_origin import RemoteRepositoryOrigin
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        ScheduleInstigatorData,
    )
    from dagster._core.workspace.load import location_origins_from_yaml_paths

    from engagement_pipeline.definitions import defs

    repository = defs.get_repository_def()
    # Dagster's own way to do it loads all definitions once more, in a process of its own.
    (location,) = location_origins_from_yaml_paths([str(_WORKSPACE)])
    for name in names:
        schedule = repository.get_schedule_def(name)
        state = InstigatorState(
            RemoteRepositoryOrigin(location, repository.name).get_instigator_origin(name),
            InstigatorType.SCHEDULE,
            InstigatorStatus.RUNNING,
            ScheduleInstigatorData(schedule.cron_schedule, datetime.now(UTC).timestamp()),
        )
        before = instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
        if before is None:
            instance.add_instigator_state(state)
        elif not before.is_running:
            instance.update_instigator_state(state)


def _states(instance: dg.DagsterInstance, kind: Any) -> Mapping[str, bool]:
    """Which schedules or sensors somebody turned on or off; of others the code decides."""
    from dagster._core.scheduler.instigation import InstigatorStatus

    decided = {InstigatorStatus.RUNNING: True, InstigatorStatus.STOPPED: False}
    return {
        state.instigator_name: decided[state.status]
        for state in instance.all_instigator_state(instigator_type=kind)
        if state.status in decided
    }


def _notes(instance: dg.DagsterInstance, found: list[Task], *, with_outreach: bool) -> list[str]:
    is_on = {task.name for task in found if task.is_on}
    reaching = [name for name in REACHING_MEMBERS if name in is_on]
    notes = []
    if with_outreach:
        notes.append(f"Turned on, and so it stays: {', '.join(reaching)}. Members are written to.")
    elif reaching:
        notes.append(f"On since somebody turned it on: {', '.join(reaching)}. It reaches members.")
    else:
        notes.append("Nobody is written to; --with-outreach turns that on.")
    beats = [status.timestamp for status in instance.get_daemon_heartbeats().values()]
    ago = datetime.now(UTC).timestamp() - max(beats, default=0.0)
    if ago < _HEARTBEAT_SECONDS:
        notes.append(
            f"A daemon was at work here {ago:.0f} s ago. If `engagement ui` is running, it runs "
            "these tasks already: stop one of the two."
        )
    return notes


def _take_turn(settings: Settings) -> None:
    """Hold the daemons' turn until the process ends, and the daemon that takes its place.

    Raises:
        BusyError: another `start-tasks` holds it.
    """
    lock = os.open(settings.dagster_home / "tasks.lock", os.O_WRONLY | os.O_CREAT, 0o644)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise BusyError(
            f"{settings.home}: `engagement start-tasks` is running here already, so nothing was "
            "started."
        ) from None
