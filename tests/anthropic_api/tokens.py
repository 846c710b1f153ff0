"""What a text costs in tokens, by this server's own estimate.

The real tokenizer is not public. One estimate serves usage, limits, prompt caching and
`count_tokens` alike, so that a client can be held to what it was told. Prices belong to `models`.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

TOOL_USE_TOKENS = 313
"""What the API adds for its own instructions on tools, as its documentation gave for a forced tool
of Claude 3.5 and later."""

MESSAGE_TOKENS = 4
ANSWER_TOKENS = 12

_LETTERS_PER_TOKEN = 7
_OTHERS_PER_TOKEN = 3
_PIECES = re.compile(r"([A-Za-z]+)|([0-9]{1,3})|([!-/:-@\[-`{-~]+)|(\n|[^\x00-\x7f])")
_LETTERS, _OTHERS = 1, 3


def compact(value: object) -> str:
    """JSON without blanks, as it is counted."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@lru_cache(maxsize=512)
def text_tokens(text: str) -> int:
    """Tokens of one text.

    Runs of ASCII letters count one for every 7 letters begun, runs of up to 3 digits one, runs of
    other ASCII characters one for every 3 begun, and each line break and each character beyond
    ASCII one. Blanks count nothing.
    """
    count = 0
    for piece in _PIECES.finditer(text):
        kind = piece.lastindex
        if kind == _LETTERS:
            count += -(-(piece.end() - piece.start()) // _LETTERS_PER_TOKEN)
        elif kind == _OTHERS:
            count += -(-(piece.end() - piece.start()) // _OTHERS_PER_TOKEN)
        else:
            count += 1
    return count


def content_text(content: object) -> str:
    """The text of a system prompt or a message: a string, or its text blocks joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(str(block.get("text", "")) for block in content if isinstance(block, dict))


def prefix_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of tools and system prompt: the part of a request that is cached."""
    count = text_tokens(content_text(body.get("system", "")))
    if body.get("tools"):
        count += TOOL_USE_TOKENS + text_tokens(compact(body["tools"]))
    return count


def input_tokens(body: Mapping[str, Any]) -> int:
    """Tokens of a whole request: prefix, output schema, and 4 more than its text a message."""
    count = prefix_tokens(body)
    output_format = (body.get("output_config") or {}).get("format")
    if output_format:
        count += text_tokens(compact(output_format.get("schema")))
    for message in body.get("messages", ()):
        count += MESSAGE_TOKENS + text_tokens(content_text(message.get("content")))
    return count


def output_tokens(answer: str) -> int:
    """Tokens of an answer: its text or the compact JSON of its tool input, and 12 more."""
    return ANSWER_TOKENS + text_tokens(answer)
