"""Predictions, what they came to, and the calls whose costs were foreseen, as they are stored.

What came of a prediction is decided in `loops`.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query

_SIGNALS = contract("loops.signals")
_PREDICTIONS = contract("loops.predictions")

_GIVEN_UP_AFTER = timedelta(days=30)
"""When a forecast of cost is no longer looked at: its bill is known within days, or never."""


def add_predictions(connection: Connection, rows: pl.DataFrame) -> None:
    """Put predictions on record; one that is there already is replaced."""
    with transaction(connection):
        connection.execute(
            f"DELETE FROM {_PREDICTIONS.full_name} WHERE prediction_id IN (SELECT unnest($ids))",
            {"ids": rows["prediction_id"].to_list()},
        )
        append(connection, _PREDICTIONS.full_name, _PREDICTIONS.validate(rows))


def due_predictions(connection: Connection, *, as_of: datetime) -> pl.DataFrame:
    """The predictions made by `as_of` whose horizon has passed, and that have met no outcome yet.

    A forecast of cost that came due more than 30 days ago is given up: where no call was made, or
    the API did not say what one took, it never has an outcome, and would be asked for every day.

    Returns:
        Rows of `loops.predictions`, sorted by `due_at, prediction_id`.
    """
    names = ", ".join(f"p.{name}" for name in _PREDICTIONS.column_names)
    return query(
        connection,
        f"""SELECT {names} FROM {_PREDICTIONS.full_name} AS p
            WHERE p.made_at <= $as_of AND p.due_at <= $as_of
              AND NOT (starts_with(p.kind, 'cost:') AND p.due_at < $given_up_before)
              AND NOT EXISTS (SELECT 1 AS one FROM {_SIGNALS.full_name} AS s
                              WHERE s.kind = 'OUTCOME' AND s.source_key = p.prediction_id)
            ORDER BY p.due_at, p.prediction_id""",
        {"as_of": as_of, "given_up_before": as_of - _GIVEN_UP_AFTER},
    ).cast(_PREDICTIONS.polars_schema)


def outcome_pairs(
    connection: Connection, *, window_start: datetime, as_of: datetime
) -> pl.DataFrame:
    """Predictions with what came of them, for outcomes in `(window_start, as_of]`.

    Returns:
        `kind`, `predicted_by` and the columns of `loops.prediction.PAIR_SCHEMA`, sorted by
        `kind, prediction_id`.
    """
    return query(
        connection,
        f"""SELECT p.org_id, p.kind, p.prediction_id, p.predicted, p.predicted_by,
                   s.value AS outcome
            FROM {_SIGNALS.full_name} AS s
            INNER JOIN {_PREDICTIONS.full_name} AS p ON s.source_key = p.prediction_id
            WHERE s.archetype = 'prediction' AND s.kind = 'OUTCOME'
              AND s.occurred_at > $start AND s.occurred_at <= $as_of AND p.made_at <= $as_of
            ORDER BY p.kind, p.prediction_id""",
        {"start": window_start, "as_of": as_of},
    )


def calls_of(connection: Connection, run_ids: Collection[str]) -> pl.DataFrame:
    """The calls about levels of some runs: whose, about whom, tokens, and whether they ended.

    Calls about how texts sound were not foreseen by these predictions.
    """
    return query(
        connection,
        """SELECT run_id, org_id, input_tokens, cache_write_tokens, cache_read_tokens,
                  output_tokens, ended_at, is_spent_certain
           FROM scores.llm_calls WHERE run_id IN (SELECT unnest($run_ids))
             AND NOT starts_with(prompt_version, 'sentiment-') ORDER BY call_id""",
        {"run_ids": sorted(run_ids)},
    )
