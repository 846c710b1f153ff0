"""Behaviour in a real Dagster instance: scored, described and predicted, and in nobody's way."""

import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from engagement_pipeline import cli
from engagement_pipeline.definitions import defs
from engagement_pipeline.defs import behavior as assets
from engagement_pipeline.defs import predicting
from engagement_pipeline.defs.runs import cli_tags
from engagement_pipeline.defs.sensors import publish_after_change
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal.running import dagster_instance
from engagement_pipeline.warehouse.connection import Warehouse
from tests.anthropic_api import AnthropicApi, expected_sentiment
from tests.behavior_home import (
    AS_OF,
    MEMBERS,
    ORGS,
    behavior_settings,
    checks_of,
    describe_and_predict,
    metadata_of,
    predictions,
    run,
    source_rows,
    write_behavior_source,
)
from tests.dagster.conftest import Pipeline
from tests.home import published, run_pipeline, stored, tables
from tests.model_home import use_model
from tests.small_source import write_table

LATER = AS_OF + timedelta(hours=1)
STAGES = {
    "behavior.interactions_scored": "score_new_interactions",
    "behavior.patterns": "analyze_patterns",
    "behavior.predictions": "predict",
}


@pytest.fixture(scope="session")
def published_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that ran once on the source whose members talk; to copy."""
    folder = tmp_path_factory.mktemp("talking")
    with pytest.MonkeyPatch.context() as patch:
        _in_home(patch, folder / "home")
        settings = behavior_settings(folder / "home", write_behavior_source(folder / "source"))
        assert run_pipeline(settings, AS_OF).failures == []
    return folder


@pytest.fixture
def home(published_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home and a source of one's own, run once."""
    shutil.copytree(published_home, tmp_path, dirs_exist_ok=True)
    _in_home(monkeypatch, tmp_path / "home")
    return behavior_settings(tmp_path / "home", tmp_path / "source")


def _in_home(patch: pytest.MonkeyPatch, home: Path) -> None:
    patch.setenv("ENGAGEMENT_HOME", str(home))
    patch.setenv("DAGSTER_HOME", str(home / ".dagster"))
    patch.setenv("ENGAGEMENT_PROFILE", "test")


def _last_run(settings: Settings, job_name: str) -> str:
    with dagster_instance(settings) as instance:
        return instance.get_runs(dg.RunsFilter(job_name=job_name), limit=1)[0].run_id


def _break(patch: pytest.MonkeyPatch, *names: str) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("not today")

    for name in names:
        patch.setattr(assets, name, broken)


# --- A refresh.


def test_a_refresh_scores_describes_and_predicts_and_the_day_publishes_it(home: Settings) -> None:
    said = [r for r in source_rows(home.source_folder, "interactions") if _is_known(r["sent_at"])]
    members = MEMBERS * len(ORGS)
    counts = {
        table: stored(home, f"SELECT count(*) FROM {table}")
        for table in ("raw.memberships", *STAGES)
    }
    assert list(counts.values()) == [[(members,)], [(len(said),)], [(members,)], [(members,)]]
    told = metadata_of(home, _last_run(home, "refresh"))
    assert told["behavior.interactions_scored"]["new_interactions"] == len(said)
    assert told["behavior.patterns"]["members"] == members
    assert told["behavior.predictions"]["kept_for_outcomes"] == members
    recently = {
        (r["org_id"], r["user_id"])
        for r in said
        if _moment(r["sent_at"]) > AS_OF - timedelta(days=30)
    }
    described = published(
        home, "SELECT org_id, user_id FROM marts.member_patterns WHERE interactions > 0"
    )
    assert set(described) == recently
    assert published(home, "SELECT count(*) FROM marts.member_predictions") == [(members,)]


def _is_known(text: str) -> bool:
    return _moment(text) <= AS_OF


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_the_probability_beside_a_level_is_the_one_that_was_predicted(home: Settings) -> None:
    beside = published(
        home,
        "SELECT org_id, user_id, churn_probability FROM marts.member_engagement ORDER BY ALL",
    )
    assert beside == [
        (row["org_id"], row["user_id"], row["churn_probability"]) for row in predictions(home)
    ]
    assert len({probability for _, _, probability in beside}) > 100


def test_a_source_without_interactions_has_no_patterns_and_all_predictions(ran: Pipeline) -> None:
    settings = ran.settings
    counts = [stored(settings, f"SELECT count(*) FROM {table}")[0][0] for table in STAGES]
    assert counts == [0, 0, 9]
    why = "no model has been trained yet: engagement train-models"
    for row in predictions(settings):
        assert (row["churn_model"], row["confidence"]) == ("heuristic", 0)
        assert (row["churn_reason"], row["mood_now"], row["mood_predicted"]) == (why, None, None)
    checks = checks_of(settings, _last_run(settings, "refresh"))
    passed = {check for (table, check), found in checks.items() if table in STAGES and found.passed}
    assert passed == {"keeps_contract", "computation_succeeded"}
    assert checks["behavior.predictions", "a_model_serves"].severity.name == "WARN"
    assert checks["behavior.predictions", "a_model_serves"].description == why


def test_a_second_refresh_of_the_same_computes_nothing_anew(home: Settings) -> None:
    before = tables(home.warehouse_path, "behavior", "loops")
    done = run(home, "refresh", as_of=AS_OF.isoformat())
    assert done.failures == ()
    told = metadata_of(home, done.run_id)
    assert told["behavior.interactions_scored"]["new_interactions"] == 0
    assert told["behavior.patterns"]["is_unchanged"] is True
    assert told["behavior.predictions"]["is_unchanged"] is True
    after = tables(home.warehouse_path, "behavior", "loops")
    assert [name for name, frame in before.items() if not frame.equals(after[name])] == []
    # What is not computed anew still has no model that serves.
    serves = checks_of(home, done.run_id)["behavior.predictions", "a_model_serves"]
    assert (serves.passed, "no model has been trained" in serves.description) == (False, True)


def test_only_new_interactions_are_scored_and_all_members_described_anew(home: Settings) -> None:
    scored = "SELECT * FROM behavior.interactions_scored WHERE interaction_id <> 'new' ORDER BY ALL"
    before = stored(home, scored)
    columns = ["interaction_id", "org_id", "user_id", "type", "text", "sent_at"]
    new = [["new", "choir", "choir-001", "message", "Thank you all!", LATER.isoformat()]]
    write_table(home.source_folder / "interactions", "more", columns, new)
    (home.source_folder / "interactions.csv").rename(
        home.source_folder / "interactions" / "first.csv"
    )
    done = run(home, "refresh", as_of=LATER.isoformat())
    assert done.failures == ()
    told = metadata_of(home, done.run_id)
    assert told["behavior.interactions_scored"]["new_interactions"] == 1
    assert stored(home, scored) == before
    described = stored(
        home, "SELECT as_of, count(*), max(last_interaction_at) FROM behavior.patterns GROUP BY ALL"
    )
    assert described == [(LATER, 220, LATER)]
    assert {row["as_of"] for row in predictions(home)} == {LATER}


# --- What breaks.


def test_a_day_whose_behaviour_cannot_be_computed_is_published_and_the_stages_are_named(
    home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tables(home.warehouse_path, "behavior")
    _break(monkeypatch, *STAGES.values())
    words = ["run", "--source", str(home.source_folder), "--as-of", LATER.isoformat(), "--json"]
    monkeypatch.setattr(sys, "argv", ["engagement", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    told = " ".join(capsys.readouterr().err.split())
    why = "RuntimeError: not today"
    assert f"behavior/interactions_scored: computation_succeeded: {why}" in told
    # Without them the others would tell of people who spoke as if they had not.
    for name in ("behavior/patterns", "behavior/predictions"):
        assert f"{name}: computation_succeeded: waits for behavior.interactions_scored" in told
    shown = published(home, "SELECT DISTINCT as_of FROM marts.member_engagement")
    assert shown == [(LATER,)]
    after = tables(home.warehouse_path, "behavior")
    assert [name for name in STAGES if not before[name].equals(after[name])] == []
    checks = checks_of(home, _last_run(home, "refresh"))
    for table in STAGES:
        found = checks[table, "computation_succeeded"]
        assert (found.passed, found.severity.name) == (False, "ERROR")
        assert why in found.description


@pytest.mark.parametrize("broken", ["behavior.patterns", "behavior.predictions"])
def test_patterns_and_predictions_do_not_wait_for_each_other(
    home: Settings, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    before = tables(home.warehouse_path, "behavior")[broken]
    _break(monkeypatch, STAGES[broken])
    checks = checks_of(home, describe_and_predict(home, LATER))
    (other,) = {"behavior.patterns", "behavior.predictions"} - {broken}
    assert not checks[broken, "computation_succeeded"].passed
    assert checks[other, "computation_succeeded"].passed
    assert tables(home.warehouse_path, "behavior")[broken].equals(before)
    assert stored(home, f"SELECT DISTINCT as_of FROM {other}") == [(LATER,)]


def test_what_broke_after_it_had_written_is_computed_again_for_the_moment_before(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = predictions(home)
    with monkeypatch.context() as patch:
        patch.setattr(predicting.stored, "keep_for_outcomes", lambda *_, **__: 1 / 0)
        describe_and_predict(home, LATER)
    assert {row["as_of"] for row in predictions(home)} == {LATER}
    describe_and_predict(home, AS_OF)
    assert predictions(home) == before


def test_who_is_described_alone_stands_beside_the_others_until_all_are_described(
    home: Settings,
) -> None:
    one = {"behavior": {"config": {"user_id": "choir-003"}}}
    done = run(home, "analyze_patterns", ops=one, as_of=LATER.isoformat())
    assert done.failures == ()
    assert metadata_of(home, done.run_id)["behavior.patterns"]["members"] == 1
    moments = (
        "SELECT as_of, count(*), min(user_id) FROM behavior.patterns GROUP BY ALL ORDER BY ALL"
    )
    assert stored(home, moments) == [(AS_OF, 219, "choir-000"), (LATER, 1, "choir-003")]
    assert run(home, "analyze_patterns", as_of=AS_OF.isoformat()).failures == ()
    assert stored(home, moments) == [(AS_OF, 220, "choir-000")]


# --- What a model says of texts.


def test_texts_are_put_to_the_model_only_where_the_setting_says_so(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "What a lovely and quiet evening that was with all of you"
    with Warehouse.of(home).open() as connection:
        connection.execute("UPDATE raw.interactions SET text = ? WHERE org_id = 'choir'", [text])
    with AnthropicApi() as api:
        for setting, by in ((False, "vader"), (True, "vader_and_model")):
            use_model(monkeypatch, api, home.home, classifier="rules", sentiment_llm=setting)
            _forget_scores(home)
            done = run(home, "analyze_patterns", as_of=AS_OF.isoformat())
            assert done.failures == ()
            assert (len(api.messages) > 0) is setting
            found = stored(
                home,
                "SELECT DISTINCT org_id, sentiment_by FROM behavior.interactions_scored "
                "ORDER BY ALL",
            )
            assert found == [("choir", by), ("garden", "vader")]
    told = metadata_of(home, done.run_id)["behavior.interactions_scored"]
    assert (told["asked_the_model"]["texts"], told["asked_the_model"]["answered"]) == (1, 1)
    sounds = stored(
        home,
        "SELECT DISTINCT sentiment FROM behavior.interactions_scored WHERE org_id = 'choir'",
    )
    assert sounds == [(pytest.approx((_vader(text) + expected_sentiment(text)) / 2),)]


def _vader(text: str) -> float:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    compound: float = SentimentIntensityAnalyzer().polarity_scores(text)["compound"]
    return compound


def _forget_scores(settings: Settings) -> None:
    with Warehouse.of(settings).open() as connection:
        connection.execute("DELETE FROM behavior.interactions_scored")


# --- What runs, and when.


@pytest.mark.parametrize(
    ("job_name", "expected"),
    [
        ("analyze_patterns", {"behavior/interactions_scored", "behavior/patterns"}),
        (
            "train_models",
            {
                "behavior/trainings",
                "behavior/model_metrics",
                "behavior/model_curves",
                "behavior/predictions",
            },
        ),
    ],
)
def test_a_job_of_behaviour_computes_its_own_tables_and_no_others(
    job_name: str, expected: set[str]
) -> None:
    selected = defs.resolve_job_def(job_name).asset_layer.selected_asset_keys
    assert {key.to_user_string() for key in selected} == expected


@pytest.mark.parametrize(
    ("name", "job_name", "cron", "status"),
    [
        ("weekly_models", "train_models", "0 3 * * 1", dg.DefaultScheduleStatus.RUNNING),
        (
            "frequent_patterns",
            "analyze_patterns",
            "*/30 * * * *",
            dg.DefaultScheduleStatus.STOPPED,
        ),
    ],
)
def test_training_is_on_by_itself_on_mondays_and_frequent_patterns_are_off(
    name: str, job_name: str, cron: str, status: dg.DefaultScheduleStatus
) -> None:
    schedule = defs.get_repository_def().get_schedule_def(name)
    assert (schedule.job_name, schedule.cron_schedule) == (job_name, cron)
    assert (schedule.execution_timezone, schedule.default_status) == ("UTC", status)


@pytest.mark.parametrize(
    ("job_name", "is_published"),
    [("analyze_patterns", True), ("train_models", True), ("refresh", False)],
)
def test_what_was_described_or_trained_by_itself_is_published_at_once(
    pipeline: Pipeline, job_name: str, is_published: bool
) -> None:
    options: Any = {"resources": {"pipeline": {"config": {"home": str(pipeline.settings.home)}}}}
    with dagster_instance(pipeline.settings) as instance:
        for tags in ({}, cli_tags()):
            done = dg.DagsterRun(job_name=job_name, run_config=options, tags=tags)
            context = dg.build_run_status_sensor_context(
                sensor_name="publish_after_change",
                dagster_event=dg.DagsterEvent("PIPELINE_SUCCESS", job_name),
                dagster_instance=instance,
                dagster_run=done,
            )
            found = publish_after_change(context)
            if is_published and not tags:
                assert isinstance(found, dg.RunRequest)
                assert (found.run_key, found.run_config) == (done.run_id, options)
            else:
                assert isinstance(found, dg.SkipReason)
