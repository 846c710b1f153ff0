"""Texts that are to be rated: what a user message asks, and what this server's model says of them.

Deterministic, text by text, whatever else is asked beside it, and no lexicon that a client may
use: an answer that is not this model's is found out. It follows no instructions, whoever gives
them. What goes wrong with an answer belongs to `spoilt_answers`.
"""

import hashlib
import json
from typing import Any

from .wire import UnreadableMessageError


def expected_sentiment(text: str) -> float:
    """What this server says of a text: from -1 to 1, in hundredths."""
    digest = hashlib.sha256(f"sounds:{text}".encode()).digest()
    return (int.from_bytes(digest[:4], "big") % 201 - 100) / 100


def read_texts(message: str) -> tuple[str, ...]:
    """The texts that a user message asks about: a line each, a number from 1 and a JSON string.

    Raises:
        UnreadableMessageError: a line is not as agreed, or the rows are not numbered 1 to n.
    """
    texts = []
    for expected, line in enumerate(message.split("\n"), start=1):
        number, _, told = line.partition(" ")
        if number != str(expected):
            raise UnreadableMessageError(f"expected row {expected}, found the line {line!r}")
        try:
            text = json.loads(told)
        except ValueError as error:
            raise UnreadableMessageError(f"row {expected} is not JSON: {error}") from None
        if not isinstance(text, str):
            raise UnreadableMessageError(f"row {expected} is no string: {told!r}")
        texts.append(text)
    return tuple(texts)


def rate(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    """The answer to a message: one rating for each row, in order."""
    return [
        {"row": row, "sentiment": expected_sentiment(text)}
        for row, text in enumerate(texts, start=1)
    ]
