"""The written rule for churn: its bounds, and which way it moves with what is known."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.behavior.churn_heuristic import churn_heuristic

KNOWN = {
    "days_since_joined": 400.0,
    "days_since_active": 10.0,
    "active_days_30d": 4.0,
    "active_days_trend_30d": -4.0,
    "active_days_90d": 9.0,
    "mean_sentiment_30d": 0.5,
}
_counts = st.integers(0, 30).map(float)


@st.composite
def _members(draw):
    now, before = draw(_counts), draw(_counts)
    since = draw(st.floats(0, 40_000))
    return {
        "days_since_joined": draw(st.floats(0, 40_000)),
        "days_since_active": None if now + before == 0 and draw(st.booleans()) else since,
        "active_days_30d": now,
        "active_days_trend_30d": now - before,
        "active_days_90d": now + before + draw(_counts),
        "mean_sentiment_30d": draw(st.none() | st.floats(-1, 1)),
    }


def _score(member, horizon_days=30, **changed):
    frame = pl.DataFrame([{**member, **changed}], dict.fromkeys(KNOWN, pl.Float64))
    return churn_heuristic(frame, horizon_days=horizon_days).item()


def _by_hand(member, horizon_days):
    away = member["days_since_active"]
    away = member["days_since_joined"] if away is None else away
    now = member["active_days_30d"]
    before = now - member["active_days_trend_30d"]
    parts = [(0.4, away / (away + horizon_days)), (0.1, 1 / (1 + member["active_days_90d"]))]
    if before:
        parts.append((0.3, max(0.0, (before - now) / before)))
    elif now:
        parts.append((0.3, 0.0))
    if member["mean_sentiment_30d"] is not None:
        parts.append((0.2, (1 - member["mean_sentiment_30d"]) / 2))
    return sum(weight * part for weight, part in parts) / sum(weight for weight, _ in parts)


@given(member=_members(), horizon_days=st.integers(1, 365))
@settings(max_examples=50, deadline=None)
def test_the_score_is_the_weighted_mean_of_what_is_known(member, horizon_days):
    score = _score(member, horizon_days)
    assert 0 <= score <= 1
    assert score == pytest.approx(_by_hand(member, horizon_days), abs=1e-12)


def test_the_score_of_a_member_of_whom_all_is_known():
    # 10 / 40 of recency, half the activity gone, a quarter of the way to bad, 1 of 10 days.
    assert _score(KNOWN) == pytest.approx(0.4 * 0.25 + 0.3 * 0.5 + 0.2 * 0.25 + 0.1 * 0.1)


@given(member=_members(), days=st.floats(0, 4_000), longer=st.floats(0.001, 4_000))
@settings(max_examples=50, deadline=None)
def test_who_is_longer_away_scores_higher_however_long_it_is(member, days, longer):
    sooner = _score(member, days_since_active=days)
    assert _score(member, days_since_active=days + longer) > sooner


@given(member=_members(), days=_counts)
@settings(max_examples=50, deadline=None)
def test_who_is_active_on_more_days_never_scores_higher(member, days):
    more = member["active_days_90d"] + days
    assert _score(member, active_days_90d=more) <= _score(member)


@given(member=_members(), one=st.floats(-1, 1), other=st.floats(-1, 1))
@settings(max_examples=50, deadline=None)
def test_who_sounds_better_never_scores_higher(member, one, other):
    worse, better = sorted((one, other))
    assert _score(member, mean_sentiment_30d=better) <= _score(member, mean_sentiment_30d=worse)


@given(member=_members().filter(lambda member: member["active_days_30d"] > 0), more=_counts)
@settings(max_examples=50, deadline=None)
def test_who_was_more_active_before_never_scores_lower(member, more):
    steeper = member["active_days_trend_30d"] - more
    assert _score(member, active_days_trend_30d=steeper) >= _score(member) - 1e-12


def test_who_was_never_active_is_away_since_joining():
    never = KNOWN | {"days_since_active": None, "days_since_joined": 70.0}
    assert _score(never) == _score(never, days_since_active=70.0)


def test_everybody_is_scored_in_the_order_of_the_rows():
    frame = pl.DataFrame([KNOWN, KNOWN | {"days_since_active": 20.0}, KNOWN])
    scores = churn_heuristic(frame, horizon_days=30)
    assert (scores.name, scores[0]) == ("churn_heuristic", scores[2])
    assert scores[1] > scores[0]


def test_a_horizon_of_no_days_is_refused():
    with pytest.raises(ValueError, match="horizon_days must be at least 1, and is 0"):
        _score(KNOWN, horizon_days=0)
