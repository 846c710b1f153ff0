"""Messages by HTTP: one POST an attempt, signed, and what its answer means.

The answer's status is all that is heeded: its body is read only so that the connection can be used
again. Whether an attempt is made again is decided in `sending`.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx2

from engagement_pipeline.outreach.delivery.channels import Outgoing, Receipt

RETRY_AFTER_MAX_SECONDS = 86_400.0
ANSWER_MAX_BYTES = 65_536
"""Of longer answers the rest is not read, and the connection is given up."""

_BODY_SECONDS = 1.0
_WRONG_ADDRESS = {
    401: "it does not take the signature: check webhook_secret",
    403: "it does not let us in: check webhook_url and webhook_secret",
    404: "nothing is there: check webhook_url",
    405: "it takes no POST there: check webhook_url",
    407: "the proxy wants to know who asks: check the machine's proxy settings",
}
_TOO_EARLY = (409, 425)
_REDIRECT = "it sends us elsewhere, and redirects are not followed: check webhook_url"


class WebhookChannel:
    """Posts messages to an address; a context manager, which keeps one connection.

    Each is JSON, with the message's id as `Idempotency-Key`, the number of the attempt as
    `X-Attempt`, and, if there is a secret, with `X-Signature-256`: `sha256=` and the HMAC-SHA256 of
    the body (RFC 2104) in hex.

    Args:
        url: the address.
        secret: what is signed with; None: nothing is signed.
        timeout_seconds: the longest that a call may take, whatever happens in it.
    """

    name = "webhook"
    delivers_at_once = False

    def __init__(self, url: str, secret: str | None, timeout_seconds: float = 10.0) -> None:
        self._url = url
        self._secret = secret
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> Self:
        # Timeouts of a blocking client are per read: bytes that drip in would hold it for ever.
        self._runner = asyncio.Runner()
        self._client = httpx2.AsyncClient(
            follow_redirects=False,
            timeout=self._timeout_seconds,
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1),
            # A proxy of the machine's would be asked for its own loopback.
            trust_env=not _is_loopback(self._url),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._runner.run(self._client.aclose())
        finally:
            self._runner.close()

    def send(self, message: Outgoing) -> Receipt:
        """Try once to send a message."""
        try:
            return self._runner.run(self._post(message))
        except (TimeoutError, httpx2.TimeoutException):
            return Receipt("timed_out", error=f"no answer in {self._timeout_seconds:g} s")
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError) as error:
            said = f"nothing can be sent to that address ({_name(error)}): check webhook_url"
            return Receipt("misconfigured", error=said)
        except httpx2.ConnectError as error:
            return Receipt("connection_lost", error=f"no connection: {error}"[:300])
        except httpx2.TransportError as error:
            # Its text may hold what arrived, and so what was said.
            said = f"the connection broke before the answer ({_name(error)})"
            return Receipt("connection_lost", error=said)

    async def _post(self, message: Outgoing) -> Receipt:
        body = body_of(message)
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.message_id,
            "X-Attempt": str(message.attempt),
        }
        if self._secret:
            headers["X-Signature-256"] = signature(self._secret, body)
        request = self._client.build_request("POST", self._url, content=body, headers=headers)
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout_seconds
        async with asyncio.timeout_at(deadline):
            response = await self._client.send(request, stream=True)
        try:
            async with asyncio.timeout_at(min(deadline, clock() + _BODY_SECONDS)):
                await _read_to_the_end(response)
        except (TimeoutError, httpx2.HTTPError):
            pass  # The status has come; the connection is closed.
        finally:
            await response.aclose()
        return receipt_of(response.status_code, response.headers, message.sent_at)


def body_of(message: Outgoing) -> bytes:
    """What is posted: the message as compact JSON in ASCII, the same bytes at every attempt.

    Receivers that keep a fingerprint of what came with a key refuse the key with other contents.
    """
    return json.dumps(
        {
            "message_id": message.message_id,
            "org_id": message.org_id,
            "user_id": message.user_id,
            "outreach_type": message.outreach_type,
            "template_id": message.template_id,
            "text": message.text,
        },
        separators=(",", ":"),
    ).encode("ascii")


def signature(secret: str, body: bytes) -> str:
    """The value of `X-Signature-256`."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def receipt_of(status: int, headers: Mapping[str, str], now: datetime) -> Receipt:
    """What an answer means.

    2xx is taken; 410 says that the member is gone. 3xx, 401, 403, 404, 405 and 407 are about the
    address or the key, not about the message. 408, 409, 425 and 5xx may pass: with 409 a receiver
    may say that it is still at work on an earlier attempt (IETF draft, The Idempotency-Key HTTP
    Header Field, 2.7). Other 4xx refuse the message.

    Args:
        status: the answer's.
        headers: its headers, by names in lower case.
        now: the moment, where the answer does not tell it itself.
    """
    said = f"HTTP {status}"
    wait = retry_after_seconds(headers, now)
    if 200 <= status < 300:
        return Receipt("accepted", status)
    if status in _WRONG_ADDRESS or 300 <= status < 400:
        return Receipt("misconfigured", status, f"{said}: {_WRONG_ADDRESS.get(status, _REDIRECT)}")
    if status == 410:
        return Receipt("gone", status, said)
    if status == 429:
        return Receipt("rate_limited", status, said, wait)
    if status == 408:
        return Receipt("timed_out", status, said, wait)
    if 400 <= status < 500 and status not in _TOO_EARLY:
        return Receipt("refused", status, said)
    return Receipt("server_error", status, said, wait)


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """What the receiver asked to wait, at most a day; None where it said nothing sensible.

    Understands seconds, whole or not, and an HTTP date (RFC 9110, 10.2.3). A date is measured
    against the answer's own, where it has one: two clocks need not agree.

    Args:
        headers: the answer's, by names in lower case.
        now: the moment, with a time zone.
    """
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        until = _http_date(text)
        if until is None:
            return None
        seconds = (until - (_http_date(headers.get("date", "")) or now)).total_seconds()
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)


def _http_date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # The latter: a year, or a distance from UTC, of more digits than there is room for.
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


async def _read_to_the_end(response: httpx2.Response) -> None:
    read = 0
    async for piece in response.aiter_raw():
        read += len(piece)
        if read > ANSWER_MAX_BYTES:
            return


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name(error: Exception) -> str:
    return type(error).__name__
