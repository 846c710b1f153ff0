"""The assets of the loops: signals drawn, calibrations learned, and the digest plan.

All in one step, because the facts about notifications, which take the longest, serve all three.
What is drawn is `defs.drawing`'s, what is learned `defs.learning`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg
from pydantic import Field

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import ARCHETYPES
from engagement_pipeline.defs.drawing import draw
from engagement_pipeline.defs.guidance import guides_at
from engagement_pipeline.defs.ingest import RAW_KEYS
from engagement_pipeline.defs.metadata import (
    DAILY,
    LOOPS_OFF,
    WAREHOUSE_POOL,
    WEEKLY,
    Metadata,
    asset_key,
    contract_check,
    contract_check_spec,
    counts_table,
    table_spec,
)
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.defs.scoring import OVERRIDE_HISTORY, SCORING_RUNS
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import calibrations as stored
from engagement_pipeline.warehouse import classifications as stored_scores
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.quality import Violation, row_count, violations
from engagement_pipeline.warehouse.schema import upgrade

SIGNALS = contract("loops.signals")
CALIBRATIONS = contract("loops.calibrations")
DECISIONS = contract("loops.digest_decisions")

LEARNING_SUCCEEDED = dg.AssetCheckSpec(
    "learning_succeeded",
    asset=asset_key(CALIBRATIONS),
    description="Every loop could be learned for every organisation. One that failed keeps what "
    "was learned of it before.",
)

DRAWING_SUCCEEDED = dg.AssetCheckSpec(
    "drawing_succeeded",
    asset=asset_key(SIGNALS),
    description="The signals of every loop could be drawn. What could not is drawn the next time.",
)
# What is published is audited by itself: a signal that is no good must not keep the day back.
_SIGNALS_CONTRACT = contract_check_spec(SIGNALS, is_blocking=False)


class LearningConfig(dg.Config):
    """What a run learns."""

    archetypes: list[str] = Field(
        default=list(ARCHETYPES),
        description=f"The loops to learn: of {', '.join(ARCHETYPES)}.",
    )


@dataclass
class Outcome:
    """What a run of the loops did.

    Attributes:
        signals: new signals, by kind.
        not_drawn: loop -> why its signals could not be drawn.
        calibrations: what was learned, by loop.
        failed: organisation and loop -> why it could not be learned for, in this run or in the
            last one that tried.
        deliveries: digest decisions, by delivery.
    """

    signals: dict[str, int] = field(default_factory=dict)
    not_drawn: dict[str, str] = field(default_factory=dict)
    calibrations: dict[str, int] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    deliveries: dict[str, int] = field(default_factory=dict)


class UnknownArchetypeError(ValueError):
    """A run was asked to learn a loop that there is not; the text names it and those there are."""


@dg.multi_asset(
    name="loops",
    can_subset=True,
    specs=[
        table_spec(
            SIGNALS,
            group="loops",
            deps=[
                RAW_KEYS["notifications"],
                RAW_KEYS["notification_reads"],
                RAW_KEYS["memberships"],
                SCORING_RUNS,
                OVERRIDE_HISTORY,
            ],
            skippable=True,
            freshness_policy=DAILY,
        ),
        table_spec(
            CALIBRATIONS,
            group="loops",
            deps=[asset_key(SIGNALS)],
            kinds=("scipy", "duckdb"),
            skippable=True,
            freshness_policy=WEEKLY,
        ),
        table_spec(
            DECISIONS,
            group="loops",
            deps=[asset_key(CALIBRATIONS)],
            skippable=True,
            freshness_policy=WEEKLY,
        ),
    ],
    check_specs=[
        DRAWING_SUCCEEDED,
        LEARNING_SUCCEEDED,
        _SIGNALS_CONTRACT,
        *(contract_check_spec(table) for table in (CALIBRATIONS, DECISIONS)),
    ],
    pool=WAREHOUSE_POOL,
)
def loops(
    context: dg.AssetExecutionContext, config: LearningConfig, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Draw signals from what has happened, learn from them, and decide by what was learned."""
    selected = context.selected_asset_keys
    settings = pipeline.settings()
    now = run_start(context)
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        as_of = _moment(context, connection, pipeline, now)
        outcome = Outcome()
        if settings.loops_enabled:
            outcome = _close(
                connection,
                settings,
                as_of=as_of,
                now=now,
                archetypes=config.archetypes if asset_key(CALIBRATIONS) in selected else (),
                plans_digests=asset_key(DECISIONS) in selected,
            )
        else:
            context.log.warning(LOOPS_OFF)
        for loop, error in outcome.not_drawn.items():
            context.log.error(f"{loop}: no signals could be drawn: {error}")
        for (org_id, loop), error in outcome.failed.items():
            context.log.error(f"organisation {org_id}: {loop}: {error}")
        tables = [t for t in (SIGNALS, CALIBRATIONS, DECISIONS) if asset_key(t) in selected]
        rows = {table.full_name: row_count(connection, table) for table in tables}
        broken = {table.full_name: violations(connection, table) for table in tables}
    shared: Metadata = {"as_of": as_of.isoformat(), "loops_enabled": settings.loops_enabled}
    if not settings.loops_enabled:
        shared["why_nothing_was_done"] = LOOPS_OFF
    told = _told(outcome)
    for table in tables:
        yield dg.MaterializeResult(
            asset_key=asset_key(table),
            metadata={
                "dagster/row_count": rows[table.full_name],
                **shared,
                **told[table.full_name],
            },
        )
    yield from _checks(context, tables, broken, outcome)


def _moment(
    context: dg.AssetExecutionContext,
    connection: Connection,
    pipeline: PipelineResource,
    now: datetime,
) -> datetime:
    """What is drawn with the levels is drawn for their moment; else for the run's."""
    if asset_key(CALIBRATIONS) in context.selected_asset_keys:
        moment = pipeline.moment(now)
        if moment > now:
            # It would be in force for everybody, and let all that is known today expire.
            raise dg.Failure(
                f"as_of: expected a moment that has come, found {moment.isoformat()}",
                allow_retries=False,
            )
        return moment
    return stored_scores.shown_as_of(connection) or pipeline.moment(now)


def _close(
    connection: Connection,
    settings: Settings,
    *,
    as_of: datetime,
    now: datetime,
    archetypes: Sequence[str],
    plans_digests: bool,
) -> Outcome:
    unknown = sorted(set(archetypes) - set(ARCHETYPES))
    if unknown:
        raise UnknownArchetypeError(
            f"archetypes: expected some of {', '.join(ARCHETYPES)}, found {', '.join(unknown)}"
        )
    outcome = Outcome()
    drawn = draw(connection, settings, as_of=as_of, computed_at=now)
    outcome.signals, outcome.not_drawn = drawn.new, drawn.failed
    if archetypes or plans_digests:
        # Statistics take seconds to import, which the daily run need not wait for.
        from engagement_pipeline.defs.learning import Learning

        learning = Learning(
            connection,
            settings,
            guides_at(connection, settings, as_of=as_of),
            {org.org_id: org for org in stored_scores.stored_orgs(connection)},
            as_of,
            now,
        )
        for archetype in archetypes:
            outcome.calibrations[archetype] = learning.learn(archetype).calibrations
        # Of all loops: what one run could not learn, another that learns something else must not
        # turn green.
        outcome.failed = stored.failed_learning(connection)
        if plans_digests:
            decisions, failed = learning.plan_digests()
            outcome.deliveries = dict(decisions["delivery"].value_counts(sort=True).iter_rows())
            outcome.failed |= {(org, "digest_plan"): why for org, why in failed.items()}
    return outcome


def _told(outcome: Outcome) -> dict[str, Metadata]:
    failed = [f"| {org} | {loop} | {why} |" for (org, loop), why in outcome.failed.items()]
    head = ["| organisation | loop | why |", "| --- | --- | --- |"]
    return {
        SIGNALS.full_name: {
            "new_signals": sum(outcome.signals.values()),
            "by_kind": _table(outcome.signals, "kind", "new signals"),
        },
        CALIBRATIONS.full_name: {
            "calibrations": sum(outcome.calibrations.values()),
            "by_loop": _table(outcome.calibrations, "loop", "calibrations"),
            "orgs_failed": len({org for org, _ in outcome.failed}),
            "failed": dg.MetadataValue.md("\n".join([*head, *failed]) if failed else "none"),
        },
        DECISIONS.full_name: {
            "by_delivery": _table(outcome.deliveries, "delivery", "features"),
        },
    }


def _table(counts: dict[str, int], title: str, unit: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(counts_table(counts.items(), title=title, unit=unit))


def _checks(
    context: dg.AssetExecutionContext,
    tables: Sequence[object],
    broken: dict[str, list[Violation]],
    outcome: Outcome,
) -> Iterator[dg.AssetCheckResult]:
    wanted = context.selected_asset_check_keys
    for table in (SIGNALS, CALIBRATIONS, DECISIONS):
        check = contract_check(table, broken.get(table.full_name, []))
        if table in tables and dg.AssetCheckKey(asset_key(table), str(check.check_name)) in wanted:
            yield check
    if DRAWING_SUCCEEDED.key in wanted:
        named = "; ".join(f"{loop}: {why}" for loop, why in outcome.not_drawn.items())
        yield dg.AssetCheckResult(
            asset_key=DRAWING_SUCCEEDED.asset_key,
            check_name=DRAWING_SUCCEEDED.name,
            passed=not outcome.not_drawn,
            severity=dg.AssetCheckSeverity.ERROR,
            description=named or None,
            metadata={"failed": sorted(outcome.not_drawn)},
        )
    if LEARNING_SUCCEEDED.key in wanted:
        named = "; ".join(f"{org}: {loop}: {why}" for (org, loop), why in outcome.failed.items())
        yield dg.AssetCheckResult(
            asset_key=LEARNING_SUCCEEDED.asset_key,
            check_name=LEARNING_SUCCEEDED.name,
            passed=not outcome.failed,
            severity=dg.AssetCheckSeverity.ERROR,
            description=named or None,
            metadata={"failed": sorted({org for org, _ in outcome.failed})},
        )


WRITTEN_ALONG = [
    *(
        table_spec(contract(f"loops.{name}"), group="loops", deps=[asset_key(SIGNALS)])
        for name in ("productions", "judgements", "predictions", "vocabulary_candidates")
    ),
    *(
        table_spec(contract(f"loops.{name}"), group="loops", deps=[asset_key(CALIBRATIONS)])
        for name in (
            "learning_runs",
            "consumer_uses",
            "label_agreement",
            "corrections",
            "review_queue",
            "calibration_maps",
            "arm_posteriors",
        )
    ),
    table_spec(contract("loops.vocabulary_mappings"), group="loops", deps=[]),
]
"""Written along with the tables above, or by people's word, and by nothing else."""
