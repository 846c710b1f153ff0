"""Predictions for rows held out: from what they are made, and what is made of them."""

import numpy as np
import polars as pl
import pytest

from engagement_pipeline.behavior.churn_models import churn_fitters
from engagement_pipeline.behavior.classification_metrics import METRICS, assess
from engagement_pipeline.behavior.isotonic import fitted_knots, probabilities
from engagement_pipeline.behavior.splits import (
    KEYS,
    LeakError,
    Split,
    id_hashes,
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

ONE_MODEL = {"logistic_regression": churn_fitters()["logistic_regression"]}
"""For what does not depend on which models there are."""


def planned(samples, **changes):
    arguments = {"horizon_days": HORIZON_DAYS, "seed": 1, "max_training_samples": 10_000}
    return splits(samples, **{**arguments, **changes})


class Remembering:
    """A fitter that keeps what it was given; its models predict the mean of it, and keep whom."""

    def __init__(self):
        self.trainings = []

    def __call__(self, rows, outcomes, _):
        self.trainings.append(Remembered(rows, outcomes))
        return self.trainings[-1]


class Remembered:
    classes_ = np.array([0.0, 1.0])

    def __init__(self, rows, outcomes):
        self.rows, self.outcomes, self.asked = rows, outcomes, []

    def predict_proba(self, rows):
        self.asked.append(rows)
        mean = self.outcomes.mean()
        return np.column_stack([np.full(len(rows), 1 - mean), np.full(len(rows), mean)])


class Echo:
    """A model that says a thousandth of its first feature, whatever it was taught."""

    classes_ = np.array([0.0, 1.0])

    def predict_proba(self, rows):
        said = rows[:, 0] / 1_000
        return np.column_stack([1 - said, said])


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
    measured = model.trainings[::3]
    assert len(measured) == len(expected)
    for training, split in zip(measured, expected, strict=True):
        train = samples[split.train]
        np.testing.assert_array_equal(training.outcomes, train["outcome"].to_numpy())
        np.testing.assert_array_equal(training.rows[:, 0], train["days_since_active"].to_numpy())
        assert np.isnan(training.rows[:, 3]).all()
    means = {
        (split.cutoff, split.fold): samples[split.train]["outcome"].mean() for split in expected
    }
    keys = held_out.rows.select("cutoff", "fold").rows()
    assert held_out.scores["m"].tolist() == pytest.approx([means[key] for key in keys])
    assert held_out.baselines == ("recency", "frequency")
    assert len(held_out.probes) == 5


def test_maps_are_of_people_trained_on_each_scored_by_what_the_others_taught():
    samples = made_samples(people=30, cutoffs=5).with_row_index("row")
    model, baselines = Remembering(), []

    def recency(train, test, **_):
        baselines.append((train["row"].to_list(), test["row"].to_list()))
        return {"recency": test["days_since_active"].to_numpy()}

    walked(samples, {"m": model}, feature_names=["row"], baseline_scores=recency)
    assert baselines == [
        (training.rows[:, 0].tolist(), training.asked[0][:, 0].tolist())
        for training in model.trainings
    ]
    user_of = dict(samples.select("row", "user_id").iter_rows())
    for place, split in enumerate(planned(samples)):
        _, (one, other), back = baselines[3 * place : 3 * place + 3]
        assert back == (other, one)
        assert sorted(one + other) == sorted(split.train.tolist())
        assert not {user_of[row] for row in one} & {user_of[row] for row in other}
        assert 0.2 < len(one) / split.train.size < 0.8


def test_a_map_is_the_isotonic_one_of_what_was_known():
    samples = made_samples(people=30, cutoffs=5)
    held_out = walked(samples, {})
    for split in planned(samples):
        train = samples[split.train]
        knots = fitted_knots(train["days_since_active"].to_numpy(), train["outcome"].to_numpy())
        test = samples[split.test].sort(KEYS)
        is_here = (held_out.rows["cutoff"] == split.cutoff) & (held_out.rows["fold"] == split.fold)
        np.testing.assert_allclose(
            held_out.probabilities["recency"][is_here.to_numpy()],
            probabilities(test["days_since_active"].to_numpy(), knots),
        )


def test_a_model_that_says_what_a_baseline_says_is_as_good_a_probability():
    # Half as many churn at the end: who may look at that would fare better.
    samples = made_samples(people=60, cutoffs=6).with_columns(
        outcome=pl.when(
            (pl.col("cutoff") >= cutoff(3)) & pl.col("user_id").str.contains("[02468]$")
        )
        .then(0.0)
        .otherwise("outcome")
    )
    held_out = walked(samples, {"echo": lambda *_: Echo()}, folds=2)
    np.testing.assert_allclose(
        held_out.probabilities["echo"], held_out.probabilities["recency"], rtol=1e-9
    )
    found = assess(
        held_out.outcomes,
        held_out.scores,
        held_out.probabilities,
        held_out.members,
        seed=1,
        resamples=1,
    )
    for metric in METRICS:
        model, baseline = (found.figure(name, metric).value for name in ("echo", "recency"))
        assert model == pytest.approx(baseline, rel=1e-9)
    assert found.figure("recency", "calibration_error").value > 0.1


def test_no_probability_knows_an_outcome_from_after_its_cut_off():
    samples = made_samples(people=30, cutoffs=5)
    first = walked(samples, ONE_MODEL, folds=2, test_cutoffs=2)
    for number in (3, 4):
        # What ends after the cut-off is otherwise.
        changed = samples.with_columns(
            outcome=pl.when(pl.col("cutoff") >= cutoff(number))
            .then(1 - pl.col("outcome"))
            .otherwise("outcome")
        )
        second = walked(changed, ONE_MODEL, folds=2, test_cutoffs=2)
        is_here = (first.rows["cutoff"] == cutoff(number)).to_numpy()
        assert is_here.any()
        for name, found in first.probabilities.items():
            assert ((found > 0) & (found < 1)).all()
            np.testing.assert_array_equal(found[is_here], second.probabilities[name][is_here])


def test_where_no_half_has_both_outcomes_every_score_becomes_the_share_that_churned():
    samples = made_samples(people=12, cutoffs=2)
    halves = id_hashes(samples["user_id"], 1) >> np.uint64(32) & np.uint64(1)
    samples = samples.with_columns(outcome=pl.Series(halves).cast(pl.Float64))
    held_out = walked(samples, {"echo": lambda *_: Echo()}, folds=2)
    checked = 0
    for split in planned(samples, folds=2):
        share = samples[split.train]["outcome"].mean()
        is_here = (held_out.rows["fold"] == split.fold).to_numpy()
        for name in ("echo", "recency", "frequency"):
            assert held_out.probabilities[name][is_here] == pytest.approx(share)
            checked += is_here.sum()
    assert checked == 3 * held_out.rows.height > 0


def test_maps_are_of_no_more_rows_than_they_may_be(monkeypatch):
    samples = made_samples(people=40, cutoffs=4)
    monkeypatch.setattr("engagement_pipeline.behavior.validation.MAP_SAMPLES", 30)
    model = Remembering()
    walked(samples, {"m": model}, folds=2, test_cutoffs=1)
    sizes = [len(training.outcomes) for training in model.trainings]
    assert [sizes[at + 1] + sizes[at + 2] for at in range(0, len(sizes), 3)] == [30, 30]
    assert min(sizes[::3]) > 30


def test_a_members_own_outcome_has_no_part_in_their_calibrated_probability():
    samples = made_samples(people=30, cutoffs=3)
    first = walked(samples, ONE_MODEL, test_cutoffs=1, folds=3)
    fold = first.rows["fold"][0]
    people = first.rows.filter(pl.col("fold") == fold)["user_id"].unique()
    changed = samples.with_columns(
        outcome=pl.when(pl.col("user_id").is_in(people.to_list()) & (pl.col("cutoff") == cutoff(2)))
        .then(1 - pl.col("outcome"))
        .otherwise("outcome")
    )
    second = walked(changed, ONE_MODEL, test_cutoffs=1, folds=3)
    is_theirs = (first.rows["fold"] == fold).to_numpy()
    for name, found in first.probabilities.items():
        np.testing.assert_array_equal(found[is_theirs], second.probabilities[name][is_theirs])
        assert ((found > 0) & (found < 1)).all()


def test_the_order_of_samples_does_not_change_a_prediction():
    samples = made_samples(people=30, cutoffs=5)
    shuffled = samples.sample(fraction=1, shuffle=True, seed=3)
    first, second = (
        walked(each, churn_fitters(trees=3), max_training_samples=60, folds=2, test_cutoffs=1)
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
