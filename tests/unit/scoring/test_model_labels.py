"""Labels behind which a model stands: whose word counts, and when it was given."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.scoring.classifier import LABEL_SCHEMA
from engagement_pipeline.scoring.levels import OrgContext, Thresholds, with_baseline
from engagement_pipeline.scoring.model_labels import (
    KNOWN_ANSWERS_SCHEMA,
    ModelClassifier,
    UnansweredError,
)
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.scoring.rules import RulesClassifier

AS_OF = datetime(2026, 5, 20, 4, tzinfo=UTC)
BEFORE = AS_OF - timedelta(days=6)
CHOIR = OrgContext("choir", "Choir", None, Thresholds())
FIRST, SECOND, THIRD = 1, 3, 0

MEMBER: dict[str, Any] = {
    "org_id": "choir",
    "as_of": AS_OF,
    "events_attended_prev_90d": 2,
    "events_attended_total": 5,
    "last_attended_at": AS_OF - timedelta(days=9),
    "no_show_count_90d": 0,
    "rsvp_count_90d": 2,
    "event_view_count_90d": None,
    "notifications_sent_90d": None,
    "notifications_read_90d": None,
    "interaction_count_90d": 0,
    "profile_updated_at": None,
    "joined_at": AS_OF - timedelta(days=200),
    "days_since_joined": 200,
    "last_active_at": AS_OF - timedelta(days=3),
    "days_since_active": 3,
}


def members_of(*attended: int) -> pl.DataFrame:
    rows = [
        {**MEMBER, "user_id": f"u{place}", "events_attended_90d": count}
        for place, count in enumerate(attended)
    ]
    signals = pl.DataFrame(rows, schema=contract("signals.member_90d").polars_schema)
    return with_baseline(signals, CHOIR.thresholds)


def fingerprint(_: OrgContext, profile: Profile) -> str:
    return f"attended-{profile.cells['attended']}"


def answer(attended: int, level: str, *, is_vetoed: bool = False, at: datetime = AS_OF) -> Any:
    return {
        "fingerprint": f"attended-{attended}",
        "level": level,
        "is_vetoed": is_vetoed,
        "admin_template": f"admin of {attended}",
        "user_template": f"user of {attended}",
        "asked_as_of": at,
    }


def classifier_of(*answers: Any, unanswered: Mapping[str, str] | None = None) -> ModelClassifier:
    return ModelClassifier(
        "anthropic",
        "model-a",
        "prompt-a",
        "tool",
        fingerprint,
        answers=pl.DataFrame(list(answers), schema=KNOWN_ANSWERS_SCHEMA),
        unanswered=unanswered or {},
    )


def labels_of(classifier: ModelClassifier, members: pl.DataFrame) -> list[dict[str, Any]]:
    labels = classifier.classify(CHOIR, members, as_of=AS_OF)
    assert labels.schema == LABEL_SCHEMA
    return labels.to_dicts()


def test_all_members_of_a_profile_get_its_answer_in_the_order_they_came() -> None:
    members = members_of(FIRST, SECOND, FIRST)
    labels = labels_of(classifier_of(answer(FIRST, "at_risk"), answer(SECOND, "moderate")), members)
    assert [label["user_id"] for label in labels] == ["u0", "u1", "u2"]
    assert [label["level"] for label in labels] == ["at_risk", "moderate", "at_risk"]
    assert [label["admin_template"] for label in labels] == [
        "admin of 1",
        "admin of 3",
        "admin of 1",
    ]
    assert {label["source"] for label in labels} == {"llm"}
    assert {(label["model_version"], label["prompt_version"]) for label in labels} == {
        ("model-a", "prompt-a")
    }


def test_an_answer_asked_for_another_moment_is_cached_and_says_which() -> None:
    classifier = classifier_of(answer(FIRST, "moderate", at=BEFORE), answer(SECOND, "new"))
    cached, fresh = labels_of(classifier, members_of(FIRST, SECOND))
    assert (cached["source"], cached["classified_at"]) == ("llm_cached", BEFORE)
    assert (fresh["source"], fresh["classified_at"]) == ("llm", AS_OF)


def test_a_moment_is_the_same_in_any_time_zone() -> None:
    classifier = classifier_of(answer(FIRST, "moderate"))
    there = AS_OF.astimezone(timezone(timedelta(hours=12)))
    labels = classifier.classify(CHOIR, members_of(FIRST), as_of=there)
    assert labels["source"].to_list() == ["llm"]


def test_a_vetoed_answer_leaves_level_and_words_to_the_rules() -> None:
    members = members_of(SECOND)
    (label,) = labels_of(classifier_of(answer(SECOND, "at_risk", is_vetoed=True)), members)
    (by_rules,) = RulesClassifier().classify(CHOIR, members, as_of=AS_OF).to_dicts()
    assert label["source"] == "vetoed"
    assert label["level"] == by_rules["level"] == "highly_engaged"
    assert label["user_template"] == by_rules["user_template"]
    assert label["admin_template"] == by_rules["admin_template"]
    # The model was asked: whoever audits it wants to know which.
    assert label["model_version"] == "model-a"


@pytest.mark.parametrize("source", ["fallback", "budget"])
def test_without_an_answer_the_rules_stand_in_and_say_why(source: str) -> None:
    members = members_of(FIRST, SECOND)
    classifier = classifier_of(
        answer(FIRST, "at_risk"), unanswered={f"attended-{SECOND}": source, "unheard-of": "budget"}
    )
    answered, left = labels_of(classifier, members)
    by_rules = RulesClassifier().classify(CHOIR, members, as_of=AS_OF).to_dicts()[1]
    assert (answered["source"], left["source"]) == ("llm", source)
    assert left["classified_at"] == AS_OF
    assert left["fingerprint"] == f"attended-{SECOND}"
    for column in ("level", "admin_template", "user_template", "model_version", "prompt_version"):
        assert left[column] == by_rules[column]


def test_an_answer_wins_over_a_reason_for_having_none() -> None:
    classifier = classifier_of(answer(FIRST, "moderate"), unanswered={"attended-1": "budget"})
    (label,) = labels_of(classifier, members_of(FIRST))
    assert (label["level"], label["source"]) == ("moderate", "llm")


def test_a_profile_without_answer_and_reason_is_an_error_that_names_it() -> None:
    classifier = classifier_of(answer(FIRST, "moderate"))
    with pytest.raises(UnansweredError, match=r"'choir': 2 profiles have no answer, e.g. '0 2"):
        classifier.classify(CHOIR, members_of(FIRST, SECOND, THIRD), as_of=AS_OF)


def test_other_answers_leave_the_classifier_as_it_was() -> None:
    empty = classifier_of()
    full = empty.with_answers(classifier_of(answer(FIRST, "new")).answers)
    assert labels_of(full, members_of(FIRST))[0]["level"] == "new"
    with pytest.raises(UnansweredError):
        empty.classify(CHOIR, members_of(FIRST), as_of=AS_OF)
