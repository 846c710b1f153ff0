"""The assets of delivery: every attempt to send a message, and how the channels fare.

Who may be written to, and what follows from a failure, belongs to `outreach.delivery`; what that is
given, to `delivering`.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from time import sleep

import dagster as dg
from pydantic import Field

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.delivering import deliver_due
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
from engagement_pipeline.defs.resources import BadRunOptionError, PipelineResource, run_start
from engagement_pipeline.outreach.delivery.sending import DeliveryReport
from engagement_pipeline.warehouse import outreach_ledger as ledger
from engagement_pipeline.warehouse.quality import row_count, violations
from engagement_pipeline.warehouse.schema import upgrade

MESSAGES = contract("outreach.messages")
DELIVERIES = contract("outreach.deliveries")
CHANNELS = contract("outreach.channels")
CHANNEL_OPT_OUTS = contract("outreach.channel_opt_outs")
TABLES = (DELIVERIES, CHANNELS, CHANNEL_OPT_OUTS)

DELIVERY_SUCCEEDED = dg.AssetCheckSpec(
    "delivery_succeeded",
    asset=asset_key(DELIVERIES),
    description="Messages could leave: the channel is set up rightly, its breaker is closed, and "
    "no message was given up. What met a wrong address or key waits for 15 minutes, and the rest "
    "until it is an hour late.",
)


class DeliveryConfig(dg.Config):
    """How much one run sends."""

    limit: int = Field(
        default=50,
        ge=1,
        description="Messages to try at most. Those that are cancelled or put off do not count.",
    )


@dg.multi_asset(
    name="outreach_delivery",
    specs=[
        table_spec(
            table,
            group="outreach",
            deps=[
                asset_key(MESSAGES),
                *(
                    RAW_KEYS[name]
                    for name in ("memberships", "preferences", "erasure_requests", "org_settings")
                ),
            ],
            kinds=("python", "duckdb"),
        )
        for table in TABLES
    ],
    check_specs=[
        *(contract_check_spec(table, is_blocking=False) for table in TABLES),
        DELIVERY_SUCCEEDED,
    ],
    pool=WAREHOUSE_POOL,
)
def outreach_delivery(
    context: dg.AssetExecutionContext, config: DeliveryConfig, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Send the messages that are due: each is reserved, sent and confirmed.

    A run may be ended at any moment: what it had in hand is tried again by the next one, under the
    same id, which the receiver knows it by.
    """
    settings = pipeline.settings()
    now = run_start(context)
    moment = pipeline.moment(now)
    if pipeline.as_of and settings.outreach_channel != "log":
        raise BadRunOptionError(
            f"as_of: expected none where messages really leave (outreach_channel "
            f"{settings.outreach_channel}), found {pipeline.as_of}: they leave now, and by what is "
            "known now. Nothing was sent"
        )
    # Where a moment was asked for, the clock stands there.
    clock: Callable[[], datetime] = (lambda: moment) if pipeline.as_of else _now
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        started = clock()
        report = deliver_due(connection, settings, limit=config.limit, clock=clock, sleep=sleep)
        rows = {table.name: row_count(connection, table) for table in TABLES}
        broken = {
            table.name: violations(connection, table) for table in (CHANNELS, CHANNEL_OPT_OUTS)
        }
        broken[DELIVERIES.name] = ledger.violations(connection, since=started)
    wrong = what_went_wrong(report)
    context.log.info(
        f"sent {report.sent}, failed {report.failed}, cancelled {sum(report.cancelled.values())}, "
        f"put off {report.put_off}, left due {report.left}"
        + (f", stopped by {report.stopped_by}" if report.stopped_by else "")
    )
    for table in TABLES:
        told = as_metadata(report, clock()) if table is DELIVERIES else {}
        yield dg.MaterializeResult(
            asset_key=asset_key(table), metadata={"dagster/row_count": rows[table.name], **told}
        )
        yield contract_check(table, broken[table.name])
    yield dg.AssetCheckResult(
        asset_key=asset_key(DELIVERIES),
        check_name=DELIVERY_SUCCEEDED.name,
        passed=wrong is None,
        severity=dg.AssetCheckSeverity.ERROR,
        description=wrong,
    )


def what_went_wrong(report: DeliveryReport) -> str | None:
    """Why messages could not leave, in words; None if they could."""
    said = []
    if report.misconfigured:
        waiting, listed = _listed(report.misconfigured)
        said.append(
            f"{waiting} messages met a wrong address or key, and wait"
            + (
                "; the rest waits until it is an hour late"
                if report.stopped_by == "misconfigured"
                else ""
            )
            + f": {listed}"
        )
    opened_at = report.breaker.opened_at
    if opened_at is not None:
        said.append(
            f"the channel's breaker is open since {opened_at:%Y-%m-%d %H:%M:%S} UTC, after "
            f"{report.breaker.failures_in_a_row} failures in a row"
            + (f", the last: {report.error}" if report.error else "")
        )
    if report.failed:
        said.append(f"{report.failed} messages were given up: {_listed(report.errors)[1]}")
    return "; ".join(said) or None


def as_metadata(report: DeliveryReport, now: datetime) -> Metadata:
    """What a run came to, as its asset shows it at its end."""
    cancelled = sorted(report.cancelled.items())
    return {
        "as_of": now.isoformat(),
        "sent": report.sent,
        "failed": report.failed,
        "cancelled": dg.MetadataValue.md(counts_table(cancelled, title="reason", unit="messages")),
        "cancelled_messages": sum(report.cancelled.values()),
        "why_cancelled": ", ".join(f"{reason}: {count:,}" for reason, count in cancelled) or "-",
        "put_off": report.put_off,
        "attempts": report.attempts,
        "left_due": report.left,
        "breaker": report.breaker.state(now),
        "stopped_by": report.stopped_by or "nothing: no more was due",
    }


def _listed(errors: Mapping[str, int]) -> tuple[int, str]:
    """How many there are, and each with how often."""
    told = "; ".join(f"{error} ({times})" for error, times in sorted(errors.items()))
    return sum(errors.values()), told


def _now() -> datetime:
    return datetime.now(UTC)
