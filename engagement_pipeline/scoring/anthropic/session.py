"""One run's dealings with the Messages API, from opening the client to closing it.

Here the parts are put together: client, limits, budget, ledger and asker. Values come from the
caller; nothing here knows of settings.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anthropic

from engagement_pipeline.scoring.answers import Checked
from engagement_pipeline.scoring.anthropic.asking import Asker, AskOutcome
from engagement_pipeline.scoring.anthropic.budget import Budget
from engagement_pipeline.scoring.anthropic.client import Connection
from engagement_pipeline.scoring.anthropic.ledger import GroupCommitLedger, Ledger, Writing
from engagement_pipeline.scoring.anthropic.limits import RateLimiter
from engagement_pipeline.scoring.anthropic.models import ModelSpec
from engagement_pipeline.scoring.anthropic.sending import RunFacts, Sender
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.questions import OrgQuestions, Question


@dataclass(frozen=True)
class Pace:
    """How fast and how much at a time.

    Attributes:
        requests_per_minute, input_tokens_per_minute, output_tokens_per_minute: what a run begins
            with; the API's headers correct them.
        share: the part of the API's limits that is ours, in (0, 1].
        calls_in_flight: calls at a time at most.
        profiles_per_call: profiles in a call by rule.
    """

    requests_per_minute: float = 1_000
    input_tokens_per_minute: float = 450_000
    output_tokens_per_minute: float = 90_000
    share: float = 1.0
    calls_in_flight: int = 16
    profiles_per_call: int = 10


@dataclass(frozen=True)
class Way:
    """How the model is asked.

    Attributes:
        connection: how the API is reached.
        model: which model, and what it takes.
        pace: how fast.
        max_cost_usd: what the run may spend.
    """

    connection: Connection
    model: ModelSpec
    pace: Pace = field(default_factory=Pace)
    max_cost_usd: float = 10.0


def ask(
    orgs: Sequence[OrgQuestions],
    way: Way,
    facts: RunFacts,
    write_now: Callable[[Sequence[Writing]], None],
    *,
    on_progress: Callable[[int], None] = lambda _: None,
) -> AskOutcome:
    """Ask all questions, and come back when each is answered or given up.

    Args:
        orgs: what is asked, in order.
        way: how.
        facts: what the run's calls have in common.
        write_now: puts writings on disk, all or none; called from another thread, one at a time.
        on_progress: told how many more profiles are settled.

    Raises:
        StopRunError: the key, a permission or the account's limit forbids any call.
    """
    if not any(org.questions for org in orgs):
        return AskOutcome()
    return asyncio.run(_ask(orgs, way, facts, write_now, on_progress))


def mend(
    asked: Sequence[tuple[OrgContext, Sequence[Question], Checked]],
    way: Way,
    facts: RunFacts,
    write_now: Callable[[Sequence[Writing]], None],
) -> AskOutcome:
    """Ask again, one call at a time as above, what a batch answered badly.

    Raises:
        StopRunError: the key, a permission or the account's limit forbids any call.
    """

    async def run() -> AskOutcome:
        async with way.connection.open() as client:
            return await asker_for(client, way, facts, GroupCommitLedger(write_now)).mend(asked)

    return asyncio.run(run()) if asked else AskOutcome()


async def _ask(
    orgs: Sequence[OrgQuestions],
    way: Way,
    facts: RunFacts,
    write_now: Callable[[Sequence[Writing]], None],
    on_progress: Callable[[int], None],
) -> AskOutcome:
    async with way.connection.open() as client:
        asker = asker_for(client, way, facts, GroupCommitLedger(write_now), on_progress)
        return await asker.ask(orgs)


def asker_for(
    client: anthropic.AsyncAnthropic,
    way: Way,
    facts: RunFacts,
    ledger: Ledger,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Asker:
    """An asker with its own limits and budget."""
    return Asker(
        sender_for(client, way, facts, ledger),
        profiles_per_call=way.pace.profiles_per_call,
        workers=way.pace.calls_in_flight,
        on_progress=on_progress,
    )


def sender_for(
    client: anthropic.AsyncAnthropic, way: Way, facts: RunFacts, ledger: Ledger
) -> Sender:
    """A sender with its own limits and budget."""
    pace = way.pace
    limiter = RateLimiter(
        pace.requests_per_minute,
        pace.input_tokens_per_minute,
        pace.output_tokens_per_minute,
        share=pace.share,
        max_in_flight=pace.calls_in_flight,
    )
    return Sender(client, way.model, facts, limiter, Budget(way.max_cost_usd), ledger)
