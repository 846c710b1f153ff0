"""A request to the Messages API: the prompt, as one model takes it.

Sampling parameters are not sent: the API refuses them. What the prompt says is in `prompt`.
"""

from collections.abc import Sequence
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
    system: dict[str, Any] = {"type": "text", "text": SYSTEM}
    params: dict[str, Any] = {
        "model": model.name,
        "max_tokens": _MAX_TOKENS_BESIDES + _MAX_TOKENS_A_ROW * len(profiles),
        "system": [system],
        "messages": [{"role": "user", "content": user_turn(org, profiles)}],
        **_answer_shape(model),
    }
    if model.must_disable_thinking:
        params["thinking"] = {"type": "disabled"}
    if is_prefix_cacheable(model, params):
        system["cache_control"] = {"type": "ephemeral"}
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


def _answer_shape(model: ModelSpec) -> dict[str, Any]:
    if model.output_mode == "json":
        return {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
    return {
        "tools": [{"name": TOOL_NAME, "strict": True, "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": TOOL_NAME, "disable_parallel_tool_use": True},
    }
