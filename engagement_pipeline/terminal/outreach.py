"""Outreach from a terminal: a cycle, a look at what one would do, a message by hand, and sending.

What is shown and how belongs to `outreach_commands`.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl

from engagement_pipeline.behavior.local_time import known_zones
from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.defs.metadata import asset_key
from engagement_pipeline.defs.resources import parse_moment
from engagement_pipeline.outreach.occasions import cycle_id
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal.daily import Outcome
from engagement_pipeline.terminal.running import JobRun, dagster_instance, run_job, turn
from engagement_pipeline.warehouse.connection import Warehouse, WarehouseError
from engagement_pipeline.warehouse.outreach_plans import counts_of, messages_of, planned_by_type
from engagement_pipeline.warehouse.schema import upgrade

Row = dict[str, Any]
SENT_AT_ONCE = 10_000
"""Messages that a cycle sends of those that are due. What is left is for `process-outreaches`."""

_DELIVERED = ("sent", "failed", "cancelled_messages", "why_cancelled", "put_off", "left_due")
_SHOWN = (
    "org_id",
    "user_id",
    "outreach_type",
    "trigger",
    "template_id",
    "status",
    "send_at",
    "text",
)


@dataclass
class Report:
    """What came of jobs of outreach.

    Attributes:
        outcome: of the jobs, publishing included.
        stats: what the cycle decided, as `CycleStats` and what was planned; empty without one.
        organisations: the same in each organisation.
        delivery: what was sent; None where nothing was to be.
        messages: what was planned by hand.
        refused: organisation -> why nothing was planned there.
        not_sent: why nothing was sent that was to be; None: it was, or there was no such wish.
    """

    outcome: Outcome
    stats: Row = field(default_factory=dict)
    organisations: list[Row] = field(default_factory=list)
    delivery: Row | None = None
    messages: list[Row] = field(default_factory=list)
    refused: Row = field(default_factory=dict)
    not_sent: str | None = None


@dataclass
class DryRun:
    """What a cycle would do.

    Attributes:
        stats: as of `Report`.
        decisions: one a member.
        messages: what would be planned; of who is held out, what is withheld.
        failed: organisation -> why nobody could be decided on.
    """

    stats: Row
    decisions: list[Row]
    messages: list[Row]
    failed: dict[str, str]


def cycle(
    settings: Settings,
    *,
    as_of: str | None,
    org_ids: Sequence[str],
    processes: bool = True,
    is_verbose: bool = False,
) -> Report:
    """Decide and plan, send what is due unless told not to, and publish.

    Where messages really leave nothing is sent for another moment than now.

    Raises:
        WarehouseError: there is no warehouse, so that there is nobody to decide on.
    """
    # Fixed here, so that the cycle is known by it.
    moment = _moment(as_of)
    given = {"outreach_cycle": {"config": {"org_ids": list(org_ids)}}}
    jobs: list[tuple[str, str, Row]] = [("schedule_outreach", moment.isoformat(), given)]
    is_for_now = as_of is None or settings.outreach_channel == "log"
    if processes and is_for_now:
        jobs.append(_sending(as_of, SENT_AT_ONCE))
    report = _run(settings, jobs, is_verbose)
    if processes and not is_for_now:
        report.not_sent = (
            f"nothing was sent: by {settings.outreach_channel} messages leave now, and not as of "
            f"{as_of}. What is due: engagement process-outreaches"
        )
    if report.outcome.jobs[0].is_success:
        with Warehouse.of(settings).open() as connection:
            known_as = cycle_id("engagement", moment)
            rows = counts_of(connection, known_as, org_ids)
            report.stats = _stats(rows, planned_by_type(connection, known_as, org_ids))
            report.organisations = rows.drop("cycle_id", "computed_at").to_dicts()
    return report


def schedule(
    settings: Settings,
    *,
    user_id: str,
    outreach_type: str,
    org_id: str | None,
    as_of: str | None,
    is_verbose: bool = False,
) -> Report:
    """Plan one message by hand, and publish.

    Raises:
        WarehouseError: there is no warehouse, so that there is nobody to write to.
    """
    moment = _moment(as_of)
    config = {"user_id": user_id, "outreach_type": outreach_type, "org_id": org_id or ""}
    given = {"plan_message": {"config": config}}
    report = _run(settings, [("schedule_message", moment.isoformat(), given)], is_verbose)
    if report.outcome.jobs[0].is_success:
        with Warehouse.of(settings).open() as connection:
            known_as = cycle_id("manual", moment)
            rows = messages_of(connection, known_as, user_id=user_id)
        report.messages = rows.select(_SHOWN).to_dicts()
    return report


def process(
    settings: Settings, *, limit: int, as_of: str | None, is_verbose: bool = False
) -> Report:
    """Send what is due, and publish.

    Raises:
        WarehouseError: there is no warehouse, so that nothing is due.
    """
    return _run(settings, [_sending(as_of, limit)], is_verbose)


def dry_run(settings: Settings, *, as_of: str | None, org_ids: Sequence[str]) -> DryRun:
    """What a cycle would decide and plan; nothing is written, and no model is asked.

    Raises:
        WarehouseError: there is no warehouse.
        StaleSignalsError: what is known of members is not of the moment.
        UnknownOrgError: there is no such organisation.
    """
    from engagement_pipeline.defs.outreach_cycle import run_cycle

    _check_warehouse(settings)
    moment = _moment(as_of)
    log: Any = logging.getLogger(__name__)
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=datetime.now(UTC))
        found = run_cycle(
            connection,
            settings,
            as_of=moment,
            computed_at=moment,
            log=log,
            is_dry_run=True,
            org_ids=org_ids,
        )
    decisions = pl.concat(found.decisions) if found.decisions else pl.DataFrame()
    stats = found.stats
    return DryRun(
        {
            "total": stats.total,
            "eligible": stats.eligible,
            "skipped": stats.skipped,
            "by_segment": dict(stats.by_segment),
            "skip_reasons": dict(stats.skip_reasons),
            "messages": found.messages,
            "withheld": sum(one.worded is None for one in found.planned),
        },
        decisions.drop("cycle_id", "decided_at", strict=False).sort(pl.all()).to_dicts(),
        [_would_be_sent(one) for one in found.planned],
        found.failed,
    )


def _would_be_sent(planned: Any) -> Row:
    recipient, candidate, worded = planned.recipient, planned.candidate, planned.worded
    zone = ZoneInfo(known_zones(pl.Series([recipient.zone], dtype=pl.String))[0])
    return {
        "org_id": recipient.org_id,
        "user_id": recipient.user_id,
        "type": candidate.outreach_type,
        "trigger": candidate.trigger,
        "template": worded.template_id if worded else None,
        "send_at_local": planned.send_at.astimezone(zone).isoformat(timespec="minutes"),
        "send_at": planned.send_at,
        "text": worded.text if worded else None,
        "is_withheld": worded is None,
    }


def _sending(as_of: str | None, limit: int) -> tuple[str, str, Row]:
    given = {"outreach_delivery": {"config": {"limit": limit}}}
    return "process_outreach", parse_moment(as_of).isoformat() if as_of else "", given


def _run(settings: Settings, jobs: Sequence[tuple[str, str, Row]], is_verbose: bool) -> Report:
    """Run jobs, each if the one before went well, and publish in the end if the first one did."""
    _check_warehouse(settings)
    started = time.monotonic()
    home = {"home": str(settings.home)}
    report = Report(Outcome([], 0.0))
    done = report.outcome.jobs
    with turn(settings), dagster_instance(settings) as instance:
        for name, as_of, ops in jobs:
            options = {**home, "as_of": as_of}
            done.append(run_job(instance, name, options=options, ops=ops, is_verbose=is_verbose))
            if not done[-1].is_success:
                break
            if name == "process_outreach":
                told = _told(instance, done[-1], "outreach.deliveries")
                report.delivery = {key: told[key] for key in _DELIVERED}
            elif name == "schedule_message":
                told = _told(instance, done[-1], "outreach.messages")
                report.refused = json.loads(told["refused"])
        if done[0].is_success:
            published = run_job(instance, "publish", options=home, is_verbose=is_verbose)
            report.outcome.has_published = published.is_success
            done.append(published)
    report.outcome.seconds = time.monotonic() - started
    return report


def _told(instance: dg.DagsterInstance, job: JobRun, table: str) -> Mapping[str, Any]:
    """What a run told of a table: name -> value."""
    records = instance.get_records_for_run(
        job.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    wanted = asset_key(contract(table))
    for record in records:
        found = record.asset_materialization
        if found is not None and found.asset_key == wanted:
            return {name: value.value for name, value in found.metadata.items()}
    raise LookupError(f"{job.job_name}: expected that it told of {table}, found nothing")


def _stats(rows: pl.DataFrame, messages: Mapping[str, int]) -> Row:
    summed = rows.select(pl.col(pl.Int64).sum()).row(0, named=True)
    return {
        **{name: summed[name] for name in ("total", "eligible", "skipped")},
        "by_segment": {name: summed[name] for name in vocabulary.SEGMENTS},
        "skip_reasons": {name: summed[name] for name in vocabulary.SKIP_REASONS},
        "messages": dict(messages),
        "withheld": summed["withheld"],
    }


def _moment(as_of: str | None) -> datetime:
    return parse_moment(as_of) if as_of else datetime.now(UTC)


def _check_warehouse(settings: Settings) -> None:
    if not settings.warehouse_path.exists():
        raise WarehouseError(
            f"{settings.warehouse_path}: expected a warehouse to work on, found none. Take "
            "something in first: engagement run"
        )
