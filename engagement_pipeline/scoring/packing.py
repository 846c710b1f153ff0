"""Which profiles go in one call, and in which order they are asked again.

Only the grouping belongs here. Who sends it, and what is a good answer, is decided elsewhere.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")

_OVERFULL = 1.5


def pack(items: Sequence[Item], per_call: int) -> list[list[Item]]:
    """The items of one organisation in their order, spread evenly over as few calls as is fair.

    A few items left over would pay for rules and schema all over again, so a call takes up to
    half as many again instead: 12 go in one call of 12, 25 in two, and 17 in two of 9 and 8.

    Args:
        items: what is to be asked.
        per_call: how many go in a call by rule; at least 1.
    """
    if per_call < 1:
        raise ValueError(f"profiles_per_call: expected at least 1, found {per_call}")
    if not items:
        return []
    calls = max(1, len(items) // per_call)
    if math.ceil(len(items) / calls) > max(1, int(per_call * _OVERFULL)):
        calls = math.ceil(len(items) / per_call)
    size, longer = divmod(len(items), calls)
    packs, start = [], 0
    for number in range(calls):
        end = start + size + (number < longer)
        packs.append(list(items[start:end]))
        start = end
    return packs


def in_another_order(items: Sequence[Item], *, keys: Sequence[str], seed: int) -> list[Item]:
    """The items shuffled, the same way for the same keys and seed.

    An answer that went wrong for one place in the list often goes right in another.
    """

    def rank(place: int) -> bytes:
        return hashlib.sha256(f"{seed}:{keys[place]}".encode()).digest()

    places = sorted(range(len(items)), key=rank)
    if len(places) > 1 and places == list(range(len(items))):
        places.reverse()
    return [items[place] for place in places]


def halves(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """The items cut in two, the first half the longer where they are odd."""
    middle = (len(items) + 1) // 2
    return list(items[:middle]), list(items[middle:])
