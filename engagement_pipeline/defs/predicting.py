"""Predicting what members will do, slice by slice of the people, for `behavior.predictions`.

How anything is predicted is decided in `behavior`, which model may do it in `served_models`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg
import polars as pl

from engagement_pipeline.behavior.sources import BehaviorSources
from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.behavior_reading import behavior_slices
from engagement_pipeline.defs.metadata import Metadata
from engagement_pipeline.defs.served_models import InForce, in_force
from engagement_pipeline.defs.timing import timing_inputs
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import calibrations as stored_calibrations
from engagement_pipeline.warehouse import member_predictions as stored
from engagement_pipeline.warehouse.connection import Connection

PREDICTIONS = contract("behavior.predictions")
_PAIR = ["org_id", "user_id"]


@dataclass
class Predicted:
    """What became of predicting.

    Attributes:
        not_served: why no model predicts churn, where none does.
        metadata: figures for the asset.
    """

    not_served: str | None
    metadata: Metadata = field(default_factory=dict)


def predict(
    connection: Connection, settings: Settings, *, as_of: datetime, log: dg.DagsterLogManager
) -> Predicted:
    """Predict for every current member at `as_of`, and put it in place of what was predicted.

    Where the loops are on, probabilities of churn go through the map that is in force for the
    organisation, and once a week they are kept to meet their outcome.
    """
    from engagement_pipeline.behavior.features import FEATURES
    from engagement_pipeline.behavior.mood import MOOD_DAYS, MOOD_FEATURES
    from engagement_pipeline.behavior.timing import FEATURES as TIMING_FEATURES
    from engagement_pipeline.behavior.timing import best_times
    from engagement_pipeline.behavior.timing_counts import ANSWER_WITHIN
    from engagement_pipeline.loops.churn import CHURN
    from engagement_pipeline.loops.prediction import map_key

    found = {
        target: in_force(
            connection,
            settings,
            target,
            feature_names=names,
            horizon_days=days,
            as_of=as_of,
        )
        for target, names, days in (
            ("churn", FEATURES, settings.churn_horizon_days),
            ("mood", MOOD_FEATURES, MOOD_DAYS),
            ("timing", TIMING_FEATURES, ANSWER_WITHIN.days),
        )
    }
    for target, state in found.items():
        if state.reason is not None:
            log.info(f"{target}: no model serves: {state.reason}")
    hours = timing_inputs(connection, settings, as_of=as_of, trains=False)

    def write() -> pl.DataFrame:
        churn, timing = found["churn"].model, found["timing"].model
        maps = pl.DataFrame()
        if settings.loops_enabled:
            key = map_key(CHURN, churn.name if churn else "heuristic")
            maps = stored.maps_in_force(connection, key=key, as_of=as_of)
        times = best_times(
            hours.activity, hours.members, timing.estimator if timing else None, as_of=as_of
        )
        frames = _frames(connection, settings, found, maps, times, as_of)
        stored.write_predictions(connection, frames)
        return maps

    try:
        maps = write()
    except Exception as error:
        if not any(state.model for state in found.values()):
            raise
        # A file may be whole and its model broken: then nobody's day waits for it.
        log.exception(f"the models could not predict, and the heuristic does: {error}")
        found |= {
            target: InForce(None, f"the model {state.model.version} could not predict: {error}")
            for target, state in found.items()
            if state.model is not None
        }
        maps = write()
    kept = 0
    if settings.loops_enabled:
        kept = stored.keep_for_outcomes(connection, kind=CHURN, as_of=as_of)
        used = dict.fromkeys(maps["org_id"].unique(), 1) if maps.height else {}
        stored_calibrations.record_uses(
            connection, "prediction", "churn_probability", used, as_of=as_of
        )
    return Predicted(
        not_served=found["churn"].reason,
        metadata={**as_metadata(stored.overview(connection)), "kept_for_outcomes": kept},
    )


def _frames(
    connection: Connection,
    settings: Settings,
    found: dict[str, InForce],
    maps: pl.DataFrame,
    times: pl.DataFrame,
    as_of: datetime,
) -> Iterator[pl.DataFrame]:
    slices = behavior_slices(connection, settings, as_of)
    while (sources := next(slices, None)) is not None:
        yield _predicted(sources, settings, found, maps, times, as_of)
        # Or a slice would be held while the next is read.
        del sources


def _predicted(
    sources: BehaviorSources,
    settings: Settings,
    found: dict[str, InForce],
    maps: pl.DataFrame,
    times: pl.DataFrame,
    as_of: datetime,
) -> pl.DataFrame:
    from engagement_pipeline.behavior.churn_heuristic import churn_heuristic
    from engagement_pipeline.behavior.churn_serving import serve_churn, with_confidence
    from engagement_pipeline.behavior.features import member_features
    from engagement_pipeline.behavior.mood import mood_features, predict_mood

    days = settings.churn_horizon_days
    features = member_features(sources, as_of=as_of)
    served = serve_churn(
        features,
        found["churn"].model,
        found["churn"].reason,
        heuristic=churn_heuristic(features, horizon_days=days),
        horizon_days=days,
        as_of=as_of,
    )
    mood = found["mood"].model
    moods = mood_features(sources, as_of=as_of)
    moods = moods.select(*_PAIR, "mood_now", predict_mood(moods, mood.estimator if mood else None))
    rows = (
        with_confidence(_published(served, maps, as_of))
        .join(moods, on=_PAIR, how="left")
        .join(times, on=_PAIR, how="left")
        .with_columns(as_of=pl.lit(as_of))
    )
    schema = PREDICTIONS.polars_schema
    return rows.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def _published(served: pl.DataFrame, maps: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """With the organisation's own map, or that of all, in place of what validation made of it."""
    if maps.is_empty():
        return served
    from engagement_pipeline.loops.prediction import calibrated

    raw = served.select("org_id", kind=pl.lit(maps["key"][0]), predicted="churn_raw")
    mapped = calibrated(raw, maps, as_of=as_of)["published"]
    has_map = pl.col("org_id").is_in(maps["org_id"].unique().implode())
    return served.with_columns(
        churn_probability=pl.when(has_map).then(mapped).otherwise(pl.col("churn_probability"))
    )


def as_metadata(figures: dict[str, object]) -> Metadata:
    """Figures as Dagster shows them: those that there are."""
    return {name: value for name, value in figures.items() if value is not None}
