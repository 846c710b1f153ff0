"""The assets of models: how trainings ended, how good models and baselines were, and pictures.

What is trained, and what is kept of it, belongs to `training`.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import dagster as dg
from pydantic import Field

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.behavior import INTERACTIONS, TRAININGS
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
from engagement_pipeline.defs.training import Trained, train_models
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.quality import row_count, violations
from engagement_pipeline.warehouse.schema import upgrade
from engagement_pipeline.warehouse.signals import snapshot

METRICS = contract("behavior.model_metrics")
CURVES = contract("behavior.model_curves")
TABLES = (TRAININGS, METRICS, CURVES)

WEEKLY_TRAINING = dg.FreshnessPolicy.cron(
    deadline_cron="0 6 * * 1", lower_bound_delta=timedelta(hours=4)
)
"""Red when nothing came between 02:00 and 06:00 UTC on a Monday: training starts at 03:00."""

TRAINING_SUCCEEDED = dg.AssetCheckSpec(
    "training_succeeded",
    asset=asset_key(TRAININGS),
    description="Every training came to an end, whatever it found. One that failed leaves the "
    "model before it in force.",
)
NO_LEAKS = dg.AssetCheckSpec(
    "no_feature_knows_the_future",
    asset=asset_key(TRAININGS),
    description="Features at the last cut-off are the same with everything later hidden.",
)
MODELS_WIN = dg.AssetCheckSpec(
    "models_beat_their_baselines",
    asset=asset_key(TRAININGS),
    description="For each target a model surely beat its baseline, and serves. Where none did, "
    "this says why.",
)


class TrainingConfig(dg.Config):
    """What a training asks for."""

    min_samples: int = Field(
        default=0,
        ge=0,
        description="Samples that a model needs. 0: the setting min_training_samples.",
    )


@dg.multi_asset(
    name="train",
    specs=[
        table_spec(
            TRAININGS,
            group="behavior",
            deps=[
                asset_key(INTERACTIONS),
                *(
                    RAW_KEYS[name]
                    for name in (
                        "organizations",
                        "memberships",
                        "profiles",
                        "attendance",
                        "event_views",
                        "notifications",
                        "notification_reads",
                        "interactions",
                    )
                ),
            ],
            kinds=("scikitlearn", "duckdb"),
            freshness_policy=WEEKLY_TRAINING,
        ),
        *(
            table_spec(
                table,
                group="behavior",
                deps=[asset_key(TRAININGS)],
                kinds=("scikitlearn", "duckdb"),
            )
            for table in (METRICS, CURVES)
        ),
    ],
    check_specs=[
        *(contract_check_spec(table, is_blocking=False) for table in TABLES),
        TRAINING_SUCCEEDED,
        NO_LEAKS,
        MODELS_WIN,
    ],
    pool=WAREHOUSE_POOL,
)
def train(
    context: dg.AssetExecutionContext, config: TrainingConfig, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Train models of churn, mood and timing on what came of the past."""
    settings = pipeline.settings()
    now = run_start(context)
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        as_of = _moment(connection, pipeline, now)
        found = train_models(
            connection,
            settings,
            as_of=as_of,
            computed_at=now,
            min_samples=config.min_samples or settings.min_training_samples,
            log=context.log,
        )
        rows = {table: row_count(connection, table) for table in TABLES}
        broken = {table: violations(connection, table) for table in TABLES}
    told = {TRAININGS: _trainings(found), METRICS: _metrics(found), CURVES: _pictures(found)}
    for table in TABLES:
        yield dg.MaterializeResult(
            asset_key=asset_key(table),
            metadata={
                "dagster/row_count": rows[table],
                "as_of": as_of.isoformat(),
                **told[table],
            },
        )
    yield from (contract_check(table, broken[table]) for table in TABLES)
    yield from _checks(found)


def _moment(connection: Connection, pipeline: PipelineResource, now: datetime) -> datetime:
    """What a run is told to train for, or else the last refresh.

    What has happened since is not in the warehouse yet: trained for now, the newest outcomes would
    be taken from too few days, and members who were active in the others would count as churned.
    """
    moment = pipeline.moment(now)
    if moment > now:
        raise dg.Failure(
            f"as_of: expected a moment that has come, found {moment.isoformat()}",
            allow_retries=False,
        )
    refreshed = snapshot(connection)
    return moment if pipeline.as_of or refreshed is None else min(refreshed.as_of, now)


def _trainings(found: Sequence[Trained]) -> Metadata:
    lines = ["| target | ended | champion | samples | base rate | why |", "| --- " * 6 + "|"]
    for trained in found:
        row = trained.training
        rate = "" if row["base_rate"] is None else f"{row['base_rate']:.3f}"
        lines.append(
            f"| {row['target']} | {row['outcome']} | {row['champion'] or ''} "
            f"| {row['samples']:,} | {rate} | {row['reason'] or ''} |"
        )
    return {"trainings": dg.MetadataValue.md("\n".join(lines))}


def _metrics(found: Sequence[Trained]) -> Metadata:
    lines = ["| target | model | figure | value | 95 % interval |", "| --- " * 5 + "|"]
    numbers: Metadata = {}
    for trained in found:
        for row in trained.metrics.iter_rows(named=True):
            ends = "" if row["lower"] is None else f"{row['lower']:.3f} to {row['upper']:.3f}"
            model = f"**{row['model']}**" if row["is_champion"] else row["model"]
            lines.append(
                f"| {row['target']} | {model} | {row['metric']} | {row['value']:.3f} | {ends} |"
            )
            if row["is_champion"]:
                numbers[f"{row['target']}_{row['metric']}"] = row["value"]
    return {"figures": dg.MetadataValue.md("\n".join(lines)), **numbers}


def _pictures(found: Sequence[Trained]) -> Metadata:
    # Drawing takes a second to import, which no other job of these definitions need wait for.
    from engagement_pipeline.defs.model_pictures import model_figures
    from engagement_pipeline.defs.pictures import markdown

    return {
        f"{trained.training['target']}_{name}": dg.MetadataValue.md(
            markdown(figure, f"{trained.training['target']}: {name.replace('_', ' ')}")
        )
        for trained in found
        for name, figure in model_figures(trained.curves, target=trained.training["target"]).items()
    }


def _leaks(trained: Trained) -> str:
    return "; ".join(trained.leaks) if trained.leaks else "not looked at: the training failed"


def _checks(found: Sequence[Trained]) -> Iterator[dg.AssetCheckResult]:
    failed = {t.training["target"]: t.training["reason"] for t in found if t.is_failed}
    leaks = {t.training["target"]: _leaks(t) for t in found if t.leaks or t.leaks is None}
    without = {t.training["target"]: t.training["reason"] for t in found if t.model is None}
    for spec, why, severity in (
        (TRAINING_SUCCEEDED, failed, dg.AssetCheckSeverity.ERROR),
        (NO_LEAKS, leaks, dg.AssetCheckSeverity.ERROR),
        (MODELS_WIN, without, dg.AssetCheckSeverity.WARN),
    ):
        yield dg.AssetCheckResult(
            asset_key=spec.asset_key,
            check_name=spec.name,
            passed=not why,
            severity=severity,
            description="; ".join(f"{target}: {reason}" for target, reason in why.items()) or None,
            metadata={"targets": sorted(why)},
        )
