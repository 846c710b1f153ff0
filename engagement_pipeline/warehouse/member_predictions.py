"""What is predicted of members, how models were trained, and what is kept to meet its outcome.

How anything is predicted belongs to `behavior`; what came of it, to `loops`. The models themselves
are files (`model_files`).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query, read_table

_MEMBERS = contract("behavior.predictions")
_TRAININGS = contract("behavior.trainings")
_METRICS = contract("behavior.model_metrics")
_CURVES = contract("behavior.model_curves")
_KEPT = contract("loops.predictions")
_MAPS = contract("loops.calibration_maps")

KEPT_EVERY = timedelta(days=7)
"""How often predictions are kept to meet their outcome: daily ones would say the same seven times,
and grow by as many rows a day as there are members."""


def write_predictions(connection: Connection, frames: Iterable[pl.DataFrame]) -> int:
    """Make these rows, slice by slice, all that is predicted; gives the members.

    In one transaction: a slice that cannot be computed leaves what was predicted before.
    """
    with transaction(connection):
        connection.execute(f"DELETE FROM {_MEMBERS.full_name}")
        count = 0
        for frame in frames:
            append(connection, _MEMBERS.full_name, _MEMBERS.validate(frame))
            count += frame.height
    return count


def keep_for_outcomes(connection: Connection, *, kind: str, as_of: datetime) -> int:
    """Keep what is predicted now until its horizon has passed; gives the predictions kept.

    Nothing is kept where that was done less than `KEPT_EVERY` before `as_of`. Those of the same
    moment are replaced. A model is known by its name without the day it was trained on: what last
    week's made of a member tells of this week's.

    Args:
        kind: the kind of these predictions, such as `churn`.
        as_of: the moment that `behavior.predictions` was computed for.
    """
    same = f"{_KEPT.full_name} WHERE kind = $kind"
    parameters = {"kind": kind, "as_of": as_of}
    recent = query(
        connection,
        f"SELECT count(*) AS n FROM {same} AND made_at < $as_of AND made_at > $since",
        {**parameters, "since": as_of - KEPT_EVERY},
    )
    if recent["n"].item():
        return 0
    with transaction(connection):
        connection.execute(f"DELETE FROM {same} AND made_at = $as_of", parameters)
        connection.execute(
            f"""INSERT INTO {_KEPT.full_name} BY NAME
                SELECT sha256(to_json([$kind, org_id, user_id,
                                       CAST(epoch_us(as_of) AS VARCHAR)])::VARCHAR)
                           AS prediction_id,
                       $kind AS kind, org_id, user_id, user_id AS subject,
                       churn_raw AS predicted, as_of AS made_at,
                       as_of + to_hours(24 * horizon_days) AS due_at,
                       split_part(churn_model, '@', 1) AS predicted_by
                FROM {_MEMBERS.full_name} WHERE as_of = $as_of
                ORDER BY org_id, user_id""",
            parameters,
        )
        kept = query(
            connection, f"SELECT count(*) AS n FROM {same} AND made_at = $as_of", parameters
        )
    return int(kept["n"].item())


def maps_in_force(connection: Connection, *, key: str, as_of: datetime) -> pl.DataFrame:
    """Rows of `loops.calibration_maps` with this key that are in force at a moment."""
    names = ", ".join(_MAPS.column_names)
    return query(
        connection,
        f"SELECT {names} FROM {_MAPS.full_name} WHERE key = $key AND computed_at <= $as_of "
        "AND expires_at > $as_of ORDER BY org_id, computed_at, raw",
        {"key": key, "as_of": as_of},
    ).cast(_MAPS.polars_schema)


def add_training(
    connection: Connection,
    training: Mapping[str, Any],
    metrics: pl.DataFrame,
    curves: pl.DataFrame,
    *,
    computed_at: datetime,
) -> None:
    """Put a training on record with all that was measured; one of the same moment is replaced.

    Args:
        training: a row of `behavior.trainings` but for `computed_at`.
        metrics: rows of `behavior.model_metrics`.
        curves: rows of `behavior.model_curves`.
    """
    row = {**training, "computed_at": computed_at}
    rows = {
        _TRAININGS: pl.DataFrame([row], schema=_TRAININGS.polars_schema),
        _METRICS: metrics,
        _CURVES: curves,
    }
    with transaction(connection):
        for table, frame in rows.items():
            connection.execute(
                f"DELETE FROM {table.full_name} WHERE target = ? AND as_of = ?",
                [row["target"], row["as_of"]],
            )
            append(connection, table.full_name, table.validate(frame))


def add_failed_training(
    connection: Connection, training: Mapping[str, Any], *, computed_at: datetime
) -> None:
    """Put a training that failed on record, unless one of the same moment had come to an end: what
    that one found still holds."""
    ended = query(
        connection,
        f"SELECT count(*) AS n FROM {_TRAININGS.full_name} "
        "WHERE target = $target AND as_of = $as_of AND outcome <> 'failed'",
        {"target": training["target"], "as_of": training["as_of"]},
    )
    if not ended["n"].item():
        add_training(
            connection, training, _METRICS.empty(), _CURVES.empty(), computed_at=computed_at
        )


def last_trainings(connection: Connection) -> dict[str, dict[str, Any]]:
    """By target: the training that was done last."""
    rows = read_table(connection, _TRAININGS).sort("computed_at", "as_of")
    return {row["target"]: row for row in rows.iter_rows(named=True)}


def overview(connection: Connection) -> dict[str, Any]:
    """Figures of what is predicted now: members, by what, and the mean probability of churn."""
    found = query(
        connection,
        f"""SELECT count(*) AS members, avg(churn_probability) AS mean_churn_probability,
                   any_value(churn_model) AS churn_model, any_value(churn_reason) AS churn_reason,
                   count(mood_predicted) AS moods_predicted,
                   count(*) FILTER (WHERE timing_model = 'logistic_regression') AS hours_by_model
            FROM {_MEMBERS.full_name}""",
    )
    return found.row(0, named=True)


def predicted_as_of(connection: Connection) -> datetime | None:
    """The moment that members were last predicted at; none before the first time."""
    found = query(connection, f"SELECT max(as_of) AS as_of FROM {_MEMBERS.full_name}")
    as_of: datetime | None = found["as_of"].item()
    return as_of
