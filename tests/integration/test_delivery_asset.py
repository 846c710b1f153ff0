"""Delivery as Dagster runs it: what is shown, and which trouble turns it red."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs import delivery
from engagement_pipeline.defs.delivery import TABLES, outreach_delivery
from engagement_pipeline.defs.metadata import asset_key
from engagement_pipeline.defs.resources import BadRunOptionError, PipelineResource
from engagement_pipeline.warehouse.frames import append
from tests.delivery_home import NOW, message_row, rows_of, settings_for, write_due_messages
from tests.webhook_server import Fault, WebhookServer

_SECRET = "a secret of the tests"


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer() as started:
        yield started


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with three messages that are due, and nobody held out."""
    monkeypatch.setenv("ENGAGEMENT_HOME", str(tmp_path))
    monkeypatch.setenv("ENGAGEMENT_PROFILE", "test")
    monkeypatch.setenv("ENGAGEMENT_HOLDOUT_SHARE", "0")
    write_due_messages(tmp_path, [message_row(number) for number in range(3)])
    return tmp_path


@pytest.fixture
def webhook(home: Path, server: WebhookServer, monkeypatch: pytest.MonkeyPatch) -> WebhookServer:
    """A receiver, to which this home's messages go."""
    del home
    monkeypatch.setenv("ENGAGEMENT_OUTREACH_CHANNEL", "webhook")
    monkeypatch.setenv("ENGAGEMENT_WEBHOOK_URL", server.url)
    monkeypatch.setenv("ENGAGEMENT_WEBHOOK_SECRET", _SECRET)
    monkeypatch.setenv("ENGAGEMENT_WEBHOOK_TIMEOUT_SECONDS", "0.2")
    _set_clock(monkeypatch, NOW)
    return server


def _set_clock(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    monkeypatch.setattr(delivery, "_now", lambda: now)


def _run(as_of: str = NOW.isoformat(), **config: Any) -> dg.ExecuteInProcessResult:
    ops = {"outreach_delivery": {"config": config}} if config else {}
    return dg.materialize(
        [outreach_delivery],
        resources={"pipeline": PipelineResource(as_of=as_of)},
        run_config={"ops": ops, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def _metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (told,) = [
        found.metadata
        for found in result.asset_materializations_for_node("outreach_delivery")
        if found.asset_key.path[-1] == "deliveries"
    ]
    return {name: value.value for name, value in told.items()}


def _check(result: dg.ExecuteInProcessResult) -> Any:
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert checks["keeps_contract"].passed
    return checks["delivery_succeeded"]


def test_a_run_sends_what_is_due_and_tells_of_it(home: Path) -> None:
    result = _run()
    assert result.success
    told = _metadata(result)
    assert {name: told[name] for name in ("sent", "failed", "left_due", "breaker")} == {
        "sent": 3,
        "failed": 0,
        "left_due": 0,
        "breaker": "closed",
    }
    assert _check(result).passed
    assert {row["status"] for row in rows_of(settings_for(home), "outreach.messages")} == {
        "delivered"
    }
    materialized = {
        found.asset_key for found in result.asset_materializations_for_node("outreach_delivery")
    }
    assert materialized == {asset_key(table) for table in TABLES}


def test_where_a_moment_is_asked_for_the_clock_stands_there(home: Path) -> None:
    before = (NOW - timedelta(hours=1)).isoformat()
    assert _metadata(_run(before))["sent"] == 0
    _run()
    assert {row["sent_at"] for row in rows_of(settings_for(home), "outreach.messages")} == {NOW}


@pytest.mark.usefixtures("home")
def test_without_a_moment_the_clock_is_the_real_one() -> None:
    result = _run("")
    # By which those messages came much too late.
    assert _metadata(result)["cancelled_messages"] == 3
    assert "missed_window | 3" in _metadata(result)["cancelled"]
    assert _check(result).passed


@pytest.mark.usefixtures("home")
def test_a_run_sends_no_more_than_it_was_told_to() -> None:
    told = _metadata(_run(limit=2))
    assert (told["sent"], told["left_due"], told["stopped_by"]) == (2, 1, "limit")


def test_a_moment_is_refused_where_messages_really_leave(
    home: Path, webhook: WebhookServer
) -> None:
    with pytest.raises(BadRunOptionError, match="expected none where messages really leave") as no:
        _run(NOW.isoformat())
    assert f"found {NOW.isoformat()}" in str(no.value)
    assert webhook.keys == []
    assert {row["attempts"] for row in rows_of(settings_for(home), "outreach.messages")} == {0}


def test_a_broken_attempt_of_another_run_is_not_this_ones_affair(home: Path) -> None:
    old = {"message_id": "old", "attempt": 1, "channel": "log", "outcome": "no such word"}
    told = pl.DataFrame(
        [{**old, "attempted_at": NOW - timedelta(days=1)}],
        schema=contract("outreach.deliveries").polars_schema,
    )
    with duckdb.connect(str(settings_for(home).warehouse_path)) as connection:
        append(connection, "outreach.deliveries", told)
    assert _check(_run()).passed


def test_one_wrong_address_turns_the_check_red_and_holds_up_no_other(
    home: Path, webhook: WebhookServer
) -> None:
    webhook.misbehave(404)
    check = _check(_run(""))
    assert not check.passed
    assert check.description.startswith("1 messages met a wrong address or key, and wait: HTTP 404")
    first, *others = rows_of(settings_for(home), "outreach.messages")
    assert (first["status"], first["send_at"]) == ("scheduled", NOW + timedelta(minutes=15))
    assert [row["status"] for row in others] == ["sent", "sent"]


def test_a_wrong_address_turns_the_check_red_and_loses_nothing(
    home: Path, webhook: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook.misbehave(401, times=2)
    result = _run("")
    assert result.success
    check = _check(result)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "HTTP 401" in check.description
    assert "webhook_secret" in check.description
    assert _SECRET not in check.description
    assert "the rest waits until it is an hour late" in check.description
    assert (_metadata(result)["put_off"], _metadata(result)["left_due"]) == (2, 1)
    assert {row["status"] for row in rows_of(settings_for(home), "outreach.messages")} == {
        "scheduled"
    }
    _set_clock(monkeypatch, NOW + timedelta(minutes=15))
    healed = _run("")
    assert _check(healed).passed
    assert _metadata(healed)["sent"] == 3


@pytest.mark.usefixtures("home")
def test_messages_that_were_given_up_turn_the_check_red(webhook: WebhookServer) -> None:
    webhook.misbehave(400, times=2)
    check = _check(_run(""))
    assert not check.passed
    assert check.description == "2 messages were given up: HTTP 400 (2)"


def test_an_open_breaker_turns_the_check_red_until_it_closes(
    home: Path, webhook: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engagement_pipeline.defs.delivery.sleep", lambda _: None)
    webhook.misbehave(Fault.RESET, times=5)
    opened = _run("")
    assert "breaker is open since 2026-03-01 12:00:00 UTC" in _check(opened).description
    assert _metadata(opened)["breaker"] == "open"
    _set_clock(monkeypatch, NOW + timedelta(seconds=30))
    waiting = _run("")
    assert not _check(waiting).passed
    assert _metadata(waiting)["attempts"] == 0
    _set_clock(monkeypatch, NOW + timedelta(minutes=15))
    assert _check(_run("")).passed
    assert len(rows_of(settings_for(home), "outreach.deliveries")) == 7
