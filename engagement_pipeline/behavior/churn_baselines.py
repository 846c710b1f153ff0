"""Simple scores of churn that a model has to beat.

What each one is computed from belongs to `features`; how good it is, to the validation.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from engagement_pipeline.behavior.bg_nbd import expected_activity, fit
from engagement_pipeline.behavior.churn_heuristic import churn_heuristic

Floats: TypeAlias = npt.NDArray[np.float64]

FITTED_MEMBERS = 20_000
"""Members that BG/NBD is fitted to at most: it has four parameters."""


def baseline_scores(
    train: pl.DataFrame, test: pl.DataFrame, *, horizon_days: int
) -> dict[str, Floats]:
    """The score of each row of `test` by each of `vocabulary.CHURN_BASELINES`; higher: likelier.

    - `recency`: days since the last activity, or since joining if there was none.
    - `frequency`: minus the active days of all time.
    - `bg_nbd`: minus the active days that the BG/NBD model, fitted to `train`, expects within the
      horizon. Each member is fitted to once, as known at the last of their cut-offs.
    - `heuristic`: `churn_heuristic`.

    Args:
        train: samples with `org_id`, `user_id`, `cutoff` and `FEATURES`. Outcomes are not looked
            at.
        test: rows with `FEATURES`.
        horizon_days: days without activity that count as churn.

    Returns:
        An array as long as `test` for each name. They rank; none but the heuristic is in [0, 1].

    Raises:
        ValueError: `train` is empty, or `horizon_days` is below 1.
    """
    if train.is_empty():
        raise ValueError("baselines are fitted to at least one sample, and there is none")
    model = fit(*histories(_once_each(train)))
    coming = (
        expected_activity(model, *histories(test), horizon_days) if test.height else np.zeros(0)
    )
    away = test.select(pl.coalesce("days_since_active", "days_since_joined")).to_series()
    return {
        "recency": away.to_numpy(),
        "frequency": -test["active_days_total"].to_numpy(),
        "bg_nbd": -coming,
        "heuristic": churn_heuristic(test, horizon_days=horizon_days).to_numpy(),
    }


def histories(features: pl.DataFrame) -> tuple[Floats, Floats, Floats]:
    """What BG/NBD models are fitted to: active days after the first, and `t_x` and `T` in days.

    Who was never active counts as who came once, on the day of joining, and not again.

    Args:
        features: rows with `FEATURES`.
    """
    active_days, last, until = (
        features[name].to_numpy()
        for name in (
            "active_days_total",
            "days_from_first_to_last_active",
            "days_since_first_active",
        )
    )
    return np.maximum(active_days - 1, 0), last, until


def _once_each(train: pl.DataFrame) -> pl.DataFrame:
    """The last sample of each member; of very many, as many as are fitted to, evenly spread."""
    last = train.sort("org_id", "user_id", "cutoff").unique(
        ["org_id", "user_id"], keep="last", maintain_order=True
    )
    if last.height <= FITTED_MEMBERS:
        return last
    return last[np.linspace(0, last.height - 1, FITTED_MEMBERS).astype(np.int64)]
