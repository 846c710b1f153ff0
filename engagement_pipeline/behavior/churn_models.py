"""The models that churn is predicted by: how each is fitted, and how it predicts.

What they are fitted on and how they are compared belongs to `validation` and `churn_training`; how
a fitted one is kept, to `model_bytes`; what is published of its predictions, to `churn_serving`.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

import numpy as np
import polars as pl

from engagement_pipeline.behavior.isotonic import Knots
from engagement_pipeline.behavior.resampling import Floats

TREES = 100
SAMPLES_A_TREE = 50_000
"""Of more rows each tree of a forest is given so many, drawn anew: a tree has a thousand leaves at
most, and the forest takes half of the time of a training."""
CHUNK_ROWS = 100_000
THREADS = 2


class Estimator(Protocol):
    """A fitted classifier of scikit-learn."""

    classes_: Any

    def predict_proba(self, X: Floats) -> Floats:  # noqa: N803 (scikit-learn's name)
        """The probability of each class, a row each."""
        ...


Fitter: TypeAlias = Callable[[Floats, Floats, int], Estimator]
"""Fits a model: features (rows x features, NaN where unknown), outcomes 0 or 1, and a seed."""


@dataclass(frozen=True)
class ServedModel:
    """A model that predicts until the next training.

    Attributes:
        target: what it predicts, of `vocabulary.PREDICTION_TARGETS`.
        name: which model it is, such as `random_forest`.
        feature_names: the columns that it takes, in their order.
        horizon_days: how far ahead it predicts.
        as_of: the moment it was trained for: it knows nothing later.
        estimator: the fitted model.
        knots: from its probabilities to those that came true, on held-out members.
    """

    target: str
    name: str
    feature_names: tuple[str, ...]
    horizon_days: int
    as_of: datetime
    estimator: Any
    knots: Knots

    @property
    def version(self) -> str:
        """The name and the day of training, as predictions carry it."""
        return f"{self.name}@{self.as_of:%Y-%m-%d}"


def churn_fitters(*, trees: int = TREES) -> Mapping[str, Fitter]:
    """How each of `vocabulary.CHURN_MODELS` is fitted. The same input and seed: the same model.

    Features may be unknown, in some rows or in all: a community without messages has no sentiment.

    - `random_forest`: `RandomForestClassifier`, depth 10, balanced classes. Balanced, its
      probabilities are too high where churn is rare: they rank, and knots make them hold.
    - `logistic_regression`: `LogisticRegression` on standardised inverse hyperbolic sines, which
      are near logarithms for large counts and are defined for zero and below (J. B. Burbidge,
      L. Magee, A. L. Robb, 1988); unknown values are the median, with an indicator of their own.
    - `hist_gradient_boosting`: `HistGradientBoostingClassifier`, of smaller trees and in smaller
      steps than by default, with which it learns the noise of a few thousand members. It does not
      stop early: for that it would hold out rows, and not people.

    Args:
        trees: how many the first and the last grow.
    """
    return {
        "random_forest": lambda rows, outcomes, seed: _random_forest(rows, outcomes, seed, trees),
        "logistic_regression": _logistic_regression,
        "hist_gradient_boosting": lambda rows, outcomes, seed: _boosting(
            rows, outcomes, seed, trees
        ),
    }


def feature_rows(frame: pl.DataFrame, feature_names: Sequence[str]) -> Floats:
    """The features as models take them: rows x features, NaN where unknown.

    Raises:
        ValueError: a feature is missing from the frame, or infinite somewhere; names it.
    """
    missing = [name for name in feature_names if name not in frame.columns]
    if missing:
        raise ValueError(f"expected the features {', '.join(missing)}, found {frame.columns}")
    columns = [pl.col(name).cast(pl.Float64) for name in feature_names]
    rows: Floats = frame.select(columns).to_numpy()
    infinite = np.flatnonzero(np.isinf(rows).any(axis=0))
    if infinite.size:
        raise ValueError(f"expected finite numbers or null, {feature_names[infinite[0]]} has ±inf")
    return rows


def churn_probabilities(
    estimator: Estimator,
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    *,
    chunk_rows: int = CHUNK_ROWS,
) -> Floats:
    """The probability of churn of each row, as the model has it, in [0, 1].

    By chunks, so that a million members take little memory, and of several chunks at a time.

    Raises:
        ValueError: as `feature_rows`; the estimator knows no class 1.
    """
    column = np.flatnonzero(np.asarray(estimator.classes_) == 1)
    if column.size != 1:
        raise ValueError(f"expected a model of the classes 0 and 1, found {estimator.classes_}")

    def of_chunk(start: int) -> Floats:
        rows = feature_rows(frame.slice(start, chunk_rows), feature_names)
        with one_openmp_thread():
            of_one: Floats = estimator.predict_proba(rows)[:, column[0]]
        return of_one

    starts = range(0, frame.height, chunk_rows)
    with ThreadPoolExecutor(THREADS) as threads:
        chunks = list(threads.map(of_chunk, starts))
    # Sums of a hundred trees can be a rounding above 1.
    found: Floats = np.clip(np.concatenate([np.empty(0), *chunks]), 0.0, 1.0)
    return found


def _fittable(rows: Floats) -> Floats:
    # The bins of gradient boosting need one value a feature, and scikit-learn 1.9 fails without a
    # word of it. A constant says as little, and no model goes by it.
    is_unknown = np.isnan(rows).all(axis=0)
    return np.where(is_unknown, 0.0, rows) if is_unknown.any() else rows


def _random_forest(rows: Floats, outcomes: Floats, seed: int, trees: int) -> Estimator:
    # Here and below: scikit-learn takes seconds to import, and serving by the heuristic needs none.
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        n_estimators=trees,
        max_depth=10,
        max_samples=SAMPLES_A_TREE if len(rows) > SAMPLES_A_TREE else None,
        class_weight="balanced",
        random_state=seed,
        n_jobs=THREADS,
    )
    forest.fit(_fittable(rows), outcomes)
    # With several threads a forest adds its trees up in the order they get done in, so that the
    # last digits differ from one prediction to the next. Threads take chunks of rows instead.
    fitted: Estimator = forest.set_params(n_jobs=None)
    return fitted


def _logistic_regression(rows: Floats, outcomes: Floats, seed: int) -> Estimator:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    fitted: Estimator = make_pipeline(
        FunctionTransformer(np.arcsinh),
        SimpleImputer(strategy="median", add_indicator=True),
        StandardScaler(),
        LogisticRegression(max_iter=1_000, random_state=seed),
    ).fit(_fittable(rows), outcomes)
    return fitted


def _boosting(rows: Floats, outcomes: Floats, seed: int, trees: int) -> Estimator:
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosting = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=trees,
        max_leaf_nodes=15,
        min_samples_leaf=50,
        early_stopping=False,
        random_state=seed,
    )
    with one_openmp_thread():
        fitted: Estimator = boosting.fit(_fittable(rows), outcomes)
    return fitted


def one_openmp_thread() -> AbstractContextManager[object]:
    """Have gradient boosting compute in this thread alone.

    OpenMP has its threads spin while they wait, and each tree has many short waits: on two busy
    cores a fit of 0.1 seconds took 5. One thread also sums in one order, on every machine.
    """
    from threadpoolctl import threadpool_limits

    limited: AbstractContextManager[object] = threadpool_limits(1, user_api="openmp")
    return limited
