"""Learning when messages are answered: what wins, what does not, and that nothing leaks."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from engagement_pipeline.behavior.model_bytes import model_report, restored, to_bytes
from engagement_pipeline.behavior.splits import id_hashes
from engagement_pipeline.behavior.timing import FEATURES, best_times
from engagement_pipeline.behavior.timing_counts import (
    ACTIVITY_SCHEMA,
    MESSAGES_SCHEMA,
    cutoffs,
)
from engagement_pipeline.behavior.timing_training import GAIN, MODEL, train_timing
from engagement_pipeline.contracts import contract

_AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)
_OLDER, _NEWER = cutoffs(_AS_OF)
_TRAININGS = contract("behavior.trainings")
_SEED = 7


def _messages(rows):
    """Rows of (org, user, known at, hour, weekday, n, answered)."""
    return pl.DataFrame(rows, schema=MESSAGES_SCHEMA, orient="row")


def _activity(rows=()):
    """Rows of (org, user, known at, hour, n)."""
    return pl.DataFrame(list(rows), schema=ACTIVITY_SCHEMA, orient="row")


def _trained(messages, activity=None, **given):
    options = {"as_of": _AS_OF, "min_samples": 500, "seed": _SEED, "resamples": 60} | given
    found = train_timing(messages, _activity() if activity is None else activity, **options)
    row = {**found.training, "computed_at": _AS_OF}
    _TRAININGS.validate(pl.DataFrame([row], schema=_TRAININGS.polars_schema))
    if found.training["outcome"] not in ("champion", "no_champion"):
        assert (found.metrics.height, found.curves.height) == (0, 0)
    assert (found.model is None) == (found.training["champion"] is None)
    assert (found.training["reason"] is None) == (found.training["champion"] is not None)
    return found


def _world(likes, *, people=60, each=20, seed=1):
    """Messages at hours and weekdays drawn evenly, answered with the probability `likes` says."""
    dice = np.random.default_rng(seed)
    rows = {}
    for known_at in (_OLDER, _NEWER):
        for number in range(people):
            for _ in range(each):
                hour, weekday = int(dice.integers(24)), int(dice.integers(1, 8))
                key = (f"o{number % 2}", f"u{number}", known_at, hour, weekday)
                n, answered = rows.get(key, (0, 0))
                rows[key] = (n + 1, answered + int(dice.random() < likes(number, hour, weekday)))
    return [(*key, *counts) for key, counts in rows.items()]


def _figure(found, model, metric):
    rows = found.metrics.filter(pl.col("model") == model, pl.col("metric") == metric)
    return rows.row(0, named=True)


@pytest.fixture(scope="module")
def sunday():
    """A world where messages are answered on Sundays, whatever the hour."""
    rows = _world(lambda _, __, weekday: 0.8 if weekday == 7 else 0.2, people=80)
    return _messages(rows), _trained(_messages(rows))


def test_a_model_that_knows_the_weekday_wins_where_it_matters(sunday):
    _, found = sunday
    assert found.training["outcome"] == "champion"
    assert found.training["champion"] == MODEL
    gain = _figure(found, MODEL, GAIN)
    assert 0 < gain["lower"] < gain["value"] < gain["upper"]
    assert _figure(found, MODEL, "roc_auc")["value"] > 0.65
    served = found.metrics.filter("is_champion")["model"].unique().to_list()
    assert served == [MODEL]


def test_what_is_said_of_a_training_is_so(sunday):
    messages, found = sunday
    training = found.training
    assert training["samples"] == 2 * 80 * 20
    assert (training["members"], training["organisations"]) == (80, 2)
    assert training["base_rate"] == messages["n_answered"].sum() / messages["n"].sum()
    assert (training["first_cutoff"], training["last_cutoff"]) == (_OLDER, _NEWER)
    assert set(found.metrics["n"]) == {80 * 20}
    assert found.metrics.filter("is_baseline")["model"].unique().sort().to_list() == [
        "org_hours",
        "own_hours",
    ]
    assert set(found.curves["curve"]) == {"reliability"}
    assert found.curves.filter(pl.col("model") == MODEL)["n"].sum() == 80 * 20


def test_the_log_loss_is_that_of_scikit_learn_on_what_was_held_out(sunday):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    messages, found = sunday
    # Message by message, one-hot by hand; nobody has any activity, so all shares are alike.
    single = [
        (row["user_id"], row["known_at"], row["local_hour"], row["local_weekday"], int(place < k))
        for row in messages.iter_rows(named=True)
        for k in [row["n_answered"]]
        for place in range(row["n"])
    ]
    user_id, known_at, *numbers = zip(*single, strict=True)
    hour, weekday, answered = map(np.array, numbers)
    flat = np.full((len(single), 1), np.round(np.log(1 / 24), 2))
    points = np.hstack([np.eye(24)[hour], np.eye(7)[weekday - 1], flat])
    fold = id_hashes(pl.Series(user_id), _SEED) % 2
    is_newer = np.array(known_at) == _NEWER
    expected, outcomes = [], []
    for tested in (0, 1):
        train, test = ~is_newer & (fold != tested), is_newer & (fold == tested)
        model = LogisticRegression(max_iter=1_000).fit(points[train], answered[train])
        expected.append(model.predict_proba(points[test])[:, 1])
        outcomes.append(answered[test])
    loss = log_loss(np.concatenate(outcomes), np.concatenate(expected))
    assert _figure(found, MODEL, "log_loss")["value"] == pytest.approx(loss, abs=1e-4)


def test_the_model_that_serves_asks_for_sundays(sunday):
    _, found = sunday
    members = pl.DataFrame({"org_id": ["o0"], "user_id": ["u0"], "timezone": ["UTC"]})
    activity = _activity([("o0", "u0", _AS_OF, 9, 30)])
    row = best_times(activity, members, found.model, as_of=_AS_OF).row(0, named=True)
    assert (row["best_weekday"], row["timing_model"]) == (7, MODEL)


def test_one_hot_and_additive_is_what_the_choice_of_an_hour_relies_on(sunday):
    _, found = sunday
    grid = np.array([(h, w, s) for h in range(24) for w in range(1, 8) for s in (-3.0, -0.5)])
    decision = found.model.decision_function(grid).reshape(24, 7, 2)
    parts = decision - decision[:1] - decision[:, :1] + decision[:1, :1]
    assert np.abs(parts).max() < 1e-9
    assert grid.shape[1] == len(FEATURES)


def test_the_model_can_be_kept_as_a_file_and_says_the_same_again(sunday):
    _, found = sunday
    report = model_report(found.served, found.metrics)
    again = restored(to_bytes(found.model), json.loads(json.dumps(report)), target="timing")
    assert (again.target, again.name, again.feature_names) == ("timing", MODEL, FEATURES)
    points = np.array([[h, 1 + h % 7, -1.5] for h in range(24)])
    assert (again.estimator.predict_proba(points) == found.model.predict_proba(points)).all()
    assert _trained(None).served is None


def test_the_order_of_rows_changes_nothing(sunday):
    messages, found = sunday
    again = _trained(messages.sample(fraction=1, shuffle=True, seed=3))
    assert again.training == found.training
    assert again.metrics.equals(found.metrics)
    assert again.curves.equals(found.curves)


def test_where_hours_and_days_do_not_matter_no_model_serves():
    found = _trained(_messages(_world(lambda *_: 0.4)))
    assert found.training["outcome"] == "no_champion"
    assert found.model is None
    gain = _figure(found, MODEL, GAIN)
    assert gain["lower"] < 0
    assert f"{gain['lower']:+.4f}" in found.training["reason"]
    auc = _figure(found, MODEL, "roc_auc")
    assert auc["lower"] < 0.5 < auc["upper"]
    assert not found.metrics["is_champion"].any()


def test_people_are_measured_by_what_was_learned_of_others():
    # Each answers always or never, alone in an organisation. Who knew it would need no hour.
    rows = _world(lambda number, *_: float(number % 4 < 2))
    found = _trained(_messages([(f"of {row[1]}", *row[1:]) for row in rows]))
    for model in ("org_hours", "own_hours", MODEL):
        assert _figure(found, model, "roc_auc")["value"] < 0.6, model


def test_activity_of_a_later_moment_is_not_looked_at():
    rows = _messages(_world(lambda *_: 0.4))
    dice = np.random.default_rng(2)
    later = [
        (f"o{n % 2}", f"u{n}", _AS_OF, hour, int(dice.integers(1, 50)))
        for n in range(60)
        for hour in range(24)
    ]
    assert _trained(rows, _activity(later)).metrics.equals(_trained(rows).metrics)


def test_own_hours_tell_who_answers_when():
    # Everybody has an hour of their own, is seen in it, and answers in it.
    activity = _activity(
        (f"o{n % 2}", f"u{n}", known_at, n // 2 % 24, 20)
        for n in range(60)
        for known_at in (_OLDER, _NEWER)
    )
    likes = _world(lambda number, hour, _: 0.9 if hour == number // 2 % 24 else 0.1, each=30)
    found = _trained(_messages(likes), activity)
    own, org = (_figure(found, name, "log_loss")["value"] for name in ("own_hours", "org_hours"))
    assert own < org
    assert _figure(found, "own_hours", "roc_auc")["lower"] > 0.5
    alone = _trained(_messages(likes))
    assert _figure(alone, "own_hours", "roc_auc")["value"] == pytest.approx(0.5, abs=0.05)


def test_one_message_too_few_is_not_trained_on():
    rows = _world(lambda *_: 0.4, people=50, each=5)
    assert sum(row[5] for row in rows) == 500
    found = _trained(_messages(rows), min_samples=501)
    assert found.training["outcome"] == "too_few_samples"
    assert found.training["reason"] == "There are 500 messages, and a training needs 501."
    assert _trained(_messages(rows)).training["outcome"] == "no_champion"


@pytest.mark.parametrize(
    ("kept", "found"),
    [(_OLDER, "No message is of the last 30 days"), (_NEWER, "older than the last 30 days")],
)
def test_one_part_of_the_time_is_not_enough(kept, found):
    rows = [row for row in _world(lambda *_: 0.4, each=10) if row[2] == kept]
    training = _trained(_messages(rows)).training
    assert training["outcome"] == "too_few_samples"
    assert found in training["reason"]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_is_always_or_never_answered_has_nothing_to_tell_apart(share):
    found = _trained(_messages(_world(lambda *_: share, each=5)))
    assert found.training["outcome"] == "one_class"
    assert found.training["base_rate"] == share


def test_one_class_in_the_time_tested_is_one_class():
    rows = [(*row[:6], row[5] if row[2] == _NEWER else row[6]) for row in _world(lambda *_: 0.4)]
    assert _trained(_messages(rows)).training["outcome"] == "one_class"


def test_one_person_cannot_be_tested_by_others():
    rows = _world(lambda *_: 0.4, people=1, each=600)
    assert _trained(_messages(rows)).training["outcome"] == "one_class"


def test_a_source_without_notifications_has_nothing_to_train_on():
    found = _trained(None)
    assert (found.training["outcome"], found.training["samples"]) == ("off", 0)
    assert found.training["reason"] == "The source has no notifications."
    assert _trained(_messages([])).training["outcome"] == "too_few_samples"


def test_of_too_many_messages_whole_people_are_measured(sunday, monkeypatch):
    messages, _ = sunday
    monkeypatch.setattr("engagement_pipeline.behavior.timing_training.MEASURED_AT_MOST", 190)
    found = _trained(messages)
    assert set(found.metrics["n"]) == {200}
    assert found.training["samples"] == 2 * 80 * 20


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="as_of must have a time zone"):
        _trained(None, as_of=_AS_OF.replace(tzinfo=None))


def test_a_moment_may_be_told_in_any_zone(sunday):
    messages, found = sunday
    there = _trained(messages, as_of=_AS_OF.astimezone(ZoneInfo("Asia/Kolkata")))
    assert there.metrics.equals(found.metrics)
