"""Training for churn: how it ends, and what is told of it."""

from datetime import UTC, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from engagement_pipeline.behavior.churn_models import churn_fitters, churn_probabilities
from engagement_pipeline.behavior.churn_training import GAIN, train_churn
from engagement_pipeline.behavior.classification_metrics import METRICS
from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import CHURN_MODELS
from tests.unit.behavior.churn_worlds import (
    FEATURES,
    HORIZON_DAYS,
    cutoff,
    made_baselines,
    made_samples,
)

AS_OF = cutoff(6)
ONE_MODEL = {"logistic_regression": churn_fitters()["logistic_regression"]}
"""For what does not depend on which models there are."""


def trained(samples, **changes):
    arguments = {
        "feature_names": FEATURES,
        "baseline_scores": made_baselines,
        "horizon_days": HORIZON_DAYS,
        "as_of": AS_OF,
        "min_samples": 100,
        "max_training_samples": 10_000,
        "seed": 1,
        "population": "made-up members",
        "fitters": churn_fitters(trees=12),
        "folds": 2,
        "test_cutoffs": 2,
        "resamples": 200,
    }
    return train_churn(samples, **{**arguments, **changes})


@pytest.fixture(scope="module")
def samples():
    return made_samples(people=150, cutoffs=5)


@pytest.fixture(scope="module")
def training(samples):
    return trained(samples)


def figure_of(training, model, metric):
    is_it = (pl.col("model") == model) & (pl.col("metric") == metric)
    return training.metrics.row(by_predicate=is_it, named=True)


def test_a_model_that_finds_what_recency_cannot_wins(training):
    assert training.training["outcome"] == "champion"
    assert training.training["champion"] == training.model.name
    assert training.training["reason"] is None
    assert figure_of(training, training.model.name, GAIN)["lower"] > 0


def test_outcomes_by_chance_have_no_champion_and_no_model_ranks_them():
    training = trained(made_samples(people=150, cutoffs=5, is_by_chance=True))
    assert training.training["outcome"] == "no_champion"
    assert training.model is None
    for model in CHURN_MODELS:
        found = figure_of(training, model, "roc_auc")
        assert found["lower"] <= 0.5 <= found["upper"]


def test_shuffled_outcomes_have_no_champion_and_no_model_ranks_them(samples):
    shuffled = samples.with_columns(pl.col("outcome").shuffle(seed=5).over("cutoff"))
    training = trained(shuffled)
    assert training.training["outcome"] == "no_champion"
    assert "No model is surely better than recency" in training.training["reason"]
    for model in CHURN_MODELS:
        found = figure_of(training, model, "roc_auc")
        assert found["lower"] <= 0.5 <= found["upper"]
    importances = training.curves.filter(pl.col("curve") == "importance")
    assert importances["model"].n_unique() == 1


def test_a_training_is_a_row_of_its_table(training, samples):
    table = contract("behavior.trainings")
    row = {**training.training, "computed_at": AS_OF}
    assert sorted(row) == sorted(table.column_names)
    table.validate(pl.DataFrame([row], schema=table.polars_schema))
    assert row["samples"] == samples.height
    assert row["members"] == samples.select("org_id", "user_id").n_unique()
    assert row["base_rate"] == pytest.approx(samples["outcome"].mean())
    assert (row["cutoffs"], row["first_cutoff"], row["last_cutoff"]) == (5, cutoff(0), cutoff(4))


def test_every_model_and_baseline_has_every_figure_on_the_same_rows(training, samples):
    for model in (*CHURN_MODELS, "recency", "frequency"):
        own = training.metrics.filter(pl.col("model") == model)
        expected = {*METRICS} | ({GAIN} if model != "recency" else set())
        assert set(own["metric"]) == expected
        assert set(own["is_baseline"]) == {model not in CHURN_MODELS}
        assert set(own["is_champion"]) == {model == training.model.name}
    held_out = samples.filter(pl.col("cutoff") >= cutoff(3))
    assert set(training.metrics["n"]) == {held_out.height}
    recency = figure_of(training, "recency", "average_precision")
    assert recency["value"] == pytest.approx(
        average_precision_score(held_out["outcome"], held_out["days_since_active"])
    )
    assert recency["lower"] < recency["value"] < recency["upper"]


def test_all_curves_are_drawn(training):
    names = {*CHURN_MODELS, "recency", "frequency"}
    for curve in ("reliability", "precision_recall"):
        own = training.curves.filter(pl.col("curve") == curve)
        assert set(own["model"]) == names
    importances = training.curves.filter(pl.col("curve") == "importance")
    assert set(importances["model"]) == {training.model.name}
    assert set(importances["label"]) == set(FEATURES)
    assert importances.filter(pl.col("label") == "messages")["y"].item() == pytest.approx(0)


def test_the_champion_is_fitted_on_all_samples_and_has_knots(training, samples):
    model = training.model
    assert (model.target, model.horizon_days, model.as_of) == ("churn", HORIZON_DAYS, AS_OF)
    assert model.version == f"{model.name}@2026-07-04"
    raw, calibrated = model.knots
    assert len(raw) == len(calibrated) > 1
    assert 0 < min(calibrated) < max(calibrated) < 1
    ordered = samples.sort("user_id", "org_id", "cutoff")
    again = churn_fitters(trees=12)[model.name](
        ordered.select(FEATURES).to_numpy(), ordered["outcome"].to_numpy(), 1
    )
    np.testing.assert_array_equal(
        churn_probabilities(model.estimator, samples, FEATURES),
        churn_probabilities(again, samples, FEATURES),
    )


def test_the_order_of_samples_changes_nothing(training, samples):
    again = trained(samples.sample(fraction=1, shuffle=True, seed=2))
    assert again.training == training.training
    assert again.metrics.equals(training.metrics)
    assert again.curves.equals(training.curves)
    assert again.model.knots == training.model.knots
    np.testing.assert_array_equal(
        churn_probabilities(again.model.estimator, samples, FEATURES),
        churn_probabilities(training.model.estimator, samples, FEATURES),
    )


def without_champion(training, outcome):
    assert training.training["outcome"] == outcome
    assert training.training["champion"] is None
    assert training.metrics.is_empty()
    assert training.curves.is_empty()
    assert training.model is None
    table = contract("behavior.trainings")
    row = {**training.training, "computed_at": AS_OF}
    table.validate(pl.DataFrame([row], schema=table.polars_schema))
    return training.training["reason"]


def test_499_samples_are_too_few_and_500_are_not(samples):
    some = samples.sort("cutoff", "user_id", "org_id")
    few = trained(some.head(499), min_samples=500)
    assert without_champion(few, "too_few_samples") == (
        "There are 499 samples, and a training needs 500."
    )
    enough = trained(some.head(500), min_samples=500, test_cutoffs=1, fitters=ONE_MODEL)
    assert enough.training["outcome"] in ("champion", "no_champion")


def test_no_samples_at_all_are_too_few(samples):
    nothing = trained(samples.clear(), min_samples=1)
    assert "There are 0 samples" in without_champion(nothing, "too_few_samples")
    assert nothing.training["base_rate"] is None


@pytest.mark.parametrize(("outcome", "word"), [(0.0, "No"), (1.0, "Every")])
def test_samples_of_one_class_are_not_trained_on(samples, outcome, word):
    training = trained(samples.with_columns(outcome=pl.lit(outcome)))
    reason = without_champion(training, "one_class")
    assert reason.startswith(f"{word} sample of {samples.height} churned")


def test_a_class_that_comes_only_in_the_end_is_not_trained_on(samples):
    late = samples.with_columns(outcome=(pl.col("cutoff") == cutoff(4)).cast(pl.Float64))
    assert "By no cut-off" in without_champion(trained(late), "one_class")


def test_a_class_that_is_missing_in_the_end_cannot_be_measured(samples):
    early = samples.with_columns(
        outcome=pl.when(pl.col("cutoff") >= cutoff(3)).then(0.0).otherwise("outcome")
    )
    assert "No held-out sample of" in without_champion(
        trained(early, fitters=ONE_MODEL), "one_class"
    )


def test_a_single_cut_off_has_nothing_before_it_to_learn_from(samples):
    single = samples.filter(pl.col("cutoff") == cutoff(0))
    reason = without_champion(trained(single), "too_few_samples")
    assert "0 days, and an outcome is known after 30" in reason
    assert trained(single, in_time=False, fitters=ONE_MODEL).training["outcome"] in (
        "champion",
        "no_champion",
    )


def test_an_outcome_that_was_not_known_yet_is_refused(samples):
    with pytest.raises(ValueError, match="takes 30 days, and is not known"):
        trained(samples, as_of=cutoff(5) - timedelta(microseconds=1))
    with pytest.raises(ValueError, match="has none"):
        trained(samples, as_of=AS_OF.astimezone(UTC).replace(tzinfo=None))


def test_baselines_without_recency_are_an_error(samples):
    def nameless(_, test, **__):
        return {"frequency": test["visits"].to_numpy()}

    with pytest.raises(ValueError, match="expected the baseline recency"):
        trained(samples, baseline_scores=nameless, fitters=ONE_MODEL)
