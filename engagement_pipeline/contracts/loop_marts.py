"""What analysts read of the loops: tables of the schema `marts` in the published file.

Like those in `marts`, each has a SQL model of the same name.
"""

import pandera.polars as pa

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.columns import (
    Instant,
    count,
    identifier,
    instant,
    name,
    text,
    word,
)
from engagement_pipeline.contracts.contract import table
from engagement_pipeline.contracts.loops import (
    Calibrations,
    Digest,
    LabelAgreement,
    ReviewLevels,
    VocabularyCandidates,
)


@table("marts.engagement_calibrations", key=["org_id", "key"], has_key_index=True)
class EngagementCalibrations(Calibrations):
    """What was learned and is in force, with its interval and how many versions there were."""

    versions: int = count("Versions of it so far, this one included.")

    class Config:
        strict = True


@table("marts.digest_plan", key=["org_id", "feature"], has_key_index=True)
class DigestPlan(Digest):
    """How each organisation's notifications are to be delivered, feature by feature, and why."""

    class Config:
        strict = True


@table(
    "marts.label_agreement",
    key=["org_id", "prompt_version", "model_version", "computed_level", "admin_level"],
)
class PublishedLabelAgreement(LabelAgreement):
    """Computed levels against what admins made of them: a confusion matrix and Cohen's kappa."""

    class Config:
        strict = True


@table("marts.review_queue", key=["org_id", "level"], has_key_index=True)
class ReviewQueue(ReviewLevels):
    """Levels that an organisation's admins overrule so often that people should look at them."""

    org_name: str = name("The organisation's name.")
    members: int = count("Members who have that computed level now.")

    class Config:
        strict = True


@table("marts.vocabulary_candidates", key=["table_name", "column_name", "org_id", "value"])
class PublishedVocabularyCandidates(VocabularyCandidates):
    """Values outside a vocabulary that rows wait in quarantine for, with the nearest known term."""

    class Config:
        strict = True


@table("marts.loop_status", key=["org_id", "archetype"], has_key_index=True)
class LoopStatus(pa.DataFrameModel):
    """Where each loop of each organisation stands: what came in, what was learned, who used it."""

    org_id: str = identifier("The organisation.")
    archetype: str = word("The loop.", vocabulary.ARCHETYPES)
    state: str = word("Where it stands.", vocabulary.LOOP_STATES)
    window_start: Instant = instant(
        "Start of the window, excluded: 30 days before its end for `engagement` and `vocabulary`, "
        "180 days for the others."
    )
    window_end: Instant = instant("End of the window: the moment that the row describes.")
    signals_in_window: int = count("Loop signals in the window.")
    calibrations_in_force: int = count(
        "Calibrations in force; of the vocabulary, mappings that were accepted."
    )
    calibrations_expired: int = count("Calibrations of which no version is in force any more.")
    learned_at: Instant = instant("The moment last learned for.", nullable=True)
    learning_error: str = text("Why the last learning failed, where it did.", nullable=True)
    consumer: str = identifier("Who last used a calibration.", nullable=True)
    consumer_last_used_at: Instant = instant("The moment for which that was.", nullable=True)

    class Config:
        strict = True
