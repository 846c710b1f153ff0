"""What milestones are computed from, read in slices of people, and their tables written.

What counts, and when a milestone is reached, belongs to `milestones`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import SENT_STATUSES
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query, read_table
from engagement_pipeline.warehouse.quality import row_count

CATALOGUE = contract("milestones.catalogue")
DAILY = contract("milestones.daily")
PROGRESS = contract("milestones.progress")
RETENTION = contract("milestones.retention")

FURTHEST_AHEAD = timedelta(hours=14)
"""How far the clocks of a zone are ahead of UTC at most: those of Kiribati."""

_PREVIOUS = "previous_milestones"
_ROWS_A_MEMBER = 20
"""Rows that a member has in `milestones.progress`, about."""

# What was before the first day counted, in the zone that is furthest ahead, need not be read.
# Moments are written into the queries: rows of one with parameters come out of DuckDB one by one,
# which took 25 seconds of 40 for a million days.
_DAY_SOURCES = {
    "interactions": """
        SELECT org_id, user_id, type, sent_at, mood, sentiment, quality, is_meaningful
        FROM behavior.interactions_scored AS p
        WHERE sent_at <= {as_of} AND sent_at >= {since} AND {whose}""",
    "attendance": """
        SELECT p.org_id, p.user_id, p.status, p.created_at, p.responded_at, e.starts_at
        FROM raw.attendance AS p
        LEFT JOIN raw.events AS e ON p.event_id = e.event_id AND p.org_id = e.org_id
        WHERE p.created_at <= {as_of} AND {whose}
          AND coalesce(e.starts_at, p.responded_at, p.created_at) >= {since}""",
    "first_reads": """
        SELECT p.user_id, any_value(p.org_id) AS org_id, min(r.read_at) AS read_at
        FROM raw.notifications AS p
        INNER JOIN raw.notification_reads AS r USING (notification_id)
        WHERE r.read_at <= {as_of} AND p.sent_at <= {as_of} AND {whose}
        GROUP BY p.notification_id, p.user_id
        HAVING min(r.read_at) >= {since}""",
    "memberships": """
        SELECT org_id, user_id, joined_at, left_at FROM raw.memberships AS p WHERE {whose}""",
    "profiles": "SELECT user_id, timezone FROM raw.profiles AS p WHERE {whose}",
    "organizations": "SELECT org_id, timezone FROM raw.organizations",
}
_ACTIVITY_TABLES = (
    "behavior.interactions_scored",
    "raw.attendance",
    "raw.notifications",
    "raw.notification_reads",
)

_MEMBERS = """
    SELECT p.org_id, p.user_id, min(p.joined_at) AS joined_at,
           coalesce(any_value(f.timezone), any_value(o.timezone), 'UTC') AS timezone
    FROM raw.memberships AS p
    INNER JOIN raw.organizations AS o USING (org_id)
    LEFT JOIN raw.profiles AS f USING (user_id)
    LEFT JOIN raw.org_settings AS s
        ON p.org_id = s.org_id AND s.setting = 'gamification_enabled'
    WHERE p.joined_at <= {as_of} AND (p.left_at IS NULL OR p.left_at > {as_of})
      AND coalesce(try_cast(s.value AS INTEGER), {gamification_enabled}) <> 0 AND {whose}
    GROUP BY p.org_id, p.user_id"""

_CELEBRATED = f"""
    UPDATE {PROGRESS.full_name} AS p SET celebrated_at = m.sent_at
    FROM (
        SELECT org_id, user_id, occasion, min(sent_at) AS sent_at FROM outreach.messages
        WHERE outreach_type = 'milestone_celebration' AND trigger = 'milestone_reached'
          AND status IN (SELECT unnest($sent_statuses)) AND sent_at IS NOT NULL
        GROUP BY org_id, user_id, occasion
    ) AS m
    WHERE p.org_id = m.org_id AND p.user_id = m.user_id
      AND m.occasion = 'milestone_reached:' || p.milestone_id
      AND p.reached_at IS NOT NULL AND p.celebrated_at IS NULL"""


@dataclass(frozen=True)
class Seeded:
    """What became of the rows of a catalogue: added, put in the place of others, or left out."""

    added: int
    replaced: int
    kept: int


@dataclass(frozen=True)
class ProgressSlice:
    """Some of the members, and all that their progress is computed from.

    Attributes:
        members: `org_id`, `user_id`, `joined_at`, `timezone` of who is a member at the moment.
        days: their rows of `milestones.daily`.
        previous: `org_id`, `user_id`, `milestone_id`, `reached_at`, `celebrated_at` of what they
            had reached when the progress was last written.
    """

    members: pl.DataFrame
    days: pl.DataFrame
    previous: pl.DataFrame


# --- The catalogue.


def seed_catalogue(
    connection: Connection, rows: pl.DataFrame, *, seeded_at: datetime, overwrites: bool
) -> Seeded:
    """Put milestones into the catalogue, in one transaction. Those that only it has stay.

    Args:
        connection: to the warehouse.
        rows: the columns of `milestones.catalogue` without `seeded_at`.
        seeded_at: the moment.
        overwrites: whether rows take the place of those with the same id; else they are left out.
    """
    seeded = CATALOGUE.validate(
        rows.with_columns(
            pl.lit(seeded_at).cast(CATALOGUE.polars_schema["seeded_at"]).alias("seeded_at")
        ).select(CATALOGUE.column_names)
    )
    known = set(catalogue(connection)["milestone_id"])
    is_known = pl.col("milestone_id").is_in(list(known))
    missing, others = seeded.filter(~is_known), seeded.filter(is_known)
    with transaction(connection):
        if overwrites:
            connection.execute(
                f"DELETE FROM {CATALOGUE.full_name} WHERE milestone_id IN (SELECT unnest($ids))",
                {"ids": others["milestone_id"].to_list()},
            )
            append(connection, CATALOGUE.full_name, others)
        append(connection, CATALOGUE.full_name, missing)
    replaced = others.height if overwrites else 0
    return Seeded(missing.height, replaced, others.height - replaced)


def catalogue(connection: Connection) -> pl.DataFrame:
    """The milestones that there are, sorted by id."""
    return read_table(connection, CATALOGUE).sort("milestone_id")


# --- Days, and what outlives the interactions.


def frozen_before(connection: Connection) -> date | None:
    """The first day that is still counted anew; none where all are."""
    found = query(connection, f"SELECT max(frozen_before) AS day FROM {RETENTION.full_name}")
    day: date | None = found["day"].item()
    return day


def first_day_untouched(removed_before: datetime) -> date:
    """What to freeze before, where all interactions before a moment are removed.

    That is the day after the last local day, in whatever zone, of a moment before it.
    """
    last = removed_before - timedelta(microseconds=1) + FURTHEST_AHEAD
    return last.date() + timedelta(days=1)


def freeze(connection: Connection, before: date, *, as_of: datetime) -> None:
    """Keep all days before `before` as they are counted now, for good.

    To be called before interactions are removed, and after the days were counted. No local day from
    `before` on may lose an interaction, in whatever zone it is: `first_day_untouched` gives the
    first such day. In other words, no interaction may be removed that was sent 14 hours before the
    start of `before` in UTC, or later. What arrives later for a day that is frozen is not counted
    any more, and days once frozen stay so: an earlier `before` changes nothing.

    Args:
        connection: to the warehouse.
        before: the first day that is still counted anew.
        as_of: the moment of the cleaning.
    """
    frozen = frozen_before(connection)
    if frozen is not None and before <= frozen:
        return
    row = {"frozen_before": before, "cleaned_at": as_of}
    append(connection, RETENTION.full_name, pl.DataFrame([row], schema=RETENTION.polars_schema))


def day_slices(
    connection: Connection, *, as_of: datetime, since: date | None, slice_rows: int
) -> Iterator[dict[str, pl.DataFrame]]:
    """What days are counted from, for one slice of the people after another, by a hash of the ids.

    All that concerns a person is in one slice, because a notification without an organisation is
    attributed by all the person's memberships.

    Args:
        connection: to the warehouse.
        as_of: the moment; nothing later is read.
        since: the first day that is counted anew, if not all are.
        slice_rows: about how many rows of activity are read at once.

    Returns:
        The frames of `milestones.days.DaySources`, by name.
    """
    rows = sum(row_count(connection, contract(table)) for table in _ACTIVITY_TABLES)
    for whose in _parts(rows, slice_rows):
        given = {"as_of": _literal(as_of), "since": _literal(_earliest(since)), "whose": whose}
        yield {name: query(connection, sql.format(**given)) for name, sql in _DAY_SOURCES.items()}


def write_days(connection: Connection, rows: Iterable[pl.DataFrame], *, since: date | None) -> int:
    """Replace the days from `since` on, or all, in one transaction; gives how many came in.

    Takes frames that keep the contract of `milestones.daily`.
    """
    written = 0
    with transaction(connection):
        connection.execute(
            f"DELETE FROM {DAILY.full_name} WHERE day >= $since", {"since": since or date.min}
        )
        for frame in rows:
            append(connection, DAILY.full_name, frame)
            written += frame.height
    return written


# --- Progress.


def member_count(connection: Connection, *, as_of: datetime, gamification_enabled: int) -> int:
    """How many members' progress is told; arguments as for `progress_slices`."""
    members = _members("true", as_of, gamification_enabled)
    return int(query(connection, f"SELECT count(*) AS n FROM ({members})")["n"].item())


def progress_slices(
    connection: Connection, *, as_of: datetime, slice_rows: int, gamification_enabled: int
) -> Iterator[ProgressSlice]:
    """One slice of the members after another, by a hash of their ids.

    What was reached before is set apart at once, so that the table may be written meanwhile.

    Args:
        connection: to the warehouse.
        as_of: the moment at which they are members.
        slice_rows: about how many days, or rows of progress, are worked on at once.
        gamification_enabled: 0 or 1: whether it is on where an organisation does not say.
    """
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE {_PREVIOUS} AS
            SELECT org_id, user_id, milestone_id, reached_at, celebrated_at
            FROM {PROGRESS.full_name} WHERE reached_at IS NOT NULL"""
    )
    members = member_count(connection, as_of=as_of, gamification_enabled=gamification_enabled)
    rows = max(row_count(connection, DAILY), _ROWS_A_MEMBER * members)
    return _progress_slices(connection, as_of, gamification_enabled, _parts(rows, slice_rows))


def _progress_slices(
    connection: Connection, as_of: datetime, gamification_enabled: int, parts: Iterable[str]
) -> Iterator[ProgressSlice]:
    names = ", ".join(DAILY.column_names)
    # The day after that has not begun anywhere.
    last = (as_of.astimezone(UTC) + FURTHEST_AHEAD).date().isoformat()
    days = f"SELECT {names} FROM {DAILY.full_name} AS p WHERE day <= DATE '{last}'"
    for whose in parts:
        yield ProgressSlice(
            query(connection, _members(whose, as_of, gamification_enabled)),
            query(connection, f"{days} AND {whose}"),
            query(connection, f"SELECT * FROM {_PREVIOUS} AS p WHERE {whose}"),
        )
    connection.execute(f"DROP TABLE temp.{_PREVIOUS}")


def _members(whose: str, as_of: datetime, gamification_enabled: int) -> str:
    return _MEMBERS.format(
        whose=whose, as_of=_literal(as_of), gamification_enabled=int(gamification_enabled)
    )


def write_progress(connection: Connection, rows: Iterable[pl.DataFrame]) -> int:
    """Replace all progress in one transaction, and note who was congratulated; gives the rows.

    A milestone is celebrated at the first message about it that has left, whenever that was:
    what has been said must not be said again, also where the progress is told for an earlier
    moment.

    Takes frames that keep the contract of `milestones.progress`.
    """
    written = 0
    with transaction(connection):
        connection.execute(f"DELETE FROM {PROGRESS.full_name}")
        for frame in rows:
            append(connection, PROGRESS.full_name, frame)
            written += frame.height
        connection.execute(_CELEBRATED, {"sent_statuses": list(SENT_STATUSES)})
    return written


@dataclass(frozen=True)
class ProgressOverview:
    """What the progress comes to: members with any, and how much they have reached."""

    members: int
    reached: int
    reached_in_a_day: int
    celebrated: int


def overview(connection: Connection) -> ProgressOverview:
    """Counts of the whole table; `reached_in_a_day` is of the 24 hours up to its moment."""
    found = query(
        connection,
        f"""SELECT count(DISTINCT (org_id, user_id)) AS members, count(reached_at) AS reached,
                   count(*) FILTER (WHERE reached_at > as_of - INTERVAL 1 DAY) AS reached_in_a_day,
                   count(celebrated_at) AS celebrated
            FROM {PROGRESS.full_name}""",
    )
    return ProgressOverview(**found.row(0, named=True))


def reached_by_category(connection: Connection) -> pl.DataFrame:
    """`category`, `milestones`, `members`, `reached`, `reached_in_a_day`, sorted by category."""
    return query(
        connection,
        f"""SELECT c.category, count(DISTINCT c.milestone_id) AS milestones,
                   count(DISTINCT (p.org_id, p.user_id)) FILTER (WHERE p.reached_at IS NOT NULL)
                       AS members,
                   count(p.reached_at) AS reached,
                   count(*) FILTER (WHERE p.reached_at > p.as_of - INTERVAL 1 DAY)
                       AS reached_in_a_day
            FROM {CATALOGUE.full_name} AS c
            LEFT JOIN {PROGRESS.full_name} AS p USING (milestone_id)
            GROUP BY c.category ORDER BY c.category""",
    )


def _earliest(since: date | None) -> datetime:
    """The first moment that is of a day from `since` on anywhere."""
    if since is None:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.combine(since, time(0), UTC) - FURTHEST_AHEAD


def _literal(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.astimezone(UTC).isoformat()}'"


def _parts(rows: int, slice_rows: int) -> Iterator[str]:
    """Conditions on `p.user_id` that part the people into slices."""
    parts = max(1, -(-rows // slice_rows))
    for part in range(parts):
        yield f"hash(p.user_id) % {parts} = {part}" if parts > 1 else "true"
