"""How often a member may be written to, looking at all the other messages to the same member.

Here belong the caps. Which messages count, and when, is told by who reads them: all engines share
one ledger of messages.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from engagement_pipeline.outreach.policy import Policy

DAY = timedelta(hours=24)
"""What `daily_cap` counts in: any 24 hours, wherever they begin."""

_NO_TIME = timedelta(0)


def refusal(times: Iterable[datetime], at: datetime, policy: Policy) -> str | None:
    """Why a member may not be written to at a moment, going by the other messages.

    Before and after count alike, so that a message may be planned between others. What is just at
    a bound is allowed.

    Args:
        times: when the member's other messages went, go or are to go; in any order.
        at: the moment, like them with a time zone, and of the same one.
        policy: the caps.

    Returns:
        The first of these, or None where the message may go: `recently_messaged` (another one less
        than `message_frequency_hours` away), `too_soon_after_last` (less than `min_gap_hours`
        away), `daily_cap` (with this one, some 24 hours would have more than `daily_cap`).

    Raises:
        TypeError: some moments have a time zone and others have none.
    """
    apart = [time - at for time in times]
    if apart:
        nearest = min(map(abs, apart))
        if nearest < policy.message_frequency:
            return "recently_messaged"
        if nearest < policy.min_gap:
            return "too_soon_after_last"
    return None if _fits_the_daily_cap(apart, policy.daily_cap) else "daily_cap"


def _fits_the_daily_cap(apart: list[timedelta], daily_cap: int) -> bool:
    """Whether no 24 hours with this message in them have more than so many of all."""
    if len(apart) < daily_cap:
        return True
    # Half-open days: two messages just 24 hours apart are never in the same one. All that lie in
    # one with this message lie within a day of it, and the fullest begins with a message.
    near = sorted([span for span in apart if -DAY < span < DAY] + [_NO_TIME])
    return all(
        last - first >= DAY or not first <= _NO_TIME <= last
        for first, last in zip(near, near[daily_cap:], strict=False)
    )
