"""One request to the API and what became of it: an answer's plain JSON, or a failure with a kind.

The `anthropic` SDK sends; its own retries are off, since they heed no cap, and its parsing is not
used, since it lets malformed answers through as other types. Whether a failure is tried again is
decided in `sending`.
"""

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx2

from engagement_pipeline.scoring.anthropic.models import Usage

DEFAULT_BASE_URL = "https://api.anthropic.com"
_RETRYABLE = {408, 409, 429}
_STOPPING_CODES = {
    "contract_spend_limit_reached",
    "enforced_spend_limit_reached",
    "linked_organization_spend_limit_reached",
    "linked_organization_billing_unavailable",
    "organization_on_hold",
}
_SPEND_SIGNS = ("credit balance", "spend limit", "usage limits")
_MESSAGE_CHARACTERS = 300


@dataclass(frozen=True)
class Arrived:
    """A good answer: the message as plain JSON, what it was billed for, and its headers."""

    message: Mapping[str, Any]
    usage: Usage
    status_code: int = 200
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A request without an answer.

    Attributes:
        outcome: the ledger's word for it.
        message: what the API or the connection said.
        is_retryable: whether the same request may do better later.
        stops_the_run: whether no other request will do better either.
        is_too_large: whether a smaller request may do better.
        may_be_billed: whether the API may have done the work.
    """

    outcome: str
    message: str
    status_code: int | None = None
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_retryable: bool = False
    stops_the_run: bool = False
    is_too_large: bool = False
    may_be_billed: bool = False


@dataclass(frozen=True)
class Connection:
    """How the API is reached.

    Attributes:
        api_key: the secret; not shown.
        base_url: the API's address.
        timeout_seconds: the longest that one request may take, its body included.
        max_connections: open at a time at most.
    """

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    timeout_seconds: float = 120.0
    max_connections: int = 32

    def open(self) -> anthropic.AsyncAnthropic:
        """A client of the SDK; to be closed by who opened it."""
        return anthropic.AsyncAnthropic(
            api_key=self.api_key,
            base_url=self.base_url,
            max_retries=0,
            timeout=self.timeout_seconds,
            # Spans could carry what was sent to wherever the machine's own tracing goes.
            open_telemetry=False,
            http_client=anthropic.DefaultAsyncHttpxClient(
                follow_redirects=False,
                timeout=httpx2.Timeout(self.timeout_seconds, connect=10.0),
                limits=httpx2.Limits(
                    max_connections=self.max_connections,
                    max_keepalive_connections=self.max_connections,
                ),
                # A proxy of the machine's would be asked for its own loopback.
                trust_env=not is_loopback(self.base_url),
            ),
        )


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def send_message(
    client: anthropic.AsyncAnthropic, params: Mapping[str, Any]
) -> Arrived | Failed:
    """Send one request to the Messages API."""
    try:
        raw = await client.messages.with_raw_response.create(**params)
        body = raw.http_response.content
        headers, status = raw.headers, raw.status_code
    except (anthropic.APIError, httpx2.HTTPError) as error:
        return failure_of(error)
    request_id = headers.get("request-id")
    try:
        message = read_message(json.loads(body))
    except (ValueError, RecursionError) as error:
        return Failed(
            "malformed",
            f"the answer cannot be read: {error}"[:_MESSAGE_CHARACTERS],
            status,
            request_id,
            headers,
            is_retryable=True,
            may_be_billed=True,
        )
    return Arrived(message, usage_of(message), status, request_id, headers)


def read_message(found: Any) -> Mapping[str, Any]:
    """The message, if it is one as the API promises.

    Raises:
        ValueError: says what is not as promised.
    """
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, found {type(found).__name__}")
    content, usage = found.get("content"), found.get("usage")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise ValueError("expected a list of blocks in content")
    counts = [usage.get(name) for name in _BILLED] if isinstance(usage, dict) else [None]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError("expected usage with input_tokens and output_tokens")
    return found


_BILLED = ("input_tokens", "output_tokens")


def usage_of(message: Mapping[str, Any]) -> Usage:
    """What the API says it billed for."""
    usage = message["usage"]
    return Usage(
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        cache_write_tokens=_count(usage, "cache_creation_input_tokens"),
        cache_read_tokens=_count(usage, "cache_read_input_tokens"),
    )


def _count(usage: Mapping[str, Any], name: str) -> int:
    found = usage.get(name)
    return found if isinstance(found, int) and found > 0 else 0


_BEFORE_SENDING = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def failure_of(error: Exception) -> Failed:
    """What kind of failure the SDK's error tells of."""
    if isinstance(error, anthropic.APIStatusError):
        return _refusal(error)
    cause = error.__cause__ or error
    was_sent = not isinstance(cause, _BEFORE_SENDING)
    return Failed(
        "lost" if was_sent else "failed",
        f"{type(cause).__name__}: {cause or error}"[:_MESSAGE_CHARACTERS],
        is_retryable=True,
        may_be_billed=was_sent,
    )


def _refusal(error: anthropic.APIStatusError) -> Failed:
    status, headers = error.status_code, error.response.headers
    said = error.api_message or f"HTTP {status} without the API's error text"
    is_spend_limit = (
        status == 402
        or error.type == "billing_error"
        or error.error_code in _STOPPING_CODES
        or (status in (400, 429) and any(sign in said.lower() for sign in _SPEND_SIGNS))
    )
    stops = status in (401, 403) or is_spend_limit
    return Failed(
        _outcome(status),
        said[:_MESSAGE_CHARACTERS],
        status,
        error.request_id,
        headers,
        is_retryable=not stops and (status in _RETRYABLE or status >= 500),
        stops_the_run=stops,
        is_too_large=status == 413,
        # A gateway that lost patience says nothing of what was going on behind it.
        may_be_billed=status in (408, 504),
    )


def _outcome(status: int) -> str:
    if status == 429:
        return "rate_limited"
    if status == 529:
        return "overloaded"
    return "failed" if status >= 500 or status in _RETRYABLE else "refused"


def same_origin(url: str, base_url: str) -> bool:
    """Whether an address is the API's own: scheme, host and port."""

    def origin(text: str) -> Sequence[object]:
        parts = urlsplit(text)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return (parts.scheme, parts.hostname, port)

    return origin(url) == origin(base_url)
