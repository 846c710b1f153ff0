"""How many tokens a text will take, before anybody has counted them.

An estimate only: it paces calls and foresees costs. What is paid is what the API says was used,
and `limits` and `asking` correct themselves by it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

TOOL_USE_TOKENS = 313
"""What the API adds when a tool must be used: the pricing page's figure for its small models."""

OUTPUT_TOKENS_A_PROFILE = 85
"""An answer's row: number, level and two sentences. Replaced by what answers turn out to take."""

_PIECE = re.compile(r"[A-Za-z]+|\d{1,3}|\n|[^\sA-Za-z\d]+", re.ASCII)
_LETTERS_A_TOKEN = 6
_SIGNS_A_TOKEN = 3


def text_tokens(text: str) -> int:
    """Tokens of a text: about one a word, one a number of three digits, one a sign or two."""
    return sum(_piece_tokens(piece) for piece in _PIECE.findall(text))


def _piece_tokens(piece: str) -> int:
    if not piece.isascii():
        return len(piece)
    if piece.isalpha():
        return -(-len(piece) // _LETTERS_A_TOKEN)
    return 1 if piece.isdigit() or piece == "\n" else -(-len(piece) // _SIGNS_A_TOKEN)


def prefix_tokens(params: Mapping[str, Any]) -> int:
    """Tokens of what is the same in every request: the tool or the answer's format, and the system
    text."""
    tools = params.get("tools")
    fixed = TOOL_USE_TOKENS if tools else 0
    shape = tools or params.get("output_config", {}).get("format", {}).get("schema")
    described = json.dumps(shape, separators=(",", ":")) if shape else ""
    system = "".join(block["text"] for block in params["system"])
    return fixed + text_tokens(described) + text_tokens(system)


def input_tokens(params: Mapping[str, Any]) -> int:
    """Tokens of a whole request, as it is sent."""
    turns = sum(text_tokens(message["content"]) + 4 for message in params["messages"])
    return prefix_tokens(params) + turns
