"""Profiles that enough members share, and what has to hold however many that is."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.scoring.explanations import PLACEHOLDERS
from engagement_pipeline.scoring.levels import Thresholds, with_baseline
from engagement_pipeline.scoring.profiles import CELLS, NOT_TOLD, Profile, with_profiles
from engagement_pipeline.scoring.sharing import with_shared_profiles

AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)
_TABLE = contract("signals.member_90d")


@st.composite
def a_member(draw: st.DrawFn) -> dict[str, Any]:
    attended, previous = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    last = draw(st.none() | st.integers(0, 400))
    updated = draw(st.none() | st.integers(0, 200))
    sent = draw(st.none() | st.integers(0, 8))
    return {
        "org_id": "org",
        "as_of": AS_OF,
        "events_attended_90d": attended,
        "events_attended_prev_90d": previous,
        "events_attended_total": attended + previous,
        "last_attended_at": None if last is None else AS_OF - timedelta(days=last),
        "no_show_count_90d": draw(st.integers(0, 3)),
        "rsvp_count_90d": draw(st.integers(0, 8)),
        "event_view_count_90d": None,
        "notifications_sent_90d": sent,
        "notifications_read_90d": None if sent is None else draw(st.integers(0, 8)),
        "interaction_count_90d": draw(st.none() | st.integers(0, 30)),
        "profile_updated_at": None if updated is None else AS_OF - timedelta(days=updated),
        "joined_at": AS_OF - timedelta(days=500),
        "days_since_joined": draw(st.integers(0, 800)),
        "last_active_at": AS_OF,
        "days_since_active": draw(st.integers(0, 400)),
    }


a_community = st.lists(a_member(), min_size=1, max_size=60)
some_thresholds = st.builds(
    lambda moderate, more, new, inactive: Thresholds(moderate + more, moderate, new, inactive),
    st.integers(1, 8),
    st.integers(0, 8),
    st.sampled_from([0, 14, 30, 59, 60, 61, 200]),
    st.sampled_from([1, 7, 30, 90, 91, 180, 181, 365]),
)


def _frame(members: list[dict[str, Any]]) -> pl.DataFrame:
    rows = [{**member, "user_id": f"u{number}"} for number, member in enumerate(members)]
    return pl.DataFrame(rows, schema=_TABLE.polars_schema)


@given(a_community, some_thresholds, st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_no_shared_profile_has_members_of_two_baselines(
    members: list[dict[str, Any]], thresholds: Thresholds, enough: int
) -> None:
    signals = with_baseline(_frame(members), thresholds)
    shared = with_shared_profiles(signals, thresholds, min_members=enough)
    for text, baseline in shared.select("profile", "baseline_level").iter_rows():
        assert Profile(text).baseline_level(thresholds) == baseline
        assert Profile(text).is_new(thresholds) in (True, False)
    is_new = shared.select(
        "profile", is_new=pl.col("days_since_joined") < thresholds.new_member_days
    ).unique()
    assert is_new["profile"].is_unique().all()


@given(a_community, st.integers(2, 8), st.randoms())
@settings(max_examples=60, deadline=None)
def test_members_in_the_same_buckets_share_a_profile_whatever_their_order(
    members: list[dict[str, Any]], enough: int, dice: Any
) -> None:
    thresholds = Thresholds()
    frame = _frame(members)
    shared = with_shared_profiles(frame, thresholds, min_members=enough)
    together = with_profiles(frame, thresholds).select(
        pl.col("profile").alias("close"), shared["profile"].alias("shared")
    )
    assert together.unique()["close"].is_unique().all()
    places = list(range(frame.height))
    dice.shuffle(places)
    again = with_shared_profiles(frame[places], thresholds, min_members=enough)
    assert dict(again.select("user_id", "profile").iter_rows()) == dict(
        shared.select("user_id", "profile").iter_rows()
    )


@given(a_community, st.integers(2, 8))
@settings(max_examples=60, deadline=None)
def test_a_profile_is_shared_by_enough_members_or_cannot_be_told_more_widely(
    members: list[dict[str, Any]], enough: int
) -> None:
    thresholds = Thresholds()
    shared = with_shared_profiles(_frame(members), thresholds, min_members=enough)
    for text, count in Counter(shared["profile"].to_list()).items():
        untold = [cell for cell, value in Profile(text).cells.items() if value == NOT_TOLD]
        widest = sorted(set(CELLS) - {"attended", "last_active", "joined"})
        assert count >= enough or sorted(untold) == widest


@given(a_community, st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_whatever_a_shared_profile_may_cite_is_known_of_all_its_members(
    members: list[dict[str, Any]], enough: int
) -> None:
    shared = with_shared_profiles(_frame(members), Thresholds(), min_members=enough)
    for (text,), group in shared.partition_by("profile", as_dict=True).items():
        for name in Profile(str(text)).citable:
            assert group.select(PLACEHOLDERS[name].value.alias("v"))["v"].null_count() == 0, name


@given(a_community, st.integers(2, 8))
@settings(max_examples=40, deadline=None)
def test_the_steps_are_those_of_a_plain_loop(members: list[dict[str, Any]], enough: int) -> None:
    thresholds = Thresholds()
    frame = _frame(members)
    close = with_profiles(frame, thresholds)["profile"].to_list()
    left = {place: text.split(" ") for place, text in enumerate(close)}
    expected: dict[int, str] = {}
    for number in range(7):
        if number:
            left = {place: _told_less(cells, number) for place, cells in left.items()}
        sharing = Counter(" ".join(cells) for cells in left.values())
        done = [p for p, c in left.items() if sharing[" ".join(c)] >= enough or number == 6]
        for place in done:
            expected[place] = " ".join(left.pop(place))
    shared = with_shared_profiles(frame, thresholds, min_members=enough)["profile"].to_list()
    assert shared == [expected[place] for place in range(len(close))]


_EDGES: dict[int, dict[str, list[int] | None]] = {
    1: {
        "trend": None,
        "profile_update": None,
        "no_shows": [0, 1],
        "reads": [0, 1],
        "interactions": [0, 1, 20],
        "rsvps": [0, 1, 3],
        "previous": [0, 1, 3],
        "last_attended": [0, 31, 91],
        "joined": [0, 60, 365],
    },
    2: {
        "no_shows": None,
        "interactions": [0, 1],
        "rsvps": [0, 1],
        "previous": [0, 1],
        "last_attended": [0],
    },
    3: {"reads": None, "last_active": [0, 91, 180]},
    4: {"joined": [0, 60]},
    5: {"previous": None, "last_attended": None},
    6: {"rsvps": None, "interactions": None, "joined": [0, 60], "last_active": [0, 180]},
}


def _told_less(cells: list[str], number: int) -> list[str]:
    told = list(cells)
    for name, edges in _EDGES[number].items():
        place = CELLS.index(name)
        if edges is None:
            told[place] = "*"
        elif told[place].isdigit():
            told[place] = str(max(edge for edge in edges if edge <= int(told[place])))
    return told


def test_with_one_member_enough_everybody_stays_at_full_closeness() -> None:
    frame = _frame([_example(3), _example(4)])
    close = with_profiles(frame, Thresholds())
    assert with_shared_profiles(frame, Thresholds(), min_members=1).equals(close)


def test_an_organisation_without_members_has_no_profiles() -> None:
    assert with_shared_profiles(_frame([]), Thresholds(), min_members=5).height == 0


def _example(attended: int) -> dict[str, Any]:
    return {
        "org_id": "org",
        "as_of": AS_OF,
        "events_attended_90d": attended,
        "events_attended_prev_90d": 1,
        "events_attended_total": 9,
        "last_attended_at": AS_OF,
        "no_show_count_90d": 0,
        "rsvp_count_90d": 4,
        "joined_at": AS_OF,
        "days_since_joined": 200,
        "days_since_active": 0,
    }
