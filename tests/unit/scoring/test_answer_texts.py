"""What a template that a model wrote must not hold."""

import hashlib
import json
import re
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.scoring import PLACEHOLDERS, check_user_text, render
from engagement_pipeline.scoring.answer_texts import (
    DATE_MAX_CHARACTERS,
    FIGURE_MAX_CHARACTERS,
    admin_text_problem,
    user_text_problem,
)
from engagement_pipeline.scoring.answers import VALIDATOR_VERSION
from engagement_pipeline.scoring.templates import TEMPLATES

CITABLE = frozenset(PLACEHOLDERS)

NUMBERS_IN_SIGNS = [
    "came 3 times",
    "came \uff13 times",  # full width
    "came \u0663 times",  # Arabic
    "came \u2462 times",  # circled
    "came \u00b3 times",
    "came \u2083 times",
    "came \u00bd the time",
    "came \u2163 times",  # Roman four
    "came \u4e09 times",  # an ideograph: a letter by category
    "came \u33e0 times",  # a sign for the first of the month
    "came \U0001d7d3 times",  # mathematical
    "came 5\ufe0f\u20e3 times",
    "came \U0001f51f times",
    "full of \U0001f4af",
    "a \U0001f947 for them",
    "came &#53; times",
    "seen in %",
    "\u2030 of events",
]

NUMBERS_IN_WORDS = [
    "came five times",
    "came FIVE times",
    "came Twenty-Five times",
    "came twentyfive times",
    "came one time",
    "came to one of our events",
    "came once",
    "came once. They left",
    "came twice",
    "came thrice",
    "zero events",
    "nil",
    "their first event",
    "a second time",
    "the third",
    "the eleventh",
    "the ninetieth",
    "the twenty-first",
    "half the events",
    "a quarter of them",
    "double the events",
    "interest doubled",
    "a dozen",
    "dozens",
    "hundreds",
    "a thousand thanks",
    "millions",
    "a couple of events",
    "a pair of events",
    "not a single event",
    "a threesome",
    "tenfold",
    "in their twenties",
    "ninety percent",
    "a fair percentage",
    "many per cent",
    "a fortnight ago",
    "a decade ago",
    "part III",
    "the IV evening",
    "a five-star member",
    "came t w o times",
    "came a t w o b times",
    "came t-w-o times",
    "came tw-o times",
    "came f.i.v.e times",
    "five's company",
    "came fiv\u00e9 times",
    "fi&shy;ve",
    "\U0001f17e\U0001f17d\U0001f174 event",  # on tiles
    "{events_attended_90d:one event|more events}",
    "{events_attended_90d:tw|tw}o events",
    "{events_attended_90d:t|x}{rsvp_count_90d:e|w}{window_days:n|o} events",
]

DATES = [
    "came on Monday",
    "the MONDAY evening",
    "on Mondays",
    "on Fri",
    "since january",
    "in Sept",
    "in May",
    "last May",
    "in may",
    "March was lively",
    "since march",
    "on Sun",
    "came yesterday",
    "will come tomorrow",
    "\U0001f556 sharp",
]

CHARACTERS = [
    "a\nb",
    "a\tb",
    "a\x00b",
    "a\x7fb",
    "a\u2028b",
    "a\u202eb",
    "a\u2066b",
    "a\u200bb",
    "a\u200db",
    "a\u00adb",
    "a\ufeffb",
    "a\ue000b",
    "a\U0010ffffb",
    "a\U000e0061b",
    "thr\u200bee",
    "{rsvp_count_90d:a\u200bb|a}",
]

OTHER_LETTERS = [
    "came thr\u0435e times",
    "\uff46\uff49\uff56\uff45 times",
    "\U0001d41f\U0001d422\U0001d42f\U0001d41e times",
    "\u041f\u0440\u0438\u0432\u0435\u0442",
    "\u4f60\u597d",
    "\u1d0f\u0274\u1d07 time",
    "q\u0337uiet",
    "\u03b1t",
]

GLUED = [
    "{events_attended_90d}{window_days} events",
    "{events_attended_90d}.{window_days} events",
    "{events_attended_90d},{window_days} events",
    "the {events_attended_90d}th event",
    "the {events_attended_90d}{events_attended_90d:st|th} event",
    "a{window_days} days",
    "-{events_attended_90d} events",
    "\u2212{events_attended_90d} events",
    "+{events_attended_90d} events",
]

NOT_FOR_MEMBERS = [
    "are at risk",
    "are at a high risk",
    "are drifting, a real risk of leaving,",
    "a t r i s k",
    "are moderate",
    "are highly-engaged",
    "are new",
    "are inactive",
    "are (in)active",
    "are dis-engaged",
    "have a good score",
]

INNOCENT = [
    "No one minds; someone, anyone, everyone is welcome, and so are the loved ones.",
    "Ask them which one they liked, and suggest the next one.",
    "They help one another. Offer a one-to-one or one-on-one talk.",
    "Write at once, and once again later; be kind at first, and first of all brief.",
    "Call them by first name, and double-check that messages reach them every single time.",
    "Often present, of tenacious interest; attention and patience often help.",
    "Came to a few events, several talks and some evenings, none of them late.",
    "Their phone is stone old, the tone is fine, and none is alone.",
    "Weightlifting for teens, freight trains, a canine show, tender tents.",
    "You may like it. May we help? They may come.",
    "The march was long, the sun shone, and they sat and wed there.",
    "Seasons change; summer, autumn and winter evenings suit them.",
    "Underscore what they like; mention the secondary group and the hundredweight.",
    "Caf\u00e9, na\u00efve, Zo\u00eb, Ph\u1edf, Sm\u00f8rrebr\u00f8d and \u017curek are fine.",
    "Thank them \U0001f389 with a heart \u2764\ufe0f and a wave \U0001f44b\U0001f3fd.",
    "\u201cWell done\u201d \u2013 that is what they like to hear\u2026",
    "Came to {events_attended_90d} {events_attended_90d:event|events}, last {last_attended_at}.",
    "A member since {joined_at}; {days_since_active}-day pause ({window_days}).",
    "{notifications_read_90d}/{notifications_sent_90d} notifications read by them",
    "Steady - {events_attended_90d} events after {events_attended_prev_90d}. Invite them.",
    "CV, DIY and TV evenings, vitamin C and plan X suit them.",
    "A couples' evening, or pair them with a regular; both would suit them.",
    "Be patient: a weekly or monthly call at the end of the week is plenty.",
]


def both(text: str) -> set[str | None]:
    said = f"We saw that they {text} with us"
    return {admin_text_problem(said, CITABLE), user_text_problem(said, CITABLE)}


@pytest.mark.parametrize("text", NUMBERS_IN_SIGNS)
def test_no_figure_is_made_up_in_signs(text: str) -> None:
    assert both(text) == {"digit"}


@pytest.mark.parametrize("text", NUMBERS_IN_WORDS)
def test_no_figure_is_made_up_in_words(text: str) -> None:
    assert both(text) == {"number word"}


@pytest.mark.parametrize("text", DATES)
def test_no_date_is_made_up(text: str) -> None:
    assert both(text) == {"date"}


@pytest.mark.parametrize("text", CHARACTERS)
def test_no_character_is_without_a_sight(text: str) -> None:
    assert both(text) == {"control or invisible character"}


@pytest.mark.parametrize("text", OTHER_LETTERS)
def test_no_letter_is_of_an_alphabet_that_cannot_be_judged(text: str) -> None:
    assert both(text) == {"letter that is not Latin"}


@pytest.mark.parametrize("text", GLUED)
def test_no_figure_is_joined_to_what_makes_it_another(text: str) -> None:
    assert both(text) == {"glued figure"}


@pytest.mark.parametrize("text", INNOCENT)
def test_natural_words_are_left_alone(text: str) -> None:
    assert admin_text_problem(text, CITABLE) is None
    assert user_text_problem(text, CITABLE) is None


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_written_template_would_be_accepted(name: str) -> None:
    assert admin_text_problem(TEMPLATES[name].admin, CITABLE) is None
    assert user_text_problem(TEMPLATES[name].user, CITABLE) is None


@pytest.mark.parametrize("text", NOT_FOR_MEMBERS)
def test_admins_read_of_levels_and_members_do_not(text: str) -> None:
    said = f"We saw that they {text} with us"
    assert admin_text_problem(said, CITABLE) is None
    assert user_text_problem(said, CITABLE) in check_user_text(said)


def test_the_words_of_a_choice_are_judged_as_either_figure_reads() -> None:
    for choice in ("at risk|fine", "fine|at risk"):
        text = f"Things are {{events_attended_90d:{choice}}} for you."
        assert user_text_problem(text, CITABLE) == "at_risk"
    split = "Are you {rsvp_count_90d:in|very }{window_days:deed|active} these days?"
    assert user_text_problem(split, CITABLE) == "level_name"
    # Here the same figure decides both, so that nobody reads `inactive`.
    together = "You are {rsvp_count_90d:in|very }{rsvp_count_90d:deed|active} these days."
    assert user_text_problem(together, CITABLE) is None


def test_admins_get_neither_links_nor_markup() -> None:
    assert admin_text_problem("Send them to example.org tonight", CITABLE) == "url"
    assert admin_text_problem("Send them **lots** of mail", CITABLE) == "markup"
    assert admin_text_problem("Write to [name] in person", CITABLE) == "markup"


def test_too_many_choices_are_refused_before_they_are_tried() -> None:
    names = sorted(n for n in PLACEHOLDERS if n.endswith("_90d"))[:6]
    choices = " ".join(f"{{{name}:yes|no}}" for name in names)
    assert admin_text_problem(f"They said {choices} to us.", CITABLE) == "too many choices of words"


@pytest.mark.parametrize(
    "text",
    ["Came {times} times.", "Came {user_id} times", "Came {} times", "Came { joined_at }", "Came {",
     "Came } times", "Came {{joined_at}} here", "Since {joined_at:day|days} with us",
     "Came {rsvp_count_90d:event} here", "Came {rsvp_count_90d:a|b|c} here"],
)  # fmt: skip
def test_a_placeholder_is_one_that_there_is(text: str) -> None:
    assert admin_text_problem(text, CITABLE) == "unknown or malformed placeholder"


def test_what_is_unknown_of_somebody_is_not_cited() -> None:
    text = "Last came on {last_attended_at}, it seems."
    assert admin_text_problem(text, CITABLE) is None
    assert admin_text_problem(text, frozenset()) == "last_attended_at is not known"
    chosen = "Wrote {interaction_count_90d:a message|messages} lately."
    assert user_text_problem(chosen, frozenset()) == "interaction_count_90d is not known"


@pytest.mark.parametrize("text", ["", " ", "\u00a0", "!!! ... ???", "Thanks!",
                                  "{rsvp_count_90d} {events_attended_90d} in all"])  # fmt: skip
def test_a_text_says_something(text: str) -> None:
    assert admin_text_problem(text, CITABLE) in ("blank", "too short")


@pytest.mark.parametrize(
    ("cited", "characters"),
    [
        ("", 0),
        (" {joined_at}", 1 + DATE_MAX_CHARACTERS),
        (" {days_since_joined}", 1 + FIGURE_MAX_CHARACTERS),
        ("{days_since_joined:y|years ago}", len("years ago")),
        ("{days_since_joined:years ago|y}", len("years ago")),
    ],
)
def test_a_text_fits_with_the_longest_figures(cited: str, characters: int) -> None:
    for judge, limit in ((admin_text_problem, 400), (user_text_problem, 280)):
        fitting = "o" * (limit - characters) + cited
        assert judge(fitting, CITABLE) is None
        assert judge("o" + fitting, CITABLE) == "too long"


def test_a_text_of_any_length_is_judged_at_once() -> None:
    for text in ("x" * 10**6, "{" * 10**6, "{rsvp_count_90d:|}" * 10**5):
        assert admin_text_problem(text, CITABLE) == "too long"


LONGEST_DATE = datetime(2026, 9, 30, tzinfo=UTC)


def rendered(template: str, figure: int) -> str:
    schema = contract("signals.member_90d").polars_schema
    signals = {
        name: "x" if dtype == pl.String else figure if dtype == pl.Int64 else LONGEST_DATE
        for name, dtype in schema.items()
    }
    member = {**signals, "admin_template": template, "user_template": template}
    frame = pl.DataFrame(
        [member], schema={**schema, "admin_template": pl.String, "user_template": pl.String}
    )
    return str(render(frame)["user_explanation"][0])


PIECES = [
    *(f"{{{name}}}" for name in PLACEHOLDERS),
    *(f"{{{n}:event|events}}" for n in PLACEHOLDERS if n.endswith("90d")),
    *(" ", ". ", ", ", "-", "(", "You came to", "Thank you", "events", "days", "friends", "est"),
    *("at", "risk", "of", "ten", "t", "w", "o", "7", "new", "in", "active", "{", "}", "\u200b"),
]  # fmt: skip
MADE_UP = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
SPACED = st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)


@given(st.one_of(SPACED, MADE_UP, st.text()))
def test_what_is_accepted_reads_within_its_limit_and_with_its_figures_only(text: str) -> None:
    for judge, limit in ((admin_text_problem, 400), (user_text_problem, 280)):
        if judge(text, CITABLE) is not None:
            continue
        for figure in (1, 987_654):
            read = rendered(text, figure)
            assert len(read) <= limit
            figures = [
                rendered(f"{{{name}}}", figure)
                for name in re.findall(r"\{(\w+)\}", text)
            ]  # fmt: skip
            assert re.findall(r"\d+", read) == re.findall(r"\d+", " ".join(figures))


def test_a_change_of_verdicts_changes_the_version() -> None:
    hostile = [*NUMBERS_IN_SIGNS, *NUMBERS_IN_WORDS, *DATES, *CHARACTERS, *OTHER_LETTERS, *GLUED]
    hostile += NOT_FOR_MEMBERS
    verdicts = {
        text: [admin_text_problem(text, CITABLE) is None, user_text_problem(text, CITABLE) is None]
        for text in (*(f"We saw that they {text} with us" for text in hostile), *INNOCENT)
    }
    digest = hashlib.sha256(json.dumps(verdicts, sort_keys=True).encode()).hexdigest()[:12]
    # Another digest, for an example added, leaves the version; for a verdict changed, it does not.
    assert (VALIDATOR_VERSION, digest) == ("checks-1", "38e21226c5bd")
