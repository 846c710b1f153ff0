"""Which template answers best: what is believed, and what is chosen by it."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta as beta_distribution

from engagement_pipeline.contracts import contract
from engagement_pipeline.loops.calibration import LEARNED_SCHEMA
from engagement_pipeline.loops.routing import (
    POSTERIORS,
    RESPONSE,
    SILENCE,
    Choice,
    RoutingInputError,
    arms_in_force,
    choose,
    learn_arms,
    learned_rates,
    propensities,
    response_signals,
    settled,
    subject_of,
)

AS_OF = datetime(2026, 3, 2, 5, tzinfo=UTC)
DAY = timedelta(days=1)
TYPE = "re_engagement"

Counts = dict[tuple[str, str], tuple[int, int]]

some_counts = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from(("s", "t"))),
    st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
some_parameters = st.floats(0.2, 400)
some_arms = st.lists(st.tuples(some_parameters, some_parameters), min_size=1, max_size=6)


def known(*arms: tuple[str, str], outreach_type: str = TYPE) -> pl.DataFrame:
    return pl.DataFrame(
        [(org, outreach_type, template) for org, template in arms],
        schema=dict.fromkeys(("org_id", "outreach_type", "template_id"), pl.String),
        orient="row",
    )


def signals_of(counts: Counts) -> pl.DataFrame:
    rows = [
        (org, f"{TYPE}:{template}", kind)
        for (org, template), (responses, silences) in counts.items()
        for kind in [RESPONSE] * responses + [SILENCE] * silences
    ]
    columns = dict.fromkeys(("org_id", "subject", "kind"), pl.String)
    return pl.DataFrame(rows, schema=columns, orient="row")


def arms_of(parameters: Sequence[tuple[float | None, float | None]]) -> pl.DataFrame:
    rows = [(f"t{n}", *pair) for n, pair in enumerate(parameters)]
    schema = {"template_id": pl.String, "alpha": pl.Float64, "beta": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


# What is believed


def plain_posterior(counts: Counts, org: str, template: str) -> tuple[float, float, int]:
    alpha = beta = 1.0
    responses = silences = 0
    for (name, its), (yes, no) in counts.items():
        if its == template and name != org:
            responses, silences = responses + yes, silences + no
    if responses + silences:
        counted = min(20, responses + silences)
        alpha += counted * responses / (responses + silences)
        beta += counted * silences / (responses + silences)
    yes, no = counts.get((org, template), (0, 0))
    return alpha + yes, beta + no, yes + no


@settings(max_examples=60)
@given(some_counts)
def test_posteriors_are_what_plain_loops_make_of_each_arm(counts: Counts) -> None:
    arms = list(itertools.product("abd", ("s", "t", "u")))
    found = learn_arms(signals_of(counts), known(*arms), as_of=AS_OF)
    assert POSTERIORS.validate(found) is found
    assert found.select("org_id", "template_id").rows() == sorted(arms)
    for (org, template), row in zip(sorted(arms), found.to_dicts(), strict=True):
        alpha, beta, n = plain_posterior(counts, org, template)
        assert (row["alpha"], row["beta"]) == pytest.approx((alpha, beta))
        assert row["n"] == n
        assert row["expires_at"] - row["computed_at"] == 30 * DAY


def test_what_others_know_counts_for_no_more_than_twenty_outreaches_and_ones_own_in_full() -> None:
    counts = {("a", "t"): (30, 70), ("b", "t"): (400, 600), ("c", "t"): (0, 1_000)}
    found = learn_arms(signals_of(counts), known(("a", "t"), ("new", "t")), as_of=AS_OF)
    # Of b and c together 400 of 2,000 answered, of all three 430 of 2,100.
    assert found["alpha"].to_list() == pytest.approx([1 + 4 + 30, 1 + 20 * 430 / 2_100])
    assert found["beta"].to_list() == pytest.approx([1 + 16 + 70, 1 + 20 * 1_670 / 2_100])


def test_an_arm_of_which_nothing_is_known_is_uniform() -> None:
    found = learn_arms(signals_of({}), known(("a", "t")), as_of=AS_OF)
    assert found.select("alpha", "beta", "n").rows() == [(1.0, 1.0, 0)]


def test_the_same_template_of_another_type_and_other_kinds_of_signal_do_not_count() -> None:
    signals = signals_of({("a", "t"): (3, 4), ("b", "t"): (5, 6)})
    others = signals.with_columns(kind=pl.lit("ENGAGE"))
    arms = pl.concat([known(("a", "t")), known(("a", "t"), outreach_type="mood_support")])
    found = learn_arms(pl.concat([signals, others]), arms, as_of=AS_OF)
    assert found.select("outreach_type", "alpha", "beta", "n").rows() == [
        ("mood_support", 1.0, 1.0, 0),
        (TYPE, 9.0, 11.0, 7),
    ]


def test_a_type_with_a_colon_could_be_taken_for_another_and_is_refused() -> None:
    assert subject_of("a", "b:c") == "a:b:c"
    with pytest.raises(RoutingInputError, match="found 'a:b'"):
        subject_of("a:b", "c")
    with pytest.raises(RoutingInputError, match="found 'a:b'"):
        learn_arms(signals_of({}), known(("x", "c"), outreach_type="a:b"), as_of=AS_OF)


def test_a_rate_is_learned_where_the_organisation_has_used_the_template_itself() -> None:
    counts = {("a", "t"): (30, 70), ("b", "s"): (9, 1)}
    arms = known(*itertools.product("ab", "st"))
    learned = learned_rates(learn_arms(signals_of(counts), arms, as_of=AS_OF))
    assert learned.schema == LEARNED_SCHEMA
    assert learned.select("org_id", "key", "n").rows() == [
        ("a", "response-rate:re_engagement:t", 100),
        ("b", "response-rate:re_engagement:s", 10),
    ]
    first = learned.row(0, named=True)
    assert first["value"] == pytest.approx(31 / 102)
    # Two and a half in a hundred lie on either side.
    inside = [beta_distribution.cdf(first[end], 31, 71) for end in ("lower", "upper")]
    assert inside == pytest.approx([0.025, 0.975])


def test_of_an_arms_versions_the_newest_unexpired_one_is_in_force() -> None:
    def version(days: int, template: str, responses: int) -> pl.DataFrame:
        signals = signals_of({("a", template): (responses, 0)})
        return learn_arms(signals, known(("a", template)), as_of=AS_OF + days * DAY)

    versions = pl.concat(
        [version(7, "t", 4), version(0, "t", 3), version(-7, "t", 2), version(-30, "s", 1)]
    )
    found = arms_in_force(versions, as_of=AS_OF)
    assert found.select("template_id", "n").rows() == [("t", 3)]
    just_before = arms_in_force(versions, as_of=AS_OF - timedelta(microseconds=1))
    assert just_before.select("template_id", "n").rows() == [("s", 1), ("t", 2)]


# How probable each choice is


@given(some_arms, st.floats(0, 1))
def test_propensities_are_probabilities_of_at_least_the_floors_share(
    parameters: list[tuple[float, float]], floor: float
) -> None:
    found = propensities(arms_of(parameters), floor=floor)
    assert found.sum() == pytest.approx(1)
    assert (found >= floor / len(parameters)).all()


HARD_CASES = [
    [(1.0, 1.0), (1.0, 1.0), (1.0, 1.0)],
    [(2.0, 30.0), (5.0, 28.0), (1.0, 1.0), (4.0, 80.0)],
    [(30_000.0, 70_000.0), (30_200.0, 69_800.0)],
    [(300_000.0, 700_000.0), (1.0, 1.0), (300_500.0, 699_500.0)],
    [(0.2, 5.0), (0.5, 0.5), (1.0, 3.0)],
    [(1.0, 2_000.0), (2.0, 2_000.0), (1.0, 500.0), (1.5, 1.0e6)],
    [(3.0 + n, 40.0) for n in range(8)],
]


@pytest.mark.parametrize("parameters", HARD_CASES)
def test_propensities_are_how_often_each_arm_is_the_best_of_many_draws(
    parameters: list[tuple[float, float]],
) -> None:
    chance = np.random.default_rng(5)
    draws = np.array([chance.beta(a, b, 500_000) for a, b in parameters])
    share = np.bincount(draws.argmax(axis=0), minlength=len(parameters)) / 500_000
    found = propensities(arms_of(parameters), floor=0.1)
    # Such a share is itself off by up to 0.002.
    assert found == pytest.approx(0.1 / len(parameters) + 0.9 * share, abs=0.003)


@pytest.mark.parametrize(
    ("first", "second"),
    [((3.0, 4.0), (5.0, 4.0)), ((300.0, 700.0), (320.0, 680.0)), ((1.0, 1.0), (3e5, 7e5))],
)
def test_of_two_arms_a_propensity_is_the_integral_to_a_thousandth(
    first: tuple[float, float], second: tuple[float, float]
) -> None:
    one, other = beta_distribution(*first), beta_distribution(*second)
    # The peak has to be named, or an adaptive rule passes over it.
    peaks = [one.mean(), other.mean()]
    wanted, _ = quad(lambda x: one.pdf(x) * other.cdf(x), 0, 1, points=peaks, limit=200)
    assert propensities(arms_of([first, second]), floor=0)[0] == pytest.approx(wanted, abs=1e-4)


def test_without_a_posterior_all_are_alike_and_one_without_counts_as_uniform() -> None:
    assert propensities(arms_of([(None, None)] * 4), floor=0.05) == pytest.approx([0.25] * 4)
    some = propensities(arms_of([(None, None), (3.0, 9.0)]), floor=0.05)
    assert some == pytest.approx(propensities(arms_of([(1.0, 1.0), (3.0, 9.0)]), floor=0.05))


@pytest.mark.parametrize("floor", [-0.01, 1.01, math.nan])
def test_a_floor_that_is_no_share_is_refused(floor: float) -> None:
    with pytest.raises(RoutingInputError, match="floor: expected a share in"):
        propensities(arms_of([(1.0, 1.0)]), floor=floor)


@pytest.mark.parametrize("bad", [(0.0, 1.0), (1.0, -1.0), (math.nan, 1.0), (1.0, math.inf)])
def test_parameters_of_no_distribution_are_refused(bad: tuple[float, float]) -> None:
    for arms in ([bad], [bad, (1.0, 1.0)]):
        with pytest.raises(RoutingInputError, match="arms: expected finite parameters above zero"):
            propensities(arms_of(arms), floor=0.05)


def test_where_there_is_no_arm_nothing_can_be_chosen() -> None:
    with pytest.raises(RoutingInputError, match="arms: expected at least one, found none"):
        choose(arms_of([]), floor=0.05, seed=1, key="m")


# The choice


def test_a_sole_arm_is_always_chosen() -> None:
    assert choose(arms_of([(2.0, 3.0)]), floor=0.05, seed=1, key="m") == Choice("t0", 1.0)


def test_a_template_that_comes_twice_is_refused() -> None:
    twice = pl.concat([arms_of([(2.0, 3.0)])] * 2)
    with pytest.raises(RoutingInputError, match="each template once"):
        choose(twice, floor=0.05, seed=1, key="m")


@given(some_arms, st.integers(), st.text())
def test_the_same_seed_and_key_choose_the_same_in_whatever_order_the_arms_come(
    parameters: list[tuple[float, float]], seed: int, key: str
) -> None:
    arms = arms_of(parameters)
    choice = choose(arms, floor=0.05, seed=seed, key=key)
    assert choice == choose(arms.reverse(), floor=0.05, seed=seed, key=key)
    place = arms["template_id"].to_list().index(choice.template_id)
    assert choice.propensity == pytest.approx(propensities(arms, floor=0.05)[place])


def test_another_seed_or_key_may_choose_otherwise() -> None:
    arms = arms_of([(1.0, 1.0)] * 5)
    chosen = {
        (seed, key): choose(arms, floor=0.05, seed=seed, key=key).template_id
        for seed in range(10)
        for key in "abcdefghij"
    }
    for place in (0, 1):
        by_one = [{t for k, t in chosen.items() if k[place] == one} for one in (0, 1, "a", "b")]
        assert all(len(templates) > 1 for templates in by_one if templates)


def test_templates_are_chosen_as_often_as_their_propensities_say() -> None:
    arms = arms_of([(3.0, 30.0), (5.0, 30.0), (2.0, 30.0), (1.0, 90.0)])
    n = 4_000
    for seed in (1, 2):
        chosen = Counter(
            choose(arms, floor=0.2, seed=seed, key=str(key)).template_id for key in range(n)
        )
        for template, p in zip(arms["template_id"], propensities(arms, floor=0.2), strict=True):
            assert chosen[template] / n == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))


# The whole loop, with arms whose rates are known

RATES = (0.05, 0.08, 0.10, 0.12, 0.20)
FLOOR = 0.05


@dataclass(frozen=True)
class Simulated:
    """What five thousand outreaches of one organisation came to, in batches of a hundred."""

    chosen: list[int]
    propensities: list[float]
    answered: list[bool]
    last: pl.DataFrame

    @property
    def regret(self) -> float:
        return sum(max(RATES) - RATES[arm] for arm in self.chosen)

    def estimates(self) -> list[tuple[float, float]]:
        """Per arm its rate, each outreach weighted by its propensity, and the standard error."""
        chosen, weights = np.array(self.chosen), 1 / np.array(self.propensities)
        found = []
        for arm in range(len(RATES)):
            values = (chosen == arm) * np.array(self.answered) * weights
            found.append((values.mean(), values.std(ddof=1) / math.sqrt(len(values))))
        return found


def simulate(seed: int) -> Simulated:
    chance = np.random.default_rng(seed)
    arms = known(*[("a", f"t{arm}") for arm in range(len(RATES))])
    sent: list[tuple[int, float, bool]] = []
    posteriors = learn_arms(signals_of({}), arms, as_of=AS_OF)
    for day in range(50):
        for _ in range(100):
            choice = choose(posteriors, floor=FLOOR, seed=seed, key=f"m{len(sent)}")
            arm = int(choice.template_id[1:])
            sent.append((arm, choice.propensity, bool(chance.random() < RATES[arm])))
        counts = Counter((arm, answered) for arm, _, answered in sent)
        signals = signals_of(
            {("a", f"t{n}"): (counts[n, True], counts[n, False]) for n in range(len(RATES))}
        )
        posteriors = learn_arms(signals, arms, as_of=AS_OF + day * DAY)
    columns: list[Any] = [list(column) for column in zip(*sent, strict=True)]
    return Simulated(*columns, last=learned_rates(posteriors))


@pytest.fixture(scope="module")
def simulated() -> list[Simulated]:
    return [simulate(seed) for seed in range(3)]


def test_the_best_template_is_found_and_chosen_most(simulated: list[Simulated]) -> None:
    best = RATES.index(max(RATES))
    for run in simulated:
        assert Counter(run.chosen[-1_000:]).most_common(1)[0][0] == best
        assert run.last["value"].arg_max() == best


def test_far_less_is_forgone_than_by_choosing_at_random(simulated: list[Simulated]) -> None:
    at_random = 5_000 * (max(RATES) - sum(RATES) / len(RATES))
    for run in simulated:
        assert run.regret < at_random / 2


def test_every_template_goes_on_being_tried(simulated: list[Simulated]) -> None:
    for run in simulated:
        assert min(run.propensities) >= FLOOR / len(RATES)
        assert len(set(run.chosen[-1_000:])) == len(RATES)


def test_logged_propensities_give_back_each_templates_rate(simulated: list[Simulated]) -> None:
    for run in simulated:
        for rate, (estimate, error) in zip(RATES, run.estimates(), strict=True):
            assert estimate == pytest.approx(rate, abs=4 * error)


def test_weighted_by_propensity_even_rarely_chosen_templates_show_their_rate() -> None:
    arms = arms_of([(2.0, 30.0), (3.0, 30.0), (4.0, 30.0), (5.0, 30.0), (12.0, 30.0)])
    chance, n = np.random.default_rng(3), 10_000
    sums = np.zeros(len(RATES))
    for key in range(n):
        choice = choose(arms, floor=0.3, seed=1, key=str(key))
        arm = int(choice.template_id[1:])
        sums[arm] += (chance.random() < RATES[arm]) / choice.propensity
    for rate, estimate, p in zip(RATES, sums / n, propensities(arms, floor=0.3), strict=True):
        assert estimate == pytest.approx(rate, abs=4 * math.sqrt(rate / p / n))


def test_a_silence_whose_response_arrived_late_does_not_count():
    told = [(RESPONSE, "both"), (SILENCE, "both"), (SILENCE, "silent"), (RESPONSE, "answered")]
    kept = settled(pl.DataFrame(told, schema=["kind", "source_key"], orient="row"))
    assert sorted(kept.rows()) == sorted(told[:1] + told[2:])


def test_an_outcome_becomes_a_signal_of_its_type_and_template():
    outcome = {
        "org_id": "org",
        "user_id": "user",
        "outreach_type": TYPE,
        "template_id": "a:b",
        "kind": RESPONSE,
        "value": 0.8,
        "occurred_at": AS_OF,
        "source_key": "message",
    }
    (signal,) = response_signals(pl.DataFrame([outcome])).to_dicts()
    assert (signal["subject"], signal["archetype"]) == (subject_of(TYPE, "a:b"), "ranking")
    columns = set(contract("loops.signals").column_names) - {"signal_id"}
    assert signal.keys() == columns
    with pytest.raises(RoutingInputError, match="without a colon"):
        response_signals(pl.DataFrame([outcome | {"outreach_type": "a:b"}]))
