"""The run's budget: no call is made that could take it over.

Before a call the most that it can cost is set aside, afterwards what it did cost is booked.
"""

import asyncio


class CostRefusedError(RuntimeError):
    """The run would cost more than it may; nothing was sent. The text gives both figures."""


class Budget:
    """Dollars of one run.

    Args:
        limit_usd: what may be spent at most.
    """

    def __init__(self, limit_usd: float) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = 0.0
        self._reserved_usd = 0.0
        self._changed = asyncio.Condition()

    async def reserve(self, usd: float) -> bool:
        """Set aside; waits where calls in flight may still leave enough. False: it never will."""
        async with self._changed:
            while self.spent_usd + self._reserved_usd + usd > self.limit_usd:
                if self._reserved_usd <= 1e-12:
                    return False
                await self._changed.wait()
            self._reserved_usd += usd
            return True

    async def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Book what a call cost in place of what was set aside for it."""
        async with self._changed:
            self._reserved_usd = max(0.0, self._reserved_usd - reserved_usd)
            self.spent_usd += spent_usd
            self._changed.notify_all()


def refuse_if_over(estimated_usd: float, limit_usd: float, *, profiles: int, calls: int) -> None:
    """Refuse a run before its first call.

    Raises:
        CostRefusedError: the estimate is over the limit.
    """
    if estimated_usd > limit_usd:
        raise CostRefusedError(
            f"the run would cost about ${estimated_usd:.4f} for {profiles:,} profiles in "
            f"{calls:,} calls, which is more than max_cost_usd = ${limit_usd:.4f}; nothing was "
            "sent. Raise it (--max-cost-usd), or classify fewer organisations at once (--org)."
        )
