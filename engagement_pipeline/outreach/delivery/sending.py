"""Reserve, send, confirm: one message after another, until none is due or there is cause to stop.

Each step is in the ledger before the next begins, so that a run may be ended at any moment: a
message that was reserved is tried again, under the same id, and none is lost. Whether one may leave
is judged in `gate`; how it leaves is the channel's affair.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from engagement_pipeline.outreach.delivery.breaker import Breaker
from engagement_pipeline.outreach.delivery.channels import Channel, Outgoing, Receipt
from engagement_pipeline.outreach.delivery.gate import Rules, judge_message
from engagement_pipeline.outreach.delivery.ledger import Attempt, DueMessage, Ending, Ledger

MAX_ATTEMPTS = 3
"""Failed attempts after which a message is given up."""

LONGEST_WAIT_SECONDS = 60.0
"""Who asks for more is left alone by this run."""

_PAGE = 500
_JITTER = (0.75, 1.25)


@dataclass(frozen=True)
class DeliveryReport:
    """What a run came to.

    Attributes:
        sent: messages taken by the channel.
        failed: messages given up.
        errors: what went wrong at their last attempts, and how often.
        cancelled: messages that were not to leave any more, by reason.
        put_off: messages that wait for the end of quiet hours, or as long as the receiver asked.
        attempts: attempts to send.
        left: messages that are due still.
        stopped_by: why the run ended while there was more: `limit`, `time`, `rate_limited`,
            `breaker_open` or `misconfigured`; None: there was no more.
        error: what went wrong last, if that stopped the run.
        breaker: how the channel fares.
    """

    sent: int
    failed: int
    errors: Mapping[str, int]
    cancelled: Mapping[str, int]
    put_off: int
    attempts: int
    left: int
    stopped_by: str | None
    error: str | None
    breaker: Breaker


def deliver(
    ledger: Ledger,
    channel: Channel,
    *,
    rules: Rules,
    limit: int,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    chance: random.Random,
    max_seconds: float | None = None,
) -> DeliveryReport:
    """Send what is due.

    A failure that may pass is tried again after about 1 s and 4 s, or after as long as the receiver
    asks, up to a minute; three of them, in whatever runs, and the message is given up. Where the
    receiver asks for longer, the message is put off to then and the run ends. It also ends when the
    channel's breaker opens or its address or key is wrong: the message in hand is scheduled again.

    Args:
        ledger: the messages.
        channel: how they leave.
        rules: who may be written to.
        limit: messages to try at most. Those cancelled or put off do not count.
        clock: tells the moment.
        sleep: waits so many seconds.
        chance: where the jitter comes from.
        max_seconds: after so long, by the clock, no other message is begun; None: no bound.
    """
    run = _Run(ledger, channel, rules, limit, clock, sleep, chance, max_seconds)
    run.work()
    return DeliveryReport(
        sent=run.sent,
        failed=run.errors.total(),
        errors=dict(run.errors),
        cancelled=dict(run.cancelled),
        put_off=run.put_off,
        attempts=run.attempts,
        left=ledger.count_due(clock()),
        stopped_by=run.stopped_by,
        error=run.error,
        breaker=run.breaker,
    )


def backoff_seconds(failures: int, chance: random.Random) -> float:
    """About 1 s after the first failure, and four times as long after each further one.

    A quarter more or less by chance, so that those who failed together do not come back together.
    """
    return float(4.0 ** (failures - 1)) * chance.uniform(*_JITTER)


@dataclass
class _Run:
    """One run: what it was given, and what has come of it so far."""

    ledger: Ledger
    channel: Channel
    rules: Rules
    limit: int
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    chance: random.Random
    max_seconds: float | None
    sent: int = 0
    put_off: int = 0
    attempts: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    cancelled: Counter[str] = field(default_factory=Counter)
    stopped_by: str | None = None
    error: str | None = None
    breaker: Breaker = field(init=False)
    _tried: int = 0
    _done: set[str] = field(default_factory=set)
    _gone: set[tuple[str, str]] = field(default_factory=set)
    _since: defaultdict[tuple[str, str], list[datetime]] = field(init=False)

    def work(self) -> None:
        """Go on until none is due, or there is cause to stop."""
        started = self.clock()
        self.breaker = self.ledger.breaker(self.channel.name)
        if self.breaker.state(started) == "open":
            self._stop("breaker_open", None)
        while self.stopped_by is None:
            due = self.ledger.due(self.channel.name, self.clock(), _PAGE)
            self._since = defaultdict(list)
            new = [message for message in due if message.message_id not in self._done]
            if not new:
                return
            for message in new:
                if self._is_over(started):
                    return
                if message.message_id not in self._done:
                    self._done.add(message.message_id)
                    self._handle(message)

    def _is_over(self, started: datetime) -> bool:
        if self.stopped_by is None and self._tried >= self.limit:
            self._stop("limit", None)
        elapsed = (self.clock() - started).total_seconds()
        if self.stopped_by is None and self.max_seconds is not None and elapsed >= self.max_seconds:
            self._stop("time", None)
        return self.stopped_by is not None

    def _handle(self, message: DueMessage) -> None:
        """Judge a message and try to send it, as often as it takes."""
        may_have_left, failures = message.status == "reserved", message.failures
        is_tried = False
        while self._may_leave(message, may_have_left):
            self._tried += not is_tried
            receipt, attempt_failed = self._try(message, failures)
            if not attempt_failed:
                return
            failures, may_have_left, is_tried = failures + 1, True, True
            wait = receipt.retry_after_seconds
            self.sleep(backoff_seconds(failures, self.chance) if wait is None else wait)

    def _may_leave(self, message: DueMessage, may_have_left: bool) -> bool:
        member = message.org_id, message.user_id
        if member in self._gone:
            message = replace(message, is_channel_opted_out=True)
        verdict = judge_message(
            message,
            self.rules,
            now=self.clock(),
            may_have_left=may_have_left,
            since=self._since[member],
        )
        if verdict.cancel is not None:
            self.ledger.cancel(message, verdict.cancel)
            self.cancelled[verdict.cancel] += 1
        elif verdict.put_off is not None:
            self.ledger.put_off(message, verdict.put_off)
            self.put_off += 1
            if may_have_left:
                self._since[member].append(self.clock())
        else:
            return True
        return False

    def _try(self, message: DueMessage, failures: int) -> tuple[Receipt, bool]:
        """One attempt; tells what came of it, and whether there is to be another at once."""
        at = self.clock()
        number = self.ledger.reserve(message, self.channel.name, at)
        self.attempts += 1
        receipt = self._send(message, number, at)
        answered_at = self.clock()
        self.breaker = self.breaker.after(receipt.outcome, answered_at)
        ending = self._ending(receipt, failures, answered_at)
        attempt = Attempt(message, number, self.channel.name, at, receipt)
        others = self.ledger.settle(attempt, ending, self.breaker, answered_at)
        self._count(message, receipt, ending, others)
        return receipt, ending.status == "reserved"

    def _send(self, message: DueMessage, number: int, at: datetime) -> Receipt:
        outgoing = Outgoing(
            message_id=message.message_id,
            org_id=message.org_id,
            user_id=message.user_id,
            outreach_type=message.outreach_type,
            template_id=message.template_id,
            text=message.text,
            attempt=number,
            sent_at=at,
        )
        try:
            return self.channel.send(outgoing)
        except Exception as error:
            # A message that no run gets past would hold up all others for ever.
            said = f"the channel broke ({type(error).__name__})"
            return Receipt("connection_lost", error=said)

    def _ending(self, receipt: Receipt, failures: int, at: datetime) -> Ending:
        match receipt.outcome:
            case "accepted":
                if self.channel.delivers_at_once:
                    return Ending("delivered", sent_at=at, delivered_at=at)
                return Ending("sent", sent_at=at)
            case "gone":
                return Ending("cancelled", reason="channel_opted_out")
            case "refused":
                return Ending("failed")
            case "misconfigured":
                self._stop("misconfigured", receipt.error)
                return Ending("scheduled")
        wait = receipt.retry_after_seconds or 0.0
        is_asked_to_wait = wait > LONGEST_WAIT_SECONDS
        if self.breaker.state(at) == "open":
            self._stop("breaker_open", receipt.error)
        elif is_asked_to_wait:
            self._stop("rate_limited", receipt.error)
        if failures + 1 >= MAX_ATTEMPTS:
            return Ending("failed")
        if is_asked_to_wait:
            return Ending("scheduled", send_at=at + timedelta(seconds=wait))
        return Ending("reserved" if self.stopped_by is None else "scheduled")

    def _count(
        self, message: DueMessage, receipt: Receipt, ending: Ending, others: Collection[str]
    ) -> None:
        member = message.org_id, message.user_id
        self._done.update(others)
        if ending.sent_at is not None:
            self.sent += 1
            self._since[member].append(ending.sent_at)
        elif ending.reason is not None:
            self._gone.add(member)
            self.cancelled[ending.reason] += 1 + len(others)
        elif ending.status == "failed":
            self.errors[receipt.error or receipt.outcome] += 1
        elif ending.send_at is not None:
            self.put_off += 1

    def _stop(self, why: str, error: str | None) -> None:
        self.stopped_by, self.error = why, error
