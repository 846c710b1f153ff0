"""The ledger of messages as delivery sees it: what is due, and what may be put down.

How it is stored belongs to the warehouse; what is put down when, to `sending`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from engagement_pipeline.outreach.delivery.breaker import Breaker
from engagement_pipeline.outreach.delivery.channels import Receipt

MAY_HAVE_LEFT = frozenset({"server_error", "timed_out", "connection_lost"})
"""Outcomes after which the member may have the message all the same."""


@dataclass(frozen=True)
class DueMessage:
    """A message whose time has come, with what is known of the member at that moment.

    Attributes:
        message_id: the message.
        org_id: the organisation.
        user_id: the member.
        outreach_type: what it is for.
        trigger: what made it worth sending.
        template_id: its template.
        text: what the member reads; not shown.
        planned_at: when it was planned.
        send_at: when it is to be sent.
        status: `scheduled`, or `reserved` where a run was ended while it had it in hand.
        failures: attempts that failed in a way that may pass.
        is_member: whether the person is a member of the organisation now.
        is_opted_out: whether the person wants no messages, here or anywhere.
        is_erased: whether the person asked to be forgotten.
        is_channel_opted_out: whether the channel answered that the member is gone.
        zone: the member's time zone, where one is known.
        quiet_start: of the quiet hours that the member set, HH:MM; None: none set.
        quiet_end: likewise.
        last_active_at: when the member was last active.
        message_times: of the member's other messages that have left, or may have.
        occasion: what it is about, such as `absent:7d:<last active>`.
        may_have_left: whether it is reserved, or an attempt ended in one of `MAY_HAVE_LEFT`.
        reserved_at: when it was last taken in hand.
        is_reached: of a milestone that was near: whether it has been reached.
        gamification_enabled: whether the organisation wants milestones, where it says.
    """

    message_id: str
    org_id: str
    user_id: str
    outreach_type: str
    trigger: str
    template_id: str
    text: str = field(repr=False)
    planned_at: datetime
    send_at: datetime
    status: str = "scheduled"
    failures: int = 0
    is_member: bool = True
    is_opted_out: bool = False
    is_erased: bool = False
    is_channel_opted_out: bool = False
    zone: str | None = None
    quiet_start: str | None = None
    quiet_end: str | None = None
    last_active_at: datetime | None = None
    message_times: Sequence[datetime] = ()
    occasion: str = ""
    may_have_left: bool = False
    reserved_at: datetime | None = None
    is_reached: bool = False
    gamification_enabled: bool | None = None


@dataclass(frozen=True)
class Attempt:
    """One attempt that has ended: of what, the how manieth, by what, when, and how."""

    message: DueMessage
    number: int
    channel: str
    attempted_at: datetime
    receipt: Receipt


@dataclass(frozen=True)
class Ending:
    """What an attempt makes of its message.

    Attributes:
        status: its status from now on.
        reason: why it is cancelled, where it is.
        send_at: when it is to be sent, where that is put off.
        sent_at: when the channel took it, where it did.
        delivered_at: when it was delivered, where that is known.
    """

    status: str
    reason: str | None = None
    send_at: datetime | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None


class Ledger(Protocol):
    """All messages. Each call lands as a whole before it returns, or not at all."""

    def due(self, channel: str, now: datetime, limit: int) -> Sequence[DueMessage]:
        """Messages to be sent by now, at most `limit`, with what is known by now.

        Reserved ones come first; then by `send_at`, the highest priority, and id.
        """

    def count_due(self, now: datetime) -> int:
        """How many there are."""

    def breaker(self, channel: str) -> Breaker:
        """How a channel fares."""

    def reserve(self, message: DueMessage, channel: str, at: datetime) -> int:
        """Take a message in hand; gives the number of the attempt that may now begin."""

    def settle(
        self, attempt: Attempt, ending: Ending, breaker: Breaker, at: datetime
    ) -> Collection[str]:
        """Put down what came of an attempt; gives the other messages that it cancels.

        Those are all scheduled for the same member by the same channel, if the receipt says that
        the member is gone. The channel opt-out is put down too.
        """

    def put_off(self, message: DueMessage, until: datetime) -> None:
        """Let a message wait. A reserved one stays reserved: it may have left."""

    def cancel(self, message: DueMessage, reason: str) -> None:
        """Give a message up; `reason` is one of `vocabulary.CANCEL_REASONS`."""

    def give_up(self, message: DueMessage, error: str) -> None:
        """Let a message that may have left end as failed: its occasion is used up.

        One that nobody knows the end of is put down as an attempt that lost its connection.
        """
