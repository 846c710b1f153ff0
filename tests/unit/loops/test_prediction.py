"""Predicted probabilities: whether they came true, how good they were, and what is published."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

from engagement_pipeline.contracts import contract
from engagement_pipeline.loops.prediction import (
    MAPS,
    MIN_OUTCOMES,
    PAIR_SCHEMA,
    PREDICTIONS,
    SIGNAL_SCHEMA,
    SIGNALS,
    PredictionInputError,
    apply_map,
    calibrated,
    calibration_maps,
    learn_probabilities,
    outcome_signals,
)

AS_OF = datetime(2026, 3, 2, 5, tzinfo=UTC)
DAY = timedelta(days=1)

probabilities = st.floats(0, 1)
some_pairs = st.lists(
    st.tuples(st.sampled_from("abc"), probabilities, st.integers(0, 1)), min_size=1, max_size=60
)


def predictions(*rows: dict[str, Any]) -> pl.DataFrame:
    usual = {
        "kind": "churn",
        "org_id": "a",
        "user_id": "u",
        "subject": "u",
        "predicted": 0.3,
        "made_at": AS_OF - 30 * DAY,
        "due_at": AS_OF,
        "predicted_by": "heuristic",
    }
    full = [{"prediction_id": f"p{n}", **usual, **row} for n, row in enumerate(rows)]
    return PREDICTIONS.validate(pl.DataFrame(full, schema=PREDICTIONS.polars_schema))


def stored(signals: pl.DataFrame) -> pl.DataFrame:
    with_ids = signals.with_columns(signal_id=pl.col("kind") + ":" + pl.col("source_key"))
    return SIGNALS.validate(with_ids.select(SIGNALS.column_names))


def pairs_of(rows: Sequence[tuple[str, float, float | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(f"p{n}", *row) for n, row in enumerate(rows)], schema=PAIR_SCHEMA, orient="row"
    )


def maps_of(pairs: pl.DataFrame, *org_ids: str, least: int = 1) -> pl.DataFrame:
    return calibration_maps(pairs, org_ids, kind="churn", as_of=AS_OF, min_outcomes=least)


def overconfident(org_id: str, n: int, seed: int) -> pl.DataFrame:
    """Predictions whose log odds are more than twice what they should be, and their outcomes."""
    chance = np.random.default_rng(seed)
    raw = chance.beta(1.2, 2.0, n)
    true = 1 / (1 + ((1 - raw) / raw) ** 0.45)
    return pairs_of([(org_id, *row) for row in zip(raw, chance.random(n) < true, strict=True)])


# Outcomes


def test_a_signal_says_of_which_kind_and_whose_the_prediction_was_and_when_it_came_due() -> None:
    met = predictions(
        {"due_at": AS_OF - DAY}, {"kind": "cost:input_tokens", "user_id": None, "subject": "run"}
    ).with_columns(outcome=pl.Series([1, 4_200]))
    signals = outcome_signals(met)
    assert signals.schema == SIGNAL_SCHEMA
    expected: dict[str, Any] = {
        "archetype": "prediction",
        "kind": "OUTCOME",
        "org_id": "a",
        "subject": "churn",
        "user_id": "u",
        "value": 1.0,
        "occurred_at": AS_OF - DAY,
        "attribution": None,
        "source_key": "p0",
    }
    assert signals.row(0, named=True) == expected
    assert signals.row(1, named=True) == expected | {
        "subject": "cost:input_tokens",
        "user_id": None,
        "value": 4_200.0,
        "occurred_at": AS_OF,
        "source_key": "p1",
    }
    stored(signals)


@pytest.mark.parametrize("outcome", [None, math.nan, math.inf])
def test_an_outcome_that_is_no_number_is_refused_by_name(outcome: float | None) -> None:
    met = predictions({}, {}).with_columns(outcome=pl.Series([1.0, outcome], dtype=pl.Float64))
    with pytest.raises(PredictionInputError, match="prediction p1: expected a finite outcome"):
        outcome_signals(met)


# How good they were


def plain_learned(rows: Sequence[tuple[str, float, int]]) -> dict[tuple[str, str], tuple[Any, ...]]:
    found: dict[tuple[str, str], tuple[Any, ...]] = {}
    for org in {row[0] for row in rows}:
        own = [(p, y) for o, p, y in rows if o == org]
        n = len(own)
        squares = [(p - y) ** 2 for p, y in own]
        brier = sum(squares) / n
        lower = upper = None
        if n > 1:
            variance = sum((square - brier) ** 2 for square in squares) / (n - 1)
            margin = 1.959963984540054 * math.sqrt(variance / n)
            lower, upper = max(0.0, brier - margin), min(1.0, brier + margin)
        error = 0.0
        for k in range(10):
            inside = [(p, y) for p, y in own if min(9, math.floor(p * 10)) == k]
            if inside:
                mean_p = sum(p for p, _ in inside) / len(inside)
                mean_y = sum(y for _, y in inside) / len(inside)
                error += len(inside) / n * abs(mean_p - mean_y)
        found[org, "churn-brier"] = (brier, lower, upper, n)
        found[org, "churn-calibration-error"] = (error, None, None, n)
    return found


@given(some_pairs)
def test_scores_are_what_plain_loops_make_of_each_organisation(
    rows: list[tuple[str, float, int]],
) -> None:
    learned = learn_probabilities(pairs_of(rows), kind="churn")
    expected = plain_learned(rows)
    assert [(o, k) for o, k, *_ in learned.iter_rows()] == sorted(expected)
    for org, key, *figures in learned.iter_rows():
        for found, wanted in zip(figures, expected[org, key], strict=True):
            assert (found is None) == (wanted is None), (org, key)
            assert found is None or found == pytest.approx(wanted, abs=1e-9)


def test_the_brier_score_is_the_librarys() -> None:
    pairs = overconfident("a", 500, 1)
    brier = learn_probabilities(pairs, kind="churn").filter(pl.col("key") == "churn-brier")
    wanted = brier_score_loss(pairs["outcome"].to_numpy(), pairs["predicted"].to_numpy())
    assert brier["value"].item() == pytest.approx(wanted)


def test_the_interval_of_the_brier_score_holds_the_true_one_as_often_as_it_says() -> None:
    held = 0
    for seed in range(200):
        chance = np.random.default_rng(seed)
        raw = chance.choice([0.1, 0.4, 0.8], 300)
        rows = [("a", p, y) for p, y in zip(raw, chance.random(300) < raw, strict=True)]
        brier = learn_probabilities(pairs_of(rows), kind="k").row(0, named=True)
        held += brier["lower"] <= (0.09 + 0.24 + 0.16) / 3 <= brier["upper"]
    assert 180 <= held <= 199


def test_the_calibration_error_is_none_where_each_bin_comes_true_as_often_as_it_says() -> None:
    right = pairs_of([("a", 0.25, y) for y in (1, 0, 0, 0)] + [("a", 1.0, 1)] * 3)
    wrong = pairs_of([("a", 0.25, 1)] * 4)
    # Certainty belongs to the last bin, with all from 0.9 on.
    certain = pairs_of([("a", 1.0, 0), ("a", 0.9, 1)])
    errors = [learn_probabilities(pairs, kind="k")["value"][1] for pairs in (right, wrong, certain)]
    assert errors == pytest.approx([0.0, 0.75, 0.45])


BAD_ROWS = [(-0.1, 1.0), (1.1, 1.0), (math.nan, 1.0), (0.5, 0.5), (0.5, None)]


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_what_is_no_probability_or_no_outcome_is_refused_by_name(
    bad: tuple[float, float | None],
) -> None:
    pairs = pairs_of([("a", 0.5, 1.0), ("b", *bad)])
    with pytest.raises(PredictionInputError, match="churn, organisation b, prediction p1: expect"):
        learn_probabilities(pairs, kind="churn")
    with pytest.raises(PredictionInputError, match="churn, organisation b, prediction p1: expect"):
        maps_of(pairs, "a", "b")


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_an_organisation_with_a_bad_row_changes_nothing_for_the_others(
    bad: tuple[float, float | None],
) -> None:
    good = [("a", 0.2, 0.0), ("a", 0.6, 1.0), ("b", 0.9, 1.0)]
    alone = maps_of(pairs_of(good), "a", "c", least=3)
    beside = maps_of(pairs_of([*good, ("x", 0.1, 1.0), ("x", *bad)]), "a", "c", least=3)
    assert alone.equals(beside)


# Maps


@settings(max_examples=60)
@given(some_pairs, st.lists(probabilities, min_size=2, max_size=30))
def test_a_map_never_turns_the_order_round_and_stays_a_probability(
    rows: list[tuple[str, float, int]], raw: list[float]
) -> None:
    maps = maps_of(pairs_of(rows), "a")
    assert maps.equals(maps_of(pairs_of(rows).reverse(), "a"))
    published = apply_map(pl.Series(sorted(raw)), maps).to_list()
    assert all(0 < p < 1 for p in published)
    assert published == sorted(published)


@pytest.mark.parametrize("n", [200, 2_000])
def test_on_predictions_not_learned_from_a_map_of_overconfident_ones_is_better(n: int) -> None:
    saved = []
    for seed in range(8):
        maps = maps_of(overconfident("a", n, seed), "a")
        held_out = overconfident("a", 10_000, 100 + seed)
        outcome, raw = held_out["outcome"].to_numpy(), held_out["predicted"]
        published = apply_map(raw, maps)
        saved.append(
            [loss(outcome, raw) - loss(outcome, published) for loss in (brier_score_loss, log_loss)]
        )
    assert np.mean(saved, axis=0).min() > 0
    # A single map of 200 outcomes may by chance make things worse.
    assert n == 200 or np.min(saved) > 0


def test_however_often_something_happened_it_is_not_certain() -> None:
    always = maps_of(pairs_of([("a", 0.7, 1.0)] * 8), "a")
    never = maps_of(pairs_of([("a", 0.7, 0.0)] * 8), "a")
    raw = pl.Series([0.0, 0.7, 1.0])
    assert apply_map(raw, always).to_list() == pytest.approx([0.9] * 3)
    assert apply_map(raw, never).to_list() == pytest.approx([0.1] * 3)


def test_an_organisation_has_its_own_map_from_two_hundred_outcomes_on() -> None:
    assert MIN_OUTCOMES == 200
    few, enough = overconfident("few", 199, 1), overconfident("enough", 200, 2)
    maps = calibration_maps(
        pl.concat([few, enough]), ["few", "enough", "new"], kind="churn", as_of=AS_OF
    )
    by_org = maps.group_by("org_id").agg(pl.col("n", "is_pooled").first()).sort("org_id")
    assert by_org.rows() == [("enough", 200, False), ("few", 399, True), ("new", 399, True)]
    own = maps.filter(org_id="enough").select("raw", "calibrated")
    assert own.equals(maps_of(enough, "enough").select("raw", "calibrated"))
    pooled = maps_of(pl.concat([few, enough]).with_columns(org_id=pl.lit("x")), "x")
    for org in ("few", "new"):
        found = maps.filter(org_id=org).select("raw", "calibrated")
        assert found.equals(pooled.select("raw", "calibrated"))


def test_too_few_outcomes_of_all_give_no_map_and_leave_what_was_predicted() -> None:
    maps = calibration_maps(overconfident("a", 199, 1), ["a"], kind="churn", as_of=AS_OF)
    assert maps.equals(MAPS.empty())
    made = predictions({}, {"predicted": 0.8})
    assert calibrated(made, maps, as_of=AS_OF)["published"].to_list() == [0.3, 0.8]


def test_a_map_expires_thirty_days_after_it_was_computed() -> None:
    maps = maps_of(overconfident("a", 300, 1), "a")
    assert set(maps["expires_at"]) == {AS_OF + 30 * DAY}
    made = predictions({"predicted": 0.9})
    mapped = apply_map(made["predicted"], maps).item()
    assert mapped < 0.85
    moments = [AS_OF - DAY, AS_OF, AS_OF + 30 * DAY - timedelta(microseconds=1), AS_OF + 30 * DAY]
    found = [calibrated(made, maps, as_of=moment)["published"].item() for moment in moments]
    assert found == [0.9, mapped, mapped, 0.9]


def knots(org_id: str, key: str, days: int, level: float) -> pl.DataFrame:
    rows = [
        {
            "org_id": org_id,
            "key": key,
            "computed_at": AS_OF + days * DAY,
            "raw": raw,
            "calibrated": level * raw,
            "n": 200,
            "is_pooled": False,
            "expires_at": AS_OF + (days + 30) * DAY,
        }
        for raw in (0.0, 1.0)
    ]
    return pl.DataFrame(rows, schema=MAPS.polars_schema)


def test_each_prediction_is_published_after_the_newest_map_of_its_organisation_and_kind() -> None:
    versions = [
        knots("a", "churn", -7, 0.1),
        knots("a", "churn", 0, 0.5),
        knots("a", "churn", 7, 0.2),
        knots("b", "churn", -7, 0.25),
        knots("b", "mood", 0, 0.75),
    ]
    maps = contract("loops.calibration_maps").validate(pl.concat(versions))
    made = predictions(
        {"predicted": 0.4},
        {"org_id": "b", "predicted": 0.4},
        {"org_id": "c"},
        {"org_id": "b", "kind": "mood", "predicted": 0.4},
        {"kind": "mood"},
        {"predicted": 0.8},
    )
    found = calibrated(made, maps, as_of=AS_OF)
    assert found["published"].to_list() == pytest.approx([0.2, 0.1, 0.3, 0.3, 0.3, 0.4])
    assert found.drop("published").equals(made)
    assert calibrated(made.clear(), maps, as_of=AS_OF).columns == found.columns


def test_a_missing_probability_stays_missing_and_knots_may_come_in_any_order() -> None:
    line = pl.DataFrame({"raw": [0.8, 0.2], "calibrated": [0.9, 0.1]})
    raw = pl.Series("p", [0.0, 0.5, None, 1.0])
    found = apply_map(raw, line)
    assert found.name == "p"
    assert found[2] is None
    assert found.drop_nulls().to_list() == pytest.approx([0.1, 0.5, 0.9])
