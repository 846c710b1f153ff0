"""What a text for members may not say.

Words are judged here, whoever wrote them: our own templates and a model's answers alike. Lengths
and placeholders belong to `explanations`.
"""

import re
import unicodedata

from engagement_pipeline.contracts import vocabulary

# Cyrillic and Greek letters that look like Latin ones: a text reads the same with them.
_LATIN_LOOKALIKES = {
    **dict(zip("аеіјкорстухѕԁһвмн", "aeijkopctyxsdhbmh", strict=True)),
    **dict(zip("αεικμνορτυχı", "aeikmvoptuxi", strict=True)),
    "。": ".",
}
_LOOKALIKES = str.maketrans(_LATIN_LOOKALIKES)

_SEPARATORS = r"(?:[^\w\s]|_)*"


def _level_names() -> str:
    return "|".join(level.replace("_", " ?") for level in vocabulary.LEVELS)


_IN_WORDS = {
    # Also `a t r i s k`, `atrisk` and `at a high risk`.
    "at_risk": re.compile(r"\ba ?t ?r ?i ?s ?k|\bat (?:\w+ ){1,2}risk"),
    "level_name": re.compile(rf"\b(?:{_level_names()})\b"),
    "score": re.compile(r"\bscor(?:e|ing)"),
}
_IN_TEXT = {
    # A space is no separator here: `take part in activities` is a fine thing to say.
    "inactive": re.compile(rf"\bin{_SEPARATORS}activ"),
    "disengaged": re.compile(rf"\bdis{_SEPARATORS}engag"),
    "url": re.compile(
        r"[a-z]://|\b(?:mailto|tel|javascript|data):|\S@\S+\.\S"
        r"|[a-z0-9-]\.[a-z]{2,}|\b\d{1,3}(?:\.\d{1,3}){3}\b"
    ),
    "markup": re.compile(
        r"<[a-z!/@#?]|&#?\w+;|[*_~`]{2}|`|\]\(|\[\[|[*_]\w[^*_]*\w[*_](?!\w)"
        r"|^\s*(?:#+|[*+>-]|\d+\.)\s",
        re.MULTILINE,
    ),
}


def check_user_text(text: str) -> list[str]:
    """The rules that a text for members breaks, by name; none where it may be shown.

    Looks at the text as it reads: after NFKC folding, whatever the case, with accents,
    invisible characters and lookalike letters undone.

    Args:
        text: a template, or the explanation made of it.

    Returns:
        Any of `at_risk` (in any spelling), `level_name`, `score`, `inactive`, `disengaged`,
        `url` and `markup`, in that order. Labels that members may read, such as `Active`, are
        no level names; `new` is one, as a word of its own.
    """
    folded = _folded(text)
    words = " ".join(re.findall(r"[^\W_]+", folded))
    broken = [rule for rule, pattern in _IN_WORDS.items() if pattern.search(words)]
    return broken + [rule for rule, pattern in _IN_TEXT.items() if pattern.search(folded)]


def _folded(text: str) -> str:
    compatible = unicodedata.normalize("NFKC", text).casefold()
    bare = (
        character
        for character in unicodedata.normalize("NFKD", compatible)
        if unicodedata.category(character) not in ("Mn", "Cf")
    )
    return "".join(bare).translate(_LOOKALIKES)
