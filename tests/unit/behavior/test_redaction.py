"""What of a text may leave the machine: nothing by which somebody could be known or reached."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.behavior.redaction import MAX_CHARACTERS, NEUTRAL_WORDS, Redactor
from engagement_pipeline.scoring.user_text import as_it_reads

NAUGHTY = Path(__file__).parents[4] / "shared" / "data" / "naughty_strings" / "blns.json"
SECRETS = ("zofia", "wisniewska", "quillfeather", "kowalski", "member-77x", "hunter")
NAMES = (
    "Zofia Wiśniewska",
    "Dr. J. van der Quillfeather",
    "kowalski_🦊",
    "李小龍",
    "민수",
    "प्रिया शर्मा",
)
KNOWN = Redactor(NAMES, ids=["member-77x", "org|8812-q"])

PLANTED = (
    "Zofia",
    "ZOFIA WISNIEWSKA",
    "zofia-wiśniewska's",
    "ZofiaWiśniewska",
    "zofiawisniewska",
    "\uff3a\uff2f\uff26\uff29\uff21",
    "Zofi\u0301a",
    "Zo\u200bfi\u00ada",
    "Z\N{CYRILLIC SMALL LETTER O}fi\N{CYRILLIC SMALL LETTER A}",
    "&#90;ofia",
    "J. van der Quillfeather",
    "Kowalski",
    "member-77x",
    "zofia.wisniewska@hunter.example.org",
    "zofia @ hunter.org",
    "zofia [at] hunter [dot] org",
    "zofia at hunter dot org",
    "mailto:zofia@hunter",
    "https://hunter.example/zofia?q=1",
    "www.hunter.pl",
    "hunter.example.org",
    "HUNTER.COM/zofia",
    "hunter dot com",
    "/home/hunter/notes",
    "C:\\Users\\hunter\\x",
    "@hunter",
    "<@U02HUNTER>",
    "<@!8812|Hunter Thompson>",
    "<https://hunter.example|hunter>",
    "xx_hunter_xx",
    "hunter4kq81",
    "zofia-wisniewska-" * 6 + "hunter@example.org",
    "zofia-wisniewska-" * 6 + "hunter at example dot org",
)
NUMBERS = (
    "+48 600-123-456",
    "(020) 7946 0018",
    "4111 1111 1111 1111",
    "٠١٢٣",
    "\uff11\uff12\uff13",
    "①②③",
    "x²",
    "Ⅷ",
    "½",
    "550e8400-e29b-41d4-a716-446655440000",
    "192.168.0.1",
    "12/31/1999 23:59",
)


def is_clean(text: str) -> bool:
    """Whether there are only visible characters, no figures and no at-sign, in one short line."""
    categories = {unicodedata.category(character) for character in text}
    return (
        len(text) <= MAX_CHARACTERS
        and "@" not in text
        and not any(category.startswith(("N", "C", "Zl", "Zp")) for category in categories)
    )


def naughty_strings() -> list[str]:
    if not NAUGHTY.exists():
        pytest.skip(f"{NAUGHTY} is not there")
    texts: list[str] = json.loads(NAUGHTY.read_text(encoding="utf-8"))
    return texts


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("frame", ["{}", "thanks {}!", "so ({}), \N{RIGHT-TO-LEFT OVERRIDE}well"])
def test_nothing_is_left_of_a_name_or_an_address(planted: str, frame: str) -> None:
    redacted = KNOWN.redact(frame.format(planted))
    assert not [secret for secret in SECRETS if secret in as_it_reads(redacted)]
    assert any(word in redacted for word in NEUTRAL_WORDS)
    assert is_clean(redacted)


@pytest.mark.parametrize("planted", NUMBERS)
def test_no_figure_of_any_script_is_left(planted: str) -> None:
    redacted = KNOWN.redact(f"call {planted} now")
    assert is_clean(redacted)
    assert redacted.startswith("call ")
    assert redacted.endswith(" now")


@pytest.mark.parametrize("name", ["李小龍", "민수", "प्रिया", "शर्मा"])
def test_names_are_found_where_no_blank_parts_words(name: str) -> None:
    assert name not in KNOWN.redact(f"谢谢{name}가")
    assert KNOWN.redact(f"谢谢{name}") == "谢谢[name]"


@given(before=st.text(max_size=80), after=st.text(max_size=80), planted=st.sampled_from(PLANTED))
def test_whatever_stands_beside_it_a_secret_is_found(before: str, after: str, planted: str) -> None:
    redacted = KNOWN.redact(f"{before} {planted} {after}")
    assert not [secret for secret in SECRETS if secret in as_it_reads(redacted)]
    assert is_clean(redacted)


def test_a_secret_among_naughty_strings_is_found() -> None:
    texts = naughty_strings()
    for place, text in enumerate(texts):
        planted = PLANTED[place % len(PLANTED)]
        redacted = KNOWN.redact(f"{text} {planted} {texts[-place]}")
        assert not [secret for secret in SECRETS if secret in as_it_reads(redacted)], text
        assert is_clean(redacted), text


@given(st.text())
def test_any_text_comes_out_clean_and_the_same_again(text: str) -> None:
    redacted = Redactor().redact(text)
    assert is_clean(redacted)
    assert Redactor().redact(text) == redacted


@given(st.permutations(NAMES))
def test_the_order_of_names_makes_no_difference(names: list[str]) -> None:
    text = "Zofia, J. van der Quillfeather and 李小龍 met Kowalski"
    assert Redactor(names).redact(text) == Redactor(NAMES).redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "I am not happy with the choir at all, and you?",
        "lovely.Thanks for the evening",
        "a state-of-the-art either/or",
        "so happy 🎉 :-) \N{HEAVY BLACK HEART}",
        "J was here, as der Tag und van",
        f"N{'o' * 60}, my state-of-the-art s{'o' * 40}fa",
    ],
)
def test_what_tells_nothing_of_anybody_stays_as_it_is(text: str) -> None:
    assert KNOWN.redact(text) == text


def test_names_that_nobody_told_of_stay() -> None:
    assert KNOWN.redact("Thanks Rosalind") == "Thanks Rosalind"
    assert Redactor(["Rosalind"]).redact("Thanks Rosalind") == "Thanks [name]"


def test_a_heart_is_not_taken_for_a_number() -> None:
    assert KNOWN.redact("love it <3") == "love it \N{HEAVY BLACK HEART}"


def test_stand_ins_are_written_once_in_a_row_and_keep_the_sentence() -> None:
    text = "Zofia Wiśniewska, Kowalski: see hunter.com and a.b@c.de! Or 600 123 456?"
    assert KNOWN.redact(text) == "[name]: see [link] and [email]! Or [number]?"


@pytest.mark.parametrize(
    "text",
    [
        "word " * 20_000,
        "zofia " * 20_000,
        "a@" * 30_000,
        "a." * 30_000,
        "(" * 60_000,
        "李小龍" * 20_000,
        "&amp;" * 15_000,
        "x" * 1_990 + " zofia.wisniewska@hunter.example.org",
        "x" * 1_990 + "zofia.wisniewska@hunter.example.org",
    ],
)
def test_a_long_text_is_cut_and_nothing_of_what_the_cut_halves_is_left(text: str) -> None:
    redacted = KNOWN.redact(text)
    assert len(redacted) <= MAX_CHARACTERS
    assert not [secret for secret in (*SECRETS, "李", "小") if secret in redacted]
    assert is_clean(redacted)
