"""Churn on public data of a kind that others publish figures of: the CDNOW sample.

2,357 customers who first bought in the first quarter of 1997; their purchases are attendance. After
39 weeks it is foretold who buys nothing in the next 39 (P. Fader, B. Hardie, K. Lee, 2005).
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.models_page import CHURN_METRICS, WORDS, metric_table, save_figures, table, told
from engagement_pipeline.behavior.churn_baselines import Floats, baseline_scores
from engagement_pipeline.behavior.churn_samples import churn_samples
from engagement_pipeline.behavior.churn_training import GAIN, ChurnTraining, train_churn
from engagement_pipeline.behavior.features import FEATURES
from engagement_pipeline.behavior.sources import BehaviorSources

FOLDER = "cdnow_sample"
WEEKS_39 = datetime(1997, 10, 1, tzinfo=UTC)
AS_OF = datetime(1998, 7, 1, tzinfo=UTC)
HORIZON_DAYS = 273
EARLIER = datetime(1997, 5, 18, tzinfo=UTC)
"""Half of the 39 weeks: the outcome of the other half is known at their end."""
EARLIER_DAYS = 136
SEED = 1


def study(data: Path, command: str) -> str:
    """Measure, draw the pictures, and give the section."""
    from engagement_pipeline.defs.model_pictures import model_figures

    sources = _sources(data / FOLDER)
    later = churn_samples(sources, [WEEKS_39], horizon_days=HORIZON_DAYS)
    earlier = churn_samples(sources, [EARLIER], horizon_days=EARLIER_DAYS)
    across = _trained(later, horizon_days=HORIZON_DAYS, in_time=False)
    in_time = _trained(pl.concat([earlier, later]), horizon_days=EARLIER_DAYS, in_time=True)
    pictures = save_figures(model_figures(across.curves, target="churn"), "cdnow")
    return "\n".join(
        [
            "### CDNOW",
            "",
            f"`{command}`",
            "",
            f"{later.height:,} customers at {WEEKS_39:%Y-%m-%d}, all who first bought in the first "
            f"quarter of 1997. Churned is who bought nothing in the {HORIZON_DAYS} days after it: "
            f"{later['outcome'].mean():.1%}. ROC AUC "
            "is the same number for those who return. In brackets 95 % intervals, of 1,000 draws "
            "of customers. Baselines stand in plain type.",
            "",
            "**Across people**: trained on four fifths of the customers at the same moment, tested "
            "on the other fifth, in turn. Nobody is in both, but nobody could have known these "
            "outcomes then.",
            "",
            *metric_table(across.metrics, CHURN_METRICS),
            "",
            *_gains(across),
            "",
            f"**In time**: trained on other customers at {EARLIER:%Y-%m-%d}, whose outcome is what "
            f"they did in the {EARLIER_DAYS} days up to {WEEKS_39:%Y-%m-%d}: "
            f"{earlier['outcome'].mean():.1%} bought nothing. Tested on the same outcomes as "
            "above. BG/NBD too is fitted to the earlier half. Only the order counts, since the "
            "probabilities are of a shorter time.",
            "",
            *metric_table(in_time.metrics, CHURN_METRICS[:2]),
            "",
            *_gains(in_time),
            "",
            *pictures,
        ]
    )


def _trained(samples: pl.DataFrame, *, horizon_days: int, in_time: bool) -> ChurnTraining:
    def baselines(train: pl.DataFrame, test: pl.DataFrame, **_: Any) -> dict[str, Floats]:
        # What is tested is always the later time, whatever was trained on.
        return baseline_scores(train, test, horizon_days=HORIZON_DAYS)

    return train_churn(
        samples,
        feature_names=FEATURES,
        baseline_scores=baselines,
        horizon_days=horizon_days,
        as_of=AS_OF,
        min_samples=500,
        max_training_samples=200_000,
        seed=SEED,
        population="customers who first bought in the first quarter of 1997",
        in_time=in_time,
        test_cutoffs=1,
    )


def _gains(training: ChurnTraining) -> list[str]:
    rows = training.metrics.filter(pl.col("metric") == GAIN).sort("is_baseline", "model")
    head = ["", f"{WORDS['average_precision']}: gain over `recency`"]
    lines = table(head, [[f"`{row['model']}`", told(row)] for row in rows.iter_rows(named=True)])
    champion = training.training["champion"]
    why = training.training["reason"]
    ended = f"`{champion}` would serve." if champion else f"None would serve: {why}"
    return [*lines, "", ended]


def _sources(folder: Path) -> BehaviorSources:
    def rows(name: str, at: str, never: str) -> pl.LazyFrame:
        found = pl.read_csv(folder / f"{name}.csv", schema_overrides={"user_id": pl.String})
        moment = pl.col(at).str.to_datetime(time_zone="UTC").dt.epoch("us")
        return found.lazy().with_columns(moment, pl.lit(None, pl.Int64).alias(never))

    return BehaviorSources(
        rows("memberships", "joined_at", "left_at"),
        rows("attendance", "created_at", "responded_at"),
    )
