"""Training for mood: when a model serves, when none does and why, and who is tested."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from engagement_pipeline.behavior import mood_training
from engagement_pipeline.behavior.model_bytes import from_bytes, to_bytes
from engagement_pipeline.behavior.mood import MOOD_FEATURES, predict_mood
from engagement_pipeline.behavior.mood_training import train_mood
from engagement_pipeline.contracts import contract

AS_OF = datetime(2026, 3, 1, 3, tzinfo=UTC)
WEEKS = 6


def _samples(people=100, *, usual_weight, seed=1):
    """Moods around each person's usual one; the week's own passes with the week, or stays."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(people):
        usual = generator.uniform(-0.6, 0.6)
        for week in range(WEEKS):
            now = float(np.clip(usual + generator.normal(0, 0.3), -1, 1))
            after = usual_weight * usual + (1 - usual_weight) * now + generator.normal(0, 0.05)
            known = dict.fromkeys(MOOD_FEATURES)
            known |= {"mood_now": now, "mean_sentiment_90d": usual, "texts_7d": 3.0}
            rows.append(
                {
                    "org_id": f"o{number % 2}",
                    "user_id": f"u{number}",
                    "cutoff": AS_OF - timedelta(days=7 * (WEEKS - week)),
                    "outcome": float(np.clip(after, -1, 1)),
                    **known,
                }
            )
    schema = dict.fromkeys(MOOD_FEATURES, pl.Float64) | {"cutoff": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema_overrides=schema)


def _trained(samples, min_samples=100, resamples=200, **given):
    given = {
        "as_of": AS_OF,
        "min_samples": min_samples,
        "seed": 7,
        "resamples": resamples,
        "trees": 25,
    } | given
    return train_mood(samples, **given)


def _value(trained, model, metric):
    found = trained.metrics.filter(pl.col("model") == model, pl.col("metric") == metric)
    return found.row(0, named=True)


@pytest.fixture(scope="module")
def won():
    return _trained(_samples(usual_weight=1.0))


def test_where_moods_return_to_the_usual_the_model_beats_no_change_and_serves(won):
    assert (won.training["outcome"], won.training["champion"]) == ("champion", "gradient_boosting")
    assert won.training["reason"] is None
    gain = _value(won, "gradient_boosting", "mae_gain")
    assert 0 < gain["lower"] < gain["value"] < gain["upper"]
    model, unchanged = (_value(won, m, "mae") for m in ("gradient_boosting", "unchanged"))
    assert unchanged["value"] - model["value"] == pytest.approx(gain["value"])
    assert (model["is_champion"], unchanged["is_baseline"]) == (True, True)
    assert model["value"] <= _value(won, "gradient_boosting", "rmse")["value"]


def test_where_moods_stay_no_model_serves_and_the_reason_has_the_figures():
    trained = _trained(_samples(usual_weight=0.0))
    assert (trained.training["outcome"], trained.training["champion"]) == ("no_champion", None)
    assert (trained.model, trained.served) == (None, None)
    gain = _value(trained, "gradient_boosting", "mae_gain")
    assert gain["value"] < 0
    assert f"a gain of {gain['value']:+.4f}" in trained.training["reason"]
    assert not trained.metrics["is_champion"].any()


def test_moods_that_follow_nothing_are_not_foretold():
    samples = _samples(usual_weight=1.0)
    generator = np.random.default_rng(3)
    chance = pl.Series("outcome", generator.permutation(samples["outcome"].to_numpy()))
    trained = _trained(samples.with_columns(chance, chance.alias("mood_now")))
    assert trained.training["outcome"] == "no_champion"


def test_what_is_stored_keeps_its_contracts(won):
    contract("behavior.model_metrics").validate(won.metrics)
    row = pl.DataFrame([{**won.training, "computed_at": AS_OF}])
    schema = contract("behavior.trainings").polars_schema
    contract("behavior.trainings").validate(row.select(schema.names()).cast(schema))
    assert won.training["samples"] == 100 * WEEKS
    assert won.training["members"] == 100
    assert won.training["cutoffs"] == WEEKS


def test_the_same_samples_in_any_order_give_the_same_training(won):
    again = _trained(_samples(usual_weight=1.0).sample(fraction=1, shuffle=True, seed=4))
    assert again.metrics.equals(won.metrics)
    features = _samples(5, usual_weight=1.0)
    assert predict_mood(features, again.model).equals(predict_mood(features, won.model))


def test_a_model_can_be_kept_as_bytes_and_predicts_the_same(won):
    features = _samples(20, usual_weight=1.0, seed=5)
    kept = from_bytes(to_bytes(won.served.estimator))
    assert predict_mood(features, kept).equals(predict_mood(features, won.model))
    assert (won.served.target, won.served.feature_names) == ("mood", MOOD_FEATURES)


def test_nobody_tested_is_trained_on_and_no_outcome_is_known_too_early(monkeypatch):
    ordered = _samples(40, usual_weight=1.0).sort("user_id", "org_id", "cutoff")
    seen = []

    def fitted(train, seed, trees):
        seen.append(train)
        return real(train, seed, trees)

    real = mood_training._fitted
    monkeypatch.setattr(mood_training, "_fitted", fitted)
    splits = mood_training._splits(ordered, 7)
    mood_training._held_out(ordered, 7, trees=1)
    assert len(seen) == len(splits) == 6
    for train, split in zip(seen, splits, strict=True):
        test = ordered[split.test]
        assert not set(train["user_id"]) & set(test["user_id"])
        assert train["cutoff"].max() + timedelta(days=7) <= split.cutoff
        assert test["cutoff"].unique().to_list() == [split.cutoff]
    tested = pl.concat([ordered[split.test] for split in splits])
    assert tested["cutoff"].n_unique() == 3
    assert tested.select("user_id", "cutoff").is_duplicated().sum() == 0


def test_one_sample_too_few_ends_without_a_training():
    samples = _samples(usual_weight=1.0)
    trained = _trained(samples, min_samples=samples.height + 1)
    assert trained.training["outcome"] == "too_few_samples"
    assert trained.training["reason"] == "There are 600 samples, and a training needs 601."
    assert (trained.metrics.height, trained.model) == (0, None)


def test_without_interactions_or_an_earlier_week_there_is_nothing_to_learn():
    assert _trained(None).training["outcome"] == "off"
    samples = _samples(usual_weight=1.0)
    one_week = samples.filter(pl.col("cutoff") == samples["cutoff"].max())
    trained = _trained(one_week)
    assert trained.training["outcome"] == "too_few_samples"
    assert "nothing to learn from" in trained.training["reason"]


def test_an_outcome_that_is_not_known_yet_is_refused():
    with pytest.raises(ValueError, match="takes 7 days, and is not known at"):
        _trained(_samples(usual_weight=1.0), as_of=AS_OF - timedelta(microseconds=1))
    with pytest.raises(ValueError, match="must have a time zone"):
        _trained(None, as_of=AS_OF.replace(tzinfo=None))
