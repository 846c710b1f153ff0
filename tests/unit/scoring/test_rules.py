"""The classifier of the written rules, and the words it uses."""

import hashlib
import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.scoring import (
    ADMIN_EXPLANATION_MAX_CHARACTERS,
    LABEL_SCHEMA,
    PLACEHOLDERS,
    USER_EXPLANATION_MAX_CHARACTERS,
    Classifier,
    OrgContext,
    RulesClassifier,
    Thresholds,
    check_user_text,
    placeholders_of,
    render,
    with_baseline,
)
from engagement_pipeline.scoring.templates import TEMPLATES, TEMPLATES_VERSION, Explanation

AS_OF = datetime(2026, 5, 20, 12, tzinfo=UTC)
ORG = OrgContext("o", "Chess Club", "We play.", Thresholds())

# A whole long life of attending daily: nothing longer is ever written into a text.
LARGEST_FIGURE = 40_000

NUMBER_WORDS = re.compile(
    r"\b(zero|one|two|three|four|five|six|seven|eight|nine|ten|dozen|hundred|thousand"
    r"|first|second|third|once|twice|single|couple|half|quarter)\b",
    re.IGNORECASE,
)

counts = st.integers(0, 4) | st.just(0) | st.just(1) | st.integers(0, LARGEST_FIGURE)
days = st.integers(0, 400) | st.sampled_from([0, 1, 59, 60, 90, 91, 179, 180])


def moment_days_ago(number: int) -> datetime:
    return AS_OF - timedelta(days=number)


moments = days.map(moment_days_ago)

# Drawn each on its own, so that also signals come up that contradict each other.
some_member = st.fixed_dictionaries(
    {
        "events_attended_90d": counts,
        "events_attended_prev_90d": counts,
        "events_attended_total": counts,
        "last_attended_at": st.none() | moments,
        "no_show_count_90d": counts,
        "rsvp_count_90d": counts,
        "event_view_count_90d": st.none() | counts,
        "notifications_sent_90d": st.none() | counts,
        "notifications_read_90d": st.none() | counts,
        "interaction_count_90d": st.none() | counts,
        "profile_updated_at": st.none() | moments,
        "joined_at": moments,
        "days_since_joined": days,
        "last_active_at": st.none() | moments,
        "days_since_active": days,
    }
)

some_thresholds = st.builds(
    Thresholds,
    highly_engaged_min=st.integers(3, 6),
    moderate_min=st.integers(1, 3),
    new_member_days=st.integers(0, 400),
    inactive_days=st.integers(1, 400),
)


def members_of(
    rows: list[dict[str, object]], thresholds: Thresholds = ORG.thresholds
) -> pl.DataFrame:
    filled = [
        {"org_id": "o", "user_id": f"u{number}", "as_of": AS_OF, **row}
        for number, row in enumerate(rows)
    ]
    schema = contract("signals.member_90d").polars_schema
    return with_baseline(pl.DataFrame(filled, schema=schema), thresholds)


def explained(rows: list[dict[str, object]], thresholds: Thresholds) -> pl.DataFrame:
    members = members_of(rows, thresholds)
    labels = RulesClassifier().classify(ORG, members, as_of=AS_OF)
    return render(members.join(labels, on="user_id", maintain_order="left"))


def a_member(**signals: object) -> dict[str, object]:
    """A consistent member: attended now and then, joined long ago, unless `signals` say else."""
    usual: dict[str, object] = {
        "events_attended_90d": 0,
        "events_attended_prev_90d": 0,
        "events_attended_total": 5,
        "last_attended_at": moment_days_ago(120),
        "no_show_count_90d": 0,
        "rsvp_count_90d": 0,
        "event_view_count_90d": None,
        "notifications_sent_90d": None,
        "notifications_read_90d": None,
        "interaction_count_90d": None,
        "profile_updated_at": None,
        "joined_at": moment_days_ago(400),
        "days_since_joined": 400,
        "last_active_at": moment_days_ago(120),
        "days_since_active": 120,
    }
    return usual | signals


NEVER: dict[str, object] = {"events_attended_total": 0, "last_attended_at": None}
SILENT: dict[str, object] = {**NEVER, "last_active_at": None, "days_since_active": 100}
NEWCOMER: dict[str, object] = {
    **SILENT,
    "joined_at": moment_days_ago(10),
    "days_since_joined": 10,
    "days_since_active": 10,
}
AWAY: dict[str, object] = {"days_since_active": 200, "last_active_at": moment_days_ago(200)}
LATELY: dict[str, object] = {"days_since_active": 5, "last_active_at": moment_days_ago(5)}

SITUATIONS: dict[str, dict[str, object]] = {
    "highly_engaged.starting": a_member(events_attended_90d=5),
    "highly_engaged.returning": a_member(events_attended_90d=4),
    "highly_engaged.rising": a_member(events_attended_90d=4, events_attended_prev_90d=1),
    "highly_engaged.falling": a_member(events_attended_90d=4, events_attended_prev_90d=6),
    "highly_engaged.steady": a_member(events_attended_90d=4, events_attended_prev_90d=4),
    "new.attending": a_member(**NEWCOMER) | {"events_attended_90d": 1},
    "new.attended_before": a_member(**NEWCOMER) | {"events_attended_total": 2},
    "new.no_shows": a_member(**NEWCOMER, no_show_count_90d=1, rsvp_count_90d=2),
    "new.signed_up": a_member(**NEWCOMER, rsvp_count_90d=2, interaction_count_90d=3),
    "new.talking": a_member(**NEWCOMER, interaction_count_90d=3, event_view_count_90d=1),
    "new.browsing": a_member(**NEWCOMER, event_view_count_90d=1, notifications_read_90d=1),
    "new.reading": a_member(**NEWCOMER, notifications_read_90d=1, interaction_count_90d=0),
    "new.elsewhere": a_member(**NEWCOMER) | LATELY,
    "new.quiet": a_member(**NEWCOMER) | AWAY,
    "new.silent": a_member(**NEWCOMER),
    "moderate.no_shows": a_member(events_attended_90d=1, no_show_count_90d=1),
    "moderate.starting": a_member(events_attended_90d=2, events_attended_total=2),
    "moderate.returning": a_member(events_attended_90d=1),
    "moderate.rising": a_member(events_attended_90d=2, events_attended_prev_90d=1),
    "moderate.falling": a_member(
        events_attended_90d=2, events_attended_prev_90d=3, no_show_count_90d=1
    ),
    "moderate.steady": a_member(events_attended_90d=2, events_attended_prev_90d=2),
    "at_risk.lapsed.no_shows": a_member(no_show_count_90d=2, rsvp_count_90d=2),
    "at_risk.lapsed.signed_up": a_member(rsvp_count_90d=1),
    "at_risk.lapsed.talking": a_member(interaction_count_90d=1, notifications_read_90d=4),
    "at_risk.lapsed.browsing": a_member(event_view_count_90d=3),
    "at_risk.lapsed.reading": a_member(notifications_read_90d=4),
    "at_risk.lapsed.elsewhere": a_member(**LATELY),
    "at_risk.lapsed.quiet": a_member(notifications_read_90d=0, interaction_count_90d=0),
    "at_risk.lapsed.undated": a_member(last_attended_at=None, rsvp_count_90d=1),
    "at_risk.never_activated.no_shows": a_member(**NEVER, no_show_count_90d=1),
    "at_risk.never_activated.signed_up": a_member(**NEVER, rsvp_count_90d=1),
    "at_risk.never_activated.talking": a_member(**NEVER, interaction_count_90d=2),
    "at_risk.never_activated.browsing": a_member(**NEVER, event_view_count_90d=2),
    "at_risk.never_activated.reading": a_member(**NEVER, notifications_read_90d=1),
    "at_risk.never_activated.elsewhere": a_member(**NEVER, **LATELY),
    "at_risk.never_activated.quiet": a_member(**NEVER),
    "at_risk.never_activated.silent": a_member(**SILENT),
    "inactive.browsing": a_member(**AWAY, event_view_count_90d=1),
    "inactive.attended_before": a_member(**AWAY),
    "inactive.undated": a_member(**AWAY, last_attended_at=None),
    "inactive.never_attended": a_member(**NEVER, **AWAY),
    "inactive.silent": a_member(**SILENT) | {"days_since_active": 400},
}
SELDOM = a_member(events_attended_90d=1, events_attended_prev_90d=2)


@pytest.mark.parametrize(("name", "member"), SITUATIONS.items(), ids=SITUATIONS)
def test_a_member_gets_the_words_of_their_situation(name: str, member: dict[str, object]) -> None:
    found = explained([member], ORG.thresholds)
    assert found["admin_template"][0] == TEMPLATES[name].admin
    assert found["user_template"][0] == TEMPLATES[name].user


def test_who_attends_but_too_seldom_for_the_organisation_is_told_so_to_admins() -> None:
    found = explained([SELDOM], Thresholds(moderate_min=2))
    assert found["admin_template"][0] == TEMPLATES["at_risk.seldom"].admin


def test_every_written_situation_is_reached() -> None:
    assert {*SITUATIONS, "at_risk.seldom"} == set(TEMPLATES)


@settings(max_examples=300, deadline=None)
@given(st.lists(some_member, min_size=1, max_size=40), some_thresholds)
def test_every_explanation_of_any_member_keeps_the_rules(
    rows: list[dict[str, object]], thresholds: Thresholds
) -> None:
    found = explained(rows, thresholds)
    assert len(found) == len(rows)
    for admin, user in found.select("admin_explanation", "user_explanation").iter_rows():
        assert 20 <= len(admin) <= ADMIN_EXPLANATION_MAX_CHARACTERS
        assert 20 <= len(user) <= USER_EXPLANATION_MAX_CHARACTERS
        assert check_user_text(user) == []
        for text in (admin, user):
            assert not re.search(r"[{}]|\b1 (events|times|days|notifications)\b|  | ,|\.\.", text)
            assert not re.search(r"\b(?!1\b)[0-9]+ (event|time|day|notification)\b", text)


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_template_can_outgrow_its_limit(name: str) -> None:
    longest = {
        placeholder: "30 September 2026" if p.kind == "date" else str(LARGEST_FIGURE)
        for placeholder, p in PLACEHOLDERS.items()
    }
    for template, limit in (
        (TEMPLATES[name].admin, ADMIN_EXPLANATION_MAX_CHARACTERS),
        (TEMPLATES[name].user, USER_EXPLANATION_MAX_CHARACTERS),
    ):
        filled = re.sub(
            r"\{(\w+)(?::[^|}]*\|([^}]*))?\}", lambda m: m[2] or longest[m[1]], template
        )
        assert len(filled) <= limit


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_template_holds_a_figure_of_its_own(name: str) -> None:
    for template in (TEMPLATES[name].admin, TEMPLATES[name].user):
        bare = re.sub(r"\{[^}]*\}", "", template)
        assert not re.search(r"\d", bare)
        assert not NUMBER_WORDS.search(bare)
        assert template == template.strip()
        assert template[-1] in ".!"


@pytest.mark.parametrize("name", TEMPLATES)
def test_members_are_told_nothing_that_was_observed_beyond_attendance(name: str) -> None:
    tellable = {
        "events_attended_90d",
        "events_attended_total",
        "last_attended_at",
        "rsvp_count_90d",
        "window_days",
    }
    assert set(placeholders_of(TEMPLATES[name].user)) <= tellable


def test_no_two_situations_say_the_same_to_admins() -> None:
    assert len({explanation.admin for explanation in TEMPLATES.values()}) == len(TEMPLATES)


@given(st.lists(some_member, min_size=1, max_size=20), some_thresholds)
def test_the_level_is_the_baseline_and_the_label_a_function_of_as_of(
    rows: list[dict[str, object]], thresholds: Thresholds
) -> None:
    members = members_of(rows, thresholds)
    labels = RulesClassifier().classify(ORG, members, as_of=AS_OF)
    assert labels.schema == LABEL_SCHEMA
    assert labels["user_id"].equals(members["user_id"])
    assert labels["level"].to_list() == members["baseline_level"].to_list()
    assert set(labels["source"]) == {"rules"}
    assert set(labels["classified_at"]) == {AS_OF}
    assert labels.equals(RulesClassifier().classify(ORG, members, as_of=AS_OF))


def fingerprints(org: OrgContext, *members: dict[str, object]) -> list[str]:
    frame = members_of(list(members), org.thresholds)
    return RulesClassifier().classify(org, frame, as_of=AS_OF)["fingerprint"].to_list()


def test_members_in_one_situation_share_a_fingerprint_and_others_do_not() -> None:
    one, same, other = fingerprints(
        ORG,
        SITUATIONS["highly_engaged.rising"],
        a_member(events_attended_90d=9, events_attended_prev_90d=3),
        SITUATIONS["highly_engaged.falling"],
    )
    assert one == same != other
    assert re.fullmatch(r"[0-9a-f]{64}", one)


def test_whatever_could_change_a_label_changes_its_fingerprint() -> None:
    member = SITUATIONS["highly_engaged.rising"]
    orgs = [
        ORG,
        OrgContext("p", "Chess Club", "We play.", Thresholds()),
        OrgContext("o", "Chess Clubs", "We play.", Thresholds()),
        OrgContext("o", "Chess Club", None, Thresholds()),
        OrgContext("o", "Chess Club", "We play.", Thresholds(inactive_days=181)),
    ]
    found = [fingerprints(org, member)[0] for org in orgs]
    frame = members_of([member])
    for classifier in (
        RulesClassifier(model_version="rules-next"),
        RulesClassifier(prompt_version="templates-next"),
    ):
        found += classifier.classify(ORG, frame, as_of=AS_OF)["fingerprint"].to_list()
    assert len(set(found)) == len(found)


def test_the_fingerprint_is_the_digest_of_canonical_json() -> None:
    canonical = (
        '{"facts":{"model_version":"rules-1","prompt_version":"p",'
        '"situation":"highly_engaged.rising"},'
        '"org":{"description":"We play.","name":"Caf\\u00e9","org_id":"o","thresholds":'
        '{"highly_engaged_min":3,"inactive_days":180,"moderate_min":1,"new_member_days":60}}}'
    )
    org = OrgContext("o", "Caf\u00e9", "We play.", Thresholds())
    frame = members_of([SITUATIONS["highly_engaged.rising"]])
    labels = RulesClassifier(prompt_version="p").classify(org, frame, as_of=AS_OF)
    # Another way to write it would make every label ever kept look like a different one.
    assert labels["fingerprint"][0] == hashlib.sha256(canonical.encode()).hexdigest()


def test_the_templates_version_follows_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from engagement_pipeline.scoring import templates

    assert templates._version() == TEMPLATES_VERSION
    monkeypatch.setitem(TEMPLATES, "new.silent", Explanation("Other words.", "Other words."))
    assert templates._version() != TEMPLATES_VERSION


def test_the_rules_are_a_classifier() -> None:
    classifier: Classifier = RulesClassifier()
    assert (classifier.name, classifier.model_version) == ("rules", "rules-1")
    assert classifier.prompt_version == TEMPLATES_VERSION
