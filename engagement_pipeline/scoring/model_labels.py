"""The classifier behind which a model stands: its answers, given to the members they are about.

Nothing is asked here. Where there is no answer to be had, or a level that may not be, the written
rules stand in, and the label says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import polars as pl

from engagement_pipeline.scoring.classifier import LABEL_SCHEMA
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.scoring.rules import RulesClassifier
from engagement_pipeline.scoring.sharing import with_shared_profiles

KNOWN_ANSWERS_SCHEMA = pl.Schema(
    {
        "fingerprint": pl.String(),
        "level": pl.String(),
        "is_vetoed": pl.Boolean(),
        "admin_template": pl.String(),
        "user_template": pl.String(),
        "asked_as_of": pl.Datetime("us", "UTC"),
    }
)
"""Answers on record: one row a fingerprint. `asked_as_of` is the moment it was first asked for."""

_RULES = RulesClassifier()
_MODELS_OWN = ("level", "admin_template", "user_template")


class UnansweredError(LookupError):
    """A profile has neither an answer nor a reason for having none."""


@dataclass(frozen=True)
class ModelClassifier:
    """Gives every member the level that the model gave their profile.

    Attributes:
        name: how the model was asked.
        model_version: the model.
        prompt_version: the prompt.
        setup: how it is held to the answer's shape, and the version of the checks.
        fingerprint: what a profile's question is known by.
        members_per_profile: how many members have to share a profile (see `sharing`).
        answers: answers on record (`KNOWN_ANSWERS_SCHEMA`).
        unanswered: fingerprint -> `fallback` or `budget`, of profiles left to the written rules.
    """

    name: str
    model_version: str
    prompt_version: str
    setup: str
    fingerprint: Callable[[OrgContext, Profile], str]
    members_per_profile: int = 1
    answers: pl.DataFrame = field(default_factory=KNOWN_ANSWERS_SCHEMA.to_frame)
    unanswered: Mapping[str, str] = field(default_factory=dict)

    def with_answers(self, answers: pl.DataFrame) -> "ModelClassifier":
        """The same, with other answers on record."""
        return replace(self, answers=answers)

    def classify(self, org: OrgContext, members: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
        """A label for each member (`LABEL_SCHEMA`), in the order of `members`.

        A label is `llm` where its answer was asked for this very `as_of`, so that a run that was
        cut off and taken up again says the same as one that was not; `llm_cached` where it was
        asked for another. `classified_at` is the moment it was asked for.

        Raises:
            UnansweredError: a profile has neither an answer nor a reason.
        """
        profiled = with_shared_profiles(
            members, org.thresholds, min_members=self.members_per_profile
        )
        texts = profiled["profile"].unique().to_list()
        known = pl.DataFrame(
            {
                "profile": texts,
                "fingerprint": [self.fingerprint(org, Profile(text)) for text in texts],
            },
            schema={"profile": pl.String, "fingerprint": pl.String},
        ).join(self.answers, on="fingerprint", how="left")
        left = pl.DataFrame(
            {"fingerprint": list(self.unanswered), "left_to": list(self.unanswered.values())},
            schema={"fingerprint": pl.String, "left_to": pl.String},
        )
        known = known.join(left, on="fingerprint", how="left")
        self._check_complete(org, known)
        by_rules = _RULES.classify(org, members, as_of=as_of).drop("fingerprint", "source")
        return self._labels(
            profiled.select("user_id", "profile")
            .join(known, on="profile", how="left", maintain_order="left")
            .join(by_rules, on="user_id", how="left", maintain_order="left", suffix="_by_rules"),
            as_of.astimezone(UTC),
        )

    def _labels(self, joined: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
        is_answered = pl.col("level").is_not_null()
        is_models = is_answered & ~pl.col("is_vetoed")
        moment = pl.lit(as_of, dtype=LABEL_SCHEMA["classified_at"])
        source = (
            pl.when(~is_answered)
            .then("left_to")
            .when("is_vetoed")
            .then(pl.lit("vetoed"))
            .when(pl.col("asked_as_of") == moment)
            .then(pl.lit("llm"))
            .otherwise(pl.lit("llm_cached"))
        )
        return joined.select(
            "user_id",
            "fingerprint",
            *(
                pl.when(is_models).then(name).otherwise(f"{name}_by_rules").alias(name)
                for name in _MODELS_OWN
            ),
            source.alias("source"),
            pl.when(is_answered)
            .then(pl.lit(self.model_version))
            .otherwise("model_version")
            .alias("model_version"),
            pl.when(is_answered)
            .then(pl.lit(self.prompt_version))
            .otherwise("prompt_version")
            .alias("prompt_version"),
            pl.when(is_answered).then("asked_as_of").otherwise(moment).alias("classified_at"),
        ).select(LABEL_SCHEMA.names())

    def _check_complete(self, org: OrgContext, known: pl.DataFrame) -> None:
        missing = known.filter(pl.col("level").is_null() & pl.col("left_to").is_null())
        if missing.height:
            raise UnansweredError(
                f"org {org.org_id!r}: {missing.height} profiles have no answer, e.g. "
                f"{missing['profile'].sort()[0]!r}"
            )
