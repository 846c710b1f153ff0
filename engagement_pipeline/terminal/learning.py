"""Learning from a terminal: the tuning jobs, and where the loops stand."""

from typing import Any

from engagement_pipeline.contracts.vocabulary import ARCHETYPES, LOOP_STATES
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal import reading
from engagement_pipeline.terminal.daily import Outcome
from engagement_pipeline.terminal.publishing import run_and_publish

Row = dict[str, Any]


def tune(
    settings: Settings, job_name: str, *, as_of: str | None, is_verbose: bool = False
) -> Outcome:
    """Run one of the tuning jobs, then publish; the second also if an organisation failed.

    Raises:
        WarehouseError: there is no warehouse, so that there is nothing to learn from.
    """
    # Loading all definitions takes a second, which `engagement loops status` need not wait for.
    from engagement_pipeline.defs.jobs import LEARNED

    return run_and_publish(
        settings,
        job_name,
        as_of=as_of,
        ops=LEARNED[job_name],
        publishes=settings.loops_enabled,
        is_verbose=is_verbose,
    )


def by_archetype(rows: list[Row]) -> list[Row]:
    """Rows of `marts.loop_status`, one a loop: organisations by state, signals, calibrations."""
    found = []
    for archetype in ARCHETYPES:
        own = [row for row in rows if row["archetype"] == archetype]
        used = [row["consumer_last_used_at"] for row in own if row["consumer_last_used_at"]]
        found.append(
            {
                "loop": archetype,
                **{state: sum(row["state"] == state for row in own) for state in LOOP_STATES},
                "signals": sum(row["signals_in_window"] for row in own),
                "calibrations": sum(row["calibrations_in_force"] for row in own),
                "last used": max(used, default=None),
            }
        )
    return found


def of_one(rows: list[Row]) -> list[Row]:
    """Rows of `marts.loop_status` of one organisation, as they fit beside each other."""
    return [
        {
            "loop": row["archetype"],
            "state": row["state"],
            "signals": row["signals_in_window"],
            "in force": row["calibrations_in_force"],
            "expired": row["calibrations_expired"],
            "learned": row["learned_at"],
            "used": row["consumer_last_used_at"],
            "by": row["consumer"],
            "error": row["learning_error"],
        }
        for row in rows
    ]


def status(settings: Settings, org_id: str | None) -> list[Row]:
    """Where each loop of each organisation stands, as published.

    Raises:
        NotFoundError: there is no such organisation.
    """
    rows = reading.ask(settings, "SELECT * FROM marts.loop_status ORDER BY ALL").to_dicts()
    if org_id is None:
        return rows
    own = [row for row in rows if row["org_id"] == org_id]
    if not own:
        known = sorted({row["org_id"] for row in rows})
        raise reading.NotFoundError(
            f"organisation {org_id!r}: expected one of {', '.join(known[:20]) or 'none yet'}"
        )
    return own
