"""Figures of a classifier, against scikit-learn and against plain loops."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from engagement_pipeline.behavior.classification_metrics import METRICS, ScoredRows, assess
from engagement_pipeline.loops.prediction import learn_probabilities

ROW = st.tuples(
    st.sampled_from([0.0, 1.0]),
    st.integers(-4, 4).map(float),
    st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.55, 0.999, 1.0]),
    st.integers(0, 3).map(float),
)


def figures_of(outcomes, scores, probabilities, weights=None):
    rows = ScoredRows.of(outcomes, scores, probabilities)
    found = rows.figures(np.ones(outcomes.size) if weights is None else weights)
    return dict(zip(METRICS, found.tolist(), strict=True))


def calibration_error_of(outcomes, probabilities, weights):
    """Bin by bin, in a plain loop."""
    error = 0.0
    for number in range(10):
        gap = 0.0
        for outcome, probability, weight in zip(outcomes, probabilities, weights, strict=True):
            if min(int(probability * 10), 9) == number:
                gap += weight * (probability - outcome)
        error += abs(gap)
    return error / sum(weights)


@given(st.lists(ROW, min_size=2, max_size=60))
@settings(max_examples=150)
def test_weighted_figures_are_those_of_scikit_learn(rows):
    outcomes, scores, probabilities, weights = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    counted = outcomes[weights > 0]
    assume(np.unique(counted).size == 2)
    found = figures_of(outcomes, scores, probabilities, weights)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(outcomes, scores, sample_weight=weights))
    assert found["average_precision"] == pytest.approx(
        average_precision_score(outcomes, scores, sample_weight=weights)
    )
    assert found["brier"] == pytest.approx(
        brier_score_loss(outcomes, probabilities, sample_weight=weights)
    )
    assert found["calibration_error"] == pytest.approx(
        calibration_error_of(outcomes, probabilities, weights)
    )


def test_a_weight_counts_a_row_so_many_times():
    generator = np.random.default_rng(1)
    outcomes = (generator.random(80) < 0.3).astype(float)
    scores, probabilities = generator.integers(0, 9, 80).astype(float), generator.random(80)
    weights = generator.integers(0, 4, 80)
    repeated = np.repeat(np.arange(80), weights)
    assert figures_of(outcomes, scores, probabilities, weights.astype(float)) == pytest.approx(
        figures_of(outcomes[repeated], scores[repeated], probabilities[repeated])
    )


def test_calibration_error_and_brier_are_as_the_loop_of_predictions_has_them():
    generator = np.random.default_rng(2)
    probabilities = np.append(generator.random(200), [0.0, 1.0])
    outcomes = (generator.random(202) < probabilities).astype(float)
    pairs = pl.DataFrame(
        {
            "prediction_id": [str(number) for number in range(202)],
            "org_id": ["o"] * 202,
            "predicted": probabilities,
            "outcome": outcomes,
        }
    )
    learned = dict(learn_probabilities(pairs, kind="churn").select("key", "value").iter_rows())
    found = figures_of(outcomes, probabilities, probabilities)
    assert found["brier"] == pytest.approx(learned["churn-brier"])
    assert found["calibration_error"] == pytest.approx(learned["churn-calibration-error"])


def test_of_one_class_nothing_can_be_ranked():
    found = figures_of(np.ones(3), np.arange(3.0), np.full(3, 0.9))
    assert math.isnan(found["roc_auc"])
    assert math.isnan(found["average_precision"])
    assert found["brier"] == pytest.approx(0.01)


def test_an_assessment_has_the_models_drawn_alike():
    generator = np.random.default_rng(3)
    outcomes = (generator.random(300) < 0.4).astype(float)
    good, poor = outcomes + generator.normal(0, 0.5, 300), generator.normal(size=300)
    flat = np.full(300, 0.4)
    found = assess(
        outcomes,
        {"good": good, "same": good, "poor": poor},
        {"good": flat, "same": flat, "poor": flat},
        np.arange(300) // 3,
        seed=1,
        resamples=200,
    )
    gain = found.gain("good", "poor")
    assert gain.value == pytest.approx(
        found.figure("good", "average_precision").value
        - found.figure("poor", "average_precision").value
    )
    assert 0 < gain.lower < gain.value < gain.upper
    assert found.gain("good", "same") == (0.0, 0.0, 0.0)
    auc = found.figure("good", "roc_auc")
    assert auc.lower < roc_auc_score(outcomes, good) < auc.upper


def test_a_calibration_error_lies_in_its_own_interval_also_where_probabilities_hold():
    generator = np.random.default_rng(4)
    probabilities = generator.random(400)
    outcomes = (generator.random(400) < probabilities).astype(float)
    given = {"m": probabilities}
    found = assess(outcomes, given, given, np.arange(400), seed=1, resamples=200)
    error = found.figure("m", "calibration_error")
    assert 0 <= error.lower < error.value < error.upper
    column = METRICS.index("calibration_error")
    assert np.quantile(found.draws[:, 0, column], 0.3) > error.value


@pytest.mark.parametrize(
    ("outcomes", "scores", "probabilities", "words"),
    [
        ([0.0, 2.0], [1.0, 2.0], [0.1, 0.2], "m: expected outcomes of 0 and 1"),
        ([0.0, 1.0], [1.0, math.nan], [0.1, 0.2], "m: expected finite scores, found nan in 1 rows"),
        ([0.0, 1.0], [1.0, 2.0], [0.1, 1.2], "m: expected probabilities, found 1.2"),
        ([0.0, 1.0], [1.0], [0.1, 0.2], "found 2, 1 and 2"),
    ],
)
def test_what_is_no_number_is_an_error_that_names_the_model(outcomes, scores, probabilities, words):
    with pytest.raises(ValueError, match=words):
        assess(
            np.array(outcomes),
            {"m": np.array(scores)},
            {"m": np.array(probabilities)},
            np.arange(2),
            seed=1,
        )


def test_models_without_probabilities_are_an_error():
    with pytest.raises(ValueError, match="of the same models"):
        assess(np.array([0.0, 1.0]), {"m": np.zeros(2)}, {}, np.arange(2), seed=1)
