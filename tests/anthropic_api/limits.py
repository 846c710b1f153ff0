"""Rate limits: three token buckets that refill continuously, and the headers that tell of them.

After the API's documentation: "token bucket algorithm, capacity continuously replenished".
The clock is the caller's. What a request counts belongs to `service`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

_ROUNDED_FROM = 100_000


class Bucket:
    """One token bucket; it may go below empty, as answers are counted when they are made.

    Args:
        per_minute: refill.
        capacity_seconds: of refill that the full bucket holds.
        clock: seconds, monotonic.
    """

    def __init__(
        self, per_minute: float, capacity_seconds: float, clock: Callable[[], float]
    ) -> None:
        self.per_minute = per_minute
        self.capacity = per_minute * capacity_seconds / 60
        self._clock = clock
        self._level = self.capacity
        self._at = clock()

    @property
    def level(self) -> float:
        """What may be taken now; negative after an answer that was longer than what was left."""
        now = self._clock()
        self._level = min(self.capacity, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        return self._level

    def take(self, amount: float) -> None:
        """Take an amount, whether it is there or not."""
        self._level = self.level - amount

    def seconds_until(self, amount: float) -> float:
        """Seconds until the bucket holds an amount; more than it can hold takes a full refill."""
        missing = min(amount, self.capacity) - self.level
        if amount > self.capacity:
            missing = max(missing, self.capacity)
        return max(0.0, missing / self.per_minute * 60)

    def holds(self, amount: float) -> bool:
        """Whether an amount fits now; the slack is for the rounding of seconds."""
        return self.level >= amount - 1e-6


@dataclass
class RateLimits:
    """The limits of one organisation: requests, input tokens and output tokens."""

    requests: Bucket
    input_tokens: Bucket
    output_tokens: Bucket

    def refusal(self, input_tokens: int) -> tuple[str, int] | None:
        """Which limit a request would break, and in how many whole seconds it would fit.

        A request that fits is counted, with its input; one that does not leaves no trace.
        """
        wanted = (
            ("requests", self.requests, 1.0),
            ("input tokens", self.input_tokens, float(input_tokens)),
            ("output tokens", self.output_tokens, 1.0),
        )
        over = [
            (name, bucket.seconds_until(n)) for name, bucket, n in wanted if not bucket.holds(n)
        ]
        if over:
            name, seconds = max(over, key=lambda found: found[1])
            return name, max(1, ceil(seconds))
        self.requests.take(1)
        self.input_tokens.take(input_tokens)
        return None

    def headers(self) -> dict[str, str]:
        """`anthropic-ratelimit-*`; tokens left are rounded to thousands where limits are large.

        The API rounds always; small limits exist only in tests, where it would hide them.
        """
        now = datetime.now(UTC)
        headers = {}
        for name, bucket in (
            ("requests", self.requests),
            ("input-tokens", self.input_tokens),
            ("output-tokens", self.output_tokens),
        ):
            left = max(0, int(bucket.level))
            if bucket.per_minute >= _ROUNDED_FROM and name != "requests":
                left = round(left, -3)
            full_at = now + timedelta(seconds=ceil(bucket.seconds_until(bucket.capacity)))
            prefix = f"anthropic-ratelimit-{name}"
            headers[f"{prefix}-limit"] = str(int(bucket.per_minute))
            headers[f"{prefix}-remaining"] = str(left)
            headers[f"{prefix}-reset"] = full_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        return headers
