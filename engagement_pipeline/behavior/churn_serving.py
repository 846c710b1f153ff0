"""What is predicted of members: by the champion, or by the heuristic and why.

Here belong the columns of churn in `behavior.predictions`. How a model predicts belongs to
`churn_models`; what an organisation's own outcomes make of its probabilities, to the loop of
predictions, which publishes over what is said here.
"""

from collections.abc import Collection
from datetime import datetime

import numpy as np
import polars as pl

from engagement_pipeline.behavior.churn_models import ServedModel, churn_probabilities
from engagement_pipeline.behavior.isotonic import probabilities
from engagement_pipeline.signals.activity import PAIR

HEURISTIC = "heuristic"

CHURN_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "churn_probability": pl.Float64(),
        "churn_raw": pl.Float64(),
        "churn_heuristic": pl.Float64(),
        "churn_model": pl.String(),
        "confidence": pl.Float64(),
        "churn_reason": pl.String(),
        "horizon_days": pl.Int64(),
    }
)
"""The columns of churn, in the order of the contract."""


def serve_churn(
    features: pl.DataFrame,
    model: ServedModel | None,
    reason: str | None,
    *,
    heuristic: pl.Series,
    horizon_days: int,
    as_of: datetime,
) -> pl.DataFrame:
    """What is predicted of each member at a moment.

    With a model, `churn_raw` is its probability and `churn_probability` that after its own knots;
    where an organisation has a map of its own in force, whoever calls applies that to `churn_raw`,
    writes `churn_probability` anew, and asks `with_confidence` again. A model that is not for this
    (`unfit`) does not serve. Without one, both are what the heuristic says.

    Args:
        features: `org_id`, `user_id`, and the features of the model; one row a member.
        model: the champion, if there is one.
        reason: why there is none; not looked at where there is.
        heuristic: what the heuristic says of each row, in [0, 1].
        horizon_days: days that churn is predicted for.
        as_of: the moment, with a time zone.

    Returns:
        Rows of `CHURN_SCHEMA`, in the order of `features`.

    Raises:
        ValueError: there is neither a model nor a reason; a feature is infinite; the heuristic is
            not a number in [0, 1] for each row.
    """
    if model is None and not reason:
        raise ValueError("expected a model, or the reason why there is none, found neither")
    is_share = heuristic.is_between(0, 1).fill_null(False)
    if heuristic.len() != features.height or not is_share.all():
        raise ValueError(
            f"heuristic: expected {features.height} numbers in [0, 1], found {is_share.sum()} "
            f"among {heuristic.len()}"
        )
    if model is not None:
        reason = unfit(model, features.columns, horizon_days=horizon_days, as_of=as_of)
    said = heuristic.cast(pl.Float64).to_numpy()
    if model is None or reason is not None:
        raw = published = said
        version = HEURISTIC
    else:
        raw = churn_probabilities(model.estimator, features, model.feature_names)
        published = np.clip(probabilities(raw, model.knots), 0.0, 1.0)
        version = model.version
    found = features.select(PAIR).with_columns(
        churn_probability=published,
        churn_raw=raw,
        churn_heuristic=said,
        churn_model=pl.lit(version),
        churn_reason=pl.lit(reason, dtype=pl.String),
        horizon_days=pl.lit(horizon_days),
    )
    columns = [pl.col(name).cast(dtype) for name, dtype in CHURN_SCHEMA.items()]
    return with_confidence(found).select(columns)


def with_confidence(predictions: pl.DataFrame) -> pl.DataFrame:
    """Predictions with `confidence`: how far the published probability is from a toss-up.

    That is `|2p - 1|` of `churn_probability`; 0 where the heuristic predicts, which is none.
    """
    distance = (2 * pl.col("churn_probability") - 1).abs()
    is_heuristic = pl.col("churn_model") == HEURISTIC
    return predictions.with_columns(confidence=pl.when(is_heuristic).then(0.0).otherwise(distance))


def unfit(
    model: ServedModel, columns: Collection[str], *, horizon_days: int, as_of: datetime
) -> str | None:
    """Why a model cannot predict this, in words; None if it can.

    Args:
        model: the model.
        columns: features that there are.
        horizon_days: days to predict for.
        as_of: the moment to predict at. A model of a later day knows what was not known then.
    """
    missing = [name for name in model.feature_names if name not in columns]
    if missing:
        return f"The model {model.version} takes features that are not there: {', '.join(missing)}."
    if model.horizon_days != horizon_days:
        return (
            f"The model {model.version} predicts for {model.horizon_days} days, and asked for are "
            f"{horizon_days}."
        )
    if model.as_of > as_of:
        return f"The model {model.version} was trained for a moment after {as_of.isoformat()}."
    return None
