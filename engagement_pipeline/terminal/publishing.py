"""Running a job from a terminal and publishing what it changed."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from engagement_pipeline.defs.resources import parse_moment
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal import reading
from engagement_pipeline.terminal.daily import Outcome
from engagement_pipeline.terminal.running import dagster_instance, run_job, turn
from engagement_pipeline.warehouse.connection import WarehouseError


def run_and_publish(
    settings: Settings,
    job_name: str,
    *,
    as_of: str | None,
    ops: Mapping[str, Any] | None = None,
    publishes: bool = True,
    is_verbose: bool = False,
) -> Outcome:
    """Run a job, then `publish` if it went well; `has_published` says whether it came to that.

    Raises:
        WarehouseError: there is no warehouse, so that there is nothing to work on.
    """
    if not settings.warehouse_path.exists():
        raise WarehouseError(
            f"{settings.warehouse_path}: expected a warehouse to work on, found none. Take "
            "something in first: engagement run"
        )
    started = time.monotonic()
    home = {"home": str(settings.home)}
    options = {**home, "as_of": parse_moment(as_of).isoformat() if as_of else ""}
    with turn(settings), dagster_instance(settings) as instance:
        jobs = [run_job(instance, job_name, options=options, ops=ops, is_verbose=is_verbose)]
        if jobs[0].is_success and publishes:
            jobs.append(run_job(instance, "publish", options=home, is_verbose=is_verbose))
    outcome = Outcome(jobs, time.monotonic() - started)
    outcome.has_published = jobs[-1].job_name == "publish" and jobs[-1].is_success
    return outcome


def stale_hint(settings: Settings, *, did: str, days: int) -> str | None:
    """What to say to whoever worked for now where the last scored moment lies `days` back or more.

    Args:
        settings: in force.
        did: what was done for now, such as `Learned`.
        days: how far the work looks back.
    """
    found = reading.ask(settings, "SELECT max(as_of) AS scored FROM marts.org_summary")
    scored: datetime | None = found["scored"].item()
    if scored is None or scored > datetime.now(UTC) - timedelta(days=days):
        return None
    return (
        f"{did} for now, but the last moment that was scored is {scored:%Y-%m-%d %H:%M} UTC, and "
        "little is known of the time since. To do it for that moment: "
        f"--as-of {scored:%Y-%m-%dT%H:%M}Z"
    )
