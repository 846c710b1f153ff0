"""Cleaning up in a real instance: what goes, and that nobody is seen otherwise afterwards."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster import DagsterRunStatus

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs import cleanup as job
from engagement_pipeline.defs.interaction_scoring import score_new_interactions
from engagement_pipeline.defs.milestones import count_days
from engagement_pipeline.defs.partitions import ORGS
from engagement_pipeline.defs.resources import PipelineResource
from engagement_pipeline.defs.run_records import delete_runs, superfluous_runs
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal.running import dagster_instance
from engagement_pipeline.warehouse import retention
from engagement_pipeline.warehouse.connection import Warehouse
from engagement_pipeline.warehouse.frames import append
from tests.home import refresh, settings_of, stored, tables
from tests.small_source import AS_OF, ago, write_small_source, write_table
from tests.small_source import ORGS as ORG_IDS

DAY = timedelta(days=1)
# Half a year counts for nobody's signals, patterns or predictions; a year is kept.
AGES = {
    "keen": (1, 3, 40, 89, 91, 200, 364, 366, 367, 500, 700),
    # By nothing else is this one known to have been there.
    "quiet": (400, 430, 600),
}
OLD = [(user, age) for user, ages in AGES.items() for age in ages if age > 365]
STAYING = ("quiet", 400)
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def _write_source(folder: Path) -> Path:
    write_small_source(folder)
    said = [
        [f"{org}:{user}:{age}", org, user, "message", f"I am glad of day {age}", ago(age)]
        for org in ORG_IDS
        for user, ages in AGES.items()
        for age in ages
    ]
    columns = ["interaction_id", "org_id", "user_id", "type", "text", "sent_at"]
    write_table(folder, "interactions", columns, said)
    columns = ["org_id", "user_id", "role", "joined_at"]
    more = [[org, "quiet", "member", ago(700)] for org in ORG_IDS]
    write_table(folder / "memberships", "more", columns, more)
    return folder


def _clean(settings: Settings, as_of: datetime = AS_OF) -> dg.ExecuteInProcessResult:
    options = {"home": str(settings.home), "as_of": as_of.isoformat()}
    with dagster_instance(settings) as instance:
        return job.cleanup.execute_in_process(
            instance=instance,
            resources={"pipeline": PipelineResource(**options)},
            run_config=_QUIET,
            raise_on_error=False,
        )


def _told(done: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What the job told of itself, whether it succeeded or not."""
    (step,) = [e for e in done.all_events if e.is_successful_output or e.is_step_failure]
    found = (
        step.step_output_data.metadata
        if step.is_successful_output
        else step.step_failure_data.user_failure_data.metadata
    )
    return {name: value.value for name, value in found.items()}


def _why(done: dg.ExecuteInProcessResult) -> str:
    (step,) = [event for event in done.all_events if event.is_step_failure]
    return str(step.step_failure_data.user_failure_data.description)


def _behavior(settings: Settings) -> dict[str, pl.DataFrame]:
    found = tables(settings.warehouse_path, "signals", "behavior")
    names = ("signals.member_90d", "behavior.patterns", "behavior.predictions")
    return {name: found[name] for name in names}


def _days(settings: Settings) -> pl.DataFrame:
    with Warehouse.of(settings).open() as connection:
        count_days(connection, settings, as_of=AS_OF)
    return tables(settings.warehouse_path, "milestones")["milestones.daily"]


@pytest.fixture(scope="module")
def refreshed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has taken in three years of what two members of each organisation said."""
    folder = tmp_path_factory.mktemp("refreshed")
    refresh(settings_of(folder / "home", _write_source(folder / "source")), AS_OF)
    return folder


@pytest.fixture
def home(refreshed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of that home."""
    shutil.copytree(refreshed / "home", tmp_path / "home")
    monkeypatch.setenv("ENGAGEMENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / ".dagster"))
    monkeypatch.setenv("ENGAGEMENT_PROFILE", "test")
    return settings_of(tmp_path / "home", refreshed / "source")


def _forget_snapshots(settings: Settings) -> None:
    """Have the next refresh compute all anew, though no file is new."""
    with Warehouse.of(settings).open() as connection:
        for table in ("signals.snapshot", "behavior.snapshots"):
            connection.execute(f"DELETE FROM {table}")


def test_signals_patterns_predictions_and_days_are_the_same_after_old_interactions_are_gone(
    home: Settings,
) -> None:
    before, days = _behavior(home), _days(home)
    quiet = before["signals.member_90d"].filter(user_id="quiet")
    assert quiet["days_since_active"].to_list() == [400] * len(ORG_IDS)
    done = _clean(home)
    assert done.success
    told = _told(done)
    gone = len(ORG_IDS) * (len(OLD) - 1)
    for table in ("raw.interactions", "behavior.interactions_scored"):
        assert told[f"removed: {table}"] == gone
    assert told["removed: raw.interactions without text"] == len(ORG_IDS)
    left = stored(
        home,
        "SELECT DISTINCT interaction_id, text FROM raw.interactions "
        "WHERE org_id = 'choir' ORDER BY sent_at",
    )
    user, age = STAYING
    assert left[0] == (f"choir:{user}:{age}", None)
    assert left[1] == ("choir:keen:364", "I am glad of day 364")

    _forget_snapshots(home)
    refresh(home, AS_OF)
    assert stored(home, "SELECT count(*) FROM raw.interactions")[0][0] == len(left) * 3
    for name, frame in _behavior(home).items():
        assert frame.equals(before[name]), name
    # Counted again, days before the first that lost anything are as they were counted then.
    assert _days(home).equals(days)
    frozen = stored(home, "SELECT frozen_before, cleaned_at FROM milestones.retention")
    assert frozen == [((AS_OF - 365 * DAY + 14 * timedelta(hours=1)).date() + DAY, AS_OF)]

    # A second cleaning for the same moment finds nothing more to remove.
    again = _told(_clean(home))
    assert {rows for what, rows in again.items() if what.startswith("removed")} == {0}


def test_decisions_go_by_their_own_age_and_the_file_is_measured_before_and_after(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_DECISION_RETENTION_DAYS", "90")
    decided = {"org_id": "choir", "eligible": False, "reason": "active", "is_target": False}
    rows = [
        {"cycle_id": f"c{age}", "user_id": "keen", "decided_at": AS_OF - age * DAY, **decided}
        for age in (89, 90, 91, 400)
    ]
    with Warehouse.of(home).open() as connection:
        schema = contract("outreach.decisions").polars_schema
        append(connection, "outreach.decisions", pl.DataFrame(rows, schema=schema))
    told = _told(_clean(home))
    assert told["removed: outreach.decisions"] == 2
    assert stored(home, "SELECT cycle_id FROM outreach.decisions ORDER BY 1") == [
        ("c89",),
        ("c90",),
    ]
    size = home.warehouse_path.stat().st_size / 1_000_000
    assert told["warehouse_mb_after"] == pytest.approx(size)
    assert told["warehouse_mb_before"] > 0


def test_texts_of_old_messages_and_what_was_kept_beside_them_go_with_the_interactions(
    home: Settings,
) -> None:
    at = {age: AS_OF - age * DAY for age in (364, 366, 367)}
    known = {
        "org_id": "choir",
        "user_id": "keen",
        "engine": "engagement",
        "cycle_id": "c",
        "outreach_type": "re_engagement",
        "trigger": "absent",
        "tries": 0,
        "priority": 0.5,
    }
    planned = [
        {"message_id": f"m{age}", "occasion": f"o{age}", "planned_at": a, "send_at": a, **known}
        for age, a in at.items()
    ]
    said = {
        "tone": "warm",
        "template_id": "t",
        "is_rewritten": False,
        "propensity": 1.0,
        "channel": "log",
        "status": "sent",
        "attempts": 1,
        "text": "Hey Ada!",
    }
    with Warehouse.of(home).open() as connection:
        for table, rows in (
            ("outreach.messages", [row | said for row in planned]),
            ("outreach.withheld", planned),
        ):
            schema = contract(table).polars_schema
            append(connection, table, pl.DataFrame(rows, schema=schema))
    told = _told(_clean(home))
    assert told["removed: outreach.messages without text"] == 2
    assert told["removed: outreach.withheld"] == 1
    assert stored(home, "SELECT message_id, text FROM outreach.messages ORDER BY 1") == [
        ("m364", "Hey Ada!"),
        ("m366", ""),
        ("m367", ""),
    ]


def test_files_that_are_over_are_removed(home: Settings) -> None:
    history = home.published_path.parent / "history"
    history.mkdir(parents=True)
    for day in range(home.keep_snapshots + 2):
        (history / f"engagement-unscored-202601{day + 10}T000000000000Z.duckdb").touch()
    told = _told(_clean(home))
    assert (told["removed: published files"], told["removed: leftovers"]) == (2, 0)
    assert len(list(history.iterdir())) == home.keep_snapshots


# --- What goes wrong.


def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("module", "name", "part"),
    [
        (job, "count_days", "interactions"),
        (retention, "remove_outreach", "messages"),
        (retention, "remove_decisions", "decisions"),
        (job, "superfluous_runs", "runs"),
        (retention, "compact", "warehouse"),
    ],
)
def test_a_part_that_fails_is_named_and_stops_no_other(
    home: Settings, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, part: str
) -> None:
    monkeypatch.setattr(module, name, _broken)
    done = _clean(home)
    assert not done.success
    assert _why(done) == f"not all was cleaned up: {part}: RuntimeError: not today"
    told = {what.removeprefix("removed: ") for what in _told(done) if what.startswith("removed")}
    parts = {
        "interactions": "raw.interactions",
        "messages": "outreach.withheld",
        "decisions": "outreach.decisions",
        "runs": "dagster runs",
        "files": "leftovers",
        "warehouse": None,
    }
    assert {what for what in parts.values() if what in told} == {
        what for one, what in parts.items() if one != part and what
    }


def test_where_days_cannot_be_counted_no_interaction_goes_and_nothing_is_frozen(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tables(home.warehouse_path, "raw")["raw.interactions"]
    monkeypatch.setattr(job, "count_days", _broken)
    assert not _clean(home).success
    assert tables(home.warehouse_path, "raw")["raw.interactions"].equals(before)
    assert stored(home, "SELECT count(*) FROM milestones.retention") == [(0,)]


# One that is to go, one that stays without its text, and one of a day that is frozen in some zone.
@pytest.mark.parametrize("unscored", ["keen:700", "quiet:400", "keen:364"])
def test_where_an_interaction_was_never_scored_none_goes_and_nothing_is_frozen(
    home: Settings, unscored: str
) -> None:
    with Warehouse.of(home).open() as connection:
        connection.execute(
            "DELETE FROM behavior.interactions_scored WHERE interaction_id = ?",
            [f"choir:{unscored}"],
        )
    before = tables(home.warehouse_path, "raw", "behavior")
    done = _clean(home)
    assert not done.success
    why = _why(done)
    assert why.startswith("not all was cleaned up: interactions: UnscoredInteractionsError: ")
    assert "found 1 that were not" in why
    assert "`analyze_patterns`" in why
    after = tables(home.warehouse_path, "raw", "behavior")
    assert all(frame.equals(before[name]) for name, frame in after.items())
    assert stored(home, "SELECT count(*) FROM milestones.retention") == [(0,)]
    # Everything else goes on.
    told = _told(done)
    assert {"removed: outreach.decisions", "removed: dagster runs", "removed: leftovers"} <= {*told}
    assert "removed: raw.interactions" not in told


def test_once_all_interactions_are_scored_the_old_ones_go_and_count_for_their_days(
    home: Settings,
) -> None:
    days = _days(home)
    with Warehouse.of(home).open() as connection:
        connection.execute("DELETE FROM behavior.interactions_scored")
    assert not _clean(home).success
    with Warehouse.of(home).open() as connection:
        score_new_interactions(connection, home, as_of=AS_OF)
    assert _clean(home).success
    assert _days(home).equals(days)
    assert stored(home, "SELECT count(*) FROM raw.interactions WHERE text IS NULL") == [
        (len(ORG_IDS),)
    ]


def test_nothing_is_cleaned_up_for_a_moment_to_come(home: Settings) -> None:
    before = tables(home.warehouse_path, "raw")["raw.interactions"]
    done = _clean(home, datetime(2999, 1, 1, tzinfo=UTC))
    assert not done.success
    assert "as_of: expected a moment that has come, found 2999-01-01" in _why(done)
    assert tables(home.warehouse_path, "raw")["raw.interactions"].equals(before)


# --- Dagster's records of runs.

_LONG_AGO, _LONG_AFTER = (datetime(year, 1, 1, tzinfo=UTC) for year in (2020, 2999))


@dg.asset
def whole() -> None:
    """Of no partition."""


@dg.asset(partitions_def=ORGS)
def parted(context: dg.AssetExecutionContext) -> None:
    """Fails where a tag says so."""
    if "fails" in context.run.tags:
        raise RuntimeError("not today")


@dg.op
def work(context: dg.OpExecutionContext) -> None:
    """Fails where a tag says so."""
    if "fails" in context.run.tags:
        raise RuntimeError("not today")


@dg.job
def chore() -> None:
    work()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ENGAGEMENT_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / ".dagster"))
    with dagster_instance(settings_of(tmp_path, tmp_path)) as opened:
        opened.add_dynamic_partitions(str(ORGS.name), ["x", "y", "z"])
        yield opened


def _materialize(instance: dg.DagsterInstance, key: str | None = None, **tags: str) -> str:
    return dg.materialize(
        [whole] if key is None else [parted],
        instance=instance,
        partition_key=key,
        tags=tags,
        run_config=_QUIET,
        raise_on_error=False,
    ).run_id


def _chore(instance: dg.DagsterInstance, **tags: str) -> str:
    done = chore.execute_in_process(
        instance=instance, tags=tags, run_config=_QUIET, raise_on_error=False
    )
    return done.run_id


def _states(instance: dg.DagsterInstance) -> dict[str, str]:
    keys = instance.get_dynamic_partitions(str(ORGS.name))
    found = instance.get_status_by_partition(parted.key, keys, ORGS) or {}
    return {key: status.name if status else "NONE" for key, status in found.items()}


def test_runs_go_but_those_by_which_it_is_known_what_stands(instance: dg.DagsterInstance) -> None:
    old = _materialize(instance, "x")
    gone = _materialize(instance, "z")
    of_y = _materialize(instance, "y")
    of_x = _materialize(instance, "x")
    failed = _materialize(instance, "y", fails="yes")
    older, newest = _materialize(instance), _materialize(instance)
    good = _chore(instance)
    bad, worse = _chore(instance, fails="yes"), _chore(instance, fails="yes")
    at_work = instance.create_run_for_job(chore).run_id
    instance.handle_run_event(at_work, dg.DagsterEvent("PIPELINE_START", "chore"))
    instance.delete_dynamic_partition(str(ORGS.name), "z")
    before = _states(instance)
    assert before == {"x": "MATERIALIZED", "y": "FAILED"}

    found = superfluous_runs(instance, before=_LONG_AFTER, partition_keys=["x", "y"])
    assert found == [old, gone, older, bad]
    assert (
        superfluous_runs(instance, before=datetime(2020, 1, 1, tzinfo=UTC), partition_keys=[]) == []
    )
    files = [path for run_id in found for path in _files(instance, run_id)]
    assert len(files) >= len(found)
    assert list(delete_runs(instance, found)) == found

    assert {run.run_id for run in instance.get_runs()} == {
        of_y,
        of_x,
        failed,
        newest,
        good,
        worse,
        at_work,
    }
    assert _states(instance) == before
    latest = instance.get_latest_materialization_event(whole.key)
    assert latest is not None
    assert latest.run_id == newest
    assert instance.get_materialized_partitions(parted.key) == {"x", "y"}
    assert [path for run_id in found for path in _files(instance, run_id)] == []
    run = instance.get_run_by_id(at_work)
    assert run is not None
    assert run.status == DagsterRunStatus.STARTED


def _files(instance: dg.DagsterInstance, run_id: str) -> list[Path]:
    """Whatever is named after a run below Dagster's home."""
    return list(Path(instance.root_directory).rglob(f"*{run_id}*"))


def test_runs_that_are_older_than_they_may_be_are_deleted_by_the_job(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "superfluous_runs", lambda *_, **__: list(ids))
    monkeypatch.setattr(job, "MOST_RUNS", 1)
    with dagster_instance(home) as instance:
        ids = [instance.create_run_for_job(chore).run_id for _ in range(2)]
    assert _told(_clean(home))["removed: dagster runs"] == 1
    with dagster_instance(home) as instance:
        assert [instance.get_run_by_id(run_id) is None for run_id in ids] == [True, False]
