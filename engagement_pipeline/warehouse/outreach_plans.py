"""What cycles decided and planned, as it is stored, and what templates are chosen by.

Here belong `outreach.decisions`, `outreach.cycles`, `outreach.withheld`, and messages up to their
being planned. What becomes of a message after that belongs to `outreach_ledger`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query
from engagement_pipeline.warehouse.quality import Violation

DECISIONS = contract("outreach.decisions")
CYCLES = contract("outreach.cycles")
MESSAGES = contract("outreach.messages")
WITHHELD = contract("outreach.withheld")
_POSTERIORS = contract("loops.arm_posteriors")


def standing(connection: Connection, cycle_id: str) -> dict[tuple[str, str], dict[str, datetime]]:
    """Messages of a cycle that was computed before: member -> message -> when it is to go.

    Cancelled and failed ones are among them: they go to nobody, but are not planned twice.
    """
    rows = query(
        connection,
        f"""SELECT org_id, user_id, message_id, send_at FROM {MESSAGES.full_name}
            WHERE cycle_id = $cycle_id
            UNION ALL
            SELECT org_id, user_id, message_id, send_at FROM {WITHHELD.full_name}
            WHERE cycle_id = $cycle_id""",
        {"cycle_id": cycle_id},
    )
    found: dict[tuple[str, str], dict[str, datetime]] = {}
    for org_id, user_id, message_id, send_at in rows.iter_rows():
        found.setdefault((org_id, user_id), {})[message_id] = send_at
    return found


def posteriors(connection: Connection, *, as_of: datetime) -> pl.DataFrame:
    """Rows of `loops.arm_posteriors` known and not expired at a moment; several of an arm."""
    names = ", ".join(_POSTERIORS.column_names)
    return query(
        connection,
        f"SELECT {names} FROM {_POSTERIORS.full_name} "
        "WHERE computed_at <= $as_of AND expires_at > $as_of",
        {"as_of": as_of},
    ).cast(_POSTERIORS.polars_schema)


def begin(
    connection: Connection,
    cycle_id: str,
    as_of: datetime,
    org_ids: Sequence[str],
    *,
    kept_for: timedelta,
) -> None:
    """Take away what this cycle decided and counted when it was computed before, and old decisions.

    Its messages stay. A cycle without counts is one that did not come to its end.

    Args:
        connection: to the warehouse.
        cycle_id: the cycle.
        as_of: its moment.
        org_ids: the organisations that are decided on; none: all.
        kept_for: how old decisions may be at its moment to stay.
    """
    theirs, named = _whose(cycle_id, org_ids)
    with transaction(connection):
        # By the moment too, though the id tells it: rows lie in the order of time.
        for table in (DECISIONS, CYCLES):
            connection.execute(
                f"DELETE FROM {table.full_name} WHERE {table.time_column} = $as_of AND {theirs}",
                {**named, "as_of": as_of},
            )
        connection.execute(
            f"DELETE FROM {DECISIONS.full_name} WHERE decided_at < $before",
            {"before": as_of - kept_for},
        )


def add(
    connection: Connection,
    *,
    decisions: pl.DataFrame | None = None,
    messages: pl.DataFrame,
    withheld: pl.DataFrame,
) -> tuple[int, int]:
    """Add decisions and what was planned by them in one transaction.

    A message that is there already, be it of this cycle or of another, stays as it is.

    Args:
        connection: to the warehouse.
        decisions: rows of `outreach.decisions`.
        messages: rows of `outreach.messages`.
        withheld: rows of `outreach.withheld`.

    Returns:
        How many messages were added, and how many withheld ones.
    """
    with transaction(connection):
        if decisions is not None:
            append(connection, DECISIONS.full_name, DECISIONS.validate(decisions))
        return _add_new(connection, MESSAGES, messages), _add_new(connection, WITHHELD, withheld)


def finish(
    connection: Connection,
    counts: pl.DataFrame,
    failed: Collection[str],
    *,
    cycle_id: str,
    as_of: datetime,
) -> None:
    """Write what the cycle decided in each organisation, and undo it where that failed.

    What was planned is counted from the tables themselves. Of an organisation that failed on the
    way nothing stays but what has left already.

    Args:
        connection: to the warehouse.
        counts: rows of `outreach.cycles` but for `messages` and `withheld`.
        failed: the organisations that failed; none of those in `counts`.
        cycle_id: the cycle.
        as_of: its moment.
    """
    with transaction(connection):
        if failed:
            theirs, named = _whose(cycle_id, failed)
            connection.execute(
                f"DELETE FROM {DECISIONS.full_name} WHERE decided_at = $as_of AND {theirs}",
                {**named, "as_of": as_of},
            )
            connection.execute(
                f"DELETE FROM {MESSAGES.full_name} WHERE status = 'scheduled' AND {theirs}", named
            )
            connection.execute(f"DELETE FROM {WITHHELD.full_name} WHERE {theirs}", named)
        rows = counts
        for table in (MESSAGES, WITHHELD):
            planned = query(
                connection,
                f"SELECT org_id, count(*) AS {table.name} FROM {table.full_name} "
                "WHERE cycle_id = $cycle_id GROUP BY org_id",
                {"cycle_id": cycle_id},
            )
            rows = rows.join(planned, on="org_id", how="left").with_columns(
                pl.col(table.name).fill_null(0)
            )
        schema = CYCLES.polars_schema
        typed = rows.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
        append(connection, CYCLES.full_name, CYCLES.validate(typed))


def counts_of(connection: Connection, cycle_id: str, org_ids: Collection[str] = ()) -> pl.DataFrame:
    """What a cycle decided in some organisations, none: in all; rows of `outreach.cycles`."""
    names = ", ".join(CYCLES.column_names)
    theirs, named = _whose(cycle_id, org_ids)
    return query(
        connection,
        f"SELECT {names} FROM {CYCLES.full_name} WHERE {theirs} ORDER BY org_id",
        named,
    ).cast(CYCLES.polars_schema)


def messages_of(
    connection: Connection, cycle_id: str, *, user_id: str | None = None
) -> pl.DataFrame:
    """The messages of a cycle, or those to one person, as they are now, sorted by when they go."""
    names = ", ".join(MESSAGES.column_names)
    whose = "" if user_id is None else "AND user_id = $user_id"
    return query(
        connection,
        f"SELECT {names} FROM {MESSAGES.full_name} WHERE cycle_id = $cycle_id {whose} "
        "ORDER BY send_at, message_id",
        {"cycle_id": cycle_id, **({} if user_id is None else {"user_id": user_id})},
    ).cast(MESSAGES.polars_schema)


def violations(connection: Connection, table: Contract, cycle_id: str) -> list[Violation]:
    """The promises that rows of a cycle break; those of other cycles were looked at in their time.

    Args:
        connection: to the warehouse.
        table: the contract of a table of cycles.
        cycle_id: the cycle.
    """
    rows = f"(SELECT * FROM {table.full_name} WHERE cycle_id = $cycle_id)"
    found = connection.execute(table.violations_query(rows), {"cycle_id": cycle_id}).fetchall()
    return [Violation(*row) for row in found]


def planned_by_type(
    connection: Connection, cycle_id: str, org_ids: Sequence[str]
) -> dict[str, int]:
    """The messages of a cycle in some organisations, none: in all, by what they are for."""
    theirs, named = _whose(cycle_id, org_ids)
    rows = query(
        connection,
        f"SELECT outreach_type, count(*) AS n FROM {MESSAGES.full_name} WHERE {theirs} "
        "GROUP BY outreach_type ORDER BY outreach_type",
        named,
    )
    return dict(rows.iter_rows())


def _whose(cycle_id: str, org_ids: Collection[str]) -> tuple[str, dict[str, Any]]:
    if not org_ids:
        return "cycle_id = $cycle_id", {"cycle_id": cycle_id}
    named = {"cycle_id": cycle_id, "orgs": sorted(org_ids)}
    return "cycle_id = $cycle_id AND org_id IN (SELECT unnest($orgs))", named


def _add_new(connection: Connection, table: Contract, rows: pl.DataFrame) -> int:
    """Add those whose message is not there yet; gives how many that are."""
    if rows.is_empty():
        return 0
    known = query(
        connection,
        f"SELECT message_id FROM {table.full_name} WHERE message_id IN (SELECT unnest($ids))",
        {"ids": rows["message_id"].to_list()},
    )
    new = rows.join(known, on="message_id", how="anti")
    append(connection, table.full_name, table.validate(new))
    return new.height
