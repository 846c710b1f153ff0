"""How members sound, against plain loops, and what is learned of it from the past alone."""

import math
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.behavior.leaks import leaks
from engagement_pipeline.behavior.mood import (
    MOOD_FEATURES,
    mood_features,
    mood_samples,
    predict_mood,
)
from tests.unit.behavior.histories import AS_OF, ago, instant_of, said, sources_of, stay
from tests.unit.signals.oracle import DAY

NOW = instant_of(AS_OF)
_instants = st.builds(
    lambda days, nudge: ago(days) + nudge,
    st.sampled_from((-8, -7, -1, 0, 1, 7, 14, 30, 31, 90)),
    st.sampled_from((-1, 0, 1)),
)
_talks = st.lists(
    st.fixed_dictionaries(
        {
            "org_id": st.sampled_from(("o1", "o2")),
            "user_id": st.sampled_from(("u1", "u2")),
            "sent_at": _instants,
            "sentiment": st.none() | st.sampled_from((-1.0, -0.4019, -0.05, 0.0, 0.05, 0.34, 1.0)),
            "quality": st.sampled_from((0.0, 0.1, 0.35, 1.0)),
            "is_meaningful": st.booleans(),
        }
    ),
    max_size=14,
)
MEMBERS = [stay("u1"), stay("u2"), stay("u1", org_id="o2", joined_days_ago=3)]


def _sources(talk):
    return sources_of({"memberships": MEMBERS, "interactions": talk})


def _mean(values):
    return sum(values) / len(values) if values else None


def _expected(talk, org, user, as_of, joined_at):
    mine = [
        row
        for row in talk
        if (row["org_id"], row["user_id"]) == (org, user)
        and as_of - 90 * DAY < row["sent_at"] <= as_of
    ]

    def last(days):
        return [row for row in mine if row["sent_at"] > as_of - days * DAY]

    def texts(rows):
        return [row["sentiment"] for row in rows if row["sentiment"] is not None]

    of_7d, of_30d, of_90d = (texts(last(days)) for days in (7, 30, 90))
    now, month = _mean(of_7d), _mean(of_30d)
    before = _mean(texts([row for row in last(30) if row["sent_at"] <= as_of - 7 * DAY]))
    written = [(row["sent_at"], row["sentiment"]) for row in mine if row["sentiment"] is not None]
    last_at = max((at for at, _ in written), default=None)
    return {
        "mood_now": now,
        "mean_sentiment_30d": month,
        "mean_sentiment_90d": _mean(of_90d),
        "sentiment_trend_30d": None if None in (now, before) else now - before,
        "sentiment_deviation_30d": math.sqrt(_mean([(value - month) ** 2 for value in of_30d]))
        if of_30d
        else None,
        "last_sentiment": min((felt for at, felt in written if at == last_at), default=None),
        "lowest_sentiment_7d": min(of_7d, default=None),
        "positive_share_30d": _mean([value >= 0.05 for value in of_30d]),
        "negative_share_30d": _mean([value <= -0.05 for value in of_30d]),
        "texts_7d": len(of_7d) if mine else None,
        "texts_30d": len(of_30d) if mine else None,
        "texts_90d": len(of_90d) if mine else None,
        "interactions_30d": len(last(30)) if mine else None,
        "mean_quality_7d": _mean([row["quality"] for row in last(7)]),
        "mean_quality_30d": _mean([row["quality"] for row in last(30)]),
        "meaningful_share_30d": _mean([row["is_meaningful"] for row in last(30)]),
        "days_since_text": None if last_at is None else (as_of - last_at) / DAY,
        "days_since_joined": (as_of - joined_at) / DAY,
    }


def _is_near(found, expected):
    if None in (found, expected):
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-5)


@given(talk=_talks)
@settings(max_examples=40, deadline=None)
def test_every_feature_is_what_plain_loops_find(talk):
    found = mood_features(_sources(talk), as_of=NOW)
    assert found.columns == ["org_id", "user_id", "as_of", *MOOD_FEATURES]
    joined = {(row["org_id"], row["user_id"]): row["joined_at"] for row in MEMBERS}
    rows = {(row["org_id"], row["user_id"]): row for row in found.to_dicts()}
    assert list(rows) == sorted(joined)
    for (org, user), row in rows.items():
        wanted = _expected(talk, org, user, AS_OF, joined[org, user])
        different = {n: (row[n], v) for n, v in wanted.items() if not _is_near(row[n], v)}
        assert different == {}


@given(talk=_talks)
@settings(max_examples=20, deadline=None)
def test_samples_are_who_sounded_somehow_in_both_weeks(talk):
    expected = {}
    for row in MEMBERS:
        pair = (row["org_id"], row["user_id"])
        weeks = ([], [])
        for told in talk:
            if (told["org_id"], told["user_id"]) == pair and told["sentiment"] is not None:
                if AS_OF - 7 * DAY < told["sent_at"] <= AS_OF:
                    weeks[0].append(told["sentiment"])
                if AS_OF < told["sent_at"] <= AS_OF + 7 * DAY:
                    weeks[1].append(told["sentiment"])
        if all(weeks):
            expected[pair] = pytest.approx((_mean(weeks[0]), _mean(weeks[1])), abs=1e-9)
    samples = mood_samples(_sources(talk), [NOW])
    assert samples.columns == ["org_id", "user_id", "cutoff", "outcome", *MOOD_FEATURES]
    assert {
        (row["org_id"], row["user_id"]): (row["mood_now"], row["outcome"])
        for row in samples.to_dicts()
    } == expected


@given(talk=_talks, random=st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_order_of_rows_changes_no_last_digit_and_nothing_later_is_known(talk, random):
    sources = _sources(talk)
    shuffled = _sources(random.sample(talk, len(talk)))
    assert mood_features(shuffled, as_of=NOW).equals(mood_features(sources, as_of=NOW))
    assert mood_samples(shuffled, [NOW]).equals(mood_samples(sources, [NOW]))
    assert leaks(lambda of, at: mood_features(of, as_of=at), sources, at=NOW) == []


def test_a_community_without_interactions_has_no_mood_and_no_samples():
    sources = sources_of({"memberships": MEMBERS, "interactions": None})
    found = mood_features(sources, as_of=NOW)
    assert found["mood_now"].to_list() == [None] * 3
    assert mood_samples(sources, [NOW]).height == 0


def test_samples_of_several_moments_stand_in_their_order():
    talk = [said(days, sentiment=days / 100) for days in range(40)]
    moments = [instant_of(ago(days)) for days in (7, 21, 14)]
    samples = mood_samples(_sources(talk), moments)
    assert samples["cutoff"].to_list() == sorted(moments)
    assert samples["mood_now"].to_list() == pytest.approx([0.24, 0.17, 0.10])
    assert samples["outcome"].to_list() == pytest.approx([0.17, 0.10, 0.03])


def test_means_of_very_many_texts_do_not_overflow():
    talk = [said(1, sentiment=0.5), said(1, sentiment=-0.3), said(-1, sentiment=-0.7)] * 5_000
    (row,) = mood_samples(_sources(talk), [NOW]).to_dicts()
    assert row["mood_now"] == pytest.approx(0.1)
    assert row["outcome"] == pytest.approx(-0.7)
    assert row["sentiment_deviation_30d"] == pytest.approx(0.4)


class _Doubling:
    """Expects twice the mood of now."""

    def predict(self, rows):
        return 2 * rows[:, MOOD_FEATURES.index("mood_now")]


def test_nothing_is_predicted_of_who_is_silent_and_nothing_beyond_the_scale():
    talk = [said(1, sentiment=-0.9, user_id="u1"), said(1, sentiment=0.2, user_id="u2")]
    features = mood_features(_sources(talk), as_of=NOW)
    assert predict_mood(features, _Doubling()).to_list() == [-1.0, pytest.approx(0.4), None]
    assert predict_mood(features, None).to_list() == [None] * 3
    assert predict_mood(features.clear(), _Doubling()).len() == 0
    assert predict_mood(features, _Doubling()).dtype == pl.Float64
    assert np.isfinite(predict_mood(features, _Doubling()).drop_nulls().to_numpy()).all()


def test_a_moment_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="must have a time zone"):
        mood_features(_sources([]), as_of=datetime(2026, 1, 1))  # noqa: DTZ001
