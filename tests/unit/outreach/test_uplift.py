"""Whether outreach helps: published figures, plain Python, and the truth of simulations."""

import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engagement_pipeline.contracts.contract import ContractViolationError
from engagement_pipeline.outreach.uplift import (
    ALL_ORGS,
    SAMPLE_RATIO_P_MIN,
    UPLIFT,
    WINDOW,
    UpliftInputError,
    by_member,
    estimate,
)

Row = dict[str, Any]

AS_OF = datetime(2026, 6, 1, 4, tzinfo=UTC)
HORIZON = 7
START, END = AS_OF - WINDOW, AS_OF - timedelta(days=HORIZON)
TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
TRIALS = 2_000
SCHEMA = {
    "org_id": pl.String,
    "user_id": pl.String,
    "enrolled_at": pl.Datetime("us", "UTC"),
    "arm": pl.String,
    "returned": pl.Boolean,
}


def enrolment(
    org: str, user: str, arm: str, returned: bool, at: datetime = END, **_: object
) -> Row:
    return dict(zip(SCHEMA, (org, user, at, arm, returned), strict=True))


def arms(org: str, treated: tuple[int, int], held_out: tuple[int, int]) -> list[Row]:
    """Members with one enrolment each: of either arm so many that returned, of so many."""
    return [
        enrolment(org, f"{arm}-{number}", arm, number < k)
        for arm, (k, n) in (("treated", treated), ("held_out", held_out))
        for number in range(n)
    ]


def estimated(rows: list[Row] | pl.DataFrame, *, share: float = 0.05) -> dict[Any, Row]:
    found = estimate(
        rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, schema=SCHEMA),
        as_of=AS_OF,
        window_start=START,
        horizon_days=HORIZON,
        holdout_share=share,
    )
    assert UPLIFT.validate(found) is found
    return {(row["org_id"], row["estimand"]): row for row in found.to_dicts()}


# --- Each member's first enrolment.


@pytest.mark.parametrize(
    ("treated", "held_out", "lower", "upper"),
    # R. G. Newcombe, "Interval estimation for the difference between independent proportions",
    # Statistics in Medicine 17 (1998), table II, method 10, contrasts (a) to (h).
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_first_enrolments_is_the_one_that_newcombe_published(
    treated, held_out, lower, upper
):
    row = estimated(arms("org", treated, held_out))["org", "first_enrolment"]
    assert row["uplift"] == pytest.approx(treated[0] / treated[1] - held_out[0] / held_out[1])
    assert (row["uplift_lower"], row["uplift_upper"]) == pytest.approx((lower, upper), abs=5e-5)


def test_a_member_counts_once_by_the_first_enrolment_in_the_window():
    rows = [
        enrolment("org", "a", "treated", True, START),  # the window begins after it
        enrolment("org", "a", "treated", False, START + TICK),
        enrolment("org", "a", "treated", True, START + DAY),
        enrolment("org", "b", "held_out", True, END),
        enrolment("org", "c", "held_out", True, END + TICK),  # its horizon has not passed yet
    ]
    found = estimated(rows)
    first, every = found["org", "first_enrolment"], found["org", "all_enrolments"]
    assert (first["treated_members"], first["held_out_members"]) == (1, 1)
    assert (first["treated_enrolments"], first["held_out_enrolments"]) == (1, 1)
    assert (first["treated_rate"], first["held_out_rate"]) == (0, 1)
    assert (every["treated_members"], every["held_out_members"]) == (1, 1)
    assert (every["treated_enrolments"], every["held_out_enrolments"]) == (2, 1)
    assert (every["treated_rate"], every["held_out_rate"]) == (0.5, 1)
    assert (first["window_start"], first["window_end"], first["as_of"]) == (START, END, AS_OF)


def test_two_occasions_at_the_same_moment_are_one_enrolment():
    row = enrolment("org", "a", "treated", True)
    found = estimated([row, row, *arms("org", (0, 0), (0, 1))])
    assert found["org", "all_enrolments"]["treated_enrolments"] == 1


def test_who_changes_arms_is_a_member_of_the_first_one():
    rows = [
        enrolment("org", "a", "treated", True, END),
        enrolment("org", "a", "held_out", False, START + DAY),
    ]
    found = estimated(rows)
    first, every = found["org", "first_enrolment"], found["org", "all_enrolments"]
    assert (first["treated_members"], first["held_out_members"]) == (0, 1)
    assert (every["treated_rate"], every["held_out_rate"]) == (1, 0)


# --- What cannot be told.


def test_without_enrolments_nothing_is_estimated():
    assert estimated([]) == {}
    assert estimated([enrolment("org", "a", "treated", True, END + TICK)]) == {}


def test_with_one_arm_alone_there_is_no_uplift():
    found = estimated(arms("org", (3, 5), (0, 0)), share=0)
    for row in found.values():
        assert (row["treated_rate"], row["held_out_rate"]) == (0.6, None)
        assert [row[name] for name in ("uplift", "uplift_lower", "uplift_upper")] == [None] * 3
        assert (row["sample_ratio_p"], row["is_sample_ratio_ok"]) == (None, True)


@pytest.mark.parametrize("held_out", [(0, 1), (1, 1), (0, 3), (3, 3)])
def test_an_arm_whose_spread_cannot_be_told_has_no_clustered_interval(held_out):
    row = estimated(arms("org", (3, 5), held_out))["org", "all_enrolments"]
    assert row["uplift"] == pytest.approx(0.6 - held_out[0] / held_out[1])
    assert (row["uplift_lower"], row["uplift_upper"]) == (None, None)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"holdout_share": 1.0}, "holdout_share"),
        ({"holdout_share": -0.1}, "holdout_share"),
        ({"horizon_days": 0}, "horizon_days"),
    ],
)
def test_settings_out_of_their_bounds_are_refused(options, named):
    told = {"as_of": AS_OF, "window_start": START, "horizon_days": HORIZON, "holdout_share": 0.05}
    frame = pl.DataFrame(arms("org", (1, 2), (1, 2)), schema=SCHEMA)
    with pytest.raises(UpliftInputError, match=rf"{named}: expected .*found"):
        estimate(frame, **(told | options))


def test_an_unknown_arm_and_an_organisation_called_as_all_of_them_are_refused():
    with pytest.raises(UpliftInputError, match="found 'control'"):
        estimated([enrolment("org", "a", "control", True)])
    with pytest.raises(ContractViolationError, match=r"must be unique"):
        estimated(arms(ALL_ORGS, (1, 2), (1, 2)))


# --- Whether the holdout is sound.


def test_a_holdout_that_lost_half_of_the_treated_is_found_out():
    sound = arms("sound", (300, 950), (15, 50))
    broken = arms("broken", (150, 475), (15, 50))  # half of the treated are missing
    found = estimated(sound + broken)
    assert found["sound", "first_enrolment"]["is_sample_ratio_ok"]
    assert found["sound", "first_enrolment"]["sample_ratio_p"] == 1
    row = found["broken", "first_enrolment"]
    assert not row["is_sample_ratio_ok"]
    p = stats.chisquare([475, 50], [525 * 0.95, 525 * 0.05]).pvalue
    assert row["sample_ratio_p"] == pytest.approx(p)


def test_a_sound_holdout_is_seldom_called_broken():
    members = 150
    is_held_out = np.random.default_rng(1_900).random(TRIALS * members) < 0.05
    found = estimated(
        pl.DataFrame(
            {
                "org_id": np.repeat(np.arange(TRIALS), members),
                "user_id": np.tile(np.arange(members), TRIALS),
                "arm": np.where(is_held_out, "held_out", "treated"),
            }
        ).select(
            pl.col("org_id", "user_id").cast(pl.String),
            enrolled_at=pl.lit(END, dtype=SCHEMA["enrolled_at"]),
            arm="arm",
            returned=pl.lit(True),
        )
    )
    broken = [not found[str(org), "first_enrolment"]["is_sample_ratio_ok"] for org in range(TRIALS)]
    assert sum(broken) <= 3 * SAMPLE_RATIO_P_MIN * TRIALS


# --- Against plain Python.


def plainly(rows: list[Row], share: float) -> dict[Any, Row]:
    """The same in loops: the units of each organisation and of all, and the formulas as written."""
    units: dict[Any, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if START < row["enrolled_at"] <= END:
            for org in (row["org_id"], ALL_ORGS):
                units[org][row["org_id"] + "/" + row["user_id"]].append(row)
    found = {}
    for org, members in units.items():
        counts = {arm: {"first": [], "clusters": []} for arm in ("treated", "held_out")}
        for own in members.values():
            at = sorted({row["enrolled_at"] for row in own})
            once = [_once([row for row in own if row["enrolled_at"] == moment]) for moment in at]
            counts[once[0][0]]["first"].append([once[0][1]])
            for arm, kept in counts.items():
                returns = [returned for found_arm, returned in once if found_arm == arm]
                if returns:
                    kept["clusters"].append(returns)
        heads = [len(counts[arm]["first"]) for arm in ("treated", "held_out")]
        total = sum(heads)
        p = None
        if share and total:
            p = stats.chisquare(heads, [total * (1 - share), total * share]).pvalue
        for estimand, kind in (("first_enrolment", "first"), ("all_enrolments", "clusters")):
            treated, held_out = (counts[arm][kind] for arm in ("treated", "held_out"))
            found[org, estimand] = {
                "treated_members": len(treated),
                "held_out_members": len(held_out),
                "treated_enrolments": sum(map(len, treated)),
                "held_out_enrolments": sum(map(len, held_out)),
                "treated_rate": _rate(treated),
                "held_out_rate": _rate(held_out),
                "sample_ratio_p": p,
                "is_sample_ratio_ok": p is None or p >= 0.001,
                **_difference(treated, held_out, estimand),
            }
    return found


def _once(rows: list[Row]) -> tuple[str, bool]:
    is_held_out = any(row["arm"] == "held_out" for row in rows)
    return ("held_out" if is_held_out else "treated"), any(row["returned"] for row in rows)


def _rate(clusters: list[list[bool]]) -> float | None:
    n = sum(map(len, clusters))
    return sum(map(sum, clusters)) / n if n else None


def _difference(treated: list[list[bool]], held_out: list[list[bool]], estimand: str) -> Row:
    p1, p2 = _rate(treated), _rate(held_out)
    nothing = dict.fromkeys(("uplift", "uplift_lower", "uplift_upper"))
    if p1 is None or p2 is None:
        return nothing
    if estimand == "first_enrolment":
        (l1, u1), (l2, u2) = (
            stats.binomtest(sum(map(sum, arm)), len(arm)).proportion_ci(0.95, "wilson")
            for arm in (treated, held_out)
        )
        below = math.sqrt((p1 - l1) ** 2 + (u2 - p2) ** 2)
        above = math.sqrt((u1 - p1) ** 2 + (p2 - l2) ** 2)
    else:
        variances = [_variance(treated), _variance(held_out)]
        if None in variances:
            return nothing | {"uplift": p1 - p2}
        below = above = stats.norm.isf(0.025) * math.sqrt(sum(variances))
    return {
        "uplift": p1 - p2,
        "uplift_lower": max(p1 - p2 - below, -1),
        "uplift_upper": min(p1 - p2 + above, 1),
    }


def _variance(clusters: list[list[bool]]) -> float | None:
    rate = _rate(clusters)
    if len(clusters) < 2 or rate in (0, 1):
        return None
    mean = sum(map(len, clusters)) / len(clusters)
    residuals = [sum(own) - rate * len(own) for own in clusters]
    s2 = sum(residual**2 for residual in residuals) / (len(clusters) - 1)
    return s2 / len(clusters) / mean**2


some_enrolments = st.lists(
    st.builds(
        enrolment,
        st.sampled_from("ab"),
        st.sampled_from("cdefg"),
        st.sampled_from(("treated", "treated", "held_out")),
        st.booleans(),
        st.sampled_from((START, START + TICK, START + DAY, END - DAY, END, END + TICK)),
    ),
    max_size=30,
)


@given(some_enrolments, st.sampled_from((0.0, 0.05, 0.3)), st.randoms(use_true_random=False))
def test_all_estimates_are_what_plain_python_finds_whatever_the_order_of_rows(
    rows, share, dice: random.Random
):
    expected = plainly(rows, share)
    dice.shuffle(rows)
    found = estimated(rows, share=share)
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert {name: found[key][name] for name in row} == pytest.approx(row, abs=1e-12)


@given(some_enrolments)
def test_an_interval_holds_the_uplift_that_was_found(rows):
    for row in estimated(rows).values():
        if row["uplift_lower"] is not None:
            assert -1 <= row["uplift_lower"] <= row["uplift"] <= row["uplift_upper"] <= 1


# --- Against the truth.

MEMBERS = 150
HELD_OUT = 50
RISE = 0.1


@pytest.fixture(scope="module")
def worlds() -> dict[str, Any]:
    """2,000 worlds at once, each an organisation: members return with probabilities of their own,
    more often if treated, and those who are called more often return less."""
    dice = np.random.default_rng(2_018)
    calls = dice.integers(1, 5, (TRIALS, MEMBERS))
    base = dice.beta(2, 3, (TRIALS, MEMBERS)) * (1 - 0.12 * calls)
    is_held_out = np.arange(MEMBERS) < HELD_OUT
    chance = base + np.where(is_held_out, 0.0, RISE * calls / 3)
    first = dice.random((TRIALS, MEMBERS)) < chance
    later = dice.binomial(calls - 1, chance)
    # E[calls * rise] / E[calls], since all are called as often, treated or not.
    k = np.arange(1, 5)
    true = {
        "first_enrolment": RISE * k.mean() / 3,
        "all_enrolments": RISE * (k * k).sum() / 3 / k.sum(),
    }
    rows = pl.DataFrame(
        {
            "org": np.repeat(np.arange(TRIALS), MEMBERS),
            "member": np.tile(np.arange(MEMBERS), TRIALS),
            "is_held_out": np.tile(is_held_out, TRIALS),
            "calls": calls.ravel(),
            "first": first.ravel(),
            "later": later.ravel(),
        }
    )
    every = rows.with_columns(call=pl.int_ranges(0, pl.col("calls"))).explode("call")
    is_later_return = (pl.col("call") >= 1) & (pl.col("call") <= pl.col("later"))
    found = estimated(
        every.select(
            org_id=pl.col("org").cast(pl.String),
            user_id=pl.col("member").cast(pl.String),
            enrolled_at=pl.lit(START) + pl.duration(days=1 + pl.col("call")),
            arm=pl.when("is_held_out").then(pl.lit("held_out")).otherwise(pl.lit("treated")),
            returned=pl.when(pl.col("call") == 0).then("first").otherwise(is_later_return),
        ).cast({"enrolled_at": SCHEMA["enrolled_at"]}),
        share=HELD_OUT / MEMBERS,
    )
    return {"true": true, "found": found}


@pytest.mark.parametrize("estimand", ["first_enrolment", "all_enrolments"])
def test_the_interval_holds_the_true_uplift_95_times_in_100(worlds, estimand):
    truth = worlds["true"][estimand]
    held = [
        worlds["found"][str(org), estimand]["uplift_lower"]
        <= truth
        <= worlds["found"][str(org), estimand]["uplift_upper"]
        for org in range(TRIALS)
    ]
    assert 0.93 <= sum(held) / TRIALS <= 0.97
    pooled = worlds["found"][ALL_ORGS, estimand]
    assert pooled["uplift"] == pytest.approx(truth, abs=0.005)


def test_one_row_a_member_and_arm_is_all_that_an_estimate_takes():
    rows = [
        enrolment("org", "a", "treated", True, END),
        enrolment("org", "a", "treated", False, START + DAY),
        enrolment("org", "a", "held_out", True, END + TICK),
        enrolment("org", "b", "held_out", True, END),
    ]
    assert by_member(pl.DataFrame(rows, schema=SCHEMA)).rows() == [
        ("org", "a", "held_out", 1, 1, None),
        ("org", "a", "treated", 2, 1, False),
        ("org", "b", "held_out", 1, 1, True),
    ]
