"""The Message Batches API: making a batch, looking at it, finding one again, reading its results.

What goes into a batch, and what its results are worth, is `batch_session`'s.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import httpx2

from engagement_pipeline.scoring.anthropic.client import Failed, failure_of, same_origin

MAX_REQUESTS = 100_000
MAX_BYTES = 200 * 2**20
"""The API takes 256 MB; the rest is for what stands around our requests."""

_CLOCKS_MAY_DIFFER = timedelta(minutes=10)
_PAGE = 100


class ForeignResultsError(RuntimeError):
    """A batch's results are said to be somewhere else than at the API; nothing was fetched."""


class UnreadableResultsError(RuntimeError):
    """A batch's results cannot be fetched, or broke off."""


class ResultsGoneError(RuntimeError):
    """A batch's results are not to be had any more."""


@dataclass(frozen=True)
class BatchRequest:
    """One request of a batch; `custom_id` is ours, at most 64 of `A-Za-z0-9_-`."""

    custom_id: str
    params: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {"custom_id": self.custom_id, "params": dict(self.params)}


@dataclass(frozen=True)
class BatchLook:
    """What the API says of a batch.

    Attributes:
        batch_id: the API's name for it.
        has_ended: whether results are there.
        results_url: where they are said to be.
        requests: how many there are in it.
        created_at: when the API took it.
    """

    batch_id: str
    has_ended: bool
    results_url: str | None
    requests: int
    created_at: datetime


def batch_sizes(requests: Sequence[BatchRequest]) -> list[list[BatchRequest]]:
    """The requests in as few batches as the API's limits allow, in their order."""
    groups: list[list[BatchRequest]] = []
    size = 0
    for request in requests:
        taken = len(json.dumps(request.as_json()))
        if not groups or len(groups[-1]) >= MAX_REQUESTS or size + taken > MAX_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(request)
        size += taken
    return groups


async def create(
    client: anthropic.AsyncAnthropic, requests: Sequence[BatchRequest]
) -> BatchLook | Failed:
    """Hand in a batch. A failure that `may_be_billed` may have been taken all the same."""
    try:
        raw = await client.messages.batches.with_raw_response.create(
            requests=[request.as_json() for request in requests]  # type: ignore[misc]
        )
        return _look(json.loads(raw.http_response.content))
    except (anthropic.APIError, httpx2.HTTPError) as error:
        found = failure_of(error)
        is_unclear = found.may_be_billed or (
            found.status_code is not None and found.status_code >= 500 and found.status_code != 529
        )
        return Failed(**{**vars(found), "may_be_billed": is_unclear})
    except ValueError as error:
        return Failed("malformed", str(error), is_retryable=True, may_be_billed=True)


async def look(client: anthropic.AsyncAnthropic, batch_id: str) -> BatchLook | Failed:
    """How far a batch is."""
    try:
        raw = await client.messages.batches.with_raw_response.retrieve(batch_id)
        return _look(json.loads(raw.http_response.content))
    except (anthropic.APIError, httpx2.HTTPError) as error:
        return failure_of(error)
    except ValueError as error:
        return Failed("malformed", str(error), is_retryable=True)


async def made_since(
    client: anthropic.AsyncAnthropic, moment: datetime, *, requests: int
) -> list[BatchLook] | Failed:
    """The batches of so many requests that were made since, the oldest first.

    Our clock and the API's may differ by some minutes, so that of a little earlier count as well.
    """
    since = moment - _CLOCKS_MAY_DIFFER
    found: list[BatchLook] = []
    after: str | None = None
    try:
        while True:
            options: dict[str, Any] = {"limit": _PAGE} | ({"after_id": after} if after else {})
            raw = await client.messages.batches.with_raw_response.list(**options)
            page = json.loads(raw.http_response.content)
            looks = [_look(one) for one in page["data"]]
            found += [one for one in looks if one.created_at >= since]
            after = page.get("last_id")
            if not page.get("has_more") or not after or any(o.created_at < since for o in looks):
                break
    except (anthropic.APIError, httpx2.HTTPError) as error:
        return failure_of(error)
    except (ValueError, KeyError, TypeError) as error:
        return Failed("malformed", str(error), is_retryable=True)
    return sorted((one for one in found if one.requests == requests), key=lambda o: o.created_at)


async def results(
    client: anthropic.AsyncAnthropic, base_url: str, found: BatchLook
) -> AsyncIterator[dict[str, Any]]:
    """The results of a batch that has ended, in whatever order they come.

    They are fetched from the API's own address for them: the SDK would follow wherever the answer
    points, and take the key along.

    Raises:
        ForeignResultsError: the API points elsewhere.
        ResultsGoneError: there are none any more.
        UnreadableResultsError: they cannot be fetched, or broke off; what came is given before.
    """
    if found.results_url is None:
        raise ResultsGoneError(f"batch {found.batch_id}: the API has no results of it any more")
    if not same_origin(found.results_url, base_url):
        raise ForeignResultsError(
            f"batch {found.batch_id}: expected results at {base_url}, found "
            f"{found.results_url!r}; nothing was fetched, since the key would go along"
        )
    path = f"/v1/messages/batches/{found.batch_id}/results"
    try:
        response = await client.get(path, cast_to=httpx2.Response)
        text = response.content.decode()
    except (anthropic.APIError, httpx2.HTTPError, UnicodeDecodeError) as error:
        if isinstance(error, anthropic.APIStatusError) and error.status_code in (404, 410):
            raise ResultsGoneError(f"batch {found.batch_id}: results: {error.message}") from None
        raise UnreadableResultsError(
            f"batch {found.batch_id}: the results cannot be fetched: {error}"
        ) from None
    # At line feeds alone: JSON may hold other ends of lines in its strings as they are.
    *lines, rest = text.split("\n")
    for line in (*lines, rest):
        row = _result(line)
        if row is not None:
            yield row
    if rest.strip() and _result(rest) is None:
        raise UnreadableResultsError(
            f"batch {found.batch_id}: the results break off in line {len(lines) + 1}, which "
            "cannot be read"
        )


def _result(line: str) -> dict[str, Any] | None:
    """A line of the results; None where it is none, whose request then has no result."""
    try:
        row = json.loads(line)
        if isinstance(row["custom_id"], str) and isinstance(row["result"], dict):
            return dict(row)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None


def _look(found: Any) -> BatchLook:
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        raise ValueError("expected a batch")
    counts, made = found.get("request_counts"), found.get("created_at")
    if not isinstance(counts, dict) or not isinstance(made, str):
        raise ValueError("expected a batch with request_counts and created_at")
    created_at = datetime.fromisoformat(made)
    return BatchLook(
        found["id"],
        found.get("processing_status") == "ended",
        found.get("results_url"),
        sum(count for count in counts.values() if isinstance(count, int)),
        created_at.replace(tzinfo=created_at.tzinfo or UTC),
    )
