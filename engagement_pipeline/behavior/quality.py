"""How much an interaction is worth: its quality, and whether it says something at all.

Only the rules belong here, as expressions over columns that somebody else has drawn from a text;
how it sounds is `sentiment`'s.
"""

from collections.abc import Mapping

import polars as pl

SENTIMENT_WEIGHT = 0.30
LENGTH_WEIGHT = 0.20
QUESTION_WEIGHT = 0.15
REPLY_WEIGHT = 0.15
KIND_WEIGHT = 0.20

FULL_LENGTH_CHARACTERS = 100
SLOWEST_REPLY_SECONDS = 120

KIND_WORTH: Mapping[str, float] = {"voice": 1.0, "message": 0.6, "document": 0.5, "command": 0.4}
OTHER_KIND_WORTH = 0.2

MEANINGFUL_KINDS = ("command", "voice")
SHORTEST_MEANINGFUL_CHARACTERS = 5
LONG_ENOUGH_OVER_CHARACTERS = 10
STRONG_SENTIMENT = 0.3

QUESTION_MARKS = (
    "?\u00bf\u037e\u055e\u061f\u1367\u1945\u203d\u2047\u2048\u2049\u2753\u2754\u2cfa\u2cfb"
    "\u2e18\u2e2e\u2e54\ua60f\ua6f7\ufe16\ufe56\uff1f\U00011143\U0001e95f\U0001f679\U0001f67a"
    "\U0001f67b"
)
"""Whatever Unicode names a question mark or an interrobang, from the Greek to the full-width one.
Written as escapes: some look like a semicolon or like ours, and turn into those when copied."""

# A mark at the end of an address is the sentence's, as in "have you seen https://a.example/b?".
_WEB_ADDRESS = rf"(?i)(?:\b[a-z][a-z0-9+.-]*://|\bwww\.)\S*[^\s{QUESTION_MARKS}!.,:;'\")\]}}>]"
_ADDRESS_WITHOUT_SCHEME = rf"\b[\w-]+(?:\.[\w-]+)+(?::\d+)?[/?]\S*[^\s{QUESTION_MARKS}]"
_ANY_QUESTION_MARK = f"[{QUESTION_MARKS}]"


def asks_question(text: pl.Expr) -> pl.Expr:
    """Whether a text has a question mark of any script outside of a web address; null for null."""
    sentence = text.str.replace_all(_WEB_ADDRESS, " ").str.replace_all(_ADDRESS_WITHOUT_SCHEME, " ")
    # Few texts have a mark at all, and only those are worth the search for addresses.
    has_mark = text.str.contains(_ANY_QUESTION_MARK)
    return has_mark & sentence.str.contains(_ANY_QUESTION_MARK)


def quality(
    *,
    sentiment: pl.Expr,
    characters: pl.Expr,
    is_question: pl.Expr,
    response_time_seconds: pl.Expr,
    kind: pl.Expr,
) -> pl.Expr:
    """The weighted mean of what is known of an interaction, in [0, 1].

    The parts: sentiment, mapped to [0, 1]; length, by `FULL_LENGTH_CHARACTERS` and at most 1;
    whether it asks a question; how quick a reply it is, 0 from `SLOWEST_REPLY_SECONDS` on; and its
    kind. The weights of parts that are null go to the others, in proportion.

    Args:
        sentiment: in [-1, 1], or null.
        characters: how many the text has, or null.
        is_question: Boolean, or null.
        response_time_seconds: seconds from the message that it answers, at least 0, or null.
        kind: its type, never null.
    """
    parts = [
        (SENTIMENT_WEIGHT, (sentiment + 1) / 2),
        (LENGTH_WEIGHT, (characters / FULL_LENGTH_CHARACTERS).clip(upper_bound=1.0)),
        (QUESTION_WEIGHT, is_question.cast(pl.Float64)),
        (REPLY_WEIGHT, (1 - response_time_seconds / SLOWEST_REPLY_SECONDS).clip(lower_bound=0.0)),
        (KIND_WEIGHT, _worth(kind)),
    ]
    # Added up in one order, above and below, so that a sum never ends a rounding error above 1.
    total, weights = pl.lit(0.0), pl.lit(0.0)
    for weight, part in parts:
        total = total + (weight * part).fill_null(0.0)
        weights = weights + pl.when(part.is_not_null()).then(weight).otherwise(0.0)
    return total / weights


def is_meaningful(
    *, kind: pl.Expr, characters: pl.Expr, is_question: pl.Expr, sentiment: pl.Expr
) -> pl.Expr:
    """Whether an interaction says something: never null, whatever is null of what it is told by.

    A command or a voice message does; a text does from 5 characters on, if it asks a question,
    sounds strongly (|sentiment| at least 0.3), or has over 10 characters.
    """
    says_something = (
        is_question
        | (sentiment.abs() >= STRONG_SENTIMENT)
        | (characters > LONG_ENOUGH_OVER_CHARACTERS)
    )
    is_text = (characters >= SHORTEST_MEANINGFUL_CHARACTERS) & says_something
    return kind.is_in(MEANINGFUL_KINDS) | is_text.fill_null(False)


def _worth(kind: pl.Expr) -> pl.Expr:
    return kind.replace_strict(KIND_WORTH, default=OTHER_KIND_WORTH, return_dtype=pl.Float64)
