"""A moment given at a terminal: where messages really leave, none leaves as of another one."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from engagement_pipeline import cli
from engagement_pipeline.terminal import outreach
from engagement_pipeline.terminal.running import JobRun
from tests.delivery_home import NOW, message_row, rows_of, settings_for, write_due_messages
from tests.webhook_server import WebhookServer

_MOMENT = NOW.isoformat()


@pytest.fixture
def webhook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookServer]:
    """A receiver, to which the messages of a home with one that is due go."""
    with WebhookServer() as server:
        given = {"HOME": str(tmp_path), "PROFILE": "test", "HOLDOUT_SHARE": "0"}
        given |= {"OUTREACH_CHANNEL": "webhook", "WEBHOOK_URL": server.url}
        for name, value in given.items():
            monkeypatch.setenv(f"ENGAGEMENT_{name}", value)
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / ".dagster"))
        write_due_messages(tmp_path, [message_row(1)])
        yield server


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that commands would have run; none of them is."""
    names: list[str] = []

    def run(instance: Any, job_name: str, **given: Any) -> JobRun:
        del instance, given
        names.append(job_name)
        return JobRun(job_name, "none", is_success=True, failures=())

    monkeypatch.setattr(outreach, "run_job", run)
    told = dict.fromkeys(outreach._DELIVERED, 0)
    monkeypatch.setattr(outreach, "_told", lambda *_: told)
    return names


def engagement(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Give a command; its exit status, and what it printed."""
    monkeypatch.setattr(sys, "argv", ["engagement", *words])
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    return status, out.getvalue(), " ".join(err.getvalue().split())


def test_nothing_is_sent_as_of_another_moment(
    tmp_path: Path, webhook: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, said = engagement(monkeypatch, "process-outreaches", "--as-of", _MOMENT)
    assert status == 1
    assert "as_of: expected none where messages really leave" in said
    assert webhook.keys == []
    (row,) = rows_of(settings_for(tmp_path), "outreach.messages")
    assert (row["status"], row["attempts"]) == ("scheduled", 0)


@pytest.mark.usefixtures("webhook")
def test_a_cycle_as_of_another_moment_plans_and_says_that_it_sent_nothing(
    jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = engagement(monkeypatch, "cycle", "--as-of", _MOMENT, "--json")
    assert (status, jobs) == (0, ["schedule_outreach", "publish"]), err
    shown = json.loads(out)
    assert shown["delivery"] is None
    assert "nothing was sent: by webhook messages leave now" in shown["not_sent"]
    jobs.clear()
    _, out, err = engagement(monkeypatch, "cycle", "--as-of", _MOMENT)
    assert "nothing was sent: by webhook" in " ".join((out + err).split())


@pytest.mark.usefixtures("webhook")
@pytest.mark.parametrize(
    ("channel", "words"), [("webhook", []), ("log", []), ("log", ["--as-of", _MOMENT])]
)
def test_other_cycles_send_what_is_due(
    jobs: list[str], monkeypatch: pytest.MonkeyPatch, channel: str, words: list[str]
) -> None:
    monkeypatch.setenv("ENGAGEMENT_OUTREACH_CHANNEL", channel)
    status, out, err = engagement(monkeypatch, "cycle", *words, "--json")
    assert (status, jobs) == (0, ["schedule_outreach", "process_outreach", "publish"]), err
    assert json.loads(out)["not_sent"] is None
