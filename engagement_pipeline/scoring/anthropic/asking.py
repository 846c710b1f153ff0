"""Asking a model about many organisations at once: which calls are made, and what is asked again.

One organisation a request. Good rows are kept at once; the rest are asked again in another order,
then in halves, down to a single row; one that fails twice alone is left to the written rules. How
a request is sent is `sending`'s; what is a good answer, `answers`'.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from engagement_pipeline.scoring.answers import Checked
from engagement_pipeline.scoring.anthropic.sending import (
    BudgetSpentError,
    OrgFailedError,
    Sender,
    StopRunError,
)
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.packing import halves, in_another_order, pack
from engagement_pipeline.scoring.questions import OrgQuestions, Question


@dataclass(frozen=True)
class Unanswered:
    """Why a profile is left to the written rules: `fallback` or `budget`, and the reason."""

    source: str
    reason: str


@dataclass
class AskOutcome:
    """What became of everything that was asked; the answers themselves are in the ledger.

    Attributes:
        failed: organisation -> why it could not be asked.
        unanswered: fingerprint -> why there is no answer.
    """

    failed: dict[str, str] = field(default_factory=dict)
    unanswered: dict[str, Unanswered] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pack:
    org: OrgContext
    questions: Sequence[Question]
    answered: Checked | None = None


_HOPELESS_PROFILES = 10
"""Profiles of one organisation left to the rules, and more than were answered, after which its bad
rows are not asked again: its description may bring the model to break the rules every time."""


class Asker:
    """Works off packs of questions, several calls at a time, in order.

    Args:
        sender: how requests are sent.
        profiles_per_call: how many go in a call by rule.
        workers: calls at a time at most.
        on_progress: told how many more profiles are settled.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        profiles_per_call: int,
        workers: int,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._sender = sender
        self._per_call = profiles_per_call
        self._workers = workers
        self._on_progress = on_progress
        self.outcome = AskOutcome()
        self._answered: Counter[str] = Counter()
        self._fallen_back: Counter[str] = Counter()
        self._doubted: dict[str, asyncio.Lock] = {}

    async def ask(self, orgs: Iterable[OrgQuestions]) -> AskOutcome:
        """Ask every question.

        Raises:
            StopRunError: the run is over; what was answered until then is in the ledger.
        """
        packs = (
            _Pack(asked.org, questions)
            for asked in orgs
            for questions in pack(asked.questions, self._per_call)
        )
        return await self._work_off(packs)

    async def mend(
        self, asked: Iterable[tuple[OrgContext, Sequence[Question], Checked]]
    ) -> AskOutcome:
        """Ask again what was answered badly elsewhere, in a batch."""
        return await self._work_off(_Pack(*one) for one in asked)

    async def _work_off(self, packs: Iterator[_Pack]) -> AskOutcome:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work(packs))
        except* Exception as errors:
            raise first_error(errors) from None
        if self._sender.stopped_by is not None:
            raise self._sender.stopped_by
        return self.outcome

    async def _work(self, packs: Iterator[_Pack]) -> None:
        for next_pack in packs:
            org_id = next_pack.org.org_id
            if org_id in self.outcome.failed:
                continue
            try:
                await self._resolve(next_pack)
            except OrgFailedError as error:
                self.outcome.failed.setdefault(org_id, str(error))
                self._on_progress(len(next_pack.questions))
            except StopRunError:
                # Quietly: an error here would cut off the others' calls, which are paid for.
                return

    async def _resolve(self, given: _Pack) -> None:
        checked = given.answered
        if checked is None:
            checked = await self._ask(given.org, given.questions, "first")
            if checked is None:
                return
        left = self._left(given.questions, checked)
        if not left:
            return
        org_id = given.org.org_id
        if self._answered[org_id]:
            await self._repair(given, checked, left)
            return
        # One at a time until anything about the organisation has stood up: where nothing will,
        # the first pack's repair tells, and the others need none.
        async with self._doubted.setdefault(org_id, asyncio.Lock()):
            await self._repair(given, checked, left)

    async def _repair(self, given: _Pack, checked: Checked, left: Sequence[Question]) -> None:
        if self._is_hopeless(given.org.org_id):
            for question in left:
                self._fall_back(given.org, question, "too many bad answers before it")
        elif len(left) == 1:
            await self._alone(given.org, left[0], has_failed_alone=len(given.questions) == 1)
        elif checked.is_cut:
            await self._bisect(given.org, left)
        else:
            await self._again(given.org, left)

    async def _again(self, org: OrgContext, questions: Sequence[Question]) -> None:
        keys = [question.fingerprint for question in questions]
        shuffled = in_another_order(questions, keys=keys, seed=self._sender.facts.seed)
        checked = await self._ask(org, shuffled, "again")
        if checked is not None and (left := self._left(shuffled, checked)):
            await self._bisect(org, left)

    async def _bisect(self, org: OrgContext, questions: Sequence[Question]) -> None:
        if len(questions) == 1:
            await self._alone(org, questions[0], has_failed_alone=False)
            return
        for half in halves(questions):
            if len(half) == 1:
                await self._alone(org, half[0], has_failed_alone=False)
                continue
            checked = await self._ask(org, half, "bisect")
            if checked is not None and (left := self._left(half, checked)):
                await self._bisect(org, left)

    async def _alone(self, org: OrgContext, question: Question, *, has_failed_alone: bool) -> None:
        problem = "no answer"
        for _ in range(1 if has_failed_alone else 2):
            checked = await self._ask(org, [question], "alone")
            if checked is None or not checked.problems:
                return
            problem = checked.problems[1]
        self._fall_back(org, question, problem)

    def _fall_back(self, org: OrgContext, question: Question, why: str) -> None:
        self.outcome.unanswered[question.fingerprint] = Unanswered("fallback", why)
        self._fallen_back[org.org_id] += 1
        self._on_progress(1)

    def _is_hopeless(self, org_id: str) -> bool:
        fallen = self._fallen_back[org_id]
        return fallen >= _HOPELESS_PROFILES and fallen > self._answered[org_id]

    async def _ask(
        self, org: OrgContext, questions: Sequence[Question], purpose: str
    ) -> Checked | None:
        try:
            checked = await self._sender.ask(org, questions, purpose)
        except BudgetSpentError:
            spent = Unanswered("budget", "the run's budget was spent")
            for question in questions:
                self.outcome.unanswered[question.fingerprint] = spent
            self._on_progress(len(questions))
            return None
        self._answered[org.org_id] += len(checked.answers)
        self._on_progress(len(checked.answers))
        return checked

    @staticmethod
    def _left(questions: Sequence[Question], checked: Checked) -> list[Question]:
        return [questions[row - 1] for row in sorted(checked.problems)]


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, however deep it is."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
