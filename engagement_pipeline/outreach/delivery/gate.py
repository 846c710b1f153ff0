"""Whether a message may leave at this very moment, whatever was known when it was planned.

What is known of the member is told by the ledger; what follows from a verdict is `sending`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from engagement_pipeline.outreach import caps
from engagement_pipeline.outreach.delivery.ledger import DueMessage
from engagement_pipeline.outreach.holdout import is_held_out
from engagement_pipeline.outreach.policy import Policy
from engagement_pipeline.outreach.send_times import QuietHours, judge, quiet_until

ABOUT_ABSENCE = frozenset({"absent", "churn"})
"""Triggers of messages that are void once the member is back."""


@dataclass(frozen=True)
class Rules:
    """What messages may leave by.

    Attributes:
        policy: the caps.
        holdout_salt: what the holdout is drawn by.
        holdout_share: the share of members in it.
        quiet_start: start of the quiet hours, HH:MM, of who set none; None: none.
        quiet_end: their end.
    """

    policy: Policy
    holdout_salt: str
    holdout_share: float
    quiet_start: str | None = None
    quiet_end: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What is to be done: cancel for a reason, or put off until a moment; else send."""

    cancel: str | None = None
    put_off: datetime | None = None


SEND = Verdict()


def judge_message(
    message: DueMessage,
    rules: Rules,
    *,
    now: datetime,
    may_have_left: bool,
    since: Sequence[datetime] = (),
) -> Verdict:
    """Whether a message may leave now.

    In this order: `left`, `opted_out`, `erased`, `held_out`, `channel_opted_out`, `missed_window`,
    quiet hours (put off to their end), `no_longer_due` (about an absence, and the member is back),
    and the caps.

    Args:
        message: with what is known of the member.
        rules: in force.
        now: the moment.
        may_have_left: whether it was tried before. Then it is not given up for being late, for
            what it is about having passed, or for the caps: it may have been read already.
        since: when other messages to the member have left since that was found out.
    """
    cancelled = _never(message, rules)
    if cancelled is None and not may_have_left and judge(message.send_at, now) == "missed":
        cancelled = "missed_window"
    if cancelled is not None:
        return Verdict(cancel=cancelled)
    quiet_end = quiet_until(now, message.zone, _quiet_hours(message, rules))
    if quiet_end is not None:
        return Verdict(put_off=quiet_end)
    if may_have_left:
        return SEND
    if _is_back(message):
        return Verdict(cancel="no_longer_due")
    return Verdict(cancel=caps.refusal([*message.message_times, *since], now, rules.policy))


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


def _is_back(message: DueMessage) -> bool:
    last = message.last_active_at
    return message.trigger in ABOUT_ABSENCE and last is not None and last > message.planned_at
