"""What the server has seen and billed: a record of each request, and totals.

Nothing here decides anything.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .faults import Fault, Place
from .models import Usage


@dataclass
class RequestRecord:
    """One request; a request within a batch has a record of its own.

    Attributes:
        number: counted from 1, in order of arrival.
        place: where it arrived; None where the path is none of the API's.
        method, path: as sent, the path with its query.
        headers: by name in lower case.
        body: its JSON; None without one.
        status: answered; None where no answer was sent, or none yet.
        fault: what was made to go wrong.
        org_name, profiles, texts: what a message asked.
        usage, usd: of the work done, as billed.
        custom_id: of a request within a batch.
        is_foreign: whether it arrived at the other origin, where no key belongs.
    """

    number: int
    place: Place | None
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any = None
    status: int | None = None
    fault: Fault | None = None
    org_name: str | None = None
    profiles: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    usd: float = 0.0
    custom_id: str | None = None
    is_foreign: bool = False

    @property
    def request_id(self) -> str:
        return f"req_{self.number:024d}"


@dataclass
class Totals:
    """Sums over all requests since the start or the last reset.

    Attributes:
        calls: requests that arrived, by place.
        statuses: of all answers.
        refused_by_limits: 429s for want of room in a bucket; scripted ones are not among them.
        faults: met, by kind.
        billed_calls: messages and batch requests billed.
        billed_usd: of all work done, batches at half price.
        in_flight, in_flight_max: messages being worked on, now and at most.
    """

    calls: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    refused_by_limits: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    billed_calls: int = 0
    billed_usd: float = 0.0
    usage: Usage = field(default_factory=Usage)
    in_flight: int = 0
    in_flight_max: int = 0

    def bill(self, usage: Usage, usd: float) -> None:
        """Add the work of one answer."""
        self._add(usage, usd, 1)

    def refund(self, usage: Usage, usd: float) -> None:
        """Take back a batch request that was canceled before it was worked on."""
        self._add(usage, usd, -1)

    def _add(self, usage: Usage, usd: float, sign: int) -> None:
        self.billed_calls += sign
        self.billed_usd += sign * usd
        self.usage = Usage(
            input=self.usage.input + sign * usage.input,
            output=self.usage.output + sign * usage.output,
            cache_creation=self.usage.cache_creation + sign * usage.cache_creation,
            cache_read=self.usage.cache_read + sign * usage.cache_read,
            thinking=self.usage.thinking + sign * usage.thinking,
        )

    def as_json(self) -> dict[str, Any]:
        """The totals as `GET /_stats` gives them."""
        return {
            "calls": dict(self.calls),
            "messages": self.calls[Place.MESSAGES],
            "statuses": {str(status): n for status, n in self.statuses.items()},
            "refused_by_limits": self.refused_by_limits,
            "faults": dict(self.faults),
            "billed_calls": self.billed_calls,
            "billed_usd": self.billed_usd,
            "tokens": {
                "input": self.usage.input,
                "output": self.usage.output,
                "cache_creation": self.usage.cache_creation,
                "cache_read": self.usage.cache_read,
                "thinking": self.usage.thinking,
            },
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
        }
