"""Who may be written to, and who not for which reason: every branch, and every bound."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts.vocabulary import SEGMENTS, SKIP_REASONS, TONES
from engagement_pipeline.outreach.decision import (
    Decision,
    MemberState,
    evaluate_member,
    segment_of,
)
from engagement_pipeline.outreach.policy import Policy

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
POLICY = Policy()

NORMAL = Decision(True, "normal", "neutral", None)
DORMANT = Decision(True, "dormant", "playful", None)
NEW_USER = Decision(True, "new_user", "warm", None)


def member(
    *, age=100 * DAY, silence: timedelta | None = 2 * DAY, messages=(), **flags
) -> MemberState:
    """A member by how long ago all was; one who may be written to unless told otherwise."""
    return MemberState(
        org_id="o",
        user_id="u",
        created_at=NOW - age,
        last_active_at=None if silence is None else NOW - silence,
        is_opted_out=flags.get("is_opted_out", False),
        is_held_out=flags.get("is_held_out", False),
        is_erased=flags.get("is_erased", False),
        message_times=tuple(NOW - ago for ago in messages),
    )


def decide(policy: Policy = POLICY, **of_member) -> Decision:
    return evaluate_member(member(**of_member), policy, NOW)


def skipped(reason: str) -> Decision:
    return Decision(False, None, None, reason)


# Reasons, and their order

GAPS = Policy(message_frequency_hours=2, min_gap_hours=12, daily_cap=1)
FAILING = {
    "opted_out": {"is_opted_out": True},
    "held_out": {"is_held_out": True},
    "erased": {"is_erased": True},
    "active": {"silence": HOUR},
    "recently_messaged": {"messages": (HOUR, 3 * HOUR, 13 * HOUR)},
    "too_soon_after_last": {"messages": (3 * HOUR, 13 * HOUR)},
    "daily_cap": {"messages": (13 * HOUR,)},
}


@pytest.mark.parametrize("reason", SKIP_REASONS)
def test_each_reason_alone_skips_a_member(reason):
    assert decide(GAPS, **FAILING[reason]) == skipped(reason)


@pytest.mark.parametrize("first", range(len(SKIP_REASONS)))
def test_the_first_reason_is_told_however_many_there_are(first):
    every = {}
    for reason in reversed(SKIP_REASONS[first:]):
        every.update(FAILING[reason])
    assert decide(GAPS, **every) == skipped(SKIP_REASONS[first])


def test_a_member_without_a_reason_is_eligible():
    assert decide() == NORMAL


# Silence


@pytest.mark.parametrize(
    ("policy", "age", "threshold", "then"),
    [
        (POLICY, 100 * DAY, DAY, NORMAL),
        (POLICY, DAY, DAY, skipped("active")),
        (POLICY, 20 * HOUR, HOUR, NEW_USER),
        (Policy(inactivity_threshold_seconds=60), 100 * DAY, timedelta(minutes=1), NORMAL),
        (Policy(new_user_delay_seconds=7_200), 20 * HOUR, 2 * HOUR, NEW_USER),
        # The delay of new users stands in place of the threshold, and not beside it.
        (Policy(inactivity_threshold_seconds=60), 20 * HOUR, HOUR, NEW_USER),
    ],
)
def test_a_silence_of_just_the_threshold_is_active_and_a_microsecond_more_is_not(
    policy, age, threshold, then
):
    assert decide(policy, age=age, silence=threshold - MICROSECOND) == skipped("active")
    assert decide(policy, age=age, silence=threshold) == skipped("active")
    longer = threshold + MICROSECOND
    assert decide(policy, age=age, silence=min(longer, age)) == then


def test_the_delay_of_new_users_ends_with_their_first_day():
    assert decide(age=DAY - MICROSECOND, silence=2 * HOUR) == NEW_USER
    assert decide(age=DAY, silence=2 * HOUR) == skipped("active")


def test_who_was_never_active_is_silent_since_the_account_was_made():
    assert decide(age=HOUR, silence=None) == skipped("active")
    assert decide(age=HOUR + MICROSECOND, silence=None) == NEW_USER
    assert decide(age=DAY, silence=None) == skipped("active")
    assert decide(age=DAY + MICROSECOND, silence=None) == NORMAL
    assert decide(age=3 * DAY, silence=None) == DORMANT


@pytest.mark.parametrize("ahead", [MICROSECOND, 500 * DAY])
def test_what_lies_in_the_future_counts_as_just_now(ahead):
    assert decide(silence=-ahead) == skipped("active")
    assert decide(age=-ahead, silence=None) == skipped("active")
    assert decide(age=-ahead, silence=2 * HOUR) == NEW_USER


# Segments and tones


def test_three_days_of_silence_are_dormant_and_a_microsecond_less_is_not():
    assert decide(silence=3 * DAY - MICROSECOND) == NORMAL
    assert decide(silence=3 * DAY) == DORMANT


def test_dormant_comes_before_new():
    assert decide(age=2 * HOUR, silence=3 * DAY) == DORMANT


def test_there_is_a_tone_for_every_segment():
    found = {NORMAL: decide(), DORMANT: decide(silence=9 * DAY)}
    found[NEW_USER] = decide(age=3 * HOUR, silence=None)
    assert {decision.segment for decision in found.values()} == set(SEGMENTS)
    assert {decision.tone for decision in found.values()} == set(TONES)
    assert all(decision == expected for expected, decision in found.items())


# What holds of every decision

instants = st.timedeltas(min_value=-2 * DAY, max_value=10 * DAY).map(lambda ago: NOW - ago)
states = st.builds(
    MemberState,
    org_id=st.just("o"),
    user_id=st.just("u"),
    created_at=instants,
    last_active_at=st.none() | instants,
    is_opted_out=st.integers(0, 7).map(lambda n: n == 0),
    is_held_out=st.integers(0, 7).map(lambda n: n == 0),
    is_erased=st.integers(0, 7).map(lambda n: n == 0),
    message_times=st.lists(instants.filter(lambda at: at <= NOW), max_size=4).map(tuple),
)
policies = st.builds(
    Policy,
    inactivity_threshold_seconds=st.integers(1, 200_000),
    new_user_delay_seconds=st.integers(1, 86_400),
    message_frequency_hours=st.integers(0, 48),
    min_gap_hours=st.integers(0, 48),
    daily_cap=st.integers(0, 3),
)


def plainly(state: MemberState, policy: Policy, now: datetime) -> tuple:
    """Oracle: the rules one after another, in seconds."""
    age = max(0.0, (now - state.created_at).total_seconds())
    since = state.last_active_at or state.created_at
    silence = max(0.0, (now - since).total_seconds())
    hours = sorted((now - at).total_seconds() / 3600 for at in state.message_times)
    threshold = (
        policy.new_user_delay_seconds if age < 86_400 else policy.inactivity_threshold_seconds
    )
    checks = {
        "opted_out": state.is_opted_out,
        "held_out": state.is_held_out,
        "erased": state.is_erased,
        "active": silence <= threshold,
        "recently_messaged": any(ago < policy.message_frequency_hours for ago in hours),
        "too_soon_after_last": any(ago < policy.min_gap_hours for ago in hours),
        "daily_cap": sum(ago < 24 for ago in hours) + 1 > policy.daily_cap,
    }
    for reason, is_so in checks.items():
        if is_so:
            return (False, None, None, reason)
    if silence >= 3 * 86_400:
        return (True, "dormant", "playful", None)
    return (True, "new_user", "warm", None) if age < 86_400 else (True, "normal", "neutral", None)


@given(states, policies)
def test_a_decision_is_what_the_rules_one_by_one_say(state, policy):
    assert evaluate_member(state, policy, NOW) == plainly(state, policy, NOW)


@given(states, policies)
def test_the_eligible_have_segment_and_tone_and_others_a_reason_and_neither(state, policy):
    decision = evaluate_member(state, policy, NOW)
    if decision.eligible:
        assert decision.segment in SEGMENTS
        assert decision.tone in TONES
        assert decision.reason is None
    else:
        assert decision.segment is None
        assert decision.tone is None
        assert decision.reason in SKIP_REASONS


@given(states, policies, st.timedeltas(min_value=-9_000 * DAY, max_value=9_000 * DAY))
def test_moving_all_instants_alike_changes_no_decision(state, policy, by):
    moved = state._replace(
        created_at=state.created_at + by,
        last_active_at=state.last_active_at and state.last_active_at + by,
        message_times=tuple(at + by for at in state.message_times),
    )
    found = evaluate_member(state, policy, NOW)
    assert evaluate_member(moved, policy, NOW + by) == found
    assert evaluate_member(state, policy, NOW) is found


@given(states, policies)
def test_the_segment_of_whoever_is_eligible_is_the_decisions(state, policy):
    decision = evaluate_member(state, policy, NOW)
    told = segment_of(state.created_at, state.last_active_at, NOW)
    assert told in SEGMENTS
    assert decision.segment in (None, told)


def test_the_order_of_messages_does_not_matter():
    ago = (30 * HOUR, 3 * HOUR, 26 * HOUR)
    assert decide(GAPS, messages=ago) == decide(GAPS, messages=ago[::-1])


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="now: expected a time zone, found none"):
        evaluate_member(member(is_opted_out=True), POLICY, NOW.replace(tzinfo=None))
