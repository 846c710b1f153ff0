"""Training models on what came of the past: reads, lets `behavior` train, and keeps what won.

How a model is trained, judged and chosen is decided in `behavior`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import dagster as dg
import polars as pl

from engagement_pipeline.behavior.churn_models import ServedModel
from engagement_pipeline.behavior.sources import BehaviorSources, only_people
from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import PREDICTION_TARGETS
from engagement_pipeline.defs.behavior_reading import behavior_slices
from engagement_pipeline.defs.served_models import keep
from engagement_pipeline.defs.timing import timing_inputs
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import member_predictions as stored
from engagement_pipeline.warehouse.behavior_sources import source_starts
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.patterns import member_count

_METRICS = contract("behavior.model_metrics")
_CURVES = contract("behavior.model_curves")
_LOOKED_AT_FOR_LEAKS = 2_000
"""Members whose features are computed again without what came later: a leak shows in nearly all of
them, and this takes a second."""

_SAMPLES_FOR_EACH_TRAINED_ON = 10
"""How many samples are looked at for each that a model may be trained on: more tell no more, and
would take memory with every member."""

POPULATION = (
    "everyone who was a member at a cut-off date, active or not, in all organisations, each since "
    "its first recorded activity; churned is who attended, answered, read and said nothing in the "
    "horizon after it"
)


class LeakingFeaturesError(RuntimeError):
    """Features know what came later; the text names them."""

    def __init__(self, leaks: list[str]) -> None:
        super().__init__(f"features know what came later: {'; '.join(leaks)}")
        self.leaks = leaks


@dataclass
class Trained:
    """How the training of one target ended.

    Attributes:
        training: a row of `behavior.trainings` but for `computed_at`.
        leaks: features that knew what came later, in words; None where nobody looked.
    """

    training: Mapping[str, Any]
    metrics: pl.DataFrame = field(default_factory=_METRICS.empty)
    curves: pl.DataFrame = field(default_factory=_CURVES.empty)
    model: ServedModel | None = None
    leaks: list[str] | None = field(default_factory=list)

    @property
    def is_failed(self) -> bool:
        return bool(self.training["outcome"] == "failed")


def train_models(
    connection: Connection,
    settings: Settings,
    *,
    as_of: datetime,
    computed_at: datetime,
    min_samples: int,
    log: dg.DagsterLogManager,
) -> list[Trained]:
    """Train churn, mood and timing, put each on record, and keep the models that won.

    One target's trouble stops no other: it is on record as `failed`, and the model before serves
    on. A training that ends without a champion takes the one before away.
    """
    trainers: dict[str, Callable[[], Trained]] = {
        "churn": lambda: _churn(connection, settings, as_of, min_samples, log),
        "mood": lambda: _mood(connection, settings, as_of, min_samples),
        "timing": lambda: _timing(connection, settings, as_of, min_samples),
    }
    found = []
    for target in PREDICTION_TARGETS:
        try:
            trained = trainers[target]()
            stored.add_training(
                connection,
                trained.training,
                trained.metrics,
                trained.curves,
                computed_at=computed_at,
            )
            keep(settings, target, trained.model, trained.metrics)
        except Exception as error:
            log.exception(f"{target}: the training failed: {error}")
            leaks = error.leaks if isinstance(error, LeakingFeaturesError) else None
            why = f"{type(error).__name__}: {error}"
            trained = Trained(_failed(target, as_of, why), leaks=leaks)
            stored.add_failed_training(connection, trained.training, computed_at=computed_at)
        reason = trained.training["reason"]
        log.info(f"{target}: {trained.training['outcome']}{f': {reason}' if reason else ''}")
        found.append(trained)
    return found


def _churn(
    connection: Connection,
    settings: Settings,
    as_of: datetime,
    min_samples: int,
    log: dg.DagsterLogManager,
) -> Trained:
    from engagement_pipeline.behavior.churn_baselines import baseline_scores
    from engagement_pipeline.behavior.churn_samples import (
        SourceStarts,
        churn_samples,
        cutoffs,
        drawn_people,
    )
    from engagement_pipeline.behavior.churn_training import train_churn
    from engagement_pipeline.behavior.features import FEATURES, member_features

    days = settings.churn_horizon_days
    moments = cutoffs(as_of, horizon_days=days, count=settings.training_cutoffs)
    starts = SourceStarts(*source_starts(connection))
    share = _share_of_people(connection, settings, len(moments), moments[-1])
    frames: list[pl.DataFrame] = []
    for sources in behavior_slices(connection, settings, as_of):
        drawn = only_people(sources, drawn_people(sources, share=share, seed=settings.seed))
        frames.append(churn_samples(drawn, moments, horizon_days=days, starts=starts))
        if len(frames) == 1:
            _refuse_leaks(member_features, drawn, moments[-1])
        log.info(f"churn: {sum(frame.height for frame in frames):,} samples so far")
    trained = train_churn(
        pl.concat(frames),
        feature_names=FEATURES,
        baseline_scores=baseline_scores,
        horizon_days=days,
        as_of=as_of,
        min_samples=min_samples,
        max_training_samples=settings.max_training_samples,
        seed=settings.seed,
        population=POPULATION,
    )
    return Trained(trained.training, trained.metrics, trained.curves, trained.model)


def _mood(connection: Connection, settings: Settings, as_of: datetime, min_samples: int) -> Trained:
    from engagement_pipeline.behavior.churn_samples import cutoffs, drawn_people
    from engagement_pipeline.behavior.mood import MOOD_DAYS, mood_features, mood_samples
    from engagement_pipeline.behavior.mood_training import train_mood

    moments = cutoffs(as_of, horizon_days=MOOD_DAYS, count=settings.training_cutoffs)
    share = _share_of_people(connection, settings, len(moments), moments[-1])
    frames = []
    for sources in behavior_slices(connection, settings, as_of):
        if sources.interactions is not None:
            people = drawn_people(sources, share=share, seed=settings.seed)
            drawn = only_people(sources, people)
            frames.append(mood_samples(drawn, moments))
            if len(frames) == 1:
                _refuse_leaks(mood_features, drawn, moments[-1])
    trained = train_mood(
        pl.concat(frames) if frames else None,
        as_of=as_of,
        min_samples=min_samples,
        seed=settings.seed,
    )
    return Trained(trained.training, trained.metrics, model=trained.served)


def _timing(
    connection: Connection, settings: Settings, as_of: datetime, min_samples: int
) -> Trained:
    from engagement_pipeline.behavior.timing_training import train_timing

    given = timing_inputs(connection, settings, as_of=as_of)
    trained = train_timing(
        given.messages,
        given.activity,
        as_of=as_of,
        min_samples=min_samples,
        seed=settings.seed,
    )
    return Trained(trained.training, trained.metrics, trained.curves, trained.served)


def _share_of_people(
    connection: Connection, settings: Settings, moments: int, at: datetime
) -> float:
    """The share of the people who are looked at: all, unless they are very many."""
    samples = member_count(connection, as_of=at) * moments
    return min(1.0, _SAMPLES_FOR_EACH_TRAINED_ON * settings.max_training_samples / max(samples, 1))


class _Builder(Protocol):
    def __call__(self, sources: BehaviorSources, *, as_of: datetime) -> pl.DataFrame: ...


def _refuse_leaks(build: _Builder, sources: BehaviorSources, at: datetime) -> None:
    """Have features computed again without what came later, and compared.

    Raises:
        LeakingFeaturesError: one is otherwise then.
    """
    from engagement_pipeline.behavior.leaks import leaks

    people = sources.memberships.select("user_id").unique().sort("user_id").collect()
    found = leaks(
        lambda some, moment: build(some, as_of=moment),
        sources,
        at=at,
        members=people.head(_LOOKED_AT_FOR_LEAKS),
    )
    if found:
        raise LeakingFeaturesError(
            [f"{leak.feature} of {leak.members} members (such as {leak.example})" for leak in found]
        )


def _failed(target: str, as_of: datetime, why: str) -> dict[str, Any]:
    return {
        "target": target,
        "as_of": as_of,
        "outcome": "failed",
        "champion": None,
        "reason": why,
        **dict.fromkeys(("samples", "members", "organisations", "horizon_days", "cutoffs"), 0),
        "base_rate": None,
        "first_cutoff": None,
        "last_cutoff": None,
        "population": "nobody: the training failed",
    }
