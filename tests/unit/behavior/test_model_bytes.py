"""Models as bytes: what comes back is what went in, and nothing else comes in."""

import functools
import io
import json
import zipfile

import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from engagement_pipeline.behavior.churn_models import ServedModel, churn_fitters
from engagement_pipeline.behavior.model_bytes import (
    DamagedModelError,
    ForeignModelError,
    from_bytes,
    model_report,
    restored,
    to_bytes,
)
from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import CHURN_MODELS
from tests.unit.behavior.churn_worlds import cutoff

GENERATOR = np.random.default_rng(1)
ROWS = GENERATOR.normal(size=(150, 3))
ROWS[GENERATOR.random(150) < 0.2, 1] = np.nan
OUTCOMES = (ROWS[:, 0] > 0).astype(float)


@functools.cache
def fitted(name):
    return churn_fitters(trees=4)[name](ROWS, OUTCOMES, 1)


@pytest.mark.parametrize("name", CHURN_MODELS)
def test_what_comes_back_predicts_to_the_last_digit_the_same(name):
    again = from_bytes(to_bytes(fitted(name)))
    np.testing.assert_array_equal(again.predict_proba(ROWS), fitted(name).predict_proba(ROWS))


def test_models_of_mood_and_of_timing_come_back_too():
    known = np.nan_to_num(ROWS)
    mood = GradientBoostingRegressor(n_estimators=3, random_state=1).fit(known, known[:, 0])
    np.testing.assert_array_equal(from_bytes(to_bytes(mood)).predict(known), mood.predict(known))
    clock = np.column_stack([np.arange(150) % 24, np.arange(150) % 7 + 1, known[:, 0]])
    encoder = OneHotEncoder(categories=[np.arange(24), np.arange(1, 8)])
    timing = make_pipeline(
        ColumnTransformer([("clock", encoder, [0, 1])], remainder="passthrough"),
        LogisticRegression(max_iter=1_000),
    ).fit(clock, OUTCOMES)
    np.testing.assert_array_equal(
        from_bytes(to_bytes(timing)).predict_proba(clock), timing.predict_proba(clock)
    )


@pytest.mark.parametrize(
    ("foreign", "named"),
    [
        (lambda: functools.partial(print, "hello"), "functools"),
        (
            lambda: ExtraTreesClassifier(n_estimators=2).fit(np.nan_to_num(ROWS), OUTCOMES),
            "ExtraTrees",
        ),
        (lambda: FunctionTransformer(np.exp), "numpy.exp"),
        (lambda: FunctionTransformer(json.dumps), "json.dumps"),
        (lambda: fitted("random_forest").predict_proba, "MethodNode"),
    ],
)
def test_a_file_of_other_types_is_refused_and_they_are_named(foreign, named):
    foreign = foreign()
    data = skops.io.dumps(foreign)
    with pytest.raises(ForeignModelError, match=named):
        from_bytes(data)
    with pytest.raises(ForeignModelError, match=named):
        to_bytes(foreign)


def test_a_foreign_part_deep_in_a_model_of_ours_is_found():
    pipeline = from_bytes(to_bytes(fitted("logistic_regression")))
    pipeline.steps[0][1].kw_args = {"hidden": functools.partial(print, "hello")}
    with pytest.raises(ForeignModelError, match=r"functools\.partial"):
        from_bytes(skops.io.dumps(pipeline))


def test_a_refused_file_is_not_loaded(monkeypatch):
    def never(*_, **__):
        raise AssertionError("it was loaded")

    data = skops.io.dumps(functools.partial(print, "hello"))
    monkeypatch.setattr("skops.io.loads", never)
    with pytest.raises(ForeignModelError):
        from_bytes(data)


def damaged_by_a_byte():
    data = bytearray(to_bytes(fitted("random_forest")))
    data[len(data) // 3] ^= 0xFF
    return bytes(data)


def renamed_schema():
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w") as file:
        file.writestr("other.json", "{}")
    return text.getvalue()


@pytest.mark.parametrize(
    "damaged",
    [
        damaged_by_a_byte,
        lambda: to_bytes(fitted("random_forest"))[:-100],
        lambda: to_bytes(fitted("random_forest"))[:50],
        lambda: b"",
        lambda: b"no archive at all",
        renamed_schema,
    ],
    ids=["a byte", "the end", "nearly all", "all", "another file", "another archive"],
)
def test_damaged_bytes_are_an_error_of_their_own(damaged):
    data = damaged()
    with pytest.raises(DamagedModelError, match=f"{len(data)} bytes are no model"):
        from_bytes(data)


def served(name="random_forest"):
    return ServedModel(
        target="churn",
        name=name,
        feature_names=("a", "b", "c"),
        horizon_days=30,
        as_of=cutoff(3),
        estimator=fitted(name),
        knots=((0.1, 1 / 3), (0.2, 0.7)),
    )


METRICS = pl.DataFrame(
    {
        "target": "churn",
        "as_of": cutoff(3),
        "model": ["random_forest", "recency"],
        "metric": "roc_auc",
        "value": [0.8, 0.7],
        "lower": [0.7, None],
        "upper": [0.9, None],
        "n": 100,
        "is_baseline": [False, True],
        "is_champion": [True, False],
    },
    schema=contract("behavior.model_metrics").polars_schema,
)


def test_a_model_and_its_report_make_the_same_model_after_json():
    model = served()
    report = json.loads(json.dumps(model_report(model, METRICS)))
    again = restored(to_bytes(model.estimator), report, target="churn")
    for field in ("target", "name", "feature_names", "horizon_days", "as_of", "knots", "version"):
        assert getattr(again, field) == getattr(model, field)
    np.testing.assert_array_equal(
        again.estimator.predict_proba(ROWS), model.estimator.predict_proba(ROWS)
    )
    assert report["metrics"] == {"roc_auc": {"value": 0.8, "lower": 0.7, "upper": 0.9, "n": 100}}


@pytest.mark.parametrize(
    "change",
    [
        {"knots": None},
        {"knots": {"raw": [], "calibrated": []}},
        {"knots": {"raw": [0.1, 0.2], "calibrated": [0.5]}},
        {"knots": {"raw": [0.1, 0.2], "calibrated": [7.0, -3.0]}},
        {"knots": {"raw": [0.2, 0.1], "calibrated": [0.1, 0.5]}},
        {"as_of": "yesterday"},
        {"as_of": "2026-03-01T03:00:00"},
        {"target": "mood"},
        {"horizon_days": "x"},
        {"feature_names": None},
    ],
)
def test_a_report_that_is_not_as_it_was_is_an_error(change):
    report = {**model_report(served(), METRICS), **change}
    with pytest.raises(DamagedModelError, match="not as it was written"):
        restored(to_bytes(fitted("random_forest")), report, target="churn")
