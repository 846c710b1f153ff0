"""Waiting before another try: what the API asks for, within reason, and chance otherwise."""

import random
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engagement_pipeline.scoring.anthropic.retries import (
    RETRY_AFTER_MAX_SECONDS,
    backoff_seconds,
    retry_after_seconds,
)

NOW = datetime(2026, 5, 20, 4, tzinfo=UTC)


_LIKE_A_DATE = r"\A\w{3}, \d{1,25} \w{3} \d{1,25} [\d:]{1,9} [-+\d]{1,25}\Z"


def asked(text: str) -> float | None:
    return retry_after_seconds({"retry-after": text}, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.25", 0.25),
        ("0", 0.0),
        ("-3", 0.0),
        ("120", 120.0),
        ("121", 120.0),
        ("86400", 120.0),
        ("Wed, 20 May 2026 04:00:09 GMT", 9.0),
        ("Wed, 20 May 2026 06:00:09 +0200", 9.0),
        ("Wed, 20 May 2026 04:00:09 -0000", 9.0),
        ("Wed, 20 May 2026 03:59:00 GMT", 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 120.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("Wed, 99 May 2026 04:00:09 GMT", None),
        ("Wed, 20 May 99999999999999999999 04:00:09 GMT", None),
    ],
)
def test_seconds_and_dates_are_understood_and_capped(text: str, seconds: float | None) -> None:
    assert asked(text) == seconds


def test_no_header_asks_for_nothing() -> None:
    assert retry_after_seconds({}, NOW) is None


@given(
    st.text(max_size=40)
    | st.from_regex(r"\A\w{3}, \d{1,25} \w{3} \d{1,25} [\d:]{1,9} [-+\d]{1,25}\Z")
)
@example("Wed, 20 May 2026 04:00:09 +9999999999")
@example("Wed, 20 May 2026 04:00:09 +9959")
@example("Sat, 01 Jan 0001 00:00:00 +2300")
def test_whatever_is_asked_is_nothing_or_at_most_two_minutes(text: str) -> None:
    found = asked(text)
    assert found is None or 0 <= found <= RETRY_AFTER_MAX_SECONDS == 120


@given(st.integers(0, 10**6), st.integers(-12, 12))
def test_a_date_means_the_time_until_it_wherever_it_was_written(seconds: int, hours: int) -> None:
    moment = (NOW + timedelta(seconds=seconds)).astimezone(timezone(timedelta(hours=hours)))
    assert asked(format_datetime(moment)) == min(seconds, 120)


@given(st.integers(1, 100), st.integers())
def test_backoff_doubles_up_to_half_a_minute_with_half_of_it_by_chance(
    attempt: int, seed: int
) -> None:
    longest = min(30.0, 0.5 * 2 ** (attempt - 1))
    assert longest / 2 <= backoff_seconds(attempt, random.Random(seed)) <= longest


def test_workers_that_failed_together_do_not_come_back_together() -> None:
    chance = random.Random(1)
    waits = {round(backoff_seconds(3, chance), 2) for _ in range(50)}
    assert len(waits) > 25
