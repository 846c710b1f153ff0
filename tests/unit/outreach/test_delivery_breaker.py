"""The circuit breaker, against what its whole history says in plain words."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.outreach.delivery.breaker import FAILURES, OPEN_FOR, Breaker

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_TROUBLE = ("server_error", "timed_out", "connection_lost")
_AT_WORK = ("accepted", "refused", "gone")
_SECOND = timedelta(seconds=1)


def after(*outcomes: str) -> Breaker:
    """A breaker that has seen these, a second apart."""
    breaker = Breaker()
    for second, outcome in enumerate(outcomes):
        breaker = breaker.after(outcome, NOW + second * _SECOND)
    return breaker


@pytest.mark.parametrize("trouble", _TROUBLE)
def test_the_fifth_failure_in_a_row_opens_it(trouble: str) -> None:
    assert after(*[trouble] * 4) == Breaker(4, None)
    assert after(*[trouble] * 5) == Breaker(5, NOW + 4 * _SECOND)


@pytest.mark.parametrize("outcome", _AT_WORK)
def test_a_receiver_at_work_ends_the_row(outcome: str) -> None:
    assert after(*["timed_out"] * 4, outcome) == Breaker()
    assert after(*["timed_out"] * 4, outcome, *["timed_out"] * 4).opened_at is None


@pytest.mark.parametrize("outcome", ["rate_limited", "misconfigured"])
def test_what_tells_neither_way_changes_nothing(outcome: str) -> None:
    assert after(*["timed_out"] * 4, outcome) == after(*["timed_out"] * 4)
    assert after(*[outcome] * 9) == Breaker()


def test_it_is_open_for_a_minute_and_then_on_trial() -> None:
    opened = Breaker(5, NOW)
    assert opened.state(NOW) == "open"
    assert opened.state(NOW + OPEN_FOR - timedelta(microseconds=1)) == "open"
    assert opened.state(NOW + OPEN_FOR) == "half_open"
    assert Breaker(4).state(NOW) == "closed"


def test_a_trial_that_fails_opens_it_anew_and_one_that_succeeds_closes_it() -> None:
    later = NOW + 2 * OPEN_FOR
    assert Breaker(5, NOW).after("server_error", later).state(later + OPEN_FOR / 2) == "open"
    assert Breaker(5, NOW).after("accepted", later) == Breaker()


def test_a_breaker_that_was_opened_in_the_future_keeps_nobody_waiting_for_it() -> None:
    assert Breaker(5, NOW).state(NOW - timedelta(days=300)) == "half_open"


@given(
    st.lists(
        st.tuples(st.sampled_from(vocabulary.ATTEMPT_OUTCOMES), st.floats(0, 200, allow_nan=False)),
        max_size=60,
    )
)
def test_any_history_comes_to_what_it_says_as_a_whole(history: list[tuple[str, float]]) -> None:
    breaker, now, seen = Breaker(), NOW, []
    for outcome, pause in history:
        now += timedelta(seconds=pause)
        if breaker.state(now) == "open":
            continue  # nothing is tried
        breaker = breaker.after(outcome, now)
        seen.append((outcome, now))

        works = [number for number, (word, _) in enumerate(seen) if word in _AT_WORK]
        row = [at for word, at in seen[works[-1] + 1 if works else 0 :] if word in _TROUBLE]
        assert breaker.failures_in_a_row == len(row)
        assert breaker.opened_at == (row[-1] if len(row) >= FAILURES else None)
        if len(row) < FAILURES:
            assert breaker.state(now) == "closed"
        else:
            assert breaker.state(row[-1] + OPEN_FOR / 2) == "open"
            assert breaker.state(row[-1] + OPEN_FOR) == "half_open"


def test_every_outcome_has_been_thought_of() -> None:
    assert {*_TROUBLE, *_AT_WORK, "rate_limited", "misconfigured"} == set(
        vocabulary.ATTEMPT_OUTCOMES
    )
