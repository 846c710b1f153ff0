"""Outreach's planning in a real Dagster instance: what a run tells, and what it makes red."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engagement_pipeline.outreach.wording import Wording
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal.running import JobRun
from tests.behavior_home import checks_of, metadata_of, run
from tests.outreach_home import (
    DAY,
    HOUR,
    NOW,
    World,
    close_all,
    everything,
    messages,
    outreach_settings,
    rows_of,
    someone_held_out,
)

AT = NOW.isoformat()


@pytest.fixture(autouse=True)
def _closed_in_the_end() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with members of two organisations, and a twentieth of all held out."""
    folder = tmp_path / "home"
    monkeypatch.setenv("ENGAGEMENT_HOME", str(folder))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / ".dagster"))
    monkeypatch.setenv("ENGAGEMENT_PROFILE", "test")
    settings = outreach_settings(folder, holdout_share=0.05)
    world = World("choir", "garden")
    for org_id in ("choir", "garden"):
        world.member(org_id, "away").member(org_id, "here", absent=HOUR)
        world.member(org_id, "no-mail").member(org_id, someone_held_out(settings, org_id))
    world.preference("no-mail", opted_out=True)
    world.put(settings)
    close_all()
    return settings


def _run(settings: Settings, job_name: str = "schedule_outreach", **given: Any) -> JobRun:
    close_all()
    return run(settings, job_name, **{"as_of": AT, **given})


def test_a_run_decides_and_plans_and_tells_of_both(home: Settings) -> None:
    done = _run(home)
    assert done.failures == ()
    told, checks = metadata_of(home, done.run_id), checks_of(home, done.run_id)
    decided = told["outreach.decisions"]
    assert (decided["total"], decided["eligible"], decided["skipped"]) == (8, 2, 6)
    assert "| dormant | 2 |" in decided["by_segment"]
    assert "| opted_out | 2 |" in decided["skip_reasons"]
    assert decided["cycle_id"] == f"engagement:{AT}"
    assert told["outreach.messages"]["rows_added"] == 2
    assert "| re_engagement | 2 |" in told["outreach.messages"]["by_type"]
    assert told["outreach.withheld"]["rows_added"] == 2
    assert told["outreach.cycles"]["dagster/row_count"] == 2
    assert checks
    assert all(check.passed for check in checks.values())
    assert {row["status"] for row in messages(home)} == {"scheduled"}


def test_the_same_run_again_adds_nothing(home: Settings) -> None:
    _run(home)
    before = everything(home)
    again = _run(home)
    assert metadata_of(home, again.run_id)["outreach.messages"]["rows_added"] == 0
    assert everything(home) == before


def test_a_run_by_old_signals_fails_and_says_what_to_do(home: Settings) -> None:
    done = _run(home, as_of=(NOW + 3 * DAY).isoformat())
    (why,) = done.failures
    assert not done.is_success
    assert "2026-03-07 10:20 UTC" in why
    assert "2026-03-04 04:20 UTC" in why
    assert "engagement run" in why
    assert not any(everything(home).values())


def test_trouble_with_an_organisation_makes_a_check_red_that_names_it(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = Wording.words

    def broken(self: Wording, org_id: str, *args: Any, **named: Any) -> Any:
        if org_id == "garden":
            raise RuntimeError("not today")
        return words(self, org_id, *args, **named)

    monkeypatch.setattr(Wording, "words", broken)
    done = _run(home)
    assert done.is_success
    (why,) = done.failures
    assert "cycle_succeeded" in why
    assert "garden: RuntimeError: not today" in why
    assert {row["org_id"] for row in rows_of(home, "FROM outreach.decisions")} == {"choir"}


def test_one_message_is_planned_from_the_launchpad(home: Settings) -> None:
    given = {"user_id": "here", "outreach_type": "personalized_checkin", "org_id": "choir"}
    ops = {"plan_message": {"config": given}}
    done = _run(home, "schedule_message", ops=ops)
    assert done.failures == ()
    assert metadata_of(home, done.run_id)["outreach.messages"]["rows_added"] == 1
    (row,) = messages(home)
    assert (row["org_id"], row["user_id"], row["engine"]) == ("choir", "here", "manual")
    assert row["send_at"] - NOW < timedelta(hours=4)


def test_a_message_that_may_not_be_sent_fails_the_run_with_the_reason_in_words(
    home: Settings,
) -> None:
    given = {"user_id": "no-mail", "outreach_type": "personalized_checkin"}
    done = _run(home, "schedule_message", ops={"plan_message": {"config": given}})
    assert not done.is_success
    (why,) = done.failures
    assert "the member wants no messages (opted_out)" in why
    assert messages(home) == []
