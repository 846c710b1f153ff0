"""What the signals are computed from: one frame per source table.

Only the shape of the input belongs here. Whoever holds the rows (the warehouse, a test, a
benchmark) makes the frames, and by their kind chooses the engine that computes.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import narwhals as nw
from narwhals.typing import IntoFrame

Rows: TypeAlias = nw.LazyFrame[Any]
"""Rows of any engine under the Narwhals API, not yet computed."""


@dataclass(frozen=True)
class SignalSources:
    """The source tables, as frames of one engine that Narwhals understands.

    Polars lazy frames are the default; DuckDB relations and Spark frames do as well. All frames
    are of the same engine. Columns beyond those named are ignored.

    **Every instant is an Int64: microseconds since 1970-01-01T00:00:00Z.** It is the one
    representation whose comparisons, differences and floors agree to the microsecond on all
    engines; who reads the warehouse converts. Ids, `status` and `section` are strings.

    `None` says that the source has no such table at all, and for `event_views`, `notifications`
    and `interactions` the signals drawn from it are then null: unknown is not zero. An empty
    frame says that nothing happened, and gives zeros.

    Attributes:
        memberships: `org_id`, `user_id`, `joined_at`, `left_at` (null while it holds). Who left
            and came back may have a row for each stay.
        attendance: `org_id`, `event_id`, `user_id`, `status`, `created_at`, `responded_at`
            (nullable); one row per organisation, event and person.
        event_views: `org_id`, `event_id`, `user_id`, `viewed_at`.
        notifications: `notification_id` (unique), `user_id`, `org_id` (nullable), `sent_at`.
        notification_reads: `notification_id`, `read_at`; revisits included. `None` beside
            notifications means that none was ever read.
        interactions: `org_id`, `user_id`, `sent_at`.
        profile_updates: `user_id`, `section`, `updated_at`. `None`: `profile_updated_at` is null.
    """

    memberships: IntoFrame
    attendance: IntoFrame
    event_views: IntoFrame | None = None
    notifications: IntoFrame | None = None
    notification_reads: IntoFrame | None = None
    interactions: IntoFrame | None = None
    profile_updates: IntoFrame | None = None


def lazy(frame: IntoFrame) -> Rows:
    """`frame` under the Narwhals API, with nothing computed yet."""
    rows: Rows = nw.from_native(frame).lazy()
    return rows
