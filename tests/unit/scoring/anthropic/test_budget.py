"""The budget: what is set aside and what is spent are never more than it together."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.scoring.anthropic.budget import (
    Budget,
    CostRefusedError,
    refuse_if_over,
)
from tests.unit.scoring.anthropic.virtual_time import run


@given(
    st.floats(0, 5),
    st.lists(st.tuples(st.floats(0.001, 1), st.floats(0, 1)), max_size=40),
    st.integers(1, 8),
    st.integers(),
)
@settings(deadline=None)
def test_a_budget_is_never_overspent_and_refuses_only_what_it_cannot_hold(
    limit: float, calls: list[tuple[float, float]], workers: int, seed: int
) -> None:
    chance = random.Random(seed)
    refused: list[float] = []

    async def scene() -> Budget:
        budget = Budget(limit)
        waiting = iter(calls)

        async def work() -> None:
            for reserved, share in waiting:
                if not await budget.reserve(reserved):
                    refused.append(reserved)
                    assert budget.spent_usd + reserved > limit
                    continue
                await asyncio.sleep(chance.random())
                await budget.settle(reserved, reserved * share)
                assert 0 <= budget.spent_usd <= limit + 1e-9

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
        return budget

    budget = run(scene())
    assert budget.spent_usd <= limit + 1e-9
    if sum(reserved for reserved, _ in calls) <= limit - 1e-9:
        assert refused == []
    # All that was set aside is free again.
    assert run(budget.reserve(max(0.0, limit - budget.spent_usd - 1e-9)))


def test_a_call_waits_for_what_others_may_leave_over() -> None:
    async def scene() -> tuple[bool, bool, float]:
        budget = Budget(1.0)
        assert await budget.reserve(0.9)

        async def cheaper() -> None:
            await asyncio.sleep(3)
            await budget.settle(0.9, 0.2)

        task = asyncio.create_task(cheaper())
        later = await budget.reserve(0.8)
        at = asyncio.get_running_loop().time()
        await task
        await budget.settle(0.8, 0.8)
        return later, await budget.reserve(0.01), at

    later, never, at = run(scene())
    assert (later, never) == (True, False)
    assert at == pytest.approx(3.0, abs=0.01)


def test_nothing_can_be_set_aside_of_a_budget_of_nothing() -> None:
    assert run(Budget(0.0).reserve(1e-6)) is False


def test_a_run_is_refused_over_its_limit_and_told_both_figures() -> None:
    with pytest.raises(CostRefusedError) as refused:
        refuse_if_over(12.34567, 10.0, profiles=25_000, calls=2_500)
    for words in ("$12.3457", "25,000 profiles", "2,500 calls", "$10.0000", "--max-cost-usd"):
        assert words in str(refused.value)
    refuse_if_over(10.0, 10.0, profiles=1, calls=1)
