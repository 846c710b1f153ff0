"""Message batches: accepted at once, worked on, ended after a while, listed newest first.

How a request of a batch is answered belongs to `service`, which hands that in.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from .errors import ApiError, invalid
from .faults import Fault, Misbehaviour
from .models import Usage

LIST_LIMIT_DEFAULT = 20
LIST_LIMIT_MAX = 1000

_LIFETIME = timedelta(hours=24)
_OUTCOMES = ("succeeded", "errored", "canceled", "expired")


@dataclass(frozen=True)
class Outcome:
    """What became of one request of a batch.

    Attributes:
        result: as a line of the results says it.
        usage, usd: billed; nothing unless it succeeded.
    """

    result: dict[str, Any]
    usage: Usage = field(default_factory=Usage)
    usd: float = 0.0


Work = Callable[[str, Mapping[str, Any]], Outcome]
Refund = Callable[[Usage, float], None]


class Batch:
    """One batch.

    Args:
        id: unique on this server.
        requests: as sent, checked.
        polls: how often it is still seen in progress.
        seconds: that it takes at least.
        clock: seconds, monotonic.
        misbehaviour: of the stage BATCH.
    """

    def __init__(
        self,
        id: str,
        requests: list[dict[str, Any]],
        polls: int,
        seconds: float,
        clock: Callable[[], float],
        misbehaviour: Misbehaviour | None,
    ) -> None:
        self.id = id
        self.requests = requests
        self.misbehaviour = misbehaviour
        self.created_at = datetime.now(UTC)
        self.cancel_initiated_at: datetime | None = None
        self.ended_at: datetime | None = None
        self._outcomes: dict[str, Outcome] = {}
        self._polls_left = polls
        self._clock = clock
        self._ready_at = clock() + seconds

    @property
    def status(self) -> str:
        if self.ended_at is not None:
            return "ended"
        return "in_progress" if self.cancel_initiated_at is None else "canceling"

    def work_on(self, work: Work) -> Iterator[None]:
        """Work through the requests; a caller may rest after each."""
        for place, request in enumerate(self.requests):
            custom_id = request["custom_id"]
            self._outcomes[custom_id] = self._given_up(place) or work(custom_id, request["params"])
            yield

    def _given_up(self, place: int) -> Outcome | None:
        fault = self.misbehaviour.fault if self.misbehaviour else None
        if fault is Fault.BATCH_EXPIRED or (
            fault is Fault.BATCH_EXPIRED_IN_PART and place % 2 == 1
        ):
            return Outcome({"type": "expired"})
        if fault is Fault.BATCH_FAILED:
            error = ApiError(500, "Internal server error")
            return Outcome({"type": "errored", "error": error.body(None)})
        return None

    def observe(self, *, is_poll: bool) -> None:
        """Let time pass: end the batch where it is due.

        Args:
            is_poll: whether somebody asked for this batch by name.
        """
        if self.ended_at is not None or len(self._outcomes) < len(self.requests):
            return
        is_due = self._polls_left <= 0 and self._clock() >= self._ready_at
        if is_due or self.cancel_initiated_at is not None:
            self.ended_at = datetime.now(UTC)
        elif is_poll:
            self._polls_left -= 1

    def cancel(self, share: float, refund: Refund) -> None:
        """Cancel what is not done yet: this share of the requests, picked by their ids."""
        if self.ended_at is not None:
            raise invalid(f"Batch {self.id} cannot be canceled: it has ended.")
        if self.cancel_initiated_at is not None:
            return
        self.cancel_initiated_at = datetime.now(UTC)
        for custom_id, outcome in self._outcomes.items():
            if _fraction(f"cancel:{self.id}:{custom_id}") < share:
                if outcome.usd:
                    refund(outcome.usage, outcome.usd)
                self._outcomes[custom_id] = Outcome({"type": "canceled"})

    def as_json(self, results_url: str) -> dict[str, Any]:
        """The batch as the API shows it; `results_url` only once it has ended."""
        has_ended = self.ended_at is not None
        kinds = Counter(outcome.result["type"] for outcome in self._outcomes.values())
        counts = {kind: kinds[kind] if has_ended else 0 for kind in _OUTCOMES}
        counts["processing"] = 0 if has_ended else len(self.requests)
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.status,
            "request_counts": counts,
            "created_at": _moment(self.created_at),
            "expires_at": _moment(self.created_at + _LIFETIME),
            "ended_at": _moment(self.ended_at),
            "cancel_initiated_at": _moment(self.cancel_initiated_at),
            "archived_at": None,
            "results_url": results_url if has_ended else None,
        }

    def results(self) -> bytes:
        """The results as JSON lines, in no order of the requests.

        Raises:
            ApiError: 404, before it has ended.
        """
        if self.ended_at is None:
            raise ApiError(404, f"Batch {self.id} has no available results: it is {self.status}.")
        lines = [
            json.dumps({"custom_id": custom_id, "result": outcome.result}, ensure_ascii=False)
            for custom_id, outcome in sorted(
                self._outcomes.items(), key=lambda item: _fraction(f"{self.id}:{item[0]}")
            )
        ]
        return "".join(f"{line}\n" for line in lines).encode()


class BatchBook:
    """All batches of one server."""

    def __init__(self) -> None:
        self._batches: dict[str, Batch] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, batch: Batch) -> None:
        self._batches[batch.id] = batch

    def clear(self) -> None:
        self._batches.clear()

    def get(self, batch_id: str) -> Batch:
        """One batch.

        Raises:
            ApiError: 404.
        """
        if batch_id not in self._batches:
            raise ApiError(404, f"Batch {batch_id} not found.")
        return self._batches[batch_id]

    def remove(self, batch_id: str) -> None:
        """Delete a batch that has ended.

        Raises:
            ApiError: 404, or 400 before it has ended.
        """
        if self.get(batch_id).ended_at is None:
            raise invalid(f"Batch {batch_id} cannot be deleted before it has ended.")
        del self._batches[batch_id]

    def page(self, query: Mapping[str, str]) -> tuple[list[Batch], bool]:
        """A page of the batches, newest first, and whether there are more in its direction.

        Args:
            query: with `limit`, and `after_id` or `before_id`, as the API takes them.

        Raises:
            ApiError: 400.
        """
        unknown = set(query) - {"limit", "after_id", "before_id"}
        if unknown:
            raise invalid(f"{min(unknown)}: Extra inputs are not permitted")
        if "after_id" in query and "before_id" in query:
            raise invalid("after_id: may not be given together with before_id")
        limit = query.get("limit", str(LIST_LIMIT_DEFAULT))
        if not limit.isdigit() or not 1 <= int(limit) <= LIST_LIMIT_MAX:
            raise invalid(f"limit: Input should be between 1 and {LIST_LIMIT_MAX}")
        size = int(limit)
        newest_first = list(reversed(self._batches.values()))
        ids = [batch.id for batch in newest_first]
        for cursor in ("after_id", "before_id"):
            if cursor in query and query[cursor] not in ids:
                raise invalid(f"{cursor}: {query[cursor]} is no batch of this workspace")
        if "before_id" in query:
            end = ids.index(query["before_id"])
            start = max(0, end - size)
            return newest_first[start:end], start > 0
        start = ids.index(query["after_id"]) + 1 if "after_id" in query else 0
        return newest_first[start : start + size], start + size < len(ids)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
