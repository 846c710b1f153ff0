"""The mood that a text shows, from a small written lexicon: the words, and how they are counted.

English only, with a few emojis. How positive a text sounds is `sentiment`'s.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class MoodWords:
    """What shows a mood.

    Attributes:
        words: words and phrases that a negation before them takes back.
        phrases: what is looked for first, and as a whole: phrases that hold a negation, or a word
            of another mood, and mean something else together.
        emojis: single characters.
    """

    words: tuple[str, ...]
    phrases: tuple[str, ...]
    emojis: str


MOOD_WORDS: Mapping[str, MoodWords] = {
    "frustration": MoodWords(
        words=(
            *("frustrated", "frustrating", "frustration", "frustrates", "annoyed", "annoying"),
            *("annoys", "annoyance", "irritated", "irritating", "infuriating", "infuriated"),
            *("furious", "angry", "upset", "mad at", "fed up", "sick of", "tired of", "ugh"),
            *("argh", "aargh", "grr", "grrr", "hate", "hates", "hated", "ridiculous"),
            *("unacceptable", "waste of time", "disappointed", "disappointing", "give up"),
            *("giving up", "keeps crashing", "keeps failing", "still broken", "wtf", "ffs"),
            *("dammit", "damn it", "driving me crazy", "drives me crazy", "had enough"),
        ),
        phrases=(
            *("doesn't work", "does not work", "didn't work", "did not work", "not working"),
            *("isn't working", "won't work", "thanks for nothing", "can't stand"),
            *("cannot stand", "can't believe this", "no thanks to"),
        ),
        emojis="😠😡🤬😤😒🙄😩😫🤦",
    ),
    "confusion": MoodWords(
        words=(
            *("confused", "confusing", "confusion", "confuses", "unclear", "puzzled", "puzzling"),
            *("baffled", "baffling", "perplexed", "bewildered", "i'm lost", "i am lost", "huh"),
            *("what do you mean", "what does that mean", "what does this mean"),
            *("how does this work", "can someone explain", "could someone explain"),
        ),
        phrases=(
            *("don't understand", "do not understand", "didn't understand", "can't understand"),
            *("cannot understand", "don't get it", "do not get it", "doesn't make sense"),
            *("does not make sense", "doesn't make any sense", "makes no sense", "no idea"),
            *("no clue", "not clear", "isn't clear", "not sure how", "not sure what"),
            *("not sure why", "not sure if", "can't figure out", "cannot figure out"),
            *("can't work out", "cannot work out", "don't know how", "don't know what"),
        ),
        emojis="😕🤔🤷🤨😵",
    ),
    "excitement": MoodWords(
        words=(
            *("excited", "exciting", "excitement", "excites", "thrilled", "thrilling", "stoked"),
            *("pumped", "hyped", "psyched", "eager", "looking forward", "woohoo", "woo hoo"),
            *("yay", "yaay", "yayy", "hooray", "hurray", "yippee", "over the moon"),
            *("ecstatic", "buzzing"),
        ),
        phrases=("can't wait", "cannot wait", "can not wait", "couldn't be happier"),
        emojis="🎉🎊🥳🤩🙌",
    ),
    "gratitude": MoodWords(
        words=(
            *("thank you", "thank u", "thanks", "thankyou", "thanx", "thx", "tysm", "ty"),
            *("grateful", "gratitude", "thankful", "appreciate", "appreciated", "appreciates"),
            *("much obliged", "bless you"),
        ),
        phrases=("can't thank you enough", "cannot thank you enough", "can't thank you all enough"),
        emojis="🙏",
    ),
}
"""The lexicon, in the order in which moods win a tie: what calls for help comes before what is
often mere courtesy, so that "thanks, but I'm confused" is confusion."""

_NEGATIONS = (
    *("not", "never", "no", "nor", "neither", "without", "hardly", "cannot", "nothing"),
    *(
        f"{verb}n't"
        for verb in ("do", "does", "did", "is", "are", "was", "were", "wo", "ca", "could", "would")
    ),
    *(f"{verb}n't" for verb in ("should", "has", "have", "had", "ai")),
)
_WORDS_BETWEEN = 2
"""Words that may stand between a negation and what it takes back, as in "not at all excited"."""

_APOSTROPHE = "['\u2019]?"
"""Straight, curly or left out."""

# What is taken out leaves a mark behind that no negation reaches across.
_TAKEN_OUT = " . "


def moods(texts: pl.Series) -> pl.Series:
    """The mood that each text shows most often, or null if it shows none.

    What comes up to two words after a negation does not count ("not very excited"). Between moods
    that are shown equally often the order of `MOOD_WORDS` decides.

    Args:
        texts: strings; null gives null.

    Returns:
        A key of `MOOD_WORDS` or null for each text, as strings.
    """
    text, plain = pl.col("text"), pl.col("plain")
    found = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    # One pass tells that most texts show none, and only the others are looked at more closely.
    shown = (
        found.filter(text.str.contains(_ANY))
        .unique()
        .with_columns(
            text.str.replace_all(_ANY_PHRASE, _TAKEN_OUT)
            .str.replace_all(_NEGATED, _TAKEN_OUT)
            .alias("plain")
        )
        .with_columns(
            (text.str.count_matches(_PHRASES[mood]) + plain.str.count_matches(_WORDS[mood])).alias(
                mood
            )
            for mood in MOOD_WORDS
        )
        .select("text", _most_frequent().alias("mood"))
    )
    return found.join(shown, on="text", how="left", maintain_order="left")["mood"]


def _most_frequent() -> pl.Expr:
    most = pl.max_horizontal(*MOOD_WORDS)
    first = pl.coalesce(pl.when(pl.col(mood) == most).then(pl.lit(mood)) for mood in MOOD_WORDS)
    return pl.when(most > 0).then(first)


def _either(phrases: Iterable[str]) -> str:
    """A pattern of any of the phrases, however they are spaced and their apostrophes written."""
    longest_first = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    written = (re.escape(p).replace(r"\ ", r"\s+").replace("'", _APOSTROPHE) for p in longest_first)
    return rf"\b(?:{'|'.join(written)})\b"


def _every(field: str) -> list[str]:
    return [phrase for found in MOOD_WORDS.values() for phrase in getattr(found, field)]


_PHRASES = {name: f"(?i){_either(found.phrases)}" for name, found in MOOD_WORDS.items()}
_WORDS = {
    name: f"(?i){_either(found.words)}|[{found.emojis}]" for name, found in MOOD_WORDS.items()
}
_ANY_PHRASE = f"(?i){_either(_every('phrases'))}"
_ANY = f"{_ANY_PHRASE}|{_either(_every('words'))}|[{''.join(_every('emojis'))}]"
_NEGATED = (
    rf"(?i){_either(_NEGATIONS)}\s+(?:[\w'\u2019]+\s+){{0,{_WORDS_BETWEEN}}}?"
    rf"{_either(_every('words'))}"
)
