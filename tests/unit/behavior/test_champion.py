"""Which model serves."""

import numpy as np
import pytest

from engagement_pipeline.behavior.champion import choose_champion
from engagement_pipeline.behavior.classification_metrics import METRICS, Assessment, assess


def assessed(*, noise, rows=400, seed=1):
    generator = np.random.default_rng(seed)
    outcomes = (generator.random(rows) < 0.3).astype(float)
    scores = {name: outcomes + generator.normal(0, scale, rows) for name, scale in noise.items()}
    flat = dict.fromkeys(scores, np.full(rows, 0.3))
    return assess(outcomes, scores, flat, np.arange(rows), seed=1, resamples=200)


def test_the_best_wins_if_it_is_surely_better_than_recency():
    choice = choose_champion(
        assessed(noise={"recency": 2.0, "good": 0.5, "better": 0.3}), ["good", "better"]
    )
    assert (choice.best, choice.champion, choice.reason) == ("better", "better", None)


def test_a_better_baseline_is_no_rival():
    noise = {"recency": 2.0, "bg_nbd": 0.1, "good": 0.5}
    assert choose_champion(assessed(noise=noise), ["good"]).champion == "good"


def test_without_a_sure_gain_nothing_serves_and_the_reason_has_the_figures():
    found = assessed(noise={"recency": 0.8, "near": 0.79})
    assert found.gain("near", "recency").lower <= 0
    choice = choose_champion(found, ["near"])
    assert choice.best == "near"
    assert choice.champion is None
    gain = found.gain("near", "recency")
    for figure in (f"{gain.value:+.3f}", f"{gain.lower:+.3f}", f"{gain.upper:+.3f}"):
        assert figure in choice.reason
    assert "near" in choice.reason
    assert "recency" in choice.reason


def test_the_second_best_is_not_asked():
    figures = np.zeros((3, len(METRICS)))
    figures[:, METRICS.index("average_precision")] = [0.5, 0.8, 0.7]
    draws = np.repeat(figures[None], 100, axis=0)
    # The best varies, and is at times below recency; the second is always above it.
    draws[:, 1, METRICS.index("average_precision")] = np.linspace(0.4, 0.9, 100)
    choice = choose_champion(Assessment(("recency", "a", "b"), 100, figures, draws), ["a", "b"])
    assert (choice.best, choice.champion) == ("a", None)


def test_a_model_without_an_interval_does_not_win():
    one_person = assess(
        np.array([0.0, 1.0]),
        {"recency": np.array([1.0, 0.0]), "m": np.array([0.0, 1.0])},
        {"recency": np.full(2, 0.5), "m": np.full(2, 0.5)},
        np.zeros(2),
        seed=1,
    )
    assert choose_champion(one_person, ["m"]).champion is None


def test_a_choice_of_none_is_an_error():
    with pytest.raises(ValueError, match="at least one model"):
        choose_champion(assessed(noise={"recency": 1.0}), [])
