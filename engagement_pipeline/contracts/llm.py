"""What was asked of the model, what it answered, and what that cost: the ledger, in `scores`."""

import pandera.polars as pa

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.columns import (
    Instant,
    amount,
    count,
    document,
    flag,
    identifier,
    instant,
    text,
    word,
)
from engagement_pipeline.contracts.contract import table

CALL_OUTCOMES = (
    "pending",
    "answered",
    "partly",
    "invalid",
    "malformed",
    "rate_limited",
    "overloaded",
    "failed",
    "refused",
    "lost",
)
CALL_PURPOSES = ("first", "again", "bisect", "alone")
BATCH_STATES = ("creating", "in_progress", "collected", "failed", "foreign")


@table("scores.llm_calls", key=["call_id"], time_column="as_of")
class LlmCalls(pa.DataFrameModel):
    """Calls to the model: written down before they are made, and once more when they are answered.

    One that is still `pending` though its run is over was cut off with it, and may have been paid.
    """

    call_id: str = identifier("The call.")
    run_id: str = identifier("The run that made it.")
    as_of: Instant = instant("The moment that was classified.")
    org_id: str = identifier("The organisation that it was about.")
    classifier: str = word("How it was sent.", vocabulary.MODEL_CLASSIFIERS)
    model: str = identifier("The model.")
    prompt_version: str = identifier("The prompt.")
    purpose: str = word(
        "The first time these were asked, again in another order, in halves, or alone.",
        CALL_PURPOSES,
    )
    attempt: int = count("Which attempt at sending it, from 1.")
    profiles: int = count("Profiles asked.")
    asked: str = document(
        "What was asked: the thresholds, and each row's fingerprint and profile; of texts their "
        "fingerprints and sentiments, never the words; of templates their fingerprints and what "
        "they were put into."
    )
    batch_key: str = identifier("The batch that it was part of, where it was.", nullable=True)
    outcome: str = word("What came of it.", CALL_OUTCOMES)
    answers: int = count("Answers that stood up to the checks.")
    problems: str = text("What was wrong, by row, or with the whole call.", nullable=True)
    status_code: int = count("HTTP status, where there was one.", nullable=True)
    request_id: str = identifier("The API's id of the request.", nullable=True)
    stop_reason: str = identifier("Why the model stopped.", nullable=True)
    input_tokens: int = count("Input tokens billed at the full price.")
    cache_write_tokens: int = count("Input tokens written to the prompt cache.")
    cache_read_tokens: int = count("Input tokens read from the prompt cache.")
    output_tokens: int = count("Output tokens billed.")
    estimated_usd: float = amount("Dollars that it was expected to cost.")
    spent_usd: float = amount("Dollars that it cost at list price.")
    is_spent_certain: bool = flag(
        "Whether the API said what it cost; if not, `spent_usd` is what it was expected to cost."
    )
    started_at: Instant = instant("When it was written down, just before it was sent.")
    ended_at: Instant = instant("When it was answered or given up.", nullable=True)
    latency_seconds: float = amount("Seconds from sending to the answer.", nullable=True)

    class Config:
        strict = True


@table("scores.llm_answers", key=["fingerprint", "as_of"], time_column="as_of")
class LlmAnswers(pa.DataFrameModel):
    """Answers that stood up to the checks. Failures and fallbacks are never here."""

    fingerprint: str = identifier("Sha256 of all that could change the answer.")
    as_of: Instant = instant("The moment for which it was first asked.")
    org_id: str = identifier("The organisation.")
    profile: str = identifier("The profile that was asked about.")
    level: str = word("The level that the model gave.", vocabulary.LEVELS)
    is_vetoed: bool = flag("Whether that level is one a new member may not have.")
    admin_template: str = text("Why, for admins; figures are placeholders.")
    user_template: str = text("What the member may read; figures are placeholders.")
    model: str = identifier("The model.")
    prompt_version: str = identifier("The prompt.")
    call_id: str = identifier("The call that it came from.")
    answered_at: Instant = instant("When it came.")

    class Config:
        strict = True


@table("scores.llm_batches", key=["batch_key"], time_column="as_of")
class LlmBatches(pa.DataFrameModel):
    """Batches handed to the API: written down before they are made, so that none is made twice."""

    batch_key: str = identifier("Our own name for it.")
    batch_id: str = identifier("The API's, once it is known.", nullable=True)
    run_id: str = identifier("The run that made it.")
    as_of: Instant = instant("The moment that was classified.")
    model: str = identifier("The model.")
    state: str = word("How far it is.", BATCH_STATES)
    requests: int = count("Requests in it.")
    profiles: int = count("Profiles asked.")
    estimated_usd: float = amount("Dollars that it was expected to cost.")
    problem: str = text("What went wrong with it.", nullable=True)
    created_at: Instant = instant("When it was written down, just before it was sent.")
    ended_at: Instant = instant("When its results were in.", nullable=True)

    class Config:
        strict = True


@table("scores.llm_runs", key=["run_id"], time_column="as_of")
class LlmRuns(pa.DataFrameModel):
    """Runs in which a model was asked: what they had to ask, and what one call a member costs."""

    run_id: str = identifier("The Dagster run.")
    as_of: Instant = instant("The moment that was classified.")
    classifier: str = word("How it was sent.", vocabulary.MODEL_CLASSIFIERS)
    model: str = identifier("The model.")
    members: int = count("Members whose labels the run gave out.")
    profiles: int = count("Profiles of all organisations that were due.")
    profiles_cached: int = count("Profiles with an answer already.")
    profiles_waiting: int = count("Profiles whose answer is still out, in a batch.")
    profiles_fallen_back: int = count("Profiles without a good answer, left to the written rules.")
    profiles_over_budget: int = count("Profiles left to the written rules by the budget.")
    estimated_usd: float = amount("Dollars that the run was expected to cost.")
    one_call_a_member_usd: float = amount(
        "Dollars that one call for each of these members would cost, same model, list price."
    )
    computed_at: Instant = instant("When the run classified.")

    class Config:
        strict = True
