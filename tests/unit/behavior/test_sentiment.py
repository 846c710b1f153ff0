"""How a text sounds: exactly as the library has it, and never slowly."""

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from engagement_pipeline.behavior import sentiment
from engagement_pipeline.behavior.sentiment import (
    READ_CHARACTERS,
    compound_scores,
    read_part,
    sentiment_label,
)
from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.settings import PROJECT_FOLDER

NAUGHTY = PROJECT_FOLDER.parent / "shared" / "data" / "naughty_strings" / "blns.json"

# What VADER has a rule for, with words before and after that the rule looks at.
_RULE_WORDS = st.sampled_from(
    [
        *("good", "GREAT", "bad", "terrible!", "love", "no", "kind", "of", "sort", "very", "least"),
        *("at", "never", "so", "this", "without", "doubt", "not", "isn't", "but", "BUT", "nor"),
        *("the", "shit", "bomb", "yeah", "right", "kiss", "death", "to", "die", "for", "bus"),
        *("stop", "or", "x", "??", "!!!", ":)", ":(", "😀", "💔", "😀😀", "beating", "heart"),
    ]
)

library = SentimentIntensityAnalyzer()


def _by_library(text: str) -> float:
    found: float = library.polarity_scores(text)["compound"]
    return found


@given(st.lists(_RULE_WORDS, max_size=14))
def test_words_with_rules_score_as_the_library_has_it(words: list[str]) -> None:
    text = " ".join(words)
    assert compound_scores([text]) == [_by_library(text)]


@given(st.text(max_size=200))
def test_any_text_scores_as_the_library_has_it(text: str) -> None:
    assert compound_scores([text]) == [_by_library(text)]


@pytest.mark.skipif(not NAUGHTY.exists(), reason=f"{NAUGHTY} is not there")
def test_naughty_strings_score_as_the_library_has_them() -> None:
    texts = json.loads(NAUGHTY.read_text(encoding="utf-8"))
    assert len(texts) == 515
    assert max(map(len, texts)) <= READ_CHARACTERS
    assert compound_scores(texts) == [_by_library(text) for text in texts]


def test_no_check_is_handed_more_than_the_words_nearby(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    for name in ("_negation_check", "_special_idioms_check"):
        original = getattr(SentimentIntensityAnalyzer, name)

        def watched(valence: float, words: list[str], *places: Any, check: Any = original) -> Any:
            seen.append(len(words))
            return check(valence, words, *places)

        monkeypatch.setattr(SentimentIntensityAnalyzer, name, staticmethod(watched))
    compound_scores(["😀" * 100])
    # Each emoji becomes two words, of which one has a score and is checked.
    assert len(seen) > 200
    assert max(seen) <= 6


@pytest.mark.parametrize("length", [READ_CHARACTERS + 1, 65_536])
@pytest.mark.parametrize("piece", ["😀", ":) but ", "not really so good ", "x", "\u202e\x00é"])
def test_the_longest_texts_are_read_up_to_the_cap(piece: str, length: int) -> None:
    text = (piece * length)[:length]
    [found] = compound_scores([text])
    assert found == compound_scores([read_part(text)])[0]
    assert -1 <= found <= 1


@given(
    st.lists(st.text("ab \n\u3000", min_size=1, max_size=9), min_size=1, max_size=5),
    st.integers(0, 400),
)
def test_what_is_read_ends_with_a_whole_word(pieces: list[str], repeats: int) -> None:
    text = "".join(pieces) * repeats * 10
    read = read_part(text)
    assert text.startswith(read)
    assert len(read) <= READ_CHARACTERS
    if len(text) <= READ_CHARACTERS:
        assert read == text
    elif len(text[: READ_CHARACTERS + 1].split()) > 1:
        assert read.split() == text.split()[: len(read.split())]
        # Nor would the next word, with the space before it, have fitted in.
        rest = text[len(read) :]
        next_word = rest.split()[0]
        assert len(read) + rest.index(next_word) + len(next_word) > READ_CHARACTERS


def test_a_word_longer_than_the_cap_is_cut() -> None:
    assert read_part("x" * 65_536) == "x" * READ_CHARACTERS


def test_a_text_that_ends_at_the_cap_keeps_its_last_word() -> None:
    text = "ab " * (READ_CHARACTERS // 4) + "c" * (READ_CHARACTERS // 4)
    assert len(text) == READ_CHARACTERS
    assert read_part(f"{text} more") == text
    assert read_part(f"{text}more").split()[-1] == "ab"


def test_labels_turn_at_five_hundredths() -> None:
    given = [1.0, 0.05, 0.0499, 0.0, -0.0499, -0.05, -1.0, None]
    found = pl.DataFrame({"s": given}, schema={"s": pl.Float64}).select(
        sentiment_label(pl.col("s"))
    )
    assert found.to_series().to_list() == [
        *("positive", "positive", "neutral", "neutral", "neutral", "negative", "negative", None)
    ]
    assert set(found.to_series().drop_nulls()) == set(vocabulary.SENTIMENT_LABELS)


def test_the_analyser_is_made_once() -> None:
    assert sentiment._analyzer() is sentiment._analyzer()
