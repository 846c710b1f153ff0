"""What members say and do, and what is predicted of them: the tables of the schema `behavior`.

Words that these tables take their values from are in `vocabulary`; what analysts read of them is
in `behavior_marts`.
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
    signed_share,
    text,
    word,
)
from engagement_pipeline.contracts.contract import table


@table("behavior.interactions_scored", key=["interaction_id"], time_column="sent_at")
class InteractionsScored(pa.DataFrameModel):
    """Every interaction with its sentiment, mood and quality. Each is scored once."""

    interaction_id: str = identifier("The interaction.")
    org_id: str = identifier("The organisation.")
    user_id: str = identifier("Who it is from.")
    type: str = word("What kind it is.", vocabulary.INTERACTION_TYPES)
    sent_at: Instant = instant("When it was sent.")
    sentiment: float = signed_share(
        "How its text sounds, from -1 to 1; null where it has no text.", nullable=True
    )
    sentiment_label: str = word(
        "The same in a word: from 0.05 up positive, from -0.05 down negative.",
        vocabulary.SENTIMENT_LABELS,
        nullable=True,
    )
    sentiment_by: str = word(
        "Who told: VADER, or the mean of it and the model.",
        vocabulary.SENTIMENT_SOURCES,
        nullable=True,
    )
    mood: str = word("The mood that its words show, if any.", vocabulary.MOODS, nullable=True)
    quality: float = share(
        "Weighted mean of what is known of sentiment, length, question, reply time and kind."
    )
    is_meaningful: bool = flag(
        "Whether it is a command or a voice message, or a text that says something."
    )
    session_id: str = identifier(
        "The session: who sends again within 30 minutes goes on with the one before."
    )

    class Config:
        strict = True


class Patterns(pa.DataFrameModel):
    """How a member behaved in the 30 days up to `as_of`, by interactions alone."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    as_of: Instant = instant("The moment that the row describes.")
    timezone: str = name("The zone that hours and days are told in: the profile's, else the org's.")
    interactions: int = count("Interactions in the 30 days.")
    active_days: int = count("Days, in that zone, with an interaction.")
    messages_per_active_day: float = amount(
        "Messages by active days; null without any.", nullable=True
    )
    sessions: int = count("Sessions that had an interaction in the 30 days.")
    mean_quality: float = share("Mean quality of interactions.", nullable=True)
    mean_sentiment: float = signed_share("Mean sentiment of those with a text.", nullable=True)
    meaningful_share: float = share("The share of interactions that are meaningful.", nullable=True)
    top_types: str = text(
        "The commonest kinds of interaction, at most five, the commonest first, with commas.",
        nullable=True,
    )
    active_hours: str = text(
        "Hours of the day, 0 to 23, with an interaction, the commonest first, with commas.",
        nullable=True,
    )
    active_weekdays: str = text("Days of the week, 1 (Monday) to 7, likewise.", nullable=True)
    trend: float = signed_share(
        "Mean quality of the newer half of the interactions less that of the older; null under 4.",
        nullable=True,
    )
    last_interaction_at: Instant = instant("The last interaction of all time.", nullable=True)
    days_since_interaction: int = count("Whole days since then; null if never.", nullable=True)
    stickiness: float = share("Active days by 30.")
    lifecycle_state: str = word(
        "Where the member stands by 30-day periods; null for who never interacted.",
        vocabulary.LIFECYCLE_STATES,
        nullable=True,
    )
    is_highly_engaged: bool = flag("Whether mean quality is at least 0.7.")
    is_declining: bool = flag("Whether the trend is below -0.1.")
    needs_reengagement: bool = flag(
        "Whether absent for more than 3 days, declining, or of mean quality below 0.4."
    )


@table("behavior.patterns", key=["org_id", "user_id"])
class MemberPatterns(Patterns):
    """How each current member behaved in the last 30 days; empty without interactions."""

    class Config:
        strict = True


class PredictionsOfMember(pa.DataFrameModel):
    """What is predicted of a member at `as_of`, and by what."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    as_of: Instant = instant("The moment that it is predicted at.")
    churn_probability: float = share(
        "The probability that the member does nothing in the horizon, as it is published. Where "
        "`churn_model` is `heuristic` it is the heuristic's rank instead, and no probability."
    )
    churn_raw: float = share("The same before calibration.")
    churn_heuristic: float = share(
        "What the heuristic says, from 0 to 1. It ranks members; it is no probability."
    )
    churn_model: str = identifier(
        "What predicted: `heuristic`, or a model and its day of training."
    )
    confidence: float = share(
        "How far the published probability is from a toss-up, from 0 to 1; 0 of the heuristic."
    )
    churn_reason: str = text("Why the heuristic serves; null where a model does.", nullable=True)
    horizon_days: int = count("Days after `as_of` that churn is predicted for.")
    mood_now: float = signed_share(
        "Mean sentiment of the 7 days up to `as_of`; null without a text in them.", nullable=True
    )
    mood_predicted: float = signed_share(
        "Mean sentiment expected for the next 7 days; null where no model beats `stays as it is`.",
        nullable=True,
    )
    best_hour: int = count("The hour, 0 to 23 in the member's zone, to send a message at.")
    best_weekday: int = count("The weekday to send at, 1 (Monday) to 7, if known.", nullable=True)
    timing_model: str = word(
        "How the hour was found: a model, smoothed counts, or no data (14:00).",
        ("logistic_regression", "own_hours", "org_hours", "default"),
    )
    timezone: str = name("The zone of the hour: the profile's, else the organisation's.")


@table("behavior.predictions", key=["org_id", "user_id"])
class MemberPredictions(PredictionsOfMember):
    """What is predicted of each current member, at the last moment predicted at."""

    class Config:
        strict = True


@table("behavior.snapshots", key=["table_name"], time_column="as_of")
class BehaviorSnapshots(pa.DataFrameModel):
    """What patterns and predictions were last computed from, so as not to compute them twice."""

    table_name: str = identifier("The table, with its schema.")
    as_of: Instant = instant("The moment that it describes.")
    inputs_digest: str = identifier("Sha256 of all that it was computed from.")
    computed_at: Instant = instant("When that was.")

    class Config:
        strict = True


@table("behavior.trainings", key=["target", "as_of"], time_column="as_of")
class Trainings(pa.DataFrameModel):
    """How each training of models ended, and on whom they were trained. Rows are only added."""

    target: str = word("What is predicted.", vocabulary.PREDICTION_TARGETS)
    as_of: Instant = instant("The moment that was trained for: nothing later was looked at.")
    outcome: str = word("How it ended.", vocabulary.TRAINING_OUTCOMES)
    champion: str = identifier("The model that serves, if one won.", nullable=True)
    reason: str = text("Why none serves, where none does.", nullable=True)
    samples: int = count("Members at cut-off dates that there was an outcome for.")
    members: int = count("Members among them.")
    organisations: int = count("Organisations among them.")
    base_rate: float = amount(
        "The share of samples that churned or were answered, or their mean mood.",
        nullable=True,
        ge=None,
    )
    horizon_days: int = count("Days after each cut-off that the outcome is taken from.")
    cutoffs: int = count("Cut-off dates.")
    first_cutoff: Instant = instant("The first of them.", nullable=True)
    last_cutoff: Instant = instant("The last of them.", nullable=True)
    population: str = text("Who is among the samples, in words.")
    computed_at: Instant = instant("When it was done.")

    class Config:
        strict = True


@table("behavior.model_metrics", key=["target", "as_of", "model", "metric"], time_column="as_of")
class ModelMetrics(pa.DataFrameModel):
    """How good each model and each baseline was on members and times it was not trained on."""

    target: str = word("What is predicted.", vocabulary.PREDICTION_TARGETS)
    as_of: Instant = instant("The moment that was trained for.")
    model: str = identifier("The model or the baseline.")
    metric: str = identifier("Which figure, such as `roc_auc` or `average_precision`.")
    value: float = amount("The figure.", ge=None)
    lower: float = amount("Lower end of its 95 % interval.", nullable=True, ge=None)
    upper: float = amount("Upper end of its 95 % interval.", nullable=True, ge=None)
    n: int = count("Samples that it was measured on.")
    is_baseline: bool = flag("Whether it is a baseline.")
    is_champion: bool = flag("Whether it won, and so serves.")

    class Config:
        strict = True


@table(
    "behavior.model_curves",
    key=["target", "as_of", "model", "curve", "place"],
    time_column="as_of",
)
class ModelCurves(pa.DataFrameModel):
    """What is drawn of models: reliability, precision by recall, and what counts how much."""

    target: str = word("What is predicted.", vocabulary.PREDICTION_TARGETS)
    as_of: Instant = instant("The moment that was trained for.")
    model: str = identifier("The model or the baseline.")
    curve: str = word("Which curve.", vocabulary.CURVES)
    place: int = count("The point's place on it, from 0.")
    label: str = identifier("The feature, of an importance.", nullable=True)
    x: float = amount("Predicted probability, or recall; null of an importance.", nullable=True)
    y: float = amount("Observed share, precision, or importance.", ge=None)
    n: int = count("Samples behind the point.", nullable=True)

    class Config:
        strict = True
