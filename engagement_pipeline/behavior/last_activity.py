"""When a member last did something that counts: what churn is measured by.

How members' activity is read from the tables belongs to `signals.activity`; how churn is predicted,
and what came of it, belongs elsewhere.
"""

from datetime import datetime

import narwhals as nw

from engagement_pipeline.signals.activity import (
    PAIR,
    attendance_activity,
    interaction_activity,
    notification_activity,
)
from engagement_pipeline.signals.sources import Rows, SignalSources, lazy
from engagement_pipeline.signals.windows import Horizon


def last_activity(sources: SignalSources, *, at: datetime) -> Rows:
    """When each member last did something that counts, as known at a moment, not yet computed.

    That is: attended an event, answered an invitation, read a notification for the first time, or
    said something. Changing a profile does not count: it needs no community.

    Args:
        sources: the tables, of any engine.
        at: the moment, with a time zone; what came later is not known.

    Returns:
        `org_id`, `user_id`, `last_at` (Int64 microseconds); nobody who never did anything.

    Raises:
        ValueError: `at` has no time zone.
    """
    horizon = Horizon.at(at)
    attended = attendance_activity(lazy(sources.attendance), horizon)
    found = [_when(attended, "last_attended_at"), _when(attended, "last_answered_at")]
    if sources.interactions is not None:
        said = interaction_activity(lazy(sources.interactions), horizon)
        found.append(_when(said, "last_interaction_at"))
    if sources.notifications is not None:
        reads = sources.notification_reads
        read = notification_activity(
            lazy(sources.notifications),
            None if reads is None else lazy(reads),
            lazy(sources.memberships),
            horizon,
        )
        found.append(_when(read, "last_first_read_at"))
    return nw.concat(found, how="vertical").group_by(*PAIR).agg(nw.col("last_at").max())


def _when(activity: Rows, column: str) -> Rows:
    at = nw.col(column)
    return activity.filter(~at.is_null()).select(*PAIR, at.cast(nw.Int64).alias("last_at"))
