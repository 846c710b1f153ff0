"""Moments and windows on whole microseconds.

Here belongs what turns an `as_of` into the bounds that signals are counted between. No clock is
read: `as_of` is always given.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import narwhals as nw

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

DAY_MICROSECONDS = timedelta(days=1) // _MICROSECOND
WINDOW_DAYS = 90


def microseconds(moment: datetime) -> int:
    """Whole microseconds from 1970-01-01T00:00:00Z to `moment`.

    Raises:
        ValueError: `moment` has no time zone, so that it names no instant.
    """
    if moment.utcoffset() is None:
        raise ValueError(f"as_of must have a time zone, and {moment.isoformat()} has none")
    # Through float seconds (`timestamp()`) a microsecond can be lost.
    return (moment - _EPOCH) // _MICROSECOND


@dataclass(frozen=True)
class Horizon:
    """`as_of` in microseconds, and the conditions on an Int64 instant that follow from it.

    A null instant meets none of them. The windows end at `as_of`, and look only at their start:
    they are for instants that are already known not to be later.
    """

    as_of: int

    @classmethod
    def at(cls, as_of: datetime) -> "Horizon":
        """The horizon of an aware `as_of`. Raises `ValueError` where it is naive."""
        return cls(microseconds(as_of))

    def knows(self, instant: nw.Expr) -> nw.Expr:
        """It is no later than `as_of`."""
        return instant <= self.as_of

    def in_90d(self, instant: nw.Expr) -> nw.Expr:
        """A known instant is in `(as_of - 90 d, as_of]`."""
        return instant > self._start(1)

    def in_prev_90d(self, instant: nw.Expr) -> nw.Expr:
        """It is in `(as_of - 180 d, as_of - 90 d]`."""
        return (instant > self._start(2)) & (instant <= self._start(1))

    def days_since(self, instant: nw.Expr) -> nw.Expr:
        """Whole days from it to `as_of`, floored; null where it is null."""
        return (self.as_of - instant) // DAY_MICROSECONDS

    def _start(self, windows: int) -> int:
        return self.as_of - windows * WINDOW_DAYS * DAY_MICROSECONDS
