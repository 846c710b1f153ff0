"""What happened and what was learned from it: the tables of the schema `loops`.

Words that these tables take their values from are in `vocabulary`; what analysts read of them is
in `marts`.
"""

import pandera.polars as pa

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.columns import (
    Instant,
    amount,
    count,
    flag,
    identifier,
    instant,
    name,
    share,
    text,
    word,
)
from engagement_pipeline.contracts.contract import table

LEARNING_OUTCOMES = ("learned", "failed")


@table("loops.signals", key=["signal_id"], time_column="occurred_at")
class LoopSignals(pa.DataFrameModel):
    """Loop signals: what happened after the pipeline had acted. Rows are only ever added."""

    signal_id: str = identifier("Sha256, in hex, of the kind and the source key.")
    archetype: str = word("The loop that it belongs to.", vocabulary.ARCHETYPES)
    kind: str = word("What happened.", vocabulary.SIGNAL_KINDS)
    org_id: str = identifier("The organisation.")
    subject: str = name("What it happened to: a feature, a level, a template and so on.")
    user_id: str = identifier("The member whom it is about, where it is one.", nullable=True)
    value: float = amount(
        "How much of it happened, where that is a number.", nullable=True, ge=None
    )
    occurred_at: Instant = instant("When it happened.")
    attribution: str = word(
        "How the organisation is known: named (`explicit`), the only membership (`sole`), or the "
        "oldest of several (`primary`, best effort).",
        vocabulary.ATTRIBUTIONS,
        nullable=True,
    )
    source_key: str = text("What it was drawn from, such as a notification's id.")

    class Config:
        strict = True


@table("loops.productions", key=["as_of"], time_column="as_of")
class Productions(pa.DataFrameModel):
    """When signals were drawn from what had happened, so that the next time begins there."""

    as_of: Instant = instant("The moment up to which they were drawn.")
    signals: int = count("Signals that were new.")
    computed_at: Instant = instant("When that was done.")

    class Config:
        strict = True


@table("loops.judgements", key=["source_key"], time_column="occurred_at")
class Judgements(pa.DataFrameModel):
    """Judgements: what admins made of a level that was suggested. Rows are only ever added."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    kind: str = word("Left to stand, or overruled.", ("ACCEPT", "REJECT"))
    computed_level: str = word("The level that was suggested.", vocabulary.LEVELS)
    admin_level: str = word("The level that the admins left or set.", vocabulary.LEVELS)
    prompt_version: str = identifier("The prompt, or the version of the templates.")
    model_version: str = identifier("The model, or the version of the rules.")
    occurred_at: Instant = instant("When it was settled.")
    source_key: str = text("The override, or the stretch of time that the level stood.")

    class Config:
        strict = True


@table("loops.calibrations", key=["org_id", "key", "computed_at"], time_column="computed_at")
class Calibrations(pa.DataFrameModel):
    """Calibrations: what was learned. Versions are added; the newest unexpired one is in force."""

    org_id: str = identifier("The organisation.")
    key: str = name("What was learned, such as `read-rate:<feature>`.")
    value: float = amount("The value.", ge=None)
    lower: float = amount("Lower end of its 95 % interval.", nullable=True, ge=None)
    upper: float = amount("Upper end of its 95 % interval.", nullable=True, ge=None)
    n: int = count("Observations that it rests on; best-effort ones count apart, under own keys.")
    window_start: Instant = instant("Start of the window that it was learned from, excluded.")
    window_end: Instant = instant("End of the window, included.")
    computed_at: Instant = instant("The moment that it was computed for.")
    expires_at: Instant = instant("From when on it is no longer in force.", may_be_future=True)
    previous_value: float = amount("The value of the version before.", nullable=True, ge=None)

    class Config:
        strict = True


@table("loops.learning_runs", key=["org_id", "archetype", "as_of"], time_column="as_of")
class LearningRuns(pa.DataFrameModel):
    """How learning ended for each organisation and loop, at each `as_of`."""

    org_id: str = identifier("The organisation.")
    archetype: str = word("The loop.", vocabulary.ARCHETYPES)
    as_of: Instant = instant("The moment that was learned for.")
    outcome: str = word("How it ended.", LEARNING_OUTCOMES)
    calibrations: int = count("Calibrations computed.")
    error: str = text("What went wrong, where it failed.", nullable=True)
    computed_at: Instant = instant("When it ended.")

    class Config:
        strict = True


@table("loops.consumer_uses", key=["org_id", "archetype", "consumer"], time_column="used_at")
class ConsumerUses(pa.DataFrameModel):
    """When each consumer last let calibrations change what it did, by organisation."""

    org_id: str = identifier("The organisation.")
    archetype: str = word("The loop.", vocabulary.ARCHETYPES)
    consumer: str = identifier("Who used them, such as `digest_plan`.")
    used_at: Instant = instant("The moment for which it last used one.")
    calibrations: int = count("Calibrations that it used then.")

    class Config:
        strict = True


class Digest(pa.DataFrameModel):
    """What is decided of a feature's notifications, and by which figures."""

    org_id: str = identifier("The organisation.")
    feature: str = identifier("The feature.")
    delivery: str = word("How its notifications are to be delivered.", vocabulary.DELIVERIES)
    reason: str = word("Why.", vocabulary.DIGEST_REASONS)
    engagement_rate: float = amount("First reads a day.", nullable=True)
    read_rate: float = share("First reads by notifications sent.", nullable=True)
    read_rate_lower: float = share("Lower end of its Wilson 95 % interval.", nullable=True)
    read_rate_upper: float = share("Upper end of its Wilson 95 % interval.", nullable=True)
    read_rate_shrunk: float = share(
        "The same, drawn towards what organisations have in common.", nullable=True
    )
    n_sent: int = count("Notifications sent in the window.", nullable=True)
    n_read: int = count("How many of them were read.", nullable=True)
    decided_at: Instant = instant("The moment that it was decided for.")


@table("loops.digest_decisions", key=["org_id", "feature", "decided_at"], time_column="decided_at")
class DigestDecisions(Digest):
    """How each feature's notifications are to be delivered, decision by decision."""

    expires_at: Instant = instant(
        "When what it rests on expires; from then on delivery is immediate. Null where it rests "
        "on nothing.",
        nullable=True,
        may_be_future=True,
    )

    class Config:
        strict = True


@table(
    "loops.label_agreement",
    key=[
        "org_id",
        "prompt_version",
        "model_version",
        "computed_level",
        "admin_level",
        "window_end",
    ],
    time_column="window_end",
)
class LabelAgreement(pa.DataFrameModel):
    """Computed levels against what admins made of them, by organisation, prompt and model.

    Versions are added; those of an organisation's last successful learning count.
    """

    org_id: str = identifier("The organisation.")
    prompt_version: str = identifier("The prompt, or the version of the templates.")
    model_version: str = identifier("The model, or the version of the rules.")
    computed_level: str = word("The level that was suggested.", vocabulary.LEVELS)
    admin_level: str = word("The level that admins left or set.", vocabulary.LEVELS)
    judgements: int = count("How often the two met.")
    n: int = count("Judgements of this organisation, prompt and model in all.")
    agreement: float = share("The share of those in which admins left the level.")
    kappa: float = amount(
        "Cohen's kappa: agreement beyond chance; null where chance could not but agree.",
        nullable=True,
        ge=-1.0,
    )
    window_start: Instant = instant("Start of the window, excluded.")
    window_end: Instant = instant("End of the window, included: the moment learned for.")

    class Config:
        strict = True


@table("loops.corrections", key=["org_id", "computed_at", "place"], time_column="computed_at")
class Corrections(pa.DataFrameModel):
    """Profiles that admins corrected, as the model is told of them: at most three for each.

    Versions are added; those of an organisation's last successful learning count.
    """

    org_id: str = identifier("The organisation.")
    computed_at: Instant = instant("The moment that it was computed for.")
    place: int = count("Its place among them, from 1.")
    profile: str = identifier("The profile, as the model reads it.")
    computed_level: str = word("The level that was suggested.", vocabulary.LEVELS)
    admin_level: str = word("The level that the admins set.", vocabulary.LEVELS)
    corrected_at: Instant = instant("When the newest such override was set.")

    class Config:
        strict = True


@table("loops.review_queue", key=["org_id", "level", "queued_at"], time_column="queued_at")
class ReviewLevels(pa.DataFrameModel):
    """Levels that admins of an organisation overrule so often that people should look at them.

    Versions are added; those of an organisation's last successful learning count.
    """

    org_id: str = identifier("The organisation.")
    level: str = word("The level.", vocabulary.LEVELS)
    acceptance_rate: float = share("The share of its judgements in which admins left it.")
    acceptance_rate_lower: float = share("Lower end of its Wilson 95 % interval.")
    acceptance_rate_upper: float = share("Upper end of its Wilson 95 % interval.")
    n: int = count("Judgements.")
    queued_at: Instant = instant("The moment that it was found for.")
    expires_at: Instant = instant("When the finding expires.", may_be_future=True)

    class Config:
        strict = True


@table("loops.predictions", key=["prediction_id"], time_column="made_at")
class Predictions(pa.DataFrameModel):
    """Predictions, kept until the moment that shows whether they came true, and after it."""

    prediction_id: str = identifier("The prediction.")
    kind: str = identifier("What is predicted: `churn`, `cost:input_tokens` and so on.")
    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member whom it is about, where it is one.", nullable=True)
    subject: str = identifier("What it is about, such as the run whose cost it is.")
    predicted: float = amount("What was predicted, before any correction.", ge=None)
    made_at: Instant = instant("The moment that it was made for.")
    due_at: Instant = instant("When its horizon has passed.", may_be_future=True)
    predicted_by: str = identifier("The model that made it.")

    class Config:
        strict = True


@table(
    "loops.calibration_maps",
    key=["org_id", "key", "computed_at", "raw"],
    time_column="computed_at",
)
class CalibrationMaps(pa.DataFrameModel):
    """Isotonic maps from predicted probabilities to those that came true, knot by knot."""

    org_id: str = identifier("The organisation.")
    key: str = identifier(
        "What is mapped: the kind, and what predicted it, such as `churn:random_forest`."
    )
    computed_at: Instant = instant("The moment that it was computed for.")
    raw: float = share("A predicted probability.")
    calibrated: float = share("The probability that it stands for.")
    n: int = count("Outcomes that the map rests on.")
    is_pooled: bool = flag("Whether those are all organisations', its own being too few.")
    expires_at: Instant = instant("From when on it is no longer in force.", may_be_future=True)

    class Config:
        strict = True


@table("loops.vocabulary_mappings", key=["table_name", "column_name", "org_id", "value"])
class VocabularyMappings(pa.DataFrameModel):
    """What values of the sources were said to mean, for one organisation or for all."""

    table_name: str = identifier("The input table.")
    column_name: str = identifier("Its column.")
    org_id: str = identifier("The organisation; null: every one.", nullable=True)
    value: str = name("The value, folded: trimmed, in lower case, gaps as underscores.")
    term: str = identifier("The known term that it means.")
    accepted_at: Instant = instant("When that was accepted.")

    class Config:
        strict = True


@table("loops.vocabulary_candidates", key=["table_name", "column_name", "org_id", "value"])
class VocabularyCandidates(pa.DataFrameModel):
    """Values outside a vocabulary that rows were quarantined for, with the nearest known term."""

    table_name: str = identifier("The input table.")
    column_name: str = identifier("Its column.")
    org_id: str = identifier(
        "The organisation that used it, where its rows name one.", nullable=True
    )
    value: str = name("The value, folded: trimmed, in lower case, gaps as underscores.")
    rows: int = count("Quarantined rows that have it.")
    nearest_term: str = identifier("The known term most like it.", nullable=True)
    similarity: float = share("How like they are, from 0 to 1.", nullable=True)
    accepted_term: str = identifier(
        "What it was said to mean; its rows load at the next run.", nullable=True
    )
    first_seen_at: Instant = instant("When it was first quarantined.")
    last_seen_at: Instant = instant("When it was last quarantined.")

    class Config:
        strict = True


@table(
    "loops.arm_posteriors",
    key=["org_id", "outreach_type", "template_id", "computed_at"],
    time_column="computed_at",
)
class ArmPosteriors(pa.DataFrameModel):
    """What is believed of each template's response rate: a Beta distribution."""

    org_id: str = identifier("The organisation.")
    outreach_type: str = identifier("The type of outreach.")
    template_id: str = identifier("The template.")
    computed_at: Instant = instant("The moment that it was computed for.")
    alpha: float = amount("Its first parameter: responses, and what is believed beforehand.")
    beta: float = amount("Its second parameter: silences, and what is believed beforehand.")
    n: int = count("Outreaches that it rests on.")
    expires_at: Instant = instant("From when on it is no longer in force.", may_be_future=True)

    class Config:
        strict = True
