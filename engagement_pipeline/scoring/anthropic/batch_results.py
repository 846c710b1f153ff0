"""Results of a batch, line by line: checked, and written down as they come.

Fetching them is `batches`'; what is done about a batch as a whole is `batch_session`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import anthropic

from engagement_pipeline.scoring.answers import Checked
from engagement_pipeline.scoring.anthropic.batches import BatchLook, results
from engagement_pipeline.scoring.anthropic.client import Arrived, read_message, usage_of
from engagement_pipeline.scoring.anthropic.judging import answer_writing, check_message
from engagement_pipeline.scoring.anthropic.ledger import (
    BatchLedger,
    Call,
    Row,
    Writing,
    asked_from_text,
)
from engagement_pipeline.scoring.anthropic.models import KNOWN_MODELS, ModelSpec, Usage
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.questions import Question

_RESULTS_A_WRITING = 500
_SAID_CHARACTERS = 300

Bad = tuple[str, Sequence[Question], Checked]
"""A request of which rows did not stand up to the checks: the organisation, and what was asked."""


@dataclass
class Collected:
    """What came back from batches.

    Attributes:
        bad: requests of which rows did not stand up to the checks.
        refused: organisation -> why the API refused what was asked about it.
        still_out: batches that have not ended.
        closed: batches whose results are in.
        troubles: our name of a batch -> why it could not be seen to; it stays on record.
    """

    bad: list[Bad] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    still_out: int = 0
    closed: int = 0
    troubles: dict[str, str] = field(default_factory=dict)


async def take_results(
    client: anthropic.AsyncAnthropic,
    base_url: str,
    model: ModelSpec,
    ledger: BatchLedger,
    batch: Row,
    found: BatchLook,
    collected: Collected,
    *,
    now: datetime,
) -> bool:
    """Take in what has not been taken in yet; whether the batch turned out not to be ours.

    Raises what `batches.results` does; what was read until then is on record.
    """
    calls = ledger.open_calls(batch["batch_key"])
    expected = len(calls)
    waiting: list[Writing] = []
    strangers = 0
    try:
        async for row in results(client, base_url, found):
            call = calls.pop(row["custom_id"], None)
            if call is None:
                strangers += run_of(row["custom_id"]) != run_of(batch["batch_key"])
                continue
            waiting.append(_read(call_of(call), row["result"], model, collected, now))
            if len(waiting) >= _RESULTS_A_WRITING:
                ledger.write(waiting)
                waiting = []
    finally:
        ledger.write(waiting)
    return strangers > 0 and len(calls) == expected


def _read(
    call: Call, result: Mapping[str, Any], model: ModelSpec, collected: Collected, now: datetime
) -> Writing:
    try:
        thresholds, questions = asked_from_text(call.asked)
    except ValueError as error:
        said = f"asked in a way that is not understood any more: {error}"
        return Writing(ended=[unanswered(call, "failed", said[:300], now, certain=False)])
    kind = result.get("type")
    if kind == "succeeded":
        try:
            message = read_message(result.get("message"))
        except ValueError as error:
            return Writing(ended=[unanswered(call, "malformed", str(error), now, certain=False)])
        org = OrgContext(call.org_id, "", None, thresholds)
        name = message.get("id")
        arrived = Arrived(message, usage_of(message), 200, name if isinstance(name, str) else None)
        checked = check_message(arrived, _asked_as(call, message, model), org, questions)
        if checked.problems:
            collected.bad.append((call.org_id, questions, checked))
        spent = _asked_as(call, message, model).cost_usd(arrived.usage, is_batch=True)
        return answer_writing(
            call, arrived, checked, questions, spent_usd=spent, now=now, took=None
        )
    told = _error_of(result)
    if kind == "errored" and told.get("type") == "invalid_request_error":
        said = f"the API refuses what was asked: {told.get('message')}"[:_SAID_CHARACTERS]
        collected.refused.setdefault(call.org_id, said)
        return Writing(ended=[unanswered(call, "refused", said, now)])
    said = f"{kind}: {told.get('message') or 'no more is said'}"[:_SAID_CHARACTERS]
    return Writing(ended=[unanswered(call, "failed", said, now)])


def _asked_as(call: Call, message: Mapping[str, Any], model: ModelSpec) -> ModelSpec:
    """The model as it was asked: the settings may have changed while the batch was out."""
    if call.model != model.name:
        model = KNOWN_MODELS.get(call.model, model)
    is_tool = any(block.get("type") == "tool_use" for block in message["content"])
    return replace(model, output_mode="tool" if is_tool else "json")


def unanswered(call: Call, outcome: str, said: str, now: datetime, *, certain: bool = True) -> Row:
    """The row of a call that brought nothing; what is not certain may have been paid."""
    return call.ended(
        outcome=outcome,
        usage=Usage(),
        spent_usd=0.0 if certain else call.estimated_usd,
        is_spent_certain=certain,
        problems=said,
        ended_at=now,
    )


def call_of(row: Row) -> Call:
    """The call that a row of `scores.llm_calls` tells of."""
    return Call(**{name: row[name] for name in Call.__dataclass_fields__})


def run_of(name: str) -> str:
    """The part of a batch's or a request's name that stands for the run."""
    return name.partition("-")[0]


def _error_of(result: Mapping[str, Any]) -> Mapping[str, Any]:
    outer = result.get("error")
    inner = outer.get("error") if isinstance(outer, dict) else None
    return inner if isinstance(inner, dict) else {}
