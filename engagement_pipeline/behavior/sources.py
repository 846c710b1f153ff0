"""What behaviour is computed from: one Polars frame per source table.

Only the shape of the input belongs here. Who reads the tables belongs to the warehouse, and what
is computed of them to the modules beside this one.
"""

from dataclasses import dataclass, fields, replace

import polars as pl

from engagement_pipeline.signals.sources import SignalSources


@dataclass(frozen=True)
class BehaviorSources:
    """The source tables as Polars lazy frames. **Every instant is an Int64: microseconds since
    1970-01-01T00:00:00Z**, as in `SignalSources`.

    `None` says that the source has no such table at all: what is drawn from it is then null,
    because unknown is not zero. An empty frame says that nothing happened. Columns beyond those
    named are ignored.

    Attributes:
        memberships: `org_id`, `user_id`, `joined_at`, `left_at` (null while it holds). Who left
            and came back may have a row for each stay.
        attendance: `org_id`, `event_id`, `user_id`, `status`, `created_at`, `responded_at`
            (nullable); one row per organisation, event and person.
        event_views: `org_id`, `event_id`, `user_id`, `viewed_at`.
        notifications: `notification_id` (unique), `user_id`, `org_id` (nullable), `sent_at`.
        notification_reads: `notification_id`, `read_at`; revisits included. `None` beside
            notifications means that none was ever read.
        interactions: of `behavior.interactions_scored`: `org_id`, `user_id`, `sent_at`,
            `sentiment` (nullable), `quality`, `is_meaningful`.
    """

    memberships: pl.LazyFrame
    attendance: pl.LazyFrame
    event_views: pl.LazyFrame | None = None
    notifications: pl.LazyFrame | None = None
    notification_reads: pl.LazyFrame | None = None
    interactions: pl.LazyFrame | None = None

    @property
    def signal_sources(self) -> SignalSources:
        """The same tables for what computes signals, without profile updates."""
        return SignalSources(
            memberships=self.memberships,
            attendance=self.attendance,
            event_views=self.event_views,
            notifications=self.notifications,
            notification_reads=self.notification_reads,
            interactions=self.interactions,
        )

    @property
    def tables(self) -> dict[str, pl.LazyFrame | None]:
        """The frames by the name of their table."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def only_people(sources: BehaviorSources, people: pl.DataFrame) -> BehaviorSources:
    """The rows of some people, in all their organisations.

    Args:
        sources: the tables.
        people: `user_id`; other columns and repetitions do not matter.
    """
    wanted = people.lazy().select("user_id").unique()
    kept = {
        table: rows.join(wanted, on="user_id", how="semi")
        for table, rows in sources.tables.items()
        if rows is not None and table != "notification_reads"
    }
    reads = sources.notification_reads
    if reads is not None and "notifications" in kept:
        told = kept["notifications"].select("notification_id")
        reads = reads.join(told, on="notification_id", how="semi")
    return replace(sources, **kept, notification_reads=reads)
