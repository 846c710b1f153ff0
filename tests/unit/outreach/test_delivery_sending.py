"""Runs of delivery over a ledger in memory: what is sent, how often, and when a run ends.

Time stands still but for what runs sleep. The stored ledger has tests of its own.
"""

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.outreach.delivery.breaker import Breaker
from engagement_pipeline.outreach.delivery.channels import LogChannel, Outgoing, Receipt
from engagement_pipeline.outreach.delivery.gate import Rules
from engagement_pipeline.outreach.delivery.ledger import Attempt, DueMessage, Ending
from engagement_pipeline.outreach.delivery.sending import DeliveryReport, backoff_seconds, deliver
from engagement_pipeline.outreach.policy import Policy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = Rules(Policy(), holdout_salt="salt", holdout_share=0.0)
_SECOND = timedelta(seconds=1)


class Stopped(BaseException):
    """What ends a run in the hardest way, as far as one process can tell."""


@dataclass
class Entry:
    """A message in the ledger, and what has become of it."""

    message: DueMessage
    attempts: int = 0
    reason: str | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    reserved_at: datetime | None = None


@dataclass
class MemoryLedger:
    """A ledger of plain objects. `stop_at` ends a run just before that many writes were made."""

    entries: dict[str, Entry]
    breakers: dict[str, Breaker] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    stop_at: int | None = None
    writes: int = 0

    def due(self, channel: str, now: datetime, limit: int) -> Sequence[DueMessage]:
        del channel  # whoever is due is due by any
        found = [self._known(entry) for entry in self.entries.values()]
        ready = [m for m in found if m.status in ("scheduled", "reserved") and m.send_at <= now]
        return sorted(ready, key=lambda m: (m.status != "reserved", m.send_at, m.message_id))[
            :limit
        ]

    def count_due(self, now: datetime) -> int:
        return len(self.due("any", now, len(self.entries)))

    def breaker(self, channel: str) -> Breaker:
        return self.breakers.get(channel, Breaker())

    def reserve(self, message: DueMessage, channel: str, at: datetime) -> int:
        del channel
        self._write()
        entry = self.entries[message.message_id]
        entry.message = replace(entry.message, status="reserved", reserved_at=at)
        entry.attempts, entry.reserved_at = entry.attempts + 1, at
        return entry.attempts

    def settle(self, attempt: Attempt, ending: Ending, breaker: Breaker, at: datetime) -> list[str]:
        del at
        self._write()
        self.attempts.append(attempt)
        self.breakers[attempt.channel] = breaker
        entry = self.entries[attempt.message.message_id]
        given = {"send_at": ending.send_at} if ending.send_at else {}
        entry.message = replace(entry.message, status=ending.status, **given)
        entry.reason, entry.sent_at = ending.reason, ending.sent_at
        entry.delivered_at = ending.delivered_at
        if attempt.receipt.outcome != "gone" or ending.status != "cancelled":
            return []
        others = [
            other
            for other in self.entries.values()
            if _member(other.message) == _member(attempt.message)
            and other.message.status == "scheduled"
        ]
        for other in others:
            self._end(other, "channel_opted_out")
        return [other.message.message_id for other in others]

    def put_off(self, message: DueMessage, until: datetime) -> None:
        self._write()
        entry = self.entries[message.message_id]
        entry.message = replace(entry.message, send_at=until)

    def cancel(self, message: DueMessage, reason: str) -> None:
        self._write()
        self._end(self.entries[message.message_id], reason)

    def give_up(self, message: DueMessage, error: str) -> None:
        del error
        self._write()
        entry = self.entries[message.message_id]
        entry.message = replace(entry.message, status="failed")

    def _end(self, entry: Entry, reason: str) -> None:
        entry.message, entry.reason = replace(entry.message, status="cancelled"), reason

    def _write(self) -> None:
        if self.writes == self.stop_at:
            raise Stopped
        self.writes += 1

    def _known(self, entry: Entry) -> DueMessage:
        times = [
            other.sent_at
            or (other.reserved_at if other.message.status == "reserved" else self._tried(other))
            for other in self.entries.values()
            if _member(other.message) == _member(entry.message) and other is not entry
        ]
        passing = ("rate_limited", "server_error", "timed_out", "connection_lost")
        failures = sum(
            attempt.receipt.outcome in passing
            for attempt in self.attempts
            if attempt.message.message_id == entry.message.message_id
        )
        message = replace(entry.message, failures=failures)
        in_doubt = message.status == "reserved" or self._tried(entry) is not None
        return replace(
            message,
            may_have_left=in_doubt,
            message_times=(*message.message_times, *filter(None, times)),
        )

    def _tried(self, entry: Entry) -> datetime | None:
        """When an attempt last ended in doubt."""
        found = [
            attempt.attempted_at
            for attempt in self.attempts
            if attempt.message.message_id == entry.message.message_id
            and attempt.receipt.outcome in ("server_error", "timed_out", "connection_lost")
        ]
        return max(found, default=None)

    def statuses(self) -> list[str]:
        return [entry.message.status for entry in self.entries.values()]


def _member(message: DueMessage) -> tuple[str, str]:
    return message.org_id, message.user_id


@dataclass
class ScriptedChannel:
    """Answers as told, and well once nothing is told any more."""

    script: list[Receipt | Exception] = field(default_factory=list)
    name: str = "webhook"
    delivers_at_once: bool = False
    sent: list[Outgoing] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def send(self, message: Outgoing) -> Receipt:
        self.sent.append(message)
        found = self.script.pop(0) if self.script else Receipt("accepted", 200)
        if isinstance(found, Exception):
            raise found
        self.taken += [message.message_id] * (found.outcome == "accepted")
        return found


@dataclass
class World:
    """A ledger, a channel, and a clock that only sleeping moves."""

    ledger: MemoryLedger
    channel: Any
    now: datetime = NOW
    slept: list[float] = field(default_factory=list)

    def run(self, limit: int = 50, **given: Any) -> DeliveryReport:
        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.now += timedelta(seconds=seconds)

        return deliver(
            self.ledger,
            self.channel,
            **{
                "rules": RULES,
                "limit": limit,
                "clock": lambda: self.now,
                "sleep": sleep,
                "chance": random.Random(7),
                **given,
            },
        )


def message(number: int, **given: Any) -> DueMessage:
    """A message to a member of its own."""
    return DueMessage(
        **{
            "message_id": f"m{number:03d}",
            "org_id": "choir",
            "user_id": f"user-{number:03d}",
            "outreach_type": "re_engagement",
            "trigger": "absent",
            "template_id": "t",
            "text": "Hey!",
            "planned_at": NOW - timedelta(hours=5),
            "send_at": NOW - timedelta(minutes=30),
            **given,
        }
    )


def world(*messages: DueMessage, script: Sequence[Receipt | Exception] = ()) -> World:
    entries = {found.message_id: Entry(found) for found in messages}
    return World(MemoryLedger(entries), ScriptedChannel(list(script)))


def some(count: int) -> list[DueMessage]:
    return [message(number) for number in range(count)]


FAILED = Receipt("server_error", 500, "HTTP 500")
LOST = Receipt("connection_lost", None, "no connection")
LIMITED = Receipt("rate_limited", 429, "HTTP 429")


def test_what_is_due_is_sent_once_and_a_second_run_has_nothing_to_do() -> None:
    found = world(*some(3), message(9, send_at=NOW + _SECOND))
    first, second = found.run(), found.run()
    assert (first.sent, first.attempts, first.left, first.stopped_by) == (3, 3, 0, None)
    assert (second.sent, second.attempts) == (0, 0)
    assert found.ledger.statuses() == ["sent"] * 3 + ["scheduled"]
    assert [entry.sent_at for entry in found.ledger.entries.values()] == [NOW] * 3 + [None]
    assert [sent.message_id for sent in found.channel.sent] == ["m000", "m001", "m002"]


def test_what_the_log_takes_is_delivered() -> None:
    found = world(*some(1))
    found.channel = LogChannel()
    assert found.run().sent == 1
    (entry,) = found.ledger.entries.values()
    assert (entry.message.status, entry.sent_at, entry.delivered_at) == ("delivered", NOW, NOW)


def test_a_limit_counts_what_is_tried_and_nothing_else() -> None:
    left = [message(number, is_member=False) for number in range(20)]
    found = world(*left, *(message(number) for number in range(20, 30)))
    report = found.run(limit=4)
    assert (report.sent, report.cancelled, report.left) == (4, {"left": 20}, 6)
    assert report.stopped_by == "limit"


def test_more_cancellations_than_a_page_do_not_hide_what_is_due() -> None:
    missed = [message(number, send_at=NOW - timedelta(hours=2)) for number in range(501)]
    found = world(*missed, message(501))
    report = found.run(limit=1)
    assert (report.sent, report.cancelled) == (1, {"missed_window": 501})


def test_failures_that_may_pass_are_tried_again_after_one_and_four_seconds() -> None:
    found = world(*some(1), script=[FAILED, LOST])
    report = found.run()
    assert (report.sent, report.attempts) == (1, 3)
    assert found.slept == [pytest.approx(1, rel=0.25), pytest.approx(4, rel=0.25)]
    assert [sent.attempt for sent in found.channel.sent] == [1, 2, 3]
    assert {sent.message_id for sent in found.channel.sent} == {"m000"}


@given(st.integers(1, 3), st.integers())
def test_jitter_keeps_a_wait_within_a_quarter(failures: int, seed: int) -> None:
    seconds = backoff_seconds(failures, random.Random(seed))
    assert 0.75 * 4 ** (failures - 1) <= seconds <= 1.25 * 4 ** (failures - 1)


def test_jitter_differs_and_is_the_same_again_with_the_same_seed() -> None:
    first, again = (
        [backoff_seconds(1, chance) for _ in range(9)]
        for chance in (random.Random(3), random.Random(3))
    )
    assert first == again
    assert len(set(first)) == 9


def test_the_third_failure_of_a_message_is_its_last_and_the_others_go_on() -> None:
    found = world(*some(2), script=[FAILED, LIMITED, FAILED])
    report = found.run()
    assert found.ledger.statuses() == ["failed", "sent"]
    assert (report.failed, report.errors, report.sent) == (1, {"HTTP 500": 1}, 1)


def test_failures_of_earlier_runs_count() -> None:
    found = world(*some(4), script=[*[FAILED] * 5, LOST])
    first = found.run()
    # The first message takes three, and the second was tried twice when the breaker opened.
    assert first.stopped_by == "breaker_open"
    assert found.ledger.statuses() == ["failed", "scheduled", "scheduled", "scheduled"]
    found.now += timedelta(minutes=20)
    for later in ("m002", "m003"):
        entry = found.ledger.entries[later]
        entry.message = replace(entry.message, send_at=found.now)
    second = found.run()
    assert (second.attempts, second.failed, second.stopped_by) == (1, 1, "breaker_open")
    assert found.ledger.statuses() == ["failed", "failed", "scheduled", "scheduled"]


def test_a_refused_message_fails_at_once_and_alone() -> None:
    found = world(*some(3), script=[Receipt("refused", 400, "HTTP 400")])
    report = found.run()
    assert found.ledger.statuses() == ["failed", "sent", "sent"]
    assert (report.errors, found.slept, report.stopped_by) == ({"HTTP 400": 1}, [], None)


def test_a_short_wait_is_granted_to_the_second() -> None:
    found = world(*some(1), script=[replace(LIMITED, retry_after_seconds=60.0)])
    assert found.run().sent == 1
    assert found.slept == [60.0]


def test_a_long_wait_puts_the_message_off_and_ends_the_run() -> None:
    found = world(*some(3), script=[replace(LIMITED, retry_after_seconds=60.5)])
    report = found.run()
    assert (report.put_off, report.stopped_by, report.left) == (1, "rate_limited", 2)
    assert (found.slept, report.attempts) == ([], 1)
    entry = found.ledger.entries["m000"]
    assert (entry.message.status, entry.message.send_at) == ("scheduled", NOW + 60.5 * _SECOND)


def test_a_receiver_that_is_busy_is_not_taken_for_a_broken_one() -> None:
    found = world(*some(4), script=[LIMITED] * 9)
    report = found.run()
    assert (report.failed, report.sent, report.breaker) == (3, 1, Breaker())


GONE = Receipt("gone", 410, "HTTP 410")


def test_an_address_that_was_given_up_opts_out_two_members_and_no_more() -> None:
    found = world(*some(5), script=[GONE] * 5)
    report = found.run()
    assert report.cancelled == {"channel_opted_out": 2}
    assert (report.stopped_by, report.put_off, report.left) == ("misconfigured", 1, 2)
    assert found.ledger.statuses() == ["cancelled"] * 2 + ["scheduled"] * 3


def test_members_who_are_gone_among_others_stop_nothing() -> None:
    accepted = Receipt("accepted", 200)
    found = world(*some(7), script=[GONE, GONE, accepted, GONE, GONE, accepted, GONE])
    report = found.run()
    assert (report.cancelled, report.sent) == ({"channel_opted_out": 5}, 2)
    assert report.stopped_by is None


WRONG = Receipt("misconfigured", 404, "HTTP 404: nothing is there")


def test_a_wrong_address_for_two_members_ends_the_run_and_loses_nothing() -> None:
    found = world(*some(4), script=[WRONG, WRONG])
    report = found.run()
    assert found.ledger.statuses() == ["scheduled"] * 4
    assert (report.stopped_by, report.error) == ("misconfigured", WRONG.error)
    assert (report.misconfigured, report.put_off, report.left) == ({WRONG.error: 2}, 2, 2)
    # The next run begins with others; what met it waits for a quarter of an hour.
    assert found.run().sent == 2
    # However often: an attempt that never reached the message does not count against it.
    for _ in range(5):
        found.now += timedelta(minutes=15)
        found.channel.script = [WRONG, WRONG]
        assert found.run().put_off == 2
    found.now += timedelta(minutes=15)
    assert found.run().sent == 2


@pytest.mark.parametrize(
    ("script", "is_stopped"),
    [
        ([WRONG], False),
        ([WRONG, Receipt("accepted", 200), WRONG], False),
        ([WRONG, FAILED, WRONG], True),
        ([WRONG, Receipt("refused", 400, "HTTP 400"), WRONG], True),
    ],
)
def test_a_wrong_address_of_one_member_holds_up_no_other(
    script: list[Receipt], is_stopped: bool
) -> None:
    found = world(*some(5), script=script)
    report = found.run()
    assert report.stopped_by == ("misconfigured" if is_stopped else None)
    assert found.ledger.entries["m000"].message.send_at == NOW + timedelta(minutes=15)
    assert report.left == (0 if not is_stopped else 5 - 1 - len(script[1:]) + (FAILED in script))


def test_a_wrong_address_of_one_member_twice_does_not_speak_for_all() -> None:
    same = {"user_id": "user-000", "org_id": "choir"}
    found = world(message(0), message(1, **same), message(2), script=[WRONG, WRONG])
    report = found.run()
    assert (report.stopped_by, report.sent, report.put_off) == (None, 1, 2)


def test_who_had_the_breaker_open_waits_and_the_next_run_begins_with_another() -> None:
    found = world(*some(3), script=[*[FAILED] * 5])
    assert found.run().stopped_by == "breaker_open"
    waits = found.ledger.entries["m001"].message
    assert (waits.status, waits.send_at) == ("scheduled", found.now + timedelta(minutes=15))
    found.now += timedelta(minutes=1)
    assert found.run().sent == 1
    assert found.channel.sent[-1].message_id == "m002"
    found.now += timedelta(minutes=15)
    assert found.run().sent == 1
    assert found.ledger.statuses() == ["failed", "sent", "sent"]


def test_an_open_breaker_lets_nothing_be_touched() -> None:
    found = world(*some(3), message(9, is_member=False), script=[])
    found.ledger.breakers["webhook"] = Breaker(5, NOW - 59 * _SECOND)
    report = found.run()
    assert (report.stopped_by, report.attempts, report.left) == ("breaker_open", 0, 4)
    assert found.ledger.writes == 0


def test_after_a_minute_one_trial_tells_whether_all_goes_on() -> None:
    found = world(*some(3), script=[FAILED])
    found.ledger.breakers["webhook"] = Breaker(5, NOW - 60 * _SECOND)
    report = found.run()
    assert (report.attempts, report.stopped_by) == (1, "breaker_open")
    assert found.ledger.statuses() == ["scheduled"] * 3
    found.now += 60 * _SECOND
    report = found.run()
    assert (report.sent, report.breaker, report.stopped_by) == (2, Breaker(), None)


def test_channels_have_breakers_of_their_own() -> None:
    found = world(*some(1))
    found.ledger.breakers["webhook"] = Breaker(5, NOW)
    found.channel = LogChannel()
    assert found.run().sent == 1


def test_who_is_gone_gets_nothing_more_by_that_channel() -> None:
    same = {"user_id": "user-000"}
    found = world(
        message(0),
        message(1, **same),
        message(2, **same, send_at=NOW + timedelta(days=1)),
        message(3),
        script=[Receipt("gone", 410, "HTTP 410")],
    )
    report = found.run()
    assert found.ledger.statuses() == ["cancelled", "cancelled", "cancelled", "sent"]
    assert (report.cancelled, report.attempts) == ({"channel_opted_out": 3}, 2)


def test_of_two_to_the_same_member_in_a_run_the_second_meets_the_cap() -> None:
    found = world(message(0), message(1, user_id="user-000"), message(2, org_id="garden"))
    report = found.run()
    assert found.ledger.statuses() == ["sent", "cancelled", "sent"]
    assert report.cancelled == {"recently_messaged": 1}


def test_quiet_hours_that_begin_between_two_attempts_are_kept() -> None:
    quiet = {"quiet_start": "12:00", "quiet_end": "13:00"}
    found = world(message(0, **quiet), message(1, user_id="user-000"), script=[FAILED])
    found.now = NOW - _SECOND / 2
    report = found.run()
    entry = found.ledger.entries["m000"]
    assert entry.message.status == "reserved"  # it may have left
    assert entry.message.send_at == NOW + timedelta(hours=1)
    assert (report.put_off, report.attempts) == (1, 1)
    # And as long as it may have, it counts.
    assert found.ledger.entries["m001"].reason == "recently_messaged"
    found.now = NOW + timedelta(hours=1)
    assert found.run().sent == 1


def test_a_message_that_breaks_the_channel_holds_up_no_other() -> None:
    found = world(*some(2), script=[ValueError("Hey!")] * 3)
    report = found.run()
    assert found.ledger.statuses() == ["failed", "sent"]
    assert report.errors == {"the channel broke (ValueError)": 1}


def test_a_run_begins_nothing_after_its_time() -> None:
    found = world(*some(9), script=[FAILED, Receipt("accepted"), FAILED])
    report = found.run(max_seconds=1.5)
    assert (report.sent, report.stopped_by, report.left) == (1, "time", 7)


@pytest.mark.parametrize("status", ["scheduled", "reserved"])
def test_a_run_waits_no_longer_than_its_time(status: str) -> None:
    busy = replace(LIMITED, retry_after_seconds=40.0)
    found = world(message(0, status=status), script=[busy])
    report = found.run(max_seconds=30)
    assert (report.stopped_by, report.put_off, found.slept) == ("time", 1, [])
    waits = found.ledger.entries["m000"].message
    # What a killed run had in hand stays there: nobody knows whether it has left.
    assert (waits.status, waits.send_at) == (status, NOW + 40 * _SECOND)
    found.now += 40 * _SECOND
    assert found.run(max_seconds=30).sent == 1


DOUBTFUL = ("server_error", "timed_out", "connection_lost")


@pytest.mark.parametrize("outcome", DOUBTFUL)
def test_what_may_have_left_fails_where_it_is_too_late_and_frees_no_occasion(outcome: str) -> None:
    found = world(message(0), script=[Receipt(outcome, error="x")] * 2)
    found.run(max_seconds=2)
    assert found.ledger.statuses() == ["scheduled"]
    found.now += timedelta(hours=2)
    report = found.run()
    assert (found.ledger.statuses(), report.failed, report.cancelled) == (["failed"], 1, {})


def test_what_was_only_asked_to_wait_has_not_left() -> None:
    found = world(message(0), script=[replace(LIMITED, retry_after_seconds=90)])
    found.run()
    found.now += timedelta(hours=2)
    assert found.run().cancelled == {"missed_window": 1}


@pytest.mark.parametrize("outcome", DOUBTFUL)
@pytest.mark.parametrize("is_one_run", [True, False])
@pytest.mark.parametrize("last", [[], [Receipt("refused", 400, "HTTP 400")]])
def test_what_may_have_left_counts_for_others_whatever_became_of_it(
    outcome: str, is_one_run: bool, last: list[Receipt]
) -> None:
    later = NOW if is_one_run else NOW + timedelta(hours=3)
    doubtful = Receipt(outcome, error="x")
    found = world(
        message(0),
        message(1, user_id="user-000", send_at=later),
        script=[doubtful, *last] if last else [doubtful] * 3,
    )
    found.run()
    found.now = max(found.now, later)
    found.run()
    assert found.ledger.statuses() == ["failed", "cancelled"]
    assert found.ledger.entries["m001"].reason == "recently_messaged"


def test_attempts_of_one_message_count_once() -> None:
    rules = replace(RULES, policy=Policy(message_frequency_hours=0, min_gap_hours=0, daily_cap=2))
    found = world(message(0), message(1, user_id="user-000"), script=[FAILED])
    assert found.run(rules=rules).sent == 2


def test_what_was_in_hand_for_more_than_a_day_fails() -> None:
    taken_at = NOW - timedelta(hours=24, seconds=1)
    found = world(message(0, status="reserved", reserved_at=taken_at), message(1))
    report = found.run()
    assert (found.ledger.statuses(), report.failed, report.sent) == (["failed", "sent"], 1, 1)


def test_a_message_that_was_in_hand_when_a_run_was_ended_comes_first_and_late_or_not() -> None:
    found = world(
        message(0),
        message(5, status="reserved", send_at=NOW - timedelta(days=3), message_times=(NOW,)),
    )
    found.run()
    assert [sent.message_id for sent in found.channel.sent] == ["m005", "m000"]


@given(
    st.lists(st.sampled_from([FAILED, LOST, LIMITED, Receipt("accepted", 200)]), max_size=25),
    st.lists(st.integers(0, 25), max_size=8),
    st.integers(1, 6),
)
def test_runs_ended_anywhere_lose_no_message_and_repeat_one_at_most(
    script: list[Receipt], ends: list[int], count: int
) -> None:
    found = world(*some(count), script=script)
    for end in ends:
        found.ledger.stop_at = found.ledger.writes + end
        found.now += timedelta(seconds=90)
        with suppress(Stopped):
            found.run()
    found.ledger.stop_at = None
    for _ in range(30):
        found.now += timedelta(minutes=16)
        found.run()
    assert set(found.ledger.statuses()) <= {"sent", "failed", "cancelled"}
    taken = Counter(found.channel.taken)
    for entry in found.ledger.entries.values():
        # Nothing that was not taken is told to be sent. A repeat takes a run that was ended.
        if entry.message.status == "sent":
            assert taken[entry.message.message_id] >= 1
    assert sum(taken.values()) - len(taken) <= len(ends)
