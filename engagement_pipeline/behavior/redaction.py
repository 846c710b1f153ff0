"""What is taken out of a text before it may leave the machine: who wrote, who is meant, and where.

Only the taking out belongs here. Which texts leave, and what is asked about them, is in
`sentiment_questions`; that they leave at all is a setting.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

from engagement_pipeline.scoring.user_text import as_it_reads

MAX_CHARACTERS = 500
"""A redacted text is cut here: how it sounds shows by then."""

_READ_CHARACTERS = 4 * MAX_CHARACTERS
_DOUBTFUL_CHARACTERS = 100

# One private character each while the text is worked on: a text of its own cannot hold any, since
# they are stripped first, and no rule takes what another put in for words.
_EMAIL, _LINK, _NAME, _NUMBER, _ID = map(chr, range(0xE000, 0xE005))
_STAND_INS = {
    _EMAIL: "[email]",
    _LINK: "[link]",
    _NAME: "[name]",
    _NUMBER: "[number]",
    _ID: "[id]",
}
NEUTRAL_WORDS = tuple(_STAND_INS.values())
"""What stands in a redacted text for what was taken out."""

_UNSEEN = ("Cf", "Cs", "Co", "Cn")
_BLANK = ("Cc", "Zs", "Zl", "Zp")

_AT = r"(?:\s?@\s?|\s?[\[({<]\s?(?:at|@)\s?[\])}>]\s?|\sat\s)"
_DOT = r"(?:\s?[\[({<]\s?(?:dot|\.)\s?[\])}>]\s?|\sdot\s)"
_TOP_LEVEL = (
    "com|org|net|info|io|edu|gov|co|uk|us|de|fr|eu|es|it|nl|pl|ch|at|be|se|dk|fi|br|ca|au|nz|jp|cn|"
    "in|me|app|dev|biz|gg|tv|ly|xyz|club|online|shop|site|blog|tech|cloud|live|page|link|social"
)
# Lengths are bounded, for a text without blanks would be read anew from each of its characters.
_SPREAD = (
    (re.compile(r"<[a-z]{2,10}:[^<>\s]{1,300}(?:\|[^<>]{0,100})?>", re.IGNORECASE), _LINK),
    (re.compile(r"<[@#!][^<>]{1,100}>"), _NAME),
    (re.compile(rf"[^\s@]{{1,64}}{_AT}[^\s@]{{1,99}}(?:{_DOT}\S{{1,63}})+", re.IGNORECASE), _EMAIL),
    (re.compile(r"[^\s@]{1,64}(?:\s@\s?|@\s)[^\s@]{1,99}\.[^\W\d_]{2,}"), _EMAIL),
    (re.compile(rf"\S{{1,63}}{_DOT}(?:{_TOP_LEVEL})\b", re.IGNORECASE), _LINK),
)
_LINK_SIGNS = re.compile(
    r"\w://|\bwww\.|\b(?:mailto|tel|sms|callto|sip|xmpp|skype|whatsapp|tg|data|file|javascript):\S"
    rf"|\w\.(?:{_TOP_LEVEL})(?![^\W_])|\w\.\w[\w-]*[/:]\S",
    re.IGNORECASE,
)
# A small letter straight after a dot: `lovely.Thanks` is two sentences.
_SMALL_AFTER_DOT = re.compile(r"\w\.[^\W\d_A-Z][^\W\d_]")
_ADDRESS = re.compile(r"[^@]@[^@]+\.[^\W\d_]{2}")
_ENDING = re.compile(r"[!?.,:;…)\]\"']*$")
_RUN = re.compile(r"[A-Za-z0_+=-]{8,}")
_ID_LETTERS = 30
_NUMBERS = re.compile(r"[+(]{0,2}0(?:[\s().,:;/\u2044+*#–—-]{0,3}0)*")  # noqa: RUF001
_REPEATED = re.compile(r"([\ue000-\ue004])(?:[\s,;]*\1)+")

# Of a longer name these are left: they name nobody, and `not` may turn a text round.
_NOBODY = frozenset(
    re.findall(
        "[a-z]+",
        "a an the this that and or but if so as of to in on at by for from with out up off no not "
        "i me my you your he him his she her it its we us our they them is am are was be do go all "
        "de la le el der die das und et y van von al",
    )
)


class Redactor:
    """Takes personal data out of the texts of one organisation.

    What it knows of an organisation's people it finds however it is written: in any case, without
    accents, in letters that only look alike, in one word or in parts. Nicknames, other forms of a
    name (`Annie`), and names of people whom it was not told of stay.

    Args:
        names: display names. Each of their words of two letters or more is taken out, but for
            the commonest (`the`, `van`), which go only with the whole name.
        ids: what members are known by otherwise; taken out as whole words.
    """

    def __init__(self, names: Iterable[str] = (), ids: Iterable[str] = ()) -> None:
        self._words: set[str] = set()
        self._sequences: dict[str, set[tuple[str, ...]]] = {}
        self._uncased: dict[str, set[str]] = {}
        self._ids = {_shown(one).casefold() for one in ids}
        for name in names:
            self._learn(_shown(name))

    def redact(self, text: str) -> str:
        """The text as it may leave the machine: at most `MAX_CHARACTERS`, in one line.

        E-mail addresses, web addresses and paths, mentions, numbers in any script, long tokens
        that look like ids, and the names and ids handed in are replaced by `NEUTRAL_WORDS`.
        Control, bidi and invisible characters are gone, and lookalikes of compatibility replaced
        (NFKC). It may be empty.

        Never raises, whatever the text.
        """
        head, is_cut_within_a_word = _head(text)
        # A heart is no number, and says a lot about how a text sounds.
        plain = _shown(head.replace("<3", "\N{HEAVY BLACK HEART}"))
        for pattern, stand_in in _SPREAD:
            plain = pattern.sub(stand_in, plain)
        plain = " ".join(self._token(token) for token in plain.split())
        plain = self._without_names(self._without_uncased(plain))
        plain = _NUMBERS.sub(_NUMBER, plain)
        plain = " ".join(_REPEATED.sub(r"\1", plain).split())
        if is_cut_within_a_word:
            # Half a name, or half an address, is not known for one.
            plain = plain[:-_DOUBTFUL_CHARACTERS]
        for stand_in, word in _STAND_INS.items():
            plain = plain.replace(stand_in, word)
        return _capped(plain)

    def _learn(self, name: str) -> None:
        parts = [part for is_word, part in _runs(name) if is_word]
        for part in (*parts, "".join(parts), name):
            if len(part) > 1 and any(_is_uncased(letter) for letter in part):
                self._uncased.setdefault(part[0], set()).add(part)
        keys = tuple(key for part in parts if (key := as_it_reads(part)))
        self._words |= {key for key in keys if len(key) > 1 and key not in _NOBODY}
        if len(keys) > 1:
            self._sequences.setdefault(keys[0], set()).add(keys)
            joined = "".join(keys)
            self._words |= {joined} - _NOBODY

    def _token(self, token: str) -> str:
        if token == "@":
            return "at"
        ending = _ENDING.search(token)
        end = ending[0] if ending else ""
        core = token.removesuffix(end)
        if _EMAIL in core or _ADDRESS.search(core):
            return _EMAIL + end
        if "@" in core:
            return _NAME + end
        if core.lstrip("(\"'[").casefold() in self._ids:
            return _ID + end
        if (
            _LINK_SIGNS.search(core)
            or _SMALL_AFTER_DOT.search(core)
            or core.count("/") + core.count("\\") > 1
        ):
            return _LINK + end
        return _RUN.sub(lambda run: _ID if _looks_like_an_id(run[0]) else run[0], core) + end

    def _without_uncased(self, text: str) -> str:
        """Without names in scripts that part no words, or hang particles on to names."""
        if not self._uncased:
            return text
        found, place = [], 0
        while place < len(text):
            names = self._uncased.get(text[place], ())
            there = max((n for n in names if text.startswith(n, place)), key=len, default="")
            found.append(_NAME if there else text[place])
            place += len(there) or 1
        return "".join(found)

    def _without_names(self, text: str) -> str:
        if not self._words:
            return text
        runs = list(_runs(text))
        keys = [as_it_reads(run) if is_word else "" for is_word, run in runs]
        places = [place for place, (is_word, _) in enumerate(runs) if is_word]
        found = [run for _, run in runs]
        number = 0
        while number < len(places):
            taken = self._sequence_at(keys, places, number)
            if taken == 0 and self._is_known(runs[places[number]][1], keys[places[number]]):
                taken = 1
            if taken:
                first, last = places[number], places[number + taken - 1]
                found[first : last + 1] = [_NAME, *[""] * (last - first)]
            number += taken or 1
        return "".join(found)

    def _sequence_at(self, keys: list[str], places: list[int], number: int) -> int:
        """How many words from this one on are a whole name; none if 0."""
        longest = 0
        for sequence in self._sequences.get(keys[places[number]], ()):
            there = places[number : number + len(sequence)]
            if len(sequence) > longest and tuple(keys[place] for place in there) == sequence:
                longest = len(sequence)
        return longest

    def _is_known(self, word: str, key: str) -> bool:
        if key in self._words:
            return True
        # `AnnaKowalska`, where only one of the two is known.
        parts = re.findall(r"[A-Z][a-z]+|[a-z]+|[A-Z]+", word) if word.isascii() else []
        return len(parts) > 1 and any(part.lower() in self._words for part in parts)


def _head(text: str) -> tuple[str, bool]:
    """So much of a text as is looked at, and whether its last word may be half a one."""
    if len(text) <= _READ_CHARACTERS:
        return text, False
    head = text[:_READ_CHARACTERS]
    begun = re.search(r"\S*$", head)
    cut = begun.start() if begun else 0
    return (head[:cut], False) if cut else (head, True)


def _shown(text: str) -> str:
    """The text as it is seen: entities undone, nothing invisible, and every digit a zero."""
    seen = _visible(text)
    for _ in range(3):
        seen = html.unescape(seen)
    seen = unicodedata.normalize("NFKC", _visible(unicodedata.normalize("NFKC", seen)))
    return "".join("0" if _is_digit(character) else character for character in seen).strip()


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    categories = ((character, unicodedata.category(character)) for character in text)
    return "".join(
        " " if category in _BLANK else character
        for character, category in categories
        if category not in _UNSEEN
    )


def _is_digit(character: str) -> bool:
    return character.isdigit() or (
        character > "\x7f" and unicodedata.category(character).startswith("N")
    )


def _runs(text: str) -> Iterator[tuple[bool, str]]:
    """The text in runs of letters and their marks, and of what is between."""
    for is_word, run in groupby(text, _is_letter):
        yield is_word, "".join(run)


def _is_letter(character: str) -> bool:
    return character.isalpha() or (
        character > "\x7f" and unicodedata.category(character).startswith("M")
    )


def _is_uncased(character: str) -> bool:
    return character.isalpha() and character.lower() == character.upper()


def _looks_like_an_id(run: str) -> bool:
    # A drawn-out `Noooo` is a word.
    bare = re.sub(r"([A-Za-z])\1{2,}", r"\1", run.strip("_-+="))
    letters = sum(character.isalpha() for character in bare)
    if letters and "0" in bare:
        return len(bare) >= 8
    turns = sum(a.islower() and b.isupper() for a, b in pairwise(bare))
    longest = max(map(len, re.split("[-_]", bare)))
    return "_" in bare or longest > _ID_LETTERS or (len(bare) >= 12 and turns > 2)


def _capped(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    head = text[:MAX_CHARACTERS]
    cut = head.rfind(" ", MAX_CHARACTERS - 60)
    return head[:cut] if cut > 0 else head
