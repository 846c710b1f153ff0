"""`engagement start-tasks`: what is on, what that turns on, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import typer
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus
from typer.testing import CliRunner

from engagement_pipeline.definitions import defs
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal import tasks
from engagement_pipeline.terminal.running import BusyError, dagster_instance
from tests.home import settings_of

NOW = datetime(2026, 3, 1, 4, 2, tzinfo=UTC)
PATIENCE_SECONDS = 60


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home where nothing has ever run."""
    home = tmp_path / "home"
    (tmp_path / "source").mkdir()
    for name in [name for name in os.environ if name.startswith("ENGAGEMENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ENGAGEMENT_HOME", str(home))
    monkeypatch.setenv("ENGAGEMENT_SOURCE", str(tmp_path / "source"))
    monkeypatch.setenv("DAGSTER_HOME", str(home / ".dagster"))
    return settings_of(home, tmp_path / "source")


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(settings) as opened:
        yield opened


def _on(instance: dg.DagsterInstance) -> dict[str, bool]:
    return {task.name: task.is_on for task in tasks.tasks(instance, now=NOW)}


def _switch(instance: dg.DagsterInstance, name: str, status: InstigatorStatus) -> None:
    """What a click on a schedule in the UI does, once it has been turned on before."""
    (state,) = [s for s in instance.all_instigator_state() if s.instigator_name == name]
    instance.update_instigator_state(state.with_status(status))


# --- What is on.


def test_every_schedule_and_sensor_is_told_as_the_code_has_it_where_nobody_decided(
    instance: dg.DagsterInstance,
) -> None:
    repository = defs.get_repository_def()
    expected = {
        one.name: one.default_status.value == "RUNNING"
        for one in (*repository.schedule_defs, *repository.sensor_defs)
    }
    assert _on(instance) == expected
    assert not any(expected[name] for name in tasks.REACHING_MEMBERS)
    assert expected["daily_engagement"]


def test_the_next_tick_is_told_of_what_is_on_and_of_nothing_else(
    instance: dg.DagsterInstance,
) -> None:
    tasks.turn_on(instance, "frequent_deliveries")
    found = {task.name: task for task in tasks.tasks(instance, now=NOW)}
    ticks = {name: found[name].next_at for name in ("frequent_deliveries", "daily_engagement")}
    assert ticks == {
        "frequent_deliveries": NOW.replace(minute=5),
        "daily_engagement": NOW.replace(day=2, minute=0),
    }
    assert all(task.next_at is None for task in found.values() if not task.is_on)
    states = [task.is_on for task in found.values()]
    assert states == sorted(states, reverse=True)


def test_what_reaches_members_is_turned_on_and_stays_so_until_somebody_turns_it_off(
    instance: dg.DagsterInstance,
) -> None:
    before = _on(instance)
    tasks.turn_on(instance, *tasks.REACHING_MEMBERS)
    assert _on(instance) == before | dict.fromkeys(tasks.REACHING_MEMBERS, True)
    since = {s.instigator_name: s.instigator_data for s in instance.all_instigator_state()}
    tasks.turn_on(instance, *tasks.REACHING_MEMBERS)
    again = {s.instigator_name: s.instigator_data for s in instance.all_instigator_state()}
    assert again == since
    _switch(instance, "hourly_outreach", InstigatorStatus.STOPPED)
    assert not _on(instance)["hourly_outreach"]
    assert _on(instance)["frequent_deliveries"]
    tasks.turn_on(instance, "hourly_outreach")
    assert _on(instance)["hourly_outreach"]


# --- What is started.


Start = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Give the command, without the daemon: what it printed, and what it would have become."""

    def start(*words: str) -> tuple[str, list[str]]:
        became: list[list[str]] = []
        monkeypatch.setattr(tasks.os, "execv", lambda _, words: became.append(words))
        monkeypatch.setattr(tasks.os, "chdir", lambda _: None)
        app = typer.Typer()
        tasks.add_to(app)
        done = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output, became[0]

    return start


def test_without_outreach_who_turned_it_on_keeps_it_on(
    instance: dg.DagsterInstance, started: Start
) -> None:
    tasks.turn_on(instance, "hourly_outreach")
    printed, _ = started()
    assert "On since somebody turned it on: hourly_outreach" in printed
    assert {name: _on(instance)[name] for name in tasks.REACHING_MEMBERS} == {
        "hourly_outreach": True,
        "frequent_deliveries": False,
    }


def test_with_outreach_both_are_turned_on_and_that_is_said(
    instance: dg.DagsterInstance, started: Start
) -> None:
    printed, _ = started("--with-outreach")
    assert "hourly_outreach, frequent_deliveries" in printed
    assert all(_on(instance)[name] for name in tasks.REACHING_MEMBERS)


def test_as_it_comes_nobody_is_written_to_and_that_is_said(
    instance: dg.DagsterInstance, started: Start
) -> None:
    printed, _ = started()
    assert "Nobody is written to" in printed
    assert not any(_on(instance)[name] for name in tasks.REACHING_MEMBERS)


def test_the_daemon_is_given_the_project_and_so_many_workers(
    instance: dg.DagsterInstance, started: Start
) -> None:
    _, words = started("--workers", "3")
    ref = dg.deserialize_value(words[words.index("--instance-ref") + 1])
    with dg.DagsterInstance.from_ref(ref) as daemons:
        queue = daemons.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 3
        assert daemons.root_directory == instance.root_directory
        # All else is as the project ships it.
        pools = daemons.get_concurrency_config().pool_config
        assert pools == instance.get_concurrency_config().pool_config
    assert Path(words[words.index("--workspace") + 1]).name == "workspace.yaml"


# --- The daemon itself.


def _processes(home: Path) -> list[int]:
    """Processes of this machine that work for a home."""
    mark = f"ENGAGEMENT_HOME={home}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # ended meanwhile, or another user's
        if mark in environment:
            found.append(int(folder.name))
    return found


def _wait_until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS} s"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_the_daemon_keeps_its_schedules_until_it_is_interrupted_and_leaves_no_process(
    settings: Settings, tmp_path: Path, started: Start
) -> None:
    script = Path(sys.executable).with_name("engagement")
    words = [script, "start-tasks", "--workers", "1", "--with-outreach"]
    printed = tmp_path / "printed"
    with printed.open("w") as out:
        daemon = subprocess.Popen(words, stdout=out, stderr=out, start_new_session=True)
    try:
        with dagster_instance(settings) as instance:

            def beats() -> set[str]:
                return {kind for kind, s in instance.get_daemon_heartbeats().items() if s.daemon_id}

            def known() -> dict[str, str]:
                states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
                return {state.instigator_name: state.status.name for state in states}

            def is_at_work() -> bool:
                assert daemon.poll() is None, printed.read_text()
                # A schedule that is on by default gets its state from the daemon's first look.
                return {"SCHEDULER", "QUEUED_RUN_COORDINATOR"} <= beats() and (
                    "daily_engagement" in known()
                )

            _wait_until(is_at_work, "a daemon at work")
            states = known()
        for name in tasks.REACHING_MEMBERS:
            assert states[name] == "RUNNING"
        # Of two on one home the second is refused.
        with pytest.raises(BusyError, match="is running here already"):
            started()
        assert len(_processes(settings.home)) > 1
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(timeout=PATIENCE_SECONDS) == 0, printed.read_text()
        _wait_until(lambda: not _processes(settings.home), "an end of all processes")
    finally:
        for pid in _processes(settings.home):
            os.kill(pid, signal.SIGKILL)
        daemon.wait(timeout=PATIENCE_SECONDS)
    told = " ".join(printed.read_text().split())
    for word in ("daily_engagement", "At most 1 runs at once", "Members are written to"):
        assert word in told
