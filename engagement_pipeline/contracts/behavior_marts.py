"""What analysts read of behaviour: tables of the schema `marts` in the published file.

Like those in `marts`, each has a SQL model of the same name.
"""

import pandera.polars as pa
import polars as pl

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.behavior import ModelMetrics, Patterns, PredictionsOfMember
from engagement_pipeline.contracts.columns import (
    Instant,
    amount,
    count,
    date,
    identifier,
    instant,
    name,
    share,
    signed_share,
    text,
    word,
)
from engagement_pipeline.contracts.contract import table


@table("marts.member_patterns", key=["org_id", "user_id"], has_key_index=True)
class MemberPatternsMart(Patterns):
    """How each current member behaved in the last 30 days; empty without interactions."""

    org_name: str = name("Its name.")

    class Config:
        strict = True


@table("marts.member_predictions", key=["org_id", "user_id"], has_key_index=True)
class MemberPredictionsMart(PredictionsOfMember):
    """What is predicted of each member: churn, mood, and when a message is best sent."""

    org_name: str = name("Its name.")

    class Config:
        strict = True


@table("marts.interactions_daily", key=["org_id", "day"])
class InteractionsDaily(pa.DataFrameModel):
    """What was said in each organisation, day by day (UTC)."""

    org_id: str = identifier("The organisation.")
    day: pl.Date = date("The day, in UTC.")
    interactions: int = count("Interactions.")
    members: int = count("How many people they are from, members or not.")
    sessions: int = count("Sessions that had one of them.")
    meaningful: int = count("How many are meaningful.")
    texts: int = count("How many have a text.")
    mean_sentiment: float = signed_share("Mean sentiment of those.", nullable=True)
    mean_quality: float = share("Mean quality.")

    class Config:
        strict = True


@table("marts.model_report", key=["target", "model", "metric"], has_key_index=True)
class ModelReport(ModelMetrics):
    """How good each model and baseline was at the last training, and on whom it was measured."""

    model: str = identifier("The model or the baseline; `none` where nothing could be measured.")
    metric: str = identifier("Which figure, such as `roc_auc`; `none` likewise.")
    value: float = amount("The figure.", nullable=True, ge=None)
    outcome: str = word("How the training ended.", vocabulary.TRAINING_OUTCOMES)
    reason: str = text("Why no model serves, where none does.", nullable=True)
    population: str = text("Who is among the samples, in words.")
    base_rate: float = amount(
        "The share of samples that churned or were answered, or their mean mood.",
        nullable=True,
        ge=None,
    )
    samples: int = count("Members at cut-off dates that there was an outcome for.")
    members: int = count("Members among them.")
    horizon_days: int = count("Days after each cut-off that the outcome is taken from.")
    cutoffs: int = count("Cut-off dates.")
    last_cutoff: Instant = instant("The last of them.", nullable=True)

    class Config:
        strict = True
