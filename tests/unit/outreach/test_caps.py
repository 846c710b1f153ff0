"""How often a member may be written to, against looking at every span of a day."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.outreach.caps import refusal
from engagement_pipeline.outreach.policy import Policy

AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
ONLY_A_CAP = Policy(message_frequency_hours=0, min_gap_hours=0, daily_cap=2)

hours_apart = st.integers(-50, 50)
some_policies = st.builds(
    Policy,
    message_frequency_hours=st.integers(0, 30),
    min_gap_hours=st.integers(0, 30),
    daily_cap=st.integers(0, 4),
)


def refused(*hours: float, policy: Policy = ONLY_A_CAP) -> str | None:
    return refusal([AT + timedelta(hours=hour) for hour in hours], AT, policy)


def fits_every_day(times, at, daily_cap):
    """Oracle: the fullest 24 hours begin with a message, and those with `at` in them matter."""
    everything = [*times, at]
    for start in everything:
        inside = [time for time in everything if start <= time < start + timedelta(hours=24)]
        if start <= at < start + timedelta(hours=24) and len(inside) > daily_cap:
            return False
    return True


def expected(times, at, policy):
    for time in times:
        if abs((time - at).total_seconds()) < policy.message_frequency_hours * 3600:
            return "recently_messaged"
    for time in times:
        if abs((time - at).total_seconds()) < policy.min_gap_hours * 3600:
            return "too_soon_after_last"
    return None if fits_every_day(times, at, policy.daily_cap) else "daily_cap"


@given(st.lists(hours_apart, max_size=9), some_policies)
def test_a_refusal_is_what_looking_at_every_day_says(hours, policy):
    times = [AT + hour * HOUR for hour in hours]
    assert refusal(times, AT, policy) == expected(times, AT, policy)


@given(st.lists(hours_apart, max_size=9), some_policies, st.randoms())
def test_caps_are_the_same_in_any_order_and_backwards_in_time(hours, policy, random):
    shuffled = random.sample(hours, len(hours))
    mirrored = [-hour for hour in hours]
    assert refused(*hours, policy=policy) == refused(*shuffled, policy=policy)
    assert refused(*hours, policy=policy) == refused(*mirrored, policy=policy)


@given(st.lists(st.integers(0, 24 * 14), max_size=60), some_policies)
def test_messages_let_through_one_by_one_never_break_a_cap(hours, policy):
    let_through = []
    for hour in hours:
        if refusal(let_through, AT + hour * HOUR, policy) is None:
            let_through.append(AT + hour * HOUR)
    in_order = sorted(let_through)
    gaps = [later - earlier for earlier, later in pairwise(in_order)]
    least = max(policy.message_frequency_hours, policy.min_gap_hours) * HOUR
    assert all(gap >= least for gap in gaps)
    for start in in_order:
        inside = [time for time in in_order if start <= time < start + timedelta(hours=24)]
        assert len(inside) <= policy.daily_cap


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(
    ("policy", "bound", "reason"),
    [
        (Policy(), 24 * HOUR, "recently_messaged"),
        (Policy(message_frequency_hours=2, min_gap_hours=12), 2 * HOUR, "recently_messaged"),
        (Policy(message_frequency_hours=0, min_gap_hours=36), 36 * HOUR, "too_soon_after_last"),
        (Policy(message_frequency_hours=0, min_gap_hours=0), 24 * HOUR, "daily_cap"),
    ],
)
def test_a_message_just_at_a_bound_is_allowed_and_a_microsecond_nearer_is_not(
    side, policy, bound, reason
):
    def at_distance(distance):
        return refusal([AT + side * distance], AT, policy)

    assert at_distance(bound - MICROSECOND) == reason
    assert at_distance(bound) != reason


def test_the_reasons_come_in_their_order():
    every = Policy(message_frequency_hours=2, min_gap_hours=12, daily_cap=1)
    assert refused(1, policy=every) == "recently_messaged"
    assert refused(3, policy=every) == "too_soon_after_last"
    assert refused(13, policy=every) == "daily_cap"
    assert refused(24, policy=every) is None


def test_a_message_between_two_others_counts_with_both_of_them():
    assert refused(-11, 12.5) == "daily_cap"
    assert refused(-12, 12) is None
    assert refused(-23, -1) == "daily_cap"


def test_a_day_that_is_too_full_without_this_message_does_not_refuse_it():
    assert refused(-30, -29, -28, -27) is None


def test_a_cap_of_none_refuses_the_first_message():
    assert refused(policy=Policy(daily_cap=0)) == "daily_cap"
    assert refused(policy=Policy()) is None


def test_times_without_a_zone_are_refused():
    with pytest.raises(TypeError):
        refusal([AT.replace(tzinfo=None)], AT, Policy())
