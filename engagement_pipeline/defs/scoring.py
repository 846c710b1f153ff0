"""The assets of scoring: levels by organisation, the run's summary, overrides, and the gate.

Every organisation that succeeds is recorded as its partition at once. One that fails stops
nothing: the day is published without it, and the gate at the end fails the run and names it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.classifying import Classifying
from engagement_pipeline.defs.guidance import guides_at
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
from engagement_pipeline.defs.partitions import ORGS, org_id_of, sync_partitions
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.scoring import due
from engagement_pipeline.scoring.drift import level_drift
from engagement_pipeline.scoring.overrides import apply_requests
from engagement_pipeline.warehouse import classifications as stored
from engagement_pipeline.warehouse import overrides as stored_overrides
from engagement_pipeline.warehouse import signals as stored_signals
from engagement_pipeline.warehouse.classifications import OrgRun, StoredOrg
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.quality import row_count, violations
from engagement_pipeline.warehouse.schema import upgrade

SCORING_RUNS = asset_key(contract("scores.scoring_runs"))
HISTORY = contract("scores.override_history")
OVERRIDE_HISTORY = asset_key(HISTORY)
GATE = dg.AssetKey(["scores", "gate"])

WRITTEN_ALONG = [
    table_spec(contract(f"scores.{name}"), group="scoring", deps=[SCORING_RUNS])
    for name in ("org_runs", "llm_calls", "llm_answers", "llm_batches", "llm_runs")
]
"""Written along with the levels, and by nothing else."""


DRIFT_DAYS = 28
LEVEL_DRIFT = dg.AssetCheckSpec(
    "level_drift",
    asset=SCORING_RUNS,
    description="No organisation's levels have shifted, against the average of its last 28 days, "
    "further than chance and custom allow (population stability index). A warning.",
)


class NoSignalsError(RuntimeError):
    """There is nothing to classify, because the signals have never been computed."""


class OtherMomentError(RuntimeError):
    """The run was asked for a moment that the signals do not describe; the text names both."""


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
    check_specs=[LEVEL_DRIFT],
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=WAREHOUSE_POOL,
)
def classify_orgs(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Give every member of the due organisations a level, one organisation at a time."""
    settings = pipeline.settings()
    computed_at = run_start(context)
    with pipeline.warehouse().open() as connection:
        # A batch may be collected, or an organisation retried, before any refresh has upgraded.
        upgrade(connection, now=computed_at)
        snapshot = _snapshot(connection, pipeline, computed_at)
        orgs = stored.stored_orgs(connection)
        sync_partitions(context.instance, [org.org_id for org in orgs])
        asked = _asked_orgs(context, pipeline, orgs)
        outcome = Classifying(
            context,
            connection,
            settings,
            pipeline.levels_from(),
            snapshot,
            computed_at,
            guides_at(connection, settings, as_of=snapshot.as_of),
        ).classify(asked)
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
        drift = level_drift(
            *stored.level_counts(connection, as_of=snapshot.as_of, reference_days=DRIFT_DAYS)
        )
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
                "orgs_waiting": len(outcome.waiting),
                "loops_enabled": settings.loops_enabled,
                "members": outcome.members,
                "failed": dg.MetadataValue.md(_failures(outcome.failed)),
                **(asked_metadata(outcome.asked.costs) if outcome.asked else {}),
            },
        )
        yield drift_check(drift)


def _snapshot(
    connection: Connection, pipeline: PipelineResource, computed_at: datetime
) -> stored_signals.SnapshotState:
    """What the signals describe, if they are there and describe the moment asked for."""
    snapshot = stored_signals.snapshot(connection)
    if snapshot is None:
        raise NoSignalsError(
            f"{pipeline.settings().warehouse_path}: signals.snapshot: expected one row, found "
            "none. Run the job `refresh` first."
        )
    if pipeline.as_of and pipeline.moment(computed_at) != snapshot.as_of:
        raise OtherMomentError(
            f"as_of: expected {snapshot.as_of.isoformat()}, which is what the signals now "
            f"describe, found {pipeline.as_of}. Run the job `refresh` for that moment first."
        )
    return snapshot


def drift_check(drift: pl.DataFrame) -> dg.AssetCheckResult:
    """Whether levels have shifted, from `scoring.drift.level_drift`'s frame."""
    shifted = drift.filter("has_drifted").sort("psi", descending=True)
    listed = [
        f"| {row['org_id']} | {row['psi']:.3f} | {row['chance_limit']:.3f} | {row['n_now']:,} | "
        f"{row['n_before']:,.0f} |"
        for row in shifted.head(50).iter_rows(named=True)
    ]
    head = ["| organisation | PSI | chance limit | n now | n before |", "| --- " * 5 + "|"]
    return dg.AssetCheckResult(
        asset_key=SCORING_RUNS,
        check_name=LEVEL_DRIFT.name,
        passed=shifted.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "orgs_compared": drift["psi"].count(),
            "orgs_shifted": shifted.height,
            "shifted": dg.MetadataValue.md("\n".join([*head, *listed]) if listed else "none"),
        },
    )


def asked_metadata(run: Mapping[str, Any]) -> dict[str, Any]:
    """What asking the model took, for the run's summary."""
    names = (
        "profiles",
        "profiles_cached",
        "profiles_waiting",
        "profiles_fallen_back",
        "profiles_over_budget",
        "calls",
        "estimated_usd",
        "spent_usd",
        "saved_usd",
    )
    return {"model": run["model"], **{name: run[name] for name in names}}


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
    by_cause: dict[str | None, list[str]] = {}
    for run in failed:
        by_cause.setdefault(run.error, []).append(run.org_id)
    listed = "; ".join(f"{', '.join(orgs)}: {cause}" for cause, orgs in by_cause.items())
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
