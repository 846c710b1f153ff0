"""The assets of what came of outreach: outcomes of messages, and whether outreach helps.

What counts as a response, and how an uplift is estimated, belongs to `outreach`; what is read and
written for it, to `warehouse.outreach_outcomes`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import dagster as dg
import polars as pl

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.defs.behavior import succeeded
from engagement_pipeline.defs.ingest import RAW_KEYS
from engagement_pipeline.defs.metadata import (
    WAREHOUSE_POOL,
    Metadata,
    asset_key,
    contract_check,
    contract_check_spec,
    table_spec,
)
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.outreach.responses import RESPONDS_WITHIN, first_responses, outcomes
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import outreach_outcomes as stored
from engagement_pipeline.warehouse import signals as stored_signals
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.quality import Violation, row_count, violations
from engagement_pipeline.warehouse.schema import upgrade

OUTCOMES = contract("outreach.outcomes")
UPLIFT = contract("outreach.uplift")
TABLES = (OUTCOMES, UPLIFT)
_MESSAGES = asset_key(contract("outreach.messages"))
_SIGNALS = asset_key(contract("signals.member_90d"))

LOOKED_AT_AGAIN = timedelta(days=30)
"""For how long after sending a response that arrives late still counts."""

SLICE_MESSAGES = 200_000

NOTHING_SENT = "no message was planned yet"
NOTHING_TAKEN_IN = "nothing was taken in yet: `refresh` does that"

HOLDOUT_IS_SOUND = dg.AssetCheckSpec(
    "holdout_is_sound",
    asset=asset_key(UPLIFT),
    description="As many members were held out as were meant to be, but for chance. Where it is "
    "otherwise something sorts members, or the share or the salt was changed, and the uplift is "
    "void.",
)


@dataclass
class Done:
    """What a run made of what came of outreach.

    Attributes:
        metadata: by table.
        failed: table -> why it could not be computed.
        unsound: organisation -> how probable its split would be by chance.
        skipped: why there was nothing to do, where there was nothing.
    """

    metadata: dict[str, Metadata] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unsound: dict[str, float] = field(default_factory=dict)
    skipped: str | None = None


@dg.multi_asset(
    name="outreach_outcomes",
    can_subset=True,
    specs=[
        table_spec(
            OUTCOMES,
            group="outreach",
            deps=[
                _MESSAGES,
                _SIGNALS,
                asset_key(contract("behavior.interactions_scored")),
                *(
                    RAW_KEYS[name]
                    for name in ("interactions", "notifications", "notification_reads")
                ),
            ],
            kinds=("polars", "duckdb"),
            skippable=True,
        ),
        table_spec(
            UPLIFT,
            group="outreach",
            deps=[
                _MESSAGES,
                asset_key(contract("outreach.withheld")),
                _SIGNALS,
                *(
                    RAW_KEYS[name]
                    for name in (
                        "memberships",
                        "attendance",
                        "notifications",
                        "notification_reads",
                        "interactions",
                        "profile_updates",
                    )
                ),
            ],
            kinds=("scipy", "duckdb"),
            skippable=True,
        ),
    ],
    check_specs=[
        *(contract_check_spec(table, is_blocking=False) for table in TABLES),
        *(succeeded(table) for table in TABLES),
        HOLDOUT_IS_SOUND,
    ],
    pool=WAREHOUSE_POOL,
)
def outreach_outcomes(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Tell which messages were answered, and how many more members came back because of outreach.

    None of it may keep the levels of a day back: what cannot be computed is told by a red check,
    and stays as it was.
    """
    settings = pipeline.settings()
    now = run_start(context)
    tables = [table for table in TABLES if asset_key(table) in context.selected_asset_keys]
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        done = compute(connection, settings, moment=pipeline.moment(now), tables=tables)
        rows = {table.full_name: row_count(connection, table) for table in tables}
        broken = {table.full_name: violations(connection, table) for table in tables}
    if done.skipped:
        context.log.info(done.skipped)
    for name, why in done.failed.items():
        context.log.error(f"{name}: nothing could be computed: {why}")
    skipped: Metadata = {"why_nothing_was_done": done.skipped} if done.skipped else {}
    for table in tables:
        yield dg.MaterializeResult(
            asset_key=asset_key(table),
            metadata={
                "dagster/row_count": rows[table.full_name],
                **skipped,
                **done.metadata.get(table.full_name, {}),
            },
        )
    yield from _checks(context, tables, broken, done)


def compute(
    connection: Connection,
    settings: Settings,
    *,
    moment: datetime,
    tables: Sequence[Contract] = TABLES,
) -> Done:
    """Fill these tables with what is known at a moment; one that cannot be filled stays as it was.

    Args:
        connection: to the warehouse.
        settings: in force.
        moment: what came later is not known. What came after the last refresh is not known either:
            who said nothing that we have taken in may have said something.
        tables: those to fill.
    """
    planned = stored.planned(connection)
    if not planned.messages and not planned.withheld:
        return Done(skipped=NOTHING_SENT)
    taken_in = stored_signals.snapshot(connection)
    if taken_in is None:
        return Done(skipped=NOTHING_TAKEN_IN)
    known_until = min(taken_in.as_of, moment)
    stages: dict[str, Callable[[Connection, Settings, datetime, Done], Metadata]] = {
        OUTCOMES.full_name: _tell_outcomes,
        UPLIFT.full_name: _estimate_uplift,
    }
    done = Done()
    for table in tables:
        try:
            told = stages[table.full_name](connection, settings, known_until, done)
        except Exception as error:
            done.failed[table.full_name] = f"{type(error).__name__}: {error}"
        else:
            done.metadata[table.full_name] = {"as_of": known_until.isoformat(), **told}
    return done


def _tell_outcomes(
    connection: Connection, _settings: Settings, known_until: datetime, _done: Done
) -> Metadata:
    delivered, read = stored.mark_received(connection, until=known_until)
    looked_at = written = responses = 0
    for messages, interactions in stored.slices(
        connection,
        since=known_until - LOOKED_AT_AGAIN,
        until=known_until,
        slice_messages=SLICE_MESSAGES,
    ):
        found = outcomes(messages, interactions, known_until=known_until)
        written += stored.write_outcomes(connection, found)
        # Those that may be answered still have no outcome, but whether they were is known. What
        # they are answered by comes after them, so they can be looked at by themselves.
        young = messages.filter(pl.col("sent_at") > known_until - RESPONDS_WITHIN)
        answered = first_responses(young, interactions, known_until=known_until)
        stored.mark_responded(connection, answered)
        looked_at += messages.height
        responses += int(found["is_response"].sum())
    return {
        "messages_looked_at": looked_at,
        "new_or_changed": written,
        "responses": responses,
        "newly_delivered": delivered,
        "newly_read": read,
    }


def _estimate_uplift(
    connection: Connection, settings: Settings, known_until: datetime, done: Done
) -> Metadata:
    # NumPy and SciPy take seconds to import, and most days of most homes have nothing to estimate.
    from engagement_pipeline.outreach import uplift

    # Of activity that was cleaned away since it would seem that nobody came back.
    kept = timedelta(days=settings.retention_days)
    window_start = known_until - min(uplift.WINDOW, kept)
    horizon_days = settings.uplift_horizon_days
    members = stored.first_enrolments(
        connection,
        window_start=window_start,
        window_end=known_until - timedelta(days=horizon_days),
        known_until=known_until,
        horizon=timedelta(days=horizon_days),
        significant_sections=settings.significant_sections,
    )
    found = uplift.estimate(
        members,
        as_of=known_until,
        window_start=window_start,
        horizon_days=horizon_days,
        holdout_share=settings.holdout_share,
    )
    stored.write_uplift(connection, found)
    estimates = {row["org_id"]: row for row in found.to_dicts()}
    done.unsound.update(
        {
            org_id: row["sample_ratio_p"]
            for org_id, row in estimates.items()
            if not row["is_sample_ratio_ok"]
        }
    )
    pooled = estimates.get(uplift.ALL_ORGS, {})
    told = ("treated_members", "held_out_members", "uplift", "uplift_lower", "uplift_upper")
    return {name: pooled[name] for name in told if pooled.get(name) is not None}


def _checks(
    context: dg.AssetExecutionContext,
    tables: Sequence[Contract],
    broken: dict[str, list[Violation]],
    done: Done,
) -> Iterator[dg.AssetCheckResult]:
    found = []
    for table in tables:
        found.append(contract_check(table, broken[table.full_name]))
        found.append(
            dg.AssetCheckResult(
                asset_key=asset_key(table),
                check_name=succeeded(table).name,
                passed=table.full_name not in done.failed,
                severity=dg.AssetCheckSeverity.ERROR,
                description=done.failed.get(table.full_name),
            )
        )
    if UPLIFT in tables:
        named = "; ".join(f"{org}: p = {p:.2g}" for org, p in sorted(done.unsound.items()))
        why = done.failed.get(UPLIFT.full_name) or named or None
        found.append(
            dg.AssetCheckResult(
                asset_key=HOLDOUT_IS_SOUND.asset_key,
                check_name=HOLDOUT_IS_SOUND.name,
                passed=why is None,
                severity=dg.AssetCheckSeverity.WARN,
                description=why,
                metadata={"orgs": sorted(done.unsound)},
            )
        )
    wanted = context.selected_asset_check_keys
    yield from (
        check
        for check in found
        if dg.AssetCheckKey(check.asset_key or dg.AssetKey([]), str(check.check_name)) in wanted
    )
