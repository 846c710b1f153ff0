"""The asset of the 90-day member signals."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.ingest import RAW_KEYS
from engagement_pipeline.defs.metadata import (
    DAILY,
    WAREHOUSE_POOL,
    Metadata,
    asset_key,
    contract_check,
    contract_check_spec,
    table_spec,
)
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.signals import SignalSources, finish, member_signals
from engagement_pipeline.warehouse import signals as stored
from engagement_pipeline.warehouse.quality import violations

MEMBERS = contract("signals.member_90d")
SNAPSHOT = contract("signals.snapshot")
VERSION = "1"
"""Raised when the meaning of a signal changes: then all are computed anew."""

_INPUTS = [
    RAW_KEYS[table]
    for table in (
        "memberships",
        "attendance",
        "event_views",
        "notifications",
        "notification_reads",
        "interactions",
        "profile_updates",
    )
]
_OPTIONAL = {
    "event_views": "has_event_views",
    "notifications": "has_notifications",
    "interactions": "has_interactions",
}


def _spec(which: str) -> dg.AssetSpec:
    return table_spec(
        contract(which),
        group="signals",
        deps=_INPUTS,
        kinds=("polars", "duckdb"),
        code_version=VERSION,
        freshness_policy=DAILY,
    )


def _signals(
    frames: dict[str, pl.LazyFrame],
    present: stored.Presence,
    as_of: datetime,
    significant_sections: tuple[str, ...],
) -> pl.DataFrame:
    absent = {table for table, has in _OPTIONAL.items() if not getattr(present, has)}
    given: dict[str, Any] = {t: None if t in absent else f for t, f in frames.items()}
    sources = SignalSources(**given)
    found = member_signals(sources, as_of=as_of, significant_sections=significant_sections)
    lazy: pl.LazyFrame = found.to_native()
    return finish(lazy.collect(engine="streaming"), as_of=as_of)


@dg.multi_asset(
    name="member_signals",
    specs=[_spec("signals.member_90d"), _spec("signals.snapshot")],
    check_specs=[contract_check_spec(MEMBERS), contract_check_spec(SNAPSHOT)],
    pool=WAREHOUSE_POOL,
)
def member_signals_asset(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Compute the signals of all current members at the run's `as_of`."""
    settings = pipeline.settings()
    start = run_start(context)
    as_of = pipeline.moment(start)
    with pipeline.warehouse().open() as connection:
        digest = stored.inputs_digest(
            connection,
            as_of=as_of,
            significant_sections=settings.significant_sections,
            version=VERSION,
        )
        before = stored.snapshot(connection)
        is_unchanged = before is not None and before.inputs_digest == digest
        if is_unchanged:
            assert before is not None
            members = before.members
        else:
            present = stored.presence(connection, as_of=as_of)
            members = stored.write(
                connection,
                (
                    _signals(frames, present, as_of, settings.significant_sections)
                    for frames in stored.slices(connection, slice_rows=settings.slice_rows)
                ),
                as_of=as_of,
                present=present,
                digest=digest,
                computed_at=start,
            )
        broken = {table: violations(connection, table) for table in (MEMBERS, SNAPSHOT)}
    shared: Metadata = {"as_of": as_of.isoformat(), "is_unchanged": is_unchanged}
    yield dg.MaterializeResult(
        asset_key=asset_key(MEMBERS), metadata={"dagster/row_count": members, **shared}
    )
    yield dg.MaterializeResult(
        asset_key=asset_key(SNAPSHOT), metadata={"dagster/row_count": 1, **shared}
    )
    for table, found in broken.items():
        yield contract_check(table, found)
