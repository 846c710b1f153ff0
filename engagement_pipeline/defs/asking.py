"""Before a model's labels are given out: what it has to be asked, asked, and written down.

Which organisation is due, and its levels, are `defs.scoring`'s; everything about the API is in
`scoring.anthropic`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from dagster import DagsterLogManager

from engagement_pipeline.defs.guidance import Guides
from engagement_pipeline.defs.ledger import WarehouseLedger
from engagement_pipeline.defs.model import BATCH, spec_of, way_of
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.scoring.anthropic.asking import AskOutcome
from engagement_pipeline.scoring.anthropic.batch_results import Bad
from engagement_pipeline.scoring.anthropic.batch_run import hand_in, take_in
from engagement_pipeline.scoring.anthropic.batch_session import BatchError
from engagement_pipeline.scoring.anthropic.budget import refuse_if_over
from engagement_pipeline.scoring.anthropic.estimate import Estimate, estimate
from engagement_pipeline.scoring.anthropic.ledger import fingerprints_in
from engagement_pipeline.scoring.anthropic.sending import RunFacts
from engagement_pipeline.scoring.anthropic.session import Way, ask, mend
from engagement_pipeline.scoring.levels import InvalidThresholdsError, OrgContext
from engagement_pipeline.scoring.model_labels import ModelClassifier
from engagement_pipeline.scoring.prompt import PROMPT_VERSION
from engagement_pipeline.scoring.questions import OrgQuestions, questions_about
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import classifications as stored
from engagement_pipeline.warehouse import llm, predictions
from engagement_pipeline.warehouse.classifications import StoredOrg
from engagement_pipeline.warehouse.connection import Connection

_LOG = logging.getLogger(__name__)

MEMBERS_PER_BATCH = 100_000
"""Members whose signals and levels are held in memory, and written in one transaction."""


@dataclass(frozen=True)
class Open:
    """What is asked about one organisation, and what of it has no answer yet."""

    asked: OrgQuestions
    pending: OrgQuestions


@dataclass
class ModelLabels:
    """What is known once the model has been asked.

    Attributes:
        classifier: the one to give out labels with.
        run: the run's row of `scores.llm_runs`.
        costs: the same, with what its calls came to.
        failed: organisation -> why its labels cannot be given.
        waiting: organisations whose answers are still out.
        troubles: our name of a batch -> why it could not be seen to.
        short_of_budget: organisations of which the budget left profiles to the written rules.
    """

    classifier: ModelClassifier
    run: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    troubles: dict[str, str] = field(default_factory=dict)
    short_of_budget: set[str] = field(default_factory=set)

    def answers_for(
        self, connection: Connection, settings: Settings, org_ids: Sequence[str], as_of: datetime
    ) -> ModelClassifier:
        """The classifier with the answers on record for these organisations."""
        return self.classifier.with_answers(
            llm.known_answers(
                connection, org_ids, as_of=as_of, max_age_days=settings.label_max_age_days
            )
        )


def open_questions(
    connection: Connection,
    settings: Settings,
    orgs: Sequence[StoredOrg],
    guides: Guides,
    classifier: ModelClassifier,
    *,
    as_of: datetime,
) -> list[Open]:
    """What is to be asked about each organisation; one with unusable settings is left out."""
    found = []
    for group in stored.batches(orgs, members=MEMBERS_PER_BATCH):
        org_ids = [org.org_id for org in group]
        signals = stored.signals_of(connection, org_ids)
        known = llm.known_answers(
            connection, org_ids, as_of=as_of, max_age_days=settings.label_max_age_days
        )
        answered = set(known["fingerprint"])
        for org_id, own in _contexts(group, guides).items():
            try:
                asked = questions_about(
                    own,
                    signals[org_id],
                    classifier.fingerprint,
                    members_per_profile=classifier.members_per_profile,
                )
            except Exception as error:
                # It fails by name when its levels are computed, from the same signals.
                _LOG.debug("no questions about %s: %s", org_id, error)
                continue
            found.append(Open(asked, asked.without(answered)))
    return found


def profiles_out(connection: Connection) -> dict[str, str]:
    """Profiles that are out in a batch: fingerprint -> our name of the batch."""
    return {
        fingerprint: batch_key
        for batch_key, text in llm.asked_in_batches(connection)
        for fingerprint in fingerprints_in(text)
    }


def estimate_open(
    connection: Connection, settings: Settings, pending: Sequence[OrgQuestions], guides: Guides
) -> Estimate:
    """What asking them would take, by what earlier answers took; sends nothing, needs no key."""
    model = spec_of(settings)
    return estimate(
        pending,
        model,
        profiles_per_call=settings.profiles_per_call,
        is_batch=settings.chosen_classifier == BATCH,
        output_a_profile=llm.output_tokens_a_profile(
            connection, model=model.name, prompt_version=PROMPT_VERSION
        ),
        corrections=guides.ratios,
    )


@dataclass(frozen=True)
class Asking:
    """One run's questions to the model, before any label is given out."""

    log: DagsterLogManager
    connection: Connection
    settings: Settings
    classifier: ModelClassifier
    run_id: str
    as_of: datetime
    computed_at: datetime

    def prepare(self, due: Sequence[StoredOrg], guides: Guides) -> ModelLabels:
        """Ask whatever has no answer yet about the organisations that are due.

        Raises:
            MissingKeyError: there is no key to ask with.
            CostRefusedError: asking would cost more than it may.
            StopRunError: the key, a permission or the account's limit forbids any call.
        """
        way = way_of(self.settings)
        if abandoned := llm.settle_abandoned(self.connection, now=_now()):
            self.log.warning(f"{abandoned} calls of an earlier run were cut off; they may be paid")
        labels = ModelLabels(self.classifier)
        if llm.open_batches(self.connection):
            # Of all organisations: what is out may be about others than are due now.
            contexts = _contexts(stored.stored_orgs(self.connection), guides)
            if bad := self._take_in(way, contexts, labels):
                self._mend(way, bad, self._open(due, guides), contexts, labels)
        questions = self._open(due, guides)
        left_over = labels.classifier.unanswered
        pending = [
            one.pending.without(left_over)
            for one in questions
            if one.pending.org.org_id not in labels.failed
        ]
        new, out = self._apart_from_what_is_out(pending, labels)
        foreseen = estimate_open(self.connection, self.settings, new, guides)
        _refuse_if_over(foreseen, self.settings)
        # Beforehand as well, so that also what a run spends that never ends is some run's.
        llm.record_run(self.connection, self._run_row(questions, foreseen, labels, out, guides))
        if self.classifier.name == BATCH:
            out += self._hand_in(way, new, labels)
        else:
            self._ask(way, new, foreseen, labels)
        self._keep_forecast(foreseen, labels)
        labels.run = self._run_row(questions, foreseen, labels, out, guides)
        llm.record_run(self.connection, labels.run)
        labels.costs = self._costs(labels.run)
        return labels

    def _costs(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """The run's row with what its calls came to."""
        spent = llm.spent_by_org(self.connection, self.run_id).values()
        usd = sum(one.spent_usd for one in spent)
        return {
            **run,
            "calls": sum(one.calls for one in spent),
            "spent_usd": usd,
            "saved_usd": run["one_call_a_member_usd"] - usd,
        }

    @property
    def _facts(self) -> RunFacts:
        return RunFacts(
            self.run_id,
            self.as_of,
            self.classifier.name,
            self.settings.seed,
            self.settings.max_attempts,
            _now,
        )

    @property
    def _ledger(self) -> WarehouseLedger:
        return WarehouseLedger(self.connection)

    def _open(self, due: Sequence[StoredOrg], guides: Guides) -> list[Open]:
        return open_questions(
            self.connection, self.settings, due, guides, self.classifier, as_of=self.as_of
        )

    def _keep_forecast(self, foreseen: Estimate, labels: ModelLabels) -> None:
        """Put on record what the run was expected to take, to be held against its bill.

        Not of organisations that were not asked to the end: their bill tells nothing.
        """
        # It takes a second to import, and whoever asks no model should not wait for it.
        from engagement_pipeline.loops.cost_forecast import forecast_rows

        cut_short = labels.failed.keys() | labels.short_of_budget
        expected = {o: t for o, t in foreseen.uncorrected_tokens.items() if o not in cut_short}
        if self.settings.loops_enabled and expected:
            model = self.classifier.model_version
            rows = forecast_rows(self.run_id, self.as_of, model, expected)
            predictions.add_predictions(self.connection, rows)

    def _ask(
        self, way: Way, pending: Sequence[OrgQuestions], foreseen: Estimate, labels: ModelLabels
    ) -> None:
        progress = Progress(self.log, "Asking the model", foreseen.profiles, "profiles")
        outcome = ask(
            pending,
            self._affordable(way),
            self._facts,
            self._ledger.write,
            on_progress=progress.advance,
        )
        _take_outcome(labels, pending, outcome)

    def _take_in(
        self, way: Way, contexts: Mapping[str, OrgContext], labels: ModelLabels
    ) -> list[Bad]:
        """What of earlier batches has come back badly; what came back well is on record."""
        collected = take_in(way, self._facts, self._ledger, contexts, log=self.log.info)
        labels.troubles = collected.troubles
        labels.failed |= {
            org_id: reason for org_id, reason in collected.refused.items() if org_id in contexts
        }
        return collected.bad

    def _mend(
        self,
        way: Way,
        bad: Sequence[Bad],
        questions: Sequence[Open],
        contexts: Mapping[str, OrgContext],
        labels: ModelLabels,
    ) -> None:
        """Ask again at once what a batch answered badly, as far as it is still a question."""
        open_now = {question.fingerprint for one in questions for question in one.pending.questions}
        asked = [
            (contexts[org_id], batch_questions, checked)
            for org_id, batch_questions, checked in bad
            if any(question.fingerprint in open_now for question in batch_questions)
        ]
        mending = replace(self._facts, phase="mend")
        outcome = mend(asked, self._affordable(way), mending, self._ledger.write)
        _take_outcome(labels, [one.pending for one in questions], outcome)

    def _affordable(self, way: Way) -> Way:
        """The way with what the run may still spend."""
        spent = sum(
            one.spent_usd for one in llm.spent_by_org(self.connection, self.run_id).values()
        )
        return replace(way, max_cost_usd=max(0.0, way.max_cost_usd - spent))

    def _apart_from_what_is_out(
        self, pending: Sequence[OrgQuestions], labels: ModelLabels
    ) -> tuple[list[OrgQuestions], int]:
        """What is in no batch yet, and how many profiles are: their organisations wait.

        What is in a batch is paid for, so nobody asks it again meanwhile, however it was sent.
        """
        out = profiles_out(self.connection)
        waiting = 0
        for asked in pending:
            batches = {out[q.fingerprint] for q in asked.questions if q.fingerprint in out}
            if troubles := [labels.troubles[key] for key in batches if key in labels.troubles]:
                labels.failed[asked.org.org_id] = troubles[0]
            elif batches:
                labels.waiting.add(asked.org.org_id)
                waiting += sum(q.fingerprint in out for q in asked.questions)
        if waiting:
            self.log.info(f"{waiting} profiles are out in a batch; their organisations wait for it")
        return [asked.without(out) for asked in pending], waiting

    def _hand_in(self, way: Way, new: Sequence[OrgQuestions], labels: ModelLabels) -> int:
        """Put the questions in a batch; gives how many profiles went out."""
        tried = llm.batches_in_vain(self.connection, as_of=self.as_of)
        for asked in new:
            made = tried.get(asked.org.org_id, 0)
            if asked.questions and made >= self.settings.max_attempts:
                labels.failed[asked.org.org_id] = f"{made} batches brought no answer"
        sent = [a for a in new if a.questions and a.org.org_id not in labels.failed]
        try:
            hand_in(sent, way, self._facts, self._ledger, log=self.log.info)
        except BatchError as error:
            labels.failed |= {asked.org.org_id: str(error) for asked in sent}
            return 0
        labels.waiting |= {asked.org.org_id for asked in sent}
        return sum(len(asked.questions) for asked in sent)

    def _run_row(
        self,
        questions: Sequence[Open],
        foreseen: Estimate,
        labels: ModelLabels,
        out: int,
        guides: Guides,
    ) -> dict[str, Any]:
        profiles = sum(len(one.asked.questions) for one in questions)
        left = list(labels.classifier.unanswered.values())
        # What is still out, or failed, has saved nobody anything yet.
        labelled = [
            one.asked
            for one in questions
            if one.asked.org.org_id not in (labels.waiting | labels.failed.keys())
        ]
        spared = estimate_open(
            self.connection, self.settings, [a.without_all() for a in labelled], guides
        )
        return {
            "run_id": self.run_id,
            "as_of": self.as_of,
            "classifier": self.classifier.name,
            "model": self.classifier.model_version,
            "members": sum(asked.members for asked in labelled),
            "profiles": profiles,
            "profiles_cached": profiles - sum(len(one.pending.questions) for one in questions),
            "profiles_waiting": out,
            "profiles_fallen_back": left.count("fallback"),
            "profiles_over_budget": left.count("budget"),
            "estimated_usd": foreseen.cost_usd,
            "one_call_a_member_usd": spared.one_call_a_member_usd,
            "computed_at": self.computed_at,
        }


def _contexts(due: Sequence[StoredOrg], guides: Guides) -> dict[str, OrgContext]:
    found = {}
    for org in due:
        try:
            found[org.org_id] = guides.context_of(org)
        except InvalidThresholdsError:
            continue  # it fails by name when its levels are computed
    return found


def _refuse_if_over(foreseen: Estimate, settings: Settings) -> None:
    refuse_if_over(
        foreseen.cost_usd, settings.max_cost_usd, profiles=foreseen.profiles, calls=foreseen.calls
    )


def _take_outcome(
    labels: ModelLabels, pending: Sequence[OrgQuestions], outcome: AskOutcome
) -> None:
    left = {fingerprint: why.source for fingerprint, why in outcome.unanswered.items()}
    over_budget = {fingerprint for fingerprint, source in left.items() if source == "budget"}
    labels.failed |= outcome.failed
    labels.short_of_budget |= {
        asked.org.org_id
        for asked in pending
        if any(question.fingerprint in over_budget for question in asked.questions)
    }
    labels.classifier = replace(
        labels.classifier, unanswered={**labels.classifier.unanswered, **left}
    )


def _now() -> datetime:
    return datetime.now(UTC)
