"""Sending one request until it is answered: the retry loop, with limits, budget and ledger.

Which requests are made is `asking`'s and `sentiments`', what an answer is worth `judging`'s; what
kind of failure one attempt was is `client`'s.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import anthropic

from engagement_pipeline.scoring.answers import Checked
from engagement_pipeline.scoring.anthropic.budget import Budget
from engagement_pipeline.scoring.anthropic.client import Arrived, Failed, send_message
from engagement_pipeline.scoring.anthropic.judging import (
    Answered,
    Request,
    Verdict,
    request_about,
)
from engagement_pipeline.scoring.anthropic.ledger import Call, Ledger, Writing
from engagement_pipeline.scoring.anthropic.limits import Need, RateLimiter
from engagement_pipeline.scoring.anthropic.models import ModelSpec, Usage
from engagement_pipeline.scoring.anthropic.requests import expected_usage
from engagement_pipeline.scoring.anthropic.retries import backoff_seconds, retry_after_seconds
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.questions import Question

_RESERVE_MARGIN = 1.5
"""Our estimate of a request's tokens may be short of the API's count by so much."""

_LEARNING = 0.1


class StopRunError(RuntimeError):
    """No request can succeed any more: the key, a permission, or the account's own limit."""


class OrgFailedError(RuntimeError):
    """A request about one organisation cannot be answered; the text says why."""


class BudgetSpentError(RuntimeError):
    """The budget does not allow the request; nothing was sent."""


@dataclass(frozen=True)
class RunFacts:
    """What all calls of a run have in common.

    Attributes:
        run_id: the run, for the ledger.
        as_of: the moment that is classified.
        classifier: how requests are sent, in the ledger's words.
        seed: of the jitter, and of the order in which rows are asked again.
        max_attempts: how often one request is sent at most.
        now: the wall clock, for the ledger and for dates in headers.
        phase: the part of the run that the calls belong to; numbers begin anew in each.
    """

    run_id: str
    as_of: datetime
    classifier: str
    seed: int
    max_attempts: int
    now: Callable[[], datetime]
    phase: str = "ask"


@dataclass
class Sender:
    """Sends requests; one serves a whole run.

    Attributes:
        output_a_profile: output tokens that an answer takes a profile, learned as answers come.
        input_factor: input tokens the API counts, as a multiple of our estimate, learned alike.
        stopped_by: why nothing more is sent, once that is so.
        has_heard: whether the API has said anything yet.
    """

    client: anthropic.AsyncAnthropic
    model: ModelSpec
    facts: RunFacts
    limiter: RateLimiter
    budget: Budget
    ledger: Ledger
    calls: int = 0
    output_a_profile: float | None = None
    input_factor: float = 1.0
    stopped_by: StopRunError | None = None
    has_heard: bool = False
    _chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.facts.seed)

    async def ask(self, org: OrgContext, questions: Sequence[Question], purpose: str) -> Checked:
        """Ask about some profiles of one organisation; good answers are in the ledger on return.

        Raises:
            StopRunError: the whole run is over.
            OrgFailedError: this organisation's is.
            BudgetSpentError: the budget is.
        """
        return await self.send(request_about(self.model, org, questions), purpose)

    async def send(self, request: Request[Verdict], purpose: str) -> Verdict:
        """Send a request until it is answered; what stands of the answer is then in the ledger.

        Raises:
            StopRunError: the whole run is over.
            OrgFailedError: this organisation's is.
            BudgetSpentError: the budget is.
        """
        expected = self._expected(request.params, request.rows)
        attempt = 0
        while True:
            attempt += 1
            call = self._call(request, purpose, attempt, self.model.cost_usd(expected))
            found = await self._attempt(call, request, expected)
            if not isinstance(found, Failed):
                return found
            if found.stops_the_run:
                raise self._stop(_said(found, "the model cannot be asked"))
            if found.is_too_large:
                return request.too_large
            if not found.is_retryable:
                raise OrgFailedError(_said(found, "the API refuses what was asked"))
            if attempt >= self.facts.max_attempts:
                said = _said(found, f"the API gave no answer in {attempt} attempts")
                if found.outcome == "failed" and found.status_code is None and not self.has_heard:
                    # Nobody is there: the other organisations would find out one by one.
                    raise self._stop(f"{said}, at {self.client.base_url}")
                raise OrgFailedError(said)
            await self._wait(found, attempt)

    def _stop(self, why: str) -> StopRunError:
        """Let nothing more be sent, by whichever worker."""
        self.stopped_by = StopRunError(why)
        self.limiter.end()  # pauses, too: a spend limit is a 429, which may ask for a long one
        return self.stopped_by

    async def _attempt(
        self, call: Call, request: Request[Verdict], expected: Usage
    ) -> Verdict | Failed:
        at_most = Usage(
            round(expected.input_tokens * _RESERVE_MARGIN), request.params["max_tokens"]
        )
        reserved, spent = self.model.cost_usd(at_most), 0.0
        if not await self.budget.reserve(reserved):
            raise BudgetSpentError
        try:
            async with self.limiter.turn(
                Need(expected.input_tokens, expected.output_tokens)
            ) as place:
                if self.stopped_by is not None:
                    raise self.stopped_by
                await self.ledger.write(Writing(begun=[call.begun()]))
                started = time.monotonic()
                found = await self._send(request.params)
                took = time.monotonic() - started
                self.has_heard |= found.status_code is not None
                if isinstance(found, Failed):
                    spent = call.estimated_usd if found.may_be_billed else 0.0
                    used = None if found.may_be_billed else Need(0, 0)
                    self.limiter.settle(place, found.headers, used)
                    self._take_note(found, call.attempt)
                    await self._write_failure(call, found, spent, took)
                    return found
                spent = self.model.cost_usd(found.usage)
                self._learn(found.usage, expected, request.rows)
                self.limiter.settle(place, found.headers, _used(found.usage))
                self.limiter.went_well()
                verdict, writing = request.judge(
                    Answered(call, found, spent, self.facts.now(), took)
                )
                # Within the place, so that it is free again only when the answer is on disk.
                await self.ledger.write(writing)
                return verdict
        finally:
            await self.budget.settle(reserved, spent)

    async def _send(self, params: dict[str, Any]) -> Arrived | Failed:
        limit = self.client.timeout
        assert isinstance(limit, int | float), "the client is opened with a plain timeout"
        try:
            # A body that drips in never trips the connection's own timeout.
            async with asyncio.timeout(limit):
                return await send_message(self.client, params)
        except TimeoutError:
            return Failed(
                "lost",
                f"no whole answer within {limit:g} s",
                is_retryable=True,
                may_be_billed=True,
            )

    async def _write_failure(self, call: Call, found: Failed, spent: float, took: float) -> None:
        row = call.ended(
            outcome=found.outcome,
            usage=Usage(),
            spent_usd=spent,
            is_spent_certain=not found.may_be_billed,
            problems=found.message,
            status_code=found.status_code,
            request_id=found.request_id,
            ended_at=self.facts.now(),
            latency_seconds=took,
        )
        await self.ledger.write(Writing(ended=[row]))

    def _take_note(self, found: Failed, attempt: int) -> None:
        if found.status_code == 429:
            # Also where it asks for no wait at all, or for one until a moment that is past by our
            # clock: attempts in a row would be refused in a row.
            asked = retry_after_seconds(found.headers, self.facts.now()) or 0.0
            self.limiter.pause(max(asked, backoff_seconds(attempt, self._chance)))
        if found.status_code == 529:
            self.limiter.overloaded()

    async def _wait(self, found: Failed, attempt: int) -> None:
        if found.status_code == 429:
            return  # the pause that all workers keep is this one's as well
        asked = retry_after_seconds(found.headers, self.facts.now())
        wait = backoff_seconds(attempt, self._chance)
        await self.limiter.rest(max(wait, asked or 0.0))

    def _expected(self, params: dict[str, Any], rows: int) -> Usage:
        usage = expected_usage(self.model, params, rows, output_a_profile=self.output_a_profile)
        return replace(usage, input_tokens=round(usage.input_tokens * self.input_factor))

    def _learn(self, used: Usage, expected: Usage, rows: int) -> None:
        a_row = used.output_tokens / max(rows, 1)
        before = self.output_a_profile or a_row
        self.output_a_profile = before + _LEARNING * (a_row - before)
        counted = used.input_tokens + used.cache_write_tokens + used.cache_read_tokens
        ratio = self.input_factor * counted / max(expected.input_tokens, 1)
        self.input_factor += _LEARNING * (ratio - self.input_factor)

    def _call(
        self, request: Request[Any], purpose: str, attempt: int, estimated_usd: float
    ) -> Call:
        self.calls += 1
        return Call(
            call_id=f"{self.facts.run_id}:{self.facts.phase}:{self.calls}",
            run_id=self.facts.run_id,
            as_of=self.facts.as_of,
            org_id=request.org_id,
            classifier=self.facts.classifier,
            model=self.model.name,
            prompt_version=request.prompt_version,
            purpose=purpose,
            attempt=attempt,
            profiles=request.rows,
            asked=request.asked,
            estimated_usd=estimated_usd,
            started_at=self.facts.now(),
        )


def _used(usage: Usage) -> Need:
    # What is read from the cache does not count against the input limit.
    return Need(usage.input_tokens + usage.cache_write_tokens, usage.output_tokens)


def _said(found: Failed, what: str) -> str:
    hint = " (see ANTHROPIC_API_KEY)" if found.status_code in (401, 403) else ""
    status = f" (HTTP {found.status_code})" if found.status_code else ""
    request = f", request {found.request_id}" if found.request_id else ""
    return f"{what}{status}: {found.message}{hint}{request}"
