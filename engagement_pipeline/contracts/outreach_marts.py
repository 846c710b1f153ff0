"""What analysts read of outreach and milestones: tables of the schema `marts`.

Like those in `marts`, each has a SQL model of the same name.
"""

import pandera.polars as pa

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.columns import (
    Instant,
    amount,
    count,
    identifier,
    instant,
    name,
    share,
    word,
)
from engagement_pipeline.contracts.contract import table
from engagement_pipeline.contracts.milestones import Progress
from engagement_pipeline.contracts.outreach import CycleCounts, MessageLog, UpliftEstimate


@table("marts.outreach_log", key=["message_id"], time_column="planned_at")
class OutreachLog(MessageLog):
    """Every message: to whom, why, when, in which words, and how far it came."""

    org_name: str = name("The organisation's name.")
    effectiveness: float = share(
        "0 for silence, up to 1 for a quick, friendly, meaningful response; null until known.",
        nullable=True,
    )

    class Config:
        strict = True


@table(
    "marts.outreach_effectiveness",
    key=["org_id", "outreach_type", "template_id"],
    has_key_index=True,
)
class OutreachEffectiveness(pa.DataFrameModel):
    """How each template is answered in each organisation, and what is believed of it."""

    org_id: str = identifier("The organisation.")
    org_name: str = name("Its name.")
    outreach_type: str = word("What the template is for.", vocabulary.OUTREACH_TYPES)
    template_id: str = identifier("The template.")
    sent: int = count("Messages sent.")
    judged: int = count("Messages of which it is known whether they were answered.")
    responses: int = count("Messages answered within 24 hours.")
    response_rate: float = share("Responses by messages judged.", nullable=True)
    response_rate_lower: float = share("Lower end of its Wilson 95 % interval.", nullable=True)
    response_rate_upper: float = share("Upper end of its Wilson 95 % interval.", nullable=True)
    mean_effectiveness: float = share("Mean effectiveness of those judged.", nullable=True)
    median_response_minutes: float = amount("Median minutes to a response.", nullable=True)
    posterior_mean: float = share(
        "What is believed of its response rate, others' experience included; null where nothing "
        "is in force.",
        nullable=True,
    )
    last_sent_at: Instant = instant("When it was last sent.", nullable=True)

    class Config:
        strict = True


@table("marts.outreach_uplift", key=["org_id"], has_key_index=True)
class OutreachUplift(UpliftEstimate):
    """How many more members came back because of outreach, with its interval, and whether the
    holdout is sound."""

    org_name: str = name("The organisation's name; `All organisations` of `*`.")

    class Config:
        strict = True


@table("marts.cycle_stats", key=["cycle_id", "org_id"], has_key_index=True)
class CycleStatsMart(CycleCounts):
    """What each cycle decided in each organisation: who may be written to, and why others not."""

    org_name: str = name("The organisation's name.")

    class Config:
        strict = True


@table("marts.milestone_progress", key=["org_id", "user_id", "milestone_id"])
class MilestoneProgress(Progress):
    """How far each member is on the way to each milestone. For the team, not for members."""

    org_name: str = name("The organisation's name.")
    name: str = name("The milestone's name.")
    category: str = word("What it is about.", vocabulary.MILESTONE_CATEGORIES)
    difficulty: int = count("How hard it is, 1 to 5.")
    points: int = count("What it is worth to the team's view, 10 to 1,000.")

    class Config:
        strict = True
