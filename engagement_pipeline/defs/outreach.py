"""The assets of outreach's planning: decisions, their counts, messages, and what is withheld.

How a cycle is done is in `outreach_cycle`, messages outside it in `outreach_occasional`; sending is
`delivery`'s.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum

import dagster as dg
from pydantic import Field

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.defs.ingest import RAW_KEYS
from engagement_pipeline.defs.metadata import (
    WAREHOUSE_POOL,
    Metadata,
    asset_key,
    contract_check,
    contract_check_spec,
    counts_table,
    table_spec,
)
from engagement_pipeline.defs.outreach_cycle import CycleOutcome, run_cycle
from engagement_pipeline.defs.outreach_occasional import (
    REFUSALS,
    OccasionalOutcome,
    UnknownMemberError,
    plan_celebrations,
    plan_manual,
)
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.outreach.planning import StaleSignalsError
from engagement_pipeline.outreach.templates import Templates, catalogue
from engagement_pipeline.scoring.due import UnknownOrgError
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.outreach_plans import (
    CYCLES,
    DECISIONS,
    MESSAGES,
    WITHHELD,
    violations,
)
from engagement_pipeline.warehouse.quality import row_count
from engagement_pipeline.warehouse.schema import upgrade

__all__ = ["plan_celebrations", "plan_manual", "run_cycle"]

TABLES = (DECISIONS, CYCLES, MESSAGES, WITHHELD)
OutreachType = Enum(  # type: ignore[misc]
    "OutreachType", {name: name for name in vocabulary.OUTREACH_TYPES}
)

CYCLE_SUCCEEDED = dg.AssetCheckSpec(
    "cycle_succeeded",
    asset=asset_key(DECISIONS),
    description="Every organisation could be decided on. Of one that could not, nothing was "
    "planned; the next cycle tries it again.",
)
_INPUTS = (
    *(
        RAW_KEYS[name]
        for name in (
            "organizations",
            "memberships",
            "profiles",
            "events",
            "attendance",
            "preferences",
            "erasure_requests",
            "org_settings",
        )
    ),
    *(
        asset_key(contract(name))
        for name in (
            "signals.member_90d",
            "behavior.patterns",
            "behavior.predictions",
            "milestones.daily",
            "milestones.progress",
            "loops.arm_posteriors",
        )
    ),
)


class CycleConfig(dg.Config):
    """Whom a cycle decides on."""

    org_ids: list[str] = Field(
        default=[], description="Only members of these organisations. Empty: of all."
    )


class MessageConfig(dg.Config):
    """A message that somebody asks for."""

    user_id: str = Field(description="The person's id.")
    outreach_type: OutreachType = Field(description="What the message is for.")
    org_id: str = Field(
        default="", description="The organisation. Empty: all that the person is a member of."
    )


@dg.multi_asset(
    name="outreach_cycle",
    specs=[
        table_spec(
            DECISIONS,
            group="outreach",
            deps=_INPUTS,
            kinds=("python", "duckdb"),
        ),
        *(
            table_spec(
                table,
                group="outreach",
                deps=[asset_key(DECISIONS)],
                kinds=("python", "duckdb"),
            )
            for table in (CYCLES, MESSAGES, WITHHELD)
        ),
    ],
    check_specs=[
        *(contract_check_spec(table, is_blocking=False) for table in TABLES),
        CYCLE_SUCCEEDED,
    ],
    pool=WAREHOUSE_POOL,
)
def outreach_cycle(
    context: dg.AssetExecutionContext, config: CycleConfig, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Decide on every member, and plan messages for those who may be written to. Sends nothing."""
    settings = pipeline.settings()
    now = run_start(context)
    as_of = pipeline.moment(now)
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        try:
            outcome = run_cycle(
                connection,
                settings,
                as_of=as_of,
                computed_at=now,
                log=context.log,
                org_ids=config.org_ids,
                templates=_templates(connection, settings, context, as_of),
            )
        except (StaleSignalsError, UnknownOrgError) as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        rows = {table.full_name: row_count(connection, table) for table in TABLES}
        broken = {
            table.full_name: violations(connection, table, outcome.cycle_id) for table in TABLES
        }
    told = _told(outcome)
    for table in TABLES:
        yield dg.MaterializeResult(
            asset_key=asset_key(table),
            metadata={
                "dagster/row_count": rows[table.full_name],
                "as_of": as_of.isoformat(),
                "cycle_id": outcome.cycle_id,
                **told.get(table.full_name, {}),
            },
        )
        yield contract_check(table, broken[table.full_name])
    yield dg.AssetCheckResult(
        asset_key=asset_key(DECISIONS),
        check_name=CYCLE_SUCCEEDED.name,
        passed=not outcome.failed,
        description=_listed(outcome.failed) if outcome.failed else None,
        metadata={"failed_organisations": len(outcome.failed)},
    )


@dg.op(
    description="Plan one message that somebody asks for; the run fails if it may not be sent. "
    "`process_outreach` sends it when its time has come.",
    pool=WAREHOUSE_POOL,
)
def plan_message(
    context: dg.OpExecutionContext, config: MessageConfig, pipeline: PipelineResource
) -> None:
    """One message, from the launchpad or the terminal, into the ledger."""
    settings = pipeline.settings()
    now = run_start(context)
    as_of = pipeline.moment(now)
    kind: Enum = config.outreach_type
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        try:
            outcome = plan_manual(
                connection,
                settings,
                user_id=config.user_id,
                outreach_type=str(kind.value),
                org_id=config.org_id or None,
                as_of=as_of,
                log=context.log,
                templates=_templates(connection, settings, context, as_of),
            )
        except (UnknownMemberError, UnknownOrgError) as error:
            raise dg.Failure(str(error), allow_retries=False) from None
    refused = refusals(outcome)
    if not outcome.planned:
        raise dg.Failure(
            f"no message was planned for {config.user_id}: {_listed(refused)}",
            metadata={"reasons": json.dumps(outcome.refused)},
            allow_retries=False,
        )
    if refused:
        context.log.warning(f"refused: {_listed(refused)}")
    context.log_event(
        dg.AssetMaterialization(
            asset_key(MESSAGES),
            metadata={
                "rows_added": outcome.added,
                "cycle_id": outcome.cycle_id,
                "refused": json.dumps(refused),
            },
        )
    )


@dg.job(
    executor_def=dg.in_process_executor,
    description="Plan one message to a member. It is sent by `process_outreach`.",
)
def schedule_message() -> None:
    plan_message()


def refusals(outcome: OccasionalOutcome) -> dict[str, str]:
    """Organisation -> why a message that was asked for is not planned there, in words."""
    return {org_id: f"{REFUSALS[reason]} ({reason})" for org_id, reason in outcome.refused.items()}


def _templates(
    connection: Connection,
    settings: Settings,
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    as_of: datetime,
) -> Templates:
    """The templates, in a model's words where that is asked for."""
    if not settings.outreach_rewriting:
        return catalogue()
    # The API's client takes seconds to import, and few let a model put templates into words.
    from engagement_pipeline.defs.rewriting import rewritten_templates

    return catalogue().reworded(
        rewritten_templates(
            connection, settings, run_id=context.run.run_id, as_of=as_of, log=context.log
        )
    )


def _told(outcome: CycleOutcome) -> dict[str, Metadata]:
    """What a cycle came to, by table."""
    stats = outcome.stats
    segments = counts_table(stats.by_segment.items(), title="segment", unit="members")
    reasons = counts_table(stats.skip_reasons.items(), title="reason", unit="members")
    kinds = counts_table(outcome.messages.items(), title="type", unit="messages")
    return {
        DECISIONS.full_name: {
            "total": stats.total,
            "eligible": stats.eligible,
            "skipped": stats.skipped,
            "by_segment": dg.MetadataValue.md(segments),
            "skip_reasons": dg.MetadataValue.md(reasons),
        },
        CYCLES.full_name: {
            "organisations": len(outcome.by_org),
            "failed_organisations": len(outcome.failed),
        },
        MESSAGES.full_name: {"rows_added": outcome.added, "by_type": dg.MetadataValue.md(kinds)},
        WITHHELD.full_name: {"rows_added": outcome.withheld},
    }


def _listed(told: Mapping[str, str]) -> str:
    listed = [f"{org_id}: {why}" for org_id, why in sorted(told.items())]
    more = f"; and {len(listed) - 10} more" if len(listed) > 10 else ""
    return "; ".join(listed[:10]) + more


WRITTEN_ALONG = [table_spec(contract("outreach.rewritings"), group="outreach", deps=[])]
"""Written along with the tables above, where the model puts templates into other words."""
