"""Samples of churn: outcomes against plain loops, and no outcome that is not known yet."""

from datetime import UTC, datetime, timedelta
from itertools import chain
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.behavior.churn_samples import (
    churn_samples,
    cutoffs,
    drawn_people,
    first_activity_at,
)
from engagement_pipeline.behavior.features import FEATURES, member_features
from tests.unit.behavior.histories import (
    AS_OF,
    activity_of,
    ago,
    answer,
    histories,
    instant_of,
    said,
    sources_of,
    stay,
)
from tests.unit.signals.oracle import DAY, _holds

NOW = instant_of(AS_OF)


def _samples(tables, *moments, horizon_days=30, **options):
    at = [instant_of(moment) for moment in moments]
    return churn_samples(sources_of(tables), at, horizon_days=horizon_days, **options)


def _outcomes(tables, moment=AS_OF, horizon_days=30):
    frame = _samples(tables, moment, horizon_days=horizon_days, first_active_at=instant_of(0))
    return {row["user_id"]: row["outcome"] for row in frame.to_dicts()}


@given(tables=histories, days_ago=st.sampled_from((90, 30, 0)), horizon=st.sampled_from((30, 31)))
@settings(max_examples=40, deadline=None)
def test_outcomes_are_what_plain_loops_find(tables, days_ago, horizon):
    moment = ago(days_ago)
    members = {(r["org_id"], r["user_id"]) for r in tables["memberships"] if _holds(r, moment)}
    expected = {}
    for org, user in members:
        then = max(chain(*activity_of(tables, moment + horizon * DAY, org, user)), default=0)
        expected[org, user] = 0.0 if then > moment else 1.0
    frame = _samples(tables, moment, horizon_days=horizon, first_active_at=instant_of(0))
    found = {(row["org_id"], row["user_id"]): row["outcome"] for row in frame.to_dicts()}
    assert found == expected


@given(tables=histories)
@settings(max_examples=8, deadline=None)
def test_features_are_those_known_at_the_cutoff(tables):
    sources = sources_of(tables)
    moments = [instant_of(ago(60)), instant_of(ago(30))]
    samples = churn_samples(
        sources, moments, horizon_days=30, first_active_at=instant_of(0)
    ).partition_by("cutoff", as_dict=True)
    for moment in moments:
        known = member_features(sources, as_of=moment).drop("as_of")
        if not known.is_empty():
            assert samples[moment,].drop("cutoff", "outcome").equals(known)


def test_cutoffs_lie_a_horizon_apart_and_the_last_outcome_ends_with_now():
    found = cutoffs(NOW, horizon_days=30, count=3)
    assert found == [NOW - timedelta(days=days) for days in (90, 60, 30)]


def test_a_day_lasts_24_hours_also_where_clocks_change():
    as_of = datetime(2026, 4, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    (only,) = cutoffs(as_of, horizon_days=30, count=1)
    assert as_of.astimezone(UTC) - only == timedelta(days=30)


@pytest.mark.parametrize(
    "wrong", [{"horizon_days": 0, "count": 1}, {"horizon_days": 1, "count": 0}]
)
def test_no_cutoffs_and_no_horizon_are_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1, and is 0"):
        cutoffs(NOW, **wrong)


def test_activity_at_the_cutoff_is_past_and_at_the_end_of_the_horizon_still_counts():
    people = [stay(user) for user in ("at", "after", "end", "late")]
    talk = [
        said(30, user_id="at"),
        said(30, user_id="after") | {"sent_at": ago(30) + 1},
        said(0, user_id="end"),
        said(0, user_id="late") | {"sent_at": AS_OF + 1},
    ]
    found = _outcomes({"memberships": people, "interactions": talk}, ago(30))
    assert found == {"at": 1.0, "after": 0.0, "end": 0.0, "late": 1.0}


def test_an_answer_that_is_withdrawn_within_the_horizon_is_no_activity():
    tables = {"memberships": [stay()], "attendance": [answer(20, "cancelled", 5)]}
    assert _outcomes(tables, ago(30)) == {"u1": 1.0}
    assert _outcomes(tables, ago(30), horizon_days=20) == {"u1": 0.0}


def test_who_leaves_within_the_horizon_counts_by_activity_alone():
    people = [stay("busy", left_days_ago=10), stay("quiet", left_days_ago=10)]
    talk = [said(20, user_id="busy")]
    found = _outcomes({"memberships": people, "interactions": talk}, ago(30))
    assert found == {"busy": 0.0, "quiet": 1.0}


def test_cutoffs_before_anybody_did_anything_are_left_out():
    tables = {"memberships": [stay("u1"), stay("u2")], "interactions": [said(45, user_id="u2")]}
    found = _samples(tables, ago(60), ago(45), ago(30))
    assert found["cutoff"].unique().sort().to_list() == [instant_of(ago(45)), instant_of(ago(30))]
    of_some = _samples({"memberships": [stay("u1")]}, ago(60), ago(30))
    assert (of_some.height, of_some.columns[4:]) == (0, list(FEATURES))
    told = _samples({"memberships": [stay("u1")]}, ago(60), first_active_at=instant_of(ago(90)))
    assert told.height == 1


def test_the_first_activity_is_of_whichever_table_has_it():
    read = {"notification_id": "n1", "read_at": ago(70)}
    rows = {
        "attendance": [answer(50, "attended", 10)],
        "interactions": [said(60)],
        "notification_reads": [read],
    }
    expected = {"attendance": 50, "interactions": 60, "notification_reads": 70}
    for table, days in expected.items():
        only = sources_of({"memberships": [stay()], table: rows[table]})
        assert first_activity_at(only) == instant_of(ago(days))
    assert first_activity_at(sources_of(rows)) == instant_of(ago(70))
    assert first_activity_at(sources_of({"interactions": None})) is None


def test_people_are_drawn_by_their_ids_alone_and_about_as_many_as_asked_for():
    def drawn(people, share, seed=1):
        sources = sources_of({"memberships": [stay(user) for user in people]})
        return drawn_people(sources, share=share, seed=seed)["user_id"].to_list()

    everybody = sorted(f"u{number}" for number in range(1_000))
    some = drawn(everybody + everybody[:9], 0.3)
    assert 250 < len(some) < 350
    assert drawn(everybody[::-2], 0.3) == [user for user in everybody[1::2] if user in some]
    assert set(drawn(everybody, 0.2)) < set(some)
    assert drawn(everybody, 0.3, seed=2) != some
    assert (drawn(everybody, 1), drawn(everybody, 0)) == (everybody, [])
    with pytest.raises(ValueError, match="share must be from 0 to 1, and is 2"):
        drawn(everybody, 2)
