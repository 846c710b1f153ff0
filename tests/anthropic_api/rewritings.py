"""Templates that are to be put into other words: what a message asks, and what this model answers.

Deterministic, template by template, whatever else is asked beside it: an answer that is not this
model's is found out. What may be wrong with an answer's rows is here too.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from . import hostile_texts
from .faults import Fault, Misbehaviour
from .wire import UnreadableMessageError

TOOL_NAME = "rewrite_messages"

_ENDS = ("Take care!", "All the best!", "Warm wishes!", "Have a lovely day!")
_NO_TEXTS = (None, 7, ["Hello"], {"text": "Hello"}, True, "   ")
_FIELDS = {"for", "tone", "message"}

# A sentence to add, and the words that it is filled with in turn.
_SENTENCES: dict[Fault, tuple[str, Sequence[str]]] = {
    Fault.DIGITS: ("It was {} this time.", hostile_texts.DIGITS),
    Fault.NUMBER_WORDS: ("{} events so far!", hostile_texts.NUMBER_WORDS),
    Fault.AT_RISK_SPELT: ("You seem {} to us.", hostile_texts.AT_RISK_SPELLINGS),
    Fault.LEVEL_NAMED: ("You count as {} with us.", hostile_texts.LEVEL_NAMES),
    Fault.URL: ("Have a look at {} soon.", hostile_texts.URLS),
    Fault.MARKUP: ("And {} from us.", hostile_texts.MARKUP),
    Fault.UNKNOWN_PLACEHOLDER: ("That makes {} so far.", ("{points}", "{}", "{0}", "{Name}")),
    Fault.BROKEN_BRACE: ("That makes {} so far.", ("{name", "name}", "{{", "{name:x}")),
}


def expected_rewriting(message: str) -> str:
    """What this server makes of a template."""
    digest = hashlib.sha256(f"rewrite:{message}".encode()).digest()
    return f"{message} {_ENDS[digest[0] % len(_ENDS)]}"


def read_messages(message: str) -> tuple[str, ...]:
    """The templates that a user message asks about: a line each, a number from 1 and JSON.

    Raises:
        UnreadableMessageError: a line is not as agreed, or the rows are not numbered 1 to n.
    """
    texts = []
    for expected, line in enumerate(message.split("\n"), start=1):
        number, _, told = line.partition(" ")
        if number != str(expected):
            raise UnreadableMessageError(f"expected row {expected}, found the line {line!r}")
        try:
            asked = json.loads(told)
        except ValueError as error:
            raise UnreadableMessageError(f"row {expected} is not JSON: {error}") from None
        if not isinstance(asked, dict) or set(asked) != _FIELDS:
            raise UnreadableMessageError(f"row {expected} is no message with {_FIELDS}: {told!r}")
        texts.append(asked["message"])
    return tuple(texts)


def rewrite(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    """The answer to a message: one text for each row, in order."""
    return [
        {"row": row, "text": expected_rewriting(text)} for row, text in enumerate(texts, start=1)
    ]


def spoil_rewritings(
    rows: list[dict[str, Any]], misbehaviour: Misbehaviour
) -> list[dict[str, Any]]:
    """The rows of an answer after a fault; the same where it is none of rows or texts.

    An unknown level is a text that is none, and an unknown figure a slot that is lost: of several
    forms in turn.
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
        return spoilt + [{**row, "text": f"Hello! {row['text']}"} for row in spoilt[:count]]
    for row in spoilt[:count]:
        _spoil_row(row, len(rows), misbehaviour)
    return spoilt


def _spoil_row(row: dict[str, Any], count: int, misbehaviour: Misbehaviour) -> None:
    fault, turn = misbehaviour.fault, misbehaviour.turn
    if fault in _NUMBERS:
        row["row"] = _NUMBERS[fault](row["row"], count)
    elif fault is Fault.EXTRA_FIELDS:
        row["confidence"] = 0.9
    elif fault is Fault.UNKNOWN_LEVEL:
        row["text"] = _NO_TEXTS[turn % len(_NO_TEXTS)]
    elif fault is Fault.EMPTY_TEXT:
        row["text"] = ""
    elif fault is Fault.TOO_LONG:
        row["text"] += " " + hostile_texts.TOO_LONG
    elif fault is Fault.UNKNOWN_FIGURE:
        row["text"] = row["text"].replace("{", "").replace("}", "") + " {org}" * 2
    elif fault in _SENTENCES:
        sentence, words = _SENTENCES[fault]
        word = misbehaviour.text or words[turn % len(words)]
        row["text"] = f"{row['text']} {sentence.replace('{}', word)}"


_NUMBERS: dict[Fault, Callable[[int, int], object]] = {
    Fault.ROW_UNKNOWN: lambda number, count: number + count,
    Fault.ROW_AS_STRING: lambda number, _: str(number),
    Fault.ROW_AS_FLOAT: lambda number, _: float(number),
    Fault.ROW_AS_BOOL: lambda *_: True,
}
