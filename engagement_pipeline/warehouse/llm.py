"""The ledger of calls to the model: written call by call, read when the next run wants to know.

What an answer is worth, and when it may be used again, is decided in `scoring`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query

_CALLS = contract("scores.llm_calls")
_ANSWERS = contract("scores.llm_answers")
_BATCHES = contract("scores.llm_batches")
_RUNS = contract("scores.llm_runs")

Row = Mapping[str, Any]


def write_calls(
    connection: Connection,
    *,
    begun: Sequence[Row] = (),
    ended: Sequence[Row] = (),
    answers: Sequence[Row] = (),
    batch: Row | None = None,
) -> None:
    """Put down calls that begin, calls that have ended, their answers, and how far a batch is.

    All in one transaction.
    """
    with transaction(connection):
        if batch is not None:
            _write_batch(connection, batch)
        _replace_calls(connection, ended)
        append(connection, _CALLS.full_name, frame_of(_CALLS, begun))
        append_answers(connection, answers)


def append_answers(connection: Connection, answers: Sequence[Row]) -> None:
    """Add answers; of several for the same question and moment the first stays.

    Labels may have been given by it, and a rerun has to say the same.
    """
    if not answers:
        return
    first = {(row["fingerprint"], row["as_of"]): row for row in reversed(answers)}
    there = connection.execute(
        f"SELECT fingerprint, as_of FROM {_ANSWERS.full_name} "
        "WHERE as_of IN (SELECT unnest($moments)) "
        "AND fingerprint IN (SELECT unnest($fingerprints))",
        {
            "moments": list({moment for _, moment in first}),
            "fingerprints": [fingerprint for fingerprint, _ in first],
        },
    ).fetchall()
    new = [row for key, row in first.items() if key not in set(there)]
    append(connection, _ANSWERS.full_name, frame_of(_ANSWERS, new))


def _replace_calls(connection: Connection, rows: Sequence[Row]) -> None:
    if not rows:
        return
    # By time as well: it lets the engine pass over all but the last blocks of a long ledger.
    connection.execute(
        f"DELETE FROM {_CALLS.full_name} WHERE started_at >= $since "
        "AND call_id IN (SELECT unnest($call_ids))",
        {
            "since": min(row["started_at"] for row in rows),
            "call_ids": [row["call_id"] for row in rows],
        },
    )
    append(connection, _CALLS.full_name, frame_of(_CALLS, rows))


def frame_of(table: Contract, rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a frame in the table's types, whatever of its columns they leave out being null."""
    return pl.DataFrame(list(rows), schema=table.polars_schema)


def known_answers(
    connection: Connection, org_ids: Sequence[str], *, as_of: datetime, max_age_days: int
) -> pl.DataFrame:
    """Answers on record that may be used for these organisations at `as_of`: one a fingerprint.

    Of several, that asked for the latest moment up to `as_of`; else for the earliest after it.
    """
    return query(
        connection,
        f"""SELECT fingerprint, level, is_vetoed, admin_template, user_template,
                   as_of AS asked_as_of
            FROM {_ANSWERS.full_name}
            WHERE org_id IN (SELECT unnest($org_ids)) AND as_of >= $oldest
            QUALIFY row_number() OVER (
                PARTITION BY fingerprint
                ORDER BY as_of > $as_of, abs(epoch_us(as_of) - epoch_us($as_of::TIMESTAMPTZ))
            ) = 1""",
        {
            "org_ids": list(org_ids),
            "oldest": as_of - timedelta(days=max_age_days),
            "as_of": as_of,
        },
    )


def settle_abandoned(connection: Connection, *, now: datetime) -> int:
    """Close calls that a dead run left open, outside of batches; gives how many there were.

    They may have been paid, so they count at what they were expected to cost.
    """
    rows = connection.execute(
        f"""UPDATE {_CALLS.full_name}
            SET outcome = 'lost', spent_usd = estimated_usd, ended_at = $now,
                problems = 'the run ended before the answer was written down'
            WHERE outcome = 'pending' AND batch_key IS NULL
            RETURNING call_id""",
        {"now": now},
    ).fetchall()
    return len(rows)


@dataclass(frozen=True)
class Spent:
    """What a run's calls came to."""

    calls: int
    input_tokens: int
    output_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    spent_usd: float


def spent_by_org(connection: Connection, run_id: str) -> dict[str, Spent]:
    """What the calls of a run came to, by organisation."""
    rows = connection.execute(
        f"""SELECT org_id, count(*), CAST(sum(input_tokens) AS BIGINT),
                   CAST(sum(output_tokens) AS BIGINT), CAST(sum(cache_write_tokens) AS BIGINT),
                   CAST(sum(cache_read_tokens) AS BIGINT), sum(spent_usd)
            FROM {_CALLS.full_name} WHERE run_id = ? GROUP BY org_id""",
        [run_id],
    ).fetchall()
    return {row[0]: Spent(*row[1:]) for row in rows}


def output_tokens_a_profile(
    connection: Connection, *, model: str, prompt_version: str
) -> float | None:
    """Output tokens that a profile took in the last thousand good calls; None before the first."""
    rows = connection.execute(
        f"""SELECT sum(output_tokens) / sum(profiles) FROM (
                SELECT output_tokens, profiles FROM {_CALLS.full_name}
                WHERE model = ? AND prompt_version = ? AND outcome = 'answered'
                ORDER BY started_at DESC LIMIT 1000)""",
        [model, prompt_version],
    ).fetchall()
    found: float | None = rows[0][0]
    return found


def record_run(connection: Connection, row: Row) -> None:
    """Add a run to `scores.llm_runs`, in place of what it said of itself before."""
    with transaction(connection):
        connection.execute(f"DELETE FROM {_RUNS.full_name} WHERE run_id = ?", [row["run_id"]])
        append(connection, _RUNS.full_name, frame_of(_RUNS, [row]))


def _write_batch(connection: Connection, batch: Row) -> None:
    connection.execute(
        f"DELETE FROM {_BATCHES.full_name} WHERE batch_key = ?", [batch["batch_key"]]
    )
    append(connection, _BATCHES.full_name, frame_of(_BATCHES, [batch]))


def open_batches(connection: Connection) -> list[dict[str, Any]]:
    """Batches that are being made, or are out, the oldest first."""
    return query(
        connection,
        f"SELECT * FROM {_BATCHES.full_name} WHERE state IN ('creating', 'in_progress') "
        "ORDER BY created_at, batch_key",
    ).to_dicts()


def open_calls(connection: Connection, batch_key: str) -> dict[str, dict[str, Any]]:
    """The calls of a batch that have no result yet, by `call_id`."""
    rows = query(
        connection,
        f"SELECT * FROM {_CALLS.full_name} WHERE batch_key = $key AND outcome = 'pending' "
        "ORDER BY call_id",
        {"key": batch_key},
    ).to_dicts()
    return {row["call_id"]: row for row in rows}


def known_batch_ids(connection: Connection) -> set[str]:
    """Every batch of the API's that we know to be ours, or not to be."""
    rows = connection.execute(
        f"SELECT batch_id FROM {_BATCHES.full_name} WHERE batch_id IS NOT NULL"
    ).fetchall()
    return {row[0] for row in rows}


def asked_in_batches(connection: Connection) -> list[tuple[str, str]]:
    """What the calls that are out in batches ask: `batch_key` and `asked` of each."""
    rows = connection.execute(
        f"""SELECT c.batch_key, c.asked FROM {_CALLS.full_name} AS c
            INNER JOIN {_BATCHES.full_name} AS b ON c.batch_key = b.batch_key
            WHERE c.outcome = 'pending' AND b.state IN ('creating', 'in_progress')"""
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


def batches_in_vain(connection: Connection, *, as_of: datetime) -> dict[str, int]:
    """By organisation, how many batches for one moment brought no answer to some request."""
    rows = connection.execute(
        f"""SELECT org_id, count(DISTINCT batch_key) FROM {_CALLS.full_name}
            WHERE as_of = ? AND batch_key IS NOT NULL AND outcome IN ('failed', 'malformed')
            GROUP BY org_id""",
        [as_of],
    ).fetchall()
    return {row[0]: row[1] for row in rows}


def orgs_waiting(connection: Connection) -> set[str]:
    """Organisations about which something is out in a batch that the API has taken."""
    rows = connection.execute(
        f"""SELECT DISTINCT c.org_id FROM {_CALLS.full_name} AS c
            INNER JOIN {_BATCHES.full_name} AS b ON c.batch_key = b.batch_key
            WHERE c.outcome = 'pending' AND b.state = 'in_progress'"""
    ).fetchall()
    return {row[0] for row in rows}
