"""Asking a model about texts within a run: what it may spend, and where its calls are written down.

What is asked, and what becomes of the answers, is told by `asking_sentiments` and `rewriting`;
everything about the API is in `scoring.anthropic`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from dagster import DagsterLogManager

from engagement_pipeline.defs.ledger import WarehouseLedger
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.scoring.anthropic.sending import RunFacts
from engagement_pipeline.scoring.anthropic.session import Way
from engagement_pipeline.scoring.anthropic.texts import (
    Prompt,
    Text,
    TextOutcome,
    ask_about,
    expected_cost_usd,
    packs_of,
)
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import llm
from engagement_pipeline.warehouse import model_sentiments as stored
from engagement_pipeline.warehouse.connection import Connection

Answer = TypeVar("Answer")

_SENT_AS = "anthropic"
"""The ledger's word for calls one by one. Whoever gives the levels is nothing to texts."""


@dataclass
class TextAsking:
    """Who asks, for which run, and by which settings.

    Attributes:
        connection: the warehouse, in no transaction while texts are asked about.
        settings: for how much, and how often.
        run_id: the run, for the ledger. All that it spends counts towards `max_cost_usd`.
        as_of: the moment of the run, for the ledger.
        log: of the run.
        way: how the model is asked.
    """

    connection: Connection
    settings: Settings
    run_id: str
    as_of: datetime
    log: DagsterLogManager
    way: Way

    def settle_abandoned(self) -> None:
        """Close calls that a dead run left open."""
        if abandoned := llm.settle_abandoned(self.connection, now=_now()):
            self.log.warning(f"{abandoned} calls of an earlier run were cut off; they may be paid")

    def ask(
        self, texts: Sequence[Text], prompt: Prompt[Answer], *, texts_per_call: int, what: str
    ) -> TextOutcome[Answer]:
        """Ask about texts, with what the run has left to spend.

        Args:
            texts: what is asked, each fingerprint once.
            prompt: how.
            texts_per_call: how many go in a call by rule.
            what: what they are, for the log, such as `texts`.

        Raises:
            StopRunError: the key, a permission or the account's limit forbids any call; what was
                answered until then is on record.
        """
        expected_usd = expected_cost_usd(packs_of(texts, texts_per_call), prompt, self.way.model)
        stored.expect_more(self.connection, self._run_row(expected_usd))
        spent = sum(
            one.spent_usd for one in llm.spent_by_org(self.connection, self.run_id).values()
        )
        left = max(0.0, self.settings.max_cost_usd - spent)
        calls = stored.calls_of_run(self.connection, self.run_id)
        facts = RunFacts(
            self.run_id,
            self.as_of,
            _SENT_AS,
            self.settings.seed,
            self.settings.max_attempts,
            _now,
            # Of its own, since a run may ask several times, and names of calls begin anew.
            phase=f"texts-{calls}",
        )
        progress = Progress(self.log, f"Asking the model about {what}", len(texts), what)
        return ask_about(
            texts,
            prompt,
            replace(self.way, max_cost_usd=left),
            facts,
            WarehouseLedger(self.connection).write,
            texts_per_call=texts_per_call,
            on_progress=progress.advance,
        )

    def _run_row(self, expected_usd: float) -> Mapping[str, object]:
        counts = (
            "members",
            "profiles",
            "profiles_cached",
            "profiles_waiting",
            "profiles_fallen_back",
            "profiles_over_budget",
        )
        return {
            "run_id": self.run_id,
            "as_of": self.as_of,
            "classifier": _SENT_AS,
            "model": self.way.model.name,
            **dict.fromkeys(counts, 0),
            "estimated_usd": expected_usd,
            "one_call_a_member_usd": 0.0,
            "computed_at": _now(),
        }


def _now() -> datetime:
    return datetime.now(UTC)
