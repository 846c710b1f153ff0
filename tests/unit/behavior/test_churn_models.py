"""The models of churn: fitted alike from the same, and never brought down by what is unknown."""

import numpy as np
import polars as pl
import pytest

from engagement_pipeline.behavior.churn_models import (
    churn_fitters,
    churn_probabilities,
    feature_rows,
)
from engagement_pipeline.contracts.vocabulary import CHURN_MODELS
from tests.unit.behavior.churn_worlds import FEATURES, made_samples

FITTERS = churn_fitters(trees=8)


@pytest.fixture(scope="module")
def samples():
    return made_samples(people=120, cutoffs=3)


@pytest.fixture(scope="module")
def fitted(samples):
    rows, outcomes = feature_rows(samples, FEATURES), samples["outcome"].to_numpy()
    return {name: fit(rows, outcomes, 1) for name, fit in FITTERS.items()}


def test_every_model_of_the_vocabulary_can_be_fitted():
    assert tuple(FITTERS) == CHURN_MODELS


@pytest.mark.parametrize("name", CHURN_MODELS)
def test_the_same_samples_and_seed_give_the_same_model(name, samples, fitted):
    rows, outcomes = feature_rows(samples, FEATURES), samples["outcome"].to_numpy()
    again = FITTERS[name](rows, outcomes, 1)
    expected = churn_probabilities(fitted[name], samples, FEATURES)
    np.testing.assert_array_equal(churn_probabilities(again, samples, FEATURES), expected)


@pytest.mark.parametrize("name", CHURN_MODELS)
def test_one_prediction_is_to_the_last_digit_as_the_next(name, samples, fitted):
    found = [churn_probabilities(fitted[name], samples, FEATURES).tolist() for _ in range(4)]
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("name", CHURN_MODELS)
def test_chunks_make_no_difference(name, samples, fitted):
    whole = churn_probabilities(fitted[name], samples, FEATURES)
    by_fifty = churn_probabilities(fitted[name], samples, FEATURES, chunk_rows=50)
    assert whole.size == samples.height
    np.testing.assert_allclose(by_fifty, whole, rtol=1e-12)


@pytest.mark.parametrize("name", CHURN_MODELS)
def test_a_feature_unknown_in_training_may_be_known_later_and_the_other_way(name, samples, fitted):
    later = samples.with_columns(messages=pl.lit(9.0), visits=pl.lit(None, dtype=pl.Float64))
    found = churn_probabilities(fitted[name], later, FEATURES)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("name", CHURN_MODELS)
def test_a_model_can_be_fitted_where_nothing_at_all_is_known(name, samples):
    unknown = samples.with_columns(
        pl.lit(None, dtype=pl.Float64).alias(feature) for feature in FEATURES
    )
    outcomes = samples["outcome"].to_numpy()
    model = FITTERS[name](feature_rows(unknown, FEATURES), outcomes, 1)
    found = churn_probabilities(model, unknown, FEATURES)
    assert np.ptp(found) < 1e-9


@pytest.mark.parametrize("name", CHURN_MODELS)
def test_who_was_away_for_long_is_likelier_to_churn(name, fitted):
    two = pl.DataFrame(
        {"days_since_active": [0.0, 90.0], "visits": 3.0, "mood": 0.0, "messages": None}
    )
    near, far = churn_probabilities(fitted[name], two, FEATURES)
    assert near < far


def test_nobody_needs_no_prediction(samples, fitted):
    assert churn_probabilities(fitted["random_forest"], samples.clear(), FEATURES).size == 0


def test_a_null_is_unknown_and_no_zero(samples):
    rows = feature_rows(samples, FEATURES)
    assert np.isnan(rows[:, 3]).all()
    assert np.isnan(rows[:, 2]).sum() == samples["mood"].null_count() > 0


def test_a_model_without_a_class_of_churn_is_an_error(samples):
    rows = feature_rows(samples, FEATURES)
    model = FITTERS["random_forest"](rows, np.zeros(len(rows)), 1)
    with pytest.raises(ValueError, match="a model of the classes 0 and 1"):
        churn_probabilities(model, samples, FEATURES)


def test_a_missing_feature_is_an_error_that_names_it(samples):
    with pytest.raises(ValueError, match="expected the features mood"):
        feature_rows(samples.drop("mood"), FEATURES)
