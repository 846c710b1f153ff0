"""What asking would take, worked out before anything is sent: calls, tokens and dollars."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engagement_pipeline.scoring.anthropic.models import ModelSpec, Usage
from engagement_pipeline.scoring.anthropic.requests import expected_usage, message_params
from engagement_pipeline.scoring.packing import pack
from engagement_pipeline.scoring.questions import OrgQuestions


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
    """

    profiles: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    one_call_a_member_usd: float = 0.0


def estimate(
    pending: Iterable[OrgQuestions],
    model: ModelSpec,
    *,
    profiles_per_call: int,
    is_batch: bool = False,
    output_a_profile: float | None = None,
) -> Estimate:
    """What the questions would take; all organisations that are due count for the comparison.

    Args:
        pending: each organisation that is due, with the questions that have no answer yet.
        model: who would be asked.
        profiles_per_call: profiles in a call by rule.
        is_batch: whether they would go in a batch, at half the price.
        output_a_profile: output tokens that earlier answers took a profile, where known.
    """
    total = Estimate()
    for asked in pending:
        for questions in pack(asked.questions, profiles_per_call):
            params = message_params(model, asked.org, [q.profile for q in questions])
            usage = expected_usage(model, params, len(questions), output_a_profile=output_a_profile)
            total = replace(
                total,
                profiles=total.profiles + len(questions),
                calls=total.calls + 1,
                input_tokens=total.input_tokens + usage.input_tokens,
                output_tokens=total.output_tokens + usage.output_tokens,
                cost_usd=total.cost_usd + model.cost_usd(usage, is_batch=is_batch),
            )
        alone = asked.members * _one_member_usd(asked, model, output_a_profile)
        total = replace(total, one_call_a_member_usd=total.one_call_a_member_usd + alone)
    return total


def _one_member_usd(asked: OrgQuestions, model: ModelSpec, output_a_profile: float | None) -> float:
    if not asked.members:
        return 0.0
    # Any profile does: each of them is a row of the same few tokens.
    profiles = [question.profile for question in asked.questions[:1]]
    params = message_params(model, asked.org, profiles)
    usage = expected_usage(model, params, 1, output_a_profile=output_a_profile)
    return model.cost_usd(Usage(usage.input_tokens, usage.output_tokens))
