"""Models in force: read from disk and judged, and kept there after a training.

What a model may be made of belongs to `behavior.model_bytes`, how its files lie on disk to
`warehouse.model_files`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engagement_pipeline.behavior.churn_models import ServedModel
from engagement_pipeline.behavior.churn_serving import unfit
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import member_predictions as stored
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.model_files import (
    ModelFileError,
    drop_model,
    read_model,
    write_model,
)


@dataclass(frozen=True)
class InForce:
    """The model that predicts, or why there is none.

    Attributes:
        model: the model; None where none may serve.
        reason: why there is none; None where there is one.
    """

    model: ServedModel | None
    reason: str | None


def in_force(
    connection: Connection,
    settings: Settings,
    target: str,
    *,
    feature_names: Sequence[str],
    horizon_days: int,
    as_of: datetime,
) -> InForce:
    """The model of a target that may predict at a moment.

    None does that is missing, damaged, foreign, of other versions, features or horizon, or that
    was trained for a later moment. What is on disk decides, since it changes at once; the record of
    trainings only tells why nothing is there.
    """
    try:
        found = read_model(
            settings.models_folder,
            target,
            feature_names=feature_names,
            horizon_days=horizon_days,
        )
    except ModelFileError as error:
        # Analysts read it, and the machine's folders are not theirs to know.
        told = str(error).replace(f"{settings.models_folder}/", "data/models/")
        return InForce(None, _why_none(connection, target, told))
    # Reading models takes seconds to import, which nobody need wait for who has none.
    from engagement_pipeline.behavior.model_bytes import (
        DamagedModelError,
        ForeignModelError,
        restored,
    )

    try:
        model = restored(found.data, found.report, target=target)
    except (DamagedModelError, ForeignModelError) as error:
        return InForce(None, f"data/models: the model of {target}: {error}")
    why = unfit(model, feature_names, horizon_days=horizon_days, as_of=as_of)
    return InForce(None if why else model, why)


def _why_none(connection: Connection, target: str, error: str) -> str:
    last = stored.last_trainings(connection).get(target)
    if last is None:
        return "no model has been trained yet: engagement train-models"
    when = f"the training of {last['as_of']:%Y-%m-%d}"
    match last["outcome"]:
        case "champion":
            return f"{error}: train anew with engagement train-models"
        case "failed":
            return f"{error}, and {when} failed: {last['reason']}"
    return f"{when} ended without a model: {last['reason']}"


def keep(settings: Settings, target: str, model: ServedModel | None, metrics: pl.DataFrame) -> None:
    """Have a training's model in force, or none where it ended without one."""
    if model is None:
        drop_model(settings.models_folder, target)
        return
    from engagement_pipeline.behavior.model_bytes import model_report, to_bytes

    data = to_bytes(model.estimator)
    write_model(settings.models_folder, target, data, model_report(model, metrics))
