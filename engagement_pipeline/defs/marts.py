"""The marts: one step that builds them, checks them, and swaps in the published file.

All in one step, because what fails a check must never be where an analyst can read it.
"""

import hashlib
from collections.abc import Iterator
from functools import cache

import dagster as dg

from engagement_pipeline.contracts import contracts
from engagement_pipeline.defs.classifying import CLASSIFICATIONS
from engagement_pipeline.defs.metadata import DAILY, OWNERS, WAREHOUSE_POOL, Metadata, column_schema
from engagement_pipeline.defs.pictures import mart_pictures
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.defs.scoring import OVERRIDE_HISTORY, SCORING_RUNS
from engagement_pipeline.settings import load_settings
from engagement_pipeline.warehouse import classifications as stored
from engagement_pipeline.warehouse.audit import AuditError, CheckResult, planned_checks
from engagement_pipeline.warehouse.publication import Publication, publish
from engagement_pipeline.warehouse.published import open_published
from engagement_pipeline.warehouse.schema import upgrade
from engagement_pipeline.warehouse.sql_models import SqlModel, SqlProject, load_project

_CONTRACTS = {mart.full_name: mart for mart in contracts("marts")}


@cache
def project() -> SqlProject:
    """The SQL models, read once in a process."""
    return load_project(load_settings().sql_folder)


def key_of(full_name: str) -> dg.AssetKey:
    """`schema.table` as an asset key."""
    return dg.AssetKey(full_name.split("."))


MART_KEYS = [key_of(model.full_name) for model in project().tables]


def _spec(model: SqlModel) -> dg.AssetSpec:
    # Levels are recorded a partition at a time and never as an output, and a step waits for
    # outputs only: it is the run's summary that says they are all there.
    deps = {key_of(name) for name in project().upstream(model.name)} - {CLASSIFICATIONS}
    metadata: Metadata = {"dagster/column_lineage": _lineage(model)}
    if model.full_name in _CONTRACTS:
        metadata["dagster/column_schema"] = column_schema(_CONTRACTS[model.full_name])
        deps |= {SCORING_RUNS, OVERRIDE_HISTORY}
    return dg.AssetSpec(
        key_of(model.full_name),
        deps=sorted(deps),
        description=model.description,
        group_name="marts",
        owners=OWNERS,
        kinds={"sql", "duckdb"},
        code_version=hashlib.sha256(model.text.encode()).hexdigest()[:12],
        metadata=metadata,
        freshness_policy=DAILY if model.is_table else None,
    )


def _lineage(model: SqlModel) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(key_of(u.table), u.column) for u in upstream]
            for column, upstream in project().lineage[model.full_name].items()
        }
    )


_CHECKS = [
    dg.AssetCheckSpec(
        check.name, asset=key_of(check.asset), description=check.description, blocking=True
    )
    for check in planned_checks(project())
]


@dg.multi_asset(
    name="publish_marts",
    specs=[_spec(model) for model in project().models],
    check_specs=_CHECKS,
    pool=WAREHOUSE_POOL,
)
def publish_marts(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Write, audit, publish: a check that fails leaves yesterday's file as it is."""
    settings = pipeline.settings()
    now = run_start(context)
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        try:
            publication = publish(
                connection,
                project(),
                published_path=settings.published_path,
                keep_snapshots=settings.keep_snapshots,
                as_of=stored.shown_as_of(connection),
                published_at=now,
            )
        except AuditError as error:
            yield from (_check_result(result) for result in error.results)
            raise dg.Failure(str(error), allow_retries=False) from None
    yield from _materialized(publication)
    yield from (_check_result(result) for result in publication.checks)


def _materialized(publication: Publication) -> Iterator[dg.MaterializeResult[None]]:
    with open_published(publication.path) as connection:
        pictures = mart_pictures(connection)
    published = {mart.full_name: mart for mart in publication.marts}
    for model in project().models:
        metadata: Metadata = {}
        if model.full_name in published:
            mart = published[model.full_name]
            metadata = {
                "dagster/row_count": mart.rows,
                "published_file": dg.MetadataValue.path(publication.path),
                "parquet_file": dg.MetadataValue.path(mart.parquet_path),
                **{name: dg.MetadataValue.md(md) for name, md in pictures.get(model.name, ())},
            }
        yield dg.MaterializeResult(asset_key=key_of(model.full_name), metadata=metadata)


def _check_result(result: CheckResult) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key_of(result.asset),
        check_name=result.name,
        passed=result.passed,
        description=", ".join(result.examples) or None,
        metadata={"failing_rows": result.failing_rows},
    )
