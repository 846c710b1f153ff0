"""Thresholds that follow what admins decide, a step at a time."""

from collections.abc import Mapping
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.contracts.vocabulary import THRESHOLD_BOUNDS, THRESHOLDS
from engagement_pipeline.loops.calibration import LEARNED_SCHEMA, in_force, new_versions
from engagement_pipeline.loops.threshold import (
    SIGNALS,
    STEPS,
    WINDOW,
    Overridden,
    is_too_soon,
    learn_thresholds,
    step_towards,
    tune,
    tuned_thresholds,
)
from engagement_pipeline.scoring import Thresholds, with_baseline

Row = dict[str, Any]

MONDAY = datetime(2026, 3, 2, 5, tzinfo=UTC)
WEEK = timedelta(days=7)
VERSIONS = contract("loops.calibrations")
OVERRIDES_SCHEMA = {
    "org_id": pl.String,
    "performed_at": pl.Datetime("us", "UTC"),
    "admin_level": pl.String,
    "events_attended_total": pl.Int64,
    **dict.fromkeys(SIGNALS, pl.Int64),
}


def override(level: str, attended: int = 0, joined: int = 900, active: int = 1, **more: Any) -> Row:
    return {
        "org_id": "o",
        "performed_at": MONDAY - WEEK,
        "admin_level": level,
        "events_attended_total": attended,
        "events_attended_90d": attended,
        "days_since_joined": joined,
        "days_since_active": active,
        **more,
    }


def frame_of(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=OVERRIDES_SCHEMA)


@st.composite
def some_thresholds(draw: st.DrawFn, *, largest: int = 3_650) -> Thresholds:
    highly = draw(st.integers(1, min(largest, 8)))
    return Thresholds(
        highly_engaged_min=highly,
        moderate_min=draw(st.integers(1, highly)),
        new_member_days=draw(st.integers(0, largest) | st.integers(0, 12)),
        inactive_days=draw(st.integers(1, largest) | st.integers(1, 12)),
    )


# Near the lowest values, where bounds matter, and few enough for members to be alike.
some_overrides = st.lists(
    st.builds(
        override,
        st.sampled_from(vocabulary.LEVELS),
        st.integers(0, 6),
        st.integers(0, 40),
        st.integers(0, 40),
    ),
    max_size=25,
)


# The attendance alone is at issue, so that both of its thresholds move and get in each other's way.
some_disputes = st.lists(
    st.builds(override, st.sampled_from(["at_risk", "moderate"]), st.integers(0, 6)), max_size=12
)


def plain_agreed(rows: list[Row], thresholds: Thresholds) -> int:
    """By the written rules themselves."""
    levels = with_baseline(frame_of(*rows), thresholds)["baseline_level"]
    return sum(a == b["admin_level"] for a, b in zip(levels, rows, strict=True))


@given(some_overrides, some_thresholds())
def test_agreement_is_counted_by_the_written_rules(rows: list[Row], thresholds: Thresholds) -> None:
    assert Overridden(frame_of(*rows)).agreed(thresholds) == plain_agreed(rows, thresholds)


# --- The best thresholds -------------------------------------------------------------------------


def plain_best_along(
    name: str, found: Thresholds, current: Thresholds, agreed: Mapping[Thresholds, int]
) -> Thresholds:
    """The best value of a threshold, every single one up to a lowly bound being tried."""
    place = THRESHOLDS.index(name)

    def others(one: Thresholds) -> tuple[int, ...]:
        return astuple(one)[:place] + astuple(one)[place + 1 :]

    line = [one for one in agreed if others(one) == others(found)]
    home = getattr(current, name)

    def preference(one: Thresholds) -> tuple[int, int, int]:
        value = getattr(one, name)
        return (-agreed[one], abs(value - home), value)

    return min(line, key=preference)


def grid(largest: int) -> list[Thresholds]:
    lowest = [THRESHOLD_BOUNDS[name][0] for name in THRESHOLDS]
    values = product(*(range(low, largest + 1) for low in lowest))
    return [Thresholds(*found) for found in values if found[1] <= found[0]]


GRID = grid(4)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(GRID))
def test_the_search_finds_what_trying_every_value_in_turn_finds(
    data: st.DataObject, current: Thresholds
) -> None:
    member = st.builds(
        override,
        st.sampled_from(vocabulary.LEVELS),
        *[st.integers(0, 3) for _ in SIGNALS],
    )
    rows = data.draw(st.lists(member, max_size=15))
    agreed = {}
    for one in GRID:
        levels = [plain_level(row, one) for row in rows]
        agreed[one] = sum(a == b["admin_level"] for a, b in zip(levels, rows, strict=True))
    wanted, before = current, None
    while wanted != before:
        before = wanted
        for name in THRESHOLDS:
            wanted = plain_best_along(name, wanted, current, agreed)
    assert Overridden(frame_of(*rows)).best_near(current) == wanted


def plain_level(row: Row, limits: Thresholds) -> str:
    if row["events_attended_90d"] >= limits.highly_engaged_min:
        return "highly_engaged"
    if row["days_since_joined"] < limits.new_member_days:
        return "new"
    if row["events_attended_90d"] >= limits.moderate_min:
        return "moderate"
    return "inactive" if row["days_since_active"] >= limits.inactive_days else "at_risk"


@settings(max_examples=60, deadline=None)
@given(some_overrides, some_thresholds())
def test_the_best_thresholds_agree_no_less_and_none_alone_would_agree_more(
    rows: list[Row], current: Thresholds
) -> None:
    members = Overridden(frame_of(*rows))
    best = members.best_near(current)
    assert members.agreed(best) >= members.agreed(current)
    for name, by in product(THRESHOLDS, (-9, -1, 1, 9)):
        lowest, highest = THRESHOLD_BOUNDS[name]
        values = vars(best) | {name: min(max(getattr(best, name) + by, lowest), highest)}
        if values["moderate_min"] <= values["highly_engaged_min"]:
            assert members.agreed(Thresholds(**values)) <= members.agreed(best)
    if best != current:
        assert members.agreed(best) > members.agreed(current)


def test_a_threshold_goes_no_further_than_the_members_who_speak_for_it() -> None:
    rows = [override("at_risk", 0, active=active) for active in (200, 250, 300)]
    assert Overridden(frame_of(*rows)).best_near(Thresholds()) == Thresholds(inactive_days=301)
    rows = [override("moderate", attended) for attended in (3, 4, 5)]
    assert Overridden(frame_of(*rows)).best_near(Thresholds()) == Thresholds(highly_engaged_min=6)
    rows = [override("new", 1, joined=joined) for joined in (70, 100)]
    assert Overridden(frame_of(*rows)).best_near(Thresholds()) == Thresholds(new_member_days=101)


def test_the_thresholds_of_attendance_may_go_down_together_but_never_past_each_other() -> None:
    # First moderate goes down to 2 for the one, then highly engaged for the two; where moderate
    # was does not count any more, and its nearest place to there is now 2.
    rows = [override("moderate", 2), *(override("highly_engaged", 2) for _ in range(2))]
    current = Thresholds(highly_engaged_min=5, moderate_min=3)
    best = Overridden(frame_of(*rows)).best_near(current)
    assert best == Thresholds(highly_engaged_min=2, moderate_min=2)


def test_a_threshold_comes_home_where_its_evidence_has_gone() -> None:
    # First moderate begins at 6 for the one; then all three are new, and it does not matter.
    rows = [override("at_risk", 5, joined=70)]
    rows += [override("new", 5, joined=70) for _ in range(2)]
    current = Thresholds(highly_engaged_min=9, moderate_min=2)
    best = Overridden(frame_of(*rows)).best_near(current)
    assert best == Thresholds(highly_engaged_min=9, moderate_min=2, new_member_days=71)


# --- A step ------------------------------------------------------------------------------------


@given(some_thresholds(), some_thresholds())
def test_a_step_is_never_further_than_allowed_and_never_past_the_aim(
    current: Thresholds, best: Thresholds
) -> None:
    stepped = step_towards(current, best)
    for name, step in STEPS.items():
        moved = getattr(stepped, name) - getattr(current, name)
        left = getattr(best, name) - getattr(current, name)
        assert abs(moved) == min(step, abs(left))
        assert moved * left >= 0


def test_thresholds_move_by_one_event_one_week_or_two() -> None:
    assert tuple(STEPS) == THRESHOLDS
    assert tuple(STEPS.values()) == (1, 1, 7, 14)


@settings(max_examples=100, deadline=None)
@given(some_overrides, some_thresholds())
def test_tuning_moves_by_steps_and_never_agrees_less(rows: list[Row], current: Thresholds) -> None:
    tuned = tune(frame_of(*rows), current)
    for name, step in STEPS.items():
        assert abs(getattr(tuned, name) - getattr(current, name)) <= step
    assert plain_agreed(rows, tuned) >= plain_agreed(rows, current)


@settings(max_examples=100, deadline=None)
@given(some_disputes, some_thresholds(largest=12))
def test_no_other_choice_of_steps_agrees_more_than_the_one_that_was_made(
    rows: list[Row], current: Thresholds
) -> None:
    members = Overridden(frame_of(*rows))
    whole = step_towards(current, members.best_near(current))
    tuned = tune(frame_of(*rows), current)
    if members.agreed(whole) >= members.agreed(current):
        assert tuned == whole
        return
    choices = []
    for values in product(*zip(astuple(current), astuple(whole), strict=True)):
        if values[1] <= values[0]:
            moved = sum(a != b for a, b in zip(values, astuple(current), strict=True))
            choices.append((members.agreed(Thresholds(*values)), moved))
    moved = sum(a != b for a, b in zip(astuple(tuned), astuple(current), strict=True))
    assert (members.agreed(tuned), moved) == max(choices)


def test_steps_that_undo_each_other_are_not_made_together() -> None:
    # Best is moderate from 3 and highly engaged from 5: three agree then, but with a step of
    # each, to 2 and 4, none.
    rows = [override("moderate", 1), override("moderate", 4)]
    rows += [override("at_risk", 2) for _ in range(2)]
    best = Thresholds(highly_engaged_min=5, moderate_min=3)
    assert Overridden(frame_of(*rows)).best_near(Thresholds()) == best
    assert plain_agreed(rows, Thresholds()) == 1
    assert plain_agreed(rows, step_towards(Thresholds(), best)) == 0
    assert tune(frame_of(*rows), Thresholds()) == Thresholds(highly_engaged_min=4)


def test_a_step_that_only_holds_with_another_is_not_made_alone() -> None:
    # Best is moderate from 3 and highly engaged from 7. From 1 and 1 both go to 2, which agrees
    # with nobody; moderate alone would begin above highly engaged.
    rows = [override("moderate", 3), override("moderate", 6), override("at_risk", 2)]
    rows.append(override("highly_engaged", 1))
    current = Thresholds(highly_engaged_min=1)
    best = Overridden(frame_of(*rows)).best_near(current)
    assert (best.highly_engaged_min, best.moderate_min) == (7, 3)
    assert tune(frame_of(*rows), current) == current


# --- What is learned, week by week ---------------------------------------------------------------


def learned_of(
    rows: list[Row],
    current: Thresholds | None = None,
    versions: pl.DataFrame | None = None,
    as_of: datetime = MONDAY,
) -> pl.DataFrame:
    known = VERSIONS.empty() if versions is None else versions
    learned = learn_thresholds(frame_of(*rows), {"o": current or Thresholds()}, known, as_of=as_of)
    assert learned.schema == LEARNED_SCHEMA
    return learned


def values_of(learned: pl.DataFrame) -> dict[str, float]:
    return {
        key.removeprefix("threshold:"): value
        for key, value in learned.select("key", "value").iter_rows()
    }


def with_version(versions: pl.DataFrame, learned: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    fresh = new_versions(learned, window_start=as_of - WINDOW, as_of=as_of, versions=versions)
    return pl.concat([versions, fresh])


def applied(versions: pl.DataFrame, as_of: datetime) -> Thresholds:
    tuned = tuned_thresholds(in_force(versions, as_of=as_of))
    return Thresholds().with_tuned(tuned.get("o", {}))


TOO_KEEN = [override("moderate", 5) for _ in range(30)]


def test_thirty_overrides_one_way_move_one_threshold_by_exactly_one_step() -> None:
    learned = learned_of(TOO_KEEN)
    assert values_of(learned) == vars(Thresholds(highly_engaged_min=4))
    assert learned["n"].to_list() == [30] * 4
    assert learned["lower"].null_count() == learned["upper"].null_count() == 4
    assert learned["key"].to_list() == sorted(f"threshold:{name}" for name in THRESHOLDS)


def test_thresholds_that_are_applied_move_on_each_week_until_admins_agree() -> None:
    versions, found = VERSIONS.empty(), []
    for week in range(6):
        as_of = MONDAY + week * WEEK
        learned = learned_of(TOO_KEEN, applied(versions, as_of), versions, as_of)
        versions = with_version(versions, learned, as_of)
        found.append(applied(versions, as_of).highly_engaged_min)
    assert found == [4, 5, 6, 6, 6, 6]


def test_thresholds_that_are_only_shown_stay_a_step_from_the_organisations_own() -> None:
    versions = with_version(VERSIONS.empty(), learned_of(TOO_KEEN), MONDAY)
    later = MONDAY + WEEK
    assert values_of(learned_of(TOO_KEEN, None, versions, later))["highly_engaged_min"] == 4


@pytest.mark.parametrize("hours", [1, 24, 155])
def test_within_the_week_nothing_moves_further(hours: int) -> None:
    versions = with_version(VERSIONS.empty(), learned_of(TOO_KEEN), MONDAY)
    as_of = MONDAY + timedelta(hours=hours)
    again = learned_of(TOO_KEEN, applied(versions, as_of), versions, as_of)
    assert values_of(again) == vars(Thresholds(highly_engaged_min=4))


def test_a_run_every_day_holds_back_no_weekly_step() -> None:
    versions, found = VERSIONS.empty(), []
    for days in range(15):
        as_of = MONDAY + timedelta(days=days)
        learned = learned_of(TOO_KEEN, applied(versions, as_of), versions, as_of)
        versions = with_version(versions, learned, as_of)
        found.append(applied(versions, as_of).highly_engaged_min)
    assert found == [4] * 7 + [5] * 7 + [6]


def test_the_same_moment_again_gives_the_same() -> None:
    learned = learned_of(TOO_KEEN)
    versions = with_version(VERSIONS.empty(), learned, MONDAY)
    assert learned_of(TOO_KEEN, None, versions).equals(learned)
    assert learned_of(TOO_KEEN, applied(versions, MONDAY), versions).equals(learned)


def test_what_was_learned_later_is_invisible() -> None:
    versions = with_version(VERSIONS.empty(), learned_of(TOO_KEEN, as_of=MONDAY), MONDAY)
    early = [{**row, "performed_at": MONDAY - 3 * WEEK} for row in TOO_KEEN]
    before = learned_of(early, Thresholds(9), versions, MONDAY - timedelta(days=1))
    assert values_of(before)["highly_engaged_min"] == 9


def test_one_organisations_step_rests_no_other() -> None:
    versions = with_version(VERSIONS.empty(), learned_of(TOO_KEEN), MONDAY)
    others = versions.with_columns(org_id=pl.lit("p"), value=pl.lit(9.0))
    as_of = MONDAY + timedelta(days=1)
    assert learned_of(TOO_KEEN, None, others, as_of)["value"].max() == 180
    assert values_of(learned_of(TOO_KEEN, None, others, as_of))["highly_engaged_min"] == 4


def test_nineteen_overrides_teach_nothing() -> None:
    assert learned_of(TOO_KEEN[:19]).is_empty()
    assert learned_of(TOO_KEEN[:20]).height == 4
    assert learned_of([]).is_empty()


def test_overrides_that_contradict_each_other_move_nothing() -> None:
    rows = [override(("moderate", "highly_engaged")[n % 2], 3) for n in range(30)]
    learned = learned_of(rows)
    assert values_of(learned) == vars(Thresholds())
    assert learned["n"].to_list() == [30] * 4


def test_only_overrides_of_the_window_count() -> None:
    early = [override("moderate", 3, performed_at=MONDAY - WINDOW) for _ in range(30)]
    late = [override("moderate", 3, performed_at=MONDAY + timedelta(seconds=1)) for _ in range(30)]
    assert learned_of(early + late).is_empty()
    edge = [override("moderate", 3, performed_at=MONDAY) for _ in range(19)]
    first = override("moderate", 3, performed_at=MONDAY - WINDOW + timedelta(seconds=1))
    assert set(learned_of([*early, *late, *edge, first])["n"]) == {20}


def test_each_organisation_learns_from_its_own_admins() -> None:
    other = [override("at_risk", 2, org_id="p") for _ in range(20)]
    learned = learn_thresholds(
        frame_of(*TOO_KEEN, *other),
        {"p": Thresholds(inactive_days=99), "o": Thresholds()},
        VERSIONS.empty(),
        as_of=MONDAY,
    )
    found = {
        org_id: values_of(own)
        for (org_id,), own in learned.partition_by("org_id", as_dict=True).items()
    }
    assert found == {
        "o": vars(Thresholds(highly_engaged_min=4)),
        "p": vars(Thresholds(moderate_min=2, inactive_days=99)),
    }
    assert learned.rows() == sorted(learned.rows())


@pytest.mark.parametrize(
    ("moved_ago", "rests"),
    [
        (None, False),
        (timedelta(), True),
        (timedelta(days=6.49), True),
        (timedelta(days=6.5), False),
    ],
)
def test_thresholds_rest_for_six_days_and_a_half(moved_ago: timedelta | None, rests: bool) -> None:
    moved_at = None if moved_ago is None else MONDAY - moved_ago
    assert is_too_soon(moved_at, MONDAY) == rests


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop("days_since_active"), "found none of days_since_active"),
        (lambda f: f.with_columns(days_since_joined=None), "found some in days_since_joined"),
        (lambda f: f.with_columns(admin_level=pl.lit("keen")), "admin_level: .*found 'keen'"),
        (lambda f: f.with_columns(org_id=pl.lit("x")), "thresholds of the org 'x', found none"),
    ],
)
def test_overrides_that_cannot_be_used_are_refused_with_what_was_found(
    spoil: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        learn_thresholds(
            spoil(frame_of(*TOO_KEEN)), {"o": Thresholds()}, VERSIONS.empty(), as_of=MONDAY
        )


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="as_of: expected a time zone"):
        learned_of(TOO_KEEN, as_of=MONDAY.replace(tzinfo=None))
