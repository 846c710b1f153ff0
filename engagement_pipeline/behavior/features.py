"""What is known of each member at a moment, as numbers that churn is predicted from.

Only what was known at the moment counts, by the rules of `signals.activity`. What happened
afterwards belongs to `churn_samples`; what the numbers are made into, to the models and baselines.
"""

from collections.abc import Collection
from datetime import UTC, datetime

import polars as pl

from engagement_pipeline.behavior.sources import BehaviorSources
from engagement_pipeline.behavior.windows import Windows, current_members
from engagement_pipeline.signals.activity import PAIR, first_reads
from engagement_pipeline.signals.attribution import attributed
from engagement_pipeline.signals.sources import lazy
from engagement_pipeline.signals.windows import DAY_MICROSECONDS, Horizon

FEATURES: tuple[str, ...] = (
    "days_since_joined",
    "days_since_active",
    "days_since_attended",
    "days_since_answered",
    "days_since_read",
    "days_since_interaction",
    "events_attended_30d",
    "events_attended_90d",
    "events_attended_prev_90d",
    "events_attended_total",
    "rsvps_90d",
    "rsvps_total",
    "no_shows_90d",
    "event_views_90d",
    "notifications_sent_90d",
    "notifications_read_share_90d",
    "interactions_30d",
    "interactions_prev_30d",
    "mean_sentiment_30d",
    "mean_quality_30d",
    "meaningful_share_30d",
    "active_days_30d",
    "active_days_90d",
    "active_days_total",
    "active_days_trend_30d",
    "mean_days_between_active_days",
    "days_from_first_to_last_active",
    "days_since_first_active",
)
"""The features, in the order of the columns. `member_features` says what each one is."""

_CAME = ("attended", "partial")
_NOT_AN_RSVP = ("cancelled", "waitlisted")
_BILLIONTHS = 1_000_000_000
_INTERACTION_SCHEMA = {
    "member": pl.UInt32,
    "at": pl.Int64,
    "sentiment": pl.Int64,
    "quality": pl.Int64,
    "is_meaningful": pl.Boolean,
}

_COUNTS = {
    "attendance": (
        "events_attended_30d",
        "events_attended_90d",
        "events_attended_prev_90d",
        "events_attended_total",
        "rsvps_90d",
        "rsvps_total",
        "no_shows_90d",
        "active_days_30d",
        "active_days_90d",
        "active_days_total",
    ),
    "event_views": ("event_views_90d",),
    "notifications": ("notifications_sent_90d",),
    "interactions": ("interactions_30d", "interactions_prev_30d"),
}
"""Counts by the table without which they are unknown; attendance is always there."""

_MEANS = (
    "notifications_read_share_90d",
    "mean_sentiment_30d",
    "mean_quality_30d",
    "meaningful_share_30d",
)
_SINCE = {
    "days_since_joined": "joined_at",
    "days_since_active": "last_active_at",
    "days_since_attended": "last_attended_at",
    "days_since_answered": "last_answered_at",
    "days_since_read": "last_read_at",
    "days_since_interaction": "last_interaction_at",
}


def member_features(sources: BehaviorSources, *, as_of: datetime) -> pl.DataFrame:
    """The features of everyone who is a member at `as_of`, also of who never did anything.

    Windows end at `as_of` and leave out their first moment: `30d` is `(as_of - 30 d, as_of]`,
    `prev_30d` the 30 days before it. Activity is coming to an event, answering (an RSVP), reading a
    notification for the first time, and an interaction; an active day is a UTC day with any.

    - `days_since_*`: days, with fractions, since joining (the first of the stays that hold) and
      since the last activity, of any kind and by kind; null where there was none.
    - `events_attended_*`, `rsvps_*`, `no_shows_90d`, `event_views_90d`, `interactions_*`: counts.
    - `notifications_sent_90d`, `notifications_read_share_90d`: those sent to the member, and the
      share of them that was read by `as_of`; null if none was sent.
    - `mean_sentiment_30d` (-1 to 1), `mean_quality_30d` (0 to 1), `meaningful_share_30d`: of
      interactions; null without any, the sentiment without text.
    - `active_days_*`: counts; `trend`: those of the last 30 days less those of the 30 before.
    - `mean_days_between_active_days`: null under two of them.
    - `days_from_first_to_last_active`, `days_since_first_active`: whole UTC days. Who was never
      active is counted from joining, with 0 days from first to last. With `active_days_total` they
      are what BG/NBD models are fitted to (`churn_baselines.histories`).

    Features of a table that the source lacks are null.

    Args:
        sources: the tables.
        as_of: the moment described, with a time zone.

    Returns:
        `org_id`, `user_id`, `as_of`, and `FEATURES` as Float64; one row per member, sorted by
        `org_id, user_id`.

    Raises:
        ValueError: `as_of` has no time zone.
    """
    window = Windows.at(as_of)
    members = current_members(sources.memberships, window)
    keys = members.select(*PAIR, "member").lazy()
    came = _attendance(sources.attendance, keys, window)
    said = _interactions(sources.interactions, keys, window)
    sent, read = _notifications(sources, keys, window)
    described = members.lazy()
    for counted in (
        _attendance_counts(came, window),
        _view_counts(sources.event_views, keys, window),
        _sent_counts(sent),
        read.group_by("member").agg(pl.col("at").max().alias("last_read_at")),
        _interaction_counts(said, window),
        _active_days(_activity(came, read, said), window),
    ):
        described = described.join(counted, on="member", how="left")
    columns = _columns(window, [table for table, rows in sources.tables.items() if rows is None])
    return (
        described.sort("member")
        .select(
            *PAIR,
            pl.lit(as_of.astimezone(UTC), pl.Datetime("us", "UTC")).alias("as_of"),
            *(columns[name].cast(pl.Float64).alias(name) for name in FEATURES),
        )
        .collect(engine="streaming")
    )


def _attendance(attendance: pl.LazyFrame, keys: pl.LazyFrame, window: Windows) -> pl.LazyFrame:
    """When members came, stayed away and answered, as `signals.activity` reads it.

    A status holds from `responded_at` on. Before that, and from `created_at`, the row says only
    that the person answered.
    """
    created_at, status = pl.col("created_at"), pl.col("status")
    occurred_at = pl.coalesce("responded_at", "created_at")
    is_settled = occurred_at <= window.as_of
    is_rsvp = ~(is_settled & status.is_in(_NOT_AN_RSVP))
    return _held(
        attendance.filter(created_at <= window.as_of)
        .join(keys, on=PAIR)
        .select(
            "member",
            came_at=pl.when(is_settled & status.is_in(_CAME)).then(occurred_at),
            missed_at=pl.when(is_settled & (status == "no_show")).then(occurred_at),
            answered_at=pl.when(is_rsvp).then(created_at),
        )
    )


def _interactions(
    interactions: pl.LazyFrame | None, keys: pl.LazyFrame, window: Windows
) -> pl.LazyFrame:
    """Interactions of members: `member`, `at`, and what was scored of them.

    Sentiment and quality become whole billionths: sums of fractions depend on the order of rows in
    their last digits, and what is computed here must not.
    """
    if interactions is None:
        return pl.LazyFrame(schema=_INTERACTION_SCHEMA)
    billionths = [
        (pl.col(name) * _BILLIONTHS).round().cast(pl.Int64) for name in ("sentiment", "quality")
    ]
    return _held(
        interactions.filter(pl.col("sent_at") <= window.as_of)
        .join(keys, on=PAIR)
        .select("member", pl.col("sent_at").alias("at"), *billionths, "is_meaningful")
    )


def _notifications(
    sources: BehaviorSources, keys: pl.LazyFrame, window: Windows
) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """What was sent to members in the 90 days, with `is_read`; and first reads of all time, `at`.

    A sending belongs to the organisation at the sending, a read to that at the first read.
    """
    if sources.notifications is None:
        nothing = {"member": pl.UInt32, "at": pl.Int64}
        return pl.LazyFrame(schema=nothing | {"is_read": pl.Boolean}), pl.LazyFrame(schema=nothing)
    known = sources.notifications.filter(pl.col("sent_at") <= window.as_of).select(
        "notification_id", "user_id", "org_id", "sent_at"
    )
    read_at = pl.lit(None, pl.Int64).alias("first_read_at")
    if sources.notification_reads is None:
        told = known.with_columns(read_at)
    else:
        reads = first_reads(lazy(sources.notification_reads), Horizon(window.as_of)).to_native()
        told = known.join(reads, on="notification_id", how="left")
    told = _held(told.drop("notification_id"))

    def of_members(rows: pl.LazyFrame, *kept: str) -> pl.LazyFrame:
        found: pl.LazyFrame = attributed(lazy(rows), lazy(sources.memberships)).to_native()
        return _held(found.join(keys, on=PAIR).select("member", "at", *kept))

    touch = ("user_id", "org_id")
    sent = told.filter(window.within("sent_at", 90)).select(
        *touch, at="sent_at", is_read=pl.col("first_read_at").is_not_null()
    )
    read = told.filter(pl.col("first_read_at").is_not_null()).select(*touch, at="first_read_at")
    return of_members(sent, "is_read"), of_members(read)


def _held(rows: pl.LazyFrame) -> pl.LazyFrame:
    """`rows`, computed now: several counts are drawn from them."""
    return rows.collect(engine="streaming").lazy()


def _activity(came: pl.LazyFrame, read: pl.LazyFrame, said: pl.LazyFrame) -> pl.LazyFrame:
    """All that counts as activity: `member`, `at`."""
    return pl.concat(
        [
            came.select("member", at="came_at"),
            came.select("member", at="answered_at"),
            read.select("member", "at"),
            said.select("member", "at"),
        ]
    ).drop_nulls()


def _attendance_counts(came: pl.LazyFrame, window: Windows) -> pl.LazyFrame:
    return came.group_by("member").agg(
        window.within("came_at", 30).sum().alias("events_attended_30d"),
        window.within("came_at", 90).sum().alias("events_attended_90d"),
        window.within("came_at", 180, until=90).sum().alias("events_attended_prev_90d"),
        pl.col("came_at").count().alias("events_attended_total"),
        pl.col("came_at").max().alias("last_attended_at"),
        window.within("answered_at", 90).sum().alias("rsvps_90d"),
        pl.col("answered_at").count().alias("rsvps_total"),
        pl.col("answered_at").max().alias("last_answered_at"),
        window.within("missed_at", 90).sum().alias("no_shows_90d"),
    )


def _view_counts(
    event_views: pl.LazyFrame | None, keys: pl.LazyFrame, window: Windows
) -> pl.LazyFrame:
    if event_views is None:
        return pl.LazyFrame(schema={"member": pl.UInt32, "event_views_90d": pl.UInt32})
    seen = event_views.filter(window.within("viewed_at", 90)).join(keys, on=PAIR)
    return seen.group_by("member").agg(pl.len().alias("event_views_90d"))


def _sent_counts(sent: pl.LazyFrame) -> pl.LazyFrame:
    return sent.group_by("member").agg(
        pl.len().alias("notifications_sent_90d"),
        pl.col("is_read").mean().alias("notifications_read_share_90d"),
    )


def _interaction_counts(said: pl.LazyFrame, window: Windows) -> pl.LazyFrame:
    recent = window.within("at", 30)
    in_30d, before = recent.sum(), window.within("at", 60, until=30).sum()

    def mean(name: str) -> pl.Expr:
        values = pl.col(name).filter(recent)
        # Counts are 32 bits wide, and would overflow at the fifth.
        count = values.count().cast(pl.Int64)
        return pl.when(count > 0).then(values.sum() / (count * _BILLIONTHS))

    return said.group_by("member").agg(
        in_30d.alias("interactions_30d"),
        before.alias("interactions_prev_30d"),
        mean("sentiment").alias("mean_sentiment_30d"),
        mean("quality").alias("mean_quality_30d"),
        pl.col("is_meaningful").filter(recent).mean().alias("meaningful_share_30d"),
        pl.col("at").max().alias("last_interaction_at"),
    )


def _active_days(activity: pl.LazyFrame, window: Windows) -> pl.LazyFrame:
    """Distinct UTC days with activity, of all time and by window.

    A day that a window begins on is in it if there was activity after its beginning. No day meets
    both ends of a window, so the first and last activity of a day tell on which side it lies.
    """
    first, last = pl.col("first_at"), pl.col("last_at")
    days = activity.group_by("member", (pl.col("at") // DAY_MICROSECONDS).alias("day")).agg(
        pl.col("at").min().alias("first_at"), pl.col("at").max().alias("last_at")
    )
    in_prev_30d = (last > window.start(60)) & (first <= window.start(30))
    return days.group_by("member").agg(
        (last > window.start(30)).sum().alias("active_days_30d"),
        in_prev_30d.sum().alias("active_days_prev_30d"),
        (last > window.start(90)).sum().alias("active_days_90d"),
        pl.len().alias("active_days_total"),
        pl.col("day").min().alias("first_day"),
        pl.col("day").max().alias("last_day"),
        last.max().alias("last_active_at"),
    )


def _columns(window: Windows, absent: Collection[str]) -> dict[str, pl.Expr]:
    """Each feature, of members with the counts of each table beside them.

    Of whom a table says nothing, there is nothing to count, unless there is no such table.
    """
    columns = {name: pl.col(name) for name in _MEANS}
    for table, counts in _COUNTS.items():
        zero = pl.lit(None) if table in absent else pl.lit(0)
        columns |= {name: pl.col(name).cast(pl.Int64).fill_null(zero) for name in counts}
    columns |= {feature: window.days_since(at) for feature, at in _SINCE.items()}
    days = columns["active_days_total"]
    joined_day = pl.col("joined_at") // DAY_MICROSECONDS
    between = pl.col("last_day") - pl.col("first_day")
    previous = pl.col("active_days_prev_30d").cast(pl.Int64).fill_null(0)
    return columns | {
        "active_days_trend_30d": columns["active_days_30d"] - previous,
        "mean_days_between_active_days": pl.when(days > 1).then(between / (days - 1)),
        "days_from_first_to_last_active": between.fill_null(0),
        "days_since_first_active": window.day - pl.coalesce("first_day", joined_day),
    }
