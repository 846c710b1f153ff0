"""Templates and how they are filled."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.signals import SIGNAL_COLUMNS
from engagement_pipeline.scoring import (
    PLACEHOLDERS,
    MalformedTemplateError,
    NullPlaceholderError,
    TemplateError,
    UnknownPlaceholderError,
    placeholders_of,
    render,
)

AS_OF = datetime(2026, 5, 20, 12, tzinfo=UTC)

MEMBER: dict[str, object] = {
    "org_id": "o",
    "user_id": "u",
    "as_of": AS_OF,
    "events_attended_90d": 4,
    "events_attended_prev_90d": 1,
    "events_attended_total": 12,
    "last_attended_at": datetime(2026, 5, 3, 23, 59, tzinfo=UTC),
    "no_show_count_90d": 0,
    "rsvp_count_90d": 1,
    "event_view_count_90d": None,
    "notifications_sent_90d": 20,
    "notifications_read_90d": 1,
    "interaction_count_90d": None,
    "profile_updated_at": None,
    "joined_at": datetime(2025, 12, 11, tzinfo=UTC),
    "days_since_joined": 160,
    "last_active_at": datetime(2026, 5, 10, tzinfo=UTC),
    "days_since_active": 10,
}


def labelled(*changes: dict[str, object], admin: str = "-", user: str = "-") -> pl.DataFrame:
    rows = [
        {"admin_template": admin, "user_template": user, **MEMBER, **change} for change in changes
    ]
    schema = contract("signals.member_90d").polars_schema
    return pl.DataFrame(
        rows, schema={**schema, "admin_template": pl.String, "user_template": pl.String}
    )


def admin_text(template: str, **change: object) -> str:
    return str(render(labelled(change, admin=template))["admin_explanation"][0])


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("No figure at all.", "No figure at all."),
        ("", ""),
        ("{events_attended_90d}", "4"),
        ("{events_attended_90d}{events_attended_90d}", "44"),
        ("Came {events_attended_90d} times, last on {last_attended_at}.",
         "Came 4 times, last on 3 May 2026."),
        ("Since {joined_at}", "Since 11 December 2025"),
        ("{days_since_attended} days ago", "16 days ago"),
        ("in {window_days} days", "in 90 days"),
        ("{rsvp_count_90d} {rsvp_count_90d:event|events}", "1 event"),
        ("{events_attended_90d} {events_attended_90d:event|events}", "4 events"),
        ("{no_show_count_90d} {no_show_count_90d:event|events}", "0 events"),
        ("{events_attended_total:was|were} {rsvp_count_90d:|s}", "were "),
        ("it costs 5 % | and: more \u2013 ok", "it costs 5 % | and: more \u2013 ok"),
    ],
)  # fmt: skip
def test_a_template_reads_with_its_members_figures(template: str, text: str) -> None:
    assert admin_text(template) == text
    assert render(labelled({}, user=template))["user_explanation"][0] == text


def test_every_signal_can_be_cited() -> None:
    assert set(SIGNAL_COLUMNS) <= set(PLACEHOLDERS)
    known = {"event_view_count_90d": 0, "interaction_count_90d": 3, "profile_updated_at": AS_OF}
    for name, placeholder in PLACEHOLDERS.items():
        assert admin_text(f"{{{name}}}", **known)
        assert placeholder.description


def test_eleven_is_many_and_only_one_is_one() -> None:
    template = "{events_attended_90d:one|many}"
    found = render(
        labelled(*({"events_attended_90d": n} for n in (0, 1, 2, 11, 21, 101)), admin=template)
    )
    assert found["admin_explanation"].to_list() == ["many", "one", "many", "many", "many", "many"]


def test_placeholders_are_given_once_each_in_order_of_use() -> None:
    template = "{joined_at} {rsvp_count_90d:a|b} {joined_at} {rsvp_count_90d} {window_days}"
    assert placeholders_of(template) == ("joined_at", "rsvp_count_90d", "window_days")
    assert placeholders_of("none") == ()


@pytest.mark.parametrize("name", ["", "events", "Events_Attended_90d", "user_id", "org_id",
                                  "as_of", " joined_at", "joined_at ", "0"])  # fmt: skip
def test_an_unknown_placeholder_is_named_with_its_template(name: str) -> None:
    template = f"They came {{{name}}} times"
    for attempt in (placeholders_of, admin_text):
        with pytest.raises(UnknownPlaceholderError) as caught:
            attempt(template)
        assert repr(name) in str(caught.value)
        assert repr(template) in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{",
        "}",
        "a {joined_at",
        "joined_at} b",
        "{{joined_at}}",
        "{events_attended_90d:}",
        "{events_attended_90d:event}",
        "{events_attended_90d:a|b|c}",
        "{joined_at:day|days}",
    ],
)
def test_a_template_that_cannot_be_read_is_an_error(template: str) -> None:
    with pytest.raises(MalformedTemplateError):
        placeholders_of(template)
    with pytest.raises(TemplateError):
        admin_text(template)


@pytest.mark.parametrize(
    "template",
    ["at {profile_updated_at}", "{interaction_count_90d} times", "{interaction_count_90d:a|b}"],
)
def test_citing_what_is_unknown_of_a_member_is_an_error_that_names_all(template: str) -> None:
    name = placeholders_of(template)[0]
    known = {"profile_updated_at": AS_OF, "interaction_count_90d": 2}
    rows = labelled({**known, "user_id": "a"}, {"user_id": "b"}, user="{window_days} " + template)
    with pytest.raises(NullPlaceholderError) as caught:
        render(rows)
    assert repr(name) in str(caught.value)
    assert template in str(caught.value)
    assert "'b'" in str(caught.value)


def test_days_since_attended_is_unknown_of_who_never_attended() -> None:
    with pytest.raises(NullPlaceholderError, match="days_since_attended"):
        admin_text("{days_since_attended}", last_attended_at=None)


def test_one_members_unknown_figure_does_not_touch_another_template() -> None:
    rows = labelled(
        {"interaction_count_90d": 7, "admin_template": "{interaction_count_90d} times"},
        {"admin_template": "nothing"},
    )
    assert render(rows)["admin_explanation"].to_list() == ["7 times", "nothing"]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 9)), max_size=25))
def test_rows_stay_in_order_each_with_its_own_figures(
    members: list[tuple[int, int, int]],
) -> None:
    rows = labelled(
        *(
            {
                "user_id": f"u{number}",
                "events_attended_90d": figure,
                "admin_template": f"A{admin} {{events_attended_90d}}",
                "user_template": f"{{events_attended_90d}} U{user}",
            }
            for number, (admin, user, figure) in enumerate(members)
        )
    )
    rendered = render(rows)
    assert rendered.drop("admin_explanation", "user_explanation").equals(rows)
    assert rendered["admin_explanation"].to_list() == [f"A{a} {n}" for a, _, n in members]
    assert rendered["user_explanation"].to_list() == [f"{n} U{u}" for _, u, n in members]
    assert rendered["user_explanation"].dtype == pl.String


@given(st.text(alphabet=st.characters(exclude_characters="{}", codec="utf-8")))
def test_text_without_braces_is_passed_on_unchanged(text: str) -> None:
    assert admin_text(text) == text
