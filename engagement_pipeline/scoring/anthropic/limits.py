"""Keeping within the API's limits: how much may be sent now, and how many calls at a time.

Three token buckets (requests, input and output tokens a minute) that the answers' headers correct,
one pause that all workers share, and a number of calls in flight that falls when the API is
overloaded. One `RateLimiter` serves a whole run, whatever the organisation. What is sent, and
whether a failed call is tried again, is decided in `sending`.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_OPENING_SECONDS = 5.0
"""How much of a minute's allowance a run starts with: it may have been used up by others, and the
first answer's headers tell."""

_ROUNDED_TO = 1_000
"""What the API rounds the tokens left to; requests it counts one by one."""

_HEADER = "anthropic-ratelimit-{}-{}"


@dataclass(frozen=True)
class Need:
    """What one call takes of each bucket."""

    input_tokens: float
    output_tokens: float
    requests: float = 1.0


class Bucket:
    """A token bucket that fills all the time: `limit` a minute, and never more than that in it.

    After https://en.wikipedia.org/wiki/Token_bucket; the API describes its own limits so.
    """

    def __init__(self, limit: float, now: float) -> None:
        self.limit = limit
        self.level = limit * _OPENING_SECONDS / 60
        self._filled_at = now

    def fill(self, now: float) -> None:
        self.level = min(self.limit, self.level + (now - self._filled_at) * self.limit / 60)
        self._filled_at = now

    def seconds_until(self, amount: float) -> float:
        """How long until so much may be taken; what exceeds the bucket waits for a full one."""
        missing = min(amount, self.limit) - self.level
        return max(0.0, missing / self.limit * 60)

    def correct(self, limit: float | None, left: float | None) -> None:
        """Believe the API rather than ourselves."""
        if limit:
            self.limit = limit
        if left is not None:
            self.level = min(self.limit, left)


@dataclass
class RateLimiter:
    """Lets calls through, in the order they came.

    Attributes:
        requests, input_tokens, output_tokens: what a minute may take, until headers say better.
        share: the part of the API's limits that is ours to use, in (0, 1].
        max_in_flight: calls at a time at most.
        clock: seconds that only go forward.
    """

    requests: float
    input_tokens: float
    output_tokens: float
    share: float = 1.0
    max_in_flight: int = 16
    clock: Callable[[], float] = field(default=lambda: asyncio.get_running_loop().time())

    def __post_init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._turn = asyncio.Lock()
        self._freed = asyncio.Condition()
        self._news = asyncio.Event()
        self._over = asyncio.Event()
        self._paused_until = -math.inf
        self._in_flight: dict[int, Need] = {}
        self._serial = 0
        self._allowed = float(self.max_in_flight)

    @asynccontextmanager
    async def turn(self, need: Need) -> AsyncIterator[int]:
        """Wait until a call may be made, and hold its place while it is in flight.

        Gives the place's number, for `settle`. After `end` nobody waits.
        """
        async with self._turn:
            # One at a time, so that nobody overtakes, and a large call is not starved by small.
            async with self._freed:
                await self._freed.wait_for(lambda: len(self._in_flight) < int(self._allowed))
            while (wait := self._seconds_to_wait(need)) > 0 and not self._over.is_set():
                # An answer may tell that there is room already.
                self._news.clear()
                await _set_or_late(self._news, wait)
            for name, amount in _amounts(need).items():
                self._buckets[name].level -= amount
            self._serial += 1
            place = self._serial
            self._in_flight[place] = need
        try:
            yield place
        finally:
            self._in_flight.pop(place, None)
            async with self._freed:
                self._freed.notify_all()

    def settle(self, place: int, headers: Mapping[str, str], used: Need | None) -> None:
        """Take account of an answer: what it used, and what the API says is left.

        Args:
            place: as `turn` gave it.
            headers: of the answer.
            used: what it counted for; None where nobody knows.
        """
        self._fill()
        need = self._in_flight.get(place)
        if need is not None:
            # The place itself is free only when its answer has been seen to.
            self._in_flight[place] = Need(0, 0, 0)
        if need is not None and used is not None:
            for name, amount in _amounts(need).items():
                self._buckets[name].level += amount - _amounts(used)[name]
        for name, bucket in self._buckets.items():
            limit = _number(headers, _HEADER.format(name, "limit"))
            left = _number(headers, _HEADER.format(name, "remaining"))
            if left is not None:
                if name != "requests" and left % _ROUNDED_TO == 0:
                    # Rounded to the nearest: as much as half of it may not be there.
                    left = max(0.0, left - _ROUNDED_TO / 2)
                # Calls in flight may not have reached the API when it counted.
                left = left * self.share - sum(
                    _amounts(other)[name] for other in self._in_flight.values()
                )
                if self.share < 1:
                    # The rest is for others: that it is still there makes none of it ours.
                    left = min(left, bucket.level)
            bucket.correct(limit and limit * self.share, left)
        self._news.set()

    def pause(self, seconds: float) -> None:
        """Let nobody through for so long."""
        self._paused_until = max(self._paused_until, self.clock() + seconds)

    def end(self) -> None:
        """Let everybody through at once: whoever waits is to learn that the run is over."""
        self._over.set()
        self._news.set()

    async def rest(self, seconds: float) -> None:
        """Wait so long, or until `end`."""
        await _set_or_late(self._over, seconds)

    def overloaded(self) -> None:
        """Have half as many calls in flight from now on."""
        self._allowed = max(1.0, self._allowed / 2)

    def went_well(self) -> None:
        """Have a little more in flight again, one more for each round of calls."""
        self._allowed = min(float(self.max_in_flight), self._allowed + 1 / self._allowed)

    @property
    def in_flight_allowed(self) -> int:
        return int(self._allowed)

    def _seconds_to_wait(self, need: Need) -> float:
        now = self._fill()
        waits = [
            self._buckets[name].seconds_until(amount) for name, amount in _amounts(need).items()
        ]
        return max(self._paused_until - now, *waits)

    def _fill(self) -> float:
        now = self.clock()
        if not self._buckets:
            limits = Need(self.input_tokens, self.output_tokens, self.requests)
            self._buckets = {
                name: Bucket(limit * self.share, now) for name, limit in _amounts(limits).items()
            }
        for bucket in self._buckets.values():
            bucket.fill(now)
        return now


async def _set_or_late(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _amounts(need: Need) -> dict[str, float]:
    return {
        "requests": need.requests,
        "input-tokens": need.input_tokens,
        "output-tokens": need.output_tokens,
    }


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        found = float(headers.get(name, ""))
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None
