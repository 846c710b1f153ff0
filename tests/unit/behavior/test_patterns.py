"""Patterns of behaviour, against plain loops over plain rows, and limit by limit."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engagement_pipeline.behavior.patterns import INTERACTION_COLUMNS, MEMBER_COLUMNS, patterns
from engagement_pipeline.contracts import contract, vocabulary

_AS_OF = datetime(2026, 4, 5, 3, 17, tzinfo=UTC)
_DAY = timedelta(days=1)
_PROMISED = contract("behavior.patterns")
_SCORED = contract("behavior.interactions_scored").polars_schema
_MEMBERS = {
    "org_id": pl.String,
    "user_id": pl.String,
    "joined_at": _SCORED["sent_at"],
    "timezone": pl.String,
}
_JOINED = _AS_OF - 300 * _DAY
_ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    None,
)


def _interactions(rows):
    return pl.DataFrame(rows, schema={name: _SCORED[name] for name in INTERACTION_COLUMNS})


def _described(rows, members, *, as_of=_AS_OF):
    frame = pl.DataFrame(members, schema=_MEMBERS, orient="row")
    return patterns(_interactions(rows), frame, as_of=as_of)


def _said(days_ago, quality=0.5, **given):
    said_at = _AS_OF - timedelta(days=days_ago)
    row = {
        "org_id": "choir",
        "user_id": "ada",
        "interaction_id": f"i{days_ago}",
        "type": "message",
        "sent_at": said_at,
        "sentiment": None,
        "quality": quality,
        "is_meaningful": True,
        "session_id": f"s{days_ago}",
    }
    return row | given


def _ada(*rows, zone="UTC", joined_at=_JOINED):
    """The one row of a member of whom this is known."""
    return _described(list(rows), [("choir", "ada", joined_at, zone)]).row(0, named=True)


# The oracle


def _expected(rows, member, as_of):
    org, user, joined_at, zone = member
    clock = ZoneInfo(zone or "UTC")
    theirs = [r for r in rows if (r["org_id"], r["user_id"]) == (org, user)]
    theirs = sorted(
        (r for r in theirs if r["sent_at"] <= as_of),
        key=lambda r: (r["sent_at"], r["interaction_id"]),
    )
    recent = [r for r in theirs if r["sent_at"] > as_of - 30 * _DAY]
    local = [r["sent_at"].astimezone(clock) for r in recent]
    quality = _mean([r["quality"] for r in recent])
    trend = None
    if len(recent) >= 4:
        half = len(recent) // 2
        # An odd one out in the middle is in neither half.
        older, newer = recent[:half], recent[len(recent) - half :]
        trend = _mean([r["quality"] for r in newer]) - _mean([r["quality"] for r in older])
    last = theirs[-1]["sent_at"] if theirs else None
    days = len({moment.date() for moment in local})
    is_declining = trend is not None and trend < Fraction(-1, 10)
    is_absent = as_of - (last or joined_at) > 3 * _DAY
    messages = sum(r["type"] == "message" for r in recent)
    return {
        "org_id": org,
        "user_id": user,
        "as_of": as_of,
        "timezone": zone or "UTC",
        "interactions": len(recent),
        "active_days": days,
        "messages_per_active_day": messages / days if days else None,
        "sessions": len({r["session_id"] for r in recent}),
        "mean_quality": quality,
        "mean_sentiment": _mean([r["sentiment"] for r in recent if r["sentiment"] is not None]),
        "meaningful_share": _mean([r["is_meaningful"] for r in recent]),
        "top_types": _ranked([r["type"] for r in recent], at_most=5),
        "active_hours": _ranked([moment.hour for moment in local]),
        "active_weekdays": _ranked([moment.isoweekday() for moment in local]),
        "trend": trend,
        "last_interaction_at": last,
        "days_since_interaction": None if last is None else (as_of - last) // _DAY,
        "stickiness": min(1.0, days / 30),
        "lifecycle_state": _state([(as_of - r["sent_at"]) // (30 * _DAY) for r in theirs]),
        "is_highly_engaged": quality is not None and quality >= Fraction(7, 10),
        "is_declining": is_declining,
        "needs_reengagement": is_absent
        or is_declining
        or (quality is not None and quality < Fraction(4, 10)),
    }


def _mean(values):
    """Exact, for numbers of two decimals."""
    if not values:
        return None
    return sum(Fraction(round(value * 100), 100) for value in values) / len(values)


def _ranked(values, at_most=None):
    counted = Counter(values)
    ranked = sorted(counted, key=lambda value: (-counted[value], value))
    return ",".join(str(value) for value in ranked[:at_most]) or None


def _state(periods):
    if not periods:
        return None
    if 0 not in periods:
        return "dormant"
    if set(periods) == {0}:
        return "new"
    return "returning" if 1 in periods else "resurrecting"


# Both in one: ends of windows, of days and of the clock's own changes are moments like others.
_CHANGES = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    _AS_OF,
    *(_AS_OF - days * _DAY for days in (3, 30, 60)),
)
_moments = st.one_of(
    st.integers(-3 * 24 * 60, 100 * 24 * 60).map(lambda n: _AS_OF - timedelta(minutes=n)),
    st.tuples(st.sampled_from(_CHANGES), st.integers(-90, 90)).map(
        lambda pair: pair[0] + timedelta(minutes=pair[1])
    ),
    st.sampled_from(_CHANGES),
)
_hundredths = st.integers(0, 100).map(lambda n: n / 100)
_rows = st.lists(
    st.fixed_dictionaries(
        {
            "org_id": st.sampled_from(("choir", "garden")),
            "user_id": st.sampled_from(("ada", "bo", "stranger")),
            "type": st.sampled_from(vocabulary.INTERACTION_TYPES),
            "sent_at": _moments,
            "sentiment": st.none() | st.integers(-100, 100).map(lambda n: n / 100),
            "quality": _hundredths,
            "is_meaningful": st.booleans(),
            "session_id": st.sampled_from(("s1", "s2", "s3")),
        }
    ),
    max_size=40,
).map(lambda rows: [row | {"interaction_id": f"i{n:02}"} for n, row in enumerate(rows)])
_zones = st.sampled_from(_ZONES)
_worlds = st.tuples(_rows, _zones, _zones, st.integers(0, 100).map(lambda n: _AS_OF - n * _DAY))


def _members_of(world):
    _, ada, bo, joined_at = world
    return [
        ("choir", "ada", joined_at, ada),
        ("choir", "bo", joined_at, bo),
        ("garden", "bo", joined_at, bo),
    ]


@given(_worlds)
@hypothesis_settings(max_examples=60)
def test_what_is_described_is_what_going_through_each_members_interactions_finds(world):
    rows, members = world[0], _members_of(world)
    found = _described(rows, members)
    assert found.schema == _PROMISED.polars_schema
    assert found.height == len(members)
    for row, member in zip(found.to_dicts(), members, strict=True):
        expected = _expected(rows, member, _AS_OF)
        for name, value in expected.items():
            if isinstance(value, Fraction | float):
                assert row[name] == pytest.approx(float(value), abs=1e-8), name
            else:
                assert row[name] == value, name


@given(_worlds, st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=25)
def test_the_order_of_rows_changes_nothing(world, dice):
    rows, members = world[0], _members_of(world)
    before = _described(rows, members)
    dice.shuffle(rows)
    dice.shuffle(members)
    assert _described(rows, members).equals(before)


@given(_worlds)
@hypothesis_settings(max_examples=25)
def test_what_came_later_was_not_known(world):
    rows, members = world[0], _members_of(world)
    known = [row for row in rows if row["sent_at"] <= _AS_OF]
    assert _described(rows, members).equals(_described(known, members))


@given(_worlds)
@hypothesis_settings(max_examples=25)
def test_of_what_was_before_the_window_each_members_last_moment_is_enough(world):
    rows, members = world[0], _members_of(world)
    since = _AS_OF - 30 * _DAY
    kept = [row for row in rows if row["sent_at"] > since]
    last = {}
    for row in rows:
        pair = (row["org_id"], row["user_id"])
        if row["sent_at"] <= since:
            last[pair] = max(row["sent_at"], last.get(pair, row["sent_at"]))
    for (org, user), sent_at in last.items():
        kept.append(
            dict.fromkeys(INTERACTION_COLUMNS)
            | {"org_id": org, "user_id": user, "sent_at": sent_at}
        )
    assert _described(kept, members).equals(_described(rows, members))


# Limits


def test_quality_of_just_seven_tenths_is_high_though_the_sum_of_floats_falls_short():
    assert sum([0.7] * 3) / 3 < 0.7
    assert _ada(*(_said(day, 0.7) for day in range(3)))["is_highly_engaged"]
    assert not _ada(*(_said(day, 0.69) for day in range(3)))["is_highly_engaged"]


def test_quality_of_just_four_tenths_is_not_low():
    assert not _ada(_said(0, 0.4))["needs_reengagement"]
    assert _ada(_said(0, 0.39))["needs_reengagement"]


def test_a_fall_of_just_a_tenth_is_no_decline_though_floats_say_more():
    assert 0.5 - 0.6 > -0.1 > 0.3 - 0.4
    fall = [_said(day, 0.3 if day < 2 else 0.4) for day in range(4)]
    assert _ada(*fall)["trend"] == -0.1
    assert not _ada(*fall)["is_declining"]
    assert _ada(*fall[:1], *(_said(day, 0.29 if day < 2 else 0.4) for day in range(1, 4)))[
        "is_declining"
    ]


def test_three_interactions_have_no_trend_and_four_have_one():
    falling = [_said(day, 0.2 * day) for day in range(4)]
    assert _ada(*falling[:3])["trend"] is None
    assert _ada(*falling)["trend"] == -0.4


def test_the_middle_one_of_an_odd_number_is_in_neither_half():
    assert _ada(*(_said(day, 1.0 if day == 2 else 0.5) for day in range(5)))["trend"] == 0


def test_interactions_of_one_moment_are_halved_by_their_ids():
    at_once = [_said(0, quality, interaction_id=f"i{n}") for n, quality in enumerate((0, 0, 1, 1))]
    assert _ada(*at_once)["trend"] == 1
    assert _ada(*reversed(at_once))["trend"] == 1


def test_absence_begins_after_three_days_and_not_with_them():
    assert not _ada(_said(3))["needs_reengagement"]
    assert _ada(_said(3.00001))["needs_reengagement"]


def test_who_never_said_anything_is_absent_since_joining():
    assert not _ada(joined_at=_AS_OF - 3 * _DAY)["needs_reengagement"]
    silent = _ada(joined_at=_AS_OF - 3 * _DAY - timedelta(microseconds=1))
    assert silent["needs_reengagement"]
    assert (silent["interactions"], silent["stickiness"]) == (0, 0)
    assert silent["lifecycle_state"] is None
    assert silent["mean_quality"] is None


def test_the_window_ends_with_as_of_and_begins_after_thirty_days():
    assert _ada(_said(0))["interactions"] == 1
    assert _ada(_said(29.99999))["interactions"] == 1
    gone = _ada(_said(30))
    assert (gone["interactions"], gone["days_since_interaction"]) == (0, 30)
    assert _ada(_said(-0.00001))["last_interaction_at"] is None


def test_no_more_than_thirty_days_are_active_though_the_window_touches_thirty_one():
    daily = _ada(*(_said(day) for day in range(30)), _said(29.9))
    assert (daily["active_days"], daily["stickiness"]) == (31, 1)


def test_a_day_is_the_members_own():
    late, early = (_said(0, sent_at=datetime(2026, 4, 1, h, tzinfo=UTC)) for h in (18, 19))
    early["interaction_id"] = "another"
    assert _ada(late, early, zone="UTC")["active_days"] == 1
    in_kolkata = _ada(late, early, zone="Asia/Kolkata")
    assert in_kolkata["active_days"] == 2
    assert (in_kolkata["active_hours"], in_kolkata["active_weekdays"]) == ("0,23", "3,4")


def test_only_messages_are_messages_a_day():
    voices = [_said(0, type="voice", interaction_id="v"), _said(1)]
    assert _ada(*voices)["messages_per_active_day"] == 0.5


def test_five_kinds_are_told_of_and_alike_ones_by_their_names():
    kinds = ("sticker", "reaction", "voice", "document", "command", "callback")
    said = [_said(n, type=kind) for n, kind in enumerate(kinds)]
    assert _ada(*said)["top_types"] == "callback,command,document,reaction,sticker"
    assert _ada(*said, _said(9, type="voice"))["top_types"].startswith("voice,callback")


def test_hours_of_one_count_go_by_number_and_not_by_spelling():
    said = [_said(n, sent_at=datetime(2026, 4, 1, n, tzinfo=UTC)) for n in (10, 9, 0)]
    assert _ada(*said)["active_hours"] == "0,9,10"


def test_several_stays_of_one_person_are_one_member_since_the_first():
    stays = [("choir", "ada", _AS_OF - days * _DAY, "UTC") for days in (1, 9)]
    found = _described([], stays)
    assert found["needs_reengagement"].to_list() == [True]


def test_an_interaction_in_one_organisation_says_nothing_of_another():
    members = [(org, "ada", _JOINED, "UTC") for org in ("choir", "garden")]
    assert _described([_said(1)], members)["interactions"].to_list() == [1, 0]


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="as_of must have a time zone"):
        _described([], [], as_of=_AS_OF.replace(tzinfo=None))


def test_a_moment_may_be_told_in_any_zone():
    members = [("choir", "ada", _JOINED, "UTC")]
    there = _AS_OF.astimezone(ZoneInfo("Asia/Kolkata"))
    assert _described([_said(1)], members, as_of=there).equals(_described([_said(1)], members))


def test_a_frame_that_lacks_a_column_is_refused_with_what_it_has():
    members = pl.DataFrame(schema=_MEMBERS)
    with pytest.raises(ValueError, match=r"expected the columns .*'quality'.* found .*'type'"):
        patterns(_interactions([]).drop("quality"), members, as_of=_AS_OF)
    with pytest.raises(ValueError, match=f"expected the columns .*'{MEMBER_COLUMNS[-1]}'"):
        patterns(_interactions([]), members.drop("timezone"), as_of=_AS_OF)
