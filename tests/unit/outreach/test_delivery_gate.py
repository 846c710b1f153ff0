"""Who may be written to at the very moment of sending, reason by reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.outreach.delivery.gate import (
    IN_HAND_FOR,
    SEND,
    TOO_LATE,
    Rules,
    Verdict,
    judge_message,
)
from engagement_pipeline.outreach.delivery.ledger import DueMessage
from engagement_pipeline.outreach.policy import Policy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = Rules(Policy(), holdout_salt="salt", holdout_share=0.0)
EVERYBODY_HELD_OUT = replace(RULES, holdout_share=1.0)
_HOUR = timedelta(hours=1)
_TICK = timedelta(microseconds=1)


def due(**given: Any) -> DueMessage:
    """A message that may leave at `NOW`, but for what is given."""
    return DueMessage(
        **{
            "message_id": "m",
            "org_id": "choir",
            "user_id": "keen",
            "outreach_type": "re_engagement",
            "trigger": "absent",
            "template_id": "t",
            "text": "Hey!",
            "planned_at": NOW - 5 * _HOUR,
            "send_at": NOW,
            **given,
        }
    )


def verdict(message: DueMessage, rules: Rules = RULES, **given: Any) -> Verdict:
    return judge_message(message, rules, **{"now": NOW, **given})


def test_who_has_nothing_against_them_may_be_written_to() -> None:
    assert verdict(due()) == SEND
    assert verdict(due(may_have_left=True)) == SEND


# In the order in which they are looked at, with what makes each hold.
_FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("left", {"is_member": False}),
    ("opted_out", {"is_opted_out": True}),
    ("erased", {"is_erased": True}),
    ("held_out", {}),
    ("channel_opted_out", {"is_channel_opted_out": True}),
    ("missed_window", {"send_at": NOW - _HOUR}),
    ("quiet", {"quiet_start": "11:00", "quiet_end": "13:00"}),
    ("no_longer_due", {"last_active_at": NOW - 4 * _HOUR}),
    ("recently_messaged", {"message_times": (NOW - 2 * _HOUR,)}),
]


def _told(given: Verdict) -> str | None:
    return given.give_up or ("quiet" if given.put_off else given.cancel)


@pytest.mark.parametrize("first", range(len(_FAULTS)))
def test_the_first_reason_in_their_order_is_told(first: int) -> None:
    given = {name: value for _, fault in _FAULTS[first:] for name, value in fault.items()}
    rules = EVERYBODY_HELD_OUT if first <= 3 else RULES
    assert _told(verdict(due(**given), rules)) == _FAULTS[first][0]


@pytest.mark.parametrize(("reason", "fault"), _FAULTS)
def test_each_reason_suffices_by_itself(reason: str, fault: dict[str, Any]) -> None:
    rules = EVERYBODY_HELD_OUT if reason == "held_out" else RULES
    assert _told(verdict(due(**fault), rules)) == reason
    assert reason == "quiet" or reason in vocabulary.CANCEL_REASONS


@pytest.mark.parametrize(("reason", "fault"), _FAULTS)
def test_what_may_have_left_is_only_stopped_for_the_members_sake(
    reason: str, fault: dict[str, Any]
) -> None:
    rules = EVERYBODY_HELD_OUT if reason == "held_out" else RULES
    found = _told(verdict(due(**fault, may_have_left=True), rules))
    # Cancelled it would free its occasion for another message.
    passing = {"missed_window": TOO_LATE, "no_longer_due": None, "recently_messaged": None}
    assert found == passing.get(reason, reason)


def test_late_by_just_under_an_hour_still_goes() -> None:
    assert verdict(due(send_at=NOW - _HOUR + _TICK)) == SEND
    assert verdict(due(send_at=NOW - _HOUR)).cancel == "missed_window"


def test_what_a_run_was_ended_with_is_tried_for_a_day_and_then_given_up() -> None:
    in_hand = {"status": "reserved", "may_have_left": True, "send_at": NOW - 9 * _HOUR}
    assert verdict(due(**in_hand, reserved_at=NOW - IN_HAND_FOR)) == SEND
    assert verdict(due(**in_hand, reserved_at=NOW - IN_HAND_FOR - _TICK)).give_up == TOO_LATE
    assert timedelta(hours=24) == IN_HAND_FOR


def test_quiet_hours_put_off_to_their_end_by_the_members_clock() -> None:
    # Noon in UTC is 21:00 in Tokyo.
    quiet = {"quiet_start": "20:30", "quiet_end": "07:15", "zone": "Asia/Tokyo"}
    until = datetime(2026, 3, 1, 22, 15, tzinfo=UTC)
    assert verdict(due(**quiet)) == Verdict(put_off=until)
    assert verdict(due(**quiet, send_at=until), now=until) == SEND


def test_a_members_own_quiet_hours_count_and_not_everybodys() -> None:
    everybodys = replace(RULES, quiet_start="11:00", quiet_end="14:00")
    assert verdict(due(), everybodys) == Verdict(put_off=NOW + 2 * _HOUR)
    own = due(quiet_start="22:00", quiet_end="06:00")
    assert verdict(own, everybodys) == SEND
    # Who set none at all is one of everybody; the same hour twice means none.
    assert verdict(due(quiet_start="00:00", quiet_end="00:00"), everybodys) == SEND


@pytest.mark.parametrize("trigger", vocabulary.TRIGGERS)
def test_only_what_is_about_an_absence_is_void_when_the_member_is_back(trigger: str) -> None:
    planned_at = NOW - 5 * _HOUR
    back = due(trigger=trigger, last_active_at=planned_at + _TICK)
    expected = "no_longer_due" if trigger in ("absent", "churn") else None
    assert verdict(back).cancel == expected
    assert verdict(due(trigger=trigger, last_active_at=planned_at)) == SEND
    assert verdict(due(trigger=trigger, last_active_at=None)) == SEND


_SEEN = NOW - 9 * _HOUR


@pytest.mark.parametrize(
    ("trigger", "occasion", "planned_at", "is_void"),
    [
        # Active after what it is about, and taken in only after it was planned.
        ("absent", f"absent:7d:{(_SEEN - _TICK).isoformat()}", NOW - _HOUR, True),
        ("churn", f"churn:{(_SEEN - _TICK).isoformat()}", NOW - _HOUR, True),
        ("absent", f"absent:7d:{_SEEN.isoformat()}", NOW - 10 * _HOUR, False),
        ("churn", f"churn:{_SEEN.isoformat()}", NOW - 10 * _HOUR, False),
        # Those that name no activity go by when they were planned.
        ("absent", "manual:soon", NOW - 10 * _HOUR, True),
        ("absent", "absent:7d:2026-03-01", NOW - _HOUR, False),
    ],
)
def test_an_absence_is_over_with_any_activity_after_the_one_that_it_names(
    trigger: str, occasion: str, planned_at: datetime, is_void: bool
) -> None:
    message = due(trigger=trigger, occasion=occasion, planned_at=planned_at, last_active_at=_SEEN)
    assert verdict(message) == (Verdict(cancel="no_longer_due") if is_void else SEND)


@pytest.mark.parametrize("trigger", vocabulary.TRIGGERS)
def test_only_what_is_near_is_void_once_it_is_reached(trigger: str) -> None:
    expected = "no_longer_due" if trigger == "milestone_near" else None
    assert verdict(due(trigger=trigger, is_reached=True)).cancel == expected


@pytest.mark.parametrize("trigger", vocabulary.TRIGGERS)
@pytest.mark.parametrize(
    ("theirs", "everybodys", "is_wanted"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_milestones_are_void_where_nobody_wants_them(
    trigger: str, theirs: bool | None, everybodys: bool, is_wanted: bool
) -> None:
    rules = replace(RULES, gamification_enabled=everybodys)
    is_void = trigger.startswith("milestone_") and not is_wanted
    found = verdict(due(trigger=trigger, gamification_enabled=theirs), rules)
    assert found.cancel == ("no_longer_due" if is_void else None)


@pytest.mark.parametrize(
    ("hours", "policy", "minutes"),
    [
        (23.5, Policy(), 30),
        (23, Policy(), 60),
        (22.9, Policy(), None),
        (11.5, Policy(message_frequency_hours=0, daily_cap=9), 30),
        # Half an hour on the gap is long enough, and the day is full still.
        (11.5, Policy(message_frequency_hours=0), None),
        (23.5, Policy(message_frequency_hours=0), 30),
        (23.5, Policy(daily_cap=0), None),
    ],
)
def test_a_cap_that_gives_way_within_the_hour_only_puts_off(
    hours: float, policy: Policy, minutes: int | None
) -> None:
    rules = replace(RULES, policy=policy)
    found = verdict(due(message_times=(NOW - hours * _HOUR,)), rules)
    until = NOW + timedelta(minutes=minutes) if minutes else None
    assert (found.put_off, found.cancel is None) == (until, minutes is not None)
    if until:
        again = due(message_times=(NOW - hours * _HOUR,), send_at=until)
        assert verdict(again, rules, now=until) == SEND


@pytest.mark.parametrize(
    ("hours", "policy", "reason"),
    [
        (24, Policy(), None),
        (22.9, Policy(), "recently_messaged"),
        (10.9, Policy(message_frequency_hours=0), "too_soon_after_last"),
        (12, Policy(message_frequency_hours=0), "daily_cap"),
        (12, Policy(message_frequency_hours=0, daily_cap=2), None),
    ],
)
def test_the_caps_count_what_was_known_and_what_has_left_since(
    hours: float, policy: Policy, reason: str | None
) -> None:
    rules, before = replace(RULES, policy=policy), NOW - hours * _HOUR
    assert verdict(due(message_times=(before,)), rules).cancel == reason
    assert verdict(due(), rules, since=[before]).cancel == reason
