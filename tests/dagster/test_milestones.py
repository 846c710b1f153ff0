"""Milestones in a real Dagster instance, and by their commands."""

import shutil
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from engagement_pipeline.defs import milestones as assets
from engagement_pipeline.defs import outreach
from engagement_pipeline.milestones.catalogue import catalogue
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal import milestones as commands
from engagement_pipeline.terminal.publishing import run_and_publish
from engagement_pipeline.terminal.running import dagster_instance
from engagement_pipeline.warehouse.connection import Warehouse
from tests.behavior_home import checks_of, metadata_of, run
from tests.dagster.conftest import Pipeline
from tests.home import published, settings_of, stored
from tests.integration.test_behavior_cli import DONE, FAILED, USAGE, engagement
from tests.small_source import AS_OF, ORGS

NOW = AS_OF.isoformat()
TABLES = ("catalogue", "daily", "progress")


def _in_home(patch: pytest.MonkeyPatch, home: Path) -> None:
    patch.setenv("ENGAGEMENT_HOME", str(home))
    patch.setenv("DAGSTER_HOME", str(home / ".dagster"))
    patch.setenv("ENGAGEMENT_PROFILE", "test")


def _write(settings: Settings, sql: str) -> None:
    with Warehouse.of(settings).open() as connection:
        connection.execute(sql)


def _say(settings: Settings, org: str, user: str, days: float) -> None:
    sent_at = (AS_OF - timedelta(days=days)).isoformat()
    _write(
        settings,
        "INSERT INTO behavior.interactions_scored BY NAME SELECT "
        f"'{org}-{user}-{days}' AS interaction_id, '{org}' AS org_id, '{user}' AS user_id, "
        f"'message' AS type, TIMESTAMPTZ '{sent_at}' AS sent_at, 0.5 AS quality, "
        "true AS is_meaningful, 's' AS session_id",
    )


def _counts(settings: Settings) -> dict[str, int]:
    found = {t: stored(settings, f"SELECT count(*) FROM milestones.{t}") for t in TABLES}
    return {table: int(rows[0][0]) for table, rows in found.items()}  # type: ignore[call-overload]


def _reached(settings: Settings, milestone_id: str) -> list[tuple[object, ...]]:
    return stored(
        settings,
        "SELECT org_id, user_id, celebrated_at FROM milestones.progress WHERE "
        f"milestone_id = '{milestone_id}' AND reached_at IS NOT NULL ORDER BY ALL",
    )


@pytest.fixture(scope="module")
def checked_home(home_run_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The small source, run once, with milestones checked and published by the command."""
    home = tmp_path_factory.mktemp("checked") / "home"
    shutil.copytree(home_run_once, home)
    settings = settings_of(home, home.parent / "source")
    _say(settings, "choir", "keen", 1)
    with pytest.MonkeyPatch.context() as patch:
        _in_home(patch, home)
        answer = engagement("milestone-progress", "--check", "--as-of", NOW, "--json")
    return settings, answer


@pytest.fixture
def checked(checked_home: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """That home, for tests that only read."""
    settings: Settings = checked_home[0]
    _in_home(monkeypatch, settings.home)
    return settings


@pytest.fixture
def own(checked_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of that home, for tests that go on from there."""
    shutil.copytree(checked_home[0].home, tmp_path / "home")
    _in_home(monkeypatch, tmp_path / "home")
    return settings_of(tmp_path / "home", tmp_path / "source")


@pytest.fixture
def unpublished(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands publish nothing: that takes longer than all else that they do."""
    without = partial(run_and_publish, publishes=False)
    monkeypatch.setattr(commands, "run_and_publish", without)


def _run_id(settings: Settings, job_name: str) -> str:
    with dagster_instance(settings) as instance:
        return instance.get_runs(dg.RunsFilter(job_name=job_name), limit=1)[0].run_id


# --- Checking.


def test_a_check_fills_all_three_tables_and_tells_what_was_reached(checked: Settings) -> None:
    # Of each organisation ada and keen came to events, keen three times and once said something.
    assert _counts(checked)["catalogue"] == catalogue().height
    assert _counts(checked)["daily"] == len(ORGS) * (3 + 1 + 1) + 1
    run_id = _run_id(checked, "check_milestones")
    told = metadata_of(checked, run_id)
    assert told["milestones.catalogue"]["added"] == catalogue().height
    assert told["milestones.daily"]["days_counted"] == _counts(checked)["daily"]
    progress = told["milestones.progress"]
    assert (progress["members"], progress["reached_in_a_day"]) == (len(ORGS) * 3, 1)
    assert "| loyalty | 4 | 9 |" in progress["categories"]
    assert progress["by_category"].startswith("![Milestones reached](data:image/png")
    found = checks_of(checked, run_id)
    assert len(found) == 7
    assert all(check.passed for check in found.values())
    assert len(_reached(checked, "first_gathering")) == len(ORGS) * 3


def test_what_was_just_reached_is_celebrated_once(own: Settings) -> None:
    planned = "SELECT org_id, user_id, occasion, status FROM outreach.messages"
    occasion = "milestone_reached:first_words"
    assert stored(own, planned) == [("choir", "keen", occasion, "scheduled")]
    assert _reached(own, "first_words") == [("choir", "keen", None)]
    _write(own, "UPDATE outreach.messages SET status = 'sent', sent_at = send_at")
    assert run(own, "check_milestones", as_of=NOW).failures == ()
    ((org, user, celebrated_at),) = _reached(own, "first_words")
    assert (org, user) == ("choir", "keen")
    assert [(celebrated_at,)] == stored(own, "SELECT sent_at FROM outreach.messages")
    assert stored(own, planned) == [("choir", "keen", occasion, "sent")]


def test_an_organisation_without_gamification_is_neither_told_nor_congratulated(
    own: Settings,
) -> None:
    _write(own, "DELETE FROM outreach.messages")
    _write(own, "INSERT INTO raw.org_settings VALUES ('choir', 'gamification_enabled', '0')")
    assert run(own, "check_milestones", as_of=NOW).failures == ()
    assert stored(own, "SELECT count(*) FROM outreach.messages") == [(0,)]
    orgs = stored(own, "SELECT DISTINCT org_id FROM milestones.progress ORDER BY ALL")
    assert orgs == [(org,) for org in ORGS if org != "choir"]


def test_days_that_cannot_be_counted_leave_all_progress_as_it_was(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _counts(own)
    monkeypatch.setattr(assets, "count_days", _broken)
    done = run(own, "check_milestones", as_of=NOW)
    assert len(done.failures) == 2
    assert "milestones/progress: computation_succeeded: waits for milestones.daily" in "".join(
        done.failures
    )
    assert _counts(own) == before
    found = checks_of(own, done.run_id)
    assert {key for key, check in found.items() if not check.passed} == {
        ("milestones.daily", "computation_succeeded"),
        ("milestones.progress", "computation_succeeded"),
        ("milestones.progress", "celebrations_planned"),
    }


def test_celebrations_that_cannot_be_planned_keep_no_progress_back(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outreach, "plan_celebrations", _broken)
    _say(own, "garden", "lost", 2)
    done = run(own, "check_milestones", as_of=NOW)
    assert (done.is_success, done.failures) == (True, ())
    assert len(_reached(own, "first_words")) == 2
    check = checks_of(own, done.run_id)["milestones.progress", "celebrations_planned"]
    assert (check.passed, check.severity.value) == (False, "WARN")
    assert check.description == "RuntimeError: not today"


def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("not today")


# --- Seeding.


@pytest.mark.usefixtures("unpublished")
def test_seeding_alone_fills_the_catalogue_and_overwrites_only_when_asked(ran: Pipeline) -> None:
    home = ran.settings

    def seed(*words: str) -> dict[object, object]:
        answer = engagement("seed-milestones", *words)
        assert answer.status == DONE, answer.err
        rows: Sequence[Any] = stored(home, "SELECT milestone_id, target FROM milestones.catalogue")
        return dict(rows)

    first = seed()
    assert set(first) == set(catalogue()["milestone_id"])
    assert _counts(home) == {"catalogue": len(first), "daily": 0, "progress": 0}
    _write(home, "UPDATE milestones.catalogue SET target = 77 WHERE milestone_id = 'first_words'")
    _write(home, "UPDATE milestones.catalogue SET milestone_id = 'own' WHERE target = 1000")
    assert seed() == first | {"own": 1_000, "first_words": 77}
    assert seed("--overwrite") == first | {"own": 1_000}


def test_what_was_seeded_is_published_and_shown(own: Settings) -> None:
    _write(own, "UPDATE milestones.catalogue SET name = 'Else' WHERE milestone_id = 'newcomer'")
    answer = engagement("seed-milestones", "--overwrite", "--json")
    assert answer.status == DONE, answer.err
    told = {row["milestone_id"]: row for row in answer.json}
    assert told["newcomer"]["name"] == "Newcomer"
    assert len(told) == catalogue().height
    names = "SELECT DISTINCT name FROM marts.milestone_progress WHERE milestone_id = 'newcomer'"
    assert published(own, names) == [("Newcomer",)]


# --- Showing.


@pytest.mark.usefixtures("checked")
def test_progress_is_shown_by_organisation(checked_home: Any) -> None:
    answer = checked_home[1]
    assert answer.status == DONE, answer.err
    assert [row["org_id"] for row in answer.json] == list(ORGS)
    assert [row["members"] for row in answer.json] == [3, 3, 3]
    assert [row["reached_7d"] for row in answer.json] == [1, 0, 0]
    assert answer.json[0]["nearest"].count(" %") == 3
    again = engagement("milestone-progress", "--json")
    assert again.json == answer.json
    assert "Milestones by organisation" in engagement("milestone-progress").out


@pytest.mark.usefixtures("checked")
def test_one_persons_progress_has_what_is_nearest_first() -> None:
    rows = engagement("milestone-progress", "--user-id", "keen", "--json").json
    choir = [row for row in rows if row["org_id"] == "choir"]
    shares = [row["share"] for row in choir if row["reached_at"] is None]
    assert shares == sorted(shares, reverse=True)
    assert {row["milestone"] for row in choir if row["reached_at"]} >= {"First words", "Newcomer"}
    assert "First gathering" in engagement("milestone-progress", "--user-id", "keen").out


@pytest.mark.usefixtures("checked")
def test_who_is_not_there_and_options_that_do_not_fit_are_told_in_a_paragraph() -> None:
    nobody = engagement("milestone-progress", "--user-id", "nobody")
    assert nobody.status == FAILED
    assert "member 'nobody': expected milestones of a current member" in nobody.told
    assert "\n\n" not in nobody.err.strip()
    assert engagement("milestone-progress", "--as-of", NOW).status == USAGE
    assert engagement("milestone-progress", "--check", "--as-of", "soon").status == USAGE


@pytest.mark.usefixtures("own", "unpublished")
def test_a_check_that_fails_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "count_days", _broken)
    answer = engagement("milestone-progress", "--check", "--as-of", NOW)
    assert answer.status == FAILED
    assert "milestones/daily: computation_succeeded: RuntimeError: not today" in answer.told
