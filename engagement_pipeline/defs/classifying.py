"""Classifying the organisations that are due: asked, labelled, written and recorded one by one.

The assets are in `defs.scoring`, the model's part in `defs.asking`. Whatever goes wrong with one
organisation stays with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.asking import MEMBERS_PER_BATCH, Asking, ModelLabels
from engagement_pipeline.defs.guidance import Guides, record_use
from engagement_pipeline.defs.metadata import asset_key, counts_table
from engagement_pipeline.defs.partitions import partition_key
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.scoring import due
from engagement_pipeline.scoring.classifier import Classifier
from engagement_pipeline.scoring.model_labels import ModelClassifier
from engagement_pipeline.scoring.org_scoring import score_org
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import classifications as stored
from engagement_pipeline.warehouse import llm
from engagement_pipeline.warehouse.classifications import OrgRun, StoredOrg
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.signals import SnapshotState

CLASSIFICATIONS = asset_key(contract("scores.classifications"))

_OVER_BUDGET = "over budget"
"""In place of the digest of an organisation that the budget cut short, so that it stays due."""


@dataclass
class Outcome:
    """What became of the organisations of one run.

    Attributes:
        due: all that had to be classified.
        runs: how each of them ended; one that still waits for the model has not ended.
        asked: what the model was asked, where there is one.
    """

    due: list[str]
    runs: list[OrgRun] = field(default_factory=list)
    asked: ModelLabels | None = None

    @property
    def failed(self) -> list[OrgRun]:
        return [run for run in self.runs if run.outcome == "failed"]

    @property
    def waiting(self) -> list[str]:
        return sorted(self.asked.waiting) if self.asked else []

    @property
    def members(self) -> int:
        return sum(run.members for run in self.runs if run.outcome == "classified")


@dataclass(frozen=True)
class Classifying:
    """One run's work on its organisations."""

    context: dg.AssetExecutionContext
    connection: Connection
    settings: Settings
    classifier: Classifier
    snapshot: SnapshotState
    computed_at: datetime
    guides: Guides

    def classify(self, asked: Sequence[StoredOrg]) -> Outcome:
        """Classify those of the organisations that are due."""
        digests = {
            org.org_id: self.guides.digest_of(
                org, signals_digest=self.snapshot.inputs_digest, classifier=self.classifier
            )
            for org in asked
        }
        known = stored.org_runs(self.connection, as_of=self.snapshot.as_of)
        todo = due.due_orgs(asked, digests, known)
        is_due = {org.org_id for org in todo}
        for org in asked:
            if org.org_id not in is_due:
                record_org(self.context, org.org_id, members=org.members, is_unchanged=True)
        outcome = Outcome([org.org_id for org in todo])
        if isinstance(self.classifier, ModelClassifier) and todo:
            outcome.asked = self._ask(self.classifier, todo)
        self._label(todo, digests, outcome)
        done = {run.org_id for run in outcome.runs if run.outcome == "classified"}
        record_use(
            self.connection,
            self.guides,
            [org for org in todo if org.org_id in done],
            asks_a_model=outcome.asked is not None,
            as_of=self.snapshot.as_of,
        )
        return outcome

    def _ask(self, classifier: ModelClassifier, todo: Sequence[StoredOrg]) -> ModelLabels:
        return Asking(
            self.context.log,
            self.connection,
            self.settings,
            classifier,
            self.context.run.run_id,
            self.snapshot.as_of,
            self.computed_at,
        ).prepare(todo, self.guides)

    def _label(
        self, todo: Sequence[StoredOrg], digests: Mapping[str, str], outcome: Outcome
    ) -> None:
        progress = Progress(self.context.log, "Classifying", len(todo), "organisations")
        waiting = set(outcome.waiting)
        spent = llm.spent_by_org(self.connection, self.context.run.run_id) if outcome.asked else {}
        for group in stored.batches(todo, members=MEMBERS_PER_BATCH):
            ready = [org for org in group if org.org_id not in waiting]
            org_ids = [org.org_id for org in ready]
            signals = stored.signals_of(self.connection, org_ids)
            classifier = self._classifier_for(org_ids, outcome.asked)
            frames, runs = [], []
            for org in ready:
                frame, run = self._score(org, signals[org.org_id], classifier, digests, outcome)
                frames.append(frame)
                runs.append(run)
            stored.write_levels(
                self.connection,
                frames,
                runs,
                as_of=self.snapshot.as_of,
                computed_at=self.computed_at,
            )
            outcome.runs += runs
            self._record(runs, frames, spent)
            progress.advance(len(group))

    def _classifier_for(self, org_ids: Sequence[str], asked: ModelLabels | None) -> Classifier:
        if asked is None:
            return self.classifier
        return asked.answers_for(self.connection, self.settings, org_ids, self.snapshot.as_of)

    def _score(
        self,
        org: StoredOrg,
        signals: pl.DataFrame,
        classifier: Classifier,
        digests: Mapping[str, str],
        outcome: Outcome,
    ) -> tuple[pl.DataFrame, OrgRun]:
        """The organisation's levels; or none, and why."""
        digest = digests[org.org_id]
        if outcome.asked and (reason := outcome.asked.failed.get(org.org_id)):
            return _failed(org, digest, reason)
        try:
            frame = score_org(
                self.guides.context_of(org),
                signals,
                classifier,
                as_of=self.snapshot.as_of,
                computed_at=self.computed_at,
                tuned_inactive_days=self.guides.inactive_days_of(org.org_id),
            )
        except Exception as error:
            return _failed(org, digest, f"{type(error).__name__}: {error}")
        if outcome.asked and org.org_id in outcome.asked.short_of_budget:
            digest = _OVER_BUDGET
        return frame, OrgRun(org.org_id, "classified", frame.height, digest)

    def _record(
        self, runs: Sequence[OrgRun], frames: Sequence[pl.DataFrame], spent: Mapping[str, llm.Spent]
    ) -> None:
        for run, frame in zip(runs, frames, strict=True):
            if run.outcome == "failed":
                self.context.log.error(f"organisation {run.org_id}: {run.error}")
                continue
            levels = frame["level"].value_counts(sort=True).rows()
            record_org(
                self.context,
                run.org_id,
                members=run.members,
                is_unchanged=False,
                levels=dg.MetadataValue.md(counts_table(levels, title="level", unit="members")),
                **_model_facts(frame, spent.get(run.org_id)),
            )


def _failed(org: StoredOrg, digest: str, reason: str) -> tuple[pl.DataFrame, OrgRun]:
    nothing = contract("scores.classifications").empty()
    return nothing, OrgRun(org.org_id, "failed", 0, digest, reason)


def _model_facts(frame: pl.DataFrame, spent: llm.Spent | None) -> dict[str, Any]:
    """Of an organisation's labels: how many profiles they share, and what asking took."""
    if frame.is_empty() or frame["source"].eq("rules").all():
        return {}
    cached = frame["source"].eq("llm_cached").sum()
    return {
        "profiles": frame["fingerprint"].n_unique(),
        "cache_share": cached / frame.height,
        "calls": spent.calls if spent else 0,
        "input_tokens": spent.input_tokens if spent else 0,
        "output_tokens": spent.output_tokens if spent else 0,
        "spent_usd": spent.spent_usd if spent else 0.0,
    }


def record_org(
    context: dg.AssetExecutionContext, org_id: str, *, members: int, **metadata: Any
) -> None:
    """Record an organisation's partition as done."""
    if CLASSIFICATIONS not in context.selected_asset_keys:
        return
    if metadata.get("is_unchanged") and not context.has_partition_key_range:
        # Nobody planned it, so nobody would take it for failed; each record takes 20 ms.
        return
    context.log_event(
        dg.AssetMaterialization(
            CLASSIFICATIONS,
            partition=partition_key(org_id),
            metadata={"dagster/partition_row_count": members, "members": members, **metadata},
        )
    )
