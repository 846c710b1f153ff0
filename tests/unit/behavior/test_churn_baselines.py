"""What models of churn have to beat: which way each baseline ranks, and what it may look at."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from engagement_pipeline.behavior import churn_baselines
from engagement_pipeline.behavior.bg_nbd import expected_activity, fit
from engagement_pipeline.behavior.churn_baselines import baseline_scores, histories
from engagement_pipeline.behavior.churn_heuristic import churn_heuristic
from engagement_pipeline.behavior.features import FEATURES
from engagement_pipeline.contracts.vocabulary import CHURN_BASELINES

CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)


def _samples(people, seed=1, cutoff=CUTOFF):
    """Members with random histories of up to 300 days; one in four was never active."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(people):
        known = dict.fromkeys(FEATURES)
        until = float(generator.integers(1, 300))
        days = 0 if number % 4 == 0 else int(generator.integers(1, 20))
        gap = float(generator.integers(0, until)) if days else 0.0
        last = until - gap if days > 1 else 0.0
        known |= {
            "days_since_joined": until,
            "days_since_active": until - last if days else None,
            "active_days_30d": 0.0,
            "active_days_90d": float(days),
            "active_days_total": float(days),
            "active_days_trend_30d": 0.0,
            "days_from_first_to_last_active": last,
            "days_since_first_active": until,
        }
        rows.append({"org_id": "o1", "user_id": f"u{number:03}", "cutoff": cutoff, **known})
    schema = dict.fromkeys(FEATURES, pl.Float64) | {"cutoff": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema_overrides=schema)


def test_every_baseline_scores_every_row_and_none_is_unknown():
    test = _samples(40, seed=2)
    scores = baseline_scores(_samples(60), test, horizon_days=30)
    assert tuple(scores) == CHURN_BASELINES
    for values in scores.values():
        assert values.shape == (40,)
        assert np.isfinite(values).all()


def test_each_score_is_what_it_says():
    train, test = _samples(60), _samples(40, seed=2)
    scores = baseline_scores(train, test, horizon_days=30)
    away = [row["days_since_active"] or row["days_since_joined"] for row in test.to_dicts()]
    assert scores["recency"].tolist() == away
    assert scores["frequency"].tolist() == [-days for days in test["active_days_total"]]
    assert scores["heuristic"].tolist() == churn_heuristic(test, horizon_days=30).to_list()
    model = fit(*histories(train))
    assert scores["bg_nbd"].tolist() == (-expected_activity(model, *histories(test), 30)).tolist()


def test_who_was_never_active_came_once_and_is_counted_from_joining():
    x, t_x, until = histories(_samples(1))
    assert (x.tolist(), t_x.tolist()) == ([0.0], [0.0])
    assert until[0] > 0


def test_nothing_is_fitted_to_those_who_are_tested():
    train, test = _samples(60), _samples(40, seed=2)
    alone = baseline_scores(train, test[:1], horizon_days=30)
    together = baseline_scores(train, test, horizon_days=30)
    for name in CHURN_BASELINES:
        assert alone[name][0] == together[name][0]
    others = baseline_scores(_samples(60, seed=9), test, horizon_days=30)
    assert (others["bg_nbd"] != together["bg_nbd"]).any()


def test_a_member_of_many_cutoffs_is_fitted_to_once_as_last_known_whatever_the_order():
    before = CUTOFF - timedelta(days=30)
    train, test = _samples(60), _samples(40, seed=2)
    both = pl.concat([train, _samples(60, seed=5, cutoff=before)]).sample(
        fraction=1, shuffle=True, seed=1
    )
    expected = baseline_scores(train, test, horizon_days=30)["bg_nbd"]
    assert baseline_scores(both, test, horizon_days=30)["bg_nbd"].tolist() == expected.tolist()


def test_of_very_many_members_as_many_as_needed_are_fitted_to(monkeypatch):
    train, test = _samples(60), _samples(40, seed=2)
    fitted = []

    def seen(x, t_x, until):
        fitted.append(len(x))
        return fit(x, t_x, until)

    monkeypatch.setattr(churn_baselines, "fit", seen)
    monkeypatch.setattr(churn_baselines, "FITTED_MEMBERS", 15)
    baseline_scores(train, test, horizon_days=30)
    assert fitted == [15]


def test_nobody_to_fit_to_is_refused_and_nobody_to_score_is_not():
    train = _samples(10)
    with pytest.raises(ValueError, match="at least one sample"):
        baseline_scores(train.clear(), train, horizon_days=30)
    scores = baseline_scores(train, train.clear(), horizon_days=30)
    assert {values.size for values in scores.values()} == {0}
