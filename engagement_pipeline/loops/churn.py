"""What came of predictions that members would churn: whether they did anything since.

How members' activity is read from the tables belongs to `signals.activity`; who predicts churn, and
by what, belongs elsewhere.
"""

from datetime import datetime

import narwhals as nw
import polars as pl

from engagement_pipeline.signals.activity import (
    PAIR,
    attendance_activity,
    interaction_activity,
    notification_activity,
)
from engagement_pipeline.signals.sources import Rows, SignalSources, lazy
from engagement_pipeline.signals.windows import Horizon

CHURN = "churn"
"""The kind of these predictions in `loops.predictions`."""


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


def churn_outcomes(due: pl.DataFrame, last: pl.DataFrame) -> pl.DataFrame:
    """Whether members of whom it was predicted churned: did nothing until the horizon's end.

    Args:
        due: rows of `loops.predictions` of this kind, all with the same `due_at`.
        last: `org_id`, `user_id`, `last_at`, as `last_activity` gives them for that moment.

    Returns:
        The rows of `due` with `outcome`: 1 for who did nothing after `made_at`, else 0.
    """
    made_at = pl.col("made_at").dt.epoch("us")
    was_active = (pl.col("last_at") > made_at).fill_null(False)
    return (
        due.join(last, on=list(PAIR), how="left", maintain_order="left")
        .with_columns(outcome=(~was_active).cast(pl.Float64))
        .drop("last_at")
    )


def _when(activity: Rows, column: str) -> Rows:
    at = nw.col(column)
    return activity.filter(~at.is_null()).select(*PAIR, at.cast(nw.Int64).alias("last_at"))
