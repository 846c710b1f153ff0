"""Learning when messages are answered, and whether what was learned may choose the hour.

Here belongs how a training goes and how it ends. What is fitted belongs to `timing_models`, what is
counted to `timing_counts`, the choice of an hour to `timing`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from engagement_pipeline.behavior.churn_models import ServedModel
from engagement_pipeline.behavior.classification_metrics import METRICS, Figure, assess
from engagement_pipeline.behavior.curves import reliability
from engagement_pipeline.behavior.resampling import RESAMPLES, intervals, resampled
from engagement_pipeline.behavior.splits import id_hashes
from engagement_pipeline.behavior.timing import FEATURES, Model, log_share, smoothed_share
from engagement_pipeline.behavior.timing_counts import ANSWER_WITHIN, cutoffs
from engagement_pipeline.behavior.timing_models import (
    MODEL,
    answered_of,
    by_logistic_regression,
    by_org_hours,
    by_own_hours,
    fitted,
)
from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import TIMING_BASELINES
from engagement_pipeline.signals.windows import microseconds

TARGET = "timing"
LOG_LOSS = "log_loss"
GAIN = "log_loss_gain"
"""The metric that decides: the log loss of the better baseline less that of the model."""

FOLDS = 2
MEASURED_AT_MOST = 50_000
"""Held-out messages that models are measured on: a thousand resamples of more take minutes."""

POPULATION = (
    "Messages sent in the last 90 days, at least 24 hours ago, to who was a member then; answered "
    "means first read within 24 hours. Measured on those of the last 30 days, of people whom "
    "nothing was trained on."
)

MODEL_METRICS = contract("behavior.model_metrics")
MODEL_CURVES = contract("behavior.model_curves")

_Floats = npt.NDArray[np.float64]
_PAIR = ("org_id", "user_id")


@dataclass(frozen=True)
class TimingTraining:
    """How a training ended.

    Attributes:
        training: a row of `behavior.trainings` without `computed_at`.
        metrics: rows of `behavior.model_metrics`; none where nothing was measured.
        curves: rows of `behavior.model_curves`, likewise.
        model: a fitted scikit-learn pipeline over `timing.FEATURES`; None where none won.
    """

    training: Mapping[str, Any]
    metrics: pl.DataFrame
    curves: pl.DataFrame
    model: Model | None

    @property
    def served(self) -> ServedModel | None:
        """The model with what is kept beside it. Its probabilities are told to nobody: no knots."""
        if self.model is None:
            return None
        return ServedModel(
            target=TARGET,
            name=MODEL,
            feature_names=FEATURES,
            horizon_days=self.training["horizon_days"],
            as_of=self.training["as_of"],
            estimator=self.model,
            knots=((0.0, 1.0), (0.0, 1.0)),
        )


def train_timing(
    messages: pl.DataFrame | None,
    activity: pl.DataFrame,
    *,
    as_of: datetime,
    min_samples: int,
    seed: int,
    resamples: int = RESAMPLES,
) -> TimingTraining:
    """Fit a logistic regression of answers, and see whether it beats counting hours.

    People are in two folds, by a hash of their id. Fitted is one fold's messages of the older 60
    days, tested are the other fold's of the last 30: nobody and no moment is in both. Each message
    knows only the activity before its part of the time, so not even its own reading.

    It wins where the 95 % interval of its gain in log loss over the better baseline lies above 0,
    by the paired bootstrap of people. Then it is fitted again, on all messages.

    Args:
        messages: rows of `timing_counts.MESSAGES_SCHEMA`; None where the source has none at all.
        activity: rows of `timing_counts.ACTIVITY_SCHEMA`, also at the `timing_counts.cutoffs`.
        as_of: the moment trained for, with a time zone.
        min_samples: fewer messages are not trained on.
        seed: of folds and draws.
        resamples: draws of the bootstrap.

    Raises:
        ValueError: `as_of` has no time zone.
    """
    microseconds(as_of)
    known_at = [moment.astimezone(UTC) for moment in cutoffs(as_of)]
    described = _described(messages, as_of, known_at)
    if messages is None:
        return _ended(described, "off", "The source has no notifications.")
    if described["samples"] < min_samples:
        found = f"There are {described['samples']} messages, and a training needs {min_samples}."
        return _ended(described, "too_few_samples", found)
    featured = _featured(messages, activity, seed)
    older, newer = (featured.filter(pl.col("known_at") == moment) for moment in known_at)
    if older.is_empty() or newer.is_empty():
        which, what = ("older than", "train on") if older.is_empty() else ("of", "test")
        found = f"No message is {which} the last 30 days: nothing to {what}."
        return _ended(described, "too_few_samples", found)
    held_out = _held_out(older, newer)
    measured_on = None if held_out is None else _measured_on(held_out, seed)
    if measured_on is None or measured_on["answered"].n_unique() < 2:
        found = (
            "Among the messages to train on, or to test, all were answered or none was: there is "
            "nothing to tell apart."
        )
        return _ended(described, "one_class", found)
    return _judged(measured_on, featured, described, seed, resamples)


def _described(
    messages: pl.DataFrame | None, as_of: datetime, known_at: list[datetime]
) -> dict[str, Any]:
    rows = pl.DataFrame() if messages is None else messages
    answered, n = (0, 0) if messages is None else answered_of(messages)
    pairs = rows.select(_PAIR).unique() if n else pl.DataFrame({"org_id": []})
    return {
        "target": TARGET,
        "as_of": as_of,
        "samples": n,
        "members": pairs.height,
        "organisations": pairs["org_id"].n_unique(),
        "base_rate": answered / n if n else None,
        "horizon_days": ANSWER_WITHIN.days,
        "cutoffs": len(known_at),
        "first_cutoff": min(known_at),
        "last_cutoff": max(known_at),
        "population": POPULATION,
    }


def _ended(described: Mapping[str, Any], outcome: str, reason: str) -> TimingTraining:
    return TimingTraining(
        training={**described, "outcome": outcome, "champion": None, "reason": reason},
        metrics=MODEL_METRICS.empty(),
        curves=MODEL_CURVES.empty(),
        model=None,
    )


def _featured(messages: pl.DataFrame, activity: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The messages with `log_share` as it was known then, and the `fold` of the person."""
    n = pl.col("n").sum()
    hour, known = ("known_at", "local_hour"), ("known_at",)
    by_member = activity.group_by(*_PAIR, *known).agg(n.alias("own"))
    by_org_hour = activity.group_by("org_id", *hour).agg(n.alias("org_hour"))
    by_org = activity.group_by("org_id", *known).agg(n.alias("org"))
    share = smoothed_share(*(pl.col(name).fill_null(0) for name in _COUNTED))
    fold = pl.Series("fold", id_hashes(messages["user_id"], seed) % np.uint64(FOLDS))
    return (
        messages.with_columns(fold)
        .join(activity.rename({"n": "own_hour"}), on=(*_PAIR, *hour), how="left")
        .join(by_member, on=(*_PAIR, *known), how="left")
        .join(by_org_hour, on=("org_id", *hour), how="left")
        .join(by_org, on=("org_id", *known), how="left")
        .with_columns(log_share(share).alias("log_share"))
        .drop(_COUNTED)
        .sort(*_PAIR, "known_at", "local_hour", "local_weekday")
    )


_COUNTED = ("own_hour", "own", "org_hour", "org")


def _held_out(older: pl.DataFrame, newer: pl.DataFrame) -> pl.DataFrame | None:
    """The newer messages with what each model, fitted to others' older ones, expects.

    None where a fold has only one class to fit, or nothing to fit.
    """
    tested = []
    for fold in range(FOLDS):
        train = older.filter(pl.col("fold") != fold)
        test = newer.filter(pl.col("fold") == fold)
        answered, n = answered_of(train)
        if answered in (0, n):
            return None
        if test.is_empty():
            continue
        tested.append(
            test.with_columns(
                by_org_hours(train, test),
                by_own_hours(train, test),
                by_logistic_regression(train, test),
            )
        )
    return pl.concat(tested)


def _measured_on(held_out: pl.DataFrame, seed: int) -> pl.DataFrame:
    """One row a message, `answered` 1 or 0; of too many, those of people drawn by a hash."""
    people = held_out.group_by("user_id").agg(pl.col("n").sum())
    drawn = (
        people.with_columns(pl.Series("hash", id_hashes(people["user_id"], seed)))
        .sort("hash", "user_id")
        .filter((pl.col("n").cum_sum() - pl.col("n")) < MEASURED_AT_MOST)
    )
    kept = held_out.join(drawn.select("user_id"), on="user_id", how="semi")
    outcomes = [
        kept.with_columns(pl.lit(value).alias("answered"), times.alias("times"))
        for value, times in ((1.0, pl.col("n_answered")), (0.0, pl.col("n") - pl.col("n_answered")))
    ]
    rows = pl.concat(outcomes).sort(*_PAIR, *FEATURES, "answered")
    places = np.repeat(np.arange(rows.height), rows["times"].to_numpy())
    return rows.select("user_id", "answered", *TIMING_BASELINES, MODEL)[places]


def _judged(
    rows: pl.DataFrame,
    featured: pl.DataFrame,
    described: Mapping[str, Any],
    seed: int,
    resamples: int,
) -> TimingTraining:
    figures, better = _figures(rows, seed, resamples)
    gain = figures[MODEL, GAIN]
    # Also false where there is no interval.
    is_champion = gain.lower > 0
    reason = None
    if not is_champion:
        reason = (
            f"{MODEL} is not surely better than {better}: a log loss of "
            f"{figures[MODEL, LOG_LOSS].value:.4f} against {figures[better, LOG_LOSS].value:.4f}, "
            f"a gain of {gain.value:+.4f}, 95 % interval {gain.lower:+.4f} to {gain.upper:+.4f}."
        )
    return TimingTraining(
        training={
            **described,
            "outcome": "champion" if is_champion else "no_champion",
            "champion": MODEL if is_champion else None,
            "reason": reason,
        },
        metrics=_metrics(figures, described["as_of"], rows.height, is_champion),
        curves=_curves(rows, described["as_of"]),
        model=fitted(featured) if is_champion else None,
    )


def _figures(
    rows: pl.DataFrame, seed: int, resamples: int
) -> tuple[dict[tuple[str, str], Figure], str]:
    """All figures, by model and metric, and the baseline of the smaller log loss."""
    names = (*TIMING_BASELINES, MODEL)
    outcomes = rows["answered"].to_numpy()
    people = rows["user_id"].rank("dense").to_numpy()
    expected = {name: rows[name].to_numpy() for name in names}
    losses = np.column_stack([_log_losses(outcomes, expected[name]) for name in names])

    def means(weights: _Floats) -> _Floats:
        found: _Floats = weights @ losses / weights.sum()
        return found

    values = means(np.ones(rows.height))
    better = int(values[: len(TIMING_BASELINES)].argmin())
    draws = resampled(means, people, seed=seed, resamples=resamples)
    # With the gain as one more column, draw by draw, and so paired.
    values = np.append(values, values[better] - values[-1])
    lower, upper = intervals(np.column_stack([draws, draws[:, better] - draws[:, -1]]))
    keys = [*((name, LOG_LOSS) for name in names), (MODEL, GAIN)]
    figures = {
        key: Figure(*map(float, ends))
        for key, *ends in zip(keys, values, lower, upper, strict=True)
    }
    assessed = assess(outcomes, expected, expected, people, seed=seed, resamples=resamples)
    figures |= {(name, m): assessed.figure(name, m) for name in names for m in METRICS}
    return figures, names[better]


def _log_losses(outcomes: _Floats, expected: _Floats) -> _Floats:
    """The log loss of each row, as `sklearn.metrics.log_loss` takes the mean of."""
    losses: _Floats = -np.log(np.where(outcomes == 1, expected, 1 - expected))
    return losses


def _metrics(
    figures: Mapping[tuple[str, str], Figure], as_of: datetime, n: int, is_champion: bool
) -> pl.DataFrame:
    rows = [
        {
            "target": TARGET,
            "as_of": as_of,
            "model": name,
            "metric": metric,
            "value": figure.value,
            "lower": None if np.isnan(figure.lower) else figure.lower,
            "upper": None if np.isnan(figure.upper) else figure.upper,
            "n": n,
            "is_baseline": name in TIMING_BASELINES,
            "is_champion": is_champion and name == MODEL,
        }
        for (name, metric), figure in figures.items()
    ]
    frame = pl.DataFrame(rows, schema=MODEL_METRICS.polars_schema)
    return MODEL_METRICS.validate(frame.sort("model", "metric"))


def _curves(rows: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Reliability of each model: what it expects against what came of it."""
    outcomes = rows["answered"].to_numpy()
    points = [
        {"target": TARGET, "as_of": as_of, "model": name, **point}
        for name in (*TIMING_BASELINES, MODEL)
        for point in reliability(outcomes, rows[name].to_numpy())
    ]
    frame = pl.DataFrame(points, schema=MODEL_CURVES.polars_schema)
    return MODEL_CURVES.validate(frame.sort("model", "curve", "place"))
