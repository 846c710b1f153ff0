"""What there is to ask a model about an organisation: its profiles, each by its fingerprint.

Which of them have an answer already is the caller's to know, and how they are asked is
`anthropic`'s.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import polars as pl

from engagement_pipeline.scoring.answers import VALIDATOR_VERSION
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.profiles import Profile, profile_fingerprint
from engagement_pipeline.scoring.prompt import PROMPT_VERSION, SCHEMA
from engagement_pipeline.scoring.sharing import with_shared_profiles


@dataclass(frozen=True)
class Question:
    """One profile, to be judged in the light of its organisation.

    Attributes:
        fingerprint: sha256, in hex, of all that could change the answer.
        profile: what is asked about.
    """

    fingerprint: str
    profile: Profile


@dataclass(frozen=True)
class OrgQuestions:
    """What there is to ask about one organisation.

    Attributes:
        org: the organisation.
        members: how many members share these profiles.
        questions: one a profile, in the order of their texts.
    """

    org: OrgContext
    members: int
    questions: tuple[Question, ...]

    def without(self, answered: Collection[str]) -> "OrgQuestions":
        """The same without the questions whose fingerprint is among `answered`."""
        left = tuple(q for q in self.questions if q.fingerprint not in answered)
        return OrgQuestions(self.org, self.members, left)

    def without_all(self) -> "OrgQuestions":
        """The organisation and its members alone, nothing being asked."""
        return OrgQuestions(self.org, self.members, ())


def questions_about(
    org: OrgContext,
    signals: pl.DataFrame,
    fingerprint: Callable[[OrgContext, Profile], str],
    *,
    members_per_profile: int = 1,
) -> OrgQuestions:
    """The questions that an organisation's members give rise to.

    Args:
        org: the organisation.
        signals: rows of `signals.member_90d` of its members; may be none.
        fingerprint: what a profile's question is known by.
        members_per_profile: how many members have to share a profile (see `sharing`).
    """
    shared = with_shared_profiles(signals, org.thresholds, min_members=members_per_profile)
    texts: Sequence[str] = shared["profile"].unique().sort().to_list()
    profiles = (Profile(text) for text in texts)
    questions = tuple(Question(fingerprint(org, profile), profile) for profile in profiles)
    return OrgQuestions(org, signals.height, questions)


def fingerprint_for(model: str, output_mode: str) -> Callable[[OrgContext, Profile], str]:
    """What a question is known by when it is put to this model in this way."""

    def fingerprint(org: OrgContext, profile: Profile) -> str:
        return profile_fingerprint(
            org,
            profile,
            prompt_version=PROMPT_VERSION,
            tool_schema=SCHEMA,
            model=model,
            output_mode=output_mode,
            validator_version=VALIDATOR_VERSION,
        )

    return fingerprint
