"""An event loop whose clock jumps to the next thing that is due: waits cost no time.

Only for tests that use no sockets and no threads.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Jumping(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits for somebody else")
        # Each look takes a moment, as in the world: a wait too short to count would never end.
        self.now += max(timeout, 1e-8)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, in virtual seconds from 0.

    Raises:
        AssertionError: everybody waits for somebody else.
    """
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)
