"""`engagement eval`: the golden set put to the configured classifier, in several ways."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from engagement_pipeline.defs.model import model_classifier, spec_of, way_of
from engagement_pipeline.scoring.anthropic.budget import refuse_if_over
from engagement_pipeline.scoring.anthropic.estimate import Estimate, estimate
from engagement_pipeline.scoring.anthropic.ledger import Row, Writing
from engagement_pipeline.scoring.anthropic.sending import RunFacts
from engagement_pipeline.scoring.anthropic.session import Way, ask
from engagement_pipeline.scoring.evaluation import (
    ROUNDS,
    Evaluation,
    Round,
    evaluate,
    golden_baseline,
    levels_by_member,
)
from engagement_pipeline.scoring.golden import GOLDEN_ORG, golden_members
from engagement_pipeline.scoring.questions import OrgQuestions, questions_about
from engagement_pipeline.settings import Settings

_AS_OF = datetime(2026, 1, 1, 4, tzinfo=UTC)
"""The set is laid out relative to a moment; any will do."""


class EvaluationError(RuntimeError):
    """The golden set could not be put to the model whole, so that there is nothing to measure."""


@dataclass(frozen=True)
class EvaluationRun:
    """The measures, and what it took to get them."""

    classifier: str
    model: str
    evaluation: Evaluation
    calls: int = 0
    spent_usd: float = 0.0

    def as_dict(self) -> Row:
        found = asdict(self.evaluation)
        head = {"classifier": self.classifier, "model": self.model}
        return head | found | {"calls": self.calls, "spent_usd": self.spent_usd}


def run(settings: Settings) -> EvaluationRun:
    """Evaluate the configured classifier. A batch's answers are a model's, so it is asked directly.

    Raises:
        MissingKeyError: a model is to be asked, and there is no key.
        CostRefusedError: that would cost more than `max_cost_usd`.
        StopRunError: the key, a permission or the account's limit forbids any call.
        EvaluationError: a round did not come to its end.
    """
    if settings.chosen_classifier == "rules":
        return EvaluationRun("rules", "", evaluate({"rules": golden_baseline(_AS_OF)}, _AS_OF))
    classifier, way = model_classifier(settings), way_of(settings)
    questions = questions_about(GOLDEN_ORG, golden_members(_AS_OF), classifier.fingerprint)
    foreseen = _foreseen(settings, questions)
    refuse_if_over(
        foreseen.cost_usd, settings.max_cost_usd, profiles=foreseen.profiles, calls=foreseen.calls
    )
    rounds: dict[str, dict[str, str]] = {}
    calls: list[Row] = []
    left = 0
    for number, one in enumerate(ROUNDS):
        spent = sum(row["spent_usd"] for row in calls)
        affordable = replace(way, max_cost_usd=max(0.0, settings.max_cost_usd - spent))
        answered, ended = _ask(settings, affordable, one, questions)
        rounds[one.name] = levels_by_member(answered, questions.questions, _AS_OF)
        calls += ended
        if number == 0:
            left = len(questions.questions) - len(answered)
    return EvaluationRun(
        classifier.name,
        classifier.model_version,
        evaluate(rounds, _AS_OF, left_to_rules=left),
        len(calls),
        sum(row["spent_usd"] for row in calls),
    )


def _ask(
    settings: Settings, way: Way, one: Round, questions: OrgQuestions
) -> tuple[dict[str, str], list[Row]]:
    """One round's levels by fingerprint, and its calls."""
    answers: list[Row] = []
    ended: list[Row] = []

    def keep(writings: Sequence[Writing]) -> None:
        for writing in writings:
            answers.extend(writing.answers)
            ended.extend(writing.ended)

    facts = RunFacts(
        f"eval-{one.name}"[:64],
        _AS_OF,
        "anthropic",
        settings.seed,
        settings.max_attempts,
        lambda: datetime.now(UTC),
    )
    paced = replace(way, pace=replace(way.pace, profiles_per_call=one.profiles_per_call))
    outcome = ask([one.ordered(questions)], paced, facts, keep)
    if outcome.failed:
        raise EvaluationError(f"{one.name}: {outcome.failed[GOLDEN_ORG.org_id]}")
    if any(why.source == "budget" for why in outcome.unanswered.values()):
        raise EvaluationError(
            f"{one.name}: max_cost_usd = ${settings.max_cost_usd:.4f} was spent before the end, "
            "since answers took more than expected or had to be repeated. Raise it."
        )
    levels = {row["fingerprint"]: row["level"] for row in answers if not row["is_vetoed"]}
    return levels, ended


def _foreseen(settings: Settings, questions: OrgQuestions) -> Estimate:
    rounds = [
        estimate([questions], spec_of(settings), profiles_per_call=one.profiles_per_call)
        for one in ROUNDS
    ]
    return Estimate(
        profiles=sum(one.profiles for one in rounds),
        calls=sum(one.calls for one in rounds),
        cost_usd=sum(one.cost_usd for one in rounds),
    )
