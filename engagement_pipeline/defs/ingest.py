"""One asset per input table: its new files, read, checked and loaded."""

from collections.abc import Iterator

import dagster as dg

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.defs.ingestion import TableIngest, ingest_table
from engagement_pipeline.defs.metadata import (
    DAILY,
    WAREHOUSE_POOL,
    Metadata,
    asset_key,
    counts_table,
    table_spec,
)
from engagement_pipeline.defs.partitions import sync_partitions
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.ingest.source import INPUT_TABLES, discover
from engagement_pipeline.warehouse.connection import check_free_disk
from engagement_pipeline.warehouse.loading import known_org_ids
from engagement_pipeline.warehouse.quality import gaps, row_count, violations
from engagement_pipeline.warehouse.schema import upgrade

RAW_KEYS = {table: asset_key(contract(f"raw.{table}")) for table in INPUT_TABLES}

REJECTS_CHECK = "rejects_within_limit"
CONTRACT_CHECK = "keeps_its_contract"
GAPS_CHECK = "references_are_known"


def _raw_asset(table: str) -> dg.AssetsDefinition:
    into = contract(f"raw.{table}")
    key = RAW_KEYS[table]
    # Rows are checked against the organisations there are, so those come first.
    deps = [] if table == "organizations" else [RAW_KEYS["organizations"]]

    @dg.multi_asset(
        name=f"ingest_{table}",
        specs=[
            table_spec(
                into,
                group="ingest",
                deps=deps,
                kinds=("polars", "duckdb"),
                freshness_policy=DAILY,
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(
                REJECTS_CHECK,
                asset=key,
                blocking=True,
                description="No file had more rejects than the settings allow.",
            ),
            dg.AssetCheckSpec(
                CONTRACT_CHECK,
                asset=key,
                blocking=True,
                description="Every row of the table keeps the contract.",
            ),
            dg.AssetCheckSpec(
                GAPS_CHECK,
                asset=key,
                description="How many rows refer to something that is not there. They are kept.",
            ),
        ],
        pool=WAREHOUSE_POOL,
    )
    def ingest(
        context: dg.AssetExecutionContext, pipeline: PipelineResource
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        yield from _ingest(context, pipeline, into)

    return ingest


def _ingest(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, into: Contract
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    settings = pipeline.settings()
    now = run_start(context)
    check_free_disk(settings.data_folder, settings.min_free_disk_mb)
    found = discover(settings.source_folder)
    files = found.files[into.name]
    progress = Progress(context.log, f"Ingesting {into.name}", len(files), "files")
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        result = ingest_table(
            connection, into, files, settings=settings, now=now, progress=progress
        )
        result.problems[:0] = found.problems[into.name]
        rows = row_count(connection, into)
        # What did not change keeps the contract it kept.
        broken = violations(connection, into) if result.rows_loaded else []
        missing = gaps(connection, into) if rows else []
        if into.name == "organizations":
            sync_partitions(context.instance, known_org_ids(connection).to_list())
    for path, columns in result.unknown_columns.items():
        context.log.warning(f"{path}: columns kept out: {', '.join(columns)}")
    if result.problems:
        # Only now: the table's other files are in, and stay in.
        raise dg.Failure(
            "\n".join(result.problems), metadata=_metadata(result, rows), allow_retries=False
        )
    yield dg.MaterializeResult(asset_key=asset_key(into), metadata=_metadata(result, rows))
    yield _reject_check(into, result)
    yield dg.AssetCheckResult(
        asset_key=asset_key(into),
        check_name=CONTRACT_CHECK,
        passed=not broken,
        description="; ".join(f"{v.column_name}: {v.promise}: {v.rows} rows" for v in broken),
        metadata={"broken_promises": len(broken)},
    )
    yield dg.AssetCheckResult(
        asset_key=asset_key(into),
        check_name=GAPS_CHECK,
        passed=not any(rows for _, rows in missing),
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{what}: {rows:,} rows" for what, rows in missing if rows),
        metadata=dict(missing),
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


def _metadata(result: TableIngest, rows: int) -> Metadata:
    return {
        "dagster/row_count": rows,
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


RAW_ASSETS = [_raw_asset(table) for table in INPUT_TABLES]

# Written along with the tables above, and by nothing else.
JOURNAL = [
    table_spec(contract(f"raw.{name}"), group="ingest", deps=RAW_KEYS.values())
    for name in ("ingested_files", "rejects")
]
