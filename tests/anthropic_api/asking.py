"""Requests as our client sends them, and ways to send them, for the tests of this server itself.

Written out here rather than taken from the client, so that neither hides the other's mistakes.
"""

import json
from collections.abc import Sequence
from http.client import HTTPConnection
from typing import Any

import anthropic
from anthropic.types import Message, TextBlock, ToolUseBlock
from anthropic.types.messages import MessageBatch

from .api import AnthropicApi
from .models import HAIKU_4_5

REGULAR = "5 3 3 0 8 0 365 75 5 0 +"
OCCASIONAL = "1 2 0 0 31 8 365 ? 0 x -"
QUIET = "0 0 1 2 61 61 180 1 ? 91 ="
GONE = "0 0 0 0 x 181 365 0 0 x ="
NEWCOMER = "0 0 0 0 x 0 0 ? ? x ="
TALKER = "0 0 0 0 x 0 180 25 20 0 ="
PROFILES = (REGULAR, OCCASIONAL, QUIET, GONE, NEWCOMER, TALKER)

_ROW = {
    "type": "object",
    "properties": {
        "row": {"type": "integer"},
        "level": {
            "type": "string",
            "enum": ["highly_engaged", "moderate", "at_risk", "new", "inactive"],
        },
        "admin_explanation": {"type": "string"},
        "user_explanation": {"type": "string"},
    },
    "required": ["row", "level", "admin_explanation", "user_explanation"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {"classifications": {"type": "array", "items": _ROW}},
    "required": ["classifications"],
    "additionalProperties": False,
}


def user_message(
    profiles: Sequence[str] = PROFILES, *, name: str = "Choir", highly_engaged_min: int = 3
) -> str:
    """The user's message for some profiles of one organisation."""
    lines = [
        json.dumps({"name": name, "description": None}),
        f"highly_engaged_min={highly_engaged_min} moderate_min=1 new_member_days=60 "
        "inactive_days=180",
    ]
    return "\n".join(lines + [f"{row} {text}" for row, text in enumerate(profiles, start=1)])


def json_request(
    profiles: Sequence[str] = PROFILES,
    *,
    model: str = HAIKU_4_5.id,
    name: str = "Choir",
    system: str = "Judge how engaged these members are.",
    is_cached: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """The body of a request that wants its answer as JSON text."""
    block: dict[str, Any] = {"type": "text", "text": system}
    if is_cached:
        block["cache_control"] = {"type": "ephemeral"}
    return {
        "model": model,
        "max_tokens": 4096,
        "system": [block],
        "messages": [{"role": "user", "content": user_message(profiles, name=name)}],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        **more,
    }


def tool_request(profiles: Sequence[str] = PROFILES, **more: Any) -> dict[str, Any]:
    """The body of a request that forces the call of a tool; arguments as of `json_request`."""
    body = json_request(profiles, **more)
    del body["output_config"]
    tool = {"name": "classify_engagement", "strict": True, "input_schema": SCHEMA}
    choice = {"type": "tool", "name": tool["name"], "disable_parallel_tool_use": True}
    return {"tools": [tool], "tool_choice": choice, **body}


def client_of(api: AnthropicApi, key: str | None = None) -> anthropic.Anthropic:
    """The real client, without retries of its own."""
    return anthropic.Anthropic(api_key=key or api.key, base_url=api.base_url, max_retries=0)


def rows_of(message: Message) -> list[dict[str, Any]]:
    """The rows of an answer, from its last block."""
    block = message.content[-1]
    if isinstance(block, TextBlock):
        payload = json.loads(block.text)
    else:
        assert isinstance(block, ToolUseBlock)
        payload = block.input
    rows: list[dict[str, Any]] = payload["classifications"]
    return rows


def post(
    api: AnthropicApi, path: str, body: dict[str, Any], **headers: str
) -> tuple[int, dict[str, Any], Any]:
    """Status, JSON and headers of a request without the client's checks; `_` in names is `-`."""
    host = api.base_url.removeprefix("http://")
    sent = {"anthropic-version": "2026-10-21", "authorization": f"Bearer {api.key}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = HTTPConnection(host)
    present = {name: value for name, value in sent.items() if value}
    connection.request("POST", path, json.dumps(body), present)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return answer.status, found, answer.headers


def batch_of(client: anthropic.Anthropic, count: int = 3) -> MessageBatch:
    """A batch of requests `r-0` and on, each about all profiles."""
    requests: Any = [{"custom_id": f"r-{n}", "params": tool_request()} for n in range(count)]
    return client.messages.batches.create(requests=requests)
