"""The assets of scoring: levels by organisation, the run's summary, overrides, and the gate.

Every organisation that succeeds is recorded as its partition at once. One that fails stops
nothing: the day is published without it, and the gate at the end fails the run and names it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.ingest import RAW_KEYS
from engagement_pipeline.defs.metadata import (
    DAILY,
    OWNERS,
    WAREHOUSE_POOL,
    asset_key,
    column_schema,
    contract_check,
    contract_check_spec,
    counts_table,
    table_spec,
)
from engagement_pipeline.defs.partitions import ORGS, org_id_of, partition_key, sync_partitions
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.scoring import due
from engagement_pipeline.scoring.classifier import Classifier
from engagement_pipeline.scoring.levels import OrgContext, Thresholds
from engagement_pipeline.scoring.org_scoring import score_org
from engagement_pipeline.scoring.overrides import apply_requests
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import classifications as stored
from engagement_pipeline.warehouse import overrides as stored_overrides
from engagement_pipeline.warehouse import signals as stored_signals
from engagement_pipeline.warehouse.classifications import OrgRun, StoredOrg
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.quality import row_count, violations

CLASSIFICATIONS = asset_key(contract("scores.classifications"))
SCORING_RUNS = asset_key(contract("scores.scoring_runs"))
HISTORY = contract("scores.override_history")
OVERRIDE_HISTORY = asset_key(HISTORY)
GATE = dg.AssetKey(["scores", "gate"])

MEMBERS_PER_BATCH = 100_000
"""Members whose signals and levels are held in memory, and written in one transaction."""

ORG_RUNS = table_spec(contract("scores.org_runs"), group="scoring", deps=[SCORING_RUNS])
"""Written along with the levels, and by nothing else."""


class NoSignalsError(RuntimeError):
    """There is nothing to classify, because the signals have never been computed."""


class OtherMomentError(RuntimeError):
    """The run was asked for a moment that the signals do not describe; the text names both."""


@dataclass
class Outcome:
    """What became of the organisations of one run."""

    due: list[str]
    runs: list[OrgRun] = field(default_factory=list)

    @property
    def failed(self) -> list[OrgRun]:
        return [run for run in self.runs if run.outcome == "failed"]

    @property
    def members(self) -> int:
        return sum(run.members for run in self.runs if run.outcome == "classified")


@dg.multi_asset(
    name="classify_orgs",
    can_subset=True,
    specs=[
        table_spec(
            contract("scores.classifications"),
            group="scoring",
            deps=[asset_key(contract("signals.snapshot")), RAW_KEYS["org_settings"]],
            kinds=("polars", "duckdb"),
            partitions_def=ORGS,
            skippable=True,
        ),
        table_spec(
            contract("scores.scoring_runs"),
            group="scoring",
            deps=[asset_key(contract("signals.snapshot")), RAW_KEYS["org_settings"]],
            skippable=True,
            freshness_policy=DAILY,
        ),
    ],
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=WAREHOUSE_POOL,
)
def classify_orgs(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None]]:
    """Give every member of the due organisations a level, one organisation at a time."""
    settings = pipeline.settings()
    computed_at = run_start(context)
    with pipeline.warehouse().open() as connection:
        snapshot = stored_signals.snapshot(connection)
        if snapshot is None:
            raise NoSignalsError(
                f"{settings.warehouse_path}: signals.snapshot: expected one row, found none. "
                "Run the job `refresh` first."
            )
        if pipeline.as_of and pipeline.moment(computed_at) != snapshot.as_of:
            raise OtherMomentError(
                f"as_of: expected {snapshot.as_of.isoformat()}, which is what the signals now "
                f"describe, found {pipeline.as_of}. Run the job `refresh` for that moment first."
            )
        orgs = stored.stored_orgs(connection)
        sync_partitions(context.instance, [org.org_id for org in orgs])
        asked = _asked_orgs(context, pipeline, orgs)
        outcome = _classify(
            context, connection, asked, settings, pipeline.levels_from(), snapshot, computed_at
        )
        if SCORING_RUNS in context.selected_asset_keys:
            stored.record_scoring_run(
                connection,
                run_id=context.run.run_id,
                as_of=snapshot.as_of,
                due=len(outcome.due),
                runs=outcome.runs,
                computed_at=computed_at,
            )
        run_count = row_count(connection, contract("scores.scoring_runs"))
    if SCORING_RUNS not in context.selected_asset_keys:
        # A retry of failed organisations alone runs without the gate.
        fail_if_any(outcome.failed)
    else:
        yield dg.MaterializeResult(
            asset_key=SCORING_RUNS,
            metadata={
                "as_of": snapshot.as_of.isoformat(),
                "dagster/row_count": run_count,
                "orgs_due": len(outcome.due),
                "orgs_failed": len(outcome.failed),
                "members": outcome.members,
                "failed": dg.MetadataValue.md(_failures(outcome.failed)),
            },
        )


def _asked_orgs(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, orgs: list[StoredOrg]
) -> list[StoredOrg]:
    """The organisations that the run's partitions and options name; all where they name none."""
    wanted = {org.org_id for org in orgs}
    if context.has_partition_key or context.has_partition_key_range:
        wanted &= {org_id_of(key) for key in context.partition_keys}
    if pipeline.orgs:
        unknown = sorted(set(pipeline.orgs) - {org.org_id for org in orgs})
        if unknown:
            raise due.UnknownOrgError(unknown, [org.org_id for org in orgs])
        wanted &= set(pipeline.orgs)
    return [org for org in orgs if org.org_id in wanted]


def _classify(
    context: dg.AssetExecutionContext,
    connection: Connection,
    asked: list[StoredOrg],
    settings: Settings,
    classifier: Classifier,
    snapshot: stored_signals.SnapshotState,
    computed_at: datetime,
) -> Outcome:
    defaults = thresholds_of(settings)
    digests = {
        org.org_id: due.org_digest(
            org, signals_digest=snapshot.inputs_digest, defaults=defaults, classifier=classifier
        )
        for org in asked
    }
    known = stored.org_runs(connection, as_of=snapshot.as_of)
    todo = due.due_orgs(asked, digests, known)
    is_due = {org.org_id for org in todo}
    for org in asked:
        if org.org_id not in is_due and due.is_done(known.get(org.org_id), digests[org.org_id]):
            _record_org(context, org.org_id, members=org.members, is_unchanged=True)
    outcome = Outcome([org.org_id for org in todo])
    progress = Progress(context.log, "Classifying", len(todo), "organisations")
    for group in stored.batches(todo, members=MEMBERS_PER_BATCH):
        frames, runs = [], []
        signals = stored.signals_of(connection, [org.org_id for org in group])
        for org in group:
            frame, run = _score(
                org,
                signals[org.org_id],
                defaults,
                classifier,
                snapshot.as_of,
                computed_at,
                digests[org.org_id],
            )
            frames.append(frame)
            runs.append(run)
        stored.write_levels(connection, frames, runs, as_of=snapshot.as_of, computed_at=computed_at)
        outcome.runs += runs
        _record_batch(context, runs, frames)
        progress.advance(len(group))
    return outcome


def _score(
    org: StoredOrg,
    signals: pl.DataFrame,
    defaults: Thresholds,
    classifier: Classifier,
    as_of: datetime,
    computed_at: datetime,
    digest: str,
) -> tuple[pl.DataFrame, OrgRun]:
    """The organisation's levels; or none, and why. Whatever goes wrong stays with this one."""
    try:
        own = OrgContext(
            org.org_id, org.name, org.description, defaults.with_org_settings(org.settings)
        )
        frame = score_org(own, signals, classifier, as_of=as_of, computed_at=computed_at)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        nothing = contract("scores.classifications").empty()
        return nothing, OrgRun(org.org_id, "failed", 0, digest, reason)
    return frame, OrgRun(org.org_id, "classified", frame.height, digest)


def thresholds_of(settings: Settings) -> Thresholds:
    """The thresholds of an organisation that sets none itself."""
    return Thresholds(
        settings.highly_engaged_min,
        settings.moderate_min,
        settings.new_member_days,
        settings.inactive_days,
    )


def _record_batch(
    context: dg.AssetExecutionContext, runs: list[OrgRun], frames: list[pl.DataFrame]
) -> None:
    for run, frame in zip(runs, frames, strict=True):
        if run.outcome == "failed":
            context.log.error(f"organisation {run.org_id}: {run.error}")
            continue
        levels = frame["level"].value_counts(sort=True).rows()
        _record_org(
            context,
            run.org_id,
            members=run.members,
            is_unchanged=False,
            levels=dg.MetadataValue.md(counts_table(levels, title="level", unit="members")),
        )


def _record_org(
    context: dg.AssetExecutionContext, org_id: str, *, members: int, **metadata: Any
) -> None:
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


@dg.asset(
    key=OVERRIDE_HISTORY,
    deps=[SCORING_RUNS, RAW_KEYS["override_requests"], RAW_KEYS["memberships"]],
    description=HISTORY.description,
    metadata={"dagster/column_schema": column_schema(HISTORY)},
    group_name="scoring",
    owners=OWNERS,
    kinds={"duckdb"},
    code_version="1",
    freshness_policy=DAILY,
    check_specs=[contract_check_spec(HISTORY)],
    pool=WAREHOUSE_POOL,
)
def override_history(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Judge new override requests, and let overrides expire whose time has come."""
    with pipeline.warehouse().open() as connection:
        as_of = stored.shown_as_of(connection)
        assert as_of is not None, "the scoring run is recorded before overrides are applied"
        applied, rejected = apply_overrides(connection, as_of=as_of, now=run_start(context))
        rows = row_count(connection, HISTORY)
        broken = violations(connection, HISTORY)
    yield dg.MaterializeResult(
        metadata={
            "dagster/row_count": rows,
            "as_of": as_of.isoformat(),
            "rows_added": applied.height,
            "requests_rejected": rejected.height,
            "reasons": dg.MetadataValue.md(
                counts_table(
                    rejected["reason"].value_counts(sort=True).rows(),
                    title="reason",
                    unit="requests",
                )
            ),
        },
    )
    yield contract_check(HISTORY, broken)


def apply_overrides(
    connection: Connection, *, as_of: datetime, now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Take all requests up to `as_of` into the history; gives the rows added and the rejects.

    Of a moment to come only what has happened `now` counts: the history is never taken back.
    """
    inputs = stored_overrides.read_inputs(connection)
    outcome = apply_requests(
        inputs.requests,
        inputs.memberships,
        inputs.history,
        inputs.levels,
        as_of=min(as_of, now),
        recorded_at=now,
    )
    stored_overrides.record(
        connection, new_history=outcome.new_history, rejected=outcome.rejected, now=now
    )
    return outcome.new_history, outcome.rejected


def fail_if_any(failed: list[OrgRun]) -> None:
    """Fail the run where an organisation failed, naming each and why."""
    if not failed:
        return
    listed = "; ".join(f"{run.org_id}: {run.error}" for run in failed)
    raise dg.Failure(
        f"{len(failed)} of the organisations could not be classified, and keep their last good "
        f"levels; all others are done. {listed}",
        metadata={"failed": [run.org_id for run in failed]},
        allow_retries=False,
    )


def _failures(failed: list[OrgRun]) -> str:
    if not failed:
        return "none"
    return "\n".join(
        ["| organisation | why |", "| --- | --- |"]
        + [f"| {run.org_id} | {run.error} |" for run in failed]
    )
