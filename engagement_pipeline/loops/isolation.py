"""Learning for many organisations at once, such that the trouble of one stays with it."""

from collections.abc import Callable, Collection, Sequence

import polars as pl

Learn = Callable[[Collection[str]], pl.DataFrame]
"""Learns for some organisations: one frame with the column `org_id`."""


def learn_each(org_ids: Sequence[str], learn: Learn) -> tuple[pl.DataFrame | None, dict[str, str]]:
    """What can be learned, and for which organisations nothing can, and why.

    All are learned at once, which takes a moment for a thousand of them; only if that fails are
    they halved until those that make it fail are alone.

    Returns:
        The frame (None where no organisation is left to learn for), and org -> error.
    """
    if not org_ids:
        return None, {}
    try:
        return learn(org_ids), {}
    except Exception as error:
        if len(org_ids) == 1:
            return None, {org_ids[0]: f"{type(error).__name__}: {error}"}
    middle = len(org_ids) // 2
    first, failed_first = learn_each(org_ids[:middle], learn)
    second, failed_second = learn_each(org_ids[middle:], learn)
    frames = [frame for frame in (first, second) if frame is not None]
    return (pl.concat(frames) if frames else None), failed_first | failed_second
