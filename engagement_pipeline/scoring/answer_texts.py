"""What a template that a model wrote must not hold: figures, numbers and dates of its own.

A text is judged as every member who shares it may come to read it. Which words a member may not
read at all is in `user_text`; what placeholders there are, and how they are filled, in
`explanations`; the shape of an answer belongs to `answers`.

English is asked for, and only English can be judged: letters of other alphabets are refused,
since a number or a level's name in them would go unseen.
"""

import re
import unicodedata
from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import product

from engagement_pipeline.scoring.explanations import (
    ADMIN_EXPLANATION_MAX_CHARACTERS,
    PLACEHOLDERS,
    USER_EXPLANATION_MAX_CHARACTERS,
    PlaceholderKind,
    TemplateError,
    placeholders_of,
)
from engagement_pipeline.scoring.user_text import (
    as_it_reads,
    check_plain_text,
    check_user_text,
    joined_words,
)

DATE_MAX_CHARACTERS = len("30 September 2026")
FIGURE_MAX_CHARACTERS = 6
MIN_LETTERS = 10

# Far above what any text that renders within its limit needs, and low enough to judge at once.
_TEMPLATE_MAX_CHARACTERS = 4_000
# Each figure that chooses words doubles the readings to judge.
_MAX_CHOOSING_FIGURES = 5

_BRACED = re.compile(r"\{([^{}]*)\}")
# Stands for what is filled in while words are judged: a sign that nothing here is about.
_FILLED_IN = "\N{OBJECT REPLACEMENT CHARACTER}"
_SAMPLE = {PlaceholderKind.FIGURE: "5", PlaceholderKind.DATE: "3 May 2026"}

# Beside a letter, another figure or a minus sign a figure would read as one that nobody has:
# `{a}{b}`, `{a},{b}`, `-{a}`, `{a}th`.
_GLUED_FIGURE = re.compile(
    rf"[^\W_]{_FILLED_IN}|{_FILLED_IN}[.,:'’]?(?:[^\W_]|{_FILLED_IN})"  # noqa: RUF001
    rf"|(?:^|[\s(])[-+−]{_FILLED_IN}"  # noqa: RUF001
)

_UNITS = "zero|one|two|three|four|five|six|seven|eight|nine"
_TEENS = "ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
_TENS = "twenty|thirty|fou?rty|fifty|sixty|seventy|eighty|ninety"
_POWERS = "hundred|thousand|[mbtr]+illion|dozen"
_ORDINALS = (
    "zeroth|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
    "|(?:thir|four|fif|six|seven|eigh|nine)teenth"
    "|(?:twen|thir|for|fif|six|seven|eigh|nine)tieth|hundredth|thousandth|millionth"
)
_NUMBER = f"(?:{_UNITS}|{_TEENS}|{_TENS}|{_POWERS})"
_NUMBER_WORD = re.compile(
    rf"{_NUMBER}+(?:e?s|fold|some|ish)?|{_NUMBER}*(?:{_ORDINALS})s?"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ties"
    r"|nil|nought|naught|zilch|once|twice|thrice|half|halves|quarters?|couple|single|trio|duo"
    r"|doubl(?:e|ed|ing)|tripl(?:e|ed|ing)|trebled?|quadrupled?"
    r"|fortnights?|fortnightly|decades?|percent|percentages?|pct"
)
# Number words that count nothing in these uses. They are cut before the search.
_COUNTING_NOTHING = re.compile(
    r"\bno[ -]one\b|\bone another\b|\bone[- ](?:on|to)[- ]one\b|\b(?:which|next|loved) one\b"
    r"|\bones\b|\bat once\b|\bonce (?:again|more)\b|\bat first\b|\bfirst of all\b"
    r"|\bfirst names?\b|\bdouble-check|\bevery single\b"
)
_TWO_OF_A_KIND = re.compile(r"\ba pair\b|\bpairs? of\b|\bper cent\b")
_SPELLED_NUMBER = re.compile(f"{_NUMBER}|second|third")
_ROMAN_NUMERAL = re.compile(r"\b(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})\b")
# Signs that mean a number though none of their properties says so: per cent, the emoji of ten,
# of a hundred, of medals and of clock faces.
_NUMBER_SIGN = re.compile("[%\u2030\u2031\u066a\U0001f51f\U0001f4af\U0001f947-\U0001f949]")
_CLOCK_SIGN = re.compile("[\U0001f550-\U0001f567]")

_DATE_WORD = re.compile(
    r"\b(?:january|february|april|june|july|august|september|october|november|december"
    r"|jan|feb|apr|jun|jul|aug|sept?|oct|nov|dec"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?|tues?|weds|thu|thurs?|fri"
    r"|yesterday|tomorrow)\b"
    r"|\b(?:in|since|until|during) (?:may|march)\b"
)
# Other words too, unless they have a capital that no beginning of a sentence calls for.
_DATE_NAME = re.compile(r"(?<=[^\W_] )(?:May|March|Mar|Mon|Wed|Sat|Sun)\b|\bMarch\b")

_ASCII_DIGIT = re.compile("[0-9]")
_LATIN_LETTERS_END = "\u024f"
_LATIN_WITH_ACCENTS = ("\u1e00", "\u1eff")
_EMOJI_FORM = "\ufe0f"
_ALLOWED_BLANKS = " \u00a0\u202f\u2009"


@dataclass(frozen=True)
class _Slot:
    """A placeholder in its template; `words` are those for one and for many."""

    name: str
    words: tuple[str, str] | None

    @property
    def max_characters(self) -> int:
        if self.words is not None:
            return max(map(len, self.words))
        is_date = PLACEHOLDERS[self.name].kind is PlaceholderKind.DATE
        return DATE_MAX_CHARACTERS if is_date else FIGURE_MAX_CHARACTERS

    def filled(self, has_one: bool, is_sample: bool) -> str:
        if self.words is not None:
            return self.words[0 if has_one else 1]
        return _SAMPLE[PLACEHOLDERS[self.name].kind] if is_sample else _FILLED_IN


def admin_text_problem(template: str, citable: Set[str]) -> str | None:
    """Why a model's text for admins cannot be used, in a few words; None where it can.

    Args:
        template: the text, with placeholders.
        citable: the placeholders whose values are known of everyone who will get it.

    Refused are, outside placeholders and in any script, spelling or disguise:

    - digits, number signs (`½`, `%`) and Roman numerals of two signs and more;
    - words for an exact quantity or place in a row: `one` to `trillion`, `zero`, ordinals,
      `once`, `half`, `double`, `dozen`, `couple`, `single`, `percent`, `fortnight`. The figure
      must be the member's own, and a text serves many members. `one` and `first` pass only
      where they cannot count (`no one`, `which one`, `one-to-one`, `at first`), and so do
      vague words (`few`, `some`, `several`) and the words for nothing (`none`, `never`), which
      are true of everyone in a bucket that begins at nought;
    - names of months and weekdays, `yesterday` and `tomorrow`: a text outlives the day;
    - a figure glued to letters or to another figure, which would read as a third one;
    - control, invisible and unassigned characters, letters that are not Latin;
    - URLs and markup; a text that may render longer than its limit, or has hardly a letter.
    """
    return _problem(template, citable, ADMIN_EXPLANATION_MAX_CHARACTERS, is_for_members=False)


def user_text_problem(template: str, citable: Set[str]) -> str | None:
    """The same of a text for members, who may also not read what `check_user_text` refuses."""
    return _problem(template, citable, USER_EXPLANATION_MAX_CHARACTERS, is_for_members=True)


def _problem(
    template: str, citable: Set[str], max_characters: int, *, is_for_members: bool
) -> str | None:
    if not template.strip():
        return "blank"
    if len(template) > _TEMPLATE_MAX_CHARACTERS:
        return "too long"
    try:
        names = placeholders_of(template)
    except TemplateError:
        return "unknown or malformed placeholder"
    unknown = [name for name in names if name not in citable]
    if unknown:
        return f"{unknown[0]} is not known"
    return (
        _size_problem(template, max_characters)
        or _character_problem(template)
        or _reading_problem(template, is_for_members=is_for_members)
    )


def _size_problem(template: str, max_characters: int) -> str | None:
    parts = _parts(template)
    longest = sum(len(p) if isinstance(p, str) else p.max_characters for p in parts)
    if longest > max_characters:
        return "too long"
    letters = sum(map(str.isalpha, "".join(p for p in parts if isinstance(p, str))))
    return "too short" if letters < MIN_LETTERS else None


def _character_problem(template: str) -> str | None:
    written = unicodedata.normalize("NFC", _BRACED.sub(_choices_of, template))
    if written.isascii() and written.isprintable():
        return "digit" if _ASCII_DIGIT.search(written) else None
    for character in written:
        category = unicodedata.category(character)
        if character == _EMOJI_FORM or character in _ALLOWED_BLANKS:
            continue
        if category[0] in "CZ":
            return "control or invisible character"
        if _is_numeric(character):
            return "digit"
        if category[0] == "M" or (category[0] == "L" and not _is_latin(character)):
            return "letter that is not Latin"
    return None


def _reading_problem(template: str, *, is_for_members: bool) -> str | None:
    parts = _parts(template)
    choosing = dict.fromkeys(p.name for p in parts if isinstance(p, _Slot) and p.words is not None)
    if len(choosing) > _MAX_CHOOSING_FIGURES:
        return "too many choices of words"
    check = check_user_text if is_for_members else check_plain_text
    for has_one in product((True, False), repeat=len(choosing)):
        chosen = dict(zip(choosing, has_one, strict=True))
        problem = _made_up_figure(_filled(parts, chosen, is_sample=False))
        if problem is not None:
            return problem
        broken = check(_filled(parts, chosen, is_sample=True))
        if broken:
            return broken[0]
    return None


def _made_up_figure(text: str) -> str | None:
    if _GLUED_FIGURE.search(text):
        return "glued figure"
    compatible = unicodedata.normalize("NFKC", text)
    if _has_numeric(compatible) or _NUMBER_SIGN.search(compatible):
        return "digit"
    if _ROMAN_NUMERAL.search(compatible):
        return "number word"
    folded = " ".join(as_it_reads(text).split())
    if _DATE_WORD.search(folded) or _DATE_NAME.search(compatible) or _CLOCK_SIGN.search(text):
        return "date"
    return "number word" if _has_number_word(_COUNTING_NOTHING.sub("-", folded)) else None


def _has_number_word(folded: str) -> bool:
    words = re.findall(r"[a-z]+", folded)
    joined = joined_words(folded).split()
    if any(map(_NUMBER_WORD.fullmatch, (*words, *joined))) or _TWO_OF_A_KIND.search(folded):
        return True
    # Letters that stand alone, such as `t w o`, may have others before and after them.
    alone = "".join(word if len(word) == 1 else " " for word in words)
    return _SPELLED_NUMBER.search(alone) is not None


def _parts(template: str) -> list[str | _Slot]:
    # An odd place holds what stood between braces: `split` gives the captured group there.
    return [
        _slot(piece) if place % 2 else piece
        for place, piece in enumerate(_BRACED.split(template))
        if piece
    ]


def _slot(inner: str) -> _Slot:
    name, _, choice = inner.partition(":")
    one, bar, many = choice.partition("|")
    return _Slot(name, (one, many) if bar else None)


def _choices_of(braced: re.Match[str]) -> str:
    words = _slot(braced[1]).words
    return " ".join(words) if words else " "


def _filled(parts: list[str | _Slot], chosen: dict[str, bool], *, is_sample: bool) -> str:
    def pieces() -> Iterator[str]:
        for part in parts:
            if isinstance(part, str):
                yield part
            else:
                yield part.filled(chosen.get(part.name, False), is_sample)

    return "".join(pieces())


def _has_numeric(text: str) -> bool:
    if text.isascii():
        return _ASCII_DIGIT.search(text) is not None
    return any(map(_is_numeric, text))


def _is_numeric(character: str) -> bool:
    # Ideographs for numbers are letters by category, and have a numeric value all the same.
    return unicodedata.numeric(character, None) is not None or unicodedata.category(
        character
    ).startswith("N")


def _is_latin(character: str) -> bool:
    first, last = _LATIN_WITH_ACCENTS
    return character <= _LATIN_LETTERS_END or first <= character <= last
