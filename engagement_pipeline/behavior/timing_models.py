"""What expects messages to be answered: a model, and the two ways of counting it has to beat.

All take messages as `timing_training` describes them: `org_id`, `local_hour`, `local_weekday`,
`log_share`, `n` and `n_answered`, both classes among those to train on. On whom they are trained
and measured belongs there.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from engagement_pipeline.behavior.timing import FEATURES, HOURS, PRIOR_EVENTS, WEEKDAYS, Model
from engagement_pipeline.contracts.vocabulary import TIMING_MODELS

(MODEL,) = TIMING_MODELS

_Floats = npt.NDArray[np.float64]


def answered_of(messages: pl.DataFrame) -> tuple[int, int]:
    """How many were answered, and how many there are."""
    return int(messages["n_answered"].sum()), int(messages["n"].sum())


def by_org_hours(train: pl.DataFrame, test: pl.DataFrame) -> pl.Series:
    """The organisation's rate of answers by hour, drawn to the overall rate as by ten messages."""
    answered, n = answered_of(train)
    keys = ["org_id", "local_hour"]
    counted = train.group_by(keys).agg(
        pl.col("n_answered").sum().alias("k"), pl.col("n").sum().alias("of")
    )
    found = test.select(keys).join(counted, on=keys, how="left", maintain_order="left").fill_null(0)
    return found.select(
        ((pl.col("k") + PRIOR_EVENTS * answered / n) / (pl.col("of") + PRIOR_EVENTS)).alias(
            "org_hours"
        )
    ).to_series()


def by_own_hours(train: pl.DataFrame, test: pl.DataFrame) -> pl.Series:
    """The overall odds of an answer, times the member's smoothed share of the hour.

    Shares are taken by their (geometric) mean over the messages trained on, so that a message in a
    usual hour has the overall rate. It is the logistic regression that learns nothing but this.
    """
    answered, n = answered_of(train)
    usual = np.average(train["log_share"].to_numpy(), weights=train["n"].to_numpy())
    log_odds = np.log(answered / (n - answered)) + test["log_share"].to_numpy() - usual
    return pl.Series("own_hours", 1 / (1 + np.exp(-log_odds)))


def by_logistic_regression(train: pl.DataFrame, test: pl.DataFrame) -> pl.Series:
    """The probability of an answer as `fitted` has it."""
    return pl.Series(MODEL, fitted(train).predict_proba(_points(test))[:, 1])


def fitted(rows: pl.DataFrame) -> Model:
    """A logistic regression over one-hot hour and weekday, and the log of the share."""
    # It takes seconds to import.
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    alike = rows.group_by(FEATURES).agg(pl.col("n", "n_answered").sum()).sort(FEATURES)
    points, answered = _points(alike), alike["n_answered"].to_numpy()
    weights = np.concatenate([answered, alike["n"].to_numpy() - answered])
    classes = np.repeat([1, 0], alike.height)
    encoder = OneHotEncoder(categories=[np.arange(HOURS), np.arange(1, WEEKDAYS + 1)])
    one_hot = ColumnTransformer([("clock", encoder, [0, 1])], remainder="passthrough")
    model = Pipeline([("features", one_hot), ("answers", LogisticRegression(max_iter=1_000))])
    counted = weights > 0
    model.fit(
        np.concatenate([points, points])[counted],
        classes[counted],
        answers__sample_weight=weights[counted],
    )
    return model


def _points(rows: pl.DataFrame) -> _Floats:
    return rows.select(pl.col(FEATURES).cast(pl.Float64)).to_numpy()
