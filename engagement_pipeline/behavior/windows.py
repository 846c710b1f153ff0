"""Windows before a moment, as Polars conditions on instants, and who is a member at one.

What is counted in them belongs to the modules that ask. The windows that the signals are counted
in are in `signals.windows`, for frames of any engine.
"""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engagement_pipeline.signals.activity import PAIR
from engagement_pipeline.signals.windows import DAY_MICROSECONDS, microseconds

_DAYS_PER_MICROSECOND = 1 / DAY_MICROSECONDS


@dataclass(frozen=True)
class Windows:
    """Conditions on Int64 microseconds by how long before `as_of` they are."""

    as_of: int

    @classmethod
    def at(cls, as_of: datetime) -> "Windows":
        """The windows before an aware `as_of`. Raises `ValueError` where it is naive."""
        return cls(microseconds(as_of))

    @property
    def day(self) -> int:
        """The number of the UTC day."""
        return self.as_of // DAY_MICROSECONDS

    def start(self, days: int) -> int:
        """Where the window of the last `days` days begins, itself outside."""
        return self.as_of - days * DAY_MICROSECONDS

    def within(self, at: str, days: int, *, until: int = 0) -> pl.Expr:
        """The instant `at` is in `(as_of - days, as_of - until]`."""
        return (pl.col(at) > self.start(days)) & (pl.col(at) <= self.start(until))

    def days_since(self, at: str) -> pl.Expr:
        """Days from the instant `at`, with fractions; null where it is null."""
        since = self.as_of - pl.col(at)
        # Polars divides a column by a constant in another way where it has one row, and how rows
        # are cut up differs from run to run. So nothing is divided by a constant here.
        return since // DAY_MICROSECONDS + since % DAY_MICROSECONDS * _DAYS_PER_MICROSECOND


def current_members(memberships: pl.LazyFrame, windows: Windows) -> pl.DataFrame:
    """Who is a member at the moment.

    Where stays overlap, the person is one member, since the first of them.

    Args:
        memberships: as in `BehaviorSources`.
        windows: before the moment.

    Returns:
        `member` (UInt32, from 0), `org_id`, `user_id`, `joined_at` (microseconds), sorted by
        `org_id, user_id`. To group ten million rows by the number takes a fraction of what two
        texts take.
    """
    left_at = pl.col("left_at")
    return (
        memberships.filter(
            pl.col("joined_at") <= windows.as_of, left_at.is_null() | (left_at > windows.as_of)
        )
        .group_by(PAIR)
        .agg(pl.col("joined_at").min())
        .sort(PAIR)
        .with_row_index("member")
        .collect()
    )
