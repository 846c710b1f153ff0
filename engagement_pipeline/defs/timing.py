"""What timing is learned and told from: reads in slices, and lets `behavior` count.

No rule of what is counted belongs here, and no asset.
"""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import timing as stored
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.patterns import current_members


@dataclass(frozen=True)
class TimingInputs:
    """What `train_timing` and `best_times` take.

    Attributes:
        messages: counts of messages; None where the source has no notifications, or where they
            were not asked for.
        activity: counts of activity by hour.
        members: `org_id`, `user_id`, `joined_at`, `timezone` of who is a member.
    """

    messages: pl.DataFrame | None
    activity: pl.DataFrame
    members: pl.DataFrame


def timing_inputs(
    connection: Connection, settings: Settings, *, as_of: datetime, trains: bool = True
) -> TimingInputs:
    """Read and count what was known at a moment.

    Args:
        connection: to the warehouse.
        settings: in force.
        as_of: the moment, with a time zone.
        trains: whether it is to train on too: to tell best times, the activity of the last 180
            days is enough.

    Raises:
        ValueError: `as_of` has no time zone.
    """
    # Read here, so that loading the pipeline does not wait for what only this takes.
    from engagement_pipeline.behavior import timing_counts as counted

    first = counted.cutoffs(as_of)[0] if trains else as_of
    slices = stored.slices(
        connection,
        as_of=as_of,
        messages_since=first,
        acts_since=first - counted.ACTIVITY_WINDOW,
        slice_rows=settings.slice_rows,
    )
    messages, activity = [], []
    for frames in slices:
        rows = counted.TimingRows(**frames)
        activity.append(counted.activity_counts(rows, as_of=as_of, trains=trains))
        if trains:
            messages.append(counted.message_counts(rows, as_of=as_of))
    is_known = trains and stored.has_notifications(connection, as_of=as_of)
    return TimingInputs(
        messages=pl.concat(messages) if is_known else None,
        activity=pl.concat(activity),
        members=current_members(connection, as_of=as_of),
    )
