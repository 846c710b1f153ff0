"""The commands of behaviour, from their arguments to their exit status."""

import io
import json
import os
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engagement_pipeline import cli
from engagement_pipeline.behavior import churn_training
from engagement_pipeline.defs import behavior as assets
from engagement_pipeline.terminal import publishing
from engagement_pipeline.terminal.running import JobRun
from tests.behavior_home import (
    AS_OF,
    MEMBERS,
    MODEL,
    ORGS,
    SAMPLES,
    behavior_settings,
    source_rows,
    train_one_model,
    write_behavior_source,
)
from tests.home import published, stored

DONE, FAILED, USAGE = 0, 1, 2
NOW = AS_OF.isoformat()
WHO = "choir-003"


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
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["engagement", *words])
        try:
            cli.main()
            status = DONE
        except SystemExit as end:
            status = int(end.code or 0)
    return Answer(status, out.getvalue(), err.getvalue())


def _in_home(patch: pytest.MonkeyPatch, home: Path, source: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ENGAGEMENT_")]:
        patch.delenv(name)
    patch.setenv("ENGAGEMENT_HOME", str(home))
    patch.setenv("ENGAGEMENT_SOURCE", str(source))
    patch.setenv("DAGSTER_HOME", str(home / ".dagster"))


def _is_one_paragraph(text: str) -> bool:
    return bool(text.strip()) and "Traceback" not in text and "\n\n" not in text.strip()


@dataclass(frozen=True)
class Home:
    folder: Path
    source: Path
    trained: Answer


@pytest.fixture(scope="module")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that ran and was trained for the same moment, by these commands; to copy or read."""
    folder = tmp_path_factory.mktemp("trained")
    source = write_behavior_source(folder / "source")
    behavior_settings(folder / "home", source)
    with pytest.MonkeyPatch.context() as patch:
        _in_home(patch, folder / "home", source)
        train_one_model(patch)
        ran = engagement("run", "--as-of", NOW, "--json")
        assert ran.status == DONE, ran.err
        words = ["--min-samples", str(SAMPLES), "--as-of", NOW, "--json"]
        trained = engagement("train-models", *words)
    return Home(folder / "home", source, trained)


@pytest.fixture
def to_read(trained_home: Home, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings of that home, for commands that change nothing."""
    _in_home(monkeypatch, trained_home.folder, trained_home.source)
    return behavior_settings(trained_home.folder, trained_home.source)


@pytest.fixture
def to_change(trained_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings of a copy of that home."""
    shutil.copytree(trained_home.folder, tmp_path / "home")
    _in_home(monkeypatch, tmp_path / "home", trained_home.source)
    train_one_model(monkeypatch)
    return behavior_settings(tmp_path / "home", trained_home.source)


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder where nothing has ever run."""
    _in_home(monkeypatch, tmp_path / "home", tmp_path / "source")
    return tmp_path / "home"


# --- train-models


def test_training_tells_machines_what_was_trained_and_how_good_it_is(trained_home: Home) -> None:
    answer = trained_home.trained
    assert answer.status == DONE, answer.err
    trainings = {row["target"]: row for row in answer.json["trainings"]}
    churn = trainings["churn"]
    assert (churn["outcome"], churn["champion"], churn["reason"]) == ("champion", MODEL, None)
    assert (churn["samples"], churn["members"]) == (SAMPLES, MEMBERS * len(ORGS))
    assert trainings["mood"]["outcome"] == "too_few_samples"
    assert trainings["timing"]["reason"] == "The source has no notifications."
    models = {row["model"]: row for row in answer.json["metrics"]["churn"]}
    assert set(models) == {f"{MODEL} (serves)", "recency", "frequency", "bg_nbd", "heuristic"}
    for row in models.values():
        value, low, high = row["roc_auc"].replace("[", "").replace("]", "").split()
        assert float(low.rstrip(",")) <= float(value) <= float(high)
    assert set(answer.json["metrics"]) == {"churn"}


def test_what_training_made_of_the_moment_shown_is_published(to_read: Any) -> None:
    beside = published(
        to_read,
        "SELECT org_id, user_id, churn_probability FROM marts.member_engagement ORDER BY 1, 2",
    )
    predicted = published(
        to_read,
        "SELECT org_id, user_id, churn_probability FROM marts.member_predictions "
        f"WHERE churn_model = '{MODEL}@2025-12-01' ORDER BY 1, 2",
    )
    assert len(predicted) == MEMBERS * len(ORGS)
    assert beside == predicted


def test_a_training_without_a_model_is_no_failure_and_is_shown_with_its_reason(
    to_change: Any,
) -> None:
    answer = engagement("train-models", "--min-samples", str(SAMPLES + 1), "--as-of", NOW)
    assert answer.status == DONE, answer.err
    shown = " ".join(answer.out.split())
    assert "What was trained, and what serves" in shown
    assert "too_few_samples" in shown
    assert f"There are {SAMPLES} samples" in shown
    models = published(to_change, "SELECT DISTINCT churn_model FROM marts.member_predictions")
    assert models == [("heuristic",)]


def test_a_training_that_breaks_fails_and_is_named_and_published_all_the_same(
    to_change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(churn_training, "train_churn", lambda *_, **__: 1 / 0)
    answer = engagement("train-models", "--as-of", NOW, "--json")
    assert answer.status == FAILED
    assert _is_one_paragraph(answer.err)
    assert "training_succeeded: churn: ZeroDivisionError: division by zero" in answer.told
    (churn, *_) = answer.json["trainings"]
    # What the training of the same moment found before still holds.
    assert (churn["target"], churn["champion"]) == ("churn", MODEL)
    models = published(to_change, "SELECT DISTINCT churn_model FROM marts.member_predictions")
    assert models == [(f"{MODEL}@2025-12-01",)]


# --- analyze-patterns


def _recent(source: Path, days: int) -> list[dict[str, str]]:
    """What was said in so many days up to the moment."""
    return [
        row
        for row in source_rows(source, "interactions")
        if AS_OF - timedelta(days=days) < datetime.fromisoformat(row["sent_at"]) <= AS_OF
    ]


def test_patterns_in_small_batches_are_told_by_organisation(
    to_change: Any, trained_home: Home
) -> None:
    before = stored(to_change, "SELECT * FROM behavior.patterns ORDER BY ALL")
    with pytest.MonkeyPatch.context() as patch:
        seen: list[int] = []
        analyze = assets.analyze_patterns

        def counted(*given: Any, **named: Any) -> Any:
            report = named.pop("report")

            def told(done: int, total: int) -> None:
                seen.append(done)
                report(done, total)

            return analyze(*given, **named, report=told)

        patch.setattr(assets, "analyze_patterns", counted)
        # Of the same moment they would not be described twice.
        later = (AS_OF + timedelta(seconds=1)).isoformat()
        answer = engagement("analyze-patterns", "--batch-size", "50", "--as-of", later, "--json")
    assert answer.status == DONE, answer.err
    assert seen == [50, 100, 150, 200, 220]
    who = {(row["org_id"], row["user_id"]) for row in _recent(trained_home.source, 30)}
    told = [(row["org_id"], row["members"], row["active_30d"]) for row in answer.json]
    assert told == [(org, MEMBERS, sum(one == org for one, _ in who)) for org in ORGS]
    assert all(datetime.fromisoformat(row["as_of"]).isoformat() == later for row in answer.json)
    after = stored(to_change, "SELECT * FROM behavior.patterns ORDER BY ALL")
    assert len(after) == len(before)


def test_one_persons_patterns_are_described_and_shown_alone(to_change: Any) -> None:
    later = (AS_OF + timedelta(hours=1)).isoformat()
    answer = engagement("analyze-patterns", "--user-id", WHO, "--as-of", later)
    assert answer.status == DONE, answer.err
    assert "choir" in answer.out
    assert "needs_reengagement" in answer.out
    moments = published(
        to_change,
        "SELECT as_of::VARCHAR, count(*) FROM marts.member_patterns GROUP BY 1 ORDER BY 1",
    )
    assert [count for _, count in moments] == [MEMBERS * len(ORGS) - 1, 1]


@pytest.mark.usefixtures("to_change")
def test_patterns_that_cannot_be_described_fail_and_those_of_before_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_job = publishing.run_job

    def without_publishing(instance: Any, job_name: str, **given: Any) -> JobRun:
        # It would publish the same once more, which takes seconds.
        if job_name == "publish":
            return JobRun(job_name, "", True, ())
        return run_job(instance, job_name, **given)

    monkeypatch.setattr(publishing, "run_job", without_publishing)
    monkeypatch.setattr(assets, "analyze_patterns", lambda *_, **__: 1 / 0)
    later = (AS_OF + timedelta(hours=1)).isoformat()
    answer = engagement("analyze-patterns", "--as-of", later, "--json")
    assert answer.status == FAILED
    assert _is_one_paragraph(answer.err)
    assert "behavior/patterns: computation_succeeded: ZeroDivisionError" in answer.told
    assert [datetime.fromisoformat(row["as_of"]) for row in answer.json] == [AS_OF, AS_OF]


# --- user-insights


@pytest.mark.usefixtures("to_read")
def test_insights_hold_a_persons_level_patterns_and_predictions() -> None:
    answer = engagement("user-insights", "--user-id", WHO, "--json")
    assert answer.status == DONE, answer.err
    (level,), (patterns,), (predicted,) = (
        answer.json[part] for part in ("engagement", "patterns", "predictions")
    )
    for row in (level, patterns, predicted):
        assert (row["org_id"], datetime.fromisoformat(row["as_of"])) == ("choir", AS_OF)
    assert level["effective_level"]
    assert patterns["timezone"] == "UTC"
    assert predicted["churn_model"] == f"{MODEL}@2025-12-01"
    shown = engagement("user-insights", "--user-id", WHO)
    assert shown.status == DONE
    for title in ("Engagement in choir", "Patterns in choir", "Predictions in choir"):
        assert title in shown.out
    assert level["admin_explanation"][:20] in shown.out


@pytest.mark.usefixtures("to_read")
def test_insights_of_nobody_fail_and_name_the_person() -> None:
    answer = engagement("user-insights", "--user-id", "nobody")
    assert (answer.status, answer.out) == (FAILED, "")
    assert _is_one_paragraph(answer.err)
    assert "member 'nobody': expected a current member of some organisation" in answer.told


# --- analytics


@pytest.mark.parametrize("days", [1, 7, 30, 400])
def test_analytics_count_what_was_said_and_attended_in_so_many_whole_days(
    to_read: Any, trained_home: Home, days: int
) -> None:
    answer = engagement("analytics", "--days", str(days), "--json")
    assert answer.status == DONE, answer.err
    first, today = (AS_OF - timedelta(days=days)).date(), AS_OF.date()
    for row, org in zip(answer.json, ORGS, strict=True):
        said = [
            (_day(r["sent_at"]), r["user_id"])
            for r in source_rows(trained_home.source, "interactions")
            if r["org_id"] == org and first <= _day(r["sent_at"]) < today
        ]
        came = [
            r["status"]
            for r in source_rows(trained_home.source, "attendance")
            if r["org_id"] == org and first <= _day(r["created_at"]) < today
        ]
        assert (row["org_id"], row["members"]) == (org, MEMBERS)
        assert row["interactions"] == len(said)
        assert row["daily_active_members"] == pytest.approx(len(set(said)) / days)
        assert (row["attended"], row["no_shows"]) == (came.count("attended"), came.count("no_show"))
        ((mean,),) = stored(
            to_read,
            f"SELECT avg(churn_probability) FROM behavior.predictions WHERE org_id = '{org}'",
        )
        assert row["mean_churn_probability"] == pytest.approx(mean)


def _day(text: str) -> date:
    return datetime.fromisoformat(text).date()


@pytest.mark.usefixtures("to_read")
def test_analytics_are_shown_to_people_of_thirty_days() -> None:
    answer = engagement("analytics")
    assert answer.status == DONE
    for word in ("The 30 whole days (UTC)", *ORGS, "mean_churn_probability"):
        assert word in answer.out


# --- What cannot be asked, and where there is nothing yet.


@pytest.mark.parametrize(
    "words",
    [
        "analyze-patterns --batch-size 0",
        "analyze-patterns --as-of yesterday",
        "analyze-patterns --user-id",
        "user-insights",
        "train-models --min-samples 9",
        "train-models --as-of 2026-02-30",
        "analytics --days 0",
        "analytics --days 3651",
        "analytics --days all",
    ],
)
def test_what_cannot_be_asked_of_behaviour_is_usage_and_starts_nothing(
    empty_home: Path, words: str
) -> None:
    answer = engagement(*words.split())
    assert (answer.status, answer.out) == (USAGE, "")
    assert "Traceback" not in answer.err
    assert not empty_home.exists()


@pytest.mark.parametrize(
    "words", ["analyze-patterns", "train-models", "user-insights --user-id keen", "analytics"]
)
def test_where_nothing_was_taken_in_behaviour_fails_and_says_what_to_do(
    empty_home: Path, words: str
) -> None:
    answer = engagement(*words.split())
    assert (answer.status, answer.out) == (FAILED, "")
    assert _is_one_paragraph(answer.err)
    assert str(empty_home) in answer.told
    assert "engagement run" in answer.told


def test_nothing_is_trained_from_a_terminal_for_a_moment_to_come(to_change: Any) -> None:
    answer = engagement("train-models", "--as-of", "2999-01-01", "--json")
    assert (answer.status, answer.out) == (FAILED, "")
    assert _is_one_paragraph(answer.err)
    assert "expected a moment that has come, found 2999-01-01" in answer.told
    assert stored(to_change, "SELECT max(as_of)::VARCHAR FROM behavior.trainings")
