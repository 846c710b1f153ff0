"""Samples of churn: outcomes against plain loops, and no outcome that is not known yet."""

from datetime import UTC, datetime, timedelta
from itertools import chain
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.behavior.churn_samples import (
    SourceStarts,
    churn_samples,
    cutoffs,
    drawn_people,
    source_starts,
)
from engagement_pipeline.behavior.features import FEATURES
from engagement_pipeline.behavior.sources import only_people
from tests.unit.behavior.histories import (
    AS_OF,
    activity_of,
    ago,
    answer,
    expected_features,
    histories,
    instant_of,
    said,
    sources_of,
    stay,
)
from tests.unit.signals.oracle import DAY, _holds

NOW = instant_of(AS_OF)
INSTANT = pl.Datetime("us", "UTC")
EVER = SourceStarts(
    pl.DataFrame({"org_id": ["o1", "O2", "ö3"]}).with_columns(
        starts_at=pl.lit(instant_of(0), INSTANT)
    ),
    {},
)
"""For what does not depend on when anything began."""


def _samples(tables, *moments, horizon_days=30, **options):
    at = [instant_of(moment) for moment in moments]
    return churn_samples(sources_of(tables), at, horizon_days=horizon_days, **options)


def _outcomes(tables, moment=AS_OF, horizon_days=30):
    frame = _samples(tables, moment, horizon_days=horizon_days, starts=EVER)
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
    frame = _samples(tables, moment, horizon_days=horizon, starts=EVER)
    found = {(row["org_id"], row["user_id"]): row["outcome"] for row in frame.to_dicts()}
    assert found == expected


def _first_of(moments):
    """The earliest of pairs `(key, moment)` for each key."""
    found = {}
    for key, moment in moments:
        found[key] = min(moment, found.get(key, moment))
    return found


def _expected_starts(tables):
    """When organisations and tables began, row by row."""
    active = [(row["org_id"], row["created_at"]) for row in tables["attendance"]]
    active += [(row["org_id"], row["sent_at"]) for row in tables["interactions"] or []]
    for sent in tables["notifications"] or []:
        visits = [
            visit["read_at"]
            for visit in tables["notification_reads"] or []
            if visit["notification_id"] == sent["notification_id"]
        ]
        if visits and sent["org_id"] is not None:
            active.append((sent["org_id"], min(visits)))
        elif visits:
            active += [
                (row["org_id"], min(visits))
                for row in tables["memberships"]
                if row["user_id"] == sent["user_id"] and row["joined_at"] <= min(visits)
            ]
    columns = {"event_views": "viewed_at", "notifications": "sent_at", "interactions": "sent_at"}
    rows = [
        (table, row[column]) for table, column in columns.items() for row in tables[table] or []
    ]
    return _first_of(active), _first_of(rows)


@given(tables=histories)
@settings(max_examples=40, deadline=None)
def test_starts_are_what_plain_loops_find(tables):
    orgs, firsts = _expected_starts(tables)
    found = source_starts(sources_of(tables))
    assert found.orgs.schema == {"org_id": pl.String, "starts_at": INSTANT}
    assert found.orgs.rows() == [(org, instant_of(at)) for org, at in sorted(orgs.items())]
    assert found.tables == {table: instant_of(at) for table, at in firsts.items()}


def test_a_first_read_counts_for_the_organisation_it_names_or_all_joined_by_then():
    told = {"user_id": "u1", "sent_at": ago(80)}
    tables = {
        "memberships": [
            stay(org_id="o1", joined_days_ago=90),
            stay(org_id="left", joined_days_ago=85, left_days_ago=82),
            stay(org_id="later", joined_days_ago=60),
            stay(org_id="other", user_id="u2"),
        ],
        "notifications": [
            told | {"notification_id": "n1", "org_id": None},
            told | {"notification_id": "n2", "org_id": "named"},
            told | {"notification_id": "unread", "org_id": "other"},
        ],
        # Who comes back to a notification reads it for the first time once.
        "notification_reads": [
            {"notification_id": read, "read_at": ago(days)}
            for read in ("n1", "n2")
            for days in (50, 70)
        ],
    }
    orgs = source_starts(sources_of(tables)).orgs
    assert orgs.rows() == [(org, instant_of(ago(70))) for org in ("left", "named", "o1")]


@given(tables=histories, days_ago=st.sampled_from((180, 60, 30)))
@settings(max_examples=25, deadline=None)
def test_samples_are_of_organisations_that_had_begun_with_what_was_recorded_by_then(
    tables, days_ago
):
    moment = ago(days_ago)
    orgs, firsts = _expected_starts(tables)
    optional = ("event_views", "notifications", "interactions")
    unknown = [table for table in optional if firsts.get(table, moment + 1) > moment]
    recorded = tables | dict.fromkeys(unknown)
    expected = [
        row
        for row in expected_features(recorded, moment)
        if orgs.get(row["org_id"], moment + 1) <= moment
    ]
    found = _samples(tables, moment)
    assert found["cutoff"].unique().to_list() == [instant_of(moment)] * bool(expected)
    told = found.drop("cutoff", "outcome").to_dicts()
    assert [list(row.items())[:2] for row in told] == [list(r.items())[:2] for r in expected]
    for row, other in zip(told, expected, strict=True):
        assert row == pytest.approx(other)


@given(tables=histories)
@settings(max_examples=10, deadline=None)
def test_slices_of_people_give_together_what_all_at_once_give(tables):
    sources = sources_of(tables)
    moments = [instant_of(ago(days)) for days in (180, 60, 30)]
    starts = source_starts(sources)
    slices = [only_people(sources, pl.DataFrame({"user_id": [user]})) for user in ("u2", "u1")]
    parts = [churn_samples(part, moments, horizon_days=30, starts=starts) for part in slices]
    whole = churn_samples(sources, moments, horizon_days=30)
    assert pl.concat(parts).sort("cutoff", "org_id", "user_id").equals(whole)


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


def test_an_organisation_is_silent_only_since_anything_was_recorded_of_it():
    # Members of `new` came with their years in it, but what they did was recorded for 40 days.
    people = [stay(f"u{n}", joined_days_ago=900 - n, org_id="new") for n in range(20)]
    people += [stay(f"u{n}", joined_days_ago=700, org_id="old") for n in range(15, 25)]
    talk = [said(days, user_id=f"u{n}", org_id="old") for n in range(15, 25) for days in (690, 70)]
    talk += [
        said(days, user_id=f"u{n}", org_id="new") for n in range(20) for days in (40 - n, 20 - n)
    ]
    moments = cutoffs(NOW, horizon_days=30, count=12)
    found = _samples(
        {"memberships": people, "interactions": talk}, *(ago(30 * n) for n in range(1, 13))
    )
    of_new = found.filter(pl.col("org_id") == "new")
    assert of_new["cutoff"].unique().to_list() == [moments[-1]]
    assert of_new["outcome"].to_list() == [0.0] * 20
    assert found.filter(pl.col("org_id") == "old").height == 10 * 12


def test_samples_begin_with_the_very_first_activity():
    tables = {"memberships": [stay("u1"), stay("u2")], "interactions": [said(45, user_id="u2")]}
    found = _samples(tables, ago(60), ago(45) - 1, ago(45), ago(30))
    assert found["cutoff"].unique().sort().to_list() == [instant_of(ago(45)), instant_of(ago(30))]
    nobody = _samples({"memberships": [stay("u1")]}, ago(60), ago(30))
    assert (nobody.height, nobody.columns[4:]) == (0, list(FEATURES))


def test_before_its_first_row_a_table_is_unknown_and_afterwards_its_silence_counts():
    tables = {
        "memberships": [stay()],
        "attendance": [answer(200)],
        "interactions": [said(50)],
        "event_views": [{"org_id": "o9", "event_id": "e1", "user_id": "u9", "viewed_at": ago(50)}],
        "notifications": [
            {"notification_id": "n1", "user_id": "u9", "org_id": "o9", "sent_at": ago(50)}
        ],
    }
    found = _samples(tables, ago(60), ago(30)).select(
        "interactions_30d", "event_views_90d", "notifications_sent_90d"
    )
    assert found.rows() == [(None, None, None), (1, 0, 0)]


def test_a_cutoff_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="must have a time zone"):
        churn_samples(sources_of({}), [NOW.replace(tzinfo=None)], horizon_days=30)


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
