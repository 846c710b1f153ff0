"""What a text for members may not say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.scoring import check_user_text

AT_RISK_SPELLINGS = [
    "You are at risk",
    "AT RISK!",
    "at-risk",
    "at_risk",
    "atrisk",
    "at\u00a0risk",
    "at\u200brisk",
    "a\u200dt r\u00adisk",
    "at\n  risk",
    "at\u2010risk",
    "a.t. r.i.s.k.",
    "a t r i s k",
    "ａｔ　ｒｉｓｋ",  # noqa: RUF001 - full width
    "\u0430t ri\u0455k",  # Cyrillic a and dze
    "\u03b1t r\u03b9sk",  # Greek alpha and iota
    "át rísk",
    "at risky",
    "at a high risk of leaving",
    "𝐚𝐭 𝐫𝐢𝐬𝐤",  # noqa: RUF001 - mathematical bold
]


@pytest.mark.parametrize("text", AT_RISK_SPELLINGS)
def test_at_risk_is_found_in_any_spelling(text: str) -> None:
    assert "at_risk" in check_user_text(text)


@pytest.mark.parametrize("level", vocabulary.LEVELS)
def test_no_level_is_named(level: str) -> None:
    for text in (level, level.replace("_", " "), level.replace("_", "-").upper()):
        assert "level_name" in check_user_text(f"Now you are {text}, we think")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("You seem inactive", "inactive"),
        ("a time of INACTIVITY", "inactive"),
        ("in-active of late", "inactive"),
        ("in_active", "inactive"),
        ("disengaged", "disengaged"),
        ("your dis-engagement", "disengaged"),
        ("Your score is high", "score"),
        ("scoring well", "score"),
        ("scored", "score"),
        ("see https://a.b", "url"),
        ("see WWW.example", "url"),
        ("go to example.org now", "url"),
        ("t.me/us", "url"),
        ("example\uff0ecom", "url"),
        ("example\u3002com", "url"),
        ("mailto:me", "url"),
        ("write to me@home.net", "url"),
        ("at 10.0.0.1", "url"),
        ("<b>you</b>", "markup"),
        ("a <br/> b", "markup"),
        ("\uff1cscript>", "markup"),
        ("<@U123>", "markup"),
        ("fish &amp; chips", "markup"),
        ("&#64;", "markup"),
        ("so **good**", "markup"),
        ("so *good* to", "markup"),
        ("so _good_ to", "markup"),
        ("`code`", "markup"),
        ("[come](there)", "markup"),
        ("# Hello", "markup"),
        ("Hi\n- there", "markup"),
    ],
)
def test_a_banned_word_or_form_is_named_by_its_rule(text: str, rule: str) -> None:
    assert rule in check_user_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "You have taken part in activities, and it was a great risk-free evening.",
        "What risk there was, you took it. Renewed thanks for the good news!",
        "We are glad you are active. Reconnecting is a pleasure; taking a break is fine.",
        "You came on 3 May 2026 (to 4 events) - thank you!",
        "Underscored by none. It's good, e.g. as we said: at last.",
        "You came to {events_attended_90d} {events_attended_90d:event|events}, {no_show_count_90d}",
        "Moderation is kind; in action, engaging and discovered.",
        "",
    ],
)
def test_innocent_words_are_left_alone(text: str) -> None:
    assert check_user_text(text) == []


@pytest.mark.parametrize("label", [v for k, v in vocabulary.USER_LABELS.items() if k != "new"])
def test_labels_that_members_may_read_are_no_level_names(label: str) -> None:
    if label != "Highly engaged":
        assert check_user_text(f"{label}!") == []


def test_every_broken_rule_is_given() -> None:
    assert check_user_text("Inactive, disengaged, at risk: score <b>moderate</b> http://x.y") == [
        "at_risk",
        "level_name",
        "score",
        "inactive",
        "disengaged",
        "url",
        "markup",
    ]


@pytest.mark.parametrize(
    "spelling",
    ["mod\u200berate", "mod\u00aderate", "mo\u0301derate", "m\u00f3derate", "\u041codera\u0442e"],
)
def test_a_disguised_word_is_read_as_it_looks(spelling: str) -> None:
    assert check_user_text(spelling) == ["level_name"]


def test_capitals_of_another_alphabet_are_capitals_all_the_same() -> None:
    mathematical_bold = "".join(chr(ord(letter) - ord("A") + 0x1D400) for letter in "MODERATE")
    assert check_user_text(mathematical_bold) == ["level_name"]


@given(st.text())
def test_any_text_can_be_judged(text: str) -> None:
    assert "at_risk" in check_user_text(f"{text} at risk {text}")
