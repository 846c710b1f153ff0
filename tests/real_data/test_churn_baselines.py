"""Who of 2,357 customers of 1997 buys again: the estimates of the literature, and who ranks best.

The first 39 weeks are known, the next 39 are foretold. The data are those that the paper on the
BG/NBD model was written with.
"""

from datetime import UTC, datetime

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from engagement_pipeline.behavior.bg_nbd import expected_activity, fit
from engagement_pipeline.behavior.churn_baselines import baseline_scores, histories
from engagement_pipeline.behavior.churn_samples import churn_samples
from engagement_pipeline.behavior.sources import BehaviorSources
from tests.real_data.conftest import DATA

WEEKS_39 = datetime(1997, 10, 1, tzinfo=UTC)
HORIZON_DAYS = 273


@pytest.fixture(scope="module")
def samples() -> pl.DataFrame:
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
    return churn_samples(sources, [WEEKS_39], horizon_days=HORIZON_DAYS)


def test_the_estimates_are_those_of_the_paper(samples: pl.DataFrame) -> None:
    x, t_x, until = histories(samples)
    # The paper counts to the last of the days, here is counted to the end of it.
    model = fit(x, t_x / 7, (until - 1) / 7)
    found = (model.r, model.alpha, model.a, model.b)
    assert found == pytest.approx((0.243, 4.414, 0.793, 2.426), abs=6e-4)


def test_nearly_as_many_purchases_follow_as_are_expected(samples: pl.DataFrame) -> None:
    known = histories(samples)
    expected = expected_activity(fit(*known), *known, HORIZON_DAYS).sum()
    bought_at = pl.read_csv(DATA / "cdnow_sample" / "attendance.csv")["created_at"]
    followed = (bought_at >= WEEKS_39.isoformat()).sum()
    assert followed == 1_882
    assert 0.8 * followed < expected < 1.2 * followed


def test_recency_and_expected_activity_rank_who_stays_away_equally_well(
    samples: pl.DataFrame,
) -> None:
    assert (samples.height, samples["outcome"].mean()) == (2_357, pytest.approx(0.70, abs=0.01))
    scores = baseline_scores(samples, samples, horizon_days=HORIZON_DAYS)
    found = {name: roc_auc_score(samples["outcome"], values) for name, values in scores.items()}
    assert found["recency"] == pytest.approx(0.771, abs=0.002)
    assert found["bg_nbd"] == pytest.approx(0.773, abs=0.002)
    assert 0.7 < found["frequency"] < found["bg_nbd"]
    assert 0.7 < found["heuristic"] < 0.78
