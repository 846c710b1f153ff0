"""Whether a message may leave at this very moment, whatever was known when it was planned.

What is known of the member is told by the ledger; what follows from a verdict is `sending`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engagement_pipeline.outreach import caps
from engagement_pipeline.outreach.delivery.ledger import DueMessage
from engagement_pipeline.outreach.holdout import is_held_out
from engagement_pipeline.outreach.policy import Policy
from engagement_pipeline.outreach.send_times import MISSED_AFTER, QuietHours, judge, quiet_until

ABOUT_ABSENCE = frozenset({"absent", "churn"})
"""Triggers of messages that are void once the member is back."""

ABOUT_MILESTONES = frozenset({"milestone_near", "milestone_reached"})
"""Triggers of messages that are void where nobody wants milestones any more."""

IN_HAND_FOR = timedelta(hours=24)
"""How long a message that a run was ended with is tried again."""

TOO_LATE = "it may have left, and it is too late to try again"
"""The error of messages that are given up for it."""


@dataclass(frozen=True)
class Rules:
    """What messages may leave by.

    Attributes:
        policy: the caps.
        holdout_salt: what the holdout is drawn by.
        holdout_share: the share of members in it.
        quiet_start: start of the quiet hours, HH:MM, of who set none; None: none.
        quiet_end: their end.
        gamification_enabled: whether organisations want milestones that do not say.
    """

    policy: Policy
    holdout_salt: str
    holdout_share: float
    quiet_start: str | None = None
    quiet_end: str | None = None
    gamification_enabled: bool = True


@dataclass(frozen=True)
class Verdict:
    """What is to be done: cancel for a reason, give up for an error, put off until a moment; else
    send."""

    cancel: str | None = None
    give_up: str | None = None
    put_off: datetime | None = None


SEND = Verdict()


def judge_message(
    message: DueMessage, rules: Rules, *, now: datetime, since: Sequence[datetime] = ()
) -> Verdict:
    """Whether a message may leave now.

    In this order: `left`, `opted_out`, `erased`, `held_out`, `channel_opted_out`, `missed_window`,
    quiet hours (put off to their end), `no_longer_due` (what it is about has passed), and the caps
    (put off where they allow it within `MISSED_AFTER`).

    What may have left is not cancelled for being late, for what it is about having passed, or for
    the caps: it may have been read already, and its occasion must not have another message. Where
    it is too late for it, it is given up: of who was ended with it in hand that is after
    `IN_HAND_FOR`, since only trying again tells.

    Args:
        message: with what is known of the member.
        rules: in force.
        now: the moment.
        since: when other messages to the member have left, or may have, since that was found out.
    """
    cancelled = _never(message, rules)
    if cancelled is not None:
        return Verdict(cancel=cancelled)
    if _is_too_late(message, now):
        if message.may_have_left:
            return Verdict(give_up=TOO_LATE)
        return Verdict(cancel="missed_window")
    quiet_end = quiet_until(now, message.zone, _quiet_hours(message, rules))
    if quiet_end is not None:
        return Verdict(put_off=quiet_end)
    if message.may_have_left:
        return SEND
    if _has_passed(message, rules):
        return Verdict(cancel="no_longer_due")
    return _by_the_caps([*message.message_times, *since], now, rules.policy)


def _is_too_late(message: DueMessage, now: datetime) -> bool:
    if message.status == "reserved":
        taken_at = message.reserved_at
        return taken_at is not None and now - taken_at > IN_HAND_FOR
    return judge(message.send_at, now) == "missed"


def _by_the_caps(times: Sequence[datetime], now: datetime, policy: Policy) -> Verdict:
    """Send, put off to the first moment soon at which the caps allow it, or cancel."""
    refused = caps.refusal(times, now, policy)
    if refused is None:
        return SEND
    # Caps only ever give way when some message has become old enough for one of them.
    spans = (policy.message_frequency, policy.min_gap, caps.DAY)
    for at in sorted({time + span for time in times for span in spans}):
        if now < at <= now + MISSED_AFTER and caps.refusal(times, at, policy) is None:
            return Verdict(put_off=at)
    return Verdict(cancel=refused)


def _never(message: DueMessage, rules: Rules) -> str | None:
    """Why the member is not to be written to at all."""
    if not message.is_member:
        return "left"
    if message.is_opted_out:
        return "opted_out"
    if message.is_erased:
        return "erased"
    salt, share = rules.holdout_salt, rules.holdout_share
    if is_held_out(message.org_id, message.user_id, salt=salt, share=share):
        return "held_out"
    return "channel_opted_out" if message.is_channel_opted_out else None


def _quiet_hours(message: DueMessage, rules: Rules) -> QuietHours | None:
    if message.quiet_start is not None and message.quiet_end is not None:
        return QuietHours.of(message.quiet_start, message.quiet_end)
    return QuietHours.of(rules.quiet_start, rules.quiet_end)


def _has_passed(message: DueMessage, rules: Rules) -> bool:
    """Whether there is no cause for it any more, whatever there was when it was planned."""
    if message.trigger in ABOUT_ABSENCE:
        last = message.last_active_at
        return last is not None and last > (_activity_named(message.occasion) or message.planned_at)
    if message.trigger not in ABOUT_MILESTONES:
        return False
    wanted = message.gamification_enabled
    is_wanted = rules.gamification_enabled if wanted is None else wanted
    return not is_wanted or (message.trigger == "milestone_near" and message.is_reached)


def _activity_named(occasion: str) -> datetime | None:
    """The last activity that an occasion names behind its prefixes; None if it names none."""
    while occasion:
        _, _, occasion = occasion.partition(":")
        try:
            named = datetime.fromisoformat(occasion)
        except ValueError:
            continue
        return named if named.tzinfo else None
    return None
