"""How members have sounded, how they sound in the week after, and what a model makes of it.

Mood is mean sentiment here. How one text sounds belongs to `sentiment`; how a model of mood is
trained, to `mood_training`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from engagement_pipeline.behavior.churn_models import feature_rows
from engagement_pipeline.behavior.sources import BehaviorSources
from engagement_pipeline.behavior.windows import Windows, current_members
from engagement_pipeline.signals.activity import PAIR

MOOD_DAYS = 7
"""Days that mood is the mean of: those up to now, and those after."""

MOOD_FEATURES: tuple[str, ...] = (
    "mood_now",
    "mean_sentiment_30d",
    "mean_sentiment_90d",
    "sentiment_trend_30d",
    "sentiment_deviation_30d",
    "last_sentiment",
    "lowest_sentiment_7d",
    "positive_share_30d",
    "negative_share_30d",
    "texts_7d",
    "texts_30d",
    "texts_90d",
    "interactions_30d",
    "mean_quality_7d",
    "mean_quality_30d",
    "meaningful_share_30d",
    "days_since_text",
    "days_since_joined",
)
"""The features, in the order of the columns. `mood_features` says what each one is."""

_MILLIONTHS = 1_000_000
_POSITIVE_FROM, _NEGATIVE_FROM = 0.05, -0.05
_NOT_KNOWN: dict[str, pl.DataType] = {
    "member": pl.UInt32(),
    **{name: pl.Float64() for name in MOOD_FEATURES if name != "days_since_joined"},
}
_SAMPLES = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "cutoff": pl.Datetime("us", "UTC"),
        "outcome": pl.Float64(),
        **{name: pl.Float64() for name in MOOD_FEATURES},
    }
)


class Regressor(Protocol):
    """A fitted regressor of scikit-learn."""

    def predict(self, X: npt.NDArray[np.float64]) -> Any:  # noqa: N803 (scikit-learn's name)
        """A number for each row."""
        ...


def mood_features(sources: BehaviorSources, *, as_of: datetime) -> pl.DataFrame:
    """What is known at `as_of` of how each member sounds.

    Windows end at `as_of` and leave out their first moment. Texts are interactions with a
    sentiment, from -1 to 1.

    - `mood_now`: mean sentiment of the last 7 days; null without a text in them.
    - `mean_sentiment_*`, `sentiment_deviation_30d` (standard deviation), `positive_share_30d` and
      `negative_share_30d` (from 0.05 up, from -0.05 down): of texts; null without.
    - `sentiment_trend_30d`: `mood_now` less the mean of the 23 days before; null without either.
    - `last_sentiment`: of the last text of the 90 days, the lowest of several at once;
      `lowest_sentiment_7d`.
    - `texts_*`, `interactions_30d`: counts, null of who has been silent for 90 days.
    - `mean_quality_*`, `meaningful_share_30d`: of interactions.
    - `days_since_text` (of the 90 days), `days_since_joined`: with fractions.

    Args:
        sources: the tables; without interactions nothing but joining is known.
        as_of: the moment described, with a time zone.

    Returns:
        `org_id`, `user_id`, `as_of`, and `MOOD_FEATURES` as Float64; one row per member, sorted by
        `org_id, user_id`.

    Raises:
        ValueError: `as_of` has no time zone.
    """
    windows = Windows.at(as_of)
    members = current_members(sources.memberships, windows)
    if sources.interactions is None:
        sounding = pl.LazyFrame(schema=_NOT_KNOWN)
    else:
        recent = sources.interactions.filter(windows.within("sent_at", 90))
        keys = members.lazy().select(*PAIR, "member")
        sounding = _sounding(_texts(recent.join(keys, on=PAIR), "member"), windows)
    return (
        members.lazy()
        .with_columns(windows.days_since("joined_at").alias("days_since_joined"))
        .join(sounding, on="member", how="left")
        .sort("member")
        .select(
            *PAIR,
            pl.lit(as_of.astimezone(UTC), pl.Datetime("us", "UTC")).alias("as_of"),
            pl.col(MOOD_FEATURES).cast(pl.Float64),
        )
        .collect(engine="streaming")
    )


def mood_samples(sources: BehaviorSources, cutoffs: Sequence[datetime]) -> pl.DataFrame:
    """Members who sounded somehow in the 7 days up to a cut-off, and how in the 7 days after it.

    Who wrote nothing in either has no mood to learn from, and is left out.

    Args:
        sources: the tables.
        cutoffs: moments with time zones, each with 7 days after it that are known.

    Returns:
        `org_id`, `user_id`, `cutoff`, `outcome` (mean sentiment of `(cutoff, cutoff + 7 d]`) and
        `MOOD_FEATURES`, sorted by `cutoff, org_id, user_id`.

    Raises:
        ValueError: a cut-off has no time zone.
    """
    if sources.interactions is None:
        return pl.DataFrame(schema=_SAMPLES)
    parts = [_samples_at(sources, sources.interactions, cutoff) for cutoff in sorted(cutoffs)]
    return pl.concat([pl.DataFrame(schema=_SAMPLES), *parts])


def predict_mood(features: pl.DataFrame, model: Regressor | None) -> pl.Series:
    """The mean sentiment expected for the next 7 days.

    Args:
        features: rows with `MOOD_FEATURES`.
        model: as trained; none gives nulls.

    Returns:
        `mood_predicted`, from -1 to 1, in the order of the rows; null where `mood_now` is.
    """
    known = features["mood_now"].is_not_null()
    predicted = np.full(features.height, np.nan)
    if model is not None and known.any():
        rows = feature_rows(features.filter(known), MOOD_FEATURES)
        predicted[known.to_numpy()] = np.clip(model.predict(rows), -1.0, 1.0)
    return pl.Series("mood_predicted", predicted).fill_nan(None)


def _samples_at(
    sources: BehaviorSources, interactions: pl.LazyFrame, cutoff: datetime
) -> pl.DataFrame:
    after = Windows.at(cutoff.astimezone(UTC) + timedelta(days=MOOD_DAYS))
    outcomes = (
        _texts(interactions.filter(after.within("sent_at", MOOD_DAYS)), *PAIR)
        .group_by(PAIR)
        .agg(_mean("sentiment", pl.col("sentiment").is_not_null()).alias("outcome"))
    )
    return (
        mood_features(sources, as_of=cutoff)
        .rename({"as_of": "cutoff"})
        .lazy()
        .join(outcomes, on=PAIR, maintain_order="left")
        .drop_nulls(["mood_now", "outcome"])
        .select(_SAMPLES.names())
        .collect(engine="streaming")
    )


def _texts(interactions: pl.LazyFrame, *keys: str) -> pl.LazyFrame:
    """Interactions with sentiment and quality in whole millionths as well.

    Sums of fractions depend on the order of rows in their last digits; those of whole numbers do
    not.
    """
    whole = [
        (pl.col(name) * _MILLIONTHS).round().cast(pl.Int64).alias(f"{name}_millionths")
        for name in ("sentiment", "quality")
    ]
    return interactions.select(*keys, "sent_at", "sentiment", *whole, "is_meaningful")


def _mean(name: str, inside: pl.Expr) -> pl.Expr:
    values = pl.col(f"{name}_millionths").filter(inside)
    # Counts are 32 bits wide, and would overflow at some thousands.
    count = values.count().cast(pl.Int64)
    return pl.when(count > 0).then(values.sum() / (count * _MILLIONTHS))


def _sounding(recent: pl.LazyFrame, windows: Windows) -> pl.LazyFrame:
    """Features of each `member` by interactions of the 90 days."""
    in_7d, in_30d, in_90d = (windows.within("sent_at", days) for days in (7, 30, 90))
    sentiment = pl.col("sentiment")
    text_at = pl.when(sentiment.is_not_null()).then(pl.col("sent_at"))
    of_30d = sentiment.filter(in_30d)
    millionths = pl.col("sentiment_millionths").filter(in_30d)
    counted = recent.group_by("member").agg(
        _mean("sentiment", in_7d).alias("mood_now"),
        _mean("sentiment", in_30d).alias("mean_sentiment_30d"),
        _mean("sentiment", in_90d).alias("mean_sentiment_90d"),
        _mean("sentiment", windows.within("sent_at", 30, until=7)).alias("mean_before"),
        (millionths**2).sum().alias("squares"),
        sentiment.filter(text_at == text_at.max()).min().alias("last_sentiment"),
        sentiment.filter(in_7d).min().alias("lowest_sentiment_7d"),
        (of_30d >= _POSITIVE_FROM).mean().alias("positive_share_30d"),
        (of_30d <= _NEGATIVE_FROM).mean().alias("negative_share_30d"),
        sentiment.filter(in_7d).count().alias("texts_7d"),
        of_30d.count().alias("texts_30d"),
        sentiment.count().alias("texts_90d"),
        in_30d.sum().alias("interactions_30d"),
        _mean("quality", in_7d).alias("mean_quality_7d"),
        _mean("quality", in_30d).alias("mean_quality_30d"),
        pl.col("is_meaningful").filter(in_30d).mean().alias("meaningful_share_30d"),
        text_at.max().alias("text_at"),
    )
    mean_square = pl.col("squares") / (pl.col("texts_30d").cast(pl.Int64) * _MILLIONTHS**2)
    variance = mean_square - pl.col("mean_sentiment_30d") ** 2
    return counted.select(
        pl.all().exclude("mean_before", "squares", "text_at"),
        (pl.col("mood_now") - pl.col("mean_before")).alias("sentiment_trend_30d"),
        # A rounding below 0 is nothing.
        variance.clip(lower_bound=0).sqrt().alias("sentiment_deviation_30d"),
        windows.days_since("text_at").alias("days_since_text"),
    )
