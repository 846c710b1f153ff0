"""Batches from end to end: what is asked goes in, what comes back is checked and written down.

A batch is on record before it is sent, so that one whose answer was lost, or whose run was killed,
is looked for at the API before anything is sent again.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import anthropic

from engagement_pipeline.scoring.anthropic.batch_results import (
    Collected,
    call_of,
    take_results,
    unanswered,
)
from engagement_pipeline.scoring.anthropic.batches import (
    BatchLook,
    BatchRequest,
    ForeignResultsError,
    ResultsGoneError,
    UnreadableResultsError,
    batch_sizes,
    create,
    look,
    made_since,
)
from engagement_pipeline.scoring.anthropic.client import (
    Failed,
)
from engagement_pipeline.scoring.anthropic.ledger import (
    BatchLedger,
    Call,
    Row,
    Writing,
    asked_as_text,
    asked_from_text,
)
from engagement_pipeline.scoring.anthropic.requests import expected_usage, message_params
from engagement_pipeline.scoring.anthropic.retries import backoff_seconds, retry_after_seconds
from engagement_pipeline.scoring.anthropic.sending import (
    RunFacts,
    StopRunError,
)
from engagement_pipeline.scoring.anthropic.session import Way
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.packing import pack
from engagement_pipeline.scoring.prompt import PROMPT_VERSION
from engagement_pipeline.scoring.questions import OrgQuestions, Question, fingerprint_for

_LOOKS_FOR_A_LOST_ONE = 3
_SHOWS_UP_WITHIN = timedelta(minutes=2)
"""After so long a batch that is not at the API has not been taken."""

_DOWNLOADS = 3


class BatchError(RuntimeError):
    """A batch can be neither made nor read; the text says why. What is on record stays."""


@dataclass
class BatchSession:
    """One run's dealings with batches."""

    client: anthropic.AsyncAnthropic
    way: Way
    facts: RunFacts
    ledger: BatchLedger
    log: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self._chance = random.Random(self.facts.seed)

    async def submit(self, orgs: Iterable[OrgQuestions]) -> list[str]:
        """Put the questions in batches and hand them in; gives the API's ids.

        Raises:
            StopRunError: the key, a permission or the account's limit forbids it.
            BatchError: the API takes no batch. It is on record, and sent by the next run.
        """
        calls = {request.custom_id: (request, call) for request, call in self._requests(orgs)}
        batch_ids = []
        for number, group in enumerate(batch_sizes([request for request, _ in calls.values()])):
            key = self._name(number)
            rows = [
                replace(calls[request.custom_id][1], batch_key=key).begun() for request in group
            ]
            batch = self._batch_row(key, rows)
            self.ledger.write([Writing(begun=rows)], batch)
            batch_ids.append(await self._hand_in(batch, group))
        return batch_ids

    async def take_in(self, context_of: Mapping[str, OrgContext]) -> Collected:
        """See to all batches that are out: find the lost, take the results of those that ended.

        One that cannot be seen to is told among the troubles, and stops no other.

        Args:
            context_of: the organisations as they are now, by id.

        Raises:
            StopRunError: the key or a permission forbids it.
        """
        collected = Collected()
        for see_to in (self._find_if_lost, self._collect):
            for batch in self.ledger.open_batches():
                try:
                    await see_to(batch, context_of, collected)
                except (BatchError, ForeignResultsError) as error:
                    self.log(str(error))
                    collected.troubles[batch["batch_key"]] = str(error)
        return collected

    async def _find_if_lost(
        self, batch: Row, context_of: Mapping[str, OrgContext], _: Collected
    ) -> None:
        """See to a batch of which it was never learned whether the API took it."""
        if batch["state"] != "creating":
            return
        calls = self.ledger.open_calls(batch["batch_key"])
        if not calls:
            self.ledger.write([], {**batch, "state": "failed", "problem": "nothing in it"})
            return
        found = await self._look_for(batch)
        if found is not None:
            self._adopt(batch, found)
        elif self.facts.now() - batch["created_at"] < _SHOWS_UP_WITHIN:
            raise BatchError(
                "it is not clear yet whether the API took a batch; a later run looks for it again"
            )
        elif requests := self._again(calls, context_of):
            await self._hand_in(batch, requests)
        else:
            self._give_up(batch, calls, "what it asks has changed since")

    async def _collect(self, batch: Row, _: Mapping[str, OrgContext], collected: Collected) -> None:
        """Take the results of a batch if it has ended."""
        if batch["batch_id"] is None:
            return
        found = await look(self.client, batch["batch_id"])
        if isinstance(found, Failed):
            self._not_seen(batch, found, collected)
        elif not found.has_ended:
            collected.still_out += 1
        else:
            await self._take(batch, found, collected)

    async def _take(self, batch: Row, found: BatchLook, collected: Collected) -> None:
        for download in range(1, _DOWNLOADS + 1):
            try:
                is_foreign = await take_results(
                    self.client,
                    self.way.connection.base_url,
                    self.way.model,
                    self.ledger,
                    batch,
                    found,
                    collected,
                    now=self.facts.now(),
                )
                break
            except ResultsGoneError as error:
                left = self.ledger.open_calls(batch["batch_key"])
                self._give_up(batch, left, str(error), state="collected")
                collected.closed += 1
                return
            except UnreadableResultsError as error:
                self.log(str(error))
                if download == _DOWNLOADS:
                    raise BatchError(
                        f"{error}, in {_DOWNLOADS} downloads; the next run tries again"
                    ) from None
                await asyncio.sleep(backoff_seconds(download, self._chance))
        if is_foreign:
            self.log(f"batch {found.batch_id} was taken for ours and is not; looking further")
            self.ledger.write([], _foreign_row(batch))
            self.ledger.write([], {**batch, "batch_id": None, "state": "creating"})
            collected.still_out += 1
            return
        left = self.ledger.open_calls(batch["batch_key"])
        self._give_up(batch, left, "the batch has no result for it", state="collected")
        collected.closed += 1

    async def _hand_in(self, batch: Row, requests: Sequence[BatchRequest]) -> str:
        attempt = 0
        while True:
            attempt += 1
            made = await create(self.client, requests)
            if isinstance(made, Failed) and made.may_be_billed:
                made = await self._look_for(batch) or made
            if isinstance(made, BatchLook):
                self._adopt(batch, made)
                return made.batch_id
            if made.may_be_billed:
                # It may show up at the API later: sent again now, it would be paid twice.
                raise BatchError(
                    f"it is not clear whether the API took a batch: {made.message}; it is on "
                    "record, and a later run looks for it again"
                )
            if made.stops_the_run or not made.is_retryable:
                # Surely not taken; nothing of it is to be looked for.
                calls = self.ledger.open_calls(batch["batch_key"])
                self._give_up(batch, calls, made.message, outcome="refused")
                kind = StopRunError if made.stops_the_run else BatchError
                raise kind(f"the batch was refused (HTTP {made.status_code}): {made.message}")
            if attempt >= self.facts.max_attempts:
                raise BatchError(
                    f"the API took no batch in {attempt} attempts: {made.message}; it is on "
                    "record, and the next run looks for it and sends it"
                )
            wait = backoff_seconds(attempt, self._chance)
            asked = retry_after_seconds(made.headers, self.facts.now()) or 0.0
            await asyncio.sleep(max(wait, asked))

    async def _look_for(self, batch: Row) -> BatchLook | None:
        """The batch at the API, if it was taken although we were never told."""
        known = self.ledger.known_batch_ids()
        for attempt in range(1, _LOOKS_FOR_A_LOST_ONE + 1):
            found = await made_since(self.client, batch["created_at"], requests=batch["requests"])
            if isinstance(found, Failed):
                if found.stops_the_run:
                    raise StopRunError(f"batches cannot be looked at: {found.message}")
            else:
                for one in found:
                    if one.batch_id not in known:
                        self.log(
                            f"batch {one.batch_id} had been taken although its answer was lost"
                        )
                        return one
            await asyncio.sleep(backoff_seconds(attempt, self._chance))
        if isinstance(found, Failed):
            raise BatchError(
                f"it cannot be told whether a batch was taken: {found.message}; nothing was sent "
                "again, the next run looks for it"
            )
        return None

    def _adopt(self, batch: Row, found: BatchLook) -> None:
        self.ledger.write([], {**batch, "batch_id": found.batch_id, "state": "in_progress"})

    def _give_up(
        self,
        batch: Row,
        calls: Mapping[str, Row],
        why: str,
        *,
        state: str = "failed",
        outcome: str = "failed",
    ) -> None:
        certain = state == "failed"
        ended = [
            unanswered(call_of(row), outcome, why, self.facts.now(), certain=certain)
            for row in calls.values()
        ]
        problem = why if ended else None
        self.ledger.write(
            [Writing(ended=ended)],
            {**batch, "state": state, "problem": problem, "ended_at": self.facts.now()},
        )

    def _not_seen(self, batch: Row, found: Failed, collected: Collected) -> None:
        if found.stops_the_run:
            raise StopRunError(f"batches cannot be looked at: {found.message}")
        if found.status_code == 404:
            calls = self.ledger.open_calls(batch["batch_key"])
            # Or not yet this key, or another workspace's: the work may have been done and paid.
            why = "the API does not know the batch, or does not show it to this key"
            self._give_up(batch, calls, why, state="collected")
            collected.closed += 1
            return
        self.log(f"batch {batch['batch_id']} cannot be looked at now: {found.message}")
        collected.still_out += 1

    def _requests(self, orgs: Iterable[OrgQuestions]) -> Iterable[tuple[BatchRequest, Call]]:
        serial = 0
        for asked in orgs:
            for questions in pack(asked.questions, self.way.pace.profiles_per_call):
                serial += 1
                params = message_params(self.way.model, asked.org, [q.profile for q in questions])
                usage = expected_usage(self.way.model, params, len(questions))
                custom_id = self._name(serial)
                yield (
                    BatchRequest(custom_id, params),
                    self._call(
                        custom_id,
                        asked.org,
                        questions,
                        self.way.model.cost_usd(usage, is_batch=True),
                    ),
                )

    def _again(
        self, calls: Mapping[str, Row], context_of: Mapping[str, OrgContext]
    ) -> list[BatchRequest]:
        """The same requests once more; none if any of them would not be the same now."""
        requests = []
        name = fingerprint_for(self.way.model.name, self.way.model.output_mode)
        for call_id, row in calls.items():
            try:
                _, questions = asked_from_text(row["asked"])
            except ValueError:
                return []
            org = context_of.get(row["org_id"])
            if org is None or any(name(org, q.profile) != q.fingerprint for q in questions):
                return []
            params = message_params(self.way.model, org, [q.profile for q in questions])
            requests.append(BatchRequest(call_id, params))
        return requests

    def _call(
        self, call_id: str, org: OrgContext, questions: Sequence[Question], estimated_usd: float
    ) -> Call:
        return Call(
            call_id=call_id,
            run_id=self.facts.run_id,
            as_of=self.facts.as_of,
            org_id=org.org_id,
            classifier=self.facts.classifier,
            model=self.way.model.name,
            prompt_version=PROMPT_VERSION,
            purpose="first",
            attempt=1,
            profiles=len(questions),
            asked=asked_as_text(org.thresholds, questions),
            estimated_usd=estimated_usd,
            started_at=self.facts.now(),
        )

    def _name(self, number: int) -> str:
        """What a batch or a request is known by: nothing in it says whom it is about."""
        named = f"{self.facts.run_id}:{self.facts.as_of.isoformat()}"
        return f"{hashlib.sha256(named.encode()).hexdigest()[:24]}-{number}"

    def _batch_row(self, key: str, rows: Sequence[Row]) -> Row:
        return {
            "batch_key": key,
            "batch_id": None,
            "run_id": self.facts.run_id,
            "as_of": self.facts.as_of,
            "model": self.way.model.name,
            "state": "creating",
            "requests": len(rows),
            "profiles": sum(row["profiles"] for row in rows),
            "estimated_usd": sum(row["estimated_usd"] for row in rows),
            "problem": None,
            "created_at": self.facts.now(),
            "ended_at": None,
        }


def _foreign_row(batch: Row) -> Row:
    return {
        **batch,
        "batch_key": f"foreign-{batch['batch_id']}"[:256],
        "state": "foreign",
        "problem": "taken for a lost one of ours",
    }
