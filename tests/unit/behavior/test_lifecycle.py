"""Where members stand by periods, against walking through their days."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.behavior.lifecycle import lifecycle_state
from engagement_pipeline.behavior.local_time import INSTANT
from engagement_pipeline.contracts.vocabulary import LIFECYCLE_STATES

_AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
_START = _AS_OF - timedelta(days=30)


def _state(days_ago):
    """The state of who was active so many days ago, told from the two moments that matter."""
    moments = [_AS_OF - timedelta(days=days) for days in days_ago]
    row = {
        "last_at": max(moments, default=None),
        "last_before": max((m for m in moments if m <= _START), default=None),
    }
    frame = pl.DataFrame([row], schema=dict.fromkeys(row, INSTANT))
    start = pl.lit(_START, dtype=INSTANT)
    return frame.select(
        lifecycle_state(pl.col("last_at"), pl.col("last_before"), start).alias("state")
    ).item()


def _expected(days_ago):
    periods = {int(days // 30) for days in days_ago}
    if not periods:
        return None
    if 0 not in periods:
        return "dormant"
    if periods == {0}:
        return "new"
    return "returning" if 1 in periods else "resurrecting"


@given(st.lists(st.integers(0, 60 * 24).map(lambda hours: hours / 12), max_size=6))
def test_a_state_is_what_looking_into_each_period_says(days_ago):
    assert _state(days_ago) == _expected(days_ago)


@pytest.mark.parametrize(
    ("days_ago", "state"),
    [
        ([0], "new"),
        ([29.999], "new"),
        ([30], "dormant"),
        ([0, 30], "returning"),
        ([0, 59.999], "returning"),
        ([0, 60], "resurrecting"),
        ([0, 45, 60], "returning"),
        ([400], "dormant"),
        ([], None),
    ],
)
def test_a_period_has_its_end_in_it_and_not_its_start(days_ago, state):
    assert _state(days_ago) == state
    assert state is None or state in LIFECYCLE_STATES
