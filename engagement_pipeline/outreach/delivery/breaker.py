"""When a channel is given a rest: the circuit breaker (M. Nygard, Release It!, 2007).

Only its states belong here. Where they are kept, and what a run does about them, belongs elsewhere.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

FAILURES = 5
"""Failures in a row that open it."""

OPEN_FOR = timedelta(seconds=60)
"""How long nothing is tried then."""

FAILING = frozenset({"server_error", "timed_out", "connection_lost"})
"""Outcomes that tell of a receiver in trouble."""

WORKING = frozenset({"accepted", "refused", "gone"})
"""Outcomes that tell of one at work. A 429, or a wrong address, tells neither way."""

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True)
class Breaker:
    """How a channel fares.

    Attributes:
        failures_in_a_row: attempts that failed since it last worked.
        opened_at: since when it is open; None: it is closed.
    """

    failures_in_a_row: int = 0
    opened_at: datetime | None = None

    def state(self, now: datetime) -> State:
        """Whether messages may go (`closed`), none may (`open`), or one may on trial."""
        if self.opened_at is None:
            return "closed"
        # What was opened later than now, by a run for a later moment, tells nothing of now.
        is_open = timedelta(0) <= now - self.opened_at < OPEN_FOR
        return "open" if is_open else "half_open"

    def after(self, outcome: str, at: datetime) -> "Breaker":
        """What it is after an attempt.

        Success closes it. The fifth failure in a row opens it, and so does any while it is open:
        that was the trial.

        Args:
            outcome: of the attempt.
            at: when that was known.
        """
        if outcome in WORKING:
            return Breaker()
        if outcome not in FAILING:
            return self
        failures = self.failures_in_a_row + 1
        opens = self.opened_at is not None or failures >= FAILURES
        return replace(self, failures_in_a_row=failures, opened_at=at if opens else None)
