"""How good a classifier is, on the golden set: the measures, and which way it is asked.

Asking is the caller's. What agreement and flips are is in `agreement`, the set in `golden`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from engagement_pipeline.scoring.agreement import agreement, cohens_kappa, flip_rate
from engagement_pipeline.scoring.golden import GOLDEN_ORG, expected, golden_members
from engagement_pipeline.scoring.levels import with_baseline
from engagement_pipeline.scoring.packing import in_another_order
from engagement_pipeline.scoring.profiles import with_profiles
from engagement_pipeline.scoring.questions import OrgQuestions, Question

REFERENCE = "in order, 10 a call"


@dataclass(frozen=True)
class Round:
    """One way of putting the whole golden set to a model.

    Attributes:
        name: the way, for people.
        profiles_per_call: how many go in a call.
        seed: of the order; None for that of the set.
    """

    name: str
    profiles_per_call: int
    seed: int | None = None

    def ordered(self, questions: OrgQuestions) -> OrgQuestions:
        """The questions in the round's order."""
        if self.seed is None:
            return questions
        keys = [question.fingerprint for question in questions.questions]
        shuffled = in_another_order(questions.questions, keys=keys, seed=self.seed)
        return OrgQuestions(questions.org, questions.members, tuple(shuffled))


ROUNDS = (
    Round(REFERENCE, 10),
    Round("permuted once, 10 a call", 10, seed=1),
    Round("permuted twice, 10 a call", 10, seed=2),
    Round("in order, 1 a call", 1),
    Round("in order, 25 a call", 25),
)
"""The first is the reference: the others ask the same, and should be told the same."""


@dataclass(frozen=True)
class Disagreement:
    """A golden member whom the classifier puts elsewhere than people would."""

    member: str
    expected: str
    found: str
    baseline: str
    why: str


@dataclass(frozen=True)
class Evaluation:
    """How good a classifier is.

    Attributes:
        members: size of the golden set.
        agreement: share of it whose level is the expected one.
        baseline_agreement: the same of the written rules.
        kappa_against_baseline: Cohen's kappa between the classifier and the written rules; None
            where chance alone would make them agree.
        flip_rates: by way of asking, the share whose level differs from the reference's.
        left_to_rules: members without a good answer of the model's, whose level is the rules'.
        disagreements: where it differs from what people expect.
    """

    members: int
    agreement: float
    baseline_agreement: float
    kappa_against_baseline: float | None
    flip_rates: dict[str, float]
    left_to_rules: int
    disagreements: list[Disagreement]


def golden_baseline(as_of: datetime) -> dict[str, str]:
    """The level that the written rules give each golden member."""
    members = with_baseline(golden_members(as_of), GOLDEN_ORG.thresholds)
    return dict(members.select("user_id", "baseline_level").iter_rows())


def golden_profiles(as_of: datetime) -> dict[str, str]:
    """The profile of each golden member; no two share one."""
    members = with_profiles(golden_members(as_of), GOLDEN_ORG.thresholds)
    return dict(members.select("user_id", "profile").iter_rows())


def levels_by_member(
    answered: Mapping[str, str], questions: Sequence[Question], as_of: datetime
) -> dict[str, str]:
    """Each golden member's level in one round; the written rules' where there is no answer.

    Args:
        answered: fingerprint -> level, vetoed answers left out.
        questions: the questions of the golden set.
        as_of: the moment that the set is laid out for.
    """
    by_profile = {q.profile.text: answered.get(q.fingerprint) for q in questions}
    baseline = golden_baseline(as_of)
    return {
        member: by_profile.get(profile) or baseline[member]
        for member, profile in golden_profiles(as_of).items()
    }


def evaluate(
    rounds: Mapping[str, Mapping[str, str]], as_of: datetime, *, left_to_rules: int = 0
) -> Evaluation:
    """The measures over what each round found.

    Args:
        rounds: name of the round -> golden member -> level; the first is the reference.
        as_of: the moment that the set is laid out for.
        left_to_rules: members without a good answer in the reference round.
    """
    wanted, baseline = expected(), golden_baseline(as_of)
    members = sorted(wanted)
    name, *others = rounds
    found = [rounds[name][member] for member in members]
    by_people = [wanted[member][0] for member in members]
    by_rules = [baseline[member] for member in members]
    return Evaluation(
        members=len(members),
        agreement=agreement(found, by_people),
        baseline_agreement=agreement(by_rules, by_people),
        kappa_against_baseline=cohens_kappa(found, by_rules),
        flip_rates={
            other: flip_rate(found, [[rounds[other][member] for member in members]])
            for other in others
        },
        left_to_rules=left_to_rules,
        disagreements=[
            Disagreement(member, level, got, baseline[member], wanted[member][1])
            for member, level, got in zip(members, by_people, found, strict=True)
            if level != got
        ],
    )
