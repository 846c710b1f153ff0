"""Seeded chance: one independent stream of draws per topic.

Only the drawing of numbers, moments and identifiers lives here. What a draw means (who drifts
away, which row is spoilt) belongs to the module that asks for it. A topic has a stream of its
own, so that a change in one table does not reshuffle all the others.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from string import ascii_lowercase
from typing import TypeVar

T = TypeVar("T")

_NUMERIC_ID_SHARE = 0.4
_NUMERIC_ID_DIGITS = 9
_LETTER_ID_LENGTH = 12


class Dice:
    """Draws for one topic, fixed by `seed` and `topic` alone."""

    def __init__(self, seed: int, topic: str) -> None:
        self._seed = seed
        self._topic = topic
        # A text seed goes through sha512 inside `random`, so it does not depend on PYTHONHASHSEED.
        self._random = random.Random(f"{seed}/{topic}")

    def about(self, topic: str) -> Dice:
        """A stream for a narrower topic, independent of how far this one has been drawn."""
        return Dice(self._seed, f"{self._topic}/{topic}")

    def chance(self, probability: float) -> bool:
        """True with the given probability in [0, 1]."""
        return self._random.random() < probability

    def between(self, low: float, high: float) -> float:
        """A number in [low, high), uniform."""
        return low + (high - low) * self._random.random()

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return self._random.randint(low, high)

    def waiting(self, mean: float) -> float:
        """An exponential waiting time with the given mean, in the mean's unit."""
        return self._random.expovariate(1.0 / mean)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(self._random.random() * len(options))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """One key, as likely as its weight; weights need not add up to one."""
        return self._random.choices(list(weights), list(weights.values()))[0]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different options, in random order; all of them if there are fewer."""
        return self._random.sample(options, min(count, len(options)))

    def days(self, low: float, high: float) -> timedelta:
        """A span between `low` and `high` days, in whole seconds."""
        return timedelta(seconds=int(self.between(low, high) * 86_400))

    def minutes(self, low: float, high: float) -> timedelta:
        """A span between `low` and `high` minutes, in whole seconds."""
        return timedelta(seconds=int(self.between(low, high) * 60))

    def moment(self, start: datetime, end: datetime) -> datetime:
        """An instant in [start, end), on a whole second; `start` where the span is empty."""
        seconds = max(0.0, (end - start).total_seconds())
        moment = start + timedelta(seconds=int(self.between(0.0, seconds)))
        return moment.replace(microsecond=0)


class Mint:
    """Identifiers, each issued once: some all digits, some all letters, as in real exports.

    A column of ids that holds both is what breaks a reader that guesses types from the first rows.
    """

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._issued: set[str] = set()

    def issue(self) -> str:
        """An identifier that this mint has never issued."""
        while True:
            candidate = self._draw()
            if candidate not in self._issued:
                self._issued.add(candidate)
                return candidate

    def _draw(self) -> str:
        if self._dice.chance(_NUMERIC_ID_SHARE):
            top = 10**_NUMERIC_ID_DIGITS - 1
            return str(self._dice.whole(0, top)).zfill(_NUMERIC_ID_DIGITS)
        return "".join(self._dice.pick(ascii_lowercase) for _ in range(_LETTER_ID_LENGTH))
