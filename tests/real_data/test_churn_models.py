"""Who of 2,357 customers of 1997 stays away: what models find, and that they do not find too much.

After 39 weeks it is foretold who buys nothing in the next 39. There is a single moment to learn
from, so models are fitted to other people of the same moment.
"""

from datetime import UTC, datetime

import polars as pl
import pytest

from engagement_pipeline.behavior.churn_baselines import baseline_scores
from engagement_pipeline.behavior.churn_samples import churn_samples
from engagement_pipeline.behavior.churn_training import GAIN, ChurnTraining, train_churn
from engagement_pipeline.behavior.features import FEATURES
from engagement_pipeline.behavior.sources import BehaviorSources
from engagement_pipeline.contracts.vocabulary import CHURN_BASELINES, CHURN_MODELS
from tests.real_data.conftest import DATA

WEEKS_39 = datetime(1997, 10, 1, tzinfo=UTC)
AS_OF = datetime(1998, 7, 1, tzinfo=UTC)
HORIZON_DAYS = 273


@pytest.fixture(scope="module")
def training() -> ChurnTraining:
    folder = DATA / "cdnow_sample"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")

    def rows(table: str, at: str, never: str) -> pl.LazyFrame:
        found = pl.read_csv(folder / f"{table}.csv", schema_overrides={"user_id": pl.String})
        moment = pl.col(at).str.to_datetime(time_zone="UTC").dt.epoch("us")
        return found.lazy().with_columns(moment, pl.lit(None, pl.Int64).alias(never))

    sources = BehaviorSources(
        rows("memberships", "joined_at", "left_at"),
        rows("attendance", "created_at", "responded_at"),
    )
    return train_churn(
        churn_samples(sources, [WEEKS_39], horizon_days=HORIZON_DAYS),
        feature_names=FEATURES,
        baseline_scores=baseline_scores,
        horizon_days=HORIZON_DAYS,
        as_of=AS_OF,
        min_samples=500,
        max_training_samples=200_000,
        seed=1,
        population="customers who first bought in the first quarter of 1997",
        in_time=False,
        resamples=200,
        folds=3,
    )


def figures(training: ChurnTraining, metric: str) -> dict[str, float]:
    rows = training.metrics.filter(pl.col("metric") == metric)
    return dict(rows.select("model", "value").iter_rows())


def test_models_rank_as_well_as_can_be_done_and_no_better(training: ChurnTraining) -> None:
    # Recency alone has 0.77. Who finds much more has looked ahead.
    found = figures(training, "roc_auc")
    assert set(found) == {*CHURN_MODELS, *CHURN_BASELINES}
    for model in CHURN_MODELS:
        assert 0.74 < found[model] < 0.82
    assert found["recency"] == pytest.approx(0.771, abs=0.002)


def test_a_gain_has_its_interval_and_only_a_sure_one_makes_a_champion(
    training: ChurnTraining,
) -> None:
    gains = training.metrics.filter((pl.col("metric") == GAIN) & ~pl.col("is_baseline"))
    assert gains["lower"].null_count() == 0
    best = figures(training, "average_precision")
    name = max(CHURN_MODELS, key=lambda model: best[model])
    is_sure = gains.filter(pl.col("model") == name)["lower"].item() > 0
    assert training.training["champion"] == (name if is_sure else None)


def test_probabilities_hold_within_a_few_points(training: ChurnTraining) -> None:
    found = figures(training, "calibration_error")
    assert all(found[name] < 0.05 for name in (*CHURN_MODELS, *CHURN_BASELINES))
    brier = figures(training, "brier")
    assert all(brier[name] < 0.7 * 0.3 for name in CHURN_MODELS)
