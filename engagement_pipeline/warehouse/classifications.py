"""Organisations and their signals as the classifier needs them, and levels written back.

Which organisation is due, and what level a member has, is decided in `scoring`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query

_CLASSIFICATIONS = contract("scores.classifications")
_MEMBERS = contract("signals.member_90d")
_ORG_RUNS = contract("scores.org_runs")
_SCORING_RUNS = contract("scores.scoring_runs")


@dataclass(frozen=True)
class StoredOrg:
    """An organisation as it is stored, with the values it set for itself and its member count."""

    org_id: str
    name: str
    description: str | None
    settings: Mapping[str, str]
    members: int


@dataclass(frozen=True)
class OrgRun:
    """How the classification of one organisation ended, for `scores.org_runs`."""

    org_id: str
    outcome: str
    members: int
    inputs_digest: str
    error: str | None = None


def stored_orgs(connection: Connection) -> list[StoredOrg]:
    """All organisations, in order of their ids."""
    rows = connection.execute(
        f"""SELECT o.org_id, o.name, o.description,
                   (SELECT list([s.setting, s.value] ORDER BY s.setting) FROM raw.org_settings AS s
                    WHERE s.org_id = o.org_id) AS settings,
                   coalesce(m.members, 0) AS members
            FROM raw.organizations AS o
            LEFT JOIN (SELECT org_id, count(*) AS members FROM {_MEMBERS.full_name}
                       GROUP BY org_id) AS m ON m.org_id = o.org_id
            ORDER BY o.org_id"""
    ).fetchall()
    return [
        StoredOrg(org_id, name, description, dict(settings or []), members)
        for org_id, name, description, settings, members in rows
    ]


def org_runs(connection: Connection, *, as_of: datetime) -> dict[str, OrgRun]:
    """How each organisation's classification at `as_of` last ended."""
    rows = connection.execute(
        f"SELECT org_id, outcome, members, inputs_digest, error FROM {_ORG_RUNS.full_name} "
        "WHERE as_of = ?",
        [as_of],
    ).fetchall()
    return {row[0]: OrgRun(*row) for row in rows}


def batches(orgs: Sequence[StoredOrg], *, members: int) -> Iterator[list[StoredOrg]]:
    """The organisations in their order, in groups of about so many members."""
    group: list[StoredOrg] = []
    size = 0
    for org in orgs:
        if group and size + org.members > members:
            yield group
            group, size = [], 0
        group.append(org)
        size += org.members
    if group:
        yield group


def signals_of(connection: Connection, org_ids: Sequence[str]) -> dict[str, pl.DataFrame]:
    """The members' signals of each of these organisations, an empty frame where it has none."""
    frame = query(
        connection,
        f"SELECT * FROM {_MEMBERS.full_name} WHERE org_id IN (SELECT unnest($org_ids)) "
        "ORDER BY org_id, user_id",
        {"org_ids": list(org_ids)},
    ).select(_MEMBERS.column_names)
    found = {str(key[0]): part for key, part in frame.partition_by("org_id", as_dict=True).items()}
    return {org_id: found.get(org_id, frame.clear()) for org_id in org_ids}


def write_levels(
    connection: Connection,
    frames: Sequence[pl.DataFrame],
    runs: Sequence[OrgRun],
    *,
    as_of: datetime,
    computed_at: datetime,
) -> None:
    """Put in the levels of some organisations and how each of them ended, in one transaction.

    The rows of an organisation that was classified replace those it had at this `as_of`; one that
    failed keeps whatever it had.
    """
    classified = [run.org_id for run in runs if run.outcome == "classified"]
    with transaction(connection):
        connection.execute(
            f"DELETE FROM {_CLASSIFICATIONS.full_name} "
            "WHERE as_of = $as_of AND org_id IN (SELECT unnest($org_ids))",
            {"as_of": as_of, "org_ids": classified},
        )
        if frames:
            append(connection, _CLASSIFICATIONS.full_name, pl.concat(frames))
        connection.execute(
            f"DELETE FROM {_ORG_RUNS.full_name} "
            "WHERE as_of = $as_of AND org_id IN (SELECT unnest($org_ids))",
            {"as_of": as_of, "org_ids": [run.org_id for run in runs]},
        )
        rows = [vars(run) | {"as_of": as_of, "computed_at": computed_at} for run in runs]
        append(connection, _ORG_RUNS.full_name, pl.DataFrame(rows, schema=_ORG_RUNS.polars_schema))


def record_scoring_run(
    connection: Connection,
    *,
    run_id: str,
    as_of: datetime,
    due: int,
    runs: Sequence[OrgRun],
    computed_at: datetime,
) -> None:
    """Add the run to `scores.scoring_runs`: from now on the marts show its `as_of`."""
    classified = [run for run in runs if run.outcome == "classified"]
    with transaction(connection):
        connection.execute(f"DELETE FROM {_SCORING_RUNS.full_name} WHERE run_id = ?", [run_id])
        found = connection.execute(
            f"SELECT coalesce(max(run_number), 0) + 1 FROM {_SCORING_RUNS.full_name}"
        ).fetchall()[0]
        assert found is not None
        row = {
            "run_id": run_id,
            "as_of": as_of,
            "orgs_due": due,
            "orgs_classified": len(classified),
            "orgs_failed": len(runs) - len(classified),
            "members": sum(run.members for run in classified),
            "computed_at": computed_at,
            "run_number": found[0],
        }
        append(
            connection,
            _SCORING_RUNS.full_name,
            pl.DataFrame([row], schema=_SCORING_RUNS.polars_schema),
        )


def shown_as_of(connection: Connection) -> datetime | None:
    """The moment that the marts show: that of the last scoring run."""
    frame = query(
        connection,
        f"SELECT as_of FROM {_SCORING_RUNS.full_name} ORDER BY run_number DESC LIMIT 1",
    )
    moment: datetime | None = frame["as_of"].item() if frame.height else None
    return moment


def failed_orgs(connection: Connection, *, as_of: datetime) -> list[OrgRun]:
    """The organisations left failed at `as_of`, in order of their ids."""
    runs = org_runs(connection, as_of=as_of)
    return [run for _, run in sorted(runs.items()) if run.outcome == "failed"]


def level_counts(
    connection: Connection, *, as_of: datetime, reference_days: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Members by organisation and level: at `as_of`, and on the average of the scored moments of
    the days before it.

    Returns:
        Two frames with `org_id`, `level` and `members`; an organisation that was not scored in
        those days is not in the second.
    """
    now = query(
        connection,
        f"SELECT org_id, level, count(*) AS members FROM {_CLASSIFICATIONS.full_name} "
        "WHERE as_of = $as_of GROUP BY org_id, level",
        {"as_of": as_of},
    )
    before = query(
        connection,
        f"""WITH reference AS (
                SELECT org_id, level, as_of FROM {_CLASSIFICATIONS.full_name}
                WHERE as_of < $as_of AND as_of >= $since
            ), moments AS (
                SELECT org_id, count(DISTINCT as_of) AS moments FROM reference GROUP BY org_id
            )
            SELECT r.org_id, r.level, count(*) / any_value(m.moments) AS members
            FROM reference AS r INNER JOIN moments AS m ON r.org_id = m.org_id
            GROUP BY r.org_id, r.level""",
        {"as_of": as_of, "since": as_of - timedelta(days=reference_days)},
    )
    return now, before
