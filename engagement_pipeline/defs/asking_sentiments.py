"""Asking a model how texts sound, where the setting `sentiment_llm` says so.

From texts of organisations to sentiments: redacted, looked up, asked, and written down. What is
taken out of a text, and what is asked, is decided in `behavior`; everything about the API is in
`scoring.anthropic`; what becomes of the answers is `interaction_scoring`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from dagster import DagsterLogManager

from engagement_pipeline.behavior import sentiment_questions
from engagement_pipeline.behavior.redaction import Redactor
from engagement_pipeline.behavior.sentiment_questions import (
    PROMPT_VERSION,
    TEXTS_PER_CALL,
    is_worth_asking,
    text_fingerprint,
)
from engagement_pipeline.defs.asking_texts import TextAsking
from engagement_pipeline.defs.model import way_of
from engagement_pipeline.scoring.answers import Reply
from engagement_pipeline.scoring.anthropic.texts import Prompt, Text, TextOutcome
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import model_sentiments as stored
from engagement_pipeline.warehouse.connection import Connection


def _check(reply: Reply, texts: Sequence[str]) -> sentiment_questions.Rated:
    return sentiment_questions.check_ratings(reply, len(texts))


PROMPT: Prompt[float] = Prompt(
    PROMPT_VERSION,
    sentiment_questions.SYSTEM,
    sentiment_questions.TOOL_NAME,
    sentiment_questions.SCHEMA,
    sentiment_questions.user_turn,
    _check,
    answers_are="sentiments",
    # A number and a sentiment. Replaced by what answers turn out to take.
    output_tokens_a_text=14,
    max_tokens_a_text=40,
)


@dataclass
class Counts:
    """What became of the texts of a run so far, in texts that differ once they are redacted.

    Attributes:
        texts: handed in.
        known: with an answer on record.
        answered: with one that came now.
        bad: whose answer did not stand, twice.
        over_budget: left unasked by the budget.
        failed: of organisations that could not be asked to the end.
        failed_orgs: organisation -> why not.
    """

    texts: int = 0
    known: int = 0
    answered: int = 0
    bad: int = 0
    over_budget: int = 0
    failed: int = 0
    failed_orgs: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """The counts as plain values, for metadata."""
        return asdict(self)


def why_nobody_is_asked(settings: Settings) -> str | None:
    """Why the model is not asked about texts; None where it is."""
    if not settings.sentiment_llm:
        return "sentiment_llm is off: no text leaves the machine"
    if not settings.has_api_key:
        return "sentiment_llm is on, but there is no ANTHROPIC_API_KEY to ask with"
    return None


def model_sentiments(
    connection: Connection,
    settings: Settings,
    *,
    run_id: str,
    as_of: datetime,
    log: DagsterLogManager,
) -> "SentimentAsker | None":
    """What tells a model's sentiments of texts; None where nobody is asked.

    Args:
        connection: the warehouse, in no transaction while texts are asked about.
        settings: what may be asked, of whom, and for how much.
        run_id: the run, for the ledger. All that it spends counts towards `max_cost_usd`.
        as_of: the moment of the run, for the ledger.
        log: of the run.

    Raises:
        UnknownModelError: nobody described the model.
    """
    if (reason := why_nobody_is_asked(settings)) is not None:
        log.info(f"{reason}; VADER's sentiments stand alone")
        return None
    asker = SentimentAsker(connection, settings, run_id, as_of, log, way_of(settings))
    asker.settle_abandoned()
    return asker


@dataclass
class SentimentAsker(TextAsking):
    """Tells a model's sentiments of texts, asking as few as it can.

    Texts that are the same once they are redacted are asked about once, and never again: each
    answer is on disk before its place is used by the next call, so that a run that is killed pays
    again for what was in flight at most.

    Attributes:
        counts: what became of the texts so far.
    """

    counts: Counts = field(default_factory=Counts)

    def __call__(self, texts: Sequence[str], org_ids: Sequence[str]) -> list[float | None]:
        """How each text sounds, from -1 to 1; null where the model gave no answer.

        Args:
            texts: what was said, as it was said.
            org_ids: the organisation of each.

        Raises:
            ValueError: there are not as many organisations as texts.
            StopRunError: the key, a permission or the account's limit forbids any call; what was
                answered until then is on record.
        """
        if len(texts) != len(org_ids):
            raise ValueError(
                f"org_ids: expected one for each of {len(texts)} texts, found {len(org_ids)}"
            )
        prints, asked = self._questions(texts, org_ids)
        known = stored.known_sentiments(
            self.connection,
            sorted(asked),
            prompt_version=PROMPT.version,
            model=self.way.model.name,
        )
        new = [text for fingerprint, text in asked.items() if fingerprint not in known]
        outcome: TextOutcome[float] = TextOutcome()
        if new:
            outcome = self.ask(new, PROMPT, texts_per_call=TEXTS_PER_CALL, what="texts")
        self._count(asked, known, new, outcome)
        sentiments = known | outcome.answers
        return [
            None if fingerprint is None else sentiments.get(fingerprint) for fingerprint in prints
        ]

    def _questions(
        self, texts: Sequence[str], org_ids: Sequence[str]
    ) -> tuple[list[str | None], dict[str, Text]]:
        """The fingerprint of each text that is worth asking about, and what is asked by it."""
        people = stored.people_of(self.connection, sorted(set(org_ids)))
        prints: dict[tuple[str, str], str | None] = {}
        asked: dict[str, Text] = {}
        # By organisation: a text of several is asked in the name of the first, always the same.
        for org_id, text in sorted(set(zip(org_ids, texts, strict=True))):
            if org_id in people:
                # One at a time: what is known of a large organisation is large.
                known = people.pop(org_id)
                redactor = Redactor(known.names, known.ids)
            redacted = redactor.redact(text)
            prints[org_id, text] = None
            if is_worth_asking(redacted):
                model = self.way.model
                fingerprint = text_fingerprint(
                    redacted, model=model.name, output_mode=model.output_mode
                )
                prints[org_id, text] = fingerprint
                asked.setdefault(fingerprint, Text(fingerprint, org_id, redacted))
        return [prints[pair] for pair in zip(org_ids, texts, strict=True)], asked

    def _count(
        self,
        asked: Mapping[str, Text],
        known: Mapping[str, float],
        new: Sequence[Text],
        outcome: TextOutcome[float],
    ) -> None:
        counts = self.counts
        settled = len(outcome.answers) + len(outcome.bad) + len(outcome.over_budget)
        counts.texts += len(asked)
        counts.known += len(known)
        counts.answered += len(outcome.answers)
        counts.bad += len(outcome.bad)
        counts.over_budget += len(outcome.over_budget)
        counts.failed += len(new) - settled
        counts.failed_orgs |= outcome.failed
        for org_id, reason in sorted(outcome.failed.items()):
            self.log.warning(f"{org_id}: VADER's sentiments stand alone: {reason}")
        if outcome.over_budget:
            self.log.warning(
                f"{len(outcome.over_budget)} texts were not asked about: max_cost_usd is spent"
            )
