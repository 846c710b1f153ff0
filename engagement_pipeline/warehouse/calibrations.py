"""What was learned, and what was decided by it, as it is stored.

What is learned from what, and which version counts, is decided in `loops`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.contracts.vocabulary import CALIBRATION_ARCHETYPES
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query

_CALIBRATIONS = contract("loops.calibrations")
_LEARNING_RUNS = contract("loops.learning_runs")
_USES = contract("loops.consumer_uses")
_DECISIONS = contract("loops.digest_decisions")
_CORRECTIONS = contract("loops.corrections")


def no_calibrations() -> pl.DataFrame:
    """A frame of calibrations without rows."""
    return _CALIBRATIONS.empty()


def no_decisions() -> pl.DataFrame:
    """A frame of digest decisions without rows."""
    return _DECISIONS.empty()


def failed_learning(connection: Connection) -> dict[tuple[str, str], str]:
    """Organisation and loop -> why its last learning failed, for those whose last one did."""
    rows = connection.execute(
        f"""SELECT org_id, archetype, error FROM {_LEARNING_RUNS.full_name}
            QUALIFY row_number() OVER (
                PARTITION BY org_id, archetype ORDER BY computed_at DESC, as_of DESC) = 1
            ORDER BY org_id, archetype"""
    ).fetchall()
    return {(org_id, archetype): error for org_id, archetype, error in rows if error is not None}


def latest_versions(connection: Connection, *, before: datetime) -> pl.DataFrame:
    """Of every calibration the newest version computed for an earlier moment."""
    return _calibrations(
        connection,
        "WHERE computed_at < $moment QUALIFY row_number() OVER "
        "(PARTITION BY org_id, key ORDER BY computed_at DESC) = 1",
        before,
    )


def unexpired(connection: Connection, *, as_of: datetime, prefix: str = "") -> pl.DataFrame:
    """Versions known and not expired at `as_of`, of keys that begin so; several of a key."""
    return _calibrations(
        connection,
        "WHERE computed_at <= $moment AND expires_at > $moment AND starts_with(key, $prefix)",
        as_of,
        prefix=prefix,
    )


def write_learned(
    connection: Connection,
    archetype: str,
    calibrations: pl.DataFrame,
    failed: Mapping[str, str],
    *,
    org_ids: Sequence[str],
    as_of: datetime,
    computed_at: datetime,
    findings: Mapping[str, pl.DataFrame] | None = None,
) -> None:
    """Add what was learned of a loop, and how it ended for each organisation, in one transaction.

    Learned again for the same `as_of`, rows take the place of those there were. An organisation
    that failed keeps what it had.

    Args:
        archetype: the loop.
        calibrations: rows of `loops.calibrations`, all of this loop and `as_of`.
        failed: organisation -> why nothing could be learned for it.
        org_ids: all organisations that learning was tried for.
        as_of: the moment learned for.
        computed_at: when that was.
        findings: further tables of the schema `loops` -> their rows, all of this `as_of`.
            Versions of other moments stay as they are.
    """
    learned = [org_id for org_id in org_ids if org_id not in failed]
    prefixes = [key for key, loop in CALIBRATION_ARCHETYPES.items() if loop == archetype]
    counts = dict(calibrations.group_by("org_id").len().iter_rows())
    runs = [
        {
            "org_id": org_id,
            "archetype": archetype,
            "as_of": as_of,
            "outcome": "failed" if org_id in failed else "learned",
            "calibrations": counts.get(org_id, 0),
            "error": failed.get(org_id),
            "computed_at": computed_at,
        }
        for org_id in org_ids
    ]
    with transaction(connection):
        connection.execute(
            f"DELETE FROM {_CALIBRATIONS.full_name} WHERE computed_at = $as_of "
            "AND org_id IN (SELECT unnest($orgs)) "
            "AND split_part(key, ':', 1) IN (SELECT unnest($prefixes))",
            {"as_of": as_of, "orgs": learned, "prefixes": prefixes},
        )
        append(connection, _CALIBRATIONS.full_name, calibrations)
        for name, rows in (findings or {}).items():
            _replace(connection, contract(name), rows, learned, as_of)
        connection.execute(
            f"DELETE FROM {_LEARNING_RUNS.full_name} WHERE as_of = $as_of "
            "AND archetype = $archetype AND org_id IN (SELECT unnest($orgs))",
            {"as_of": as_of, "archetype": archetype, "orgs": list(org_ids)},
        )
        append(
            connection,
            _LEARNING_RUNS.full_name,
            pl.DataFrame(runs, schema=_LEARNING_RUNS.polars_schema),
        )


def corrections_in_force(
    connection: Connection, *, as_of: datetime, learned_after: datetime
) -> pl.DataFrame:
    """The corrections that an organisation's last successful learning found; perhaps none.

    Args:
        as_of: the moment; what was learned for later ones is invisible.
        learned_after: what was learned for this moment or before has expired.

    Returns:
        Rows of `loops.corrections`, sorted by `org_id, place`.
    """
    names = ", ".join(f"c.{name}" for name in _CORRECTIONS.column_names)
    return query(
        connection,
        f"""SELECT {names} FROM {_CORRECTIONS.full_name} AS c
            INNER JOIN (
                SELECT org_id, max(as_of) AS learned_at FROM {_LEARNING_RUNS.full_name}
                WHERE archetype = 'suggestion' AND outcome = 'learned'
                    AND as_of <= $as_of AND as_of > $learned_after
                GROUP BY org_id
            ) AS l ON c.org_id = l.org_id AND c.computed_at = l.learned_at
            ORDER BY c.org_id, c.place""",
        {"as_of": as_of, "learned_after": learned_after},
    ).cast(_CORRECTIONS.polars_schema)


def previous_decisions(connection: Connection, *, before: datetime) -> pl.DataFrame:
    """The last digest decision of every organisation and feature made for an earlier moment."""
    names = ", ".join(_DECISIONS.column_names)
    return query(
        connection,
        f"SELECT {names} FROM {_DECISIONS.full_name} WHERE decided_at < $before "
        "QUALIFY row_number() OVER (PARTITION BY org_id, feature ORDER BY decided_at DESC) = 1 "
        "ORDER BY org_id, feature",
        {"before": before},
    ).cast(_DECISIONS.polars_schema)


def write_decisions(connection: Connection, decisions: pl.DataFrame, *, as_of: datetime) -> None:
    """Add digest decisions; those of the same moment are replaced."""
    with transaction(connection):
        connection.execute(f"DELETE FROM {_DECISIONS.full_name} WHERE decided_at = ?", [as_of])
        append(connection, _DECISIONS.full_name, _DECISIONS.validate(decisions))


def record_uses(
    connection: Connection,
    archetype: str,
    consumer: str,
    used: Mapping[str, int],
    *,
    as_of: datetime,
) -> None:
    """Write down that a consumer used calibrations for `as_of`: organisation -> how many.

    What it last used stays where that was for a later moment: a past day that is computed again
    says nothing of today.
    """
    rows: list[dict[str, Any]] = [
        {
            "org_id": org_id,
            "archetype": archetype,
            "consumer": consumer,
            "used_at": as_of,
            "calibrations": count,
        }
        for org_id, count in sorted(used.items())
        if count
    ]
    of_consumer = f"{_USES.full_name} WHERE archetype = $archetype AND consumer = $consumer"
    names = {"archetype": archetype, "consumer": consumer}
    with transaction(connection):
        later = query(
            connection,
            f"SELECT org_id FROM {of_consumer} AND used_at > $as_of",
            {**names, "as_of": as_of},
        )
        kept = set(later["org_id"])
        rows = [row for row in rows if row["org_id"] not in kept]
        connection.execute(
            f"DELETE FROM {of_consumer} AND org_id IN (SELECT unnest($orgs))",
            {**names, "orgs": [row["org_id"] for row in rows]},
        )
        append(connection, _USES.full_name, pl.DataFrame(rows, schema=_USES.polars_schema))


def _replace(
    connection: Connection,
    table: Contract,
    rows: pl.DataFrame,
    org_ids: Collection[str],
    as_of: datetime,
) -> None:
    if table.time_column is None:
        raise ValueError(
            f"{table.full_name}: expected a table whose contract names the column of the moment "
            "learned for, found none"
        )
    # Of that moment alone: learning for a past one must leave today's rows as they are.
    connection.execute(
        f"DELETE FROM {table.full_name} WHERE org_id IN (SELECT unnest(?)) "
        f"AND {table.time_column} = ?",
        [list(org_ids), as_of],
    )
    append(connection, table.full_name, table.validate(rows))


def _calibrations(
    connection: Connection, condition: str, moment: datetime, **parameters: Any
) -> pl.DataFrame:
    names = ", ".join(_CALIBRATIONS.column_names)
    return (
        query(
            connection,
            f"SELECT {names} FROM {_CALIBRATIONS.full_name} {condition}",
            {"moment": moment, **parameters},
        )
        .cast(_CALIBRATIONS.polars_schema)
        .sort("org_id", "key", "computed_at")
    )
