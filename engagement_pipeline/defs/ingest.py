"""The assets of the input tables: their new files, read, checked and loaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.defs.ingestion import TableIngest, ingest_table
from engagement_pipeline.defs.metadata import (
    DAILY,
    LOOPS_OFF,
    WAREHOUSE_POOL,
    Metadata,
    asset_key,
    contract_check,
    counts_table,
    table_spec,
)
from engagement_pipeline.defs.partitions import sync_partitions
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.ingest.source import INPUT_TABLES, Discovery, discover
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.audit import CONTRACT_CHECK
from engagement_pipeline.warehouse.connection import Warehouse, check_free_disk
from engagement_pipeline.warehouse.loading import known_org_ids
from engagement_pipeline.warehouse.quality import Violation, gaps, row_count, violations
from engagement_pipeline.warehouse.schema import upgrade

RAW_KEYS = {table: asset_key(contract(f"raw.{table}")) for table in INPUT_TABLES}

REJECTS_CHECK = "rejects_within_limit"
GAPS_CHECK = "references_are_known"


_CHECKS = {
    REJECTS_CHECK: "No file had more rejects than the settings allow.",
    CONTRACT_CHECK: "Every row of the table keeps the contract.",
    GAPS_CHECK: "How many rows refer to something that is not there. They are kept.",
}


@dataclass(frozen=True)
class _Ingested:
    """What became of one table: its files, and how the whole table is now."""

    table: Contract
    result: TableIngest
    rows: int
    broken: list[Violation]
    gaps: list[tuple[str, int]]


def _spec(table: str) -> dg.AssetSpec:
    # Rows are checked against the organisations there are, so those come first.
    deps = [] if table == "organizations" else [RAW_KEYS["organizations"]]
    return table_spec(
        contract(f"raw.{table}"),
        group="ingest",
        deps=deps,
        kinds=("polars", "duckdb"),
        freshness_policy=DAILY,
        skippable=True,
    )


@dg.multi_asset(
    name="ingest",
    can_subset=True,
    specs=[_spec(table) for table in INPUT_TABLES],
    check_specs=[
        dg.AssetCheckSpec(name, asset=key, blocking=name != GAPS_CHECK, description=description)
        for key in RAW_KEYS.values()
        for name, description in _CHECKS.items()
    ],
    pool=WAREHOUSE_POOL,
)
def ingest(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Take in the new files of every table; what is wrong with one stops none of the others.

    All in one step: a step for each table would skip the tables that follow a bad one.
    """
    settings = pipeline.settings()
    now = run_start(context)
    used_at = pipeline.moment(now)
    check_free_disk(settings.data_folder, settings.min_free_disk_mb)
    found = discover(settings.source_folder)
    ingested = [
        _ingest(context, pipeline.warehouse(), settings, found, table, now, used_at)
        for table in INPUT_TABLES
        if RAW_KEYS[table] in context.selected_asset_keys
    ]
    for one in ingested:
        if not one.result.problems:
            yield dg.MaterializeResult(asset_key=asset_key(one.table), metadata=_metadata(one))
    wanted = context.selected_asset_check_keys
    for one in ingested:
        for check in _check_results(one):
            if dg.AssetCheckKey(asset_key(one.table), str(check.check_name)) in wanted:
                yield check
    problems = [problem for one in ingested for problem in one.result.problems]
    if problems:
        # Only now: all other files are in, and stay in.
        raise dg.Failure("\n".join(problems), allow_retries=False)


def _ingest(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    settings: Settings,
    found: Discovery,
    table: str,
    now: datetime,
    used_at: datetime,
) -> _Ingested:
    into = contract(f"raw.{table}")
    files = found.files[table]
    progress = Progress(context.log, f"Ingesting {table}", len(files), "files")
    with warehouse.open() as connection:
        upgrade(connection, now=now)
        result = ingest_table(
            connection,
            into,
            files,
            settings=settings,
            now=now,
            progress=progress,
            used_at=used_at,
        )
        result.problems[:0] = found.problems[table]
        rows = row_count(connection, into)
        broken = violations(connection, into) if rows else []
        missing = gaps(connection, into) if rows else []
        if table == "organizations":
            sync_partitions(context.instance, known_org_ids(connection).to_list())
    for path, columns in result.unknown_columns.items():
        context.log.warning(f"{path}: columns kept out: {', '.join(columns)}")
    return _Ingested(into, result, rows, broken, missing)


def _check_results(one: _Ingested) -> Iterator[dg.AssetCheckResult]:
    key = asset_key(one.table)
    yield _reject_check(one.table, one.result)
    yield contract_check(one.table, one.broken, name=CONTRACT_CHECK)
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=GAPS_CHECK,
        passed=not any(rows for _, rows in one.gaps),
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{what}: {rows:,} rows" for what, rows in one.gaps if rows),
        metadata=dict(one.gaps),
    )


def _reject_check(into: Contract, result: TableIngest) -> dg.AssetCheckResult:
    refused = result.refused
    told = [
        f"{file.file.path}: {file.rows_rejected:,} of {file.rows_read:,} rows rejected, so nothing "
        f"of it was loaded ({', '.join(f'{reason} {n:,}' for reason, n in file.reasons[:10])})"
        for file in refused
    ]
    return dg.AssetCheckResult(
        asset_key=asset_key(into),
        check_name=REJECTS_CHECK,
        passed=not refused,
        description="; ".join(told),
        metadata={"files_refused": len(refused)},
    )


def _metadata(one: _Ingested) -> Metadata:
    result = one.result
    told: Metadata = {
        "dagster/row_count": one.rows,
        "files_new": len(result.loaded) - len(result.refused),
        "files_known": len(result.known),
        "rows_read": result.rows_read,
        "rows_loaded": result.rows_loaded,
        "rows_rejected": sum(count for _, count in result.reasons()),
        "rejects": dg.MetadataValue.md(
            counts_table(result.reasons()[:10], title="reason", unit="rows")
        ),
        "columns_kept_out": [
            f"{path}: {', '.join(columns)}" for path, columns in result.unknown_columns.items()
        ],
    }
    if result.mappings_not_applied:
        told["mappings_not_applied"] = f"{result.mappings_not_applied:,}, for {LOOPS_OFF}"
    return told


# Written along with the tables above, and by nothing else.
JOURNAL = [
    table_spec(contract(f"raw.{name}"), group="ingest", deps=RAW_KEYS.values())
    for name in ("ingested_files", "rejects")
]
