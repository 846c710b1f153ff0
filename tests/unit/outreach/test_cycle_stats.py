"""Counts of decisions, and that their sums agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts.vocabulary import SEGMENTS, SKIP_REASONS
from engagement_pipeline.outreach.cycle_stats import CycleStats
from engagement_pipeline.outreach.decision import TONE_OF_SEGMENT, Decision

EVERY = [
    *(Decision(True, segment, TONE_OF_SEGMENT[segment], None) for segment in SEGMENTS),
    *(Decision(False, None, None, reason) for reason in SKIP_REASONS),
]
some_decisions = st.lists(st.sampled_from(EVERY), max_size=40)


@given(some_decisions)
def test_the_sums_agree_and_every_word_has_its_count(decisions):
    stats = CycleStats.of(iter(decisions))
    assert stats.total == len(decisions) == stats.eligible + stats.skipped
    assert stats.eligible == sum(decision.eligible for decision in decisions)
    assert tuple(stats.by_segment) == SEGMENTS
    assert tuple(stats.skip_reasons) == SKIP_REASONS
    for segment, count in stats.by_segment.items():
        assert count == sum(decision.segment == segment for decision in decisions)
    for reason, count in stats.skip_reasons.items():
        assert count == sum(decision.reason == reason for decision in decisions)
    assert stats.eligible == sum(stats.by_segment.values())
    assert stats.skipped == sum(stats.skip_reasons.values())


@given(some_decisions, some_decisions)
def test_counts_of_two_organisations_add_up_to_those_of_both(one, other):
    assert CycleStats.of(one) + CycleStats.of(other) == CycleStats.of([*one, *other])


@pytest.mark.parametrize(
    "stray",
    [
        Decision(True, "ghost", "warm", None),
        Decision(True, None, None, None),
        Decision(False, None, None, "asleep"),
        Decision(False, "normal", None, None),
    ],
)
def test_a_decision_with_a_word_of_its_own_is_refused(stray):
    with pytest.raises(ValueError, match="decisions: expected one of"):
        CycleStats.of([stray])
