"""What members reach over time: the tables of the schema `milestones`."""

import pandera.polars as pa
import polars as pl

from engagement_pipeline.contracts import vocabulary
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


@table("milestones.catalogue", key=["milestone_id"])
class MilestoneCatalogue(pa.DataFrameModel):
    """The milestones that there are: what each counts, and how much of it is wanted."""

    milestone_id: str = identifier("The milestone.")
    name: str = name("Its name, as members may read it.")
    description: str = text("What has to be done for it.")
    category: str = word("What it is about.", vocabulary.MILESTONE_CATEGORIES)
    difficulty: int = count("How hard it is, 1 to 5.")
    points: int = count("What it is worth to the team's view, 10 to 1,000.")
    metric: str = word("What is counted.", vocabulary.MILESTONE_METRICS)
    target: int = count("How much of it is wanted.")
    window_days: int = count(
        "The days up to now in which it is counted; null: all of them.", nullable=True
    )
    seeded_at: Instant = instant("When it was put here.")

    class Config:
        strict = True


@table("milestones.daily", key=["org_id", "user_id", "day"])
class MilestoneDaily(pa.DataFrameModel):
    """What each person did on each day of their own calendar. Outlives the interactions."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The person.")
    day: pl.Date = date("The day, by the clock of the person's zone.")
    interactions: int = count("Interactions.")
    messages: int = count("Of type `message`.")
    commands: int = count("Of type `command`.")
    callbacks: int = count("Of type `callback`.")
    voices: int = count("Of type `voice`.")
    documents: int = count("Of type `document`.")
    stickers: int = count("Of type `sticker`.")
    reactions: int = count("Of type `reaction`.")
    inline_queries: int = count("Of type `inline_query`.")
    meaningful: int = count("Interactions that are meaningful.")
    gratitude: int = count("Interactions whose words show gratitude.")
    night: int = count("Interactions from 00:00 to before 05:00.")
    early: int = count("Interactions from 05:00 to before 08:00.")
    mean_quality: float = share("Their mean quality; null without any.", nullable=True)
    mean_sentiment: float = signed_share("Mean sentiment of those with a text.", nullable=True)
    events_attended: int = count("Events attended, wholly or partly, by their start.")
    notifications_read: int = count("Notifications first read.")

    class Config:
        strict = True


@table("milestones.retention", key=["frozen_before"])
class MilestoneRetention(pa.DataFrameModel):
    """Up to which day interactions were removed: older days are kept as they were counted."""

    frozen_before: pl.Date = date("Days before this one are counted no more.")
    cleaned_at: Instant = instant("The moment of the cleaning.")

    class Config:
        strict = True


class Progress(pa.DataFrameModel):
    """How far a member is on the way to a milestone."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    milestone_id: str = identifier("The milestone.")
    as_of: Instant = instant("The moment that it is told for.")
    current: int = count("How much of it there is.")
    target: int = count("How much is wanted.")
    share: float = share("Current by target, 1 at most; 1 once it was reached.")
    velocity_per_day: float = amount("How much came in a day of the last 14, on average.")
    estimated_at: pl.Date = date(
        "The day (UTC) on which it will be reached at that pace; null where reached, or never so.",
        nullable=True,
    )
    reached_at: Instant = instant("When it was reached; never taken back.", nullable=True)
    celebrated_at: Instant = instant(
        "When the member was congratulated; once and no more.", nullable=True
    )


@table("milestones.progress", key=["org_id", "user_id", "milestone_id"], time_column="as_of")
class MilestoneProgressTable(Progress):
    """How far each member is; those who have nothing of it yet have no row."""

    class Config:
        strict = True
