"""The models we know, and what each of them takes and costs: one table.

A model that is not here can be added in `engagement.toml` under `[models."its-id"]`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

OutputMode = Literal["tool", "json"]

_MILLION = 1_000_000
CACHE_WRITE_FACTOR = 1.25
CACHE_READ_FACTOR = 0.1
BATCH_FACTOR = 0.5


class UnknownModelError(ValueError):
    """A model that is neither built in nor described in the settings; the text lists both."""


@dataclass(frozen=True)
class Usage:
    """Tokens that an answer was billed for.

    Attributes:
        input_tokens: read at the full price.
        output_tokens: written, whatever the model thought to itself included.
        cache_write_tokens: read, and kept for the next request.
        cache_read_tokens: found there again.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0


@dataclass(frozen=True)
class ModelSpec:
    """What one model takes and costs.

    Attributes:
        name: the id that the API knows it by.
        input_usd: dollars per million input tokens.
        output_usd: dollars per million output tokens.
        output_mode: how it is held to an answer's shape: a forced tool, or JSON.
        must_disable_thinking: whether it thinks unless told not to. With a forced tool that is
            refused, and in any case it is paid for as output.
        min_cacheable_tokens: a prefix shorter than this is never cached.
        token_factor: its tokens in a text, as a multiple of our estimate.
    """

    name: str
    input_usd: float
    output_usd: float
    output_mode: OutputMode = "tool"
    must_disable_thinking: bool = False
    min_cacheable_tokens: int = 4_096
    token_factor: float = 1.0

    def cost_usd(self, usage: Usage, *, is_batch: bool = False) -> float:
        """Dollars at list price; a batch costs half."""
        read = (
            usage.input_tokens
            + CACHE_WRITE_FACTOR * usage.cache_write_tokens
            + CACHE_READ_FACTOR * usage.cache_read_tokens
        )
        whole = (read * self.input_usd + usage.output_tokens * self.output_usd) / _MILLION
        return whole * (BATCH_FACTOR if is_batch else 1.0)


DEFAULT_MODEL = "claude-haiku-4-5-20251001"

KNOWN_MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(DEFAULT_MODEL, input_usd=1.0, output_usd=5.0),
        ModelSpec("claude-haiku-4-5", input_usd=1.0, output_usd=5.0),
        ModelSpec(
            "claude-haiku-5-5",
            input_usd=0.10,
            output_usd=0.50,
            must_disable_thinking=True,
            min_cacheable_tokens=512,
            token_factor=1.3,
        ),
    )
}
"""List prices in dollars per million tokens, November 2026. Tokens of the newer model are about
30 % more for the same text."""


def model_spec(
    name: str, added: Mapping[str, Mapping[str, Any]], *, output_mode: str = "auto"
) -> ModelSpec:
    """What is known of a model.

    Args:
        name: the model's id.
        added: models described in the settings, by id; they win over those built in.
        output_mode: `auto` for the model's own, else `tool` or `json`.

    Raises:
        UnknownModelError: nobody described the model, or a description has an unknown entry.
    """
    if name in added:
        spec = _described(name, added[name])
    elif name in KNOWN_MODELS:
        spec = KNOWN_MODELS[name]
    else:
        known = ", ".join(sorted({*KNOWN_MODELS, *added}))
        raise UnknownModelError(
            f"model: expected one of {known}, found {name!r}. To add it, write in engagement.toml: "
            f'[models."{name}"] with input_usd and output_usd (dollars per million tokens), and '
            "where they differ from the default output_mode (tool or json), "
            "must_disable_thinking, min_cacheable_tokens, token_factor."
        )
    if output_mode == "auto":
        return spec
    return _described(name, {**vars(spec), "output_mode": output_mode})


class _Described(BaseModel):
    """A model's entry in the settings."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input_usd: float = Field(ge=0, allow_inf_nan=False)
    output_usd: float = Field(ge=0, allow_inf_nan=False)
    output_mode: OutputMode = "tool"
    must_disable_thinking: bool = False
    min_cacheable_tokens: int = Field(4_096, ge=0)
    token_factor: float = Field(1.0, gt=0, le=100, allow_inf_nan=False)


_OPTIONAL = sorted(n for n, field in _Described.model_fields.items() if not field.is_required())


def _described(name: str, given: Mapping[str, Any]) -> ModelSpec:
    entries = {key: value for key, value in given.items() if key != "name"}
    try:
        return ModelSpec(name=name, **_Described.model_validate(entries).model_dump())
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']} (found {e['input']!r})"
            for e in error.errors()
        )
        raise UnknownModelError(
            f'models."{name}": {wrong}. Expected are input_usd and output_usd, and where they '
            f"differ from the default {', '.join(_OPTIONAL)}."
        ) from None
