"""What is predicted of members, by a model and without one."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from engagement_pipeline.behavior.churn_models import ServedModel
from engagement_pipeline.behavior.churn_serving import (
    CHURN_SCHEMA,
    serve_churn,
    unfit,
    with_confidence,
)
from engagement_pipeline.contracts import contract
from tests.unit.behavior.churn_worlds import HORIZON_DAYS, cutoff

AS_OF = cutoff(6)


class Doubling:
    """Predicts twice the first feature."""

    classes_ = np.array([0.0, 1.0])

    def predict_proba(self, rows):
        return np.column_stack([1 - 2 * rows[:, 0], 2 * rows[:, 0]])


MODEL = ServedModel(
    target="churn",
    name="random_forest",
    feature_names=("half",),
    horizon_days=HORIZON_DAYS,
    as_of=cutoff(5),
    estimator=Doubling(),
    knots=((0.2, 0.6), (0.1, 0.9)),
)
MEMBERS = pl.DataFrame(
    {
        "org_id": ["o2", "o1", "o1"],
        "user_id": ["u1", "u2", "u1"],
        "idle": [9.0, 9.0, 9.0],
        "half": [0.05, 0.2, 0.5],
    }
)
HEURISTIC = pl.Series([0.7, 0.1, 0.4])


def served(model, reason=None, **changes):
    arguments = {"heuristic": HEURISTIC, "horizon_days": HORIZON_DAYS, "as_of": AS_OF}
    return serve_churn(MEMBERS, model, reason, **{**arguments, **changes})


def test_a_model_predicts_and_its_knots_make_the_probability():
    found = served(MODEL)
    assert found.schema == CHURN_SCHEMA
    assert found.select("org_id", "user_id").rows() == MEMBERS.select("org_id", "user_id").rows()
    assert found["churn_raw"].to_list() == pytest.approx([0.1, 0.4, 1.0])
    assert found["churn_probability"].to_list() == pytest.approx([0.1, 0.5, 0.9])
    assert found["confidence"].to_list() == pytest.approx([0.8, 0.0, 0.8])
    assert found["churn_heuristic"].to_list() == [0.7, 0.1, 0.4]
    assert set(found["churn_model"]) == {"random_forest@2026-06-04"}
    assert found["churn_reason"].null_count() == 3


def test_without_a_model_the_heuristic_serves_without_confidence():
    found = served(None, "There are 499 samples, and a training needs 500.")
    for column in ("churn_raw", "churn_probability", "churn_heuristic"):
        assert found[column].to_list() == [0.7, 0.1, 0.4]
    assert set(found["confidence"]) == {0.0}
    assert set(found["churn_model"]) == {"heuristic"}
    assert set(found["churn_reason"]) == {"There are 499 samples, and a training needs 500."}
    assert set(found["horizon_days"]) == {HORIZON_DAYS}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"horizon_days": 60}, "predicts for 30 days, and asked for are 60"),
        ({"as_of": cutoff(5) - timedelta(days=1)}, "was trained for a moment after"),
    ],
)
def test_a_model_that_is_not_for_this_does_not_serve_and_the_reason_says_so(changes, words):
    found = served(MODEL, **changes)
    assert set(found["churn_model"]) == {"heuristic"}
    assert words in found["churn_reason"][0]


def test_a_model_of_other_features_does_not_serve():
    words = unfit(MODEL, ["idle"], horizon_days=HORIZON_DAYS, as_of=AS_OF)
    assert words == ("The model random_forest@2026-06-04 takes features that are not there: half.")
    assert unfit(MODEL, ["half"], horizon_days=HORIZON_DAYS, as_of=MODEL.as_of) is None


def test_what_is_published_instead_has_its_own_confidence():
    published = served(MODEL).with_columns(churn_probability=pl.Series([0.5, 0.75, 1.0]))
    assert with_confidence(published)["confidence"].to_list() == [0.0, 0.5, 1.0]


def test_the_columns_are_those_of_the_contract():
    table = contract("behavior.predictions")
    names = [name for name in table.column_names if name in CHURN_SCHEMA]
    assert names == [name for name in CHURN_SCHEMA if name in table.column_names]
    assert set(CHURN_SCHEMA) <= set(table.column_names)
    for name, dtype in CHURN_SCHEMA.items():
        assert table.polars_schema[name] == dtype


def test_nobody_gets_no_prediction():
    nobody = serve_churn(
        MEMBERS.clear(),
        MODEL,
        None,
        heuristic=HEURISTIC.clear(),
        horizon_days=HORIZON_DAYS,
        as_of=AS_OF,
    )
    assert nobody.is_empty()
    assert nobody.schema == CHURN_SCHEMA


def test_neither_a_model_nor_a_reason_is_an_error():
    with pytest.raises(ValueError, match="found neither"):
        served(None)


@pytest.mark.parametrize("bad", [[0.1, 0.2], [0.1, 0.2, 1.1], [0.1, 0.2, None], [0.1, 0.2, np.nan]])
def test_a_heuristic_that_is_no_share_is_an_error(bad):
    with pytest.raises(ValueError, match="expected 3 numbers in"):
        served(MODEL, heuristic=pl.Series(bad))
