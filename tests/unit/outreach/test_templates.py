"""The templates of messages: each rule fires where it is broken, and the catalogue breaks none."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.outreach.templates import (
    InvalidTemplatesError,
    Template,
    Templates,
    catalogue,
    lint,
    read_templates,
)

GOOD = tuple(catalogue())
SPOILT = next(one for one in GOOD if not one.triggers)


def found_with(**changed: object) -> list[str]:
    """What is found when one template of the catalogue is changed."""
    return lint([replace(SPOILT, **changed), *GOOD[1:]])  # type: ignore[arg-type]


def only(problems: Sequence[str]) -> str:
    assert len(problems) == 1, problems
    return problems[0]


def test_the_catalogue_breaks_no_rule() -> None:
    assert GOOD[0] == SPOILT
    assert lint(GOOD) == []
    assert len(GOOD) >= 24


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"outreach_type": "party"}, "unknown type 'party'"),
        ({"tone": "stern"}, "unknown tone 'stern'"),
        ({"triggers": ("whim",)}, "unknown trigger 'whim'"),
        ({"template_id": "With Blanks"}, "expected an id"),
        ({"text": "Hello {nmae}, good to have you."}, "unknown slot 'nmae'"),
        ({"text": "Hello {name, good to have you."}, "a brace without its pair"),
        ({"text": "Hello {name}s of this world."}, "does not stand apart"),
        ({"text": "Hello you-{name} and all."}, "does not stand apart"),
        ({"text": "Hi {name}!"}, "expected 10 to 500 characters when it is filled in, found 5"),
        ({"text": "so " * 150 + "{org}"}, "found 451 to 530"),
        ({"text": "You are at risk of missing it."}, "may not be read: at_risk"),
        ({"text": "You seem disengaged, dear friend."}, "may not be read: disengaged"),
        ({"text": "Come to https://example.org now."}, "may not be read: url"),
        ({"text": "Hello **dear** friend of ours."}, "may not be read: markup"),
        ({"text": "You have earned many points here."}, "may not be read: game_word"),
        ({"text": "See where you r-a-n-k among us."}, "may not be read: game_word"),
        ({"text": "Hello, the other level awaits."}, "may not be read: game_word"),
        ({"text": "Here are 3 ideas for the week."}, "holds a figure"),
        ({"text": "Here are ½ an idea and a hat."}, "holds a figure"),
        ({"text": "Keep your streak alive, friend."}, "blames or presses"),
        ({"text": "Don’t miss what is going on."}, "blames or presses"),  # noqa: RUF001
        ({"text": "You really must look at this, you must."}, "blames or presses"),
        ({"text": "We noticed that it is quiet."}, "claims to have watched"),
        ({"text": "You haven't been here for long."}, "claims to have watched"),
        ({"text": "Hello hello 🎉🎉🎉 to you all."}, "more than 2 emoji"),
        ({"text": "Take the risk and say hello."}, "holds part of a word"),
    ],
)
def test_a_fault_is_found_and_named(changed: dict[str, object], said: str) -> None:
    problems = found_with(**changed)
    name = changed.get("template_id", SPOILT.template_id)
    assert any(said in problem and problem.startswith(f"{name}: ") for problem in problems)


def test_an_id_that_comes_twice_is_found() -> None:
    twice = [*GOOD, replace(GOOD[-1], template_id=GOOD[3].template_id)]
    assert only(lint(twice)) == f"{GOOD[3].template_id}: comes 2 times"
    with pytest.raises(InvalidTemplatesError, match="comes 2 times"):
        Templates(twice)


def test_a_type_and_tone_without_a_text_that_needs_no_slot_is_found() -> None:
    use = ("mood_support", "warm")
    left = [one for one in GOOD if (one.outreach_type, one.tone) != use or one.slots]
    assert only(lint(left)) == (
        "mood_support, warm: expected a template that needs no slot, found none"
    )


def test_a_text_for_one_occasion_stands_in_for_none_that_needs_no_slot() -> None:
    use = ("mood_support", "warm")
    narrowed = [
        replace(one, triggers=("low_mood",))
        if (one.outreach_type, one.tone) == use and not one.slots
        else one
        for one in GOOD
    ]
    assert "needs no slot" in only(lint(narrowed))


def test_a_type_and_tone_with_nothing_to_choose_among_is_found() -> None:
    use = ("mood_support", "warm")
    left = [one for one in GOOD if (one.outreach_type, one.tone) != use or not one.slots]
    assert only(lint(left)) == (
        "mood_support, warm: expected 2 templates that need no more than a name, found 1"
    )


def test_fewer_than_seventeen_are_found() -> None:
    assert "expected at least 17 templates, found 16" in lint(GOOD[:16])
    assert not any("expected at least 17" in problem for problem in lint(GOOD[:17]))


@pytest.mark.parametrize(
    ("outreach_type", "tone", "text"),
    [
        ("re_engagement", "playful", "Hey {name}, we miss you!"),
        ("personalized_checkin", "warm", "Welcome, {name}! We're so glad you're here!"),
        ("personalized_checkin", "neutral", "Hi {name}, just checking in!"),
    ],
)
def test_the_seeded_wordings_are_there_to_the_letter(
    outreach_type: str, tone: str, text: str
) -> None:
    assert (outreach_type, tone, text) in {(t.outreach_type, t.tone, t.text) for t in GOOD}


@pytest.mark.parametrize("tone", vocabulary.TONES)
@pytest.mark.parametrize("outreach_type", vocabulary.OUTREACH_TYPES)
def test_every_type_has_in_each_tone_texts_for_whatever_is_known(
    outreach_type: str, tone: str
) -> None:
    templates = catalogue()
    for known in ([], ["name"], ["name", "org"], ["name", "org", "milestone", "topic", "feature"]):
        for trigger in (None, *vocabulary.TRIGGERS):
            fitting = templates.fitting(outreach_type, tone, known, trigger=trigger)
            assert fitting
            assert list(fitting) == sorted(fitting, key=lambda one: one.template_id)
            assert all(one.slots <= set(known) for one in fitting)
            assert {(one.outreach_type, one.tone) for one in fitting} == {(outreach_type, tone)}
    assert len(templates.fitting(outreach_type, tone, ["name", "org"])) >= 3


def test_whoever_is_near_a_milestone_is_not_told_that_it_is_reached() -> None:
    templates = catalogue()
    known = {"name", "org", "milestone"}
    for tone in vocabulary.TONES:
        asked = ("milestone_celebration", tone, known)
        near = templates.fitting(*asked, trigger="milestone_near")
        reached = templates.fitting(*asked, trigger="milestone_reached")
        either = templates.fitting(*asked)
        assert all(one.triggers == ("milestone_near",) for one in near)
        assert all(one.triggers == ("milestone_reached",) for one in reached)
        assert all(one.triggers == () for one in either)
        # What may be said of the milestone is said, and without its name nothing is.
        assert all("milestone" in one.slots for one in (*near, *reached))
        unnamed = templates.fitting("milestone_celebration", tone, (), trigger="milestone_near")
        assert all(one.triggers == () for one in unnamed)


def test_a_type_or_tone_that_nothing_is_written_for_is_refused_by_name() -> None:
    with pytest.raises(InvalidTemplatesError, match="'party' in the tone 'warm'"):
        catalogue().fitting("party", "warm", ())


def test_reworded_templates_keep_all_but_their_words() -> None:
    name = "mood_support.warm.wishes"
    reworded = catalogue().reworded({name: "A kind wish for you, {name}.", "unknown": "Hello"})
    assert [one.template_id for one in reworded] == [one.template_id for one in catalogue()]
    assert reworded[name] == replace(
        catalogue()[name], text="A kind wish for you, {name}.", is_rewritten=True
    )
    assert sum(one.is_rewritten for one in reworded) == 1
    assert not any(one.is_rewritten for one in catalogue())


def test_a_text_is_cut_at_its_slots() -> None:
    template = Template("x", "mood_support", "warm", "Hi {name}: {org}!")
    assert template.pieces == ("Hi ", "name", ": ", "org", "!")
    assert template.slots == {"name", "org"}


ENTRY = "- {template_id: a.b, type: mood_support, tone: warm, text: Hello}"


def test_a_file_is_read_in_its_order() -> None:
    text = f"{ENTRY}\n- {{template_id: a.a, type: x, tone: y, text: Z, triggers: [topic]}}"
    assert read_templates(text) == (
        Template("a.b", "mood_support", "warm", "Hello"),
        Template("a.a", "x", "y", "Z", ("topic",)),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "expected YAML"),
        ("{}", "expected a list of templates, found dict"),
        ("", "expected a list of templates, found NoneType"),
        (f"{ENTRY}\n- hello", "template 2: expected .* found str"),
        (ENTRY.replace("tone: warm, ", ""), r"template 1: expected .* found \['template_id'"),
        (ENTRY.replace("tone: warm", "tone: warm, colour: red"), "template 1: .*'colour'"),
        (ENTRY.replace("text: Hello", "text: 7"), "template 1: expected texts"),
        (ENTRY.replace("text: Hello", "text: Hello, triggers: topic"), "a list of texts"),
    ],
)
def test_a_file_that_is_not_as_agreed_is_refused_by_place(text: str, said: str) -> None:
    with pytest.raises(InvalidTemplatesError, match=said):
        read_templates(text)
