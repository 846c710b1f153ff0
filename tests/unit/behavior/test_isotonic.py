"""Maps from scores to probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.behavior.isotonic import fitted_knots, probabilities


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.sampled_from([0.0, 1.0])), min_size=1, max_size=40)
)
def test_a_map_never_falls_and_is_never_certain(rows):
    scores, outcomes = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    raw, calibrated = fitted_knots(scores, outcomes)
    assert list(raw) == sorted(raw)
    assert list(calibrated) == sorted(calibrated)
    least = 1 / (len(rows) + 2)
    assert min(calibrated) >= least - 1e-12
    assert max(calibrated) <= 1 - least + 1e-12


def test_equal_scores_get_the_share_that_came_true():
    scores = np.repeat([3.0, 7.0], 40)
    outcomes = np.concatenate([np.repeat([1.0, 0.0], [10, 30]), np.repeat([1.0, 0.0], [30, 10])])
    knots = fitted_knots(scores, outcomes)
    asked = np.array([-9.0, 3.0, 5.0, 7.0, 99.0])
    assert probabilities(asked, knots).tolist() == pytest.approx([0.25, 0.25, 0.5, 0.75, 0.75])


def test_a_map_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one row"):
        fitted_knots(np.array([]), np.array([]))
