"""The commands of outreach, from their arguments to their exit status."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engagement_pipeline import cli
from engagement_pipeline.outreach.wording import Wording
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal import outreach
from engagement_pipeline.terminal.running import JobRun, run_job
from tests.outreach_home import (
    DAY,
    HOUR,
    NOW,
    World,
    close_all,
    everything,
    messages,
    outreach_settings,
    someone_held_out,
)

DONE, FAILED, USAGE = 0, 1, 2
BEST_HOUR = NOW + 4 * HOUR
"""Within the hour at which members are written to who have no better one."""


@dataclass(frozen=True)
class Answer:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def told(self) -> str:
        """What went wrong, without the line breaks that the terminal's width makes."""
        return " ".join(self.err.split())


def engagement(*words: str) -> Answer:
    """Give a command in this process, through the entry point of the console script."""
    close_all()
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["engagement", *words])
        try:
            cli.main()
            status = DONE
        except SystemExit as end:
            status = int(end.code or 0)
    return Answer(status, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def _closed_in_the_end() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with two members to write to, one who wants nothing, and one held out."""
    folder = tmp_path / "home"
    for name, value in {"HOME": str(folder), "PROFILE": "test", "HOLDOUT_SHARE": "0.05"}.items():
        monkeypatch.setenv(f"ENGAGEMENT_{name}", value)
    monkeypatch.setenv("DAGSTER_HOME", str(folder / ".dagster"))
    settings = outreach_settings(folder, holdout_share=0.05)
    world = World("choir", "garden").member("choir", "away").member("garden", "away")
    world.member("choir", "no-mail").preference("no-mail", opted_out=True)
    world.member("choir", someone_held_out(settings, "choir"))
    world.profile("away", display_name="Robin", timezone="Europe/Amsterdam")
    world.put(settings)
    close_all()
    return settings


@pytest.fixture
def unpublished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands do not publish, which takes them a second: for tests of what comes before."""

    def run(instance: Any, job_name: str, **given: Any) -> JobRun:
        if job_name == "publish":
            return JobRun(job_name, "none", is_success=True, failures=())
        return run_job(instance, job_name, **given)

    monkeypatch.setattr(outreach, "run_job", run)


def test_a_dry_run_shows_each_decision_and_message_and_writes_nothing(home: Settings) -> None:
    found = engagement("cycle", "--dry-run", "--as-of", NOW.isoformat(), "--json")
    assert found.status == DONE, found.err
    shown = found.json
    assert shown["stats"]["total"] == 4
    assert {(d["user_id"], d["reason"]) for d in shown["decisions"]} >= {
        ("away", None),
        ("no-mail", "opted_out"),
    }
    told = {row["org_id"]: row for row in shown["messages"] if not row["is_withheld"]}
    assert set(told) == {"choir", "garden"}
    assert told["choir"]["send_at_local"] == "2026-03-04T14:00+01:00"
    assert told["choir"]["send_at"] == "2026-03-04T13:00:00+00:00"
    assert told["choir"]["text"]
    assert [row["text"] for row in shown["messages"] if row["is_withheld"]] == [None]
    assert not any(everything(home).values())
    plain = engagement("cycle", "--dry-run", "--as-of", NOW.isoformat())
    assert plain.status == DONE
    assert "opted_out" in plain.out
    assert "1 more are withheld" in plain.told


def test_a_long_look_is_cut_and_says_so(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engagement_pipeline.terminal.outreach_commands._ROWS", 1)
    found = engagement("cycle", "--dry-run", "--as-of", NOW.isoformat())
    assert "… and 3 more; --json gives them all" in found.told
    assert "… and 2 more; --json gives them all" in found.told
    assert not any(everything(home).values())


@pytest.mark.usefixtures("home")
def test_a_look_at_an_organisation_in_trouble_names_it_and_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: Wording, org_id: str, *_: Any, **__: Any) -> Any:  # noqa: ARG001
        raise RuntimeError(f"no words for {org_id}")

    monkeypatch.setattr(Wording, "words", broken)
    found = engagement("cycle", "--dry-run", "--as-of", NOW.isoformat(), "--org", "garden")
    assert found.status == FAILED
    assert "garden: nobody could be decided on: RuntimeError: no words for garden" in found.told


@pytest.mark.usefixtures("home")
def test_a_cycle_plans_sends_what_is_due_and_publishes_it() -> None:
    at = (BEST_HOUR - HOUR).isoformat()
    found = engagement("cycle", "--as-of", at, "--json")
    assert found.status == DONE, found.err
    shown = found.json
    assert (shown["total"], shown["eligible"], shown["withheld"]) == (4, 2, 1)
    assert shown["skip_reasons"]["opted_out"] == 1
    assert shown["messages"] == {"re_engagement": 2}
    assert shown["delivery"]["sent"] == 2
    assert [row["org_id"] for row in shown["organisations"]] == ["choir", "garden"]
    log = engagement("query", "SELECT status, cycle_id FROM marts.outreach_log", "--json").json
    assert {row["cycle_id"] for row in log} == {f"engagement:{at}"}
    assert {row["status"] for row in log} <= {"sent", "delivered"}
    assert len(log) == 2


@pytest.mark.usefixtures("unpublished")
def test_a_cycle_may_only_plan_and_only_for_some(home: Settings) -> None:
    at = ["--as-of", (BEST_HOUR - HOUR).isoformat()]
    found = engagement("cycle", "--org", "garden", "--no-process", *at)
    assert found.status == DONE, found.err
    assert "re_engagement" in found.out
    (row,) = messages(home)
    assert (row["org_id"], row["status"]) == ("garden", "scheduled")
    sent = engagement("process-outreaches", "--limit", "1", *at, "--json")
    assert sent.status == DONE, sent.err
    assert sent.json["sent"] == 1
    unknown = engagement("cycle", "--org", "nowhere", *at)
    assert unknown.status == FAILED
    assert "expected one of choir, garden, found nowhere" in unknown.told


@pytest.mark.usefixtures("unpublished")
def test_a_message_by_hand_is_planned_once_and_then_refused_in_words(home: Settings) -> None:
    words = ["schedule-outreach", "--user-id", "away", "--type", "mood_support"]
    one = engagement(*words, "--org", "choir", "--as-of", NOW.isoformat(), "--json")
    assert one.status == DONE, one.err
    assert [row["org_id"] for row in one.json["messages"]] == ["choir"]
    later = (NOW + timedelta(minutes=1)).isoformat()
    both = engagement(*words, "--as-of", later, "--json").json
    assert [row["org_id"] for row in both["messages"]] == ["garden"]
    assert "message_frequency_hours" in both["refused"]["choir"]
    refused = engagement(*words, "--as-of", (NOW + timedelta(minutes=2)).isoformat())
    assert refused.status == FAILED
    assert "no message was planned for away" in refused.told
    assert len(messages(home)) == 2


def test_what_cannot_be_is_one_paragraph_and_an_exit_status(home: Settings) -> None:
    stale = engagement("cycle", "--as-of", (NOW + 3 * DAY).isoformat())
    assert stale.status == FAILED
    assert "max_signal_age_hours" in stale.told
    dry = engagement("cycle", "--dry-run", "--as-of", (NOW + 3 * DAY).isoformat())
    assert dry.status == FAILED
    assert dry.told.startswith("engagement: signals: expected")
    words = ["schedule-outreach", "--user-id", "nobody", "--type"]
    nobody = engagement(*words, "mood_support", "--as-of", NOW.isoformat())
    assert nobody.status == FAILED
    assert "'nobody'" in nobody.told
    assert engagement(*words, "spam").status == USAGE
    assert not any(everything(home).values())
    for answer in (stale, dry, nobody):
        assert "Traceback" not in answer.err


def test_without_a_warehouse_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGAGEMENT_HOME", str(tmp_path))
    for words in (["cycle"], ["cycle", "--dry-run"], ["process-outreaches"]):
        found = engagement(*words)
        assert found.status == FAILED
        assert "engagement run" in found.told
