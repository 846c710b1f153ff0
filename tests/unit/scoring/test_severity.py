"""How grave an at-risk flag is."""

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.scoring.severity import severity

some_inactive_days = st.integers(1, 3_650)


def severities(days: list[int | None], inactive_days: int) -> list[str | None]:
    frame = pl.DataFrame({"days": days}, schema={"days": pl.Int64})
    return frame.select(severity(pl.col("days"), inactive_days)).to_series().to_list()


def plain_severity(days: int, inactive_days: int) -> str:
    gone = Fraction(days, inactive_days)
    return "low" if gone < Fraction(1, 3) else "medium" if gone < Fraction(2, 3) else "high"


@given(st.data(), some_inactive_days)
def test_severity_is_how_many_thirds_of_the_way_to_inactivity_are_gone(
    data: st.DataObject, inactive_days: int
) -> None:
    edges = [third * inactive_days // 3 + by for third in range(4) for by in (-1, 0, 1)]
    days = data.draw(st.lists(st.sampled_from(edges) | st.integers(0, 9_999), max_size=20))
    wanted = [plain_severity(one, inactive_days) for one in days]
    assert severities([*days], inactive_days) == wanted


@given(some_inactive_days)
def test_longer_silence_is_never_less_grave(inactive_days: int) -> None:
    places = [
        vocabulary.FLAG_SEVERITIES.index(one or "")
        for one in severities([*range(0, 3_700, 7)], inactive_days)
    ]
    assert places == sorted(places)
    assert severities([inactive_days], inactive_days) == ["high"]


def test_a_default_organisations_flags_are_low_for_two_months_and_medium_for_two_more() -> None:
    assert severities([0, 59, 60, 119, 120], 180) == ["low", "low", "medium", "medium", "high"]


def test_what_is_not_known_has_no_severity() -> None:
    assert severities([None, 0], 180) == [None, "low"]


def test_a_threshold_below_a_day_is_refused() -> None:
    with pytest.raises(ValueError, match="inactive_days: expected at least 1, found 0"):
        severities([1], 0)
