"""Predictions for rows held out: from what they are made, and what is made of them."""

import numpy as np
import polars as pl
import pytest

from engagement_pipeline.behavior.churn_models import churn_fitters
from engagement_pipeline.behavior.splits import (
    LeakError,
    Split,
    splits,
)
from engagement_pipeline.behavior.validation import walk_forward
from tests.unit.behavior.churn_worlds import (
    FEATURES,
    HORIZON_DAYS,
    cutoff,
    made_baselines,
    made_samples,
)


def planned(samples, **changes):
    arguments = {"horizon_days": HORIZON_DAYS, "seed": 1, "max_training_samples": 10_000}
    return splits(samples, **{**arguments, **changes})


class Remembering:
    """A fitter that keeps what it was given, and predicts the mean of it."""

    classes_ = np.array([0.0, 1.0])

    def __init__(self):
        self.trainings = []

    def __call__(self, rows, outcomes, _):
        self.trainings.append((rows, outcomes))
        self.mean = outcomes.mean()
        return self

    def predict_proba(self, rows):
        return np.column_stack([np.full(len(rows), 1 - self.mean), np.full(len(rows), self.mean)])


def walked(samples, fitters, **changes):
    arguments = {
        "feature_names": FEATURES,
        "fitters": fitters,
        "baseline_scores": made_baselines,
        "horizon_days": HORIZON_DAYS,
        "seed": 1,
        "max_training_samples": 10_000,
    }
    return walk_forward(samples, **{**arguments, **changes})


def test_the_walk_itself_refuses_a_planted_leak(monkeypatch):
    samples = made_samples(people=40, cutoffs=7)
    whole = [Split(cutoff(6), 0, np.arange(samples.height), np.array([6]))]
    monkeypatch.setattr("engagement_pipeline.behavior.validation.splits", lambda *_, **__: whole)
    with pytest.raises(LeakError):
        walked(samples, {"m": Remembering()})


def test_a_model_sees_the_features_and_outcomes_of_its_training_alone():
    samples = made_samples(people=30, cutoffs=5)
    model = Remembering()
    held_out = walked(samples, {"m": model})
    expected = planned(samples)
    assert len(model.trainings) == len(expected)
    for (rows, outcomes), split in zip(model.trainings, expected, strict=True):
        train = samples[split.train]
        np.testing.assert_array_equal(outcomes, train["outcome"].to_numpy())
        np.testing.assert_array_equal(rows[:, 0], train["days_since_active"].to_numpy())
        assert np.isnan(rows[:, 3]).all()
    means = {
        (split.cutoff, split.fold): samples[split.train]["outcome"].mean() for split in expected
    }
    keys = held_out.rows.select("cutoff", "fold").rows()
    assert held_out.scores["m"].tolist() == pytest.approx([means[key] for key in keys])
    assert held_out.baselines == ("recency", "frequency")
    assert len(held_out.probes) == 5


def test_a_baseline_becomes_a_probability_by_the_outcomes_trained_on():
    samples = made_samples(people=30, cutoffs=5)
    changed = samples.with_columns(
        outcome=pl.when(pl.col("cutoff") == cutoff(4))
        .then(1 - pl.col("outcome"))
        .otherwise("outcome")
    )
    first, second = (walked(each, {"m": Remembering()}) for each in (samples, changed))
    is_last = (first.rows["cutoff"] == cutoff(4)).to_numpy()
    for name in ("recency", "frequency"):
        given = first.probabilities[name]
        assert ((given > 0) & (given < 1)).all()
        np.testing.assert_array_equal(given[is_last], second.probabilities[name][is_last])


def test_a_members_own_outcome_has_no_part_in_their_calibrated_probability():
    samples = made_samples(people=30, cutoffs=3)
    first = walked(samples, churn_fitters(trees=3), test_cutoffs=1, folds=3)
    fold = first.rows["fold"][0]
    people = first.rows.filter(pl.col("fold") == fold)["user_id"].unique()
    changed = samples.with_columns(
        outcome=pl.when(pl.col("user_id").is_in(people.to_list()) & (pl.col("cutoff") == cutoff(2)))
        .then(1 - pl.col("outcome"))
        .otherwise("outcome")
    )
    second = walked(changed, churn_fitters(trees=3), test_cutoffs=1, folds=3)
    is_theirs = (first.rows["fold"] == fold).to_numpy()
    for name, found in first.probabilities.items():
        np.testing.assert_array_equal(found[is_theirs], second.probabilities[name][is_theirs])
        assert ((found > 0) & (found < 1)).all()


def test_the_order_of_samples_does_not_change_a_prediction():
    samples = made_samples(people=30, cutoffs=5)
    shuffled = samples.sample(fraction=1, shuffle=True, seed=3)
    first, second = (
        walked(each, churn_fitters(trees=3), max_training_samples=40, folds=2)
        for each in (samples, shuffled)
    )
    assert first.rows.equals(second.rows)
    for name in first.scores:
        np.testing.assert_array_equal(first.scores[name], second.scores[name])
        np.testing.assert_array_equal(first.probabilities[name], second.probabilities[name])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.drop("cutoff"), "expected the columns .'cutoff'."),
        (lambda rows: rows.with_columns(outcome=pl.lit(0.5)), "expected an outcome of 0 or 1"),
        (lambda rows: pl.concat([rows, rows[:1]]), "expected one row for each"),
        (lambda rows: rows.drop("visits"), "expected the features visits"),
        (lambda rows: rows.with_columns(mood=pl.lit(np.inf)), "mood has ±inf"),
    ],
)
def test_samples_that_are_none_are_an_error(change, words):
    samples = change(made_samples(people=20, cutoffs=3))

    def baselines(_, test, **__):
        return {"recency": np.zeros(test.height)}

    with pytest.raises(ValueError, match=words):
        walked(samples, {"m": Remembering()}, baseline_scores=baselines)


def test_a_baseline_without_a_score_is_an_error_that_names_it():
    samples = made_samples(people=20, cutoffs=3)

    def broken(_, test, **__):
        return {"recency": np.full(test.height, np.nan)}

    with pytest.raises(ValueError, match="baseline recency: expected"):
        walked(samples, {"m": Remembering()}, baseline_scores=broken)
