"""A delivery changes only when what is known leaves no other."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import DELIVERIES
from engagement_pipeline.loops.digest_plan import plan

_AS_OF = datetime(2026, 6, 29, 5, 45, tzinfo=UTC)
_EXPIRY = datetime(2026, 7, 29, 5, 30, tzinfo=UTC)
_IMMEDIATE_MIN, _DAILY_MIN = 0.3, 0.1
_COUNTS = {"org_id": pl.String, "feature": pl.String, "n_sent": pl.Int64, "n_read": pl.Int64}
_REASONS = {
    "immediate": "read_often",
    "daily_digest": "read_sometimes",
    "weekly_digest": "read_rarely",
}


def _calibration(key, value, lower=None, upper=None, expires_at=_EXPIRY, org_id="o1"):
    return {
        "org_id": org_id,
        "key": key,
        "value": value,
        "lower": lower,
        "upper": upper,
        "n": 10,
        "window_start": _AS_OF - timedelta(days=30),
        "window_end": _AS_OF,
        "computed_at": _AS_OF,
        "expires_at": expires_at,
        "previous_value": None,
    }


def _rates(lower, shrunk, upper, feature="events", **options):
    return [
        _calibration(f"read-rate:{feature}", (lower + upper) / 2, lower, upper, **options),
        _calibration(f"read-rate-shrunk:{feature}", shrunk, **options),
    ]


def _decision(delivery, *, reason="kept", decided_at=None, expires_at=_EXPIRY, feature="events"):
    empty = dict.fromkeys(contract("loops.digest_decisions").column_names)
    return {
        **empty,
        "org_id": "o1",
        "feature": feature,
        "delivery": delivery,
        "reason": reason,
        "decided_at": decided_at or _AS_OF - timedelta(days=7),
        "expires_at": expires_at,
    }


def _planned(calibrations, previous=(), *, counts=(), as_of=_AS_OF, **options):
    """feature -> its row."""
    frame = plan(
        pl.DataFrame(list(calibrations), contract("loops.calibrations").polars_schema),
        pl.DataFrame(list(counts), _COUNTS, orient="row"),
        pl.DataFrame(list(previous), contract("loops.digest_decisions").polars_schema),
        **{"immediate_min": _IMMEDIATE_MIN, "daily_min": _DAILY_MIN, "as_of": as_of, **options},
    )
    assert frame.schema == contract("loops.digest_decisions").polars_schema
    return {row["feature"]: row for row in frame.to_dicts()}


def _decided(calibrations, previous=(), **options):
    (row,) = _planned(calibrations, previous, **options).values()
    return row["delivery"], row["reason"]


def _band(rate):
    if rate >= _IMMEDIATE_MIN:
        return "immediate"
    return "daily_digest" if rate >= _DAILY_MIN else "weekly_digest"


def _compatible(lower, upper):
    return {_band(rate) for rate in (lower, upper)} | (
        {"daily_digest"}
        if _band(lower) == "weekly_digest" and _band(upper) == "immediate"
        else set()
    )


_edges = st.sampled_from((0.0, 0.0999, 0.1, 0.1001, 0.2, 0.2999, 0.3, 0.3001, 1.0))
_rate = _edges | st.floats(0, 1)
_intervals = st.tuples(_rate, _rate).map(sorted)
_in_place = st.none() | st.sampled_from(DELIVERIES)


def _before(delivery):
    return [] if delivery is None else [_decision(delivery)]


@given(_intervals, _rate, _in_place)
def test_a_delivery_that_the_interval_reaches_into_the_band_of_stays(ends, shrunk, delivery):
    assume((delivery or "immediate") in _compatible(*ends))
    found, reason = _decided(_rates(ends[0], shrunk, ends[1]), _before(delivery))
    assert found == (delivery or "immediate")
    spans_a_bound = len(_compatible(*ends)) > 1
    assert reason == ("kept" if spans_a_bound else _REASONS[found])


@given(_intervals, _rate, _in_place)
def test_a_delivery_moves_just_as_far_as_the_whole_interval_and_the_shrunken_rate_have_come(
    ends, shrunk, delivery
):
    assume((delivery or "immediate") not in _compatible(*ends))
    found, reason = _decided(_rates(ends[0], shrunk, ends[1]), _before(delivery))
    places = {name: place for place, name in enumerate(DELIVERIES)}
    was, likely = places[delivery or "immediate"], places[_band(shrunk)]
    allowed = sorted(places[name] for name in _compatible(*ends))
    nearest = min(allowed, key=lambda place: abs(place - was))
    # The shrunken rate may hold a move back, and never drives it.
    held = min(likely, nearest) if nearest > was else max(likely, nearest)
    expected = max(held, was) if nearest > was else min(held, was)
    assert places[found] == expected
    if allowed == [expected]:
        assert reason == _REASONS[found]
    elif expected == was:
        assert reason == "kept"
    else:
        assert reason == ("read_less" if expected > was else "read_more")


@given(_intervals, _rate, _in_place)
@settings(max_examples=50)
def test_planning_again_with_nothing_new_changes_nothing(ends, shrunk, delivery):
    rates = _rates(ends[0], shrunk, ends[1])
    before = _before(delivery)
    first = _planned(rates, before)
    again = _planned(rates, [*before, *first.values()])
    assert again == first
    later = _planned(rates, [*before, *first.values()], as_of=_AS_OF + timedelta(days=1))
    assert [row["delivery"] for row in later.values()] == [
        row["delivery"] for row in first.values()
    ]


@pytest.mark.parametrize(
    ("ends", "shrunk", "delivery", "found"),
    [
        ((0.35, 0.60), 0.45, None, ("immediate", "read_often")),
        ((0.25, 0.60), 0.28, None, ("immediate", "kept")),
        ((0.12, 0.29), 0.20, None, ("daily_digest", "read_sometimes")),
        ((0.01, 0.05), 0.03, None, ("weekly_digest", "read_rarely")),
        ((0.05, 0.25), 0.08, None, ("daily_digest", "read_less")),
        ((0.05, 0.25), 0.12, None, ("daily_digest", "read_less")),
        ((0.05, 0.25), 0.35, None, ("immediate", "kept")),
        ((0.01, 0.05), 0.12, None, ("daily_digest", "read_less")),
        ((0.25, 0.60), 0.45, "weekly_digest", ("daily_digest", "read_more")),
        ((0.25, 0.60), 0.45, "daily_digest", ("daily_digest", "kept")),
        ((0.00, 1.00), 0.50, "weekly_digest", ("weekly_digest", "kept")),
        ((0.30, 0.60), 0.45, "daily_digest", ("immediate", "read_often")),
        ((0.20, 0.2999), 0.25, "immediate", ("daily_digest", "read_sometimes")),
        ((0.10, 0.20), 0.15, "weekly_digest", ("daily_digest", "read_sometimes")),
    ],
)
def test_bounds_and_what_was_in_place_decide(ends, shrunk, delivery, found):
    assert _decided(_rates(ends[0], shrunk, ends[1]), _before(delivery)) == found


def test_an_interval_without_ends_leaves_every_delivery_possible():
    rates = [
        _calibration("read-rate:events", 0.02),
        _calibration("read-rate-shrunk:events", 0.02),
    ]
    for delivery in DELIVERIES:
        assert _decided(rates, _before(delivery)) == (delivery, "kept")


def test_without_a_shrunken_rate_the_nearest_compatible_delivery_is_taken():
    seldom = [_calibration("read-rate:events", 0.1, 0.05, 0.25)]
    assert _decided(seldom) == ("daily_digest", "read_less")
    often = [_calibration("read-rate:events", 0.4, 0.15, 0.6)]
    assert _decided(often, _before("weekly_digest")) == ("daily_digest", "read_more")


def test_a_shrunken_rate_alone_is_nothing_to_decide_by():
    (row,) = _planned(_rates(0.01, 0.02, 0.05)[1:], _before("immediate")).values()
    assert (row["delivery"], row["expires_at"]) == ("immediate", None)


def test_where_nothing_is_known_yet_delivery_is_immediate():
    engaged = [_calibration("engagement-rate:events", 0.4)]
    (row,) = _planned(engaged).values()
    assert (row["delivery"], row["reason"]) == ("immediate", "cold_start")
    assert (row["engagement_rate"], row["read_rate"], row["expires_at"]) == (0.4, None, None)
    known = pl.DataFrame({"org_id": ["o1", "o1"], "feature": ["events", "polls"]})
    planned = _planned(engaged, known=known)
    assert {f: row["reason"] for f, row in planned.items()} == {
        "events": "cold_start",
        "polls": "cold_start",
    }
    assert _planned([]) == {}


def test_where_nothing_is_known_any_more_delivery_is_immediate_again():
    expired = _decision("weekly_digest", expires_at=_AS_OF)
    assert _decided([], [expired]) == ("immediate", "expired")
    first = _planned([], [expired])["events"]
    assert first["expires_at"] is None
    assert _decided([], [expired, first], as_of=_AS_OF + timedelta(days=7)) == (
        "immediate",
        "expired",
    )


def test_a_cold_start_stays_one_until_something_is_known():
    before = _decision("immediate", reason="cold_start", expires_at=None)
    assert _decided([], [before]) == ("immediate", "cold_start")


def test_an_expired_decision_holds_nothing_in_place():
    wide = _rates(0.05, 0.2, 0.6)
    assert _decided(wide, [_decision("weekly_digest")]) == ("weekly_digest", "kept")
    expired = _decision("weekly_digest", expires_at=_AS_OF)
    assert _decided(wide, [expired]) == ("immediate", "kept")


def test_only_the_newest_decision_before_the_moment_is_in_place():
    wide = _rates(0.05, 0.2, 0.6)
    decisions = [
        _decision("daily_digest", decided_at=_AS_OF - timedelta(days=1)),
        _decision("immediate", decided_at=_AS_OF),
        _decision("weekly_digest", decided_at=_AS_OF - timedelta(days=14)),
    ]
    assert _decided(wide, decisions) == ("daily_digest", "kept")


def test_a_decision_expires_with_the_first_rate_that_it_rests_on():
    soon = _EXPIRY - timedelta(days=7)
    rates = [
        _calibration("read-rate:events", 0.2, 0.15, 0.25, expires_at=soon),
        _calibration("read-rate-shrunk:events", 0.2),
        _calibration("engagement-rate:events", 1.0, expires_at=soon - timedelta(days=1)),
    ]
    assert _planned(rates)["events"]["expires_at"] == soon


def test_a_decision_tells_all_that_it_was_made_from():
    rates = [
        *_rates(0.15, 0.21, 0.25),
        _calibration("engagement-rate:events", 1.5),
        _calibration("read-rate-primary:events", 0.9, 0.8, 1.0),
        _calibration("engagement-rate-primary:events", 0.1),
        _calibration("threshold:events", 3.0),
    ]
    counts = [("o1", "events", 40, 8), ("o2", "events", 7, 7), ("o1", "polls", 3, 0)]
    assert _planned(rates, counts=counts) == {
        "events": {
            "org_id": "o1",
            "feature": "events",
            "delivery": "daily_digest",
            "reason": "read_sometimes",
            "engagement_rate": 1.5,
            "read_rate": 0.2,
            "read_rate_lower": 0.15,
            "read_rate_upper": 0.25,
            "read_rate_shrunk": 0.21,
            "n_sent": 40,
            "n_read": 8,
            "decided_at": _AS_OF,
            "expires_at": _EXPIRY,
        }
    }


def test_features_and_organisations_are_decided_apart():
    calibrations = [
        *_rates(0.35, 0.4, 0.5),
        *_rates(0.01, 0.02, 0.05, feature="polls"),
        *_rates(0.15, 0.2, 0.25, feature="a:b"),
    ]
    planned = _planned(calibrations, [_decision("daily_digest", feature="news")])
    assert {feature: row["delivery"] for feature, row in planned.items()} == {
        "a:b": "daily_digest",
        "events": "immediate",
        "news": "immediate",
        "polls": "weekly_digest",
    }
    other = [row | {"org_id": "o2"} for row in calibrations[2:4]]
    assert _decided([*calibrations[2:4]]) == _decided(other) == ("weekly_digest", "read_rarely")


@pytest.mark.parametrize(
    ("immediate_min", "daily_min"), [(0.1, 0.1), (0.1, 0.3), (1.1, 0.1), (0.3, -0.1)]
)
def test_bounds_that_leave_a_delivery_no_band_are_refused(immediate_min, daily_min):
    with pytest.raises(ValueError, match=f"found daily_min {daily_min} and immediate_min"):
        _planned([], immediate_min=immediate_min, daily_min=daily_min)


def test_a_moment_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="as_of must have a time zone"):
        _planned([], as_of=_AS_OF.replace(tzinfo=None))
