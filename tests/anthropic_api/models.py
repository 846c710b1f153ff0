"""The models this server knows: what each takes, counts and costs.

How tokens are counted belongs to `tokens`.
"""

from dataclasses import dataclass
from math import ceil

BATCH_PRICE_FACTOR = 0.5
CACHE_WRITE_PRICE_FACTOR = 1.25
CACHE_READ_PRICE_FACTOR = 0.1

_MILLION = 1_000_000


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer, as the API reports them; `input` is what no cache was part of."""

    input: int = 0
    output: int = 0
    cache_creation: int = 0
    cache_read: int = 0
    thinking: int = 0

    @property
    def input_total(self) -> int:
        return self.input + self.cache_creation + self.cache_read


@dataclass(frozen=True)
class ModelSpec:
    """One model.

    Attributes:
        id: as requests name it.
        input_usd, output_usd: per million tokens.
        cacheable_prefix_min: tokens from which a prefix is cached.
        token_factor: its tokens for one of the estimate.
        thinks_by_default: whether it thinks unless told not to.
        takes_forced_tool: whether a tool may be forced at all.
        max_output: tokens that one answer may have.
        context_window: tokens that a request may have.
        answers_as: the model that its answers name, where `id` is an alias.
    """

    id: str
    input_usd: float
    output_usd: float
    cacheable_prefix_min: int = 4096
    token_factor: float = 1.0
    thinks_by_default: bool = False
    takes_forced_tool: bool = True
    max_output: int = 64_000
    context_window: int = 200_000
    answers_as: str | None = None

    def tokens(self, estimate: int) -> int:
        """This model's tokens for an estimate of `tokens`."""
        return ceil(round(estimate * self.token_factor, 6))

    def usd(self, usage: Usage, *, is_batch: bool = False) -> float:
        """What an answer is billed at, in dollars."""
        input_tokens = (
            usage.input
            + usage.cache_creation * CACHE_WRITE_PRICE_FACTOR
            + usage.cache_read * CACHE_READ_PRICE_FACTOR
        )
        whole = (input_tokens * self.input_usd + usage.output * self.output_usd) / _MILLION
        return whole * BATCH_PRICE_FACTOR if is_batch else whole


HAIKU_4_5 = ModelSpec("claude-haiku-4-5-20251001", 1.0, 5.0)
HAIKU_5_5 = ModelSpec(
    "claude-haiku-5-5",
    0.10,
    0.50,
    cacheable_prefix_min=512,
    token_factor=1.3,
    thinks_by_default=True,
)
MODELS: tuple[ModelSpec, ...] = (
    HAIKU_5_5,
    HAIKU_4_5,
    ModelSpec("claude-haiku-4-5", 1.0, 5.0, answers_as=HAIKU_4_5.id),
)
