"""Telling people how far long work is: in the run's log, and to whoever listens in the process."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from dagster import DagsterLogManager

Listener = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_LISTENER: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)
LOG_EVERY_SECONDS = 5.0


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """While this holds, `listener` hears all progress of this process."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@dataclass
class Progress:
    """Progress of one piece of work: done, total, rate and what remains."""

    log: DagsterLogManager
    work: str
    total: int
    unit: str
    done: int = 0
    _started: float = field(default_factory=time.monotonic)
    _logged: float = field(default_factory=time.monotonic)

    def advance(self, by: int) -> None:
        """Count `by` more as done; logs every few seconds and at the end."""
        self.done += by
        listener = _LISTENER.get()
        if listener is not None:
            listener(self.work, self.done, self.total)
        now = time.monotonic()
        if now - self._logged < LOG_EVERY_SECONDS and self.done < self.total:
            return
        self._logged = now
        rate = self.done / max(now - self._started, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        self.log.info(
            f"{self.work}: {self.done:,} of {self.total:,} {self.unit}, "
            f"{rate:,.0f} a second, about {left:,.0f} s remaining"
        )
