"""Points of the curves, against plain loops."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from engagement_pipeline.behavior.churn_models import churn_fitters
from engagement_pipeline.behavior.classification_metrics import METRICS, ScoredRows
from engagement_pipeline.behavior.curves import importance, precision_recall, reliability
from engagement_pipeline.behavior.validation import Probe


@pytest.fixture
def scored():
    generator = np.random.default_rng(1)
    probabilities = np.append(generator.integers(0, 90, 300) / 100, 1.0)
    return (generator.random(301) < probabilities).astype(float), probabilities


def test_a_point_of_reliability_is_a_bin_and_empty_ones_are_left_out(scored):
    outcomes, probabilities = scored
    points = reliability(outcomes, probabilities)
    assert sum(point["n"] for point in points) == 301
    for point in points:
        inside = [
            (probability, outcome)
            for probability, outcome in zip(probabilities, outcomes, strict=True)
            if min(int(probability * 10), 9) == point["place"]
        ]
        assert point["n"] == len(inside)
        assert point["x"] == pytest.approx(sum(row[0] for row in inside) / len(inside))
        assert point["y"] == pytest.approx(sum(row[1] for row in inside) / len(inside))
    few = reliability(np.array([0.0, 1.0]), np.array([0.05, 0.95]))
    assert [point["place"] for point in few] == [0, 9]


def test_the_gaps_of_reliability_add_up_to_the_calibration_error(scored):
    outcomes, probabilities = scored
    gaps = sum(
        abs(point["x"] - point["y"]) * point["n"] for point in reliability(outcomes, probabilities)
    )
    figures = ScoredRows.of(outcomes, probabilities, probabilities).figures(np.ones(301))
    assert gaps / 301 == pytest.approx(figures[METRICS.index("calibration_error")])


def test_points_of_precision_and_recall_are_of_the_whole_curve(scored):
    outcomes, scores = scored
    precision, recall, _ = precision_recall_curve(outcomes, scores)
    whole = list(zip(recall, precision, strict=True))
    points = precision_recall(outcomes, scores)
    assert len(points) <= 50
    for point in points:
        assert any(pair == pytest.approx((point["x"], point["y"])) for pair in whole)
    found = [point["x"] for point in points]
    assert found == sorted(set(found))
    assert found[-1] == 1.0
    assert [point["place"] for point in points] == list(range(len(points)))


def test_every_threshold_is_there_where_there_are_few():
    points = precision_recall(np.array([1.0, 0.0, 1.0, 1.0]), np.array([3.0, 3.0, 2.0, 1.0]))
    assert [(point["x"], point["y"], point["n"]) for point in points] == [
        (pytest.approx(1 / 3), 0.5, 2),
        (pytest.approx(2 / 3), pytest.approx(2 / 3), 3),
        (1.0, 0.75, 4),
    ]
    assert precision_recall(np.zeros(3), np.arange(3.0)) == []


def probe_of(seed, *, signal=0):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(200, 3))
    features[:, 1] = np.nan
    outcomes = (features[:, signal] + generator.normal(0, 0.3, 200) > 0).astype(float)
    estimators = {
        name: fit(features[:100], outcomes[:100], 1) for name, fit in churn_fitters(trees=5).items()
    }
    return Probe(estimators, features[100:], outcomes[100:])


@pytest.mark.parametrize("name", ["random_forest", "logistic_regression"])
def test_the_feature_that_decides_comes_first(name):
    probes = [probe_of(1, signal=2), probe_of(2, signal=2)]
    points = importance(probes, name, ["idle", "unknown", "deciding"], seed=1)
    assert [point["place"] for point in points] == [0, 1, 2]
    assert points[0]["label"] == "deciding"
    assert points[0]["y"] > 0.2
    assert points[0]["n"] == 200
    assert {point["label"]: point["y"] for point in points}["unknown"] == pytest.approx(0)
    assert importance(probes, name, ["idle", "unknown", "deciding"], seed=1) == points


def test_rows_of_one_class_tell_no_importance():
    probe = probe_of(1)
    same = Probe(probe.estimators, probe.features, np.ones(100))
    assert importance([same], "random_forest", ["a", "b", "c"], seed=1) == []
