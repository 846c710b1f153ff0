"""What is written down of each call, before it is sent and after, and how it reaches the disk.

Rows are those of `scores.llm_calls` and `scores.llm_answers`. Where they are kept is the
caller's: it gives a function that writes some of them, all or none.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from engagement_pipeline.scoring.anthropic.models import Usage
from engagement_pipeline.scoring.levels import Thresholds
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.scoring.questions import Question

Row = dict[str, Any]


@dataclass(frozen=True)
class Writing:
    """What one call has to say: rows that are new, rows that have come to an end, and answers."""

    begun: Sequence[Row] = ()
    ended: Sequence[Row] = ()
    answers: Sequence[Row] = ()


class Ledger(Protocol):
    """Takes what calls have to say; when `write` returns, it is on disk."""

    async def write(self, writing: Writing) -> None: ...


class BatchLedger(Protocol):
    """Where batches and their calls are kept; each call is one transaction."""

    def write(self, writings: Sequence[Writing], batch: Row | None = None) -> None: ...

    def open_batches(self) -> list[Row]:
        """Batches that are being made, or are out: rows of `scores.llm_batches`."""

    def open_calls(self, batch_key: str) -> dict[str, Row]:
        """The calls of a batch that have no result yet, by `call_id`."""

    def known_batch_ids(self) -> set[str]:
        """Every batch of the API's that we know to be ours, or not to be."""


class GroupCommitLedger:
    """Writes what all workers have to say in one transaction while they wait, then the next.

    A transaction takes longer than a call's share of a second at full speed; together they keep up.

    Args:
        write_now: writes everything handed to it, all or none; runs in a thread.
    """

    def __init__(self, write_now: Callable[[Sequence[Writing]], None]) -> None:
        self._write_now = write_now
        self._waiting: list[tuple[Writing, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def write(self, writing: Writing) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((writing, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._work_off())
        await done

    async def _work_off(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._write_now, [writing for writing, _ in taken])
            except BaseException as error:
                for _, done in taken:
                    if not done.done():
                        done.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                for _, done in taken:
                    if not done.done():
                        done.set_result(None)


@dataclass(frozen=True)
class Call:
    """A call about to be made."""

    call_id: str
    run_id: str
    as_of: datetime
    org_id: str
    classifier: str
    model: str
    prompt_version: str
    purpose: str
    attempt: int
    profiles: int
    asked: str
    estimated_usd: float
    started_at: datetime
    batch_key: str | None = None

    def begun(self) -> Row:
        """The call's row while nothing is known of its end."""
        return self._row(
            outcome="pending", usage=Usage(), spent_usd=0.0, is_spent_certain=False, answers=0
        )

    def ended(
        self,
        *,
        outcome: str,
        usage: Usage,
        spent_usd: float,
        is_spent_certain: bool,
        ended_at: datetime,
        answers: int = 0,
        problems: str | None = None,
        status_code: int | None = None,
        request_id: str | None = None,
        stop_reason: str | None = None,
        latency_seconds: float | None = None,
    ) -> Row:
        """The call's row once it is known what came of it."""
        return self._row(
            outcome=outcome,
            usage=usage,
            spent_usd=spent_usd,
            is_spent_certain=is_spent_certain,
            answers=answers,
            problems=problems,
            status_code=status_code,
            request_id=request_id,
            stop_reason=stop_reason,
            ended_at=ended_at,
            latency_seconds=latency_seconds,
        )

    def _row(self, *, usage: Usage, **end: Any) -> Row:
        unknown = dict.fromkeys(
            ("problems", "status_code", "request_id", "stop_reason", "ended_at", "latency_seconds")
        )
        return {**vars(self), **unknown, **asdict(usage), **end}


def asked_as_text(thresholds: Thresholds, questions: Sequence[Question]) -> str:
    """What a call asks, so that its answer can be checked by whoever has nothing else."""
    rows = [[question.fingerprint, question.profile.text] for question in questions]
    return json.dumps({"thresholds": asdict(thresholds), "rows": rows}, separators=(",", ":"))


def fingerprints_in(text: str) -> list[str]:
    """The fingerprints in `asked_as_text`'s text, also of one that was written long ago."""
    return [fingerprint for fingerprint, _ in json.loads(text)["rows"]]


def asked_from_text(text: str) -> tuple[Thresholds, list[Question]]:
    """The thresholds and the questions of `asked_as_text`.

    Raises:
        ValueError: it was written when profiles were made otherwise.
    """
    found = json.loads(text)
    questions = [Question(fingerprint, Profile(profile)) for fingerprint, profile in found["rows"]]
    return Thresholds(**found["thresholds"]), questions
