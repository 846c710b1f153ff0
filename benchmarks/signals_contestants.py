"""The table of member signals, computed in four ways from the same Parquet files.

Each way is what someone who knows the engine would write for it. Here belongs only what is timed;
the measuring is in `benchmarks.signals`.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from math import nan
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.signals_tables import AS_OF, DAY

SECTIONS = ("skills", "work_history")
START, PREVIOUS_START = AS_OF - 90 * DAY, AS_OF - 180 * DAY
PAIR = ["org_id", "user_id"]
COUNTS = (
    "events_attended_90d",
    "events_attended_prev_90d",
    "events_attended_total",
    "no_show_count_90d",
    "rsvp_count_90d",
    "event_view_count_90d",
    "notifications_sent_90d",
    "notifications_read_90d",
    "interaction_count_90d",
)
ACTIVE_AT = (
    "last_attended_at",
    "answered_at",
    "interacted_at",
    "profile_updated_at",
    "read_at",
)
COLUMNS = (
    *("org_id", "user_id", "as_of", *COUNTS[:3], "last_attended_at", *COUNTS[3:]),
    *("profile_updated_at", "joined_at", "days_since_joined", "last_active_at"),
    "days_since_active",
)


def prepared(name: str) -> Callable[[Path], Any]:
    """The contestant `name`, with its libraries imported: from a folder of tables to a result."""
    libraries = {"ours": "engagement_pipeline.signals", "polars": "polars"}
    import_module(libraries.get(name, name))
    return {"ours": ours, "polars": by_hand, "duckdb": by_sql, "pandas": by_pandas}[name]


def comparable(result: Any) -> pl.DataFrame:
    """A contestant's result, with its columns and rows in one order and its counts of one type."""
    if not isinstance(result, pl.DataFrame):
        texts = {name: result[name].tolist() for name in PAIR}
        floats = {name: result[name].to_numpy("float64", na_value=nan) for name in COLUMNS[2:]}
        result = pl.DataFrame(texts | floats, nan_to_null=True)
    numbers = [pl.col(name).cast(pl.Int64) for name in COLUMNS[2:]]
    return result.select("org_id", "user_id", *numbers).sort(PAIR)


def ours(folder: Path) -> pl.DataFrame:
    """The project's own: Narwhals expressions on Polars frames, streaming."""
    from engagement_pipeline.signals import SignalSources, member_signals

    tables = ("memberships", "attendance", "event_views", "notifications", "notification_reads")
    tables += ("interactions", "profile_updates")
    sources = SignalSources(**{table: _scan(folder, table) for table in tables})
    as_of = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=AS_OF)
    rows = member_signals(sources, as_of=as_of, significant_sections=SECTIONS)
    frame: pl.DataFrame = rows.to_native().collect(engine="streaming")
    return frame


def _scan(folder: Path, table: str) -> pl.LazyFrame:
    return pl.scan_parquet(folder / table / "*.parquet")


def by_hand(folder: Path) -> pl.DataFrame:
    """Polars, written for Polars."""
    c = pl.col
    memberships = _scan(folder, "memberships")
    views = (
        _scan(folder, "event_views")
        .filter(c("viewed_at").is_between(START, AS_OF, closed="right"))
        .group_by(PAIR)
        .agg(pl.len().alias("event_view_count_90d"))
    )
    interactions = (
        _scan(folder, "interactions")
        .filter(c("sent_at") <= AS_OF)
        .group_by(PAIR)
        .agg(
            (c("sent_at") > START).sum().alias("interaction_count_90d"),
            c("sent_at").max().alias("interacted_at"),
        )
    )
    updates = (
        _scan(folder, "profile_updates")
        .filter(c("section").is_in(SECTIONS), c("updated_at") <= AS_OF)
        .group_by("user_id")
        .agg(c("updated_at").max().alias("profile_updated_at"))
    )
    active = pl.max_horizontal(*ACTIVE_AT)
    return (
        memberships.filter(c("joined_at") <= AS_OF, c("left_at").is_null() | (c("left_at") > AS_OF))
        .join(_attendance_by_hand(folder), on=PAIR, how="left")
        .join(views, on=PAIR, how="left")
        .join(interactions, on=PAIR, how="left")
        .join(_notifications_by_hand(folder, memberships), on=PAIR, how="left")
        .join(updates, on="user_id", how="left")
        .with_columns(
            c(*COUNTS).fill_null(0),
            pl.lit(AS_OF).alias("as_of"),
            active.alias("last_active_at"),
            ((AS_OF - c("joined_at")) // DAY).alias("days_since_joined"),
            ((AS_OF - pl.coalesce(active, "joined_at")) // DAY).alias("days_since_active"),
        )
        .select(COLUMNS)
        .collect(engine="streaming")
    )


def _attendance_by_hand(folder: Path) -> pl.LazyFrame:
    c = pl.col
    occurred = pl.coalesce("responded_at", "created_at")
    settled = occurred <= AS_OF
    came = settled & c("status").is_in(["attended", "partial"])
    rsvp = ~settled | ~c("status").is_in(["cancelled", "waitlisted"])
    in_previous = occurred.is_between(PREVIOUS_START, START, closed="right")
    missed = settled & (c("status") == "no_show") & (occurred > START)
    return (
        _scan(folder, "attendance")
        .filter(c("created_at") <= AS_OF)
        .group_by(PAIR)
        .agg(
            (came & (occurred > START)).sum().alias("events_attended_90d"),
            (came & in_previous).sum().alias("events_attended_prev_90d"),
            came.sum().alias("events_attended_total"),
            pl.when(came).then(occurred).max().alias("last_attended_at"),
            missed.sum().alias("no_show_count_90d"),
            (rsvp & (c("created_at") > START)).sum().alias("rsvp_count_90d"),
            pl.when(rsvp).then("created_at").max().alias("answered_at"),
        )
    )


def _notifications_by_hand(folder: Path, memberships: pl.LazyFrame) -> pl.LazyFrame:
    c = pl.col
    sent = _scan(folder, "notifications").filter(c("sent_at") <= AS_OF)
    first_reads = (
        _scan(folder, "notification_reads")
        .filter(c("read_at") <= AS_OF)
        .group_by("notification_id")
        .agg(c("read_at").min().alias("at"))
    )
    touches = pl.concat(
        [
            sent.filter(c("sent_at") > START).select(
                "notification_id", *PAIR, at="sent_at", is_read=False
            ),
            sent.join(first_reads, on="notification_id").select(
                "notification_id", *PAIR, "at", is_read=True
            ),
        ]
    )
    oldest = (
        touches.filter(c("org_id").is_null())
        .drop("org_id")
        .join(memberships, on="user_id")
        .filter(c("joined_at") <= c("at"), c("left_at").is_null() | (c("left_at") > c("at")))
        .group_by("notification_id", "is_read", "user_id", "at")
        .agg(c("org_id").sort_by("joined_at", "org_id").first())
    )
    columns = [*PAIR, "at", "is_read"]
    return (
        pl.concat([touches.drop_nulls("org_id").select(columns), oldest.select(columns)])
        .group_by(PAIR)
        .agg(
            (~c("is_read")).sum().alias("notifications_sent_90d"),
            (c("is_read") & (c("at") > START)).sum().alias("notifications_read_90d"),
            pl.when("is_read").then("at").max().alias("read_at"),
        )
    )


SQL = f"""
WITH attendance AS (
  SELECT org_id, user_id,
    count(*) FILTER (came AND moment > {START}) AS events_attended_90d,
    count(*) FILTER (came AND moment > {PREVIOUS_START} AND moment <= {START})
      AS events_attended_prev_90d,
    count(*) FILTER (came) AS events_attended_total,
    max(moment) FILTER (came) AS last_attended_at,
    count(*) FILTER (settled AND status = 'no_show' AND moment > {START}) AS no_show_count_90d,
    count(*) FILTER (rsvp AND created_at > {START}) AS rsvp_count_90d,
    max(created_at) FILTER (rsvp) AS answered_at
  FROM (
    SELECT *, coalesce(responded_at, created_at) AS moment, moment <= {AS_OF} AS settled,
      settled AND status IN ('attended', 'partial') AS came,
      NOT settled OR status NOT IN ('cancelled', 'waitlisted') AS rsvp
    FROM '{{folder}}/attendance/*.parquet' WHERE created_at <= {AS_OF}
  ) GROUP BY ALL
), views AS (
  SELECT org_id, user_id, count(*) AS event_view_count_90d
  FROM '{{folder}}/event_views/*.parquet' WHERE viewed_at > {START} AND viewed_at <= {AS_OF}
  GROUP BY ALL
), interactions AS (
  SELECT org_id, user_id, count(*) FILTER (sent_at > {START}) AS interaction_count_90d,
    max(sent_at) AS interacted_at
  FROM '{{folder}}/interactions/*.parquet' WHERE sent_at <= {AS_OF} GROUP BY ALL
), updates AS (
  SELECT user_id, max(updated_at) AS profile_updated_at
  FROM '{{folder}}/profile_updates/*.parquet'
  WHERE updated_at <= {AS_OF} AND section IN {SECTIONS} GROUP BY ALL
), memberships AS (
  SELECT * FROM '{{folder}}/memberships/*.parquet' WHERE joined_at <= {AS_OF}
), sent AS (
  SELECT * FROM '{{folder}}/notifications/*.parquet' WHERE sent_at <= {AS_OF}
), first_reads AS (
  SELECT notification_id, min(read_at) AS moment
  FROM '{{folder}}/notification_reads/*.parquet' WHERE read_at <= {AS_OF} GROUP BY ALL
), touches AS (
  SELECT notification_id, user_id, org_id, sent_at AS moment, false AS is_read
  FROM sent WHERE sent_at > {START}
  UNION ALL
  SELECT notification_id, user_id, org_id, moment, true FROM sent JOIN first_reads
  USING (notification_id)
), attributed AS (
  SELECT org_id, user_id, moment, is_read FROM touches WHERE org_id IS NOT NULL
  UNION ALL
  SELECT arg_min(m.org_id, (m.joined_at, m.org_id)), t.user_id, t.moment, t.is_read
  FROM touches AS t JOIN memberships AS m ON m.user_id = t.user_id
    AND m.joined_at <= t.moment AND (m.left_at IS NULL OR m.left_at > t.moment)
  WHERE t.org_id IS NULL GROUP BY t.notification_id, t.is_read, t.user_id, t.moment
), notifications AS (
  SELECT org_id, user_id, count(*) FILTER (NOT is_read) AS notifications_sent_90d,
    count(*) FILTER (is_read AND moment > {START}) AS notifications_read_90d,
    max(moment) FILTER (is_read) AS read_at
  FROM attributed GROUP BY ALL
)
SELECT org_id, user_id, {AS_OF} AS as_of, last_attended_at, profile_updated_at, joined_at,
  {", ".join(f"coalesce({name}, 0) AS {name}" for name in COUNTS)},
  ({AS_OF} - joined_at) // {DAY} AS days_since_joined,
  greatest(last_attended_at, answered_at, interacted_at, profile_updated_at, read_at)
    AS last_active_at,
  ({AS_OF} - coalesce(last_active_at, joined_at)) // {DAY} AS days_since_active
FROM memberships LEFT JOIN attendance USING (org_id, user_id)
LEFT JOIN views USING (org_id, user_id) LEFT JOIN interactions USING (org_id, user_id)
LEFT JOIN notifications USING (org_id, user_id) LEFT JOIN updates USING (user_id)
WHERE left_at IS NULL OR left_at > {AS_OF}
"""


def by_sql(folder: Path) -> pl.DataFrame:
    """DuckDB: one query."""
    import duckdb

    with duckdb.connect() as connection:
        return pl.DataFrame(connection.sql(SQL.format(folder=folder)))


def by_pandas(folder: Path) -> Any:
    """pandas, all in memory."""
    import duckdb

    # Without pyarrow pandas has no Parquet, so DuckDB reads for it; that is part of the time.
    with duckdb.connect() as connection:

        def read(table: str, columns: str = "*") -> Any:
            return connection.sql(f"SELECT {columns} FROM '{folder}/{table}/*.parquet'").df()

        members = read("memberships")
        activities = [
            _attendance_pandas(
                read("attendance", "org_id, user_id, status, created_at, responded_at")
            ),
            _views_pandas(read("event_views", "org_id, user_id, viewed_at")),
            _interactions_pandas(read("interactions")),
            _notifications_pandas(read("notifications"), read("notification_reads"), members),
        ]
        updates = read("profile_updates")
    result = members[
        (members.joined_at <= AS_OF) & (members.left_at.isna() | (members.left_at > AS_OF))
    ]
    for activity in activities:
        result = result.merge(activity.reset_index(), on=PAIR, how="left")
    significant = updates[updates.section.isin(SECTIONS) & (updates.updated_at <= AS_OF)]
    newest = significant.groupby("user_id").agg(profile_updated_at=("updated_at", "max"))
    result = result.merge(newest.reset_index(), on="user_id", how="left")
    # Microseconds of this century stay below 2**53, so floats with holes are exact.
    last_active_at = result[list(ACTIVE_AT)].max(axis=1)
    return result.assign(
        **{name: result[name].fillna(0) for name in COUNTS},
        as_of=AS_OF,
        last_active_at=last_active_at,
        days_since_joined=(AS_OF - result.joined_at) // DAY,
        days_since_active=(AS_OF - last_active_at.fillna(result.joined_at)) // DAY,
    )


def _views_pandas(rows: Any) -> Any:
    seen = rows[rows.viewed_at.between(START + 1, AS_OF)]
    return seen.groupby(PAIR).agg(event_view_count_90d=("viewed_at", "size"))


def _interactions_pandas(rows: Any) -> Any:
    known = rows[rows.sent_at <= AS_OF]
    grouped = known.assign(recent=known.sent_at > START).groupby(PAIR)
    return grouped.agg(interaction_count_90d=("recent", "sum"), interacted_at=("sent_at", "max"))


def _attendance_pandas(rows: Any) -> Any:
    rows = rows[rows.created_at <= AS_OF]
    moment = rows.responded_at.fillna(rows.created_at)
    settled = moment <= AS_OF
    came = settled & rows.status.isin(["attended", "partial"])
    rsvp = ~settled | ~rows.status.isin(["cancelled", "waitlisted"])
    facts = rows[PAIR].assign(
        events_attended_90d=came & (moment > START),
        events_attended_prev_90d=came & moment.between(PREVIOUS_START + 1, START),
        events_attended_total=came,
        last_attended_at=moment.where(came),
        no_show_count_90d=settled & (rows.status == "no_show") & (moment > START),
        rsvp_count_90d=rsvp & (rows.created_at > START),
        answered_at=rows.created_at.where(rsvp),
    )
    how = {name: "max" if name.endswith("_at") else "sum" for name in facts.columns[2:]}
    return facts.groupby(PAIR).agg(how)


def _notifications_pandas(sent: Any, reads: Any, members: Any) -> Any:
    import pandas as pd

    sent = sent[sent.sent_at <= AS_OF]
    first = reads[reads.read_at <= AS_OF].groupby("notification_id").read_at.min()
    touches = pd.concat(
        [
            sent[sent.sent_at > START].assign(moment=lambda rows: rows.sent_at, is_read=False),
            sent.merge(first.rename("moment").reset_index(), on="notification_id").assign(
                is_read=True
            ),
        ]
    )
    pending = touches[touches.org_id.isna()].drop(columns="org_id").merge(members, on="user_id")
    holds = (pending.joined_at <= pending.moment) & (
        pending.left_at.isna() | (pending.left_at > pending.moment)
    )
    oldest = (
        pending[holds]
        .sort_values(["joined_at", "org_id"])
        .drop_duplicates(["notification_id", "is_read"])
    )
    found = pd.concat([touches.dropna(subset="org_id"), oldest])
    facts = found[PAIR].assign(
        notifications_sent_90d=~found.is_read,
        notifications_read_90d=found.is_read & (found.moment > START),
        read_at=found.moment.where(found.is_read),
    )
    how = {name: "max" if name.endswith("_at") else "sum" for name in facts.columns[2:]}
    return facts.groupby(PAIR).agg(how)
