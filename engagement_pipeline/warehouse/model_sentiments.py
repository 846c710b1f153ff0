"""What is on record of texts that a model was asked about, and the people that it may not hear of.

Calls are written down by `llm`, as all calls are. What is asked, and what of a text may leave, is
decided in `behavior`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query
from engagement_pipeline.warehouse.llm import frame_of

_CALLS = contract("scores.llm_calls")
_RUNS = contract("scores.llm_runs")

_TOLD = '{"fingerprints": ["VARCHAR"], "sentiments": ["DOUBLE"]}'


@dataclass
class People:
    """What the members of an organisation, past and present, are known by."""

    names: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


def people_of(connection: Connection, org_ids: Sequence[str]) -> dict[str, People]:
    """The members of each of these organisations, those who left included."""
    rows = connection.execute(
        """SELECT m.org_id, m.user_id, p.display_name
           FROM raw.memberships AS m LEFT JOIN raw.profiles AS p ON p.user_id = m.user_id
           WHERE m.org_id IN (SELECT unnest($org_ids)) ORDER BY m.org_id, m.user_id""",
        {"org_ids": list(org_ids)},
    ).fetchall()
    found = {org_id: People() for org_id in org_ids}
    for org_id, user_id, name in rows:
        found[org_id].ids.append(user_id)
        if name is not None:
            found[org_id].names.append(name)
    return found


def known_sentiments(
    connection: Connection, fingerprints: Sequence[str], *, prompt_version: str, model: str
) -> dict[str, float]:
    """What a model said of these texts already, whenever that was: fingerprint -> sentiment.

    Of several answers the first stands.
    """
    if not fingerprints:
        return {}
    rows = query(
        connection,
        f"""WITH calls AS (
                SELECT from_json(asked, '{_TOLD}') AS told, started_at, call_id
                FROM {_CALLS.full_name}
                WHERE prompt_version = $prompt_version AND model = $model AND answers > 0
            ), answers AS (
                SELECT unnest(told.fingerprints) AS fingerprint,
                       unnest(told.sentiments) AS sentiment, started_at, call_id
                FROM calls
            )
            SELECT fingerprint, sentiment FROM answers
            WHERE sentiment IS NOT NULL AND fingerprint IN (SELECT unnest($fingerprints))
            QUALIFY row_number() OVER (
                PARTITION BY fingerprint ORDER BY started_at, call_id
            ) = 1""",
        {"prompt_version": prompt_version, "model": model, "fingerprints": list(fingerprints)},
    )
    return dict(rows.iter_rows())


def calls_of_run(connection: Connection, run_id: str) -> int:
    """How many calls of a run are on record, whatever they asked."""
    rows = connection.execute(
        f"SELECT count(*) FROM {_CALLS.full_name} WHERE run_id = ?", [run_id]
    ).fetchall()
    return int(rows[0][0])


def expect_more(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add what is expected to be spent to the run's row of `scores.llm_runs`, or make it one.

    Args:
        row: the one to make where the run has none; its `estimated_usd` is what is added.
    """
    with transaction(connection):
        known = connection.execute(
            f"UPDATE {_RUNS.full_name} SET estimated_usd = estimated_usd + $usd "
            "WHERE run_id = $run_id RETURNING run_id",
            {"usd": row["estimated_usd"], "run_id": row["run_id"]},
        ).fetchall()
        if not known:
            append(connection, _RUNS.full_name, frame_of(_RUNS, [row]))
