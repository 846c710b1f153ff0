"""Who may be written to at the very moment of sending, reason by reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.outreach.delivery.gate import SEND, Rules, Verdict, judge_message
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
    return judge_message(message, rules, **{"now": NOW, "may_have_left": False, **given})


def test_who_has_nothing_against_them_may_be_written_to() -> None:
    assert verdict(due()) == SEND
    assert verdict(due(), may_have_left=True) == SEND


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
    return "quiet" if given.put_off else given.cancel


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
    found = _told(verdict(due(**fault), rules, may_have_left=True))
    is_for_good = reason not in ("missed_window", "no_longer_due", "recently_messaged")
    assert found == (reason if is_for_good else None)


def test_late_by_just_under_an_hour_still_goes() -> None:
    assert verdict(due(send_at=NOW - _HOUR + _TICK)) == SEND
    assert verdict(due(send_at=NOW - _HOUR)).cancel == "missed_window"


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


@pytest.mark.parametrize(
    ("hours", "policy", "reason"),
    [
        (24, Policy(), None),
        (23.9, Policy(), "recently_messaged"),
        (11.9, Policy(message_frequency_hours=0), "too_soon_after_last"),
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
