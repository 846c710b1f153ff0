"""What came of outreach in a real Dagster instance: told in every refresh, and in nobody's way."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs import outcomes as assets
from engagement_pipeline.terminal.running import dagster_instance, run_job
from tests.behavior_home import checks_of, metadata_of
from tests.dagster.conftest import Pipeline
from tests.home import stored
from tests.loop_home import put
from tests.small_source import ADMIN, AS_OF, ORGS, ago, write_table

DAY = timedelta(days=1)
TABLES = ("outreach.outcomes", "outreach.uplift")


def _plan(pipeline: Pipeline) -> None:
    """A message to the keen member of each organisation, sent ten days ago; others held out."""
    row: dict[str, Any] = dict.fromkeys(contract("outreach.messages").column_names)
    names = contract("outreach.withheld").column_names
    at = AS_OF - 10 * DAY
    row |= {
        "engine": "engagement",
        "cycle_id": "cycle",
        "outreach_type": "re_engagement",
        "trigger": "absent",
        "occasion": "absent",
        "tries": 0,
        "priority": 0.6,
        "planned_at": at,
        "send_at": at,
        "tone": "neutral",
        "template_id": "back_soon",
        "is_rewritten": False,
        "propensity": 1.0,
        "channel": "log",
        "status": "sent",
        "sent_at": at,
        "attempts": 1,
        "text": "Good to have you.",
    }
    sent = [row | {"message_id": org, "org_id": org, "user_id": "keen"} for org in ORGS]
    put(pipeline.settings, "outreach.messages", sent)
    held = [row | {"message_id": org, "org_id": org, "user_id": ADMIN} for org in ORGS]
    put(
        pipeline.settings,
        "outreach.withheld",
        [{name: row[name] for name in names} for row in held],
    )


def _refresh(pipeline: Pipeline) -> tuple[str, list[str]]:
    """Run the job; gives the run's id, and what was told to have failed."""
    settings = pipeline.settings
    options = {
        "home": str(settings.home),
        "source": str(settings.source_folder),
        "as_of": AS_OF.isoformat(),
    }
    with dagster_instance(settings) as instance:
        failures = run_job(instance, "refresh", options=options).failures
    return _last_refresh(pipeline), list(failures)


def _last_refresh(pipeline: Pipeline) -> str:
    with dagster_instance(pipeline.settings) as instance:
        (run,) = instance.get_runs(dg.RunsFilter(job_name="refresh"), limit=1)
        assert run.status is dg.DagsterRunStatus.SUCCESS
        return run.run_id


def _answer(pipeline: Pipeline) -> None:
    write_table(
        pipeline.source,
        "interactions",
        ["interaction_id", "org_id", "user_id", "type", "text", "sent_at"],
        [["i1", "choir", "keen", "message", "Thank you so much!", ago(9.99)]],
    )


def test_a_refresh_tells_which_messages_were_answered_and_whether_it_helped(ran: Pipeline) -> None:
    _plan(ran)
    _answer(ran)
    run_id, failures = _refresh(ran)
    assert failures == []
    told, checks = metadata_of(ran.settings, run_id), checks_of(ran.settings, run_id)
    # The answer is scored in the same run, before it is looked at.
    found = stored(
        ran.settings,
        "SELECT org_id, is_response, effectiveness > 0.8 FROM outreach.outcomes ORDER BY org_id",
    )
    assert found == [("choir", True, True), ("garden", False, False), ("runners", False, False)]
    assert told["outreach.outcomes"]["responses"] == 1
    assert told["outreach.outcomes"]["as_of"] == AS_OF.isoformat()
    # Who was written to came to an event five days ago, and nobody else did anything.
    rates = "SELECT treated_rate, held_out_rate, uplift FROM outreach.uplift WHERE org_id = '*'"
    assert stored(ran.settings, rates) == [(1, 0, 1)]
    assert told["outreach.uplift"]["uplift"] == 1
    for table in TABLES:
        for name in ("computation_succeeded", "keeps_contract"):
            assert checks[table, name].passed
    # Three of six are held out, where one of twenty is meant to be.
    sound = checks["outreach.uplift", "holdout_is_sound"]
    assert (sound.passed, sound.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert sound.description.startswith("*: p = ")
    assert list(sound.metadata["orgs"].value) == ["*"]


def test_a_refresh_without_any_message_says_so_and_does_nothing(ran: Pipeline) -> None:
    run_id = _last_refresh(ran)
    told, checks = metadata_of(ran.settings, run_id), checks_of(ran.settings, run_id)
    for table in TABLES:
        assert told[table]["why_nothing_was_done"] == assets.NOTHING_SENT
        assert checks[table, "computation_succeeded"].passed
    assert checks["outreach.uplift", "holdout_is_sound"].passed


def test_what_cannot_be_told_keeps_neither_the_day_back_nor_the_rest(
    ran: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plan(ran)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("not today")

    monkeypatch.setattr(assets, "outcomes", broken)
    run_id, failures = _refresh(ran)
    why = "RuntimeError: not today"
    assert failures == [f"outreach/outcomes: computation_succeeded: {why}"]
    checks = checks_of(ran.settings, run_id)
    failed = checks["outreach.outcomes", "computation_succeeded"]
    assert (failed.passed, failed.blocking, failed.description) == (False, False, why)
    assert checks["outreach.uplift", "computation_succeeded"].passed
    assert stored(ran.settings, "SELECT count(*) FROM outreach.outcomes") == [(0,)]
    assert stored(ran.settings, "SELECT count(*) > 0 FROM outreach.uplift") == [(True,)]
