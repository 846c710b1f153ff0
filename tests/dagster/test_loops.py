"""The loops in a real Dagster instance: tuned from the terminal, gated, and in each other's way."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from engagement_pipeline.cli import app
from engagement_pipeline.contracts import contracts
from engagement_pipeline.defs.loops import LEARNING_SUCCEEDED
from engagement_pipeline.defs.metadata import LOOPS_OFF
from engagement_pipeline.defs.sensors import publish_after_change
from engagement_pipeline.loops import suggestion
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal.learning import tune
from engagement_pipeline.terminal.publishing import stale_hint
from engagement_pipeline.terminal.running import dagster_instance
from tests.dagster.conftest import Pipeline
from tests.home import published, run_pipeline, run_unpublished, settings_of, stored
from tests.small_source import ADMIN, AS_OF, ago, write_table

LATER = AS_OF + timedelta(hours=1)
WEEK = timedelta(days=7)


def _with_notifications(pipeline: Pipeline) -> Pipeline:
    """Fifty notifications a feature to the choir: of one all are read, of the other none."""
    sent = [
        [f"{feature}-{n}", "keen", "choir", feature, ago(n / 2 + 1)]
        for feature in ("reminder", "newsletter")
        for n in range(50)
    ]
    columns = ["notification_id", "user_id", "org_id", "feature", "sent_at"]
    write_table(pipeline.source, "notifications", columns, sent)
    reads = [[f"reminder-{n}", ago(n / 2 + 0.9)] for n in range(50)]
    write_table(pipeline.source, "notification_reads", ["notification_id", "read_at"], reads)
    return pipeline


def _materialization(settings: Settings, *key: str) -> Any:
    with dagster_instance(settings) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(key))
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization


def _hint(settings: Settings) -> str | None:
    return stale_hint(settings, did="Learned", days=settings.engagement_lookback_days)


def test_engagement_is_learned_planned_and_published_and_the_loop_is_closed(
    ran: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_notifications(ran)
    assert ran.run().failures == []
    assert published(ran.settings, "SELECT count(*) FROM marts.digest_plan") == [(0,)]
    monkeypatch.setenv("ENGAGEMENT_PROFILE", "test")
    result = CliRunner().invoke(app, ["tune-engagement", "--as-of", LATER.isoformat(), "--json"])
    assert result.exit_code == 0, result.output
    plan = published(
        ran.settings,
        "SELECT feature, delivery, reason, n_sent, n_read FROM marts.digest_plan ORDER BY feature",
    )
    assert plan == [
        ("newsletter", "weekly_digest", "read_rarely", 50, 0),
        ("reminder", "immediate", "read_often", 50, 50),
    ]
    states = published(
        ran.settings,
        "SELECT state, signals_in_window, consumer FROM marts.loop_status "
        "WHERE org_id = 'choir' AND archetype = 'engagement'",
    )
    assert states == [("closed", 50, "digest_plan")]
    one = CliRunner().invoke(app, ["loops", "status", "--org", "choir"])
    assert one.exit_code == 0
    assert f"Loops of choir, as of {LATER:%Y-%m-%d %H:%M} UTC" in one.output
    unknown = CliRunner().invoke(app, ["loops", "status", "--org", "nowhere"])
    assert "expected one of choir, garden, runners" in str(unknown.exception)
    calibrations = _materialization(ran.settings, "loops", "calibrations")
    assert calibrations.metadata["calibrations"].value > 0
    picture = _materialization(ran.settings, "marts", "engagement_calibrations")
    assert "data:image/png;base64" in picture.metadata["read_rates"].value
    assert (
        "data:image/png;base64"
        in _materialization(ran.settings, "marts", "loop_status").metadata["loops"].value
    )


def test_with_the_loops_off_nothing_is_written_and_the_metadata_says_why(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPS_ENABLED", "false")
    _with_notifications(pipeline)
    settings = settings_of(pipeline.settings.home, pipeline.source)
    assert run_unpublished(settings, AS_OF).failures == []
    assert tune(settings, "tune_engagement", as_of=LATER.isoformat()).failures == []
    for table in contracts("loops"):
        assert stored(settings, f"SELECT count(*) FROM {table.full_name}") == [(0,)]
    for name in ("signals", "calibrations", "digest_decisions"):
        told = _materialization(settings, "loops", name).metadata
        assert told["why_nothing_was_done"].value == LOOPS_OFF
        assert told["loops_enabled"].value is False


def test_an_organisation_that_cannot_be_tuned_is_named_by_a_red_check_and_stops_nobody(
    ran: Pipeline,
) -> None:
    # More attendances for moderate than for highly engaged: nobody could ever be moderate.
    columns = ["org_id", "setting", "value"]
    write_table(ran.source, "org_settings", columns, [["garden", "moderate_min", "9"]])
    assert run_unpublished(ran.settings, AS_OF).failures
    outcome = tune(ran.settings, "tune_thresholds", as_of=LATER.isoformat())
    assert len(outcome.failures) == 1
    assert "learning_succeeded: garden: threshold" in outcome.failures[0]
    assert outcome.jobs[-1].job_name == "publish"
    assert stored(
        ran.settings, "SELECT org_id, outcome FROM loops.learning_runs ORDER BY org_id"
    ) == [("choir", "learned"), ("garden", "failed"), ("runners", "learned")]
    with dagster_instance(ran.settings) as instance:
        record = instance.event_log_storage.get_asset_check_execution_history(
            LEARNING_SUCCEEDED.key, limit=1
        )[0]
    assert record.status.value == "FAILED"
    assert published(
        ran.settings,
        "SELECT state, learning_error IS NOT NULL FROM marts.loop_status "
        "WHERE archetype = 'threshold' ORDER BY org_id",
    ) == [("idle", False), ("failed", True), ("idle", False)]
    # Learning something else does not turn the check green.
    again = tune(ran.settings, "tune_engagement", as_of=(LATER + timedelta(hours=1)).isoformat())
    assert ["garden: threshold" in failure for failure in again.failures] == [True]


def test_signals_that_cannot_be_drawn_keep_no_day_from_being_published(
    ran: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no judgement today")

    monkeypatch.setattr(suggestion, "judgements", broken)
    outcome = run_pipeline(ran.settings, LATER)
    assert outcome.has_published
    assert outcome.failures == [
        "loops/signals: drawing_succeeded: suggestion: RuntimeError: no judgement today"
    ]
    assert published(ran.settings, "SELECT DISTINCT as_of FROM marts.member_engagement") == [
        (LATER,)
    ]


def test_whoever_learns_for_now_is_told_of_the_moment_that_was_scored_long_ago(
    ran: Pipeline,
) -> None:
    told = _hint(ran.settings)
    assert told is not None
    assert told.endswith("--as-of 2026-03-01T04:00Z")
    patient = settings_of(ran.settings.home, ran.source, engagement_lookback_days=365)
    assert (_hint(patient) is None) == (datetime.now(UTC) - AS_OF < timedelta(days=365))


def test_a_moment_to_come_is_not_learned_for(ran: Pipeline) -> None:
    # What is known today would have expired by then, for everybody.
    outcome = tune(ran.settings, "tune_engagement", as_of="2999-01-01T00:00:00Z")
    assert len(outcome.failures) == 1
    assert "as_of: expected a moment that has come, found 2999-01-01" in outcome.failures[0]
    assert stored(ran.settings, "SELECT count(*) FROM loops.learning_runs") == [(0,)]


def _overruled(pipeline: Pipeline) -> None:
    """Thirty members of the choir attend three events; its admin calls each of them moderate."""
    users = [f"regular{n:02d}" for n in range(30)]
    write_table(
        pipeline.source / "memberships",
        "regulars",
        ["org_id", "user_id", "role", "joined_at"],
        [["choir", user, "member", ago(400)] for user in users],
    )
    write_table(
        pipeline.source / "attendance",
        "regulars",
        ["org_id", "event_id", "user_id", "status", "created_at"],
        [["choir", f"rehearsal-{d}", u, "attended", ago(d)] for u in users for d in (10, 20, 30)],
    )
    columns = ["request_id", "org_id", "user_id", "action", "level", "notes", "performed_by"]
    asked = (AS_OF + timedelta(minutes=5)).isoformat()
    write_table(
        pipeline.source,
        "override_requests",
        [*columns, "performed_at"],
        [[u, "choir", u, "override", "moderate", "a regular", ADMIN, asked] for u in users],
    )


_BASELINES = (
    "SELECT baseline_level, count(*) FROM marts.member_engagement "
    "WHERE user_id LIKE 'regular%' GROUP BY ALL"
)


def test_thirty_overrides_one_way_suggest_one_step_which_is_taken_only_if_tuning_is_applied(
    ran: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    _overruled(ran)
    assert run_unpublished(ran.settings, AS_OF).failures == []
    # The requests were made after that moment, so another takes them in.
    assert run_pipeline(ran.settings, LATER).failures == []
    assert published(ran.settings, _BASELINES) == [("highly_engaged", 30)]
    tuned_at = LATER + timedelta(hours=1)
    assert tune(ran.settings, "tune_thresholds", as_of=tuned_at.isoformat()).failures == []
    suggested = published(
        ran.settings,
        "SELECT key, value, n FROM marts.engagement_calibrations WHERE org_id = 'choir' "
        "AND key LIKE 'threshold:%' ORDER BY key",
    )
    assert suggested[0] == ("threshold:highly_engaged_min", 4.0, 30)
    assert [value for _, value, _ in suggested[1:]] == [180.0, 1.0, 60.0]
    # Only shown, until somebody says that it is to be applied.
    next_day = LATER + timedelta(days=1)
    assert run_pipeline(ran.settings, next_day).failures == []
    assert published(ran.settings, _BASELINES) == [("highly_engaged", 30)]
    monkeypatch.setenv("ENGAGEMENT_APPLY_TUNED_THRESHOLDS", "true")
    applied = settings_of(ran.settings.home, ran.source)
    assert run_pipeline(applied, next_day).failures == []
    assert published(applied, _BASELINES) == [("moderate", 30)]
    uses = stored(
        applied,
        "SELECT consumer FROM loops.consumer_uses "
        "WHERE archetype = 'threshold' AND org_id = 'choir' ORDER BY ALL",
    )
    assert uses == [("baseline",), ("flag_severity",)]


@pytest.mark.parametrize("job_name", ["tune_thresholds", "tune_engagement"])
def test_what_was_learned_is_published_when_a_schedule_learned_it(
    job_name: str, pipeline: Pipeline
) -> None:
    with dagster_instance(pipeline.settings) as instance:
        run = dg.DagsterRun(job_name=job_name, run_id=dg.DagsterRun(job_name=job_name).run_id)
        event = dg.DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name=job_name)
        context = dg.build_run_status_sensor_context(
            sensor_name="publish_after_change",
            dagster_event=event,
            dagster_instance=instance,
            dagster_run=run,
        )
        assert isinstance(publish_after_change(context), dg.RunRequest)
