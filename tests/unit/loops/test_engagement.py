"""What is read of what is sent: the facts, and what is learned of them."""

import math
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from engagement_pipeline.loops.calibration import LEARNED_SCHEMA
from engagement_pipeline.loops.engagement import (
    compute_engagement_scale,
    learn_engagement,
    notification_facts,
    read_rate_priors,
)
from engagement_pipeline.loops.shrinkage import JEFFREYS, BetaPrior, GroupPriors, fit_prior
from engagement_pipeline.signals.windows import microseconds
from tests.unit.signals.communities import ENGINES
from tests.unit.signals.engines import computed_by

_AS_OF = datetime(2026, 6, 29, 5, 30, tzinfo=UTC)
_NOW = microseconds(_AS_OF)
_NO_NUMBERS = (0, -1, -0.5, math.nan, math.inf, -math.inf, None, 10**400)


# --- the scale ---


@pytest.mark.parametrize(
    ("count", "days", "scale"),
    [(30, 30, 1.0), (1, 30, 0.0333), (2, 3, 0.6667), (1, 1_000_000, 0.0), (7.5, 2, 3.75)],
)
def test_the_scale_is_the_count_a_day_to_four_decimals(count, days, scale):
    assert compute_engagement_scale(count, days) == scale


@pytest.mark.parametrize("nothing", _NO_NUMBERS)
def test_a_count_or_length_that_is_not_a_positive_number_scales_to_zero(nothing):
    assert compute_engagement_scale(nothing, 30) == 0.0
    assert compute_engagement_scale(12, nothing) == 0.0
    for other in _NO_NUMBERS:
        assert compute_engagement_scale(nothing, other) == 0.0


@example(1e308, 1e-10)
@given(*[st.none() | st.floats() | st.integers()] * 2)
def test_the_scale_is_always_a_finite_number_from_zero(count, days):
    scale = compute_engagement_scale(count, days)
    assert isinstance(scale, float)
    assert 0 <= scale < math.inf


# --- the facts ---

_NOTIFICATIONS = {
    "notification_id": pl.String,
    "user_id": pl.String,
    "org_id": pl.String,
    "feature": pl.String,
    "sent_at": pl.Int64,
}
_READS = {"notification_id": pl.String, "read_at": pl.Int64}
_STAYS = {"user_id": pl.String, "org_id": pl.String, "joined_at": pl.Int64, "left_at": pl.Int64}
_people, _orgs = st.sampled_from(("u1", "u2")), st.sampled_from(("o1", "O2", "ö3"))
_ids = st.sampled_from([f"n{number}" for number in range(6)])
_moments = st.integers(-6, 1).map(lambda away: _NOW + away)
_communities = st.fixed_dictionaries(
    {
        "notifications": st.lists(
            st.tuples(
                _ids, _people, st.none() | _orgs, st.sampled_from(("events", "polls")), _moments
            ),
            max_size=6,
            unique_by=lambda row: row[0],
        ),
        "reads": st.lists(st.tuples(_ids, _moments), max_size=10),
        "memberships": st.lists(st.tuples(_people, _orgs, _moments, st.none() | _moments)),
    }
)


def _facts(community, engine="polars"):
    schemas = {"notifications": _NOTIFICATIONS, "reads": _READS, "memberships": _STAYS}
    frames = {
        name: pl.DataFrame(community[name], schema, orient="row")
        for name, schema in schemas.items()
    }
    found = computed_by(
        engine, lambda **tables: notification_facts(**tables, as_of=_AS_OF), **frames
    )
    assert found.columns == [
        "notification_id",
        "org_id",
        "user_id",
        "feature",
        "sent_at",
        "first_read_at",
        "attribution",
    ]
    return sorted(found.rows())


def _expected_facts(community):
    rows = []
    for notification_id, user, named, feature, sent_at in community["notifications"]:
        if sent_at > _NOW:
            continue
        reads = [at for read, at in community["reads"] if read == notification_id and at <= _NOW]
        first_read_at = min(reads) if reads else None
        at = sent_at if first_read_at is None else first_read_at
        holding = []
        for person, org, joined_at, left_at in community["memberships"]:
            if person == user and joined_at <= at and (left_at is None or left_at > at):
                holding.append((joined_at, org))
        if named is not None:
            org, attribution = named, "explicit"
        elif holding:
            org = min(holding)[1]
            attribution = "sole" if len({o for _, o in holding}) == 1 else "primary"
        else:
            continue
        rows.append((notification_id, org, user, feature, sent_at, first_read_at, attribution))
    return sorted(rows)


@given(_communities)
@settings(max_examples=100)
def test_the_facts_are_what_going_through_each_notification_finds(community):
    assert _facts(community) == _expected_facts(community)


@given(_communities)
@settings(max_examples=12)
def test_every_engine_finds_those_facts(community):
    for engine in ENGINES[1:]:
        assert _facts(community, engine) == _expected_facts(community)


def _notification(sent_days_ago=2, org_id=None):
    return ("n1", "u1", org_id, "events", _NOW - sent_days_ago)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_revisit_never_counts_as_a_second_engagement(engine):
    community = {
        "notifications": [_notification(sent_days_ago=9)],
        "reads": [("n1", _NOW - 4), ("n1", _NOW - 6), ("n1", _NOW), ("n1", _NOW - 6)],
        "memberships": [("u1", "o1", _NOW - 50, None)],
    }
    assert _facts(community, engine) == [("n1", "o1", "u1", "events", _NOW - 9, _NOW - 6, "sole")]


def test_who_joined_another_organisation_before_reading_reads_as_a_member_of_both():
    community = {
        "notifications": [_notification(sent_days_ago=9)],
        "reads": [("n1", _NOW - 3)],
        "memberships": [("u1", "old", _NOW - 50, None), ("u1", "new", _NOW - 5, None)],
    }
    assert [row[1:2] + row[-1:] for row in _facts(community)] == [("old", "primary")]
    assert [row[-1] for row in _facts({**community, "reads": []})] == ["sole"]


def test_what_a_past_moment_did_not_know_changes_nothing_for_it():
    community = {
        "notifications": [_notification()],
        "reads": [("n1", _NOW + 1)],
        "memberships": [("u1", "o1", _NOW - 50, None)],
    }
    assert _facts(community)[0][-2] is None
    assert _facts({**community, "notifications": [_notification(sent_days_ago=-1)]}) == []


# --- what is learned ---

_FEATURES, _HOW = ("events", "polls"), ("explicit", "sole", "primary")
_cells = st.tuples(st.sampled_from(("o1", "o2")), st.sampled_from(_FEATURES), st.sampled_from(_HOW))
_engaged = st.dictionaries(_cells, st.integers(0, 40))
_sent = st.dictionaries(
    _cells, st.integers(0, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
)
_PRIORS = GroupPriors({"events": BetaPrior(2.0, 6.0)}, BetaPrior(4.0, 1.0))


def _engaged_frame(engaged):
    return pl.DataFrame(
        [(*cell, n) for cell, n in engaged.items()],
        {"org_id": pl.String, "feature": pl.String, "attribution": pl.String, "n": pl.Int64},
        orient="row",
    )


def _sent_frame(sent):
    return pl.DataFrame(
        [(*cell, *counts) for cell, counts in sent.items()],
        {
            **dict.fromkeys(("org_id", "feature", "attribution"), pl.String),
            "n_sent": pl.Int64,
            "n_read": pl.Int64,
        },
        orient="row",
    )


def _learned(engaged=None, sent=None, *, days=30, org_ids=("o1", "o2"), priors=_PRIORS):
    frame = learn_engagement(
        org_ids, _engaged_frame(engaged or {}), _sent_frame(sent or {}), days=days, priors=priors
    )
    assert frame.schema == LEARNED_SCHEMA
    assert frame.equals(frame.sort("org_id", "key"))
    rows = {(row["org_id"], row["key"]): row for row in frame.to_dicts()}
    assert len(rows) == frame.height
    return rows


def _expected_rates(engaged, sent, days):
    """(value, lower, upper, n) by organisation and key, one by one."""
    rows = {}
    for org in ("o1", "o2"):
        for feature in _FEATURES:
            cells = [(org, feature, how) for how in _HOW]
            reads = [engaged.get(cell, 0) for cell in cells]
            parts = [("", sum(reads), reads[0] + reads[1]), ("-primary", reads[2], reads[2])]
            for suffix, count, n in parts:
                if count:
                    low = stats.chi2.ppf(0.025, 2 * count) / 2
                    high = stats.chi2.ppf(0.975, 2 * count + 2) / 2
                    rates = [round(x / days, 4) for x in (count, low, high)]
                    rows[org, f"engagement-rate{suffix}:{feature}"] = (*rates, n)
            n_sent, n_read = zip(*[sent.get(cell, (0, 0)) for cell in cells], strict=True)
            certain = n_sent[0] + n_sent[1]
            for suffix, k, of, n in [
                ("", sum(n_read), sum(n_sent), certain),
                ("-primary", n_read[2], n_sent[2], n_sent[2]),
            ]:
                if of:
                    ends = stats.binomtest(k, of).proportion_ci(0.95, method="wilson")
                    rows[org, f"read-rate{suffix}:{feature}"] = (k / of, ends.low, ends.high, n)
            if sum(n_sent):
                prior = _PRIORS.of(feature)
                alpha = prior.alpha + sum(n_read)
                beta = prior.beta + sum(n_sent) - sum(n_read)
                ends = [stats.beta.ppf(tail, alpha, beta) for tail in (0.025, 0.975)]
                rows[org, f"read-rate-shrunk:{feature}"] = (alpha / (alpha + beta), *ends, certain)
    return rows


@given(_engaged, _sent, st.sampled_from((30, 7, 1)))
@settings(max_examples=60)
def test_what_is_learned_is_what_going_through_each_feature_finds(engaged, sent, days):
    expected = _expected_rates(engaged, sent, days)
    found = _learned(engaged, sent, days=days)
    assert found.keys() == expected.keys()
    for key, row in found.items():
        numbers = (row["value"], row["lower"], row["upper"], row["n"])
        assert numbers == pytest.approx(expected[key], abs=1e-9)


@given(_engaged, _sent)
@settings(max_examples=30)
def test_each_organisation_learns_alone_what_it_learns_among_others(engaged, sent):
    together = _learned(engaged, sent)
    alone = [_learned(engaged, sent, org_ids=[org]) for org in ("o1", "o2")]
    assert {key: row for rows in alone for key, row in rows.items()} == together


def test_a_feature_without_signals_gets_no_engagement_rate_and_one_not_sent_no_read_rate():
    found = _learned({("o1", "events", "sole"): 0}, {("o1", "polls", "sole"): (0, 0)})
    assert found == {}
    found = _learned({("o1", "events", "sole"): 1}, {("o1", "polls", "sole"): (4, 0)})
    assert {key for _, key in found} == {
        "engagement-rate:events",
        "read-rate:polls",
        "read-rate-shrunk:polls",
    }
    assert found["o1", "read-rate:polls"]["value"] == 0


def test_best_effort_reads_count_in_the_rate_but_not_in_what_it_rests_on():
    found = _learned({("o1", "events", "explicit"): 6, ("o1", "events", "primary"): 3})
    both, primary = (
        found["o1", f"{key}:events"] for key in ("engagement-rate", "engagement-rate-primary")
    )
    assert (both["value"], both["n"]) == (0.3, 6)
    assert (primary["value"], primary["n"]) == (0.1, 3)


def test_organisations_with_a_feature_in_common_lend_one_another_certainty():
    sent = {(f"o{i}", "events", "sole"): (40, 20 + i % 3) for i in range(9)}
    sent["small", "events", "sole"] = (1, 0)
    priors = read_rate_priors(_sent_frame(sent))
    counts = list(sent.values())
    fitted = fit_prior([read for _, read in counts], [n for n, _ in counts])
    assert priors.of("events").mean == pytest.approx(fitted.mean, rel=1e-3)
    found = _learned(sent=sent, org_ids=["small"], priors=priors)
    assert found["small", "read-rate:events"]["value"] == 0
    assert 0.45 < found["small", "read-rate-shrunk:events"]["value"] < 0.55


def test_a_prior_is_of_organisations_whatever_way_their_notifications_are_attributed():
    apart = {("o1", "events", how): (10, 5) for how in _HOW}
    assert read_rate_priors(_sent_frame(apart)).of("events") == JEFFREYS


@pytest.mark.parametrize(
    ("engaged", "sent", "found"),
    [
        ({("o1", "events", "sole"): -1}, {}, "'n': -1"),
        ({("o1", "events", "sole"): None}, {}, "'n': None"),
        ({("o1", "events", "guessed"): 1}, {}, "'attribution': 'guessed'"),
        ({("o1", "events", None): 1}, {}, "'attribution': None"),
        ({}, {("o1", "events", "sole"): (3, 4)}, "'n_sent': 3, 'n_read': 4"),
        ({}, {("o1", "events", "sole"): (-3, -4)}, "'n_sent': -3, 'n_read': -4"),
    ],
)
def test_counts_that_cannot_be_are_named_and_trouble_only_their_organisation(engaged, sent, found):
    with pytest.raises(ValueError, match=f"expected attributions of explicit.*found.*{found}"):
        _learned(engaged, sent)
    assert _learned(engaged, sent, org_ids=["o2"]) == {}


@pytest.mark.parametrize("days", [0, -30, math.nan, math.inf])
def test_a_window_must_have_a_length(days):
    with pytest.raises(ValueError, match=f"days must be a positive number, and it is {days}"):
        _learned(days=days)


def test_a_frame_that_lacks_a_column_is_refused_with_what_it_has():
    engaged = _engaged_frame({}).drop("attribution")
    with pytest.raises(ValueError, match=r"expected the columns .*'attribution'.* found .*'n'\]"):
        learn_engagement(["o1"], engaged, _sent_frame({}), days=30, priors=_PRIORS)
    with pytest.raises(ValueError, match="expected the columns"):
        read_rate_priors(_sent_frame({}).drop("n_sent"))
