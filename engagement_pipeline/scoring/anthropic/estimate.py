"""What asking would take, worked out before anything is sent: calls, tokens and dollars.

How far earlier estimates were off is learned elsewhere; here it only corrects the next one.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engagement_pipeline.scoring.anthropic.models import ModelSpec, Usage
from engagement_pipeline.scoring.anthropic.requests import expected_usage, message_params
from engagement_pipeline.scoring.packing import pack
from engagement_pipeline.scoring.questions import OrgQuestions

RATIO_BOUNDS = (0.25, 4.0)
"""What a ratio beyond these is taken for: it tells of a mishap rather than of texts."""


@dataclass(frozen=True)
class TokenRatios:
    """Tokens that asking about an organisation takes, as a multiple of those expected.

    Attributes:
        input, output: the ratios; those beyond `RATIO_BOUNDS` count as the bound.

    Raises:
        ValueError: a ratio is not a finite number.
    """

    input: float = 1.0
    output: float = 1.0

    def __post_init__(self) -> None:
        for name, ratio in (("input", self.input), ("output", self.output)):
            if not math.isfinite(ratio):
                raise ValueError(f"{name}: expected a finite ratio of tokens, found {ratio!r}")

    def corrected(self, usage: Usage) -> Usage:
        """The usage expected in place of this one, nothing cached."""
        return Usage(
            round(usage.input_tokens * _bounded(self.input)),
            round(usage.output_tokens * _bounded(self.output)),
        )


@dataclass(frozen=True)
class Estimate:
    """What some questions would take at list price.

    Attributes:
        profiles: questions to be put.
        calls: requests they make, if none has to be repeated.
        input_tokens, output_tokens: of all of them, nothing cached.
        cost_usd: dollars.
        one_call_a_member_usd: dollars that one call for each member of the same organisations
            would cost, those with an answer already included.
        uncorrected_tokens: organisation -> input and output tokens expected before any
            correction, for each organisation with something to ask.
    """

    profiles: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    one_call_a_member_usd: float = 0.0
    uncorrected_tokens: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def estimate(
    pending: Iterable[OrgQuestions],
    model: ModelSpec,
    *,
    profiles_per_call: int,
    is_batch: bool = False,
    output_a_profile: float | None = None,
    corrections: Mapping[str, TokenRatios] | None = None,
) -> Estimate:
    """What the questions would take; all organisations that are due count for the comparison.

    Corrections change what is shown and refused beforehand, never what is spent: every call sets
    aside the most that it can cost by itself (`sending`), so a ratio that is too low lets a run
    begin that the budget then cuts short.

    Args:
        pending: each organisation that is due, with the questions that have no answer yet.
        model: who would be asked.
        profiles_per_call: profiles in a call by rule.
        is_batch: whether they would go in a batch, at half the price.
        output_a_profile: output tokens that earlier answers took a profile, where known.
        corrections: organisation -> how its tokens differ from those expected. They take the place
            of `output_a_profile`, which is for organisations of which nothing was learned.
    """
    total = Estimate()
    uncorrected: dict[str, tuple[int, int]] = {}
    for asked in pending:
        org_id = asked.org.org_id
        ratios = (corrections or {}).get(org_id)
        for questions in pack(asked.questions, profiles_per_call):
            params = message_params(model, asked.org, [q.profile for q in questions])
            plain = expected_usage(model, params, len(questions))
            read, written = uncorrected.get(org_id, (0, 0))
            uncorrected[org_id] = (read + plain.input_tokens, written + plain.output_tokens)
            usage = _expected(model, params, len(questions), output_a_profile, ratios)
            total = replace(
                total,
                profiles=total.profiles + len(questions),
                calls=total.calls + 1,
                input_tokens=total.input_tokens + usage.input_tokens,
                output_tokens=total.output_tokens + usage.output_tokens,
                cost_usd=total.cost_usd + model.cost_usd(usage, is_batch=is_batch),
            )
        alone = asked.members * _one_member_usd(asked, model, output_a_profile, ratios)
        total = replace(total, one_call_a_member_usd=total.one_call_a_member_usd + alone)
    return replace(total, uncorrected_tokens=uncorrected)


def _one_member_usd(
    asked: OrgQuestions,
    model: ModelSpec,
    output_a_profile: float | None,
    ratios: TokenRatios | None,
) -> float:
    if not asked.members:
        return 0.0
    # Any profile does: each of them is a row of the same few tokens.
    profiles = [question.profile for question in asked.questions[:1]]
    params = message_params(model, asked.org, profiles)
    return model.cost_usd(_expected(model, params, 1, output_a_profile, ratios))


def _expected(
    model: ModelSpec,
    params: dict[str, Any],
    profiles: int,
    output_a_profile: float | None,
    ratios: TokenRatios | None,
) -> Usage:
    """Tokens by what was learned of the organisation, or else by what answers took on average.

    By one of the two: ratios are learned against the plain expectation, and would otherwise be put
    on top of the average that they have in them already.
    """
    if ratios is not None:
        return ratios.corrected(expected_usage(model, params, profiles))
    usage = expected_usage(model, params, profiles, output_a_profile=output_a_profile)
    return Usage(usage.input_tokens, usage.output_tokens)


def _bounded(ratio: float) -> float:
    lowest, highest = RATIO_BOUNDS
    return min(max(ratio, lowest), highest)
