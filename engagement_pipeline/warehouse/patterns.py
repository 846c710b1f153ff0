"""What patterns of behaviour are computed from, read in slices of people, and their table written.

What a pattern is belongs to `behavior.patterns`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query

_PATTERNS = contract("behavior.patterns")
_SCORED = contract("behavior.interactions_scored")

_MEMBERS = """
    SELECT m.org_id, m.user_id, min(m.joined_at) AS joined_at,
           coalesce(any_value(p.timezone), any_value(o.timezone), 'UTC') AS timezone
    FROM raw.memberships AS m
    LEFT JOIN raw.profiles AS p USING (user_id)
    LEFT JOIN raw.organizations AS o USING (org_id)
    WHERE m.joined_at <= $as_of AND (m.left_at IS NULL OR m.left_at > $as_of) AND {whose}
    GROUP BY m.org_id, m.user_id"""

# All that is said of what came before is when the last of it was: of each member, one row.
_INTERACTIONS = f"""
    SELECT org_id, user_id, interaction_id, type, sent_at, sentiment, quality, is_meaningful,
           session_id
    FROM {_SCORED.full_name} AS m
    WHERE sent_at > $since AND sent_at <= $as_of AND {{whose}}
    UNION ALL BY NAME
    SELECT org_id, user_id, max(sent_at) AS sent_at
    FROM {_SCORED.full_name} AS m WHERE sent_at <= $since AND {{whose}}
    GROUP BY org_id, user_id"""


@dataclass(frozen=True)
class Slice:
    """Some of the people, and all that is needed to describe them.

    Attributes:
        members: `org_id`, `user_id`, `joined_at`, `timezone` of who is a member at the moment.
        interactions: the columns of `behavior.interactions_scored` that patterns are made of, of
            these people; of what was sent before `since`, only when each one's last was.
    """

    members: pl.DataFrame
    interactions: pl.DataFrame


def has_interactions(connection: Connection, *, as_of: datetime) -> bool:
    """Whether any interaction that has been scored was sent by `as_of`."""
    found = query(
        connection,
        f"SELECT EXISTS (SELECT 1 AS one FROM {_SCORED.full_name} WHERE sent_at <= $as_of) AS any",
        {"as_of": as_of},
    )
    return bool(found["any"].item())


def current_members(connection: Connection, *, as_of: datetime) -> pl.DataFrame:
    """Who is a member at `as_of`: `org_id`, `user_id`, `joined_at`, `timezone`, sorted.

    The zone is the person's, else the organisation's, else UTC.
    """
    members = _MEMBERS.format(whose="true")
    return query(connection, f"{members} ORDER BY m.org_id, m.user_id", {"as_of": as_of})


def member_count(connection: Connection, *, as_of: datetime, user_id: str | None = None) -> int:
    """How many are members at `as_of`: of everybody, or what one person is a member of."""
    whose, named = _whose(user_id)
    members = _MEMBERS.format(whose=whose)
    found = query(connection, f"SELECT count(*) AS n FROM ({members})", {"as_of": as_of, **named})
    return int(found["n"].item())


def slices(
    connection: Connection,
    *,
    as_of: datetime,
    since: datetime,
    slice_rows: int,
    slice_members: int | None = None,
) -> Iterator[Slice]:
    """One slice of the people after another, by a hash of their ids.

    Args:
        connection: to the warehouse.
        as_of: the moment; nothing later is read.
        since: from when on interactions are read one by one.
        slice_rows: about how many interactions are read at once.
        slice_members: about how many members a slice has at most, if that is limited too.
    """
    rows = query(
        connection,
        f"SELECT count(*) AS n FROM {_SCORED.full_name} "
        "WHERE sent_at > $since AND sent_at <= $as_of",
        {"since": since, "as_of": as_of},
    )["n"].item()
    parts = max(1, -(-rows // slice_rows))
    for part in range(parts):
        whose = f"hash(m.user_id) % {parts} = {part}" if parts > 1 else "true"
        found = _read(connection, whose, {"as_of": as_of}, since)
        if slice_members is None:
            yield found
        else:
            yield from _parted(found, slice_members)


def slice_of(connection: Connection, user_id: str, *, as_of: datetime, since: datetime) -> Slice:
    """One person, in every organisation; arguments as for `slices`."""
    whose, named = _whose(user_id)
    return _read(connection, whose, {"as_of": as_of, **named}, since)


def write(
    connection: Connection, rows: Iterable[pl.DataFrame], *, user_id: str | None = None
) -> int:
    """Replace the table, or the rows of one person, in one transaction; gives how many came in.

    Args:
        connection: to the warehouse.
        rows: frames that keep the contract of `behavior.patterns`.
        user_id: whose rows are replaced; by default everybody's.
    """
    whose, named = _whose(user_id)
    written = 0
    with transaction(connection):
        connection.execute(f"DELETE FROM {_PATTERNS.full_name} AS m WHERE {whose}", named)
        for frame in rows:
            append(connection, _PATTERNS.full_name, frame)
            written += frame.height
    return written


def _whose(user_id: str | None) -> tuple[str, dict[str, str]]:
    return ("true", {}) if user_id is None else ("m.user_id = $user_id", {"user_id": user_id})


def _read(connection: Connection, whose: str, named: dict[str, object], since: datetime) -> Slice:
    return Slice(
        query(connection, _MEMBERS.format(whose=whose), named),
        query(connection, _INTERACTIONS.format(whose=whose), {**named, "since": since}),
    )


def _parted(found: Slice, slice_members: int) -> Iterator[Slice]:
    """The slice in smaller ones: to read fifty members by fifty would read the table as often."""
    begins_at = pl.col("len").cum_sum() - pl.col("len")
    people = found.members.group_by("user_id").len().sort("user_id")
    placed = people.select("user_id", (begins_at // slice_members).alias("part"))
    members, interactions = (
        rows.join(placed, on="user_id").partition_by("part", as_dict=True, include_key=False)
        for rows in (found.members, found.interactions)
    )
    for part in sorted(members):
        yield Slice(members[part], interactions.get(part, found.interactions.clear()))
