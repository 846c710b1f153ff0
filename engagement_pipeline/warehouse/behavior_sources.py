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

_ORG_STARTS = """
    WITH first_reads AS (
        SELECT n.user_id, n.org_id, min(r.read_at) AS read_at
        FROM raw.notification_reads AS r
        INNER JOIN raw.notifications AS n USING (notification_id)
        GROUP BY n.notification_id, n.user_id, n.org_id
    ), activity AS (
        SELECT org_id, min(created_at) AS starts_at FROM raw.attendance GROUP BY org_id
        UNION ALL
        SELECT org_id, min(sent_at) FROM behavior.interactions_scored GROUP BY org_id
        UNION ALL
        SELECT org_id, min(read_at) FROM first_reads WHERE org_id IS NOT NULL GROUP BY org_id
        UNION ALL
        SELECT m.org_id, min(f.read_at)
        FROM first_reads AS f
        INNER JOIN raw.memberships AS m ON m.user_id = f.user_id AND m.joined_at <= f.read_at
        WHERE f.org_id IS NULL
        GROUP BY m.org_id
    )
    SELECT org_id, min(starts_at) AS starts_at FROM activity GROUP BY org_id ORDER BY org_id"""
_TABLE_STARTS = """
    SELECT (SELECT min(viewed_at) FROM raw.event_views) AS event_views,
           (SELECT min(sent_at) FROM raw.notifications) AS notifications,
           (SELECT min(sent_at) FROM behavior.interactions_scored) AS interactions"""


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


def source_starts(connection: Connection) -> tuple[pl.DataFrame, dict[str, datetime]]:
    """When each organisation and each table began, for `churn_samples.SourceStarts`.

    Of slices of people each knows only its own; samples are to begin alike in all of them. What
    counts is what `churn_samples.source_starts` says.

    Returns:
        `org_id`, `starts_at`, sorted, without organisations where nobody ever did anything; and
        the first row of each of the `OPTIONAL` tables that has any.
    """
    orgs = query(connection, _ORG_STARTS)
    firsts = query(connection, _TABLE_STARTS).row(0, named=True)
    return orgs, {table: first for table, first in firsts.items() if first is not None}
