"""Models from their training to what is published of them, in a real instance on real files."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from engagement_pipeline.behavior import churn_samples, churn_training, features
from engagement_pipeline.behavior.churn_models import ServedModel
from engagement_pipeline.behavior.mood import MOOD_DAYS, MOOD_FEATURES
from engagement_pipeline.behavior.timing import FEATURES as TIMING_FEATURES
from engagement_pipeline.behavior.timing_counts import ANSWER_WITHIN
from engagement_pipeline.behavior.timing_models import fitted
from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.served_models import keep
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal.running import JobRun
from engagement_pipeline.warehouse.connection import Warehouse
from engagement_pipeline.warehouse.model_files import write_model
from tests.behavior_home import (
    AS_OF,
    CUTOFFS,
    HORIZON,
    MODEL,
    ORGS,
    SAMPLES,
    behavior_settings,
    checks_of,
    describe_and_predict,
    metadata_of,
    predict_at,
    predictions,
    run,
    source_rows,
    train,
    train_one_model,
    write_behavior_source,
)
from tests.home import refresh, stored, tables
from tests.loop_home import learn

DAY = timedelta(days=1)
VERSION = f"{MODEL}@{AS_OF:%Y-%m-%d}"
NO_METRICS = contract("behavior.model_metrics").empty()


@dataclass(frozen=True)
class Trained:
    """A home that was refreshed, and then trained for the same moment."""

    home: Path
    source: Path
    training: JobRun


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained with exactly as many samples as a training was told to need; to copy."""
    folder = tmp_path_factory.mktemp("trained")
    source = write_behavior_source(folder / "source")
    settings = behavior_settings(folder / "home", source)
    refresh(settings, AS_OF)
    with pytest.MonkeyPatch.context() as patch:
        _in_home(patch, settings.home)
        train_one_model(patch, tells_importance=True)
        needed = {"train": {"config": {"min_samples": SAMPLES}}}
        training = run(settings, "train_models", ops=needed, as_of=AS_OF.isoformat())
    assert training.is_success
    return Trained(settings.home, source, training)


@pytest.fixture
def home(trained_home: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home of one's own with a model that serves, whose trainings fit a single model."""
    shutil.copytree(trained_home.home, tmp_path / "home")
    _in_home(monkeypatch, tmp_path / "home")
    train_one_model(monkeypatch)
    return behavior_settings(tmp_path / "home", trained_home.source)


def _in_home(patch: pytest.MonkeyPatch, home: Path) -> None:
    patch.setenv("ENGAGEMENT_HOME", str(home))
    patch.setenv("DAGSTER_HOME", str(home / ".dagster"))
    patch.setenv("ENGAGEMENT_PROFILE", "test")


def _model_file(settings: Settings) -> Path:
    (path,) = settings.models_folder.glob("churn-*.skops")
    return path


def _report(settings: Settings) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((settings.models_folder / "churn.json").read_text())
    return report


def _trainings(settings: Settings, columns: str) -> list[tuple[object, ...]]:
    return stored(settings, f"SELECT {columns} FROM behavior.trainings ORDER BY target, as_of")


def _is_heuristics(row: dict[str, Any]) -> bool:
    return (
        row["churn_model"] == "heuristic"
        and row["confidence"] == 0
        and row["churn_probability"] == row["churn_raw"] == row["churn_heuristic"]
    )


# --- What a training leaves.


def test_a_training_is_on_record_with_its_figures_and_its_pictures(
    home: Settings, trained_home: Trained
) -> None:
    assert _trainings(home, "target, outcome, champion, samples, cutoffs, as_of") == [
        ("churn", "champion", MODEL, SAMPLES, CUTOFFS, AS_OF),
        ("mood", "too_few_samples", None, 0, 0, AS_OF),
        ("timing", "off", None, 0, 2, AS_OF),
    ]
    gain = stored(
        home,
        "SELECT model, lower > 0, is_champion FROM behavior.model_metrics "
        "WHERE metric = 'average_precision_gain' AND NOT is_baseline",
    )
    assert gain == [(MODEL, True, True)]
    baselines = stored(
        home, "SELECT DISTINCT model FROM behavior.model_metrics WHERE is_baseline ORDER BY ALL"
    )
    assert baselines == [("bg_nbd",), ("frequency",), ("heuristic",), ("recency",)]
    most_telling = stored(
        home,
        "SELECT label FROM behavior.model_curves WHERE curve = 'importance' "
        "ORDER BY y DESC LIMIT 3",
    )
    assert {("no_shows_90d",), ("events_attended_30d",)} & set(most_telling)
    told = metadata_of(home, trained_home.training.run_id)
    assert f"| churn | champion | {MODEL} | {SAMPLES} |" in told["behavior.trainings"]["trainings"]
    metrics = told["behavior.model_metrics"]
    assert f"**{MODEL}**" in metrics["figures"]
    assert metrics["churn_average_precision"] > 0.7
    pictures = [text for text in told["behavior.model_curves"].values() if "base64" in str(text)]
    assert len(pictures) >= 3


def test_a_training_says_which_models_lost_without_being_red(
    home: Settings, trained_home: Trained
) -> None:
    checks = checks_of(home, trained_home.training.run_id)
    assert trained_home.training.failures == ()
    assert checks["behavior.trainings", "training_succeeded"].passed
    assert checks["behavior.trainings", "no_feature_knows_the_future"].passed
    winning = checks["behavior.trainings", "models_beat_their_baselines"]
    assert (winning.passed, winning.severity.name) == (False, "WARN")
    assert "mood: " in winning.description
    assert "timing: The source has no notifications." in winning.description
    assert "churn: " not in winning.description
    assert checks["behavior.predictions", "a_model_serves"].passed


def test_only_the_model_that_won_is_kept(home: Settings) -> None:
    names = sorted(path.name for path in home.models_folder.iterdir())
    assert names == sorted(["churn.json", _model_file(home).name])
    report = _report(home)
    assert (report["name"], report["as_of"]) == (MODEL, AS_OF.isoformat())
    assert report["metrics"]["average_precision_gain"]["lower"] > 0


def test_after_a_training_the_moment_shown_is_predicted_by_the_model(home: Settings) -> None:
    knots = _report(home)["knots"]
    rows = predictions(home)
    assert len(rows) == SAMPLES / CUTOFFS
    for row in rows:
        assert (row["as_of"], row["churn_model"], row["churn_reason"]) == (AS_OF, VERSION, None)
        probability = np.interp(row["churn_raw"], knots["raw"], knots["calibrated"])
        assert row["churn_probability"] == pytest.approx(probability, abs=1e-12)
        assert row["confidence"] == abs(2 * row["churn_probability"] - 1)
    assert len({row["churn_raw"] for row in rows}) > 100


# --- What ends without a model.


def test_one_sample_too_few_ends_without_a_model_and_takes_the_one_before_away(
    home: Settings,
) -> None:
    found = train(home, min_samples=SAMPLES + 1)["churn"].training
    assert found["outcome"] == "too_few_samples"
    assert f"There are {SAMPLES} samples, and a training needs {SAMPLES + 1}." == found["reason"]
    assert list(home.models_folder.iterdir()) == []
    why = predict_at(home).not_served
    assert why == f"the training of 2025-12-01 ended without a model: {found['reason']}"
    assert all(_is_heuristics(row) and row["churn_reason"] == why for row in predictions(home))


def test_where_everybody_churned_there_is_nothing_to_tell_apart(home: Settings) -> None:
    first = AS_OF - CUTOFFS * HORIZON
    with Warehouse.of(home).open() as connection:
        connection.execute("DELETE FROM raw.attendance WHERE created_at > ?", [first])
        connection.execute("DELETE FROM behavior.interactions_scored WHERE sent_at > ?", [first])
    trained = train(home)["churn"]
    assert trained.training["outcome"] == "one_class"
    assert trained.training["base_rate"] == 1
    assert trained.metrics.is_empty()
    assert "Every sample" in str(predict_at(home).not_served)


def _forget_trainings(settings: Settings) -> None:
    with Warehouse.of(settings).open() as connection:
        for table in ("trainings", "model_metrics", "model_curves"):
            connection.execute(f"DELETE FROM behavior.{table}")


def _no_churn_today(*_: object, **__: object) -> None:
    raise RuntimeError("no churn today")


def test_a_training_that_breaks_stops_no_other_and_leaves_the_model_before_in_force(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, model = predictions(home), _model_file(home).read_bytes()
    _forget_trainings(home)
    monkeypatch.setattr(churn_training, "train_churn", _no_churn_today)
    done = run(home, "train_models", as_of=AS_OF.isoformat())
    told = "RuntimeError: no churn today"
    assert done.is_success
    assert f"behavior/trainings: training_succeeded: churn: {told}" in done.failures
    checks = checks_of(home, done.run_id)
    assert checks["behavior.trainings", "training_succeeded"].severity.name == "ERROR"
    assert told in checks["behavior.trainings", "models_beat_their_baselines"].description
    assert _trainings(home, "target, outcome, reason")[0] == ("churn", "failed", told)
    assert [row[1] for row in _trainings(home, "target, outcome")[1:]] == ["too_few_samples", "off"]
    assert stored(home, "SELECT count(*) FROM behavior.model_metrics") == [(0,)]
    assert _model_file(home).read_bytes() == model
    assert checks["behavior.predictions", "a_model_serves"].passed
    assert predictions(home) == before


def test_a_training_that_breaks_leaves_what_one_of_the_same_moment_found_on_record(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = tables(home.warehouse_path, "behavior")
    monkeypatch.setattr(churn_training, "train_churn", _no_churn_today)
    assert train(home)["churn"].is_failed
    assert _trainings(home, "target, outcome, champion")[0] == ("churn", "champion", MODEL)
    after = tables(home.warehouse_path, "behavior")
    for name in ("behavior.model_metrics", "behavior.model_curves"):
        assert after[name].equals(measured[name])


def test_a_training_that_breaks_with_no_model_before_it_is_why_none_serves(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(home.models_folder)
    _forget_trainings(home)
    monkeypatch.setattr(churn_training, "train_churn", _no_churn_today)
    train(home)
    why = str(predict_at(home).not_served)
    assert "churn.json is missing" in why
    assert "the training of 2025-12-01 failed: RuntimeError: no churn today" in why


def test_a_feature_that_knows_the_next_day_fails_the_training_and_no_model_is_kept(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_time = features.member_features

    def a_day_late(sources: Any, *, as_of: datetime) -> pl.DataFrame:
        known = in_time(sources, as_of=as_of + DAY)
        return known.with_columns(pl.lit(as_of).cast(known.schema["as_of"]).alias("as_of"))

    monkeypatch.setattr(features, "member_features", a_day_late)
    monkeypatch.setattr(churn_samples, "member_features", a_day_late)
    shutil.rmtree(home.models_folder)
    _forget_trainings(home)
    done = run(home, "train_models", as_of=AS_OF.isoformat())
    assert done.is_success
    checks = checks_of(home, done.run_id)
    leaks = checks["behavior.trainings", "no_feature_knows_the_future"]
    assert (leaks.passed, leaks.severity.name) == (False, "ERROR")
    assert "churn: " in leaks.description
    assert "days_since_active of " in leaks.description
    assert "and without what came later" in leaks.description
    assert not checks["behavior.trainings", "training_succeeded"].passed
    assert _trainings(home, "target, outcome, champion")[0] == ("churn", "failed", None)
    assert not home.models_folder.exists()


# --- Which model may serve.


def _damage(settings: Settings) -> None:
    path = _model_file(settings)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _rewrite(name: str, value: object) -> Callable[[Settings], None]:
    def change(settings: Settings) -> None:
        changed = _report(settings) | {name: value}
        (settings.models_folder / "churn.json").write_text(json.dumps(changed))

    return change


def _replace_by_a_foreign_model(settings: Settings) -> None:
    from sklearn.naive_bayes import GaussianNB
    from skops.io import dumps

    write_model(settings.models_folder, "churn", dumps(GaussianNB()), _report(settings))


def _replace_by_a_model_of_two_features(settings: Settings) -> None:
    from sklearn.linear_model import LogisticRegression
    from skops.io import dumps

    fitted_to_two = LogisticRegression().fit(np.array([[0.0, 1.0], [1.0, 0.0]]), [0, 1])
    write_model(settings.models_folder, "churn", dumps(fitted_to_two), _report(settings))


def _cut_the_report(settings: Settings) -> None:
    path = settings.models_folder / "churn.json"
    path.write_text(path.read_text()[:-40])


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (_damage, "is damaged: expected the sha256"),
        (lambda settings: _model_file(settings).unlink(), "is missing, and the report of churn"),
        (lambda settings: shutil.rmtree(settings.models_folder), "churn.json is missing"),
        (_cut_the_report, "churn.json cannot be read"),
        (_rewrite("versions", {"python": "2.7"}), "is of other versions"),
        (_rewrite("feature_names", ["shoe_size"]), "is of other feature names"),
        (_rewrite("horizon_days", 7), "is of other horizon days: expected 30, found 7"),
        (_rewrite("knots", None), "the report of the model is not as it was written"),
        (_rewrite("as_of", "2025-12-01T04:00:00"), "as_of: expected a time zone"),
        (_rewrite("knots", {"raw": [0, 1], "calibrated": [0.5]}), "knots: expected as many"),
        (_rewrite("target", "mood"), "target: expected churn, found mood"),
        (_replace_by_a_foreign_model, "GaussianNB"),
        (_replace_by_a_model_of_two_features, f"the model {VERSION} could not predict"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_model_that_is_not_as_it_was_kept_does_not_serve_and_the_reason_is_told(
    home: Settings, spoil: Callable[[Settings], None], word: str
) -> None:
    spoil(home)
    why = predict_at(home).not_served
    assert word in str(why)
    rows = predictions(home)
    assert rows
    assert all(_is_heuristics(row) and row["churn_reason"] == why for row in rows)


def test_a_model_of_another_horizon_does_not_serve(home: Settings) -> None:
    other = behavior_settings(home.home, home.source_folder, churn_horizon_days=14)
    assert "expected 14, found 30" in str(predict_at(other).not_served)
    assert {row["horizon_days"] for row in predictions(other)} == {14}


def test_a_model_does_not_predict_for_a_moment_before_it_was_trained(home: Settings) -> None:
    before = AS_OF - timedelta(microseconds=1)
    assert "was trained for a moment after" in str(predict_at(home, before).not_served)
    assert all(_is_heuristics(row) for row in predictions(home))
    assert predict_at(home, AS_OF + DAY).not_served is None


def test_a_model_that_may_not_serve_is_a_warning_with_the_reason_and_fails_no_run(
    home: Settings,
) -> None:
    _damage(home)
    run_id = describe_and_predict(home, AS_OF)
    checks = checks_of(home, run_id)
    assert checks["behavior.predictions", "computation_succeeded"].passed
    serves = checks["behavior.predictions", "a_model_serves"]
    assert (serves.passed, serves.severity.name) == (False, "WARN")
    assert "is damaged" in serves.description
    assert metadata_of(home, run_id)["behavior.predictions"]["churn_model"] == "heuristic"


def test_training_for_a_later_moment_leaves_predictions_of_an_earlier_one_alone(
    home: Settings,
) -> None:
    before = predictions(home)
    done = run(home, "train_models", as_of=(AS_OF + HORIZON).isoformat())
    assert done.is_success
    assert done.failures == ()
    assert len(_trainings(home, "target")) == 6
    assert predictions(home) == before
    told, checks = metadata_of(home, done.run_id), checks_of(home, done.run_id)
    assert sorted(told) == ["behavior.model_curves", "behavior.model_metrics", "behavior.trainings"]
    assert not [table for table, _ in checks if table == "behavior.predictions"]


def test_without_a_moment_it_is_trained_for_the_last_refresh(home: Settings) -> None:
    done = run(home, "train_models")
    assert done.failures == ()
    assert _trainings(home, "as_of") == [(AS_OF,)] * 3
    assert "behavior.predictions" in metadata_of(home, done.run_id)
    assert {row["as_of"] for row in predictions(home)} == {AS_OF}


def test_nothing_is_trained_for_a_moment_to_come(home: Settings) -> None:
    done = run(home, "train_models", as_of="2999-01-01T00:00:00Z")
    assert not done.is_success
    assert "as_of: expected a moment that has come, found 2999-01-01" in done.failures[0]
    assert len(_trainings(home, "target")) == 3


def test_models_of_mood_and_timing_serve_where_they_are_in_force(home: Settings) -> None:
    found = predictions(home)
    assert {row["mood_predicted"] for row in found} == {None}
    assert {row["timing_model"] for row in found} == {"own_hours", "org_hours"}
    keep(home, "mood", _served("mood", MOOD_FEATURES, MOOD_DAYS, _always_glad()), NO_METRICS)
    answered_at_seven = pl.DataFrame(
        {
            "local_hour": [7, 8],
            "local_weekday": [3, 5],
            "log_share": [0.0, 0.0],
            "n": [50, 50],
            "n_answered": [49, 1],
        }
    )
    timing = _served("timing", TIMING_FEATURES, ANSWER_WITHIN.days, fitted(answered_at_seven))
    keep(home, "timing", timing, NO_METRICS)
    predict_at(home)
    for row in predictions(home):
        assert (row["mood_predicted"] is None) == (row["mood_now"] is None)
        assert row["mood_predicted"] in (None, pytest.approx(0.75))
    of_many = [row for row in predictions(home) if row["timing_model"] == "logistic_regression"]
    assert {(row["best_hour"], row["best_weekday"]) for row in of_many} == {(7, 3)}


def _served(target: str, names: tuple[str, ...], days: int, estimator: Any) -> ServedModel:
    return ServedModel(
        target=target,
        name="a_model",
        feature_names=names,
        horizon_days=days,
        as_of=AS_OF,
        estimator=estimator,
        knots=((0.0, 1.0), (0.0, 1.0)),
    )


def _always_glad() -> Any:
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=-9.0, keep_empty_features=True),
        GradientBoostingRegressor(n_estimators=2),
    )
    return model.fit(np.zeros((4, len(MOOD_FEATURES))), np.full(4, 0.75))


# --- What came of what was predicted.


def _kept(settings: Settings, columns: str = "*") -> list[tuple[Any, ...]]:
    return stored(
        settings,
        f"SELECT {columns} FROM loops.predictions WHERE kind = 'churn' ORDER BY ALL",
    )


def test_predictions_are_kept_once_a_week_as_the_model_said_them(home: Settings) -> None:
    assert _kept(home, "org_id, user_id, subject, predicted, predicted_by, made_at, due_at") == [
        (
            row["org_id"],
            row["user_id"],
            row["user_id"],
            row["churn_raw"],
            MODEL,
            AS_OF,
            AS_OF + HORIZON,
        )
        for row in predictions(home)
    ]
    moments = [AS_OF, AS_OF + 6 * DAY, AS_OF + 7 * DAY, AS_OF + 13 * DAY]
    kept = [predict_at(home, at).metadata["kept_for_outcomes"] for at in moments]
    assert kept == [220, 0, 220, 0]
    days = [(AS_OF, 220), (AS_OF + 7 * DAY, 220)]
    assert _kept(home, "DISTINCT made_at, count(*) OVER (PARTITION BY made_at)") == days
    ids = [row[0] for row in _kept(home, "prediction_id")]
    assert len(set(ids)) == len(ids)


def test_with_the_loops_off_predictions_are_made_and_none_is_kept_or_mapped(
    home: Settings,
) -> None:
    before = _kept(home)
    off = behavior_settings(home.home, home.source_folder, loops_enabled=False)
    assert "kept_for_outcomes" in predict_at(off, AS_OF + 8 * DAY).metadata
    assert {row["as_of"] for row in predictions(off)} == {AS_OF + 8 * DAY}
    assert _kept(off) == before


def _who_did_something(folder: Path, start: datetime, end: datetime) -> set[tuple[str, str]]:
    moments = [
        (row["org_id"], row["user_id"], datetime.fromisoformat(row[column]))
        for table, column in (("attendance", "created_at"), ("interactions", "sent_at"))
        for row in source_rows(folder, table)
    ]
    return {(org, user) for org, user, at in moments if start < at <= end}


def test_predictions_that_met_their_outcome_correct_the_next_ones_of_the_same_model(
    home: Settings,
) -> None:
    met_at = AS_OF + HORIZON
    assert learn(home, met_at - timedelta(microseconds=1), "prediction")
    assert stored(home, "SELECT count(*) FROM loops.signals WHERE kind = 'OUTCOME'") == [(0,)]
    learn(home, met_at, "prediction")
    active = _who_did_something(home.source_folder, AS_OF, met_at)
    outcomes = stored(
        home, "SELECT org_id, user_id, value FROM loops.signals WHERE kind = 'OUTCOME' ORDER BY ALL"
    )
    pairs = [(row["org_id"], row["user_id"]) for row in predictions(home)]
    assert outcomes == [(*pair, float(pair not in active)) for pair in pairs]
    assert 50 < len(active) < 170
    keys = stored(home, "SELECT DISTINCT key, org_id, is_pooled FROM loops.calibration_maps")
    assert sorted(keys) == [(f"churn:{MODEL}", org, True) for org in ORGS]

    assert predict_at(home, met_at).not_served is None
    knots = stored(
        home,
        "SELECT raw, calibrated FROM loops.calibration_maps WHERE org_id = 'choir' ORDER BY raw",
    )
    raw, calibrated = zip(*knots, strict=True)
    rows = predictions(home)
    for row in rows:
        probability = np.interp(row["churn_raw"], raw, calibrated)
        assert row["churn_probability"] == pytest.approx(probability, abs=1e-12)
        assert row["confidence"] == abs(2 * row["churn_probability"] - 1)
    assert any(row["churn_probability"] != row["churn_raw"] for row in rows)
    uses = stored(
        home,
        "SELECT archetype, consumer, org_id FROM loops.consumer_uses "
        "WHERE consumer = 'churn_probability' ORDER BY ALL",
    )
    assert uses == [("prediction", "churn_probability", org) for org in ORGS]

    # It was learned of that model, and says nothing of what the heuristic says.
    shutil.rmtree(home.models_folder)
    predict_at(home, met_at)
    assert all(_is_heuristics(row) for row in predictions(home))


def test_a_map_is_of_no_use_with_the_loops_off(home: Settings) -> None:
    learn(home, AS_OF + HORIZON, "prediction")
    predict_at(home, AS_OF + HORIZON)
    mapped = predictions(home)
    off = behavior_settings(home.home, home.source_folder, loops_enabled=False)
    predict_at(off, AS_OF + HORIZON)
    knots = _report(home)["knots"]
    for row, with_map in zip(predictions(off), mapped, strict=True):
        own = np.interp(row["churn_raw"], knots["raw"], knots["calibrated"])
        assert row["churn_probability"] == pytest.approx(own, abs=1e-12)
        assert row["churn_raw"] == with_map["churn_raw"]
    assert predictions(off) != mapped


# --- The same twice.


def test_the_same_input_in_another_order_gives_the_same_tables(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_one_model(monkeypatch, tells_importance=True)
    turned = tmp_path / "turned"
    turned.mkdir()
    for path in home.source_folder.glob("*.csv"):
        header, *lines = path.read_text().splitlines()
        (turned / path.name).write_text("\n".join([header, *reversed(lines)]) + "\n")
    again = behavior_settings(tmp_path / "again", turned)
    refresh(again, AS_OF)
    train(again, min_samples=SAMPLES)
    predict_at(again)
    first, second = (tables(s.warehouse_path, "behavior") for s in (home, again))
    # It tells files from each other, and these are others.
    del first["behavior.snapshots"]
    assert first.keys() <= second.keys()
    assert all(frame.height for frame in first.values())
    for name, frame in first.items():
        assert second[name].equals(frame), name
    assert _kept(again) == _kept(home)
