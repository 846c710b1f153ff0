"""What a text for members may not say, and how any text reads whatever letters it is made of.

Words are judged here, whoever wrote them: our own templates and a model's answers alike. Lengths
and placeholders belong to `explanations`; figures that a model made up to `answer_texts`.
"""

import html
import re
import unicodedata

from engagement_pipeline.contracts import vocabulary

# Letters of other alphabets that look like Latin ones: a text reads the same with them. Capitals
# have a table of their own, since many look unlike their small forms: N and v are one Greek letter.
_CAPITALS = {
    **dict(zip("АВЕЅІЈКМНОРСТУХԌԚԜ", "ABESIJKMHOPCTYXGQW", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),  # noqa: RUF001
}
_SMALL = {
    **dict(zip("аеіјкорстухѕԁһвмнгпӏԛԝѵь", "aeijkopctyxsdhbmhrnlqwvb", strict=True)),
    **dict(zip("αεικμνορτυχςηωγβϲ", "aeikmvoptuxsnwybc", strict=True)),
    **dict(zip("ոսօհց", "nuohg", strict=True)),  # noqa: RUF001
    # Cherokee and Lisu, whose letters keep their shape when folded.
    **dict(zip("ᎪᏴᏟᎠᎬᏀᎻᎥᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ", "abcdeghijklmprstvwz", strict=True)),  # noqa: RUF001
    **dict(zip("ꓮꓐꓚꓓꓰꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ", "abcdeghijklmnoprstuvwxyz", strict=True)),  # noqa: RUF001
    "\N{SQUARED NEW}": "new",
    "。": ".",
}
_LATIN_NAME = re.compile(
    r"(?:LATIN (?:LETTER SMALL CAPITAL|SMALL LETTER(?: SCRIPT| OPEN| DOTLESS)?)"
    r"|NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER|REGIONAL INDICATOR SYMBOL LETTER)"
    r" ([A-Z])(?: WITH .+)?"
)
_LATIN_BLOCKS = (
    range(0x00C0, 0x02B0),
    range(0x1D00, 0x1DC0),
    range(0x2C60, 0x2C80),
    range(0xA720, 0xA800),
    range(0xAB30, 0xAB70),
    range(0x1F150, 0x1F200),
)


def _latin_variants() -> dict[str, str]:
    """Small capitals, crossed letters and letters on tiles, which no normal form undoes."""
    characters = (chr(point) for block in _LATIN_BLOCKS for point in block)
    named = ((c, _LATIN_NAME.fullmatch(unicodedata.name(c, ""))) for c in characters)
    return {c: found[1].lower() for c, found in named if found}


_CAPITAL_LOOKALIKES = str.maketrans(_CAPITALS)
_LOOKALIKES = str.maketrans({**_latin_variants(), **_SMALL})

# Read only within a word that has letters too: `r1sk`, `ri$k`, `@t`.
_SYMBOLS_AS_LETTERS = str.maketrans("@4!1|5$307+", "aaiiisseott")
_INVISIBLE = ("Mn", "Me", "Cf")

_LETTERS = re.compile(r"[a-z]+")
_CLAUSE_END = re.compile(r"[.!?;:](?:\s|$)|\n")
# A run of letters that stand alone, as in `r i s k`.
_SPACED_LETTERS = re.compile(r"\b[a-z](?: [a-z]\b)+")


def _level_names() -> str:
    return "|".join(level.replace("_", " ?") for level in vocabulary.LEVELS)


_IN_WORDS = {
    # Also `a t r i s k` and `atrisk`.
    "at_risk": re.compile(r"\ba ?t ?r ?i ?s ?k"),
    "level_name": re.compile(rf"\b(?:{_level_names()}|moderately)\b"),
    "score": re.compile(r"\bscor(?:e|ing)"),
    # A space is no separator here: `take part in activities` is a fine thing to say.
    "inactive": re.compile(r"\binactiv"),
    "disengaged": re.compile(r"\bdis ?engag"),
}
# Other ways to tell members that they are feared to leave. Risks that members take are their own.
_AT_RISK_IN_A_CLAUSE = re.compile(
    r"\bat (?:(?:\w+ ){1,2}"
    r"|(?:(?:an?|the|some|very|quite|much|more|most|real|high|higher|great|serious) )+)"
    r"risk(?! free)"
    r"|\brisk(?:s|ed|ing|y)? (?:of |to )?(?:\w+ ){0,2}"
    r"(?:leav|drift|los[ei]|drop|churn|laps|fall|fad|quit|slip|stopp|attrition)"
    r"|\b(?:high|higher|medium|low|elevated|increased|churn|flight|retention) risk"
    r"|\brisk (?:level|group|category|status|profile|factor|list)"
    r"|\bin danger of\b"
)
_AT_RISK_WITH_A_LETTER_HIDDEN = re.compile(
    r"\bat\W+(?:[^\w\s]isk|r[^\w\s]+sk|ri[^\w\s]+k|r[^\w\s]{2,}k)\b"
)

_TOP_LEVEL_DOMAINS = "com|org|net|info|io|edu|gov|co|uk|de|eu|me|app|dev|biz|gg|tv"
_NOT_PLAIN = {
    "url": re.compile(
        r"[a-z]://|//\w|\bhxxps?\b|\bwww\b|\blocalhost\b"
        r"|\b(?:mailto|tel|javascript):|\b(?:data|sms|tg|file|vbscript|whatsapp):\S"
        r"|\S@\S+\.\S|[\w-]\.[^\W\d_]{2,}|\b\d{1,3}(?:\.\d{1,3}){3}\b|::"
        rf"|[\[({{]\s?(?:\.|dot)\s?[\])}}]|\bdot (?:{_TOP_LEVEL_DOMAINS})\b"
        r"|\w\s?\.\s?(?:com|org|net|info)\b"
    ),
    "markup": re.compile(
        r"<[a-z!/@#?]|&#?\w+;|&(?:nbsp|lt|gt|amp|quot)\b|[*_~`|]{2}|`|\$\$"
        # Square brackets also hold what a model meant to fill in: `[name]`.
        r"|[\[\]\\]|(?<!\w)@\w"
        r"|(?<!\w)([*_~])(?=\S)[^*_~\n]+(?<=\S)\1(?!\w)"
        r"|^[^\S\n]*(?:(?:#+|[*+>-]|\d+[.)])\s|-{3})",
        re.MULTILINE,
    ),
}


def check_user_text(text: str) -> list[str]:
    """The rules that a text for members breaks, by name; none where it may be shown.

    Looks at the text as it reads: after NFKC folding, whatever the case, with accents,
    invisible characters, lookalike letters and HTML entities undone, and also with letters that
    are spaced, split by signs, or written as digits and signs.

    Args:
        text: a template, or the explanation made of it.

    Returns:
        Any of `at_risk` (in any spelling, and other ways to say that a member may leave),
        `level_name`, `score`, `inactive`, `disengaged`, `url` and `markup`, in that order. Labels
        that members may read, such as `Active`, are no level names; `new` is one, as a word of
        its own.
    """
    folded = as_it_reads(text)
    readings = _readings(folded)
    broken = [
        rule
        for rule, pattern in _IN_WORDS.items()
        if any(pattern.search(reading) for reading in readings)
    ]
    if "at_risk" not in broken and _fears_a_leave(folded):
        broken.insert(0, "at_risk")
    return broken + check_plain_text(text)


def check_plain_text(text: str) -> list[str]:
    """Which of `url` and `markup` a text has, for whomever it is; none where it is plain.

    `url` are also mail addresses, bare domains, network addresses and their usual disguises;
    `markup` is HTML, Markdown and mentions (`@everyone`), also a single square bracket.
    """
    folded = _fold(text)
    return [rule for rule, pattern in _NOT_PLAIN.items() if pattern.search(folded)]


def as_it_reads(text: str) -> str:
    """The text in small letters, as a reader sees it.

    After NFKC folding, with HTML entities, accents and invisible characters undone, and letters
    that look like Latin ones replaced by these.
    """
    return _fold(html.unescape(unicodedata.normalize("NFKC", text)))


def joined_words(folded: str) -> str:
    """The words of a folded text, put together again where signs or blanks split their letters.

    `r-i-s-k`, `r i s k` and `ri.sk` all give `risk`; words are parted by single blanks.
    """
    chunks = ("".join(_LETTERS.findall(chunk)) for chunk in folded.split())
    return _SPACED_LETTERS.sub(
        lambda run: run[0].replace(" ", ""), " ".join(chunk for chunk in chunks if chunk)
    )


def _readings(folded: str) -> list[str]:
    spelled = " ".join(
        chunk.translate(_SYMBOLS_AS_LETTERS) if _LETTERS.search(chunk) else chunk
        for chunk in folded.split()
    )
    return [
        _words(folded.replace("@", " at ")),
        _words(spelled),
        joined_words(folded),
        joined_words(spelled),
    ]


def _fears_a_leave(folded: str) -> bool:
    clauses = (_words(clause) for clause in _CLAUSE_END.split(folded))
    return bool(
        _AT_RISK_WITH_A_LETTER_HIDDEN.search(folded)
        or any(_AT_RISK_IN_A_CLAUSE.search(clause) for clause in clauses)
    )


def _words(text: str) -> str:
    return " ".join(_LETTERS.findall(text))


def _fold(text: str) -> str:
    if text.isascii() and text.isprintable():
        # Nothing of it is composed or invisible, and most texts are so: a fifth of the time.
        return text.translate(_CAPITAL_LOOKALIKES).casefold().translate(_LOOKALIKES)
    compatible = unicodedata.normalize("NFKC", text).translate(_CAPITAL_LOOKALIKES).casefold()
    bare = (
        character
        for character in unicodedata.normalize("NFKD", compatible)
        if unicodedata.category(character) not in _INVISIBLE
    )
    return "".join(bare).translate(_LOOKALIKES)
