"""What a model is asked about templates, and which of its words stand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.outreach import rewriting
from engagement_pipeline.outreach.rendering import render
from engagement_pipeline.outreach.rewriting import (
    REWRITABLE_TYPES,
    SCHEMA,
    TOOL_NAME,
    check_rewriting,
    check_rewritings,
    fingerprint,
    rewritable,
    told_of,
    user_turn,
)
from engagement_pipeline.outreach.templates import SLOTS, Template, catalogue
from engagement_pipeline.scoring.answers import Reply

OURS = rewritable(catalogue())
SUPPORT = Template("a.b", "mood_support", "warm", "Hello {name}, {org} wishes you well.")
NEAR = Template(
    "a.c", "milestone_celebration", "warm", "You are close to {milestone}.", ("milestone_near",)
)
GOOD = "Dear {name}, kind regards from {org}."


def reply_of(*texts: object, mode: str = "tool", stop: str | None = None) -> Reply:
    answer = {"rewritings": [{"row": row, "text": text} for row, text in enumerate(texts, 1)]}
    block: dict[str, Any] = {"type": "tool_use", "name": TOOL_NAME, "input": answer}
    if mode == "json":
        block = {"type": "text", "text": json.dumps(answer)}
    return Reply(stop or ("tool_use" if mode == "tool" else "end_turn"), [block], mode)


def test_only_mood_support_and_celebrations_are_put_into_other_words() -> None:
    assert {one.outreach_type for one in OURS} == set(REWRITABLE_TYPES)
    others = [one for one in catalogue() if one not in OURS]
    assert not {one.outreach_type for one in others} & set(REWRITABLE_TYPES)
    assert rewritable([replace(OURS[0], is_rewritten=True)]) == []


def test_our_own_words_would_stand() -> None:
    for template in OURS:
        assert check_rewriting(template, template.text) == []


def test_words_of_their_own_stand() -> None:
    assert check_rewriting(SUPPORT, GOOD) == []
    assert check_rewriting(SUPPORT, "Good day from {org}, {name}: café, naïve, all is well!") == []
    assert check_rewriting(NEAR, "Not far to {milestone} now, and no hurry at all.") != []
    assert check_rewriting(NEAR, "Not far to {milestone} now, so enjoy the way.") == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no text"),
        (7, "no text"),
        (["Hello {name}"], "no text"),
        (" \n", "no text"),
        ("Kind regards from {org} to all.", "other slots"),
        ("Dear {name} and {name}, from {org}.", "other slots"),
        ("Dear {name}, {org} has {points}.", "other slots"),
        ("Dear { name }, from {org} as ever.", "other slots"),
        ("Dear {Name}, from {org} as ever.", "other slots"),
        ("Dear {name}, from {org} as {} ever.", "other slots"),
        ("Dear {name}, from {org} as {ever.", "a brace without its pair"),
        ("Dear {name}s, from {org} as ever.", "does not stand apart"),
        ("{name}{org}, we wish you all the best.", "does not stand apart"),
        ("Dear {name}, from {org}. " + "so " * 100, "too long"),
        ("{name} {org}", "expected 10 to 500 characters"),
        ("Dear {name}, 3 wishes from {org}.", "holds a figure"),
        ("Dear {name}, three wishes from {org}.", "number word"),
        ("Dear {name}, see {org} on Monday again.", "date"),
        ("Dear {name}, you are at r i s k, says {org}.", "at_risk"),
        ("Dear {name}, no longer inactive at {org}?", "inactive"),
        ("Dear {name}, more points from {org}.", "game_word"),
        ("Dear {name}, come to www.example.org, {org}.", "url"),
        ("Dear **{name}**, kind regards from {org}.", "does not stand apart"),
        ("Dear {name}, **kind** regards from {org}.", "markup"),
        ("Dear {name},\n kind regards from {org}.", "control or invisible character"),
        ("Дорогой {name}, всего доброго от {org}.", "letter that is not Latin"),
        ("Dear {name}, we noticed you at {org}.", "claims to have watched"),
        ("Dear {name}, you should come to {org}.", "blames or presses"),
        ("Dear {name}, 🎉🎉🎉 from {org} to you.", "more than 2 emoji"),
    ],
)
def test_what_may_not_stand_is_refused_by_name(text: object, said: str) -> None:
    assert any(said in problem for problem in check_rewriting(SUPPORT, text))


@pytest.mark.parametrize("said", ["Congratulations on", "You have reached", "Well done, that is"])
def test_nobody_is_congratulated_on_a_milestone_that_is_only_near(said: str) -> None:
    text = f"{said} {{milestone}}."
    assert check_rewriting(NEAR, text) == ["congratulates on what is not reached"]
    assert check_rewriting(replace(NEAR, triggers=("milestone_reached",)), text) == []


@given(st.text(max_size=80), st.sampled_from([SUPPORT, NEAR]))
def test_whatever_stands_can_be_shown_to_whomever(words: str, template: Template) -> None:
    text = " ".join(["{" + slot + "}," for slot in sorted(template.slots)]) + " " + words
    if not check_rewriting(template, text):
        shown = render(replace(template, text=text, is_rewritten=True), dict.fromkeys(SLOTS, "Eve"))
        assert 10 <= len(shown) <= 500


@pytest.mark.parametrize("mode", ["tool", "json"])
def test_each_row_is_held_against_its_own_template(mode: str) -> None:
    near = "Not far to {milestone} now."
    found = check_rewritings(reply_of(f" {GOOD} ", near, mode=mode), [SUPPORT, NEAR])
    assert (found.answers, found.problems, found.reply_problem) == ({1: GOOD, 2: near}, {}, None)
    swapped = check_rewritings(reply_of(near, GOOD, mode=mode), [SUPPORT, NEAR])
    assert (swapped.answers, swapped.problems) == ({}, {1: "other slots", 2: "other slots"})


def test_a_row_that_is_given_twice_stands_only_if_it_says_the_same() -> None:
    rows = [{"row": 1, "text": GOOD}, {"row": 1, "text": GOOD}]
    reply = reply_of(GOOD)
    reply.content[0]["input"]["rewritings"] = rows  # type: ignore[index]
    assert check_rewritings(reply, [SUPPORT]).answers == {1: GOOD}
    rows[1]["text"] = "Hello {name}, regards from {org}."
    assert check_rewritings(reply, [SUPPORT]).problems == {1: "given twice, differently"}


def test_of_a_reply_that_was_cut_off_the_last_row_is_not_believed() -> None:
    found = check_rewritings(reply_of(GOOD, GOOD, stop="max_tokens"), [SUPPORT, SUPPORT])
    assert (found.answers, found.problems) == ({1: GOOD}, {2: "max_tokens"})


def test_the_model_hears_of_a_template_in_one_line_and_nothing_else() -> None:
    lines = user_turn([told_of(SUPPORT), told_of(NEAR)]).split("\n")
    assert [line.partition(" ")[0] for line in lines] == ["1", "2"]
    assert [json.loads(line.partition(" ")[2]) for line in lines] == [
        {"for": "mood support", "tone": "warm", "message": SUPPORT.text},
        {"for": "milestone near", "tone": "warm", "message": NEAR.text},
    ]


def test_whatever_could_change_the_words_changes_the_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def prints() -> Sequence[str]:
        other = [
            replace(SUPPORT, **{name: value})  # type: ignore[arg-type]
            for name, value in {
                "template_id": "x",
                "outreach_type": "milestone_celebration",
                "tone": "neutral",
                "text": GOOD,
                "triggers": ("low_mood",),
            }.items()
        ]
        return [
            *(fingerprint(one, model="m", output_mode="tool") for one in [SUPPORT, *other]),
            fingerprint(SUPPORT, model="n", output_mode="tool"),
            fingerprint(SUPPORT, model="m", output_mode="json"),
        ]

    found = prints()
    assert found == prints()
    for name in ("PROMPT_VERSION", "VALIDATOR_VERSION"):
        monkeypatch.setattr(rewriting, name, "other")
        found = [*found, *prints()]
    assert len(set(found)) == len(found) == 24


def test_the_schema_asks_for_nothing_that_strict_mode_refuses() -> None:
    row = SCHEMA["properties"]["rewritings"]["items"]
    assert set(row["required"]) == set(row["properties"]) == {"row", "text"}
    assert row["additionalProperties"] is SCHEMA["additionalProperties"] is False
