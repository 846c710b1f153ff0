"""Asking a model about texts: which calls are made, and what is asked again.

One organisation a request. Good rows are kept at once, the rest asked once more in another order;
what is bad then has no answer. What is asked and what is a good answer comes from the caller
(`behavior.sentiment_questions`, `outreach.rewriting`, floors above); how a request is sent is
`sending`'s.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Generic, Protocol, TypeVar

from engagement_pipeline.scoring.answers import Reply
from engagement_pipeline.scoring.anthropic.asking import first_error
from engagement_pipeline.scoring.anthropic.judging import Answered, Request, answered_row
from engagement_pipeline.scoring.anthropic.ledger import GroupCommitLedger, Writing
from engagement_pipeline.scoring.anthropic.models import ModelSpec
from engagement_pipeline.scoring.anthropic.requests import body_of, expected_usage
from engagement_pipeline.scoring.anthropic.sending import (
    BudgetSpentError,
    OrgFailedError,
    RunFacts,
    Sender,
    StopRunError,
)
from engagement_pipeline.scoring.anthropic.session import Way, sender_for
from engagement_pipeline.scoring.packing import in_another_order, pack

Answer = TypeVar("Answer")
Told = TypeVar("Told", covariant=True)

_MAX_TOKENS_BESIDES = 120


class Verdict(Protocol[Told]):
    """What of a reply stands: each row asked is in one of `answers` and `problems`."""

    @property
    def answers(self) -> Mapping[int, Told]: ...
    @property
    def problems(self) -> Mapping[int, str]: ...
    @property
    def reply_problem(self) -> str | None: ...


@dataclass(frozen=True)
class Prompt(Generic[Answer]):
    """What is asked of texts, and how an answer is held against it.

    Attributes:
        version: changes with every word of it.
        system, tool_name, schema: the same in every request.
        user_turn: the user's message for some texts, numbered from one.
        check: what of a reply about these texts stands.
        answers_are: what the ledger calls the answers. They must be plain JSON values.
        output_tokens_a_text: what an answer's row takes by rule, before that is known.
        max_tokens_a_text: what it may take.
    """

    version: str
    system: str
    tool_name: str
    schema: Mapping[str, Any]
    user_turn: Callable[[Sequence[str]], str]
    check: Callable[[Reply, Sequence[str]], Verdict[Answer]]
    answers_are: str
    output_tokens_a_text: int
    max_tokens_a_text: int


@dataclass(frozen=True)
class Text:
    """A text as it may be sent.

    Attributes:
        fingerprint: what its answer is known by.
        org_id: the organisation that it is from; for the ledger, never sent.
        text: what is told of it: redacted.
    """

    fingerprint: str
    org_id: str
    text: str


@dataclass
class TextOutcome(Generic[Answer]):
    """What became of the texts.

    Attributes:
        answers: fingerprint -> what stands of what was said of the text.
        bad: fingerprint -> why its answer did not stand, twice.
        over_budget: fingerprints that the budget left unasked.
        failed: organisation -> why it could not be asked to the end.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    over_budget: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


def ask_about(
    texts: Iterable[Text],
    prompt: Prompt[Answer],
    way: Way,
    facts: RunFacts,
    write_now: Callable[[Sequence[Writing]], None],
    *,
    texts_per_call: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> TextOutcome[Answer]:
    """Ask about all texts, and come back when each is answered or given up.

    Calls are the same in whatever order the texts come.

    Args:
        texts: what is asked, each fingerprint once.
        prompt: how.
        way: of whom, how fast, and for how much.
        facts: what the calls have in common.
        write_now: puts writings on disk, all or none; called from another thread, one at a time.
        texts_per_call: how many go in a call by rule.
        on_progress: told how many more texts are settled.

    Raises:
        StopRunError: the key, a permission or the account's limit forbids any call; what was
            answered until then is in the ledger.
    """
    packs = packs_of(texts, texts_per_call)
    if not packs:
        return TextOutcome()

    async def run() -> TextOutcome[Answer]:
        async with way.connection.open() as client:
            sender = sender_for(client, way, facts, GroupCommitLedger(write_now))
            sender.output_a_profile = prompt.output_tokens_a_text * way.model.token_factor
            asker = _Asker(sender, prompt, on_progress)
            return await asker.ask(packs, workers=way.pace.calls_in_flight)

    return asyncio.run(run())


def packs_of(texts: Iterable[Text], texts_per_call: int) -> list[list[Text]]:
    """The texts of each call: of one organisation, in the order of fingerprints."""
    ordered = sorted(texts, key=lambda text: (text.org_id, text.fingerprint))
    return [
        packed
        for _, of_org in groupby(ordered, key=lambda text: text.org_id)
        for packed in pack(list(of_org), texts_per_call)
    ]


def expected_cost_usd(
    packs: Iterable[Sequence[Text]], prompt: Prompt[Answer], model: ModelSpec
) -> float:
    """Dollars that calls about these texts would probably cost, none being repeated."""
    a_text = prompt.output_tokens_a_text * model.token_factor

    def cost_usd(texts: Sequence[Text]) -> float:
        params = _params(model, prompt, texts)
        return model.cost_usd(expected_usage(model, params, len(texts), output_a_profile=a_text))

    return sum(cost_usd(texts) for texts in packs)


class _Asker(Generic[Answer]):
    """Works off packs of texts, several calls at a time."""

    def __init__(
        self, sender: Sender, prompt: Prompt[Answer], on_progress: Callable[[int], None]
    ) -> None:
        self._sender = sender
        self._prompt = prompt
        self._on_progress = on_progress
        self.outcome: TextOutcome[Answer] = TextOutcome()

    async def ask(self, packs: Sequence[Sequence[Text]], *, workers: int) -> TextOutcome[Answer]:
        left = iter(packs)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(left))
        except* Exception as errors:
            raise first_error(errors) from None
        if self._sender.stopped_by is not None:
            raise self._sender.stopped_by
        return self.outcome

    async def _work(self, packs: Iterator[Sequence[Text]]) -> None:
        for texts in packs:
            org_id = texts[0].org_id
            try:
                if org_id not in self.outcome.failed:
                    await self._resolve(texts)
            except OrgFailedError as error:
                self.outcome.failed.setdefault(org_id, str(error))
            except StopRunError:
                # Quietly: an error here would cut off the others' calls, which are paid for.
                return
            self._on_progress(len(texts))

    async def _resolve(self, texts: Sequence[Text]) -> None:
        problems = await self._ask(texts, "first")
        left = [text for text in texts if text.fingerprint in problems]
        if left:
            keys = [text.fingerprint for text in left]
            shuffled = in_another_order(left, keys=keys, seed=self._sender.facts.seed)
            self.outcome.bad |= await self._ask(shuffled, "again")

    async def _ask(self, texts: Sequence[Text], purpose: str) -> dict[str, str]:
        """Ask, and keep what stands; gives why the others did not, by fingerprint."""
        request = _request(self._sender.model, self._prompt, texts)
        try:
            verdict = await self._sender.send(request, purpose)
        except BudgetSpentError:
            self.outcome.over_budget |= {text.fingerprint for text in texts}
            return {}
        if verdict is None:
            return {text.fingerprint: "too large" for text in texts}
        self.outcome.answers |= {
            texts[row - 1].fingerprint: answer for row, answer in verdict.answers.items()
        }
        return {texts[row - 1].fingerprint: why for row, why in verdict.problems.items()}


def _params(model: ModelSpec, prompt: Prompt[Answer], texts: Sequence[Text]) -> dict[str, Any]:
    return body_of(
        model,
        system=prompt.system,
        user=prompt.user_turn([text.text for text in texts]),
        tool_name=prompt.tool_name,
        schema=prompt.schema,
        max_tokens=_MAX_TOKENS_BESIDES + prompt.max_tokens_a_text * len(texts),
    )


def _request(
    model: ModelSpec, prompt: Prompt[Answer], texts: Sequence[Text]
) -> Request[Verdict[Answer] | None]:
    def judge(answered: Answered) -> tuple[Verdict[Answer], Writing]:
        message = answered.found.message
        reply = Reply(message.get("stop_reason"), message["content"], model.output_mode)
        verdict = prompt.check(reply, [text.text for text in texts])
        # The answers stand in the call's own row, so that nobody pays for them again.
        asked = _asked_as_text(prompt, texts, verdict.answers)
        row = answered_row(
            replace(answered, call=replace(answered.call, asked=asked)),
            answers=len(verdict.answers),
            problems=verdict.problems,
            reply_problem=verdict.reply_problem,
        )
        return verdict, Writing(ended=[row])

    return Request(
        texts[0].org_id,
        _params(model, prompt, texts),
        len(texts),
        prompt.version,
        _asked_as_text(prompt, texts, {}),
        judge,
        too_large=None,
    )


def _asked_as_text(
    prompt: Prompt[Answer], texts: Sequence[Text], answers: Mapping[int, Answer]
) -> str:
    """What the ledger keeps of a call: fingerprints and answers, and nothing of the texts."""
    return json.dumps(
        {
            "fingerprints": [text.fingerprint for text in texts],
            prompt.answers_are: [answers.get(row) for row in range(1, len(texts) + 1)],
        },
        separators=(",", ":"),
    )
