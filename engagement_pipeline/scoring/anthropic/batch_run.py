"""One run's errands at the Batches API: the client opened, the errand done, the client closed.

What is done about batches is `batch_session`'s.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from engagement_pipeline.scoring.anthropic.batch_results import Collected
from engagement_pipeline.scoring.anthropic.batch_session import BatchSession
from engagement_pipeline.scoring.anthropic.batches import BatchLook, look
from engagement_pipeline.scoring.anthropic.client import Failed
from engagement_pipeline.scoring.anthropic.ledger import BatchLedger, Row
from engagement_pipeline.scoring.anthropic.sending import RunFacts
from engagement_pipeline.scoring.anthropic.session import Way
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.questions import OrgQuestions


def take_in(
    way: Way,
    facts: RunFacts,
    ledger: BatchLedger,
    context_of: Mapping[str, OrgContext],
    *,
    log: Callable[[str], None],
) -> Collected:
    """See to batches that are out: find the lost, take the results of those that have ended.

    Raises what `BatchSession.take_in` does.
    """

    async def run() -> Collected:
        async with way.connection.open() as client:
            return await BatchSession(client, way, facts, ledger, log).take_in(context_of)

    if not ledger.open_batches():
        return Collected()
    return asyncio.run(run())


def hand_in(
    orgs: Sequence[OrgQuestions],
    way: Way,
    facts: RunFacts,
    ledger: BatchLedger,
    *,
    log: Callable[[str], None],
) -> list[str]:
    """Put the questions in batches and hand them in; gives the API's ids.

    Raises what `BatchSession.submit` does.
    """

    async def run() -> list[str]:
        async with way.connection.open() as client:
            return await BatchSession(client, way, facts, ledger, log).submit(orgs)

    if not any(asked.questions for asked in orgs):
        return []
    return asyncio.run(run())


def has_news(way: Way, batches: Sequence[Row]) -> bool:
    """Whether the API has finished one of these batches, or one of them has to be looked for."""

    async def run() -> bool:
        async with way.connection.open() as client:
            looks = [look(client, batch["batch_id"]) for batch in batches]
            return any(map(_is_news, await asyncio.gather(*looks)))

    if any(batch["batch_id"] is None for batch in batches):
        return True
    return bool(batches) and asyncio.run(run())


def _is_news(found: BatchLook | Failed) -> bool:
    return not found.is_retryable if isinstance(found, Failed) else found.has_ended
