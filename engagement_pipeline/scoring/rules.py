"""The classifier that needs nothing: the written rules, with written explanations.

Its labels follow from the signals and `as_of` alone, so that a rerun gives the same ones.
What the rules are belongs to `levels`, the words to `templates`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from engagement_pipeline.scoring.classifier import LABEL_SCHEMA, fingerprint
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.situations import situation
from engagement_pipeline.scoring.templates import TEMPLATES, TEMPLATES_VERSION


@dataclass(frozen=True)
class RulesClassifier:
    """Gives every member the baseline, with the explanation written for their situation."""

    name: str = "rules"
    model_version: str = "rules-1"
    prompt_version: str = TEMPLATES_VERSION
    setup: str = ""

    def classify(self, org: OrgContext, members: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
        """The baseline of each member, as labels (`LABEL_SCHEMA`) in the order of `members`.

        `classified_at` is `as_of`: a label of the rules is a function of it, and a moment of
        computing would make every rerun differ.
        """
        situated = members.select(
            "user_id", pl.col("baseline_level").alias("level"), situation().alias("situation")
        )
        found = situated["situation"].unique().to_list()
        written = pl.DataFrame(
            {
                "situation": found,
                "admin_template": [TEMPLATES[name].admin for name in found],
                "user_template": [TEMPLATES[name].user for name in found],
                "fingerprint": [self._fingerprint(org, name) for name in found],
            },
            schema_overrides={"situation": pl.String},
        )
        return (
            situated.join(written, on="situation", how="left", maintain_order="left")
            .with_columns(
                source=pl.lit("rules"),
                model_version=pl.lit(self.model_version),
                prompt_version=pl.lit(self.prompt_version),
                classified_at=pl.lit(as_of.astimezone(UTC), dtype=LABEL_SCHEMA["classified_at"]),
            )
            .select(LABEL_SCHEMA.names())
        )

    def _fingerprint(self, org: OrgContext, situation_name: str) -> str:
        return fingerprint(
            org,
            {
                "situation": situation_name,
                "model_version": self.model_version,
                "prompt_version": self.prompt_version,
            },
        )
