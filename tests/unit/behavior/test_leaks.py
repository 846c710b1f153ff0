"""Planted leaks are found, whichever table they come from, and clean features have none."""

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings

from engagement_pipeline.behavior.features import member_features
from engagement_pipeline.behavior.leaks import MEMBERSHIP, Leak, as_known, leaks
from engagement_pipeline.behavior.sources import only_people
from engagement_pipeline.signals.activity import PAIR
from tests.unit.behavior.histories import (
    AS_OF,
    ago,
    answer,
    histories,
    instant_of,
    moments,
    said,
    sources_of,
    stay,
)

AT = instant_of(AS_OF)
SENT = {"notification_id": "n1", "user_id": "u1", "org_id": "o1", "sent_at": ago(5)}
LATER = {
    "attendance": ([answer(-0.5)], "rsvps_total"),
    "event_views": (
        [{"org_id": "o1", "event_id": "e1", "user_id": "u1", "viewed_at": ago(-0.5)}],
        "event_views_90d",
    ),
    "notifications": (
        [SENT, SENT | {"notification_id": "n2", "sent_at": ago(-0.5)}],
        "notifications_sent_90d",
    ),
    "notification_reads": (
        [{"notification_id": "n1", "read_at": ago(-0.5)}],
        "notifications_read_share_90d",
    ),
    "interactions": ([said(-0.5, sentiment=0.5)], "mean_sentiment_30d"),
}
"""Rows of each table that come half a day later, and a feature that they would change."""


def _clean(sources, at):
    return member_features(sources, as_of=at)


def _leaking(sources, at):
    """What is known a day later, passed off as known now."""
    return member_features(sources, as_of=at + timedelta(days=1))


def _community(**tables):
    return sources_of({"memberships": [stay()], "notifications": [SENT], **tables})


@given(tables=histories, as_of=moments)
@settings(max_examples=15, deadline=None)
def test_our_features_have_no_leak(tables, as_of):
    assert leaks(_clean, sources_of(tables), at=instant_of(as_of)) == []


@pytest.mark.parametrize("table", LATER)
def test_a_leak_from_any_one_table_is_found(table):
    rows, feature = LATER[table]
    sources = _community(**{table: rows})
    assert feature in [leak.feature for leak in leaks(_leaking, sources, at=AT)]
    assert leaks(_clean, sources, at=AT) == []


def test_a_response_known_only_later_is_a_leak_though_its_row_is_older():
    sources = _community(attendance=[answer(5, "attended", -0.5)])

    def gullible(sources, at):
        came = sources.attendance.filter(pl.col("status") == "attended").collect()
        return _clean(sources, at).select(*PAIR, pl.lit(float(came.height)).alias("came"))

    (leak,) = leaks(gullible, sources, at=AT)
    assert leak == Leak("came", 1, "o1/u1: 1.0, and without what came later 0.0")
    features = [leak.feature for leak in leaks(_leaking, sources, at=AT)]
    assert "events_attended_total" in features


def test_who_joins_or_leaves_only_later_is_a_leak_of_membership():
    people = [stay("u1"), stay("u2", joined_days_ago=-0.5), stay("u3", left_days_ago=-0.5)]
    sources = sources_of({"memberships": people})
    (leak,) = leaks(_leaking, sources, at=AT)
    assert (leak.feature, leak.members) == (MEMBERSHIP, 2)
    assert leak.example == "o1/u2: a member, and without what came later none"
    assert leaks(_clean, sources, at=AT) == []


def test_only_the_people_asked_for_are_looked_at():
    sources = sources_of(
        {
            "memberships": [stay("u1"), stay("u2")],
            "interactions": [said(-0.5, user_id="u1")],
            "notifications": [SENT],
            "notification_reads": [{"notification_id": "n1", "read_at": ago(1)}],
        }
    )
    assert leaks(_leaking, sources, at=AT, members=pl.DataFrame({"user_id": ["u2"]})) == []
    assert leaks(_leaking, sources, at=AT, members=pl.DataFrame({"user_id": ["u1"]})) != []
    alone = only_people(sources, pl.DataFrame({"user_id": ["u1", "u1"]}))
    assert _clean(alone, AT).equals(_clean(sources, AT).filter(pl.col("user_id") == "u1"))
    nobody = only_people(sources, pl.DataFrame({"user_id": ["u2"]}))
    assert [rows.collect().height for rows in nobody.tables.values()] == [1, 0, 0, 0, 0, 0]


def test_what_is_at_the_moment_is_known_and_a_microsecond_later_is_not():
    rows = [said(0), said(0) | {"sent_at": AS_OF + 1}]
    known = as_known(_community(interactions=rows, event_views=None), at=AT)
    assert known.interactions.collect()["sent_at"].to_list() == [AS_OF]
    assert known.event_views is None


def test_a_moment_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="must have a time zone"):
        as_known(_community(), at=datetime(2026, 1, 1))  # noqa: DTZ001
