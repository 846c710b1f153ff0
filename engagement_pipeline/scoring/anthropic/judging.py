"""One request, whatever it asks, and what is made of its answer: the verdict, and the ledger's row.

How it is sent is `sending`'s. What is a good answer is decided outside, in `answers`, and of texts
in `behavior.sentiment_questions`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from engagement_pipeline.scoring.answers import Asked, Checked, Reply, check_reply
from engagement_pipeline.scoring.anthropic.client import Arrived
from engagement_pipeline.scoring.anthropic.ledger import Call, Row, Writing, asked_as_text
from engagement_pipeline.scoring.anthropic.models import ModelSpec
from engagement_pipeline.scoring.anthropic.requests import message_params
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.prompt import PROMPT_VERSION
from engagement_pipeline.scoring.questions import Question

Verdict = TypeVar("Verdict")


@dataclass(frozen=True)
class Answered:
    """An answer to one call, and what it took: dollars, the moment it was there, and seconds."""

    call: Call
    found: Arrived
    spent_usd: float
    now: datetime
    took: float | None


@dataclass(frozen=True)
class Request(Generic[Verdict]):
    """One request, whatever it asks.

    Attributes:
        org_id: the organisation that it is about.
        params: its body.
        rows: how many rows it asks.
        prompt_version: the prompt, for the ledger.
        asked: what is asked, for the ledger.
        judge: tells what of an answer stands up to the checks, and what the ledger is told of it.
        too_large: the verdict where the API finds the request too large.
    """

    org_id: str
    params: dict[str, Any]
    rows: int
    prompt_version: str
    asked: str
    judge: Callable[[Answered], tuple[Verdict, Writing]]
    too_large: Verdict


def request_about(
    model: ModelSpec, org: OrgContext, questions: Sequence[Question]
) -> Request[Checked]:
    """The request to judge some profiles of one organisation."""

    def judge(answered: Answered) -> tuple[Checked, Writing]:
        checked = check_message(answered.found, model, org, questions)
        return checked, answer_writing(
            answered.call,
            answered.found,
            checked,
            questions,
            spent_usd=answered.spent_usd,
            now=answered.now,
            took=answered.took,
        )

    return Request(
        org.org_id,
        message_params(model, org, [question.profile for question in questions]),
        len(questions),
        PROMPT_VERSION,
        asked_as_text(org.thresholds, questions),
        judge,
        too_large=_unanswered(questions, "too large"),
    )


def check_message(
    found: Arrived, model: ModelSpec, org: OrgContext, questions: Sequence[Question]
) -> Checked:
    """What of an answer stands up to the checks."""
    reply = Reply(found.message.get("stop_reason"), found.message["content"], model.output_mode)
    thresholds = org.thresholds
    return check_reply(
        reply, [Asked(q.profile.citable, q.profile.is_new(thresholds)) for q in questions]
    )


def answer_writing(
    call: Call,
    found: Arrived,
    checked: Checked,
    questions: Sequence[Question],
    *,
    spent_usd: float,
    now: datetime,
    took: float | None,
) -> Writing:
    """What the ledger is told of an answer: how the call ended, and each row that stood up."""
    answers: list[Row] = [
        {
            "fingerprint": questions[row - 1].fingerprint,
            "as_of": call.as_of,
            "org_id": call.org_id,
            "profile": questions[row - 1].profile.text,
            **vars(answer),
            "model": call.model,
            "prompt_version": call.prompt_version,
            "call_id": call.call_id,
            "answered_at": now,
        }
        for row, answer in checked.answers.items()
    ]
    ended = answered_row(
        Answered(call, found, spent_usd, now, took),
        answers=len(answers),
        problems=checked.problems,
        reply_problem=checked.reply_problem,
    )
    return Writing(ended=[ended], answers=answers)


def answered_row(
    answered: Answered, *, answers: int, problems: Mapping[int, str], reply_problem: str | None
) -> Row:
    """The row of a call that was answered: how many of its answers stood, and why others did not.

    Args:
        answered: the call and its answer.
        answers: how many rows stood up to the checks.
        problems: row -> why it did not.
        reply_problem: what was wrong with the answer as a whole.
    """
    found = answered.found
    wrong = [f"row {row}: {problem}" for row, problem in problems.items()]
    if reply_problem:
        wrong.insert(0, reply_problem)
    stop_reason = found.message.get("stop_reason")
    return answered.call.ended(
        outcome="answered" if not problems else "partly" if answers else "invalid",
        usage=found.usage,
        spent_usd=answered.spent_usd,
        is_spent_certain=True,
        answers=answers,
        problems="; ".join(wrong)[:_PROBLEMS_CHARACTERS] or None,
        status_code=found.status_code,
        request_id=found.request_id,
        stop_reason=stop_reason[:_WORD_CHARACTERS] if isinstance(stop_reason, str) else None,
        ended_at=answered.now,
        latency_seconds=answered.took,
    )


_PROBLEMS_CHARACTERS = 4_000
_WORD_CHARACTERS = 256


def _unanswered(questions: Sequence[Question], problem: str) -> Checked:
    rows = range(1, len(questions) + 1)
    return Checked({}, dict.fromkeys(rows, problem), reply_problem=problem, is_cut=True)
