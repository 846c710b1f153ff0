"""Prompt caching: which part of a request was seen within five minutes, and so costs less.

Prices belong to `models`.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from .models import ModelSpec, Usage
from .tokens import compact, input_tokens, prefix_tokens

LIFETIME_SECONDS = 300.0


class PromptCache:
    """What is cached, for each key and model.

    A prefix is tools and system prompt, where a block of the latter has `cache_control`. It is
    there for others once the first answer is made, as the API documents: requests sent at the
    same time all write it.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._expires_at: dict[str, float] = {}

    def usage_of(self, body: Mapping[str, Any], model: ModelSpec, key: str) -> Usage:
        """The input side of a request's usage."""
        total = model.tokens(input_tokens(body))
        prefix = model.tokens(prefix_tokens(body))
        if not _is_marked(body) or prefix < model.cacheable_prefix_min:
            return Usage(input=total)
        if self._expires_at.get(_name(body, model, key), 0.0) > self._clock():
            return Usage(input=total - prefix, cache_read=prefix)
        return Usage(input=total - prefix, cache_creation=prefix)

    def keep(self, body: Mapping[str, Any], model: ModelSpec, key: str, usage: Usage) -> None:
        """Remember a prefix that was written or read, for five minutes from now."""
        if usage.cache_creation or usage.cache_read:
            self._expires_at[_name(body, model, key)] = self._clock() + LIFETIME_SECONDS


def _is_marked(body: Mapping[str, Any]) -> bool:
    system = body.get("system")
    return isinstance(system, list) and any(block.get("cache_control") for block in system)


def _name(body: Mapping[str, Any], model: ModelSpec, key: str) -> str:
    prefix = compact([body.get("tools"), body.get("system")])
    return f"{key}:{model.id}:{_digest(prefix)}"


@lru_cache(maxsize=64)
def _digest(prefix: str) -> str:
    return hashlib.sha256(prefix.encode()).hexdigest()
