"""Whether outreach helps: published figures, plain Python, and the truth of simulations."""

import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from statistics import fmean
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
    estimate,
)

Row = dict[str, Any]

AS_OF = datetime(2026, 6, 1, 4, tzinfo=UTC)
HORIZON = 7
START, END = AS_OF - WINDOW, AS_OF - timedelta(days=HORIZON)
TRIALS = 2_000
SCHEMA = {"org_id": pl.String, "user_id": pl.String, "arm": pl.String, "returned": pl.Boolean}


def enrolment(org: str, user: str, arm: str, returned: bool) -> Row:
    return dict(zip(SCHEMA, (org, user, arm, returned), strict=True))


def arms(org: str, treated: tuple[int, int], held_out: tuple[int, int]) -> list[Row]:
    """Enrolments of members: of either arm so many that returned, of so many."""
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
    return {row["org_id"]: row for row in found.to_dicts()}


# --- What can be told.


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
def test_the_interval_is_the_one_that_newcombe_published(treated, held_out, lower, upper):
    row = estimated(arms("org", treated, held_out))["org"]
    assert row["uplift"] == pytest.approx(treated[0] / treated[1] - held_out[0] / held_out[1])
    assert (row["uplift_lower"], row["uplift_upper"]) == pytest.approx((lower, upper), abs=5e-5)


def test_members_are_counted_by_arm_and_the_window_ends_a_horizon_before_the_moment():
    row = estimated(arms("org", (3, 5), (1, 4)))["org"]
    assert (row["treated_members"], row["held_out_members"]) == (5, 4)
    assert (row["treated_rate"], row["held_out_rate"]) == (0.6, 0.25)
    assert (row["window_start"], row["window_end"], row["as_of"]) == (START, END, AS_OF)
    assert (row["horizon_days"], row["holdout_share"]) == (HORIZON, 0.05)


def test_all_organisations_together_count_a_person_of_two_of_them_twice():
    rows = [enrolment(org, "a", "treated", org == "choir") for org in ("choir", "garden")]
    pooled = estimated([*rows, *arms("garden", (0, 0), (1, 1))])[ALL_ORGS]
    assert (pooled["treated_members"], pooled["held_out_members"]) == (2, 1)
    assert pooled["uplift"] == -0.5


# --- What cannot be told.


def test_without_enrolments_nothing_is_estimated():
    assert estimated([]) == {}


def test_with_one_arm_alone_there_is_no_uplift():
    found = estimated(arms("org", (3, 5), (0, 0)), share=0)
    for row in found.values():
        assert (row["treated_rate"], row["held_out_rate"]) == (0.6, None)
        assert [row[name] for name in ("uplift", "uplift_lower", "uplift_upper")] == [None] * 3
        assert (row["sample_ratio_p"], row["is_sample_ratio_ok"]) == (None, True)


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


def test_a_member_who_is_enrolled_twice_is_refused():
    rows = arms("org", (1, 2), (1, 2))
    estimated([*rows, enrolment("other", "treated-0", "treated", True)])
    with pytest.raises(UpliftInputError, match=r"expected one a member, found more of org/trea"):
        estimated([*rows, enrolment("org", "treated-0", "held_out", True)])


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
    assert found["sound"]["is_sample_ratio_ok"]
    assert found["sound"]["sample_ratio_p"] == 1
    row = found["broken"]
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
            arm="arm",
            returned=pl.lit(True),
        )
    )
    broken = [not found[str(org)]["is_sample_ratio_ok"] for org in range(TRIALS)]
    assert sum(broken) <= 3 * SAMPLE_RATIO_P_MIN * TRIALS


# --- Against plain Python.


def plainly(rows: list[Row], share: float) -> dict[Any, Row]:
    """The same in loops: the members of each organisation and of all, and SciPy's own interval."""
    orgs: dict[str, dict[str, list[bool]]] = defaultdict(lambda: {"treated": [], "held_out": []})
    for row in rows:
        for org in (row["org_id"], ALL_ORGS):
            orgs[org][row["arm"]].append(row["returned"])
    found = {}
    for org, counts in orgs.items():
        treated, held_out = counts["treated"], counts["held_out"]
        total = len(treated) + len(held_out)
        p = None
        if share:
            heads = [len(treated), len(held_out)]
            p = stats.chisquare(heads, [total * (1 - share), total * share]).pvalue
        found[org] = {
            "treated_members": len(treated),
            "held_out_members": len(held_out),
            "treated_rate": fmean(treated) if treated else None,
            "held_out_rate": fmean(held_out) if held_out else None,
            "sample_ratio_p": p,
            "is_sample_ratio_ok": p is None or p >= 0.001,
            **_difference(treated, held_out),
        }
    return found


def _difference(treated: list[bool], held_out: list[bool]) -> Row:
    if not treated or not held_out:
        return dict.fromkeys(("uplift", "uplift_lower", "uplift_upper"))
    p1, p2 = fmean(treated), fmean(held_out)
    (l1, u1), (l2, u2) = (
        stats.binomtest(sum(arm), len(arm)).proportion_ci(0.95, "wilson")
        for arm in (treated, held_out)
    )
    return {
        "uplift": p1 - p2,
        "uplift_lower": p1 - p2 - math.sqrt((p1 - l1) ** 2 + (u2 - p2) ** 2),
        "uplift_upper": p1 - p2 + math.sqrt((u1 - p1) ** 2 + (p2 - l2) ** 2),
    }


some_enrolments = st.lists(
    st.builds(
        enrolment,
        st.sampled_from("ab"),
        st.sampled_from("cdefghijkl"),
        st.sampled_from(("treated", "treated", "held_out")),
        st.booleans(),
    ),
    max_size=20,
    unique_by=lambda row: (row["org_id"], row["user_id"]),
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


def test_the_interval_holds_the_true_uplift_95_times_in_100():
    """In 2,000 worlds, each an organisation, whose members return with chances of their own."""
    dice = np.random.default_rng(2_018)
    is_held_out = np.arange(MEMBERS) < HELD_OUT
    chance = 0.7 * dice.beta(2, 3, (TRIALS, MEMBERS)) + np.where(is_held_out, 0.0, RISE)
    found = estimated(
        pl.DataFrame(
            {
                "org_id": np.repeat(np.arange(TRIALS), MEMBERS),
                "user_id": np.tile(np.arange(MEMBERS), TRIALS),
                "arm": np.tile(np.where(is_held_out, "held_out", "treated"), TRIALS),
                "returned": (dice.random((TRIALS, MEMBERS)) < chance).ravel(),
            }
        ).cast({"org_id": pl.String, "user_id": pl.String}),
        share=HELD_OUT / MEMBERS,
    )
    rows = [found[str(org)] for org in range(TRIALS)]
    held = [row["uplift_lower"] <= RISE <= row["uplift_upper"] for row in rows]
    assert 0.93 <= sum(held) / TRIALS <= 0.97
    assert found[ALL_ORGS]["uplift"] == pytest.approx(RISE, abs=0.005)
