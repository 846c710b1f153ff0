"""How fast a model is asked: the API's limits are used and kept, by all organisations together.

Rates are measured after the opening burst that the server's full buckets allow.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from engagement_pipeline.scoring.anthropic import retries
from engagement_pipeline.scoring.anthropic.limits import RateLimiter
from engagement_pipeline.scoring.anthropic.session import Pace
from tests.anthropic_api import AnthropicApi, Fault
from tests.integration.asked_model import Asked, ask_model, levels_by_policy, org_of

CAPACITY_SECONDS = 2.0

# What one call about one profile takes of each limit, about; the test measures it.
INPUT_TOKENS, OUTPUT_TOKENS = 880, 98

# What a run begins with is not what the server allows, on either side.
PACE = Pace(6_000, 2_000_000, 200_000, calls_in_flight=16, profiles_per_call=1)


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as api:
        yield api


@pytest.fixture
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(retries, "RETRY_AFTER_MAX_SECONDS", 0.1)


@dataclass(frozen=True)
class Ran:
    """How a run against one limit went."""

    api: AnthropicApi
    seconds: float

    @property
    def used_a_second(self) -> dict[str, float]:
        usage = self.api.totals.usage
        used = {
            "rpm": self.api.totals.billed_calls,
            "itpm": usage.input + usage.cache_creation,
            "otpm": usage.output,
        }
        return {name: amount / self.seconds for name, amount in used.items()}


def run_against(limit: str, calls_a_second: float, calls: int, pace: Pace = PACE) -> Ran:
    """Ask so much of a server with one limit, five organisations at a time; all is answered."""
    a_call = {"rpm": 1, "itpm": INPUT_TOKENS, "otpm": OUTPUT_TOKENS}[limit]
    options: dict[str, Any] = {limit: calls_a_second * 60 * a_call}
    orgs = [org_of(n, calls // 5) for n in range(5)]
    with AnthropicApi(capacity_seconds=CAPACITY_SECONDS, latency_seconds=0.02, **options) as api:
        started = time.monotonic()
        asked = ask_model(orgs, api, pace=pace)
        seconds = time.monotonic() - started
        assert asked.ledger.levels == levels_by_policy(orgs)
        assert len(asked.ledger.answers) == calls
        assert (asked.outcome.failed, asked.outcome.unanswered) == ({}, {})
        assert api.totals.in_flight_max <= pace.calls_in_flight
        return Ran(api, seconds)


@pytest.mark.parametrize("limit", ["rpm", "itpm", "otpm"])
def test_a_limit_is_used_to_nine_tenths_and_nothing_is_lost(limit: str) -> None:
    calls_a_second, calls = 25.0, 200
    ran = run_against(limit, calls_a_second, calls)
    a_call = {"rpm": 1, "itpm": INPUT_TOKENS, "otpm": OUTPUT_TOKENS}[limit]
    used = ran.used_a_second[limit] * ran.seconds
    sustained = (used - CAPACITY_SECONDS * calls_a_second * a_call) / ran.seconds
    assert sustained >= 0.9 * calls_a_second * a_call
    # It is the limit that binds.
    assert sustained <= 1.02 * calls_a_second * a_call
    assert ran.api.totals.refused_by_limits <= 10


def test_half_a_share_uses_half_of_the_limit() -> None:
    calls_a_second, calls = 40.0, 120
    pace = replace(PACE, requests_per_minute=600, share=0.5)
    ran = run_against("rpm", calls_a_second, calls, pace)
    # A run opens with five seconds' worth of its own share of what it was given.
    sustained = (calls - 5 * 600 / 60 * 0.5) / ran.seconds
    assert 0.9 <= sustained / (calls_a_second / 2) <= 1.05
    assert ran.api.totals.refused_by_limits == 0


def test_calls_at_a_time_are_never_more_than_allowed() -> None:
    with AnthropicApi(latency_seconds=0.05) as api:
        ask_model([org_of(n, 30) for n in range(10)], api, workers=5, per_call=3)
        assert api.totals.in_flight_max == 5


def test_a_run_begins_at_the_pace_it_was_given() -> None:
    # The server has no limit to speak of; its headers come with the first answer.
    with AnthropicApi(rpm=1e6, latency_seconds=0.3) as api:
        orgs = [org_of(n, 4) for n in range(10)]
        ask_model(orgs, api, pace=Pace(60, 1e9, 1e9, calls_in_flight=8, profiles_per_call=1))
        # Five seconds' worth of 60 a minute go at once.
        assert 1 <= api.totals.in_flight_max <= 8
        assert len(api.messages) == 40


# Too fast, too much


@pytest.mark.parametrize(
    ("fault", "seconds", "expected"),
    [
        (Fault.RATE_LIMITED, 1, 1.0),
        (Fault.RATE_LIMITED_FLOAT, 0.6, 0.6),
        (Fault.RATE_LIMITED_DATE, 2, 1.0),
        (Fault.RATE_LIMITED_BARE, None, 0.0),
    ],
    ids=str,
)
@pytest.mark.usefixtures("_short_waits")
def test_a_429_is_waited_out_by_all_workers(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, seconds: float | None, expected: float
) -> None:
    monkeypatch.setattr(retries, "RETRY_AFTER_MAX_SECONDS", 120.0)
    moments: list[float] = []

    def note(_: object) -> bool:
        moments.append(time.monotonic())
        return False

    with AnthropicApi(latency_seconds=0.05) as api:
        api.misbehave(Fault.SLOW_ANSWER, when=note)  # meets no request, and sees them all
        api.misbehave(fault, when=lambda _: len(moments) == 6, retry_after=seconds)
        orgs = [org_of(n, 10) for n in range(20)]
        asked = ask_model(orgs, api, workers=4)
        assert asked.ledger.levels == levels_by_policy(orgs)
        assert len(api.messages) == len(moments) == 21
    refused = moments[5]
    # Those that were on their way may still arrive; then nobody, until the time is over.
    assert [at for at in moments if refused + 0.1 < at < refused + expected - 0.05] == []
    assert sum(at > refused + expected - 0.05 for at in moments) >= 21 - 6 - 4


@pytest.mark.usefixtures("_short_waits")
def test_an_absurd_retry_after_is_capped_at_two_minutes(
    monkeypatch: pytest.MonkeyPatch, api: AnthropicApi
) -> None:
    monkeypatch.setattr(retries, "RETRY_AFTER_MAX_SECONDS", 120.0)
    pauses: list[float] = []
    monkeypatch.setattr(RateLimiter, "pause", lambda _, seconds: pauses.append(seconds))
    api.misbehave(Fault.RATE_LIMITED_ABSURD)
    ask_model([org_of(1, 10)], api)
    assert pauses == [120.0]


@pytest.mark.usefixtures("_short_waits")
def test_a_retry_after_that_comes_with_another_failure_is_kept_too(api: AnthropicApi) -> None:
    api.misbehave(Fault.SERVICE_UNAVAILABLE, retry_after=0.09)
    asked = ask_model([org_of(1, 10)], api)
    first, second = asked.ledger.calls.values()
    assert (second["started_at"] - first["ended_at"]).total_seconds() >= 0.08


@pytest.mark.usefixtures("_short_waits")
def test_an_overloaded_api_sees_half_the_calls_at_a_time() -> None:
    with AnthropicApi(latency_seconds=0.05) as api:
        api.misbehave(Fault.OVERLOADED, times=3)
        asked = ask_model([org_of(n, 10) for n in range(60)], api, workers=16)
        assert len(asked.ledger.answers) == 600
        at_once = in_flight(asked)
    # Three times half of sixteen, and one more for each round since.
    assert max(at_once[16:32]) <= 9


def in_flight(asked: Asked) -> list[int]:
    """For each call that was answered, in order, how many were out when it had begun."""
    rows = [row for row in asked.ledger.calls.values() if row["outcome"] == "answered"]
    spans = [
        (row["ended_at"] - timedelta(seconds=row["latency_seconds"]), row["ended_at"])
        for row in rows
    ]
    return [sum(begun <= at < ended for begun, ended in spans) for at, _ in sorted(spans)]
