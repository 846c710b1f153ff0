"""Limits: what a minute may take is taken and no more, on a clock that jumps."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.scoring.anthropic.limits import Need, RateLimiter
from tests.unit.scoring.anthropic.virtual_time import run

OPENING_SECONDS = 5.0
SMALL = Need(1.0, 1.0)

LIMITS = st.tuples(st.integers(60, 600), st.integers(1_000, 60_000), st.integers(1_000, 60_000))
NEEDS = st.lists(
    st.tuples(st.integers(1, 1_000), st.integers(1, 1_000)).map(lambda n: Need(*map(float, n))),
    min_size=1,
    max_size=40,
)


async def let_through(
    limiter: RateLimiter, needs: Sequence[Need], seconds: float = 0.0
) -> list[float]:
    """When each of the calls, all there from the start, was let through."""
    loop = asyncio.get_running_loop()
    moments = [0.0] * len(needs)

    async def call(number: int, need: Need) -> None:
        async with limiter.turn(need):
            moments[number] = loop.time()
            await asyncio.sleep(seconds)

    async with asyncio.TaskGroup() as group:
        for number, need in enumerate(needs):
            group.create_task(call(number, need))
    return moments


def by_hand(limits: Sequence[int], needs: Sequence[Need]) -> list[float]:
    """The same, worked out bucket by bucket."""
    levels = [limit * OPENING_SECONDS / 60 for limit in limits]
    now, moments = 0.0, []
    for need in needs:
        amounts = (need.requests, need.input_tokens, need.output_tokens)
        waits = [
            max(0.0, (amount - level) / limit * 60)
            for amount, level, limit in zip(amounts, levels, limits, strict=True)
        ]
        now += max(waits)
        levels = [
            min(limit, level + max(waits) * limit / 60) - amount
            for amount, level, limit in zip(amounts, levels, limits, strict=True)
        ]
        moments.append(now)
    return moments


@given(LIMITS, NEEDS)
@settings(deadline=None)
def test_calls_are_let_through_when_all_three_buckets_allow_and_in_order(
    limits: tuple[int, int, int], needs: list[Need]
) -> None:
    limiter = RateLimiter(*limits, max_in_flight=1_000)
    moments = run(let_through(limiter, needs))
    assert moments == sorted(moments)
    assert moments == pytest.approx(by_hand(limits, needs), abs=1e-4)


@given(LIMITS, NEEDS, st.integers(1, 5), st.floats(0, 3))
@settings(deadline=None)
def test_no_stretch_of_time_takes_more_than_its_part_of_the_limit(
    limits: tuple[int, int, int], needs: list[Need], at_once: int, seconds: float
) -> None:
    moments = run(let_through(RateLimiter(*limits, max_in_flight=at_once), needs, seconds))
    for begin in range(len(needs)):
        for end in range(begin, len(needs)):
            span = moments[end] - moments[begin]
            some = needs[begin : end + 1]
            taken = (
                sum(need.requests for need in some),
                sum(need.input_tokens for need in some),
                sum(need.output_tokens for need in some),
            )
            for limit, amount in zip(limits, taken, strict=True):
                # A bucket that was full, and what has come in since.
                assert amount <= limit * (60 + span) / 60 + 1e-3 * limit


@given(st.integers(1, 20), st.integers(1, 60))
@settings(deadline=None)
def test_never_more_calls_at_a_time_than_allowed(at_once: int, calls: int) -> None:
    limiter = RateLimiter(1e9, 1e9, 1e9, max_in_flight=at_once)
    moments = run(let_through(limiter, [SMALL] * calls, seconds=1.0))
    assert moments == pytest.approx([float(n // at_once) for n in range(calls)], abs=1e-4)


def test_a_large_call_is_not_overtaken_by_small_ones() -> None:
    limiter = RateLimiter(600, 6_000, 600_000)
    large = Need(3_000.0, 1.0)
    moments = run(let_through(limiter, [large, SMALL, SMALL]))
    assert moments[0] == pytest.approx(25.0, abs=0.01)
    assert min(moments[1:]) >= moments[0]


def test_a_call_larger_than_the_limit_waits_for_a_full_bucket_and_goes() -> None:
    limiter = RateLimiter(600, 1_000, 1_000_000)
    moments = run(let_through(limiter, [Need(5_000.0, 1.0)]))
    assert moments[0] == pytest.approx(55.0, abs=0.01)


def test_a_pause_holds_everybody_and_a_shorter_one_does_not_end_it() -> None:
    async def scene() -> list[float]:
        limiter = RateLimiter(1e9, 1e9, 1e9)
        limiter.pause(30)
        limiter.pause(3)
        return await let_through(limiter, [SMALL] * 4)

    assert run(scene()) == pytest.approx([30.0] * 4, abs=0.01)


def test_a_pause_that_comes_while_others_wait_holds_them_too() -> None:
    async def scene() -> list[float]:
        limiter = RateLimiter(60, 1e9, 1e9)

        async def refused() -> None:
            await asyncio.sleep(2.5)
            limiter.pause(20)

        pause = asyncio.create_task(refused())
        moments = await let_through(limiter, [SMALL] * 8)
        await pause
        return moments

    # Five at once, two more at a second each, and then nobody until the pause is over.
    assert run(scene()) == pytest.approx([0, 0, 0, 0, 0, 1, 2, 22.5], abs=0.01)


def test_the_end_lets_everybody_through_at_once() -> None:
    async def scene() -> tuple[list[float], float]:
        limiter = RateLimiter(60, 1e9, 1e9)
        limiter.pause(120)

        async def end() -> None:
            await asyncio.sleep(2)
            limiter.end()

        ending = asyncio.create_task(end())
        resting = asyncio.create_task(limiter.rest(100))
        moments = await let_through(limiter, [SMALL] * 9)
        await resting
        await ending
        return moments, asyncio.get_running_loop().time()

    moments, over = run(scene())
    assert moments == pytest.approx([2.0] * 9, abs=0.01)
    assert over == pytest.approx(2.0, abs=0.01)


def test_a_rest_is_as_long_as_it_is_said_to_be() -> None:
    async def scene() -> float:
        await RateLimiter(1, 1, 1).rest(7.5)
        return asyncio.get_running_loop().time()

    assert run(scene()) == pytest.approx(7.5, abs=0.01)


# Answers


def told(**given: float) -> dict[str, str]:
    """Headers: `requests_limit=4` and so on."""
    return {
        f"anthropic-ratelimit-{name.replace('_', '-')}": f"{value:g}"
        for name, value in given.items()
    }


async def after_an_answer(
    limiter: RateLimiter, headers: Mapping[str, str], used: Need | None, then: Sequence[Need]
) -> list[float]:
    async with limiter.turn(Need(100.0, 100.0)) as place:
        limiter.settle(place, headers, used)
    return await let_through(limiter, then)


def test_what_an_answer_did_not_use_is_given_back() -> None:
    limiter = RateLimiter(1e9, 1_200, 1e9)
    moments = run(after_an_answer(limiter, {}, Need(10.0, 100.0), [Need(90.0, 1.0)]))
    assert moments == pytest.approx([0.0], abs=0.01)


def test_what_nobody_knows_to_be_unused_is_not_given_back() -> None:
    limiter = RateLimiter(1e9, 1_200, 1e9)
    moments = run(after_an_answer(limiter, {}, None, [Need(90.0, 1.0)]))
    assert moments == pytest.approx([4.5], abs=0.01)


def test_the_apis_own_limits_and_what_is_left_of_them_are_believed() -> None:
    limiter = RateLimiter(1e9, 60, 1e9)
    headers = told(
        requests_limit=120, requests_remaining=2, input_tokens_limit=6e4, input_tokens_remaining=999
    )
    moments = run(after_an_answer(limiter, headers, Need(100.0, 100.0), [SMALL] * 4))
    # Two are left, and then two a second come.
    assert moments[1:] == pytest.approx([50.0, 50.5, 51.0], abs=50.0)
    assert [later - moments[1] for later in moments[1:]] == pytest.approx([0, 0.5, 1.0], abs=0.01)


def test_rounded_tokens_are_taken_for_the_fewest_that_they_can_be() -> None:
    headers = told(output_tokens_limit=60_000, output_tokens_remaining=1_000)
    limiter = RateLimiter(1e9, 1e9, 60_000)
    moments = run(after_an_answer(limiter, headers, None, [Need(1.0, 1_000.0)]))
    assert moments == pytest.approx([0.5], abs=0.01)


def test_nonsense_in_the_headers_is_passed_over() -> None:
    limiter = RateLimiter(60, 1e9, 1e9)
    headers = told(requests_limit=0) | {
        "anthropic-ratelimit-requests-remaining": "many",
        "anthropic-ratelimit-input-tokens-remaining": "-5",
        "anthropic-ratelimit-output-tokens-limit": "nan",
    }
    moments = run(after_an_answer(limiter, headers, None, [SMALL] * 5))
    assert moments == pytest.approx([0, 0, 0, 0, 1], abs=0.01)


def test_calls_on_their_way_are_not_counted_as_left() -> None:
    async def scene() -> list[float]:
        limiter = RateLimiter(6_000, 1e9, 60_000)
        async with limiter.turn(Need(1.0, 900.0)), limiter.turn(Need(1.0, 5.0)) as place:
            headers = told(output_tokens_limit=60_000, output_tokens_remaining=999)
            limiter.settle(place, headers, Need(1.0, 5.0))
            return await let_through(limiter, [Need(1.0, 99.0), Need(1.0, 500.0)])

    assert run(scene()) == pytest.approx([0.0, 0.5], abs=0.01)


def test_room_that_an_answer_tells_of_is_used_at_once() -> None:
    async def scene() -> float:
        limiter = RateLimiter(60, 1e9, 1e9)
        async with asyncio.TaskGroup() as group, limiter.turn(SMALL) as place:
            waiting = group.create_task(let_through(limiter, [SMALL] * 6))
            await asyncio.sleep(0.25)
            limiter.settle(place, told(requests_limit=600, requests_remaining=600), SMALL)
        return waiting.result()[-1]

    assert run(scene()) == pytest.approx(0.25, abs=0.01)


def test_a_share_is_kept_whatever_is_left_for_others() -> None:
    async def scene() -> float:
        limiter = RateLimiter(600, 1e9, 1e9, share=0.5, max_in_flight=4)
        loop = asyncio.get_running_loop()

        async def call() -> None:
            async with limiter.turn(SMALL) as place:
                await asyncio.sleep(0.05)
                # Nobody else is there, so that it is nearly all left.
                limiter.settle(place, told(requests_limit=600, requests_remaining=590), SMALL)

        async with asyncio.TaskGroup() as group:
            for _ in range(325):
                group.create_task(call())
        return loop.time()

    # Half of ten a second, and five seconds' worth of it at once.
    assert run(scene()) == pytest.approx(60.0, abs=1.0)


def test_a_share_gives_way_where_others_have_used_theirs_and_more() -> None:
    limiter = RateLimiter(600, 1e9, 1e9, share=0.5)
    headers = told(requests_limit=600, requests_remaining=2)
    moments = run(after_an_answer(limiter, headers, SMALL, [SMALL] * 2))
    assert moments == pytest.approx([0.0, 0.2], abs=0.01)


# Overload


def test_an_overload_halves_the_calls_in_flight_down_to_one() -> None:
    limiter = RateLimiter(1e9, 1e9, 1e9, max_in_flight=16)
    found = []
    for _ in range(6):
        limiter.overloaded()
        found.append(limiter.in_flight_allowed)
    assert found == [8, 4, 2, 1, 1, 1]
    moments = run(let_through(limiter, [SMALL] * 3, seconds=1.0))
    assert moments == pytest.approx([0, 1, 2], abs=0.01)


def test_a_round_of_good_calls_allows_about_one_more_and_never_too_many() -> None:
    limiter = RateLimiter(1e9, 1e9, 1e9, max_in_flight=8)
    limiter.overloaded()
    for _ in range(5):
        limiter.went_well()
    assert limiter.in_flight_allowed == 5
    for _ in range(100):
        limiter.went_well()
    assert limiter.in_flight_allowed == 8


def test_a_call_that_fails_leaves_its_place() -> None:
    async def scene() -> list[float]:
        limiter = RateLimiter(1e9, 1e9, 1e9, max_in_flight=1)
        with pytest.raises(OSError, match="lost"):
            async with limiter.turn(SMALL):
                raise OSError("lost")
        return await let_through(limiter, [SMALL])

    assert run(scene()) == pytest.approx([0.0], abs=0.01)
