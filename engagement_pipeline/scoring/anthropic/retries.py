"""How long to wait before a failed call is tried again."""

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRY_AFTER_MAX_SECONDS = 120.0
_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0


def backoff_seconds(attempt: int, chance: random.Random) -> float:
    """Twice as long after each attempt, up to half a minute, less up to half of it by chance.

    Args:
        attempt: how many attempts have failed, from 1.
        chance: where the jitter comes from: without it, workers that failed together would come
            back together.
    """
    longest = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(attempt - 1, 16))
    return longest * chance.uniform(0.5, 1.0)


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """What the API asked to wait, at most two minutes; None where it said nothing sensible.

    Understands seconds, whole or not, and an HTTP date (RFC 9110, 10.2.3).
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
            seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
        except (ValueError, OverflowError):
            # The latter: a year, or a distance from UTC, of more digits than there is room for.
            return None
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)
