"""Filling templates in: what may be shown of names and titles, and the text that comes of it.

Which templates there are is in `templates`, which words are forbidden in `forbidden_words` and
`scoring.user_text`. Names come from members and organisations: whatever they hold, a message holds
nothing of it that members may not read.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from engagement_pipeline.outreach.forbidden_words import words_problems
from engagement_pipeline.outreach.templates import (
    MAX_CHARACTERS,
    MIN_CHARACTERS,
    SLOTS,
    Template,
)
from engagement_pipeline.scoring.user_text import as_it_reads, joined_words

_ELLIPSIS = "…"
# Joiners shape letters in Persian and Hindi, and emoji; what reads texts for rules skips them.
_JOINERS = "\u200c\u200d"
# Letters and signs by category that nobody sees.
_BLANKS = str.maketrans(dict.fromkeys("\u115f\u1160\u2800\u3164\uffa0", " "))
_MARKS_IN_A_ROW = 4
_NOBODYS_NAME = {"null", "none", "nil", "nan", "undefined", "unknown", "anonymous", "true", "false"}

_IN_NOBODYS_NAME = re.compile(r"[<>=%$#|^;\\]")

_WORDS = re.compile(r"[^\W\d_]+(?:[ '’-][^\W\d_]+)*…?")  # noqa: RUF001
_BETWEEN_LETTERS = str.maketrans("", "", " '’-…")  # noqa: RUF001
# Whatever rule a text breaks, one of these is in it, or in what of it is filled in.
_PART_OF_A_FORBIDDEN_WORD = re.compile(
    "risk|inactiv|engag|highly|moderate|new|scor|danger|point|rank|leader|level|percentile"
    "|topofthe|www|localhost|hxx|dot|^t?(?:r(?:is?)?)?$"
)
_BEGINS_A_FORBIDDEN_WORD = re.compile(
    r"\ba[ '’-]?t[ '’-]?r|\br[^\W_]?['’-]|^(?:com|org|net|info)\b|\bdis…?$"  # noqa: RUF001
)


class UnshowableTextError(ValueError):
    """No text can be made of a template and what is to be filled in; the message says why."""


def usable_slots(slots: Mapping[str, str | None]) -> dict[str, str]:
    """What can be filled in, as it will be shown.

    In NFC, without control, invisible and bidirectional characters, with single blanks, shortened
    at a word's end. Left out is what is missing, has no letter or picture, or a brace, is no name
    (`null`), or holds what members may not read: a rule of `check_user_text`, or a word of points,
    ranks or levels.

    Args:
        slots: name of the slot (`templates.SLOTS`) -> what was found for it, as it was found.

    Raises:
        ValueError: there is no such slot.
    """
    shown = {name: _shown(name, value) for name, value in slots.items() if value}
    return {name: value for name, value in shown.items() if value is not None}


def render(template: Template, slots: Mapping[str, str | None]) -> str:
    """The message that a template makes.

    Args:
        template: what to fill in; `templates.lint` found no problem in it.
        slots: as for `usable_slots`. What was there already comes out the same.

    Returns:
        10 to 500 characters that members may read.

    Raises:
        UnshowableTextError: a slot of the template cannot be filled in, or the whole may not be
            read.
        ValueError: there is no such slot.
    """
    pieces = list(template.pieces)
    # A model's words were not looked at as closely as ours.
    is_surely_fit = not template.is_rewritten
    for place in range(1, len(pieces), 2):
        name = pieces[place]
        value = slots.get(name)
        shown = _shown(name, value) if value else None
        if shown is None:
            raise UnshowableTextError(
                f"{template.template_id}: expected something to show for {name}, found none"
            )
        pieces[place] = shown
        is_surely_fit = is_surely_fit and _is_harmless(shown)
    text = "".join(pieces)
    if not MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS:
        raise UnshowableTextError(
            f"{template.template_id}: expected {MIN_CHARACTERS} to {MAX_CHARACTERS} characters, "
            f"found {len(text)}"
        )
    if not is_surely_fit and (problems := _words_problems(text)):
        raise UnshowableTextError(f"{template.template_id}: {', '.join(problems)}")
    return text


@lru_cache(maxsize=65_536)
def _shown(slot: str, value: str) -> str | None:
    """A value as it is shown in a slot; None where it cannot be."""
    if slot not in SLOTS:
        raise ValueError(f"expected a slot of {', '.join(SLOTS)}, found {slot!r}")
    shown = _shortened(_cleaned(value), SLOTS[slot])
    if not any(map(_is_letter_or_picture, shown)) or "{" in shown or "}" in shown:
        return None
    if slot == "name" and (shown.casefold() in _NOBODYS_NAME or _IN_NOBODYS_NAME.search(shown)):
        return None
    # Beside words, signs and itself, as templates may have it.
    if not _is_harmless(shown) and words_problems(
        f"{shown}! Look at {shown}, and at {shown}: {shown}. {shown}, {shown}? {shown} {shown}."
    ):
        return None
    return shown


def _cleaned(value: str) -> str:
    if value.isascii() and value.isprintable():
        return " ".join(value.split())
    value = unicodedata.normalize("NFC", value).translate(_BLANKS)
    shown: list[str] = []
    marks = 0
    for character in " ".join(value.split()):
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks <= _MARKS_IN_A_ROW and (category[0] != "C" or character in _JOINERS):
            shown.append(character)
    # Once more: a blank may now stand beside another one, and letters beside their accents.
    return unicodedata.normalize("NFC", " ".join("".join(shown).split()))


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    if text[limit - 1] != " ":
        cut = cut.rpartition(" ")[0] or cut
    return cut.rstrip(f" ,;:.-{_JOINERS}") + _ELLIPSIS


def _is_letter_or_picture(character: str) -> bool:
    return character.isalpha() or unicodedata.category(character) == "So"


@lru_cache(maxsize=65_536)
def _is_harmless(shown: str) -> bool:
    """Whether a text that breaks no rule surely breaks none with this in a slot either.

    Most names are so, and telling it takes a tenth of the time of reading a whole text: they are
    made of letters, and hold no part of a word that a rule is about.
    """
    if not _WORDS.fullmatch(shown):
        return False
    if shown.isascii():
        folded = shown.lower()
        words = [folded.translate(_BETWEEN_LETTERS)]
    else:
        folded = as_it_reads(shown)
        words = [folded.translate(_BETWEEN_LETTERS), joined_words(folded).replace(" ", "")]
    return not _BEGINS_A_FORBIDDEN_WORD.search(folded) and not any(
        map(_PART_OF_A_FORBIDDEN_WORD.search, words)
    )


@lru_cache(maxsize=4_096)
def _words_problems(text: str) -> list[str]:
    return words_problems(text)
