"""What a run was expected to take against what it was billed for, by organisation."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.loops.calibration import LEARNED_SCHEMA, TABLE, in_force, new_versions
from engagement_pipeline.loops.cost_forecast import (
    CALLS,
    INPUT_TOKENS,
    KINDS,
    OUTPUT_TOKENS,
    actuals,
    forecast_rows,
    learn_cost,
)
from engagement_pipeline.loops.prediction import (
    PAIR_SCHEMA,
    PREDICTIONS,
    PredictionInputError,
)

AS_OF = datetime(2026, 3, 2, 4, tzinfo=UTC)

some_tokens = st.integers(1, 50_000)
some_pairs = st.lists(
    st.tuples(st.sampled_from("abc"), some_tokens, st.integers(0, 100_000)), max_size=30
)


def calls(*rows: dict[str, Any]) -> pl.DataFrame:
    usual = dict.fromkeys(("profiles", "answers", "estimated_usd", "spent_usd"), 0) | {
        "run_id": "run",
        "as_of": AS_OF,
        "org_id": "a",
        "classifier": "anthropic",
        "model": "m",
        "prompt_version": "v",
        "purpose": "first",
        "attempt": 1,
        "asked": "",
        "outcome": "answered",
        "input_tokens": 0,
        "cache_write_tokens": 0,
        "cache_read_tokens": 0,
        "output_tokens": 0,
        "is_spent_certain": True,
        "started_at": AS_OF,
        "ended_at": AS_OF,
    }
    full = [{"call_id": f"c{n}", **usual, **row} for n, row in enumerate(rows)]
    return CALLS.validate(pl.DataFrame(full, schema=CALLS.polars_schema))


def pairs_of(rows: Sequence[tuple[str, float, float | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(f"p{n}", *row) for n, row in enumerate(rows)], schema=PAIR_SCHEMA, orient="row"
    )


def outcomes(forecasts: pl.DataFrame, *rows: dict[str, Any]) -> dict[tuple[str, str], float]:
    found = actuals(forecasts, calls(*rows))
    return {(row["org_id"], row["kind"]): row["outcome"] for row in found.to_dicts()}


# Forecasts


def test_a_forecast_is_kept_for_each_organisation_and_kind_of_token() -> None:
    rows = forecast_rows("run", AS_OF, "m", {"b": (900, 80), "a": (1_000, 90), "idle": (0, 0)})
    assert PREDICTIONS.validate(rows) is rows
    assert rows.select("org_id", "kind", "predicted").rows() == [
        ("a", INPUT_TOKENS, 1_000.0),
        ("a", OUTPUT_TOKENS, 90.0),
        ("b", INPUT_TOKENS, 900.0),
        ("b", OUTPUT_TOKENS, 80.0),
    ]
    assert rows.select(
        "subject", "user_id", "made_at", "due_at", "predicted_by"
    ).unique().rows() == [("run", None, AS_OF, AS_OF, "m")]


def test_a_run_that_forecasts_again_makes_the_same_predictions_and_another_run_others() -> None:
    ids = [
        set(forecast_rows(run, AS_OF, "m", {"a": (tokens, 90), "b": (1, 1)})["prediction_id"])
        for run, tokens in (("run", 1_000), ("run", 500), ("other", 1_000))
    ]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 4
    assert not ids[0] & ids[2]


def test_a_run_with_nothing_to_ask_forecasts_nothing() -> None:
    assert forecast_rows("run", AS_OF, "m", {}).equals(PREDICTIONS.empty())


def test_a_negative_forecast_is_refused_by_name() -> None:
    with pytest.raises(PredictionInputError, match=r"cost:output_tokens, organisation a: .* -1"):
        forecast_rows("run", AS_OF, "m", {"a": (1, -1)})


# What they came to


def test_an_outcome_is_all_that_the_runs_calls_about_the_organisation_were_billed_for() -> None:
    forecasts = forecast_rows("run", AS_OF, "m", {"a": (1_000, 90), "b": (1_000, 90)})
    found = outcomes(
        forecasts,
        {"input_tokens": 500, "cache_write_tokens": 60, "cache_read_tokens": 7, "output_tokens": 8},
        {"outcome": "partly", "input_tokens": 100, "output_tokens": 1},
        {"outcome": "rate_limited"},
        {"org_id": "b", "input_tokens": 30, "output_tokens": 2, "purpose": "again"},
        {"run_id": "other", "input_tokens": 10_000, "output_tokens": 10_000},
    )
    assert found == {
        ("a", INPUT_TOKENS): 667,
        ("a", OUTPUT_TOKENS): 9,
        ("b", INPUT_TOKENS): 30,
        ("b", OUTPUT_TOKENS): 2,
    }


def test_a_forecast_has_no_outcome_while_a_call_is_out_or_when_nobody_said_what_one_took() -> None:
    forecasts = forecast_rows("run", AS_OF, "m", dict.fromkeys("abcde", (1_000, 90)))
    answered = {"input_tokens": 500, "output_tokens": 50}
    out = {"outcome": "pending", "is_spent_certain": False, "ended_at": None}
    lost = {"outcome": "lost", "is_spent_certain": False}
    found = outcomes(
        forecasts,
        *({"org_id": org, **answered} for org in "abc"),
        {"org_id": "b", **out},
        {"org_id": "c", **lost},
        {"org_id": "d", "outcome": "refused"},
    )
    assert set(found) == {("a", INPUT_TOKENS), ("a", OUTPUT_TOKENS)}


def test_predictions_of_other_kinds_are_passed_over() -> None:
    churn = forecast_rows("run", AS_OF, "m", {"a": (1_000, 90)}).with_columns(kind=pl.lit("churn"))
    assert outcomes(churn, {"input_tokens": 500, "output_tokens": 50}) == {}


# The ratio


def plain_ratio(
    rows: Sequence[tuple[str, int, int]], org: str
) -> tuple[float, float | None, float | None, int]:
    pooled = sum(b for _, _, b in rows) / sum(f for _, f, _ in rows)
    foreseen = billed = 10_000.0
    billed *= pooled
    n = 0
    for name, f, b in rows:
        if name == org:
            foreseen, billed, n = foreseen + f, billed + b, n + 1
    value = billed / foreseen
    if len(rows) < 2:
        return value, None, None, n
    variance = sum((b - pooled * f) ** 2 / f for _, f, b in rows) / (len(rows) - 1)
    margin = 1.959963984540054 * math.sqrt(variance / foreseen)
    return value, max(0.0, value - margin), value + margin, n


@given(some_pairs)
def test_ratios_are_what_plain_loops_make_of_each_organisation(
    rows: list[tuple[str, int, int]],
) -> None:
    learned = learn_cost(pairs_of(rows), "abd", kind=INPUT_TOKENS)
    assert learned.schema == LEARNED_SCHEMA
    assert learned["org_id"].to_list() == sorted({row[0] for row in rows} & set("abd"))
    assert set(learned["key"]) <= {"cost-ratio:input_tokens"}
    for org, _, *figures in learned.iter_rows():
        for found, wanted in zip(figures, plain_ratio(rows, org), strict=True):
            assert found == (wanted and pytest.approx(wanted, rel=1e-9, abs=1e-9))


@given(some_pairs.filter(bool))
def test_a_ratio_lies_between_the_organisations_own_and_that_of_all(
    rows: list[tuple[str, int, int]],
) -> None:
    pairs = pairs_of(rows)
    of_all = pairs["outcome"].sum() / pairs["predicted"].sum()
    for org, value in learn_cost(pairs, "abc", kind=OUTPUT_TOKENS).select("org_id", "value").rows():
        own = pairs.filter(org_id=org)
        bounds = sorted([of_all, own["outcome"].sum() / own["predicted"].sum()])
        assert bounds[0] - 1e-9 <= value <= bounds[1] + 1e-9


def test_the_more_was_foreseen_for_an_organisation_the_more_its_own_ratio_counts() -> None:
    others = [("z", 10**7, 10**7)]
    values = [
        learn_cost(pairs_of([("a", n, 2 * n), *others]), "a", kind=INPUT_TOKENS)["value"].item()
        for n in (100, 10_000, 1_000_000)
    ]
    assert values == sorted(values)
    assert values == pytest.approx([1.01, 1.5, 2.0], abs=0.1)


def test_the_interval_holds_the_true_ratio_at_least_as_often_as_it_says() -> None:
    held = total = 0
    for seed in range(60):
        chance = np.random.default_rng(seed)
        # Ratios and bills as the model has them: variance 400 a token, prior worth 10,000 tokens.
        ratios = chance.normal(1.3, 20 / 100, 20)
        rows = []
        for n, ratio in enumerate(ratios):
            foreseen = chance.uniform(2_000, 20_000, 1 + n % 6)
            billed = np.clip(chance.normal(ratio * foreseen, 20 * np.sqrt(foreseen)), 0, None)
            rows += [(f"o{n:02}", *row) for row in zip(foreseen, billed, strict=True)]
        orgs = sorted({row[0] for row in rows})
        learned = learn_cost(pairs_of(rows), orgs, kind=INPUT_TOKENS)
        ends = learned.select("lower", "upper").rows()
        held += sum(low <= r <= high for r, (low, high) in zip(ratios, ends, strict=True))
        total += len(ratios)
    assert held / total >= 0.94


def test_only_forecasts_of_whom_is_learned_for_give_rows_yet_all_count_for_the_common_ratio() -> (
    None
):
    pairs = pairs_of([("a", 1_000, 1_000), ("b", 1_000, 3_000)])
    learned = learn_cost(pairs, ["a", "new"], kind=OUTPUT_TOKENS)
    assert learned.select("org_id", "key", "n").rows() == [("a", "cost-ratio:output_tokens", 1)]
    assert learned["value"].item() == pytest.approx((1_000 + 10_000 * 2) / 11_000)


def test_a_single_forecast_has_no_interval() -> None:
    learned = learn_cost(pairs_of([("a", 1_000, 1_500)]), "a", kind=INPUT_TOKENS)
    assert learned.rows() == [("a", "cost-ratio:input_tokens", 1.5, None, None, 1)]


@pytest.mark.parametrize("bad", [(0.0, 5.0), (math.nan, 5.0), (5.0, -1.0), (5.0, None)])
def test_a_bad_row_fails_its_organisation_by_name_and_changes_nothing_for_the_others(
    bad: tuple[float, float | None],
) -> None:
    good = [("a", 1_000.0, 1_100.0), ("b", 500.0, 700.0)]
    pairs = pairs_of([*good, ("x", 9_000.0, 100.0), ("x", *bad)])
    with pytest.raises(PredictionInputError, match="cost:input_tokens, organisation x, prediction"):
        learn_cost(pairs, ["a", "x"], kind=INPUT_TOKENS)
    beside = learn_cost(pairs, ["a"], kind=INPUT_TOKENS)
    assert beside.equals(learn_cost(pairs_of(good), ["a"], kind=INPUT_TOKENS))


def test_another_kind_is_refused() -> None:
    with pytest.raises(PredictionInputError, match=r"expected one of cost:input.*found 'churn'"):
        learn_cost(pairs_of([]), "a", kind="churn")


# The whole loop


def test_what_a_run_was_billed_corrects_the_estimate_of_the_next() -> None:
    forecasts = forecast_rows("run", AS_OF, "m", {"a": (40_000, 5_000), "b": (10_000, 5_000)})
    billed = calls(
        {"input_tokens": 60_000, "output_tokens": 4_000},
        {"org_id": "b", "input_tokens": 10_000, "output_tokens": 4_000},
    )
    met = actuals(forecasts, billed)
    start = datetime(2026, 2, 1, tzinfo=UTC)
    learned = pl.concat(
        learn_cost(met.filter(kind=kind).select(PAIR_SCHEMA.names()), "ab", kind=kind)
        for kind in KINDS
    )
    versions = new_versions(
        learned, window_start=start, as_of=AS_OF, versions=contract(TABLE).empty()
    )
    found = {
        (row["org_id"], row["key"].removeprefix("cost-ratio:")): row["value"]
        for row in in_force(versions, as_of=AS_OF).to_dicts()
    }
    assert found == pytest.approx(
        {
            ("a", "input_tokens"): (60_000 + 14_000) / 50_000,
            ("a", "output_tokens"): 0.8,
            ("b", "input_tokens"): (10_000 + 14_000) / 20_000,
            ("b", "output_tokens"): 0.8,
        }
    )
