"""Killed while it sends: nobody misses a message, and none is sent twice to who knows its id."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.delivery_home import (
    message_row,
    rows_of,
    send_until_done,
    settings_for,
    write_due_messages,
)
from tests.forking import fork_server
from tests.webhook_server import WebhookServer

KILLS = int(os.environ.get("KILLS", "6"))
"""`make test-long` has thirty."""
MESSAGES = int(os.environ.get("MESSAGES", str(KILLS * 20)))
_PATIENCE_SECONDS = 180


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer() as started:
        yield started


def _work(home: str, url: str, environment: dict[str, str]) -> None:
    # The server that processes are forked from may have been started by another test, with its own.
    os.environ.clear()
    os.environ.update(environment)
    send_until_done(home, url)


@pytest.mark.slow
def test_runs_killed_at_any_moment_send_every_message_and_none_twice(
    tmp_path: Path, server: WebhookServer
) -> None:
    messages = [message_row(number) for number in range(MESSAGES)]
    write_due_messages(tmp_path, messages)
    dice, left_in_hand = random.Random(KILLS), 0
    # By messages, and not by time: how fast they go is the machine's affair. Enough are left for
    # each run to have some.
    moments = sorted(dice.sample(range(1, MESSAGES * 2 // 3), KILLS))
    for moment in moments:
        before = len(server.received)
        process = _start(tmp_path, server)
        _wait_for(server, max(moment, before + 1), process)
        # And then for as long as a message takes, so that it may be hit at any step.
        time.sleep(dice.uniform(0, _pace(server, before)))
        _kill(process)
        left_in_hand += "reserved" in _statuses(tmp_path)
    process = _start(tmp_path, server)
    process.join(_PATIENCE_SECONDS)
    assert process.exitcode == 0
    repeats = _nothing_is_missing(tmp_path, server)
    print(f"{KILLS} kills, {left_in_hand} of a message in hand, {repeats} repeats")
    if KILLS >= 30:
        # Most moments must have been awkward ones, or nothing was shown.
        assert left_in_hand >= KILLS // 5


def _start(home: Path, server: WebhookServer) -> BaseProcess:
    given = (str(home), server.url, dict(os.environ))
    process = fork_server().Process(target=_work, args=given)
    process.start()
    return process


def _kill(process: BaseProcess) -> None:
    assert process.pid is not None
    assert process.is_alive(), "all was sent: there was nothing to kill"
    os.kill(process.pid, signal.SIGKILL)
    process.join(_PATIENCE_SECONDS)
    assert process.exitcode == -signal.SIGKILL


def _wait_for(server: WebhookServer, count: int, process: BaseProcess) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with server.has_received:
        while len(server.received) < count and process.is_alive():
            assert time.monotonic() < deadline
            server.has_received.wait(0.2)


def _pace(server: WebhookServer, since: int) -> float:
    """Seconds from one message to the next."""
    times = [request.at for request in server.received[since:]]
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.01


def _statuses(home: Path) -> Counter[str]:
    return Counter(row["status"] for row in rows_of(settings_for(home), "outreach.messages"))


def _nothing_is_missing(home: Path, server: WebhookServer) -> int:
    """What must be so however often runs were killed; gives how often a message came again."""
    settings = settings_for(home)
    rows = rows_of(settings, "outreach.messages")
    assert {row["status"] for row in rows} == {"sent"}
    # A receiver that honours the key processes each once, as each came under one key.
    assert set(server.keys) == {row["message_id"] for row in rows}
    # One that does not sees one repeat a kill at most.
    repeats = len(server.keys) - len(rows)
    assert 0 <= repeats <= KILLS
    accepted = rows_of(settings, "outreach.deliveries")
    assert {row["outcome"] for row in accepted} == {"accepted"}
    assert [row["message_id"] for row in accepted] == [row["message_id"] for row in rows]
    # The attempt that was confirmed is the last, and all before it were cut off by a kill.
    assert [row["attempt"] for row in accepted] == [row["attempts"] for row in rows]
    assert sum(row["attempts"] - 1 for row in rows) <= KILLS
    assert all(row["attempts"] >= server.times_received[row["message_id"]] for row in rows)
    return repeats
