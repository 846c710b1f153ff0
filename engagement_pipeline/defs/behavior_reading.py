"""What behaviour is predicted from, in slices of the people."""

from collections.abc import Iterator
from datetime import datetime

from engagement_pipeline.behavior.sources import BehaviorSources
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.behavior_sources import slices
from engagement_pipeline.warehouse.connection import Connection


def behavior_slices(
    connection: Connection, settings: Settings, as_of: datetime
) -> Iterator[BehaviorSources]:
    """The sources of one slice of the people after another; each person is in one of them."""
    for frames in slices(connection, as_of=as_of, slice_rows=settings.slice_rows):
        memberships, attendance = frames.pop("memberships"), frames.pop("attendance")
        assert memberships is not None
        assert attendance is not None
        yield BehaviorSources(memberships, attendance, **frames)
        # Or a slice would be held while the next is read.
        del memberships, attendance, frames
