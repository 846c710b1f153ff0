"""Messages: whatever a name holds, nothing is shown that members may not read."""

import json
import unicodedata
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.outreach.forbidden_words import words_problems
from engagement_pipeline.outreach.rendering import (
    UnshowableTextError,
    render,
    usable_slots,
)
from engagement_pipeline.outreach.templates import SLOTS, Template, catalogue, lint

NAUGHTY = Path(__file__).parents[4] / "shared" / "data" / "naughty_strings" / "blns.json"


def template_of(text: str, *, is_rewritten: bool = False) -> Template:
    return Template("a.template", "mood_support", "warm", text, is_rewritten=is_rewritten)


GREETING = template_of("Hello {name}, how are you?")
SLOTLESS = template_of("Hello there, how are you?")

# Templates that no rule forbids, and that make forbidden words with the wrong name.
TEMPTING = tuple(
    template_of(text)
    for text in (
        "Look at {name} kindly and skip it.",
        "A kind hello at {name}, sky high, at {name}.",
        "All is well. {name} is at a {name}? k {name}.",
        "In {name} of it, {name} active, {name} core {name}: com.",
        "Low {name}. Hello {name} leaves {name} falls. a {name} t {name}",
        "s {name} i {name} k {name} a t {name} r",
    )
)
FRAGMENTS = [
    "a",
    "at",
    "t",
    "r",
    "ri",
    "ris",
    "risk",
    "isk",
    "in",
    "of",
    "dis",
    "engaged",
    "highly",
    "active",
    "inactive",
    "new",
    "moderate",
    "score",
    "com",
    "org",
    "dot",
    "www",
    "high",
    "danger",
    "point",
    "level",
]


def is_shown(value: str) -> bool:
    return usable_slots({"name": value}) != {}


def test_a_name_is_filled_in() -> None:
    assert render(GREETING, {"name": "Zoë"}) == "Hello Zoë, how are you?"


def test_tempting_templates_break_no_rule_themselves() -> None:
    problems = lint(TEMPTING)
    assert [one for one in problems if one.startswith("a.template:") and "comes" not in one] == []


def test_no_part_of_a_forbidden_word_finds_its_other_part_in_a_template() -> None:
    shown = 0
    for parts in product(("", *FRAGMENTS), FRAGMENTS):
        for sign in (" ", "-"):
            name = sign.join(filter(None, parts))
            if not is_shown(name):
                continue
            for template in TEMPTING:
                try:
                    text = render(template, {"name": name})
                except UnshowableTextError:
                    continue
                shown += 1
                assert words_problems(text) == [], text
    assert shown > 1_000


@given(
    st.dictionaries(st.sampled_from(sorted(SLOTS)), st.text(max_size=130)),
    st.sampled_from(list(catalogue())),
)
def test_whatever_is_known_a_message_is_whole_and_may_be_read(
    slots: dict[str, str], template: Template
) -> None:
    usable = usable_slots(slots)
    for one in catalogue().fitting(template.outreach_type, template.tone, usable):
        text = render(one, slots)
        assert 10 <= len(text) <= 500
        assert words_problems(text) == []
        assert text == render(one, usable)


@given(st.sampled_from(sorted(SLOTS)), st.text(max_size=250))
def test_what_is_shown_is_tidy_short_and_stays_as_it_is(slot: str, value: str) -> None:
    usable = usable_slots({slot: value})
    for shown in usable.values():
        assert 1 <= len(shown) <= SLOTS[slot]
        assert shown == " ".join(shown.split())
        assert not {"{", "}"} & set(shown)
        assert unicodedata.is_normalized("NFC", shown)
        kept = {c for c in shown if unicodedata.category(c).startswith("C")}
        assert kept <= {"\u200c", "\u200d"}
    assert usable_slots(usable) == usable


def test_naughty_names_break_nothing_and_show_nothing_forbidden() -> None:
    if not NAUGHTY.exists():
        pytest.skip("the list of naughty strings is not there")
    templates = [one for one in catalogue() if one.slots][::8]
    shown = 0
    for name in json.loads(NAUGHTY.read_text(encoding="utf-8")):
        slots = usable_slots(dict.fromkeys(SLOTS, name))
        for template in templates:
            if not template.slots <= slots.keys():
                continue
            text = render(template, slots)
            assert words_problems(text) == [], text
            assert 10 <= len(text) <= 500
            shown += 1
    assert shown > 500


@pytest.mark.parametrize(
    "name",
    [
        "Anna",
        "Jean-Luc O'Neill",
        "Патрисия",
        "علی\u200cرضا",  # noqa: RUF001
        "प्रिया",
        "美咲",
        "Patrick Newton",
        "Frank Scorsese",
        "Dr. Eve",
        "Sam (they/them)",
        "Anna23",
        "🦊",
    ],
)
def test_an_ordinary_name_is_shown_as_it_is(name: str) -> None:
    assert usable_slots({"name": name}) == {"name": name}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  \t\u200b ",
        "\u3164",
        "...",
        "12345678",
        "null",
        "None",
        "anna@example.org",
        "https://spam.example",
        "@everyone",
        "<b>Anna</b>",
        "**Anna**",
        "{org}",
        "Anna {name}",
        "At Risk",
        "r i s k at",
        "аt rіsk",  # noqa: RUF001
        "Inactive",
        "high scorer",
        "new",
        "Points",
        "Level",
        "%s",
        "$HOME",
        "Risk",
    ],
)
def test_a_name_that_may_not_be_read_counts_as_missing(name: str) -> None:
    assert usable_slots({"name": name}) == {}
    with pytest.raises(UnshowableTextError, match="something to show for name, found none"):
        render(GREETING, {"name": name})


def test_a_template_that_needs_no_name_does_without() -> None:
    for slots in ({}, {"name": None}, {"org": "Makers"}, {"name": "at risk"}):
        assert render(SLOTLESS, slots) == SLOTLESS.text
        with pytest.raises(UnshowableTextError, match="show for name, found none"):
            render(GREETING, slots)


def test_a_title_may_hold_signs_that_a_name_may_not() -> None:
    title = "Costs < $20: what's up?"
    assert usable_slots({"topic": title, "name": title}) == {"topic": title}


def test_what_is_invisible_or_turns_the_text_round_is_taken_out() -> None:
    slots = usable_slots({"name": " A\u202enn\u0000a\u200b \n Lee\ufeff "})
    assert slots == {"name": "Anna Lee"}


def test_letters_and_their_accents_are_put_together() -> None:
    assert usable_slots({"name": "Zoe\u0308"}) == {"name": "Zo\u00eb"}


def test_heaped_accents_are_thinned() -> None:
    shown = usable_slots({"name": "x" + "\u0335" * 40})["name"]
    assert shown == "x" + "\u0335" * 4


@pytest.mark.parametrize(
    ("slot", "value", "shown"),
    [
        ("name", "x" * 60, "x" * 60),
        ("name", "x" * 61, "x" * 59 + "…"),
        ("org", "word " * 30, "word " * 15 + "word…"),
        ("topic", "a" * 90 + " " + "b" * 20, "a" * 90 + "…"),
        ("topic", "a" * 99 + " b", "a" * 99 + "…"),
        ("feature", "a" * 97 + ", bcd", "a" * 97 + "…"),
    ],
)
def test_a_long_value_is_cut_at_a_words_end(slot: str, value: str, shown: str) -> None:
    assert usable_slots({slot: value}) == {slot: shown}


def test_an_unknown_slot_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="found 'nmae'"):
        usable_slots({"nmae": "Anna"})


def test_a_text_that_may_not_be_read_is_never_given() -> None:
    with pytest.raises(UnshowableTextError, match="at_risk"):
        render(template_of("You, {name}, are at risk.", is_rewritten=True), {"name": "Anna"})
    with pytest.raises(UnshowableTextError, match="expected 10 to 500 characters, found 4"):
        render(template_of("Hi A"), {})
