"""The BG/NBD model: its likelihood and expectation by numerical integration, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from engagement_pipeline.behavior import bg_nbd
from engagement_pipeline.behavior.bg_nbd import BgNbd, expected_activity, fit

CDNOW = BgNbd(0.243, 4.414, 0.793, 2.426)
"""The estimates of the paper, in weeks."""

_parameters = st.floats(-3, 3).map(math.exp)
_models = st.builds(BgNbd, _parameters, _parameters, _parameters, _parameters)
_wild = st.builds(
    BgNbd,
    st.floats(-9, 9).map(math.exp),
    st.floats(-9, 9).map(math.exp),
    st.floats(-9, 5).map(math.exp) | st.just(1.0),
    st.floats(-9, 5).map(math.exp) | st.just(1.0),
)


@st.composite
def _histories(draw, most=400, longest=4_000.0):
    x = draw(st.integers(0, most))
    until = draw(st.floats(0, longest))
    return x, until * draw(st.floats(0, 1)) if x else 0.0, until


def _expected(model, history, days):
    (value,) = expected_activity(model, *([part] for part in history), days)
    return value


def _by_integration(model, x, t_x, until, days):
    """E[Y(t) | x, t_x, T] as a mean over probabilities of stopping, without equation 10."""

    def of_p(p):
        grown = -math.expm1(-(model.r + x) * math.log1p(p * days / (model.alpha + until)))
        return grown / p * beta.pdf(p, model.a, model.b + x)

    waited = ((model.alpha + until) / (model.alpha + t_x)) ** (model.r + x)
    odds = model.a / (model.b + x - 1) * waited if x else 0.0
    return quad(of_p, 0, 1, limit=200)[0] / (1 + odds)


@given(model=_models, history=_histories(60, 50.0), days=st.floats(0, 50))
@settings(max_examples=40, deadline=None)
def test_the_expectation_is_what_integration_finds(model, history, days):
    expected = _by_integration(model, *history, days)
    assert _expected(model, history, days) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(model=_wild, history=_histories(), days=st.floats(0, 400))
@settings(max_examples=100, deadline=None)
def test_the_expectation_is_never_absurd(model, history, days):
    x, _, until = history
    at_most = (model.r + x) / (model.alpha + until) * days
    assert 0 <= _expected(model, history, days) <= at_most * (1 + 1e-9)


def test_where_equation_10_has_no_value_there_is_one_all_the_same():
    x, until = np.array([3.0, 0.0, 40.0]), np.array([30.0, 10.0, 300.0])
    found = bg_nbd._by_quadrature(CDNOW, x, until, 39)
    expected = [
        _by_integration(CDNOW, *history, 39) for history in zip(x, until, until, strict=True)
    ]
    odds = [CDNOW.a / (CDNOW.b + n - 1) if n else 0.0 for n in x]
    assert found / (1 + np.array(odds)) == pytest.approx(np.array(expected), rel=1e-3)
    # Here the hypergeometric function is infinite, and its factor nothing.
    overflowing = BgNbd(1.429, 0.2674, 132.96, 27.803)
    assert _expected(overflowing, (0, 0.0, 0.0), 129.17) == pytest.approx(
        _by_integration(overflowing, 0, 0.0, 0.0, 129.17), rel=1e-3
    )


@pytest.mark.parametrize("model", [BgNbd(0.5, 2.0, 1.0, 2.0), BgNbd(0.5, 2.0, 0.4, 0.6)])
def test_the_holes_of_equation_10_are_filled(model):
    for history in [(0, 0.0, 10.0), (1, 4.0, 10.0)]:
        expected = _by_integration(model, *history, 5)
        assert _expected(model, history, 5) == pytest.approx(expected, rel=1e-4)


def test_more_is_expected_of_who_came_last_and_who_came_often():
    days = 39
    recent, early = _expected(CDNOW, (4, 35, 38), days), _expected(CDNOW, (4, 10, 38), days)
    assert recent > early
    assert _expected(CDNOW, (8, 35, 38), days) > recent
    assert _expected(CDNOW, (4, 35, 38), 2 * days) > recent


def _simulated(model, people, until, seed):
    """Histories of people who come and stop as the model says, each in a loop of their own."""
    generator = np.random.default_rng(seed)
    histories = []
    for _ in range(people):
        rate, stops = generator.gamma(model.r, 1 / model.alpha), generator.beta(model.a, model.b)
        x, t_x, now = 0, 0.0, generator.exponential(1 / rate)
        while now <= until:
            x, t_x = x + 1, now
            if generator.random() < stops:
                break
            now += generator.exponential(1 / rate)
        histories.append((x, t_x, until))
    return np.array(histories).T


def test_parameters_are_found_again_in_what_was_simulated_with_them():
    found = fit(*_simulated(CDNOW, 4_000, 78.0, seed=3))
    assert found.r == pytest.approx(CDNOW.r, rel=0.1)
    assert found.alpha == pytest.approx(CDNOW.alpha, rel=0.15)
    assert found.a / (found.a + found.b) == pytest.approx(0.793 / 3.219, rel=0.1)


def test_slopes_of_the_likelihood_are_those_of_small_steps():
    histories = _simulated(CDNOW, 50, 38.0, seed=1)
    weights = np.full(50, 1 / 50)
    at = np.log([0.4, 5.0, 0.7, 2.0])
    _, slopes = bg_nbd._loss(at, histories, weights)
    for place, step in enumerate(np.eye(4) * 1e-6):
        above, _ = bg_nbd._loss(at + step, histories, weights)
        below, _ = bg_nbd._loss(at - step, histories, weights)
        assert slopes[place] == pytest.approx((above - below) / 2e-6, rel=1e-4, abs=1e-7)


def test_the_likelihood_is_the_papers_own_product():
    # Equation 6, with all factors written out.
    r, alpha, a, b = 0.4, 5.0, 0.7, 2.0
    gamma = math.gamma

    def likelihood(x, t_x, until):
        betas = gamma(b + x) * gamma(a + b) / gamma(b) / gamma(a + b + x)
        rates = gamma(r + x) * alpha**r / gamma(r)
        stopped = a / (b + x - 1) / (alpha + t_x) ** (r + x) if x else 0.0
        return betas * rates * (1 / (alpha + until) ** (r + x) + stopped)

    histories = [(0, 0.0, 9.0), (1, 3.0, 9.0), (6, 8.0, 30.0)]
    expected = -sum(math.log(likelihood(*history)) for history in histories) / 3
    loss, _ = bg_nbd._loss(np.log([r, alpha, a, b]), np.array(histories).T, np.full(3, 1 / 3))
    assert loss == pytest.approx(expected, rel=1e-12)


def test_the_unit_of_time_and_the_order_of_people_change_nothing():
    x, t_x, until = _simulated(CDNOW, 300, 38.0, seed=2)
    weeks = fit(x, t_x, until)
    assert fit(x[::-1], t_x[::-1], until[::-1]) == weeks
    days = fit(x, 7 * t_x, 7 * until)
    assert (days.r, days.alpha / 7) == pytest.approx((weeks.r, weeks.alpha), rel=1e-3)


@pytest.mark.parametrize(
    "history",
    [(0, 0.0, 10.0), (0, 0.0, 0.0), (5, 10.0, 10.0), (300, 0.0, 0.0), (1, 0.0, 4_000.0)],
)
def test_histories_that_tell_nothing_are_fitted_all_the_same(history):
    columns = [[part] * 3 for part in history]
    model = fit(*columns)
    assert all(math.isfinite(value) and value > 0 for value in vars(model).values())
    assert np.isfinite(expected_activity(model, *columns, 30)).all()


@pytest.mark.parametrize(
    ("history", "said"),
    [
        (([], [], []), "at least one"),
        (([1.0], [1.0, 2.0], [3.0]), r"shapes \[\(1,\), \(2,\), \(1,\)\]"),
        (([1.0, 0.0], [1.0, 1.0], [3.0, 3.0]), "number 1 has x = 0, t_x = 1, T = 3"),
        (([1.0], [4.0], [3.0]), "t_x = 4, T = 3"),
        (([math.nan], [0.0], [3.0]), "x = nan"),
    ],
)
def test_histories_that_cannot_be_are_refused_in_words(history, said):
    with pytest.raises(ValueError, match=said):
        fit(*history)
    with pytest.raises(ValueError, match=said):
        expected_activity(CDNOW, *history, 30)


@pytest.mark.parametrize("days", [-1.0, math.nan])
def test_nothing_is_expected_of_the_past(days):
    with pytest.raises(ValueError, match="days must be at least 0"):
        expected_activity(CDNOW, [1], [1], [2], days)
