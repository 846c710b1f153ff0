"""What analysts read: the tables of the schema `marts` in the published file.

Each has a SQL model of the same name under `dbt_like_sql/models/marts/`.
"""

from typing import Any

import pandera.polars as pa
import polars as pl

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.columns import (
    Instant,
    amount,
    count,
    date,
    flag,
    identifier,
    instant,
    name,
    share,
    text,
    whole,
    word,
)
from engagement_pipeline.contracts.contract import table
from engagement_pipeline.contracts.signals import Signals


@table("marts.member_engagement", key=["org_id", "user_id"], has_key_index=True)
class MemberEngagement(Signals):
    """Every current member: who is engaged, how much, why, and what an admin decided."""

    org_id: str = identifier("The organisation.")
    org_name: str = name("Its name.")
    user_id: str = identifier("The member.")
    display_name: str = name("The member's name, where a profile gives one.", nullable=True)
    as_of: Instant = instant("The moment that the row describes.")
    effective_level: str = word(
        "The level that counts: the override's, else the computed.", vocabulary.LEVELS
    )
    computed_level: str = word("The level that the classifier gave.", vocabulary.LEVELS)
    baseline_level: str = word("The level that the written rules give.", vocabulary.LEVELS)
    source: str = word("Where the computed level came from.", vocabulary.LABEL_SOURCES)
    reason: str = word(
        "Why the baseline is `at_risk`; null otherwise.", vocabulary.AT_RISK_REASONS, nullable=True
    )
    user_label: str = word(
        "What the member may be told of the effective level.",
        tuple(vocabulary.USER_LABELS.values()),
    )
    admin_explanation: str = text("Why, for the organisation's admins.")
    user_explanation: str = text(
        "What the member may read of the computed level, also while an override holds."
    )
    is_overridden: bool = flag("Whether an admin's override holds.")
    override_level: str = word("The override's level.", vocabulary.LEVELS, nullable=True)
    override_notes: str = text("Why it was set, in the admin's words.", nullable=True)
    overridden_by: str = identifier("The admin who set it.", nullable=True)
    overridden_at: Instant = instant("When it was set.", nullable=True)
    override_expires_at: Instant = instant(
        "When it ends by itself; null: never.", nullable=True, may_be_future=True
    )
    is_stale_override: bool = flag("Whether it is older than 90 days and never expires.")
    flag_severity: str = word(
        "How grave it is, where the effective level is `at_risk`; null otherwise.",
        vocabulary.FLAG_SEVERITIES,
        nullable=True,
    )
    churn_probability: float = share(
        "The probability of no activity in the days to come, as last predicted. "
        "`member_predictions` tells when, how sure, and by what: of the heuristic it is a rank, "
        "and no probability.",
        nullable=True,
    )
    model_version: str = identifier("The model, or the version of the rules.")
    prompt_version: str = identifier("The prompt, or the version of the templates.")
    classified_at: Instant = instant(
        "When the label was made; a label of the rules is made for its `as_of`."
    )

    class Config:
        strict = True


@table("marts.engagement_history", key=["org_id", "user_id", "as_of"])
class EngagementHistory(pa.DataFrameModel):
    """Levels over time: one row per member and scored moment."""

    org_id: str = identifier("The organisation.")
    user_id: str = identifier("The member.")
    as_of: Instant = instant("The moment that was scored.")
    effective_level: str = word("The level that counted then.", vocabulary.LEVELS)
    computed_level: str = word("The level that the classifier gave.", vocabulary.LEVELS)
    baseline_level: str = word("The level that the written rules gave.", vocabulary.LEVELS)
    is_overridden: bool = flag("Whether an override held then.")
    source: str = word("Where the computed level came from.", vocabulary.LABEL_SOURCES)

    class Config:
        strict = True


@table("marts.level_transitions", key=["org_id", "from_level", "to_level", "week"])
class LevelTransitions(pa.DataFrameModel):
    """How members move: changes of effective level from one scored week to the next."""

    org_id: str = identifier("The organisation.")
    from_level: str = word("The level before.", vocabulary.LEVELS)
    to_level: str = word("The level after.", vocabulary.LEVELS)
    week: pl.Date = date("The Monday (UTC) of the week in which the new level was scored.")
    members: int = count("Members who moved so.")

    class Config:
        strict = True


def _org_summary_columns() -> dict[str, tuple[Any, Any]]:
    columns: dict[str, tuple[Any, Any]] = {
        "org_id": (str, identifier("The organisation.")),
        "org_name": (str, name("Its name.")),
        "as_of": (Instant, instant("The moment that the row describes.")),
        "members": (int, count("Current members.")),
    }
    for level in vocabulary.LEVELS:
        columns |= {
            f"{level}_count": (int, count(f"Members whose effective level is `{level}`.")),
            f"{level}_share": (
                float,
                share("Their share of the members; null without members.", nullable=True),
            ),
            f"{level}_share_lower": (
                float,
                share("Lower end of its Wilson 95 % interval.", nullable=True),
            ),
            f"{level}_share_upper": (
                float,
                share("Upper end of its Wilson 95 % interval.", nullable=True),
            ),
            f"{level}_change_7d": (
                int,
                whole(
                    "Change of the count on 7 days ago; null where nothing was scored then.",
                    nullable=True,
                ),
            ),
            f"{level}_change_28d": (
                int,
                whole(
                    "Change of the count on 28 days ago; null where nothing was scored then.",
                    nullable=True,
                ),
            ),
        }
    return columns


def _org_summary() -> type[pa.DataFrameModel]:
    columns = _org_summary_columns()

    class Config:
        strict = True

    namespace = {
        "__module__": __name__,
        "__doc__": "Each organisation: members by effective level, with intervals and changes.",
        "__annotations__": {column: kind for column, (kind, _) in columns.items()},
        "Config": Config,
        **{column: found for column, (_, found) in columns.items()},
    }
    return type("OrgSummary", (pa.DataFrameModel,), namespace)


OrgSummary = table("marts.org_summary", key=["org_id"], has_key_index=True)(_org_summary())


@table("marts.attendance_daily", key=["org_id", "day"])
class AttendanceDaily(pa.DataFrameModel):
    """Attendance by organisation and day (UTC)."""

    org_id: str = identifier("The organisation.")
    day: pl.Date = date("The day, in UTC.")
    registered: int = count("Answers that day, neither cancelled nor waitlisted.")
    attended: int = count("Attendances, whole or part, that day.")
    no_shows: int = count("No-shows that day.")
    distinct_members: int = count("Different people among all of these.")

    class Config:
        strict = True


@table("marts.data_quality")
class DataQuality(pa.DataFrameModel):
    """What each ingestion read, loaded and rejected: a total a table, and a row a reason."""

    table_name: str = identifier("The input table.")
    ingested_at: Instant = instant("When it was ingested.")
    rows_read: int = count("Rows found.")
    rows_loaded: int = count("Rows that landed.")
    rows_rejected: int = count("Rows rejected: all of them, or those of the row's reason.")
    reason: str = identifier("The reason code; null on the total.", nullable=True)
    newest_row_at: Instant = instant("The newest time among the rows.", nullable=True)

    class Config:
        strict = True


@table("marts.run_costs", key=["run_id"])
class RunCosts(pa.DataFrameModel):
    """What each run spent on the model, at list price, and saved against one call a member."""

    run_id: str = identifier("The Dagster run.")
    as_of: Instant = instant("The moment that was classified.")
    classifier: str = word("How the model was asked.", vocabulary.MODEL_CLASSIFIERS)
    model: str = identifier("The model.")
    members: int = count("Members whose labels the run gave out.")
    profiles: int = count("Profiles of all organisations that were due.")
    profiles_cached: int = count("Profiles with an answer already.")
    profiles_waiting: int = count("Profiles whose answer was still out, in a batch.")
    profiles_fallen_back: int = count("Profiles left to the written rules for want of an answer.")
    profiles_over_budget: int = count("Profiles left to the written rules by the budget.")
    calls: int = count("Requests sent, repetitions included; a batch's are the sending run's.")
    calls_repeated: int = count("Requests that were sent again, or asked again.")
    calls_unanswered: int = count("Requests that brought no good answer at all.")
    input_tokens: int = count("Input tokens billed at the full price.")
    cache_write_tokens: int = count("Input tokens written to the prompt cache.")
    cache_read_tokens: int = count("Input tokens read from the prompt cache.")
    output_tokens: int = count("Output tokens billed.")
    estimated_usd: float = amount("Dollars that the run was expected to cost.")
    spent_usd: float = amount("Dollars that it cost.")
    uncertain_usd: float = amount(
        "Dollars of those that are an estimate: the API never said what the calls cost."
    )
    one_call_a_member_usd: float = amount("Dollars that one call a member would have cost.")
    saved_usd: float = amount("Dollars saved against that; below zero, lost.", ge=None)
    computed_at: Instant = instant("When the run classified.")

    class Config:
        strict = True
