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
from engagement_pipeline.outreach.delivery.ledger import (
    MAY_HAVE_LEFT,
    Attempt,
    DueMessage,
    Ending,
    Ledger,
)

MAX_ATTEMPTS = 3
"""Failed attempts after which a message is given up."""

LONGEST_WAIT_SECONDS = 60.0
"""Who asks for more is left alone by this run."""

MOST_GONE_IN_A_ROW = 2
"""Members in a row who may be gone (410) without one accepted; with the next the run stops."""

TOO_MANY_GONE = "HTTP 410 for one member after another: the address was probably given up"

REST = timedelta(minutes=15)
"""How long a message waits that met a wrong address, or in whose hands the breaker opened: the next
run begins with another, as it may be this one that the receiver cannot take."""

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
        misconfigured: what went wrong with messages that met a wrong address or key and wait, and
            how often.
        put_off: messages that wait: those, for the end of quiet hours, for the caps, for the
            receiver, or for another run.
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
    misconfigured: Mapping[str, int]
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
    receiver asks for longer, or the run's time would pass, the message is put off to then and the
    run ends. It also ends when the channel's breaker opens, or when its address or key was wrong
    for two members and nothing was accepted between: messages in hand are put off by `REST`.

    Args:
        ledger: the messages.
        channel: how they leave.
        rules: who may be written to.
        limit: messages to try at most. Those cancelled or put off do not count.
        clock: tells the moment.
        sleep: waits so many seconds.
        chance: where the jitter comes from.
        max_seconds: after so long, by the clock, no other message is begun, and no wait goes on
            for longer; None: no bound.
    """
    run = _Run(ledger, channel, rules, limit, clock, sleep, chance, max_seconds)
    run.work()
    return DeliveryReport(
        sent=run.sent,
        failed=run.errors.total(),
        errors=dict(run.errors),
        cancelled=dict(run.cancelled),
        misconfigured=dict(run.misconfigured),
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
    misconfigured: Counter[str] = field(default_factory=Counter)
    stopped_by: str | None = None
    error: str | None = None
    breaker: Breaker = field(init=False)
    _tried: int = 0
    _done: set[str] = field(default_factory=set)
    _gone: set[tuple[str, str]] = field(default_factory=set)
    _gone_in_a_row: int = 0
    _lost: tuple[str, str] | None = None  # whom a wrong address was met for, nothing accepted since
    _since: defaultdict[tuple[str, str], dict[str, datetime]] = field(init=False)
    _ends: datetime | None = None

    def work(self) -> None:
        """Go on until none is due, or there is cause to stop."""
        started = self.clock()
        if self.max_seconds is not None:
            self._ends = started + timedelta(seconds=self.max_seconds)
        self.breaker = self.ledger.breaker(self.channel.name)
        if self.breaker.state(started) == "open":
            self._stop("breaker_open", None)
        while self.stopped_by is None:
            due = self.ledger.due(self.channel.name, self.clock(), _PAGE)
            self._since = defaultdict(dict)
            new = [message for message in due if message.message_id not in self._done]
            if not new:
                return
            for message in new:
                if self._is_over():
                    return
                if message.message_id not in self._done:
                    self._done.add(message.message_id)
                    self._handle(message)

    def _is_over(self) -> bool:
        if self.stopped_by is None and self._tried >= self.limit:
            self._stop("limit", None)
        if self.stopped_by is None and self._ends is not None and self.clock() >= self._ends:
            self._stop("time", None)
        return self.stopped_by is not None

    def _handle(self, message: DueMessage) -> None:
        """Judge a message and try to send it, as often as it takes."""
        failures, is_tried = message.failures, False
        keeps = message.status
        while self._may_leave(message):
            self._tried += not is_tried
            at = self.clock()
            wait = self._try(message, failures, keeps, at)
            if wait is None:
                return
            failures, is_tried = failures + 1, True
            message = replace(message, status="reserved", reserved_at=at, may_have_left=True)
            self.sleep(wait)

    def _may_leave(self, message: DueMessage) -> bool:
        member = message.org_id, message.user_id
        if member in self._gone:
            message = replace(message, is_channel_opted_out=True)
        others = (at for found, at in self._since[member].items() if found != message.message_id)
        now = self.clock()
        verdict = judge_message(message, self.rules, now=now, since=list(others))
        if verdict.cancel is not None:
            self.ledger.cancel(message, verdict.cancel)
            self.cancelled[verdict.cancel] += 1
        elif verdict.give_up is not None:
            self.ledger.give_up(message, verdict.give_up)
            self.errors[verdict.give_up] += 1
        elif verdict.put_off is not None:
            self.ledger.put_off(message, verdict.put_off)
            self.put_off += 1
            if message.status == "reserved":
                self._since[member][message.message_id] = message.reserved_at or now
        else:
            return True
        return False

    def _try(self, message: DueMessage, failures: int, keeps: str, at: datetime) -> float | None:
        """One attempt; tells after how many seconds there is to be another, None: not now."""
        number = self.ledger.reserve(message, self.channel.name, at)
        self.attempts += 1
        receipt = self._send(message, number, at)
        answered_at = self.clock()
        self.breaker = self.breaker.after(receipt.outcome, answered_at)
        ending, wait = self._ending(message, receipt, failures, answered_at)
        if ending.status == "scheduled":
            # Of what a killed run had in hand nobody knows the end: it stays in hand.
            ending = replace(ending, status=keeps)
        attempt = Attempt(message, number, self.channel.name, at, receipt)
        others = self.ledger.settle(attempt, ending, self.breaker, answered_at)
        self._count(attempt, ending, others)
        return wait

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

    def _ending(
        self, message: DueMessage, receipt: Receipt, failures: int, at: datetime
    ) -> tuple[Ending, float | None]:
        """What becomes of the message, and after how long it is tried again by this run."""
        match receipt.outcome:
            case "accepted":
                self._lost = None
                self._gone_in_a_row = 0
                if self.channel.delivers_at_once:
                    return Ending("delivered", sent_at=at, delivered_at=at), None
                return Ending("sent", sent_at=at), None
            case "gone":
                self._gone_in_a_row += 1
                if self._gone_in_a_row > MOST_GONE_IN_A_ROW:
                    # An address that was given up says so of everybody.
                    self._stop("misconfigured", TOO_MANY_GONE)
                    return Ending("scheduled", send_at=at + REST), None
                return Ending("cancelled", reason="channel_opted_out"), None
            case "refused":
                return Ending("failed"), None
            case "misconfigured":
                member = message.org_id, message.user_id
                if self._lost not in (None, member):
                    self._stop("misconfigured", receipt.error)
                self._lost = member
                return Ending("scheduled", send_at=at + REST), None
        return self._after_failure(receipt, failures, at)

    def _after_failure(
        self, receipt: Receipt, failures: int, at: datetime
    ) -> tuple[Ending, float | None]:
        """The same after a failure that may pass."""
        asked = receipt.retry_after_seconds or 0.0
        is_open = self.breaker.state(at) == "open"
        if is_open:
            self._stop("breaker_open", receipt.error)
        elif asked > LONGEST_WAIT_SECONDS:
            self._stop("rate_limited", receipt.error)
        if failures + 1 >= MAX_ATTEMPTS:
            return Ending("failed"), None
        if is_open:
            return Ending("scheduled", send_at=at + max(REST, timedelta(seconds=asked))), None
        wait = receipt.retry_after_seconds
        wait = backoff_seconds(failures + 1, self.chance) if wait is None else wait
        goes_on_at = at + timedelta(seconds=wait)
        if self.stopped_by is None and self._ends is not None and goes_on_at > self._ends:
            self._stop("time", None)
        if self.stopped_by is not None:
            return Ending("scheduled", send_at=goes_on_at), None
        return Ending("reserved"), wait

    def _count(self, attempt: Attempt, ending: Ending, others: Collection[str]) -> None:
        message, receipt = attempt.message, attempt.receipt
        member = message.org_id, message.user_id
        self._done.update(others)
        if receipt.outcome in MAY_HAVE_LEFT:
            self._since[member][message.message_id] = attempt.attempted_at
        if receipt.outcome == "misconfigured":
            self.misconfigured[receipt.error or receipt.outcome] += 1
        elif receipt.outcome == "gone" and ending.reason is None:
            self.misconfigured[TOO_MANY_GONE] += 1
        if ending.sent_at is not None:
            self.sent += 1
            self._since[member][message.message_id] = ending.sent_at
        elif ending.reason is not None:
            self._gone.add(member)
            self.cancelled[ending.reason] += 1 + len(others)
        elif ending.status == "failed":
            self.errors[receipt.error or receipt.outcome] += 1
        elif ending.send_at is not None:
            self.put_off += 1

    def _stop(self, why: str, error: str | None) -> None:
        self.stopped_by, self.error = why, error
