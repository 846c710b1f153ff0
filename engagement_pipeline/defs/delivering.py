"""What delivery is given: the ledger that is stored, the channel and the rules of the settings.

Dagster does not show here; what is decided belongs to `outreach.delivery`.
"""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from engagement_pipeline.outreach.delivery.breaker import Breaker
from engagement_pipeline.outreach.delivery.channels import Channel, LogChannel
from engagement_pipeline.outreach.delivery.gate import Rules
from engagement_pipeline.outreach.delivery.ledger import Attempt, DueMessage, Ending
from engagement_pipeline.outreach.delivery.sending import DeliveryReport, deliver
from engagement_pipeline.outreach.policy import Policy
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import outreach_ledger as stored
from engagement_pipeline.warehouse.connection import Connection


@dataclass
class WarehouseLedger:
    """The ledger of messages that is in the warehouse: an `outreach.delivery` `Ledger`."""

    connection: Connection
    _known: dict[str, Breaker] = field(default_factory=dict)

    def due(self, channel: str, now: datetime, limit: int) -> Sequence[DueMessage]:
        rows = stored.due(self.connection, channel=channel, now=now, limit=limit)
        return [DueMessage(**row) for row in rows]

    def count_due(self, now: datetime) -> int:
        return stored.count_due(self.connection, now=now)

    def breaker(self, channel: str) -> Breaker:
        row = stored.channel(self.connection, channel)
        found = Breaker(row["failures_in_a_row"], row["opened_at"]) if row else Breaker()
        self._known[channel] = found
        return found

    def reserve(self, message: DueMessage, channel: str, at: datetime) -> int:
        return stored.reserve(
            self.connection,
            message.message_id,
            planned_at=message.planned_at,
            channel=channel,
            reserved_at=at,
        )

    def settle(
        self, attempt: Attempt, ending: Ending, breaker: Breaker, at: datetime
    ) -> Collection[str]:
        message, receipt = attempt.message, attempt.receipt
        opt_out: dict[str, Any] | None = None
        if receipt.outcome == "gone" and ending.status == "cancelled":
            whose = {"org_id": message.org_id, "user_id": message.user_id}
            opt_out = {**whose, "message_id": message.message_id, "opted_out_at": at}
            opt_out["channel"] = attempt.channel
        cancelled = stored.settle(
            self.connection,
            {
                "message_id": message.message_id,
                "attempt": attempt.number,
                "channel": attempt.channel,
                "attempted_at": attempt.attempted_at,
                "outcome": receipt.outcome,
                "http_status": receipt.http_status,
                "error": receipt.error,
            },
            planned_at=message.planned_at,
            changes={
                **{name: value for name, value in asdict(ending).items() if value is not None},
                "last_error": receipt.error,
            },
            channel=self._changed(attempt.channel, breaker, at),
            opt_out=opt_out,
        )
        self._known[attempt.channel] = breaker
        return cancelled

    def put_off(self, message: DueMessage, until: datetime) -> None:
        self._change(message, send_at=until)

    def cancel(self, message: DueMessage, reason: str) -> None:
        self._change(message, status="cancelled", reason=reason)

    def give_up(self, message: DueMessage, error: str) -> None:
        stored.give_up(
            self.connection, message.message_id, planned_at=message.planned_at, error=error
        )

    def _change(self, message: DueMessage, **changes: object) -> None:
        stored.change(
            self.connection, message.message_id, planned_at=message.planned_at, changes=changes
        )

    def _changed(self, channel: str, breaker: Breaker, at: datetime) -> dict[str, Any] | None:
        if self._known.get(channel) == breaker:
            return None
        return {"channel": channel, **asdict(breaker), "updated_at": at}


def rules_of(settings: Settings) -> Rules:
    """What messages may leave by, as the settings have it."""
    return Rules(
        policy=Policy(
            inactivity_threshold_seconds=settings.inactivity_threshold_seconds,
            new_user_delay_seconds=settings.new_user_delay_seconds,
            message_frequency_hours=settings.message_frequency_hours,
            min_gap_hours=settings.min_gap_hours,
            daily_cap=settings.daily_cap,
        ),
        holdout_salt=settings.holdout_salt,
        holdout_share=settings.holdout_share,
        quiet_start=settings.quiet_start,
        quiet_end=settings.quiet_end,
        gamification_enabled=settings.gamification_enabled != 0,
    )


@contextmanager
def open_channel(settings: Settings) -> Iterator[Channel]:
    """The channel that the settings choose."""
    if settings.outreach_channel == "log":
        yield LogChannel()
        return
    # The client takes a while to import, and most homes have no webhook.
    from engagement_pipeline.outreach.delivery.webhook import WebhookChannel

    assert settings.webhook_url is not None  # as the settings see to
    secret = settings.webhook_secret
    with WebhookChannel(
        settings.webhook_url,
        secret.get_secret_value() if secret is not None else None,
        settings.webhook_timeout_seconds,
    ) as channel:
        yield channel


def deliver_due(
    connection: Connection,
    settings: Settings,
    *,
    limit: int,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> DeliveryReport:
    """Send what is due, by the channel that the settings choose.

    Args:
        connection: to the warehouse.
        settings: in force.
        limit: messages to try at most.
        clock: tells the moment.
        sleep: waits so many seconds.
    """
    with open_channel(settings) as channel:
        return deliver(
            WarehouseLedger(connection),
            channel,
            rules=rules_of(settings),
            limit=limit,
            clock=clock,
            sleep=sleep,
            chance=random.Random(settings.seed),
            # Whoever else wants the warehouse waits for so long at most.
            max_seconds=settings.lock_timeout_seconds / 2,
        )
