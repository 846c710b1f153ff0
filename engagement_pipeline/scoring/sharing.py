"""Sharing profiles: an unusual member is described less closely, until others fit the description.

Active members are nearly all unlike: at full closeness most profiles would have one member, each
would be asked about on its own, and each would be a portrait. So a profile that too few share is
told with wider buckets and fewer cells, in steps, the telling ones last. What the buckets are at
full closeness is `profiles`'.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import polars as pl

from engagement_pipeline.scoring.levels import Thresholds
from engagement_pipeline.scoring.profiles import (
    CELLS,
    NEVER,
    NOT_TOLD,
    UNKNOWN,
    lower_bound,
    with_profiles,
)

SHARING_VERSION = "sharing-1"
"""Changes, by hand, whenever a step comes to tell something else."""

Cells = Mapping[str, pl.Expr]


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
    found = close.group_by("profile").len("members").sort("profile")
    tellings = found.select("profile", "members", *_tellings(thresholds))
    shared = _shared(tellings, min_members)
    return close.with_columns(pl.col("profile").replace_strict(shared, return_dtype=pl.String))


def _shared(tellings: pl.DataFrame, min_members: int) -> dict[str, str]:
    """Profile at full closeness -> the closest telling of it that enough members share."""
    left = tellings.rows()
    shared: dict[str, str] = {}
    last = tellings.width - 1
    for column in (0, *range(2, tellings.width)):
        sharing: Counter[str] = Counter()
        for row in left:
            sharing[row[column]] += row[1]
        still_left = []
        for row in left:
            if sharing[row[column]] >= min_members or column == last:
                shared[row[0]] = row[column]
            else:
                still_left.append(row)
        left = still_left
    return shared


def _tellings(thresholds: Thresholds) -> list[pl.Expr]:
    """A text for each step, from `profile`; each step tells what the one before does, or less."""
    named = pl.col("profile").str.split(" ")
    cells: Cells = {cell: named.list.get(place) for place, cell in enumerate(CELLS)}
    texts = []
    for number, step in enumerate(_steps(thresholds), start=1):
        cells = {**cells, **{cell: _wider(cells[cell], how) for cell, how in step.items()}}
        text = pl.concat_str([cells[cell] for cell in CELLS], separator=" ")
        texts.append(text.alias(f"step_{number}"))
    return texts


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


def _wider(cell: pl.Expr, edges: Sequence[int] | None) -> pl.Expr:
    if edges is None:
        return pl.lit(NOT_TOLD)
    is_counted = ~cell.is_in([NEVER, UNKNOWN])
    bound = lower_bound(pl.when(is_counted).then(cell).cast(pl.Int64), edges)
    return pl.when(is_counted).then(bound).otherwise(cell)
