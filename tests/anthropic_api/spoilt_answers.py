"""What goes wrong with the rows of an answer: numbers, levels and texts.

What goes wrong around them, such as a cut or a missing tool call, belongs to `answers`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from . import hostile_texts
from .faults import Fault, Misbehaviour
from .policy import texts_of
from .wire import CITABLE, citable

Row = dict[str, Any]

_ADMIN, _USER = "admin_explanation", "user_explanation"
_LEVELS = ("highly_engaged", "moderate", "at_risk", "new", "inactive")
_NEVER_CITABLE = "event_view_count_90d"

# A sentence to add, the words that it is filled with in turn, and the texts that get it.
_SENTENCES: dict[Fault, tuple[str, Sequence[str], tuple[str, ...]]] = {
    Fault.DIGITS: ("It was {} this time.", hostile_texts.DIGITS, (_ADMIN, _USER)),
    Fault.NUMBER_WORDS: ("{} events so far!", hostile_texts.NUMBER_WORDS, (_ADMIN, _USER)),
    Fault.AT_RISK_SPELT: ("You seem {} to us.", hostile_texts.AT_RISK_SPELLINGS, (_USER,)),
    Fault.LEVEL_NAMED: ("You count as {} with us.", hostile_texts.LEVEL_NAMES, (_USER,)),
    Fault.URL: ("Have a look at {} soon.", hostile_texts.URLS, (_USER,)),
    Fault.MARKUP: ("And {} from us.", hostile_texts.MARKUP, (_USER,)),
    Fault.UNKNOWN_PLACEHOLDER: (
        "That makes {} so far.",
        hostile_texts.UNKNOWN_PLACEHOLDERS,
        (_ADMIN, _USER),
    ),
    Fault.BROKEN_BRACE: ("That makes {} so far.", hostile_texts.BROKEN_BRACES, (_ADMIN, _USER)),
}


def spoil_rows(rows: list[Row], profiles: Sequence[str], misbehaviour: Misbehaviour) -> list[Row]:
    """The rows of an answer after a fault; the same rows where it is none of rows or texts.

    Args:
        rows: as `policy.classify` gives them.
        profiles: asked about, in order.
        misbehaviour: `rows` of it is how many rows are spoilt, from the first on.
    """
    spoilt = [dict(row) for row in rows]
    count = len(rows) if misbehaviour.rows is None else min(misbehaviour.rows, len(rows))
    fault = misbehaviour.fault
    if fault is Fault.ROWS_SHUFFLED:
        return spoilt[::-1]
    if fault is Fault.ALL_AT_RISK:
        return [_at_risk(row, profile) for row, profile in zip(spoilt, profiles, strict=True)]
    if fault is Fault.ROW_MISSING:
        return spoilt[count:]
    if fault is Fault.ROW_TWICE:
        return spoilt + [dict(row) for row in spoilt[:count]]
    if fault is Fault.ROW_CONTRADICTED:
        return spoilt + [{**row, "level": _another(row["level"])} for row in spoilt[:count]]
    for row, profile in zip(spoilt[:count], profiles, strict=False):
        _spoil_row(row, profile, len(rows), misbehaviour)
    return spoilt


_NO_SENTIMENTS = (1.01, -2, "good", "0.5", None, True, [0.5], 10**400)


def spoil_ratings(rows: list[Row], misbehaviour: Misbehaviour) -> list[Row]:
    """The ratings of an answer after a fault; the same where it is one of levels or texts.

    An unknown level is a sentiment that is none: of several forms in turn.
    """
    spoilt = [dict(row) for row in rows]
    count = len(rows) if misbehaviour.rows is None else min(misbehaviour.rows, len(rows))
    fault = misbehaviour.fault
    if fault is Fault.ROWS_SHUFFLED:
        return spoilt[::-1]
    if fault is Fault.ROW_MISSING:
        return spoilt[count:]
    if fault is Fault.ROW_TWICE:
        return spoilt + [dict(row) for row in spoilt[:count]]
    if fault is Fault.ROW_CONTRADICTED:
        return spoilt + [{**row, "sentiment": -row["sentiment"] or 1} for row in spoilt[:count]]
    for row in spoilt[:count]:
        if fault in _NUMBERS:
            row["row"] = _NUMBERS[fault](row["row"], len(rows))
        elif fault is Fault.EXTRA_FIELDS:
            row["confidence"] = 0.9
        elif fault is Fault.UNKNOWN_LEVEL:
            row["sentiment"] = _NO_SENTIMENTS[misbehaviour.turn % len(_NO_SENTIMENTS)]
    return spoilt


def _spoil_row(row: Row, profile: str, count: int, misbehaviour: Misbehaviour) -> None:
    fault = misbehaviour.fault
    if fault in _NUMBERS:
        row["row"] = _NUMBERS[fault](row["row"], count)
    elif fault is Fault.EXTRA_FIELDS:
        row["confidence"] = 0.9
    elif fault is Fault.UNKNOWN_LEVEL:
        row["level"] = misbehaviour.text or _turn(hostile_texts.UNKNOWN_LEVELS, misbehaviour)
    elif fault is Fault.TOO_LONG:
        row[_ADMIN] = row[_USER] = misbehaviour.text or hostile_texts.TOO_LONG
    elif fault is Fault.EMPTY_TEXT:
        row[_USER if misbehaviour.turn % 2 == 0 else _ADMIN] = misbehaviour.text or ""
    elif fault is Fault.UNKNOWN_FIGURE:
        _cite_unknown(row, profile, misbehaviour)
    elif fault in _SENTENCES:
        sentence, words, texts = _SENTENCES[fault]
        word = misbehaviour.text or _turn(words, misbehaviour)
        for text in texts:
            row[text] = f"{row[text]} {sentence.replace('{}', word)}"


_NUMBERS: dict[Fault, Callable[[int, int], object]] = {
    Fault.ROW_UNKNOWN: lambda number, count: number + count,
    Fault.ROW_AS_STRING: lambda number, _: str(number),
    Fault.ROW_AS_FLOAT: lambda number, _: float(number),
    Fault.ROW_AS_BOOL: lambda *_: True,
}


def _cite_unknown(row: Row, profile: str, misbehaviour: Misbehaviour) -> None:
    unknown = sorted(CITABLE - citable(profile)) or [_NEVER_CITABLE]
    name = misbehaviour.text or _turn(unknown, misbehaviour)
    row[_ADMIN] = f"{row[_ADMIN]} The record says {{{name}}}."


def _at_risk(row: Row, profile: str) -> Row:
    admin, user = texts_of(profile, "at_risk")
    return {**row, "level": "at_risk", _ADMIN: admin, _USER: user}


def _another(level: str) -> str:
    return _LEVELS[(_LEVELS.index(level) + 1) % len(_LEVELS)]


def _turn(forms: Sequence[str], misbehaviour: Misbehaviour) -> str:
    return forms[misbehaviour.turn % len(forms)]
