"""Describing members' behaviour: reads, lets `behavior.patterns` describe, and writes.

No rule of what a pattern is belongs here, and no asset.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import patterns as stored
from engagement_pipeline.warehouse.connection import Connection

Report = Callable[[int, int], None]
"""Told how many members have been described by now, and how many there are."""


@dataclass
class Analysed:
    """How many members were described, and how many of them stand out."""

    members: int = 0
    highly_engaged: int = 0
    declining: int = 0
    needing: int = 0

    def add(self, rows: pl.DataFrame) -> None:
        self.members += rows.height
        self.highly_engaged += int(rows["is_highly_engaged"].sum())
        self.declining += int(rows["is_declining"].sum())
        self.needing += int(rows["needs_reengagement"].sum())


def analyze_patterns(
    connection: Connection,
    settings: Settings,
    *,
    as_of: datetime,
    user_id: str | None = None,
    batch_size: int | None = None,
    report: Report | None = None,
) -> Analysed:
    """Describe all current members, or one person in every organisation, and replace their rows.

    Where no interaction has been scored by `as_of`, there is nothing to describe anybody by, and
    the rows are only taken away.

    Args:
        connection: to the warehouse.
        settings: in force.
        as_of: the moment, with a time zone.
        user_id: whom to describe; by default everybody.
        batch_size: about how many members are worked off at once; by default as many as have
            `slice_rows` interactions. Fewer at once take longer, and are reported sooner.
        report: told of each batch that is done.

    Raises:
        ValueError: `as_of` has no time zone, or `batch_size` is not positive.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"expected a batch_size of at least 1, found {batch_size}")
    analysed = Analysed()
    rows = _described(connection, settings, as_of, user_id, batch_size, analysed, report)
    stored.write(connection, rows, user_id=user_id)
    return analysed


def _described(
    connection: Connection,
    settings: Settings,
    as_of: datetime,
    user_id: str | None,
    batch_size: int | None,
    analysed: Analysed,
    report: Report | None,
) -> Iterator[pl.DataFrame]:
    from engagement_pipeline.behavior.lifecycle import PERIOD
    from engagement_pipeline.behavior.patterns import patterns

    if not stored.has_interactions(connection, as_of=as_of):
        return
    total = stored.member_count(connection, as_of=as_of, user_id=user_id)
    since = as_of - PERIOD
    if user_id is None:
        slices = stored.slices(
            connection,
            as_of=as_of,
            since=since,
            slice_rows=settings.slice_rows,
            slice_members=batch_size,
        )
    else:
        slices = iter((stored.slice_of(connection, user_id, as_of=as_of, since=since),))
    for found in slices:
        rows = patterns(found.interactions, found.members, as_of=as_of)
        analysed.add(rows)
        if report is not None:
            report(analysed.members, total)
        yield rows
