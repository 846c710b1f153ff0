"""A request to the Messages API: a prompt, as one model takes it.

Sampling parameters are not sent: the API refuses them. What the prompts say is in `prompt`, and
in `behavior.sentiment_questions`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engagement_pipeline.scoring.anthropic.models import ModelSpec, Usage
from engagement_pipeline.scoring.anthropic.tokens import (
    OUTPUT_TOKENS_A_PROFILE,
    input_tokens,
    prefix_tokens,
)
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.scoring.prompt import SCHEMA, SYSTEM, TOOL_NAME, user_turn

_MAX_TOKENS_A_ROW = 240
_MAX_TOKENS_BESIDES = 120


def message_params(
    model: ModelSpec, org: OrgContext, profiles: Sequence[Profile]
) -> dict[str, Any]:
    """The body of a request about some profiles of one organisation."""
    return body_of(
        model,
        system=SYSTEM,
        user=user_turn(org, profiles),
        tool_name=TOOL_NAME,
        schema=SCHEMA,
        max_tokens=_MAX_TOKENS_BESIDES + _MAX_TOKENS_A_ROW * len(profiles),
    )


def body_of(
    model: ModelSpec,
    *,
    system: str,
    user: str,
    tool_name: str,
    schema: Mapping[str, Any],
    max_tokens: int,
) -> dict[str, Any]:
    """The body of a request for an answer of a given shape, as this model takes it.

    Args:
        model: who is asked.
        system: what is the same in every request.
        user: what is asked.
        tool_name: the tool that must be called, where the model answers by one.
        schema: the answer's shape.
        max_tokens: what the answer may take at most.
    """
    told: dict[str, Any] = {"type": "text", "text": system}
    params: dict[str, Any] = {
        "model": model.name,
        "max_tokens": max_tokens,
        "system": [told],
        "messages": [{"role": "user", "content": user}],
        **_answer_shape(model, tool_name, schema),
    }
    if model.must_disable_thinking:
        params["thinking"] = {"type": "disabled"}
    if is_prefix_cacheable(model, params):
        told["cache_control"] = {"type": "ephemeral"}
    return params


def is_prefix_cacheable(model: ModelSpec, params: dict[str, Any]) -> bool:
    """Whether the part that all requests share is long enough for this model to keep."""
    return prefix_tokens(params) * model.token_factor >= model.min_cacheable_tokens


def expected_usage(
    model: ModelSpec, params: dict[str, Any], rows: int, *, output_a_profile: float | None = None
) -> Usage:
    """Tokens that a request will probably take, nothing cached."""
    a_row = output_a_profile or OUTPUT_TOKENS_A_PROFILE * model.token_factor
    return Usage(
        input_tokens=round(input_tokens(params) * model.token_factor),
        output_tokens=round(a_row * rows),
    )


def _answer_shape(model: ModelSpec, tool_name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if model.output_mode == "json":
        return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    return {
        "tools": [{"name": tool_name, "strict": True, "input_schema": schema}],
        "tool_choice": {"type": "tool", "name": tool_name, "disable_parallel_tool_use": True},
    }
