"""How likely a member is to churn by a written rule: what serves where no model has proved better.

What is known of members belongs to `features`; whether a model is better, to the validation.
"""

import polars as pl

RECENCY_WEIGHT, TREND_WEIGHT, SENTIMENT_WEIGHT, FREQUENCY_WEIGHT = 0.4, 0.3, 0.2, 0.1


def churn_heuristic(features: pl.DataFrame, *, horizon_days: int) -> pl.Series:
    """Weighted mean of what is known of four parts, each from 0 (stays) to 1 (gone).

    - Recency, .4: d / (d + horizon), where d are the days since the last activity, or since joining
      if there was none. It grows without end, so that of two members the one longer away never
      scores the same, as under a cap.
    - Trend, .3: by which share active days fell from the 30 days before to the last 30; 0 if they
      rose. Missing where there were none in either.
    - Sentiment, .2: (1 - mean sentiment of 30 days) / 2. Missing without text.
    - Frequency, .1: 1 / (1 + active days in 90 days).

    The weights of missing parts go to the others in proportion. The score ranks members; it is no
    probability.

    Args:
        features: one row per member with the columns of `member_features`, in any order.
        horizon_days: days without activity that count as churn.

    Returns:
        `churn_heuristic`, from 0 to 1, in the order of the rows.

    Raises:
        ValueError: `horizon_days` is below 1.
    """
    if horizon_days < 1:
        raise ValueError(f"horizon_days must be at least 1, and is {horizon_days}")
    away = pl.coalesce("days_since_active", "days_since_joined")
    now = pl.col("active_days_30d")
    before = now - pl.col("active_days_trend_30d")
    fallen = pl.when(before > 0).then((1 - now / before).clip(lower_bound=0)).otherwise(0.0)
    parts = {
        RECENCY_WEIGHT: away / (away + horizon_days),
        TREND_WEIGHT: pl.when(now + before > 0).then(fallen),
        SENTIMENT_WEIGHT: (1 - pl.col("mean_sentiment_30d")) / 2,
        FREQUENCY_WEIGHT: 1 / (1 + pl.col("active_days_90d")),
    }
    weighted = pl.sum_horizontal(*(weight * part for weight, part in parts.items()))
    weights = pl.sum_horizontal(
        *(pl.when(part.is_not_null()).then(weight) for weight, part in parts.items())
    )
    score = (weighted / weights).clip(0.0, 1.0).alias("churn_heuristic")
    return features.select(score).to_series()
