"""Templates that a model has put into other words: `outreach.rewritings`, and the calls behind it.

What is asked, and which words stand, is decided in `outreach`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query
from engagement_pipeline.warehouse.llm import frame_of

_CALLS = contract("scores.llm_calls")
_REWRITINGS = contract("outreach.rewritings")

_TOLD = '{"fingerprints": ["VARCHAR"], "rewritings": ["VARCHAR"]}'


def known(
    connection: Connection, fingerprints: Sequence[str], *, since: datetime
) -> dict[str, str]:
    """The words on record that were asked for no earlier than a moment: fingerprint -> text."""
    rows = connection.execute(
        f"""SELECT fingerprint, text FROM {_REWRITINGS.full_name}
            WHERE written_at >= $since AND fingerprint IN (SELECT unnest($fingerprints))
            ORDER BY fingerprint""",
        {"since": since, "fingerprints": list(fingerprints)},
    ).fetchall()
    return dict(rows)


def paid_for(
    connection: Connection,
    fingerprints: Sequence[str],
    *,
    prompt_version: str,
    model: str,
    since: datetime,
) -> dict[str, tuple[str, datetime]]:
    """What calls brought that nobody put on record, since the run ended before it could.

    Returns:
        Fingerprint -> the text, and the moment that it was asked for; the last of several.
    """
    rows = query(
        connection,
        f"""WITH calls AS (
                SELECT from_json(asked, '{_TOLD}') AS told, as_of, call_id
                FROM {_CALLS.full_name}
                WHERE prompt_version = $prompt_version AND model = $model AND answers > 0
                    AND as_of >= $since
            ), answers AS (
                SELECT unnest(told.fingerprints) AS fingerprint,
                       unnest(told.rewritings) AS text, as_of, call_id
                FROM calls
            )
            SELECT fingerprint, text, as_of FROM answers
            WHERE text IS NOT NULL AND fingerprint IN (SELECT unnest($fingerprints))
            QUALIFY row_number() OVER (
                PARTITION BY fingerprint ORDER BY as_of DESC, call_id
            ) = 1
            ORDER BY fingerprint""",
        {
            "prompt_version": prompt_version,
            "model": model,
            "since": since,
            "fingerprints": list(fingerprints),
        },
    )
    return {fingerprint: (text, as_of) for fingerprint, text, as_of in rows.iter_rows()}


def keep(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows of `outreach.rewritings` on record, in place of those of the same fingerprint."""
    if not rows:
        return
    with transaction(connection):
        connection.execute(
            f"DELETE FROM {_REWRITINGS.full_name} WHERE fingerprint IN (SELECT unnest(?))",
            [[row["fingerprint"] for row in rows]],
        )
        append(connection, _REWRITINGS.full_name, _REWRITINGS.validate(frame_of(_REWRITINGS, rows)))
