"""Questions: one a profile, known by all that could change its answer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.scoring import prompt, questions
from engagement_pipeline.scoring.levels import OrgContext, Thresholds
from engagement_pipeline.scoring.profiles import Profile, with_profiles
from engagement_pipeline.scoring.questions import fingerprint_for, questions_about

AS_OF = datetime(2026, 5, 20, 4, tzinfo=UTC)
SCHEMA = contract("signals.member_90d").polars_schema
CHOIR = OrgContext("choir", "Choir", "We sing.", Thresholds())
PROFILE = Profile("3 2 1 0 8 0 180 ? 0 x +")

BY_MODEL = fingerprint_for("model-a", "tool")


def member(user: int, attended: int = 3, days_since_joined: int = 200) -> dict[str, Any]:
    return {
        "org_id": "choir",
        "user_id": f"u{user}",
        "as_of": AS_OF,
        "events_attended_90d": attended,
        "events_attended_prev_90d": 2,
        "events_attended_total": attended + 2,
        "last_attended_at": AS_OF - timedelta(days=9),
        "no_show_count_90d": 0,
        "rsvp_count_90d": 2,
        "event_view_count_90d": None,
        "notifications_sent_90d": None,
        "notifications_read_90d": None,
        "interaction_count_90d": 0,
        "profile_updated_at": None,
        "joined_at": AS_OF - timedelta(days=days_since_joined),
        "days_since_joined": days_since_joined,
        "last_active_at": AS_OF - timedelta(days=3),
        "days_since_active": 3,
    }


def signals_of(*attended: int) -> pl.DataFrame:
    return pl.DataFrame([member(u, n) for u, n in enumerate(attended)], schema=SCHEMA)


@given(st.lists(st.integers(0, 9), max_size=30))
def test_each_profile_is_asked_about_once_however_many_members_share_it(
    attended: list[int],
) -> None:
    signals = signals_of(*attended)
    found = questions_about(CHOIR, signals, BY_MODEL)
    texts = [question.profile.text for question in found.questions]
    assert texts == sorted(set(texts))
    assert len(texts) == len({min(n, 5) for n in attended})
    if attended:
        assert set(texts) == set(with_profiles(signals, CHOIR.thresholds)["profile"])
    assert found.members == len(attended)
    assert len({question.fingerprint for question in found.questions}) == len(texts)


def test_the_order_of_the_members_does_not_matter() -> None:
    assert questions_about(CHOIR, signals_of(1, 5, 3), BY_MODEL).questions == (
        questions_about(CHOIR, signals_of(3, 1, 5), BY_MODEL).questions
    )


def test_a_profile_never_straddles_the_organisations_thresholds() -> None:
    strict = OrgContext("choir", "Choir", None, Thresholds(highly_engaged_min=8))
    found = questions_about(strict, signals_of(5, 7, 8, 9), BY_MODEL)
    assert [q.profile.cells["attended"] for q in found.questions] == ["5", "8"]


def test_questions_that_have_an_answer_are_left_out() -> None:
    found = questions_about(CHOIR, signals_of(0, 1, 2, 3), BY_MODEL)
    first, second, *others = found.questions
    left = found.without({first.fingerprint, second.fingerprint, "unknown"})
    assert left.questions == tuple(others)
    assert (left.members, left.org) == (4, CHOIR)
    assert found.without_all().questions == ()
    assert found.without_all().members == 4


@pytest.mark.parametrize(
    "other",
    [
        OrgContext("choir-2", "Choir", "We sing.", Thresholds()),
        OrgContext("choir", "Choir!", "We sing.", Thresholds()),
        OrgContext("choir", "Choir", "We hum.", Thresholds()),
        OrgContext("choir", "Choir", None, Thresholds()),
        OrgContext("choir", "Choir", "We sing.", Thresholds(highly_engaged_min=4)),
        OrgContext("choir", "Choir", "We sing.", Thresholds(new_member_days=61)),
    ],
)
def test_another_organisation_is_another_question(other: OrgContext) -> None:
    assert BY_MODEL(other, PROFILE) != BY_MODEL(CHOIR, PROFILE)


def test_model_mode_prompt_schema_and_checks_are_part_of_the_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def known_by() -> str:
        return BY_MODEL(CHOIR, PROFILE)

    found = {
        known_by(),
        fingerprint_for("model-b", "tool")(CHOIR, PROFILE),
        fingerprint_for("model-a", "json")(CHOIR, PROFILE),
        BY_MODEL(CHOIR, Profile("3 2 1 0 8 0 180 ? 0 x =")),
    }
    for name, value in (
        ("PROMPT_VERSION", "prompt-2"),
        ("VALIDATOR_VERSION", "checks-99"),
        ("SCHEMA", {**prompt.SCHEMA, "description": "other"}),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(questions, name, value)
            found.add(known_by())
    assert len(found) == 7
    assert known_by() in found


def test_what_is_not_sent_of_an_organisation_asks_no_new_question() -> None:
    long = "We sing. " * 100
    first = OrgContext("choir", "Choir", long + "a", Thresholds())
    second = OrgContext("choir", " Choir\u200b\n", long + "b", Thresholds())
    assert BY_MODEL(first, PROFILE) == BY_MODEL(second, PROFILE)
