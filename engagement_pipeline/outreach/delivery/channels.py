"""What a channel is given, what it gives back, and the channel that needs no network.

How messages leave by HTTP belongs to `webhook`; what follows from a receipt, to `sending`.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class Outgoing:
    """A message as it leaves.

    Attributes:
        message_id: also its idempotency key: the same in every attempt.
        org_id: the organisation.
        user_id: the member.
        outreach_type: what it is for.
        template_id: its template.
        text: what the member reads; not shown.
        attempt: which attempt this is, from 1.
        sent_at: when it leaves.
    """

    message_id: str
    org_id: str
    user_id: str
    outreach_type: str
    template_id: str
    text: str = field(repr=False)
    attempt: int
    sent_at: datetime


@dataclass(frozen=True)
class Receipt:
    """What came of one attempt.

    Attributes:
        outcome: one of `vocabulary.ATTEMPT_OUTCOMES`.
        http_status: of the answer, where there was one.
        error: what went wrong, without secrets and without what was to be said.
        retry_after_seconds: what the receiver asked to wait; None: nothing sensible.
    """

    outcome: str
    http_status: int | None = None
    error: str | None = None
    retry_after_seconds: float | None = None


class Channel(Protocol):
    """A way for messages to leave."""

    @property
    def name(self) -> str:
        """One of `vocabulary.CHANNELS`."""

    @property
    def delivers_at_once(self) -> bool:
        """Whether what it takes has reached the member."""

    def send(self, message: Outgoing) -> Receipt:
        """Try once to send a message."""


class LogChannel:
    """Takes everything: the message's row in the warehouse is the message."""

    name = "log"
    delivers_at_once = True

    def send(self, message: Outgoing) -> Receipt:
        """Nothing is left to be done."""
        del message
        return Receipt("accepted")
