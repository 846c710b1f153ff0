"""The numbers that members may be written to by."""

from datetime import timedelta

import pytest

from engagement_pipeline.outreach.policy import Policy, PolicyError
from engagement_pipeline.settings.outreach import OutreachKnobs

NAMES = (
    "inactivity_threshold_seconds",
    "new_user_delay_seconds",
    "message_frequency_hours",
    "min_gap_hours",
    "daily_cap",
)


def test_the_numbers_are_those_of_the_settings_unless_told_otherwise():
    knobs = OutreachKnobs()
    assert Policy() == Policy(**{name: getattr(knobs, name) for name in NAMES})


def test_spans_are_the_numbers_in_their_units():
    policy = Policy(60, 120, 5, 7, 3)
    assert policy.inactivity_threshold == timedelta(minutes=1)
    assert policy.new_user_delay == timedelta(minutes=2)
    assert policy.message_frequency == timedelta(hours=5)
    assert policy.min_gap == timedelta(hours=7)


def test_policies_with_the_same_numbers_are_equal_whatever_was_asked_of_them():
    asked = Policy()
    assert asked.min_gap
    assert asked == Policy()
    assert hash(asked) == hash(Policy())


def bounds_of(name):
    """The bounds of the knob that a number comes from."""
    lowest, highest = OutreachKnobs.model_fields[name].metadata
    return lowest.ge, highest.le


@pytest.mark.parametrize("name", NAMES)
def test_a_number_has_the_bounds_of_its_setting(name):
    lowest, highest = bounds_of(name)
    for value in (lowest, highest):
        assert getattr(Policy(**{name: value}), name) == value
    for value in (lowest - 1, highest + 1):
        with pytest.raises(PolicyError, match=rf"{name}: expected .* {lowest} to {highest}.*"):
            Policy(**{name: value})


@pytest.mark.parametrize("value", [1.0, True, "24", None])
def test_a_number_that_is_not_whole_is_refused_by_name(value):
    with pytest.raises(PolicyError, match=f"min_gap_hours: .* found {value!r}"):
        Policy(min_gap_hours=value)
