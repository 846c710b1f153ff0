"""The best hour for a message, against plain fractions, and case by case."""

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engagement_pipeline.behavior.timing import (
    BEST_TIMES_SCHEMA,
    LEAST_SHARE,
    best_times,
    log_share,
    smoothed_share,
)
from engagement_pipeline.behavior.timing_counts import ACTIVITY_SCHEMA
from engagement_pipeline.contracts import contract

_AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)
_MEMBERS = {"org_id": pl.String, "user_id": pl.String, "timezone": pl.String}


def _best(counts, members, model=None, *, known_at=_AS_OF):
    """The best times, from events by (org, user, hour)."""
    rows = [(org, user, known_at, hour, n) for (org, user, hour), n in counts.items()]
    activity = pl.DataFrame(rows, schema=ACTIVITY_SCHEMA, orient="row")
    given_members = [member if len(member) == 3 else (*member, "UTC") for member in members]
    frame = pl.DataFrame(given_members, schema=_MEMBERS, orient="row")
    found = best_times(activity, frame, model, as_of=_AS_OF)
    assert found.schema == BEST_TIMES_SCHEMA
    return {(row["org_id"], row["user_id"]): row for row in found.to_dicts()}


def _one(counts, model=None):
    """Hour, weekday and how it was found, of Ada in the choir."""
    row = _best(counts, [("choir", "ada")], model)["choir", "ada"]
    return row["best_hour"], row["best_weekday"], row["timing_model"]


class _Likes:
    """A model that knows what it likes: points by hour and weekday, and by the log of the share."""

    def __init__(self, hours=(), weekdays=(), slope=0.0):
        self.hours, self.weekdays, self.slope = dict(hours), dict(weekdays), slope

    def decision_function(self, points):
        return np.array(
            [
                self.hours.get(int(hour), 0.0)
                + self.weekdays.get(int(weekday), 0.0)
                + self.slope * log
                for hour, weekday, log in points
            ]
        )


def _shares(counts, org, user):
    """(N, events of the organisation, smoothed shares by hour), in fractions."""
    own = [counts.get((org, user, hour), 0) for hour in range(24)]
    theirs = [
        sum(n for (o, _, h), n in counts.items() if (o, h) == (org, hour)) for hour in range(24)
    ]
    total = sum(theirs)
    prior = [Fraction(c, total) if total else Fraction(1, 24) for c in theirs]
    shares = [(own[h] + 10 * prior[h]) / (sum(own) + 10) for h in range(24)]
    return sum(own), total, shares


def _expected(counts, org, user, model):
    n, total, shares = _shares(counts, org, user)
    if not total:
        return 14, None, "default"
    if model is not None and n >= 10:

        def decides(hour, weekday):
            log = round(math.log(max(float(shares[hour]), LEAST_SHARE)), 2)
            return round(model.decision_function([(hour, weekday, log)])[0], 9)

        choices = [(hour, weekday) for hour in range(24) for weekday in range(1, 8)]
        hour, weekday = max(choices, key=lambda c: (decides(*c), -c[0], -c[1]))
        return hour, weekday, "logistic_regression"
    best = max(range(24), key=lambda hour: (shares[hour], -hour))
    return best, None, "own_hours" if n else "org_hours"


_keys = st.tuples(
    st.sampled_from(("choir", "garden")),
    st.sampled_from(("ada", "bo", "gone")),
    st.integers(0, 23) | st.sampled_from((0, 9)),
)
_counts = st.dictionaries(_keys, st.integers(1, 12), max_size=12)
_models = st.none() | st.builds(
    _Likes,
    st.dictionaries(st.integers(0, 23), st.sampled_from((-0.5, 0.25, 1.0)), max_size=4),
    st.dictionaries(st.integers(1, 7), st.sampled_from((-0.5, 0.25, 1.0)), max_size=3),
    st.sampled_from((0.0, 0.5, 2.0)),
)


@given(_counts, _models)
@hypothesis_settings(max_examples=60)
def test_the_best_time_is_what_trying_every_hour_and_weekday_finds(counts, model):
    members = [("choir", "ada"), ("choir", "bo"), ("garden", "ada"), ("quiet", "ada")]
    found = _best(counts, members, model)
    for pair in members:
        row = found[pair]
        given_row = (row["best_hour"], row["best_weekday"], row["timing_model"])
        assert given_row == _expected(counts, *pair, model)


@given(_counts, _models, st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=25)
def test_the_order_of_rows_changes_nothing(counts, model, dice):
    members = [("choir", "ada"), ("garden", "ada"), ("garden", "bo")]
    before = _best(counts, members, model)
    items = list(counts.items())
    dice.shuffle(items)
    dice.shuffle(members)
    after = _best(dict(items), members, model)
    assert after == before
    assert list(after) == list(before)


def test_midnight_is_an_hour_like_any_other():
    assert _one({("choir", "ada", 0): 3}) == (0, None, "own_hours")
    assert _one({("choir", "bo", 0): 3}) == (0, None, "org_hours")
    assert _one({("choir", "ada", 9): 30}, _Likes({0: 1.0})) == (0, 1, "logistic_regression")


def test_where_nobody_was_ever_seen_it_is_two_in_the_afternoon():
    assert _one({}) == (14, None, "default")
    assert _one({}, _Likes({3: 1.0})) == (14, None, "default")
    assert _one({("garden", "ada", 3): 50}) == (14, None, "default")


def test_of_equal_hours_the_smaller_is_taken():
    assert _one({("choir", "ada", hour): 5 for hour in (22, 7, 13)})[0] == 7
    # Ten of the organisation's weigh one by one: 1 + 10 * 0.1 and 0 + 10 * 0.2 are the same.
    counts = {("choir", "ada", 20): 1, ("choir", "bo", 5): 2} | {
        ("choir", "bo", hour): 1 for hour in range(10, 17)
    }
    assert _one(counts)[0] == 5


def test_a_few_events_of_ones_own_give_way_to_what_all_others_do():
    others = {("choir", "bo", 9): 100}
    assert _one(others | {("choir", "ada", 21): 8})[0] == 9
    assert _one(others | {("choir", "ada", 21): 11})[0] == 21


def test_a_model_is_asked_from_ten_events_on():
    likes = _Likes({3: 5.0}, {6: 5.0})
    assert _one({("choir", "ada", 9): 9}, likes) == (9, None, "own_hours")
    assert _one({("choir", "ada", 9): 10}, likes) == (3, 6, "logistic_regression")


def test_what_was_known_at_another_moment_is_not_looked_at():
    counts = {("choir", "ada", 3): 50}
    found = _best(counts, [("choir", "ada")], known_at=_AS_OF - timedelta(days=30))
    assert found["choir", "ada"]["timing_model"] == "default"


def test_the_zone_is_told_and_missing_ones_are_utc():
    found = _best({}, [("choir", "ada", "Asia/Kolkata"), ("choir", "bo", None)])
    assert [row["timezone"] for row in found.values()] == ["Asia/Kolkata", "UTC"]


def test_nobody_has_no_best_time():
    assert _best({("choir", "ada", 3): 5}, []) == {}


def test_more_members_than_are_worked_off_at_once_lose_nobody(monkeypatch):
    monkeypatch.setattr("engagement_pipeline.behavior.timing._CHUNK", 2)
    counts = {("choir", f"u{n}", n): 20 for n in range(5)}
    found = _best(counts, [("choir", f"u{n}") for n in range(5)])
    assert [row["best_hour"] for row in found.values()] == [0, 1, 2, 3, 4]


def test_every_word_and_number_may_be_stored():
    found = _best({("choir", "ada", 9): 30}, [("choir", "ada"), ("quiet", "bo")], _Likes())
    promised = contract("behavior.predictions").polars_schema
    assert {name: promised[name] for name in BEST_TIMES_SCHEMA} == dict(BEST_TIMES_SCHEMA)
    (words,) = [
        column.allowed
        for column in contract("behavior.predictions").columns
        if column.name == "timing_model"
    ]
    assert {row["timing_model"] for row in found.values()} <= set(words)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_share_is_smoothed_as_ten_events_of_the_organisations(n_hour, rest, org_hour, org_rest):
    frame = pl.DataFrame({"a": [n_hour], "b": [n_hour + rest], "c": [org_hour]}).with_columns(
        d=pl.lit(org_hour + org_rest)
    )
    share = frame.select(smoothed_share(*map(pl.col, "abcd"))).item()
    org = org_hour + org_rest
    prior = Fraction(org_hour, org) if org else Fraction(1, 24)
    assert share == pytest.approx(float((n_hour + 10 * prior) / (n_hour + rest + 10)))


def test_an_hour_without_a_share_has_a_logarithm_all_the_same():
    logs = pl.DataFrame({"s": [0.0, 0.005, 0.5]}).select(log_share(pl.col("s")))["s"].to_list()
    assert logs == [-5.3, -5.3, -0.69]


def test_a_moment_without_a_zone_is_refused():
    activity = pl.DataFrame(schema=ACTIVITY_SCHEMA)
    with pytest.raises(ValueError, match="as_of must have a time zone"):
        best_times(activity, pl.DataFrame(schema=_MEMBERS), None, as_of=datetime(2026, 1, 1))  # noqa: DTZ001
