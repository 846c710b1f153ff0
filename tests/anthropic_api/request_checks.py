"""What the API refuses of a request's body: each check raises the error that the API answers with.

Keys, headers and sizes belong to `service`, and what is wrong with the words of a prompt to nobody.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import ApiError, invalid
from .models import ModelSpec
from .tokens import input_tokens

BATCH_REQUESTS_MAX = 100_000

_CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_COUNTED = {
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "speed",
}
_CREATED = _COUNTED | {
    "max_tokens",
    "metadata",
    "stop_sequences",
    "stream",
    "service_tier",
    "container",
    "inference_geo",
    "diagnostics",
}
_NO_SAMPLING = ("temperature", "top_p", "top_k")
_NOT_IN_STRICT_SCHEMAS = (
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "pattern",
)

FindModel = Callable[[str], ModelSpec | None]


def check_message_request(body: Mapping[str, Any], find_model: FindModel) -> ModelSpec:
    """Check the body of `POST /v1/messages`, or the params of a request in a batch.

    Returns:
        The model asked for.

    Raises:
        ApiError: 400 or 404, as the API would.
    """
    model = _check_shared(body, _CREATED, find_model)
    max_tokens = body.get("max_tokens")
    if "max_tokens" not in body:
        raise invalid("max_tokens: Field required")
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        raise invalid("max_tokens: Input should be a valid integer")
    if max_tokens < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")
    if max_tokens > model.max_output:
        raise invalid(
            f"max_tokens: {max_tokens} > {model.max_output}, which is the maximum allowed number "
            f"of output tokens for {model.id}"
        )
    if body.get("stream"):
        raise invalid("stream: this server does not stream")
    _check_thinking(body, model, max_tokens)
    tokens = model.tokens(input_tokens(body))
    if tokens > model.context_window:
        raise invalid(f"prompt is too long: {tokens} tokens > {model.context_window} maximum")
    return model


def check_count_request(body: Mapping[str, Any], find_model: FindModel) -> ModelSpec:
    """Check the body of `POST /v1/messages/count_tokens`.

    Raises:
        ApiError: 400 or 404, as the API would.
    """
    model = _check_shared(body, _COUNTED, find_model)
    _check_thinking(body, model, None)
    return model


def check_batch_request(body: Mapping[str, Any]) -> None:
    """Check the body of `POST /v1/messages/batches`; params are checked only as they are worked on.

    Raises:
        ApiError: 400.
    """
    _check_known(body, {"requests"})
    requests = body.get("requests")
    if not isinstance(requests, list):
        raise invalid("requests: Field required")
    if not requests:
        raise invalid("requests: List should have at least 1 item after validation, not 0")
    if len(requests) > BATCH_REQUESTS_MAX:
        raise invalid(
            f"requests: List should have at most {BATCH_REQUESTS_MAX} items after validation, "
            f"not {len(requests)}"
        )
    seen = set()
    for place, request in enumerate(requests):
        custom_id = request.get("custom_id") if isinstance(request, dict) else None
        if not isinstance(custom_id, str) or _CUSTOM_ID.fullmatch(custom_id) is None:
            raise invalid(
                f"requests.{place}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
            )
        if custom_id in seen:
            raise invalid(f"requests.{place}.custom_id: Duplicate custom_id '{custom_id}'")
        if not isinstance(request.get("params"), dict):
            raise invalid(f"requests.{place}.params: Field required")
        seen.add(custom_id)


def is_thinking(body: Mapping[str, Any], model: ModelSpec) -> bool:
    """Whether the model thinks before this answer."""
    kind = (body.get("thinking") or {}).get("type")
    return model.thinks_by_default if kind is None else kind != "disabled"


def has_forced_tool(body: Mapping[str, Any]) -> bool:
    """Whether the request leaves the model no choice but to call a tool."""
    return (body.get("tool_choice") or {}).get("type") in ("tool", "any")


def _check_shared(body: Mapping[str, Any], known: set[str], find_model: FindModel) -> ModelSpec:
    for name in _NO_SAMPLING:
        if name in body:
            raise invalid(f"{name}: sampling parameters are not supported on this model")
    _check_known(body, known)
    if not isinstance(body.get("model"), str):
        raise invalid("model: Field required")
    model = find_model(body["model"])
    if model is None:
        raise ApiError(404, f"model: {body['model']}")
    _check_messages(body.get("messages"))
    _check_content("system", body.get("system", ""), is_empty_fine=True)
    _check_tools(body, model)
    _check_output_config(body.get("output_config"))
    return model


def _check_known(body: Mapping[str, Any], known: set[str]) -> None:
    for name in body:
        if name not in known:
            raise invalid(f"{name}: Extra inputs are not permitted")


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list):
        raise invalid("messages: Field required")
    if not messages:
        raise invalid("messages: at least one message is required")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise invalid(f"messages.{place}: expected a role and content, and nothing else")
        if message["role"] not in ("user", "assistant"):
            raise invalid(f"messages.{place}.role: Input should be 'user' or 'assistant'")
        _check_content(f"messages.{place}.content", message["content"])


def _check_content(where: str, content: object, *, is_empty_fine: bool = False) -> None:
    if isinstance(content, str):
        if not content.strip() and not is_empty_fine:
            raise invalid(f"{where}: text content must be non-empty")
        return
    if not isinstance(content, list):
        raise invalid(f"{where}: Input should be a valid string or a valid list")
    for place, block in enumerate(content):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise invalid(f"{where}.{place}: this server takes blocks of type 'text' only")
        if not isinstance(block.get("text"), str) or not block["text"].strip():
            raise invalid(f"{where}.{place}: text content blocks must be non-empty")
        if not set(block) <= {"type", "text", "cache_control"}:
            raise invalid(f"{where}.{place}: Extra inputs are not permitted")
        control = block.get("cache_control")
        if control is not None and (
            not isinstance(control, dict) or control.get("type") != "ephemeral"
        ):
            raise invalid(f"{where}.{place}.cache_control: Input should be of type 'ephemeral'")


def _check_tools(body: Mapping[str, Any], model: ModelSpec) -> None:
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    for place, tool in enumerate(tools):
        where = f"tools.{place}.custom"
        if not isinstance(tool, dict) or not isinstance(tool.get("input_schema"), dict):
            raise invalid(f"{where}.input_schema: Field required")
        if _TOOL_NAME.fullmatch(str(tool.get("name", ""))) is None:
            raise invalid(f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if tool["input_schema"].get("type") != "object":
            raise invalid(f"{where}.input_schema.type: Input should be 'object'")
        if tool.get("strict"):
            _check_strict_schema(f"{where}.input_schema", tool["input_schema"])
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not tools:
        raise invalid("tool_choice: may only be specified while providing tools")
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
        raise invalid("tool_choice: Input should be of type 'auto', 'any', 'tool' or 'none'")
    if choice["type"] == "tool" and choice.get("name") not in [tool["name"] for tool in tools]:
        raise invalid(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")
    if has_forced_tool(body) and not model.takes_forced_tool:
        raise invalid(f"tool_choice: '{model.id}' does not support forced tool use")


def _check_output_config(config: object) -> None:
    if config is None:
        return
    if not isinstance(config, dict) or not set(config) <= {"format", "effort"}:
        raise invalid("output_config: Extra inputs are not permitted")
    output_format = config.get("format")
    if output_format is None:
        return
    if not isinstance(output_format, dict) or output_format.get("type") != "json_schema":
        raise invalid("output_config.format.type: Input should be 'json_schema'")
    if not isinstance(output_format.get("schema"), dict):
        raise invalid("output_config.format.schema: Field required")
    _check_strict_schema("output_config.format.schema", output_format["schema"])


def _check_strict_schema(where: str, schema: Mapping[str, Any]) -> None:
    kind = schema.get("type", "value")
    for name in _NOT_IN_STRICT_SCHEMAS:
        if name in schema:
            raise invalid(f"{where}: For '{kind}' type, property '{name}' is not supported")
    if kind == "object":
        if schema.get("additionalProperties") is not False:
            raise invalid(
                f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to "
                "false"
            )
        for name in schema.get("properties", {}):
            if name not in schema.get("required", ()):
                raise invalid(f"{where}: property '{name}' must be in 'required'")
    for name, part in schema.get("properties", {}).items():
        _check_strict_schema(f"{where}.properties.{name}", part)
    if isinstance(schema.get("items"), dict):
        _check_strict_schema(f"{where}.items", schema["items"])
    for keyword in ("anyOf", "allOf"):
        for place, part in enumerate(schema.get(keyword, ())):
            _check_strict_schema(f"{where}.{keyword}.{place}", part)


def _check_thinking(body: Mapping[str, Any], model: ModelSpec, max_tokens: int | None) -> None:
    thinking = body.get("thinking")
    if thinking is not None:
        kind = thinking.get("type") if isinstance(thinking, dict) else None
        if kind not in ("enabled", "disabled", "adaptive"):
            raise invalid("thinking: Input should be of type 'enabled', 'disabled' or 'adaptive'")
        budget = thinking.get("budget_tokens")
        if kind == "enabled":
            if not isinstance(budget, int) or budget < 1024:
                raise invalid(
                    "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
                )
            if max_tokens is not None and budget >= max_tokens:
                raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`")
        elif budget is not None:
            raise invalid(f"thinking.{kind}.budget_tokens: Extra inputs are not permitted")
    if has_forced_tool(body) and is_thinking(body, model):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")
