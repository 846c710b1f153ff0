"""Days of members counted, against plain loops, and limit by limit."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.milestones.days import DaySources, daily
from tests.unit.milestones.plain import COUNTS, days_of

AS_OF = datetime(2026, 4, 5, 3, 17, tzinfo=UTC)
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", None)
INSTANT = pl.Datetime("us", "UTC")
TEXT = pl.String
SCHEMAS = {
    "interactions": {
        "org_id": TEXT,
        "user_id": TEXT,
        "type": TEXT,
        "sent_at": INSTANT,
        "mood": TEXT,
        "sentiment": pl.Float64,
        "quality": pl.Float64,
        "is_meaningful": pl.Boolean,
    },
    "attendance": {
        "org_id": TEXT,
        "user_id": TEXT,
        "status": TEXT,
        "created_at": INSTANT,
        "responded_at": INSTANT,
        "starts_at": INSTANT,
    },
    "first_reads": {"user_id": TEXT, "org_id": TEXT, "read_at": INSTANT},
    "memberships": {"org_id": TEXT, "user_id": TEXT, "joined_at": INSTANT, "left_at": INSTANT},
    "profiles": {"user_id": TEXT, "timezone": TEXT},
    "organizations": {"org_id": TEXT, "timezone": TEXT},
}


def counted(sources, *, as_of=AS_OF, since=None):
    frames = {
        name: pl.DataFrame(sources.get(name, []), schema=schema) for name, schema in SCHEMAS.items()
    }
    return daily(DaySources.of(frames), as_of=as_of, since=since)


def said(sent_at, **given_):
    return {
        "org_id": "choir",
        "user_id": "ada",
        "type": "message",
        "sent_at": sent_at,
        "mood": None,
        "sentiment": None,
        "quality": 0.5,
        "is_meaningful": False,
    } | given_


def came(starts_at, *, status="attended", created_at=None, responded_at=None):
    return {
        "org_id": "choir",
        "user_id": "ada",
        "status": status,
        "created_at": created_at or AS_OF - timedelta(days=30),
        "responded_at": responded_at,
        "starts_at": starts_at,
    }


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def in_zone(zone, *interactions):
    """The rows of somebody whose profile tells of this zone."""
    profile = {"user_id": "ada", "timezone": zone}
    return counted({"interactions": list(interactions), "profiles": [profile]}).to_dicts()


# --- Against plain loops.

INSTANTS = st.one_of(
    # Around both changes of clock, and around the moment itself, to the microsecond.
    st.builds(
        lambda base, quarters, tick: base + timedelta(minutes=15 * quarters, microseconds=tick),
        st.sampled_from([at("2025-11-02T05:00"), at("2026-03-29T00:00"), AS_OF]),
        st.integers(-200, 8),
        st.integers(-1, 1),
    ),
    st.sampled_from([AS_OF, AS_OF + timedelta(microseconds=1), AS_OF + timedelta(days=1)]),
)
USERS, ORGS = st.sampled_from(["ada", "bo", "cyd"]), st.sampled_from(["choir", "garden"])
UNIT = st.floats(0, 1, width=16)


def rows_of(**columns):
    return st.lists(st.fixed_dictionaries(columns), max_size=12)


WORLDS = st.fixed_dictionaries(
    {
        "interactions": rows_of(
            org_id=ORGS,
            user_id=USERS,
            type=st.sampled_from(vocabulary.INTERACTION_TYPES),
            sent_at=INSTANTS,
            mood=st.sampled_from([None, *vocabulary.MOODS]),
            sentiment=st.none() | st.floats(-1, 1, width=16),
            quality=UNIT,
            is_meaningful=st.booleans(),
        ),
        "attendance": rows_of(
            org_id=ORGS,
            user_id=USERS,
            status=st.sampled_from(vocabulary.ATTENDANCE_STATUSES),
            created_at=INSTANTS,
            responded_at=st.none() | INSTANTS,
            starts_at=st.none() | INSTANTS,
        ),
        "first_reads": rows_of(user_id=USERS, org_id=st.none() | ORGS, read_at=INSTANTS),
        "memberships": st.lists(
            st.fixed_dictionaries(
                {
                    "org_id": ORGS,
                    "user_id": USERS,
                    "joined_at": INSTANTS,
                    "left_at": st.none() | INSTANTS,
                }
            ).filter(lambda row: row["left_at"] is None or row["left_at"] > row["joined_at"]),
            max_size=5,
            unique_by=lambda row: (row["org_id"], row["user_id"]),
        ),
        "profiles": st.lists(
            st.fixed_dictionaries({"user_id": USERS, "timezone": st.sampled_from(ZONES)}),
            unique_by=lambda row: row["user_id"],
        ),
        "organizations": st.lists(
            st.fixed_dictionaries({"org_id": ORGS, "timezone": st.sampled_from(ZONES)}),
            unique_by=lambda row: row["org_id"],
        ),
    }
)


@given(WORLDS, st.none() | st.sampled_from([date(2026, 3, 29), date(2026, 4, 5)]))
def test_days_are_those_of_plain_loops(world, since):
    expected = days_of(world, AS_OF, since)
    found = counted(world, since=since).to_dicts()
    names = ("org_id", "user_id", "day", *COUNTS)
    assert [[row[n] for n in names] for row in found] == [[r[n] for n in names] for r in expected]
    for row, plain in zip(found, expected, strict=True):
        for name in ("mean_quality", "mean_sentiment"):
            assert row[name] == (
                None if plain[name] is None else pytest.approx(plain[name], abs=1e-9)
            )


@hypothesis_settings(max_examples=15)
@given(WORLDS, st.randoms(use_true_random=False))
def test_days_do_not_depend_on_the_order_of_rows(world, dice):
    shuffled = {name: dice.sample(rows, len(rows)) for name, rows in world.items()}
    assert counted(shuffled).equals(counted(world))


# --- Limits.


def test_a_day_begins_at_local_midnight_to_the_microsecond():
    midnight = at("2026-01-15T18:30")  # 00:00 in Kolkata
    rows = in_zone("Asia/Kolkata", said(midnight), said(midnight - timedelta(microseconds=1)))
    assert [(row["day"], row["night"]) for row in rows] == [
        (date(2026, 1, 15), 0),
        (date(2026, 1, 16), 1),
    ]


@pytest.mark.parametrize(
    ("clock", "night", "early"),
    [
        ("00:00", 1, 0),
        ("04:59:59.999999", 1, 0),
        ("05:00", 0, 1),
        ("07:59:59.999999", 0, 1),
        ("08:00", 0, 0),
        ("23:59:59.999999", 0, 0),
    ],
)
def test_night_and_early_are_hours_of_the_persons_clock(clock, night, early):
    (row,) = in_zone("UTC", said(at(f"2026-01-15T{clock}")))
    assert (row["night"], row["early"]) == (night, early)


def test_an_hour_that_happens_twice_is_one_day_and_a_day_that_was_left_out_has_nothing():
    rows = in_zone("Europe/Berlin", said(at("2025-10-26T00:30")), said(at("2025-10-26T01:30")))
    assert [(row["day"], row["night"]) for row in rows] == [(date(2025, 10, 26), 2)]
    # Samoa had no 30 December 2011.
    eve = at("2011-12-30T09:59:59.999999")
    rows = in_zone("Pacific/Apia", said(eve), said(eve + timedelta(microseconds=1)))
    assert [row["day"] for row in rows] == [date(2011, 12, 29), date(2011, 12, 31)]


def test_the_profiles_zone_comes_before_the_organisations():
    interactions = [said(at("2026-01-15T23:30"), user_id=user) for user in ("ada", "bo", "cyd")]
    sources = {
        "interactions": interactions,
        "profiles": [
            {"user_id": "ada", "timezone": "America/New_York"},
            {"user_id": "bo", "timezone": None},
        ],
        "organizations": [{"org_id": "choir", "timezone": "Europe/Berlin"}],
    }
    assert counted(sources)["day"].to_list() == [date(2026, 1, day) for day in (15, 16, 16)]


@pytest.mark.parametrize(
    ("row", "events"),
    [
        (came(AS_OF), 1),
        (came(AS_OF + timedelta(microseconds=1)), 0),
        (came(AS_OF, status="partial"), 1),
        (came(AS_OF, status="no_show"), 0),
        (came(AS_OF, responded_at=AS_OF), 1),
        (came(AS_OF, responded_at=AS_OF + timedelta(microseconds=1)), 0),
        (came(AS_OF, created_at=AS_OF + timedelta(microseconds=1)), 0),
        (came(None), 1),
    ],
)
def test_an_event_counts_once_it_has_begun_and_it_is_known_that_one_came(row, events):
    assert counted({"attendance": [row]})["events_attended"].sum() == events


def test_an_event_counts_on_the_day_it_started_or_if_unknown_when_that_one_came_was_said():
    told_at = AS_OF - timedelta(days=2)
    rows = [came(AS_OF - timedelta(days=9), responded_at=told_at), came(None, responded_at=told_at)]
    days = [counted({"attendance": [row]})["day"].item() for row in rows]
    assert days == [date(2026, 3, 27), date(2026, 4, 3)]


def test_a_read_without_an_organisation_counts_for_the_oldest_membership_at_the_read():
    def member(org, joined_days_ago):
        joined_at = AS_OF - timedelta(days=joined_days_ago)
        return {"org_id": org, "user_id": "ada", "joined_at": joined_at, "left_at": None}

    reads = [
        {"user_id": "ada", "org_id": org, "read_at": AS_OF - timedelta(days=days)}
        for org, days in [(None, 5), (None, 15), (None, 25), ("garden", 1)]
    ]
    found = counted(
        {"first_reads": reads, "memberships": [member("garden", 10), member("choir", 20)]}
    )
    assert found.select("org_id", "notifications_read").rows() == [
        ("choir", 1),
        ("choir", 1),
        ("garden", 1),
    ]


def test_means_are_of_what_is_known():
    moment = at("2026-01-15T12:00")
    (row,) = in_zone(
        "UTC",
        said(moment, quality=0.7, sentiment=0.1),
        said(moment, quality=0.7),
        said(moment, quality=0.7, sentiment=0.2),
    )
    # The sum of three times 0.7, by three, is not 0.7 in floats; a limit must be met all the same.
    assert (row["mean_quality"], row["mean_sentiment"]) == (0.7, 0.15)
    (row,) = in_zone("UTC", said(moment))
    assert row["mean_sentiment"] is None


def test_nothing_gives_an_empty_table_of_the_right_shape():
    assert counted({}).schema == contract("milestones.daily").polars_schema


def test_a_moment_without_a_zone_and_a_frame_that_is_missing_are_refused():
    with pytest.raises(ValueError, match="as_of must have a time zone"):
        counted({}, as_of=AS_OF.replace(tzinfo=None))
    with pytest.raises(ValueError, match=r"found no \['memberships'\]"):
        DaySources.of({name: pl.DataFrame() for name in SCHEMAS if name != "memberships"})
