"""Moods: every word of the lexicon shows its own, unless it is taken back."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.behavior.moods import MOOD_WORDS, moods
from engagement_pipeline.contracts import vocabulary

_NEGATIONS = ("not", "never", "no", "isn't", "don\u2019t", "cannot")
_FILLERS = ("the", "very", "choir", "at")
# Of each mood some single words, that no longer phrase begins or ends with.
_MOOD_OF = {
    **dict.fromkeys(("annoyed", "ugh", "😡"), "frustration"),
    **dict.fromkeys(("confused", "unclear", "🤔"), "confusion"),
    **dict.fromkeys(("excited", "thrilled", "🎉"), "excitement"),
    **dict.fromkeys(("grateful", "thx", "🙏"), "gratitude"),
}


def _mood(text: str) -> str | None:
    found: str | None = moods(pl.Series([text]))[0]
    return found


def test_the_lexicon_has_the_moods_of_the_table() -> None:
    assert set(MOOD_WORDS) == set(vocabulary.MOODS)


@pytest.mark.parametrize("mood", MOOD_WORDS)
def test_whatever_the_lexicon_names_shows_its_mood(mood: str) -> None:
    found = MOOD_WORDS[mood]
    named = [*found.words, *found.phrases, *found.emojis]
    curly = [text.upper().replace("'", "\u2019").replace(" ", "  ") for text in named]
    texts = [f"well {text}, x" for text in [*named, *curly]]
    assert dict(zip(texts, moods(pl.Series(texts)), strict=True)) == dict.fromkeys(texts, mood)


@pytest.mark.parametrize("mood", MOOD_WORDS)
def test_a_word_after_a_negation_shows_no_mood(mood: str) -> None:
    texts = [f"I'm not at all {word}" for word in MOOD_WORDS[mood].words]
    assert dict(zip(texts, moods(pl.Series(texts)), strict=True)) == dict.fromkeys(texts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can't wait!", "excitement"),
        ("can't wait so excited", "excitement"),
        ("no thanks", None),
        ("no problem, thanks", "gratitude"),
        ("thanks for nothing", "frustration"),
        ("Thanks, but I'm confused", "confusion"),
        ("confused and annoyed", "frustration"),
        ("annoyed, but thanks and thank you", "gratitude"),
        ("so excited, thanks", "excitement"),
        ("I'm not confused, just annoyed", "frustration"),
        ("not excited thanks", "gratitude"),
        ("I dont get it", "confusion"),
        ("a party in Tyneside", None),
        ("", None),
    ],
)
def test_phrases_ties_and_negations(text: str, expected: str | None) -> None:
    assert _mood(text) == expected


def test_no_text_shows_no_mood_and_the_order_is_kept() -> None:
    given = pl.Series(["thanks", None, "ugh", "thanks", "nothing here"])
    expected = ["gratitude", None, "frustration", "gratitude", None]
    assert moods(given).to_list() == expected
    assert moods(pl.Series([None, None])).to_list() == [None, None]


def test_a_hostile_text_is_read_to_its_end() -> None:
    assert _mood("not " * 16_000 + ", thanks") == "gratitude"


@given(
    st.lists(
        st.tuples(st.sampled_from([*_MOOD_OF, *_NEGATIONS, *_FILLERS]), st.booleans()), max_size=12
    )
)
def test_words_are_counted_as_plain_python_counts_them(said: list[tuple[str, bool]]) -> None:
    text = " ".join(word + ("," if ends else "") for word, ends in said)
    assert _mood(text) == _plain(said)


def _plain(said: list[tuple[str, bool]]) -> str | None:
    """The same word by word: `said` has words, and whether a comma ends the part with it."""
    counts = dict.fromkeys(MOOD_WORDS, 0)
    at = 0
    while at < len(said):
        word, _ = said[at]
        if word in _NEGATIONS:
            taken_back = _first_named(said, at)
            if taken_back is not None:
                at = taken_back + 1
                continue
        if word in _MOOD_OF:
            counts[_MOOD_OF[word]] += 1
        at += 1
    most = max(counts.values())
    return next(mood for mood, n in counts.items() if n == most) if most else None


def _first_named(said: list[tuple[str, bool]], negation: int) -> int | None:
    """The place of the nearest word with a mood that a negation reaches; emojis end its reach."""
    for at in range(negation + 1, min(negation + 4, len(said))):
        word, _ = said[at]
        if said[at - 1][1] or (word in _MOOD_OF and not word.isalpha()):
            return None
        if word in _MOOD_OF:
            return at
    return None
