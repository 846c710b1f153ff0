"""Levels, their history and overrides, in the schema `scores`."""

import pandera.polars as pa

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.columns import (
    Instant,
    count,
    identifier,
    instant,
    text,
    word,
)
from engagement_pipeline.contracts.contract import table
from engagement_pipeline.contracts.signals import Signals

ORG_OUTCOMES = ("classified", "failed")


@table("scores.classifications", key=["org_id", "user_id", "as_of"], time_column="as_of")
class Classifications(Signals):
    """Levels: one row per member and `as_of`, with the signals that led to it."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    as_of: Instant = instant("The moment that the level describes.")
    level: str = word("The level, as the classifier gave it.", vocabulary.LEVELS)
    baseline_level: str = word("The level that the written rules give.", vocabulary.LEVELS)
    reason: str = word(
        "Why the baseline is `at_risk`; null otherwise.", vocabulary.AT_RISK_REASONS, nullable=True
    )
    source: str = word("Where the level came from.", vocabulary.LABEL_SOURCES)
    admin_explanation: str = text("Why, for the organisation's admins.")
    user_explanation: str = text("What the member may read of it.")
    flag_severity: str = word(
        "How grave an at-risk flag on the member would be; null in rows older than this column.",
        vocabulary.FLAG_SEVERITIES,
        nullable=True,
    )
    fingerprint: str = identifier("Sha256 of all that could change the label.")
    model_version: str = identifier("The model, or the version of the rules.")
    prompt_version: str = identifier("The prompt, or the version of the templates.")
    classified_at: Instant = instant(
        "When the label was made; a label of the rules is made for its `as_of`."
    )
    computed_at: Instant = instant("When this row was computed.")

    class Config:
        strict = True


@table("scores.org_runs", key=["org_id", "as_of"], time_column="as_of")
class OrgRuns(pa.DataFrameModel):
    """How the classification of each organisation ended at each `as_of`."""

    org_id: str = identifier("The organisation.")
    as_of: Instant = instant("The moment that was classified.")
    outcome: str = word("How it ended.", ORG_OUTCOMES)
    members: int = count("Members classified.")
    error: str = text("What went wrong, where it failed.", nullable=True)
    inputs_digest: str = identifier("Sha256 of all that the levels were made from.")
    computed_at: Instant = instant("When it ended.")

    class Config:
        strict = True


@table("scores.scoring_runs", key=["run_id"], time_column="as_of")
class ScoringRuns(pa.DataFrameModel):
    """Scoring runs: one row per run, in order. The marts show the last one's `as_of`."""

    run_id: str = identifier("The Dagster run.")
    as_of: Instant = instant("The moment that was classified.")
    orgs_due: int = count("Organisations that had to be classified.")
    orgs_classified: int = count("Organisations that were.")
    orgs_failed: int = count("Organisations that failed.")
    members: int = count("Members classified.")
    computed_at: Instant = instant("When the run classified.")
    run_number: int = count("The run's place in the order of runs, from 1.")

    class Config:
        strict = True


@table("scores.override_history", key=["request_id", "action"], time_column="performed_at")
class OverrideHistory(pa.DataFrameModel):
    """Overrides: every change an admin made, and every expiry. Rows are only ever added."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    previous_level: str = word(
        "The effective level before; null if none was known.", vocabulary.LEVELS, nullable=True
    )
    new_level: str = word(
        "The effective level after; null if none was known.", vocabulary.LEVELS, nullable=True
    )
    notes: str = text("Why, in the admin's words.")
    action: str = word("What happened.", vocabulary.OVERRIDE_HISTORY_ACTIONS)
    performed_by: str = identifier("The admin, or `system` for an expiry.")
    performed_at: Instant = instant("When it took effect.", may_be_future=True)
    expires_at: Instant = instant(
        "When the override ends by itself; null: never.", nullable=True, may_be_future=True
    )
    request_id: str = identifier("The request that led to it.")
    recorded_at: Instant = instant("When this row was written.")

    class Config:
        strict = True
