"""Sharing profiles: an unusual member is described less closely, until others fit the description.

Active members are nearly all unlike: at full closeness most profiles would have one member, each
would be asked about on its own, and each would be a portrait. So a profile that too few share is
told with wider buckets and fewer cells, in steps, the telling ones last. What the buckets are at
full closeness is `profiles`'.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import polars as pl

from engagement_pipeline.scoring.levels import Thresholds
from engagement_pipeline.scoring.profiles import CELLS, NEVER, NOT_TOLD, UNKNOWN, with_profiles

SHARING_VERSION = "sharing-1"
"""Changes, by hand, whenever a step comes to tell something else."""


def with_shared_profiles(
    members: pl.DataFrame, thresholds: Thresholds, *, min_members: int
) -> pl.DataFrame:
    """The members with the closest profile that enough members of their organisation share.

    Which profile that is follows from the members handed in alone, whatever their order. Members
    in the same buckets share a profile, and no profile has members of two baseline levels. The
    widest one is given also where fewer share it.

    Args:
        members: one row per member of one organisation, with the columns of `signals.member_90d`.
        thresholds: the organisation's.
        min_members: how many members have to share a profile; with 1 all stay at full closeness.

    Returns:
        The same rows in the same order, with `profile`: a String that `profiles.Profile` takes.
    """
    close = with_profiles(members, thresholds)
    if min_members <= 1 or close.is_empty():
        return close
    found = close.group_by("profile").len().sort("profile")
    shared = _shared(dict(found.iter_rows()), thresholds, min_members)
    return close.with_columns(pl.col("profile").replace_strict(shared, return_dtype=pl.String))


def _shared(members: Mapping[str, int], thresholds: Thresholds, min_members: int) -> dict[str, str]:
    """Profile at full closeness -> the closest telling of it that enough members share."""
    tellings = {close: _tellings(close, thresholds) for close in members}
    shared: dict[str, str] = {}
    last = len(_steps(thresholds))
    for step in range(last + 1):
        sharing: Counter[str] = Counter()
        for close, told in tellings.items():
            sharing[told[step]] += members[close]
        left = {}
        for close, told in tellings.items():
            if sharing[told[step]] >= min_members or step == last:
                shared[close] = told[step]
            else:
                left[close] = told
        tellings = left
    return shared


# Organisations with the same thresholds have many profiles in common.
@lru_cache(maxsize=65_536)
def _tellings(close: str, thresholds: Thresholds) -> tuple[str, ...]:
    """The profile at full closeness, and after each step."""
    cells = dict(zip(CELLS, close.split(" "), strict=True))
    texts = [close]
    for step in _steps(thresholds):
        cells |= {cell: _wider(cells[cell], edges) for cell, edges in step.items()}
        texts.append(" ".join(cells.values()))
    return tuple(texts)


@lru_cache
def _steps(thresholds: Thresholds) -> Sequence[Mapping[str, Sequence[int] | None]]:
    """Per step: the wider buckets' edges of some cells, or None for a cell no longer told.

    All edges are edges at full closeness as well, and those that the written rules look at stay.
    """
    new, inactive = thresholds.new_member_days, thresholds.inactive_days
    return (
        {
            "trend": None,
            "profile_update": None,
            "no_shows": (0, 1),
            "reads": (0, 1),
            "interactions": (0, 1, 20),
            "rsvps": (0, 1, 3),
            "previous": (0, 1, 3),
            "last_attended": (0, 31, 91),
            "joined": (0, 60, 365, new),
        },
        {
            "no_shows": None,
            "interactions": (0, 1),
            "rsvps": (0, 1),
            "previous": (0, 1),
            "last_attended": (0,),
        },
        {"reads": None, "last_active": (0, 91, inactive)},
        {"joined": (0, 60, new)},
        {"previous": None, "last_attended": None},
        {"rsvps": None, "interactions": None, "joined": (0, new), "last_active": (0, inactive)},
    )


def _wider(cell: str, edges: Sequence[int] | None) -> str:
    if edges is None:
        return NOT_TOLD
    if cell in (NEVER, UNKNOWN):
        return cell
    return str(max(edge for edge in edges if edge <= int(cell)))
