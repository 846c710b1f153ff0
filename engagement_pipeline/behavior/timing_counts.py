"""What the timing of messages is told from: who was there at which hour, and which were answered.

Here rows become counts by local hour. Which hour is best belongs to `timing`, and what a model
learns of the counts to `timing_training`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from engagement_pipeline.behavior.local_time import INSTANT, with_local_time
from engagement_pipeline.signals.attribution import attributed
from engagement_pipeline.signals.sources import lazy
from engagement_pipeline.signals.windows import microseconds

ANSWER_WITHIN = timedelta(hours=24)
"""How soon a message is first read that counts as answered. One sent later than that before the
moment is not looked at: nothing is known of it yet."""

ACTIVITY_WINDOW = timedelta(days=180)
TESTED = timedelta(days=30)
TRAINED = timedelta(days=90)
"""How long before the moment the messages begin that models are tested on, and trained on. Of each
message, only activity before its part of the time is known."""

MESSAGES_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "known_at": INSTANT,
        "local_hour": pl.Int8(),
        "local_weekday": pl.Int8(),
        "n": pl.Int64(),
        "n_answered": pl.Int64(),
    }
)
ACTIVITY_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "known_at": INSTANT,
        "local_hour": pl.Int8(),
        "n": pl.Int64(),
    }
)


@dataclass(frozen=True)
class TimingRows:
    """Rows that counts are made of. **Instants are Int64: microseconds since 1970, UTC.**

    Attributes:
        acts: `org_id`, `user_id`, `at`: interactions, and answers to invitations when they were
            given. Whether one was taken back later says nothing of when the person was there.
        notifications: `user_id`, `org_id` (nullable), `sent_at`, `first_read_at` (nullable).
        memberships: `org_id`, `user_id`, `joined_at`, `left_at` (nullable).
        profiles: `user_id`, `timezone` (nullable).
        organizations: `org_id`, `timezone` (nullable).
    """

    acts: pl.DataFrame
    notifications: pl.DataFrame
    memberships: pl.DataFrame
    profiles: pl.DataFrame
    organizations: pl.DataFrame


def cutoffs(as_of: datetime) -> tuple[datetime, datetime]:
    """From when on models are trained, and from when on they are tested."""
    return as_of - TRAINED, as_of - TESTED


def message_counts(rows: TimingRows, *, as_of: datetime) -> pl.DataFrame:
    """Messages and how many of them were answered, by the person's hour and weekday of sending.

    A message belongs to the organisation at its sending. Those to train on are so old that it is
    known before the test begins whether they were answered.

    Args:
        rows: the rows, of some people or all.
        as_of: the moment, with a time zone; what came later is not known.

    Returns:
        Rows of `MESSAGES_SCHEMA`, sorted; `known_at` is the one of `cutoffs` that they follow.

    Raises:
        ValueError: `as_of` has no time zone.
    """
    end, within = microseconds(as_of), ANSWER_WITHIN // timedelta(microseconds=1)
    begins = [microseconds(cutoff) for cutoff in cutoffs(as_of)]
    sent_at, read_at = pl.col("sent_at"), pl.col("first_read_at")
    sent = rows.notifications.filter(sent_at > begins[0], sent_at <= end - within).select(
        "user_id",
        "org_id",
        sent_at.alias("at"),
        ((read_at <= end) & (read_at - sent_at <= within)).fill_null(False).alias("is_answered"),
    )
    at = pl.col("at")
    known_at = (
        pl.when(at > begins[1]).then(begins[1]).when(at <= begins[1] - within).then(begins[0])
    )
    placed = _attributed(sent, rows.memberships).with_columns(known_at.alias("known_at"))
    local = _local(placed.drop_nulls("known_at"), rows)
    keys = ("org_id", "user_id", "known_at", "local_hour", "local_weekday")
    return (
        local.group_by(keys)
        .agg(pl.len().alias("n"), pl.col("is_answered").sum().alias("n_answered"))
        .select(pl.col(name).cast(dtype) for name, dtype in MESSAGES_SCHEMA.items())
        .sort(keys)
    )


def activity_counts(rows: TimingRows, *, as_of: datetime, trains: bool = True) -> pl.DataFrame:
    """How often people were there, by their hour, in the 180 days before a moment.

    What they do is send, answer invitations, and read messages for the first time.

    Args:
        rows: the rows, of some people or all.
        as_of: the moment, with a time zone; what came later is not known.
        trains: whether counts at the `cutoffs` of training are needed too.

    Returns:
        Rows of `ACTIVITY_SCHEMA`, sorted; `known_at` is `as_of`, or one of `cutoffs`.

    Raises:
        ValueError: `as_of` has no time zone.
    """
    reads = rows.notifications.select("user_id", "org_id", pl.col("first_read_at").alias("at"))
    acts = pl.concat(
        [
            rows.acts.select("user_id", "org_id", "at"),
            _attributed(reads.drop_nulls("at"), rows.memberships),
        ]
    )
    window = ACTIVITY_WINDOW // timedelta(microseconds=1)
    ends = [microseconds(moment) for moment in ((*cutoffs(as_of), as_of) if trains else (as_of,))]
    at = pl.col("at")
    there = _local(acts.filter(at > ends[0] - window, at <= ends[-1]), rows)
    keys = ("org_id", "user_id", "known_at", "local_hour")
    found = [
        there.filter(pl.col("at") > _instant(end - window), pl.col("at") <= _instant(end))
        .group_by("org_id", "user_id", "local_hour")
        .agg(pl.len().alias("n"))
        .with_columns(_instant(end).alias("known_at"))
        for end in ends
    ]
    return (
        pl.concat(found)
        .select(pl.col(name).cast(dtype) for name, dtype in ACTIVITY_SCHEMA.items())
        .sort(keys)
    )


def _attributed(touches: pl.DataFrame, memberships: pl.DataFrame) -> pl.DataFrame:
    found: pl.LazyFrame = attributed(lazy(touches.lazy()), lazy(memberships.lazy())).to_native()
    return found.collect().select(touches.columns)


def _local(acts: pl.DataFrame, rows: TimingRows) -> pl.DataFrame:
    """The rows with what each one's clock showed `at`; `at` and `known_at` become instants."""
    zones = (
        acts.join(rows.profiles.rename({"timezone": "own_zone"}), on="user_id", how="left")
        .join(rows.organizations, on="org_id", how="left")
        .with_columns(pl.coalesce("own_zone", "timezone").alias("timezone"))
        .drop("own_zone")
    )
    instants = [name for name in ("at", "known_at") if name in zones.columns]
    return with_local_time(zones.with_columns(pl.col(instants).cast(INSTANT)), "at")


def _instant(moment: int) -> pl.Expr:
    return pl.lit(moment).cast(INSTANT)
