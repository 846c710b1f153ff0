"""What is known of members, against plain loops, and untouched by what came later."""

import math
from datetime import datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.behavior.features import FEATURES, member_features
from engagement_pipeline.behavior.last_activity import last_activity
from engagement_pipeline.signals import member_signals
from tests.unit.behavior.histories import (
    AS_OF,
    SCHEMAS,
    ago,
    answer,
    expected_features,
    histories,
    instant_of,
    moments,
    said,
    sources_of,
    stay,
)
from tests.unit.signals.oracle import DAY


def _features(tables, as_of=AS_OF):
    return member_features(sources_of(tables), as_of=instant_of(as_of))


def _only(tables):
    (row,) = _features(tables).to_dicts()
    return row


@given(tables=histories, as_of=moments)
@settings(max_examples=80, deadline=None)
def test_every_feature_is_what_plain_loops_find(tables, as_of):
    expected = expected_features(tables, as_of)
    found = _features(tables, as_of)
    assert found["as_of"].to_list() == [instant_of(as_of)] * len(expected)
    assert found.height == len(expected)
    for row, wanted in zip(found.drop("as_of").to_dicts(), expected, strict=True):
        assert list(row) == list(wanted)
        different = {
            name: (row[name], wanted[name]) for name in row if not _alike(row, wanted, name)
        }
        assert different == {}


def _alike(row, wanted, name):
    found, expected = row[name], wanted[name]
    if None in (found, expected) or isinstance(expected, str):
        return found == expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)


@given(tables=histories, random=st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_the_order_of_rows_changes_no_last_digit(tables, random):
    shuffled = {
        table: None if rows is None else random.sample(rows, len(rows))
        for table, rows in tables.items()
    }
    assert _features(shuffled).equals(_features(tables))


@given(tables=histories, as_of=moments)
@settings(max_examples=15, deadline=None)
def test_what_signals_count_too_is_counted_alike(tables, as_of):
    sources = sources_of(tables)
    moment = instant_of(as_of)
    signals = member_signals(sources.signal_sources, as_of=moment, significant_sections=())
    ours = member_features(sources, as_of=moment)
    theirs = signals.to_native().collect().sort("org_id", "user_id")
    for feature, signal in [
        ("events_attended_90d", "events_attended_90d"),
        ("events_attended_prev_90d", "events_attended_prev_90d"),
        ("events_attended_total", "events_attended_total"),
        ("rsvps_90d", "rsvp_count_90d"),
        ("no_shows_90d", "no_show_count_90d"),
        ("event_views_90d", "event_view_count_90d"),
        ("notifications_sent_90d", "notifications_sent_90d"),
    ]:
        assert ours[feature].to_list() == theirs[signal].to_list(), feature


@given(tables=histories, as_of=moments)
@settings(max_examples=15, deadline=None)
def test_last_activity_is_that_which_outcomes_are_taken_from(tables, as_of):
    sources = sources_of(tables)
    moment = instant_of(as_of)
    last = last_activity(sources.signal_sources, at=moment).to_native().collect()
    known = {(org, user): as_of - at for org, user, at in last.iter_rows()}
    for row in member_features(sources, as_of=moment).iter_rows(named=True):
        days = row["days_since_active"]
        found = None if days is None else round(days * DAY)
        assert found == known.get((row["org_id"], row["user_id"]))


def test_columns_are_the_ids_the_moment_and_the_features_as_real_numbers():
    found = _features({"memberships": [stay()]})
    assert found.columns == ["org_id", "user_id", "as_of", *FEATURES]
    assert set(found.select(FEATURES).dtypes) == {pl.Float64}
    assert found.schema["as_of"] == pl.Datetime("us", "UTC")


def test_who_never_did_anything_is_there_and_counted_from_joining():
    row = _only({"memberships": [stay(joined_days_ago=50.5)]})
    assert row["days_since_active"] is None
    assert (row["active_days_total"], row["days_from_first_to_last_active"]) == (0, 0)
    assert row["days_since_first_active"] == AS_OF // DAY - ago(50.5) // DAY


def test_several_stays_are_one_member_since_the_first_that_holds():
    stays = [stay(joined_days_ago=90), stay(joined_days_ago=10), stay("u1", 500, 300)]
    assert _only({"memberships": stays})["days_since_joined"] == 90


def test_who_left_or_has_not_joined_yet_is_no_member():
    stays = [stay("u1", 9, 0), stay("u2", -1), stay("u3", 9, -1)]
    assert _features({"memberships": stays})["user_id"].to_list() == ["u3"]


def test_a_source_without_a_table_leaves_its_features_unknown_and_an_empty_one_gives_zeros():
    absent = _only({"memberships": [stay()], **dict.fromkeys(list(SCHEMAS)[2:])})
    empty = _only({"memberships": [stay()]})
    for name in ("event_views_90d", "notifications_sent_90d", "interactions_30d"):
        assert (absent[name], empty[name]) == (None, 0)


def test_a_status_known_only_later_is_an_answer_until_then():
    row = _only({"memberships": [stay()], "attendance": [answer(5, "no_show", -1)]})
    assert (row["rsvps_90d"], row["no_shows_90d"], row["active_days_30d"]) == (1, 0, 1)


def test_several_deeds_of_one_utc_day_are_one_active_day():
    midnight = AS_OF - AS_OF % DAY
    talk = [said(0) | {"sent_at": midnight - 1}, said(0) | {"sent_at": midnight}, said(0)]
    row = _only({"memberships": [stay()], "interactions": talk})
    assert (row["interactions_30d"], row["active_days_30d"]) == (3, 2)


def test_means_of_very_many_interactions_do_not_overflow():
    talk = [said(1, sentiment=0.5, quality=0.75), said(1, sentiment=0.3, quality=0.25)] * 3_000
    row = _only({"memberships": [stay()], "interactions": talk})
    assert row["mean_sentiment_30d"] == pytest.approx(0.4)
    assert row["mean_quality_30d"] == pytest.approx(0.5)


def test_a_day_that_a_window_begins_on_is_active_on_the_sides_that_have_activity():
    start = ago(30)
    assert (start - 1) // DAY == (start + 1) // DAY
    before, after = (said(0) | {"sent_at": start + nudge} for nudge in (-1, 1))
    for talk, days, trend in [([before], 0, -1), ([after], 1, 1), ([before, after], 1, 0)]:
        row = _only({"memberships": [stay()], "interactions": talk})
        assert (row["active_days_30d"], row["active_days_trend_30d"]) == (days, trend)


def test_a_moment_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="must have a time zone"):
        member_features(sources_of({"memberships": [stay()]}), as_of=datetime(2026, 1, 1))  # noqa: DTZ001
