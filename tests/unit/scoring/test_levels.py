"""The baseline and its thresholds."""

from dataclasses import FrozenInstanceError, fields, replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.scoring import (
    InvalidThresholdsError,
    OrgContext,
    Thresholds,
    with_baseline,
)
from engagement_pipeline.scoring.levels import Correction

COLUMNS = ("events_attended_90d", "events_attended_total", "days_since_joined", "days_since_active")


@st.composite
def some_thresholds(draw: st.DrawFn) -> Thresholds:
    highly = draw(st.integers(1, 8))
    return Thresholds(
        highly_engaged_min=highly,
        moderate_min=draw(st.integers(1, highly)),
        new_member_days=draw(st.integers(0, 12)),
        inactive_days=draw(st.integers(1, 12)),
    )


some_members = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 14), st.integers(0, 14)),
    max_size=30,
)


def signals_of(members: list[tuple[int, ...]]) -> pl.DataFrame:
    return pl.DataFrame(members, schema=dict.fromkeys(COLUMNS, pl.Int64), orient="row")


def plain_baseline(
    attended: int, ever: int, joined: int, active: int, limits: Thresholds
) -> tuple[str, str | None]:
    if attended >= limits.highly_engaged_min:
        return "highly_engaged", None
    if joined < limits.new_member_days:
        return "new", None
    if attended >= limits.moderate_min:
        return "moderate", None
    if active >= limits.inactive_days:
        return "inactive", None
    return "at_risk", "lapsed" if ever else "never_activated"


def baselines(members: list[tuple[int, ...]], limits: Thresholds) -> list[tuple[str, str | None]]:
    return with_baseline(signals_of(members), limits).select("baseline_level", "reason").rows()


@given(some_members, some_thresholds())
def test_the_baseline_is_what_the_rules_say_read_one_by_one(
    members: list[tuple[int, ...]], limits: Thresholds
) -> None:
    assert baselines(members, limits) == [plain_baseline(*m, limits) for m in members]


@given(some_members, some_thresholds())
def test_every_member_has_a_level_and_a_reason_exactly_when_at_risk(
    members: list[tuple[int, ...]], limits: Thresholds
) -> None:
    for level, reason in baselines(members, limits):
        assert level in vocabulary.LEVELS
        assert (reason in vocabulary.AT_RISK_REASONS) == (level == "at_risk")


@given(some_members, some_thresholds())
def test_a_new_member_is_never_at_risk_or_inactive(
    members: list[tuple[int, ...]], limits: Thresholds
) -> None:
    for (_, _, joined, _), (level, _) in zip(members, baselines(members, limits), strict=True):
        if joined < limits.new_member_days:
            assert level in ("new", "highly_engaged")


@given(some_members, some_thresholds())
def test_the_baseline_keeps_rows_and_columns_as_they_came(
    members: list[tuple[int, ...]], limits: Thresholds
) -> None:
    signals = signals_of(members)
    assert with_baseline(signals, limits).drop("baseline_level", "reason").equals(signals)


@pytest.mark.parametrize(
    ("member", "level"),
    [
        ((3, 3, 0, 0), "highly_engaged"),
        ((2, 2, 59, 0), "new"),
        ((2, 2, 60, 0), "moderate"),
        ((1, 1, 60, 500), "moderate"),
        ((0, 1, 300, 180), "inactive"),
        ((0, 1, 300, 179), "at_risk"),
        ((0, 0, 59, 59), "new"),
    ],
)
def test_the_default_thresholds_split_where_they_are_documented_to(
    member: tuple[int, ...], level: str
) -> None:
    assert baselines([member], Thresholds())[0][0] == level


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("highly_engaged_min", 0),
        ("highly_engaged_min", 1_001),
        ("highly_engaged_min", 2.0),
        ("moderate_min", 0),
        ("moderate_min", True),
        ("new_member_days", -1),
        ("new_member_days", 3_651),
        ("inactive_days", 0),
        ("inactive_days", "180"),
        ("inactive_days", None),
    ],
)
def test_a_threshold_out_of_bounds_is_named_with_what_was_expected_and_found(
    setting: str, value: object
) -> None:
    with pytest.raises(InvalidThresholdsError) as caught:
        Thresholds(**{setting: value})  # type: ignore[arg-type]
    assert caught.value.setting == setting
    assert caught.value.found is value
    assert str(caught.value) == f"{setting}: expected {caught.value.expected}, found {value!r}"
    assert "a whole number from" in caught.value.expected


def test_moderate_may_not_begin_above_highly_engaged() -> None:
    with pytest.raises(InvalidThresholdsError, match=r"moderate_min: .*highly_engaged_min \(2\)"):
        Thresholds(highly_engaged_min=2, moderate_min=3)
    assert Thresholds(highly_engaged_min=2, moderate_min=2).moderate_min == 2


def test_an_organisations_settings_stand_in_for_the_defaults_they_name() -> None:
    defaults = Thresholds()
    own = defaults.with_org_settings({"inactive_days": " 365 ", "highly_engaged_min": "5"})
    assert own == Thresholds(highly_engaged_min=5, inactive_days=365)
    assert defaults == Thresholds()
    assert defaults.with_org_settings({}) == defaults


def test_settings_that_only_agree_together_are_judged_together() -> None:
    own = Thresholds().with_org_settings({"moderate_min": "4", "highly_engaged_min": "6"})
    assert (own.moderate_min, own.highly_engaged_min) == (4, 6)
    with pytest.raises(InvalidThresholdsError, match="moderate_min"):
        Thresholds().with_org_settings({"moderate_min": "4"})


@pytest.mark.parametrize("text", ["", "3.5", "-1", "three", "1e3", "٣", "0x3", "1_0"])
def test_a_setting_that_is_no_whole_number_is_named(text: str) -> None:
    with pytest.raises(InvalidThresholdsError, match=r"^inactive_days: expected a whole number"):
        Thresholds().with_org_settings({"inactive_days": text})


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(InvalidThresholdsError, match=r"^colour: expected one of highly_engaged"):
        Thresholds().with_org_settings({"colour": "3"})


def test_an_organisation_may_set_every_threshold() -> None:
    assert set(vocabulary.THRESHOLDS) == {field.name for field in fields(Thresholds)}
    for setting in vocabulary.THRESHOLDS:
        found = Thresholds(highly_engaged_min=9).with_org_settings({setting: "7"})
        assert getattr(found, setting) == 7


def test_a_setting_that_is_no_threshold_changes_none() -> None:
    assert Thresholds().with_org_settings({"gamification_enabled": "0"}) == Thresholds()


def test_thresholds_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        Thresholds().moderate_min = 2  # type: ignore[misc]


@given(some_thresholds(), some_thresholds())
def test_all_four_tuned_thresholds_take_the_place_of_the_own(
    own: Thresholds, tuned: Thresholds
) -> None:
    values = {name: float(value) for name, value in vars(tuned).items()}
    assert own.with_tuned(values) == tuned
    assert own.with_tuned({}) == own
    assert own.with_tuned({"inactive_days": 99.0}) == replace(own, inactive_days=99)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inactive_days": 180.5}, r"^inactive_days: expected a whole number from 1 to 3650"),
        ({"inactive_days": float("nan")}, r"^inactive_days: expected a whole number"),
        ({"inactive_days": float("inf")}, r"^inactive_days: expected a whole number"),
        ({"inactive_days": 0.0}, r"^inactive_days: expected a whole number from 1 to 3650"),
        ({"colour": 3.0}, r"^colour: expected one of highly_engaged_min, .*, found 3.0"),
        ({"moderate_min": 4.0}, r"^moderate_min: expected at most highly_engaged_min \(3\)"),
    ],
)
def test_a_tuned_threshold_that_cannot_be_is_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidThresholdsError, match=message):
        Thresholds().with_tuned(values)


@pytest.mark.parametrize("levels", [("keen", "new"), ("new", "keen")])
def test_a_correction_is_between_known_levels(levels: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"_level: expected one of highly_engaged, .*found 'keen'"):
        Correction("3 2 1 0 8 0 180 ? 0 x +", *levels)


def test_a_classifier_is_told_of_three_corrections_at_most() -> None:
    one = Correction("3 2 1 0 8 0 180 ? 0 x +", "at_risk", "new")
    assert len(OrgContext("o", "Choir", None, Thresholds(), (one,) * 3).corrections) == 3
    with pytest.raises(ValueError, match="at most 3 of the org 'o', found 4"):
        OrgContext("o", "Choir", None, Thresholds(), (one,) * 4)
