"""How a text sounds: VADER's compound score, and the word for it.

VADER is a lexicon with rules, made for English posts (Hutto & Gilbert, "VADER: A Parsimonious
Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014). Which rows have a text,
and what a model says of one, belongs to `interactions`. Worker processes import this module: it
stays free of whatever takes long to import.
"""

from collections.abc import Sequence
from functools import cache

import polars as pl
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

READ_CHARACTERS = 4_000
"""How much of a text VADER reads, in characters. Of a text as long its score is near 1 or -1
whatever follows, and the library takes seconds for the longest that a source may bring."""

POSITIVE_FROM = 0.05
NEGATIVE_UP_TO = -0.05


# The library is untyped.
class _Analyzer(SentimentIntensityAnalyzer):  # type: ignore[misc]
    """The library's own analyser, given no more of a text than each of its checks looks at.

    Both checks lower every word of the text for each word with a score, so that 16,000 emojis took
    a minute and a half. They look back three words and ahead two, and compare places only.
    """

    def _negation_check(
        self, valence: float, words_and_emoticons: list[str], start_i: int, i: int
    ) -> float:
        first = max(0, i - 3)
        near = words_and_emoticons[first : i + 1]
        found: float = super()._negation_check(valence, near, start_i, i - first)
        return found

    def _special_idioms_check(
        self, valence: float, words_and_emoticons: list[str], i: int
    ) -> float:
        # It is only called of a word with three before it.
        near = words_and_emoticons[i - 3 : i + 3]
        found: float = super()._special_idioms_check(valence, near, 3)
        return found


def compound_scores(texts: Sequence[str]) -> list[float]:
    """VADER's compound score of each text, in [-1, 1], of its first `READ_CHARACTERS` characters.

    The score is `SentimentIntensityAnalyzer.polarity_scores(text)["compound"]` of what is read.
    A text in which VADER knows no word has 0.
    """
    analyzer = _analyzer()
    return [analyzer.polarity_scores(read_part(text))["compound"] for text in texts]


def read_part(text: str) -> str:
    """What VADER reads of a text: all, or its start up to the last word that fits in whole.

    A word that is longer than `READ_CHARACTERS` by itself is cut.
    """
    if len(text) <= READ_CHARACTERS:
        return text
    head = text[: READ_CHARACTERS + 1]
    if head[-1].isspace():
        return head[:-1]
    whole = head.rsplit(maxsplit=1)
    return whole[0] if len(whole) == 2 else head[:-1]


def sentiment_label(sentiment: pl.Expr) -> pl.Expr:
    """The word for a sentiment: from 0.05 up positive, from -0.05 down negative, null for null.

    The bounds are those of VADER's authors.
    """
    return (
        pl.when(sentiment >= POSITIVE_FROM)
        .then(pl.lit("positive"))
        .when(sentiment <= NEGATIVE_UP_TO)
        .then(pl.lit("negative"))
        .when(sentiment.is_not_null())
        .then(pl.lit("neutral"))
    )


@cache
def _analyzer() -> _Analyzer:
    # Made once a process: it reads its lexicon of 7,500 words from a file of the library's.
    return _Analyzer()
