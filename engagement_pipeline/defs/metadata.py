"""How tables are shown in Dagster: specs, column schemas and the metadata that all share."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

import dagster as dg

from engagement_pipeline.contracts import Contract
from engagement_pipeline.warehouse.audit import CONTRACT_CHECK
from engagement_pipeline.warehouse.quality import Violation

Metadata: TypeAlias = dict[str, Any]
"""Entries of an event: whatever Dagster takes as metadata, by name."""

OWNERS = ["team:data"]
WAREHOUSE_POOL = "warehouse"

DAILY = dg.FreshnessPolicy.cron(deadline_cron="0 6 * * *", lower_bound_delta=timedelta(hours=3))
"""Red when nothing came between 03:00 and 06:00 UTC: the daily run starts at 04:00."""

WEEKLY = dg.FreshnessPolicy.cron(deadline_cron="0 7 * * 1", lower_bound_delta=timedelta(hours=3))
"""Red when nothing came between 04:00 and 07:00 UTC on a Monday: tuning starts from 05:00 on."""

LOOPS_OFF = "the loops are off (LOOPS_ENABLED): nothing was recorded, learned or used"
"""Why an asset of the loops, or a table that mappings are on record for, shows nothing of them."""


def asset_key(contract: Contract) -> dg.AssetKey:
    """Schema and table of the warehouse are the asset's key."""
    return dg.AssetKey([contract.schema, contract.name])


def column_schema(contract: Contract) -> dg.TableSchema:
    """The contract's columns as the Dagster UI lists them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.sql_type,
                description=column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.is_nullable,
                    unique=contract.key == (column.name,),
                    other=[f"one of: {', '.join(column.allowed)}"] if column.allowed else [],
                ),
            )
            for column in contract.columns
        ],
        constraints=dg.TableConstraints(
            other=[f"unique: {', '.join(contract.key)}"] if contract.key else []
        ),
    )


def table_spec(
    contract: Contract,
    *,
    group: str,
    deps: Iterable[dg.AssetKey],
    kinds: Sequence[str] = ("duckdb",),
    code_version: str = "1",
    metadata: dict[str, Any] | None = None,
    **options: Any,
) -> dg.AssetSpec:
    """The asset that writes a contract's table."""
    return dg.AssetSpec(
        asset_key(contract),
        deps=list(deps),
        description=contract.description,
        group_name=group,
        owners=OWNERS,
        kinds=set(kinds),
        code_version=code_version,
        metadata={"dagster/column_schema": column_schema(contract), **(metadata or {})},
        **options,
    )


def contract_check(
    table: Contract, broken: Sequence[Violation], *, name: str = CONTRACT_CHECK
) -> dg.AssetCheckResult:
    """Whether a table as it is keeps its contract, and what is broken where it does not."""
    return dg.AssetCheckResult(
        asset_key=asset_key(table),
        check_name=name,
        passed=not broken,
        description="; ".join(f"{v.column_name}: {v.promise}: {v.rows} rows" for v in broken),
        metadata={"broken_promises": len(broken)},
    )


def contract_check_spec(table: Contract, *, is_blocking: bool = True) -> dg.AssetCheckSpec:
    """The check that a table keeps its contract; a blocking one stops what follows in the run."""
    return dg.AssetCheckSpec(
        CONTRACT_CHECK,
        asset=asset_key(table),
        blocking=is_blocking,
        description="Every row of the table keeps the contract.",
    )


def counts_table(rows: Iterable[tuple[str, int]], *, title: str, unit: str) -> str:
    """A small Markdown table of counts, or `none`."""
    listed = [f"| {name} | {count:,} |" for name, count in rows]
    return "\n".join([f"| {title} | {unit} |", "| --- | ---: |", *listed]) if listed else "none"
