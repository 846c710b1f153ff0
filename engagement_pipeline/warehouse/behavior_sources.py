"""What behaviour is predicted from, read as frames: the tables of the signals, with interactions as
they were scored.

Instants go out as whole microseconds since the epoch, and large inputs in slices of members, as in
`signals`. What is computed of them belongs to `behavior`.
"""

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.signals import SELECTS, Presence, presence, sliced

OPTIONAL = {
    "event_views": "has_event_views",
    "notifications": "has_notifications",
    "interactions": "has_interactions",
}
"""Tables that a source may lack -> what `Presence` calls that."""

_SELECTS = {
    **{table: select for table, select in SELECTS.items() if table != "profile_updates"},
    "interactions": "SELECT org_id, user_id, epoch_us(sent_at) AS sent_at, sentiment, quality, "
    "is_meaningful FROM behavior.interactions_scored",
}
_ACTIVITY_TABLES = (
    "raw.attendance",
    "raw.event_views",
    "raw.notifications",
    "raw.notification_reads",
    "behavior.interactions_scored",
)


def slices(
    connection: Connection, *, as_of: datetime, slice_rows: int
) -> Iterator[dict[str, pl.LazyFrame | None]]:
    """Frames for `BehaviorSources`, by table, for one slice of the people after another.

    All that concerns a person is in one slice. A table that the source had no row of at `as_of` is
    `None` in each: what is drawn from it is unknown, and not zero.
    """
    present = presence(connection, as_of=as_of)
    absent = absent_tables(present)
    for frames in sliced(connection, _SELECTS, _ACTIVITY_TABLES, slice_rows=slice_rows):
        yield {table: None if table in absent else rows for table, rows in frames.items()}


def absent_tables(present: Presence) -> set[str]:
    """The optional tables that the source lacks."""
    return {table for table, name in OPTIONAL.items() if not getattr(present, name)}


def first_activity_at(connection: Connection) -> datetime | None:
    """When anybody first did anything: the first row of attendance, interactions or reads.

    Of slices of people each knows only its own; samples are to begin alike in all of them.
    """
    earliest: datetime | None = query(
        connection,
        """SELECT least((SELECT min(created_at) FROM raw.attendance),
                        (SELECT min(sent_at) FROM behavior.interactions_scored),
                        (SELECT min(read_at) FROM raw.notification_reads)) AS at""",
    ).item()
    return earliest
