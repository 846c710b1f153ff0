"""One attempt against a receiver that misbehaves: what is sent, and what its answer means."""

import hashlib
import json
import logging
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.outreach.delivery.channels import LogChannel, Outgoing, Receipt
from engagement_pipeline.outreach.delivery.webhook import (
    ANSWER_MAX_BYTES,
    WebhookChannel,
    receipt_of,
    retry_after_seconds,
)
from tests.webhook_server import Fault, WebhookServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "a secret of the tests"
TEXT = "Grüße, 你好 — how are you?"
_TIMEOUT = 0.3
# What is sent, and to whom, in a form that shows in whatever it is quoted by.
_NEVER_SHOWN = (SECRET, "how are you", "member-7")


def outgoing(**given: Any) -> Outgoing:
    """A message as it leaves."""
    return Outgoing(
        **{
            "message_id": "ab" * 32,
            "org_id": "choir",
            "user_id": "member-7",
            "outreach_type": "re_engagement",
            "template_id": "a_template",
            "text": TEXT,
            "attempt": 1,
            "sent_at": NOW,
            **given,
        }
    )


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer() as started:
        yield started


@pytest.fixture
def channel(server: WebhookServer) -> Iterator[WebhookChannel]:
    with WebhookChannel(server.url, SECRET, _TIMEOUT) as opened:
        yield opened


def test_a_message_is_posted_as_json_under_its_own_id(
    server: WebhookServer, channel: WebhookChannel
) -> None:
    assert channel.send(outgoing(attempt=2)) == Receipt("accepted", 200)
    (request,) = server.received
    assert (request.method, request.target) == ("POST", "/hook?of=tests")
    assert request.headers["content-type"] == "application/json"
    assert request.key == "ab" * 32
    assert json.loads(request.body) == {
        "message_id": "ab" * 32,
        "org_id": "choir",
        "user_id": "member-7",
        "outreach_type": "re_engagement",
        "template_id": "a_template",
        "text": TEXT,
    }
    assert request.headers["x-attempt"] == "2"


def test_every_attempt_posts_the_very_same_bytes(
    server: WebhookServer, channel: WebhookChannel
) -> None:
    for attempt in (1, 2):
        channel.send(outgoing(attempt=attempt, sent_at=NOW + timedelta(seconds=attempt)))
    first, second = server.received
    assert (first.body, first.key) == (second.body, second.key)
    signed = "x-signature-256"
    assert first.headers[signed] == second.headers[signed]


def test_the_signature_is_the_hmac_of_the_very_bytes_that_arrive(
    server: WebhookServer, channel: WebhookChannel
) -> None:
    channel.send(outgoing())
    (request,) = server.received
    # RFC 2104 in so many words, with nothing of the library's.
    key = SECRET.encode().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + request.body).digest()
    expected = hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()
    assert request.headers["x-signature-256"] == f"sha256={expected}"


def test_without_a_secret_nothing_is_signed(server: WebhookServer) -> None:
    with WebhookChannel(server.url, None) as channel:
        channel.send(outgoing())
    assert "x-signature-256" not in server.received[0].headers


def test_messages_share_a_connection(server: WebhookServer, channel: WebhookChannel) -> None:
    for _ in range(5):
        channel.send(outgoing())
    assert {request.connection for request in server.received} == {1}


def test_a_proxy_of_the_machine_is_not_asked_for_its_own_loopback(
    server: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with WebhookChannel(server.url, SECRET, _TIMEOUT) as channel:
        assert channel.send(outgoing()).outcome == "accepted"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "accepted"),
        (202, "accepted"),
        (204, "accepted"),
        (299, "accepted"),
        (301, "misconfigured"),
        (302, "misconfigured"),
        (304, "misconfigured"),
        (308, "misconfigured"),
        (400, "refused"),
        (401, "misconfigured"),
        (402, "refused"),
        (403, "misconfigured"),
        (404, "misconfigured"),
        (405, "misconfigured"),
        (407, "misconfigured"),
        (408, "timed_out"),
        (409, "server_error"),
        (410, "gone"),
        (413, "refused"),
        (422, "refused"),
        (425, "server_error"),
        (429, "rate_limited"),
        (499, "refused"),
        (500, "server_error"),
        (503, "server_error"),
        (599, "server_error"),
        (600, "server_error"),
    ],
)
def test_a_status_means_one_outcome(status: int, outcome: str) -> None:
    receipt = receipt_of(status, {}, NOW)
    assert (receipt.outcome, receipt.http_status) == (outcome, status)
    assert (receipt.error is None) == (outcome == "accepted")
    assert outcome in vocabulary.ATTEMPT_OUTCOMES


@pytest.mark.parametrize("status", [500, 410, 400, 401, 429])
def test_a_status_is_heard_whatever_comes_with_it(
    server: WebhookServer, channel: WebhookChannel, status: int
) -> None:
    server.misbehave(
        status, headers={"content-type": "text/html"}, body=b"<h1>how are you, member-7?</h1>"
    )
    receipt = channel.send(outgoing())
    assert receipt == receipt_of(status, {}, NOW)


def test_no_redirect_is_followed(server: WebhookServer, channel: WebhookChannel) -> None:
    server.misbehave(302, headers={"location": server.url})
    receipt = channel.send(outgoing())
    assert (receipt.outcome, receipt.http_status) == ("misconfigured", 302)
    assert len(server.received) == 1


def test_html_in_place_of_json_is_an_answer_too(
    server: WebhookServer, channel: WebhookChannel
) -> None:
    server.misbehave(200, headers={"content-type": "text/html"}, body=b"<html>fine</html>")
    assert channel.send(outgoing()).outcome == "accepted"


@pytest.mark.parametrize("fault", [Fault.RESET_BEFORE_WORK, Fault.RESET, Fault.DROP, Fault.NO_HTTP])
def test_a_connection_that_breaks_before_the_answer_is_lost(
    server: WebhookServer, channel: WebhookChannel, fault: Fault
) -> None:
    server.misbehave(fault)
    receipt = channel.send(outgoing())
    assert (receipt.outcome, receipt.http_status) == ("connection_lost", None)
    # The next one is none the worse for it.
    assert channel.send(outgoing()).outcome == "accepted"


def test_nobody_there_is_a_lost_connection() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with WebhookChannel(f"http://127.0.0.1:{port}/", SECRET, _TIMEOUT) as channel:
        receipt = channel.send(outgoing())
    assert receipt.outcome == "connection_lost"


@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.DRIPPING_HEAD])
def test_a_call_ends_with_its_time_even_while_bytes_come(
    server: WebhookServer, channel: WebhookChannel, fault: Fault
) -> None:
    # Whoever waited for the end would be answered, or see the connection close.
    server.misbehave(fault, seconds=5)
    assert channel.send(outgoing()) == Receipt("timed_out", error="no answer in 0.3 s")
    assert channel.send(outgoing()).outcome == "accepted"


@pytest.mark.parametrize("fault", [Fault.SHORT_CONTENT_LENGTH, Fault.LONG_CONTENT_LENGTH])
def test_what_was_taken_stays_taken_whatever_its_body_is(
    server: WebhookServer, channel: WebhookChannel, fault: Fault
) -> None:
    server.misbehave(fault)
    assert channel.send(outgoing()) == Receipt("accepted", 200)
    # Until the receiver has closed the connection: before that, what it sent too much is taken for
    # an answer to what is sent next, which is tried again then.
    time.sleep(0.05)
    assert channel.send(outgoing()).outcome == "accepted"


def test_nobody_waits_for_the_end_of_a_body_that_drips(
    server: WebhookServer, channel: WebhookChannel
) -> None:
    server.misbehave(Fault.DRIPPING_BODY, seconds=5)
    assert channel.send(outgoing()) == Receipt("accepted", 200)
    assert channel.send(outgoing()).outcome == "accepted"
    while server.hung_up == 0 and server.dripped == 0:
        time.sleep(0.005)
    assert server.hung_up == 1


def test_of_a_huge_answer_most_is_never_read(
    server: WebhookServer, channel: WebhookChannel
) -> None:
    server.misbehave(Fault.HUGE_BODY, size=500_000_000)
    assert channel.send(outgoing()).outcome == "accepted"
    # What the machine keeps of it on the way is some megabytes.
    assert server.sent_bytes < 100_000_000
    assert ANSWER_MAX_BYTES < 100_000
    assert channel.send(outgoing()).outcome == "accepted"


@pytest.mark.parametrize("url", ["http://", "nonsense", "ftp://there/"])
def test_an_address_that_is_none_is_a_wrong_setting(url: str) -> None:
    with WebhookChannel(url, SECRET, _TIMEOUT) as channel:
        receipt = channel.send(outgoing())
    assert receipt.outcome == "misconfigured"
    assert receipt.error is not None
    assert "webhook_url" in receipt.error


@pytest.mark.parametrize(
    "wrong", [400, 401, 302, 500, Fault.RESET, Fault.NO_HTTP, Fault.DROP, Fault.SILENCE]
)
def test_no_error_and_no_log_tells_a_secret_or_what_was_said(
    server: WebhookServer,
    channel: WebhookChannel,
    caplog: pytest.LogCaptureFixture,
    wrong: Fault | int,
) -> None:
    # A receiver that sends all it got back to us.
    echo = json.dumps([SECRET, TEXT, "member-7"], ensure_ascii=False).encode()
    headers = {"location": "http://127.0.0.1/member-7"}
    server.misbehave(wrong, body=echo, headers=headers, seconds=1)
    with caplog.at_level(logging.DEBUG):
        receipt = channel.send(outgoing())
    assert receipt.error is not None
    for private in _NEVER_SHOWN:
        assert private not in receipt.error
        assert not any(
            private in record.getMessage()
            for record in caplog.records
            if record.levelno > logging.DEBUG
        )
    assert TEXT not in repr(outgoing())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (" 30 ", 30.0),
        ("-3", 0.0),
        ("1000000000", 86_400.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str, seconds: float | None) -> None:
    assert retry_after_seconds({"retry-after": text}, NOW) == seconds


def test_a_date_to_retry_after_is_measured_by_the_receivers_own_clock() -> None:
    theirs = NOW + timedelta(days=400)
    headers = {
        "date": format_datetime(theirs, usegmt=True),
        "retry-after": format_datetime(theirs + timedelta(seconds=40), usegmt=True),
    }
    assert retry_after_seconds(headers, NOW) == 40.0


def test_retry_after_is_heard_of_a_real_answer(
    server: WebhookServer, channel: WebhookChannel
) -> None:
    at = format_datetime(NOW + timedelta(seconds=20), usegmt=True)
    server.misbehave(429, headers={"Retry-After": "12"})
    server.misbehave(429, headers={"retry-after": at})
    assert [channel.send(outgoing()).retry_after_seconds for _ in range(2)] == [12.0, 20.0]


def test_the_log_takes_everything() -> None:
    assert LogChannel().send(outgoing()) == Receipt("accepted")
