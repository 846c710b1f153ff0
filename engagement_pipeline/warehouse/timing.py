"""What the timing of messages is counted from, read in slices of people.

Instants go out as whole microseconds since the epoch. What an answered message is, and which hour
is best, belongs to `behavior`.
"""

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.frames import query

# A notification that was sent long ago is looked at where it was first read of late.
_SELECTS = {
    "acts": """
        SELECT org_id, user_id, epoch_us(sent_at) AS at FROM raw.interactions AS p
        WHERE sent_at > $acts_since AND sent_at <= $as_of AND {whose}
        UNION ALL
        SELECT org_id, user_id, epoch_us(created_at) AS at FROM raw.attendance AS p
        WHERE created_at > $acts_since AND created_at <= $as_of AND {whose}""",
    "notifications": """
        WITH first_reads AS (
            SELECT notification_id, min(read_at) AS read_at FROM raw.notification_reads
            WHERE read_at <= $as_of GROUP BY notification_id
        )
        SELECT p.user_id, p.org_id, epoch_us(p.sent_at) AS sent_at,
               epoch_us(r.read_at) AS first_read_at
        FROM raw.notifications AS p
        LEFT JOIN first_reads AS r USING (notification_id)
        WHERE p.sent_at <= $as_of AND {whose}
          AND (p.sent_at > $messages_since OR r.read_at > $acts_since)""",
    "memberships": """
        SELECT org_id, user_id, epoch_us(joined_at) AS joined_at, epoch_us(left_at) AS left_at
        FROM raw.memberships AS p WHERE {whose}""",
    "profiles": "SELECT user_id, timezone FROM raw.profiles AS p WHERE {whose}",
    "organizations": "SELECT org_id, timezone FROM raw.organizations",
}


def has_notifications(connection: Connection, *, as_of: datetime) -> bool:
    """Whether any notification was sent by `as_of`."""
    found = query(
        connection,
        "SELECT EXISTS (SELECT 1 AS one FROM raw.notifications WHERE sent_at <= $as_of) AS any",
        {"as_of": as_of},
    )
    return bool(found["any"].item())


def slices(
    connection: Connection,
    *,
    as_of: datetime,
    messages_since: datetime,
    acts_since: datetime,
    slice_rows: int,
) -> Iterator[dict[str, pl.DataFrame]]:
    """Frames by name, for one slice of the people after another, by a hash of their ids.

    All that concerns a person is in one slice, because a notification without an organisation is
    attributed by all the person's memberships.

    Args:
        connection: to the warehouse.
        as_of: the moment; nothing later is read.
        messages_since: from when on all notifications are read.
        acts_since: from when on what people did is read, with the notifications first read since.
        slice_rows: about how many rows a slice may have.

    Returns:
        `acts` (`org_id`, `user_id`, `at`: interactions, and attendance when it was answered),
        `notifications` (`user_id`, `org_id`, `sent_at`, `first_read_at`), `memberships`,
        `profiles` and `organizations` (with `timezone`).
    """
    named = {"as_of": as_of, "messages_since": messages_since, "acts_since": acts_since}
    rows = query(
        connection,
        """SELECT (SELECT count(*) FROM raw.interactions
                   WHERE sent_at > $acts_since AND sent_at <= $as_of)
                + (SELECT count(*) FROM raw.attendance
                   WHERE created_at > $acts_since AND created_at <= $as_of)
                + (SELECT count(*) FROM raw.notifications
                   WHERE sent_at > least($messages_since, $acts_since) AND sent_at <= $as_of) AS n
        """,
        named,
    )["n"].item()
    parts = max(1, -(-rows // slice_rows))
    for part in range(parts):
        whose = f"hash(p.user_id) % {parts} = {part}" if parts > 1 else "true"
        yield {
            table: query(connection, sql, {k: v for k, v in named.items() if f"${k}" in sql})
            for table, sql in ((t, s.format(whose=whose)) for t, s in _SELECTS.items())
        }
