"""The commands of outreach: `cycle`, `schedule-outreach`, `process-outreaches`."""

from typing import Annotated, Any

import typer

from engagement_pipeline.contracts.vocabulary import OUTREACH_TYPES
from engagement_pipeline.settings import load_settings
from engagement_pipeline.terminal import showing
from engagement_pipeline.terminal.options import Debug, Json, RunFailedError, moment_option, show

_ROWS = 40
"""Decisions, and messages, that a look at a cycle prints; `--json` gives all."""


def add_to(app: typer.Typer) -> None:
    """Put the commands into the command line."""
    app.command(name="cycle")(cycle)
    app.command(name="schedule-outreach")(schedule_outreach)
    app.command(name="process-outreaches")(process_outreaches)


AsOfOption = Annotated[
    str | None,
    typer.Option(callback=moment_option, help="The moment to work for, ISO 8601; default: now."),
]


def _outreach_type(name: str) -> str:
    if name not in OUTREACH_TYPES:
        raise typer.BadParameter(f"expected one of {', '.join(OUTREACH_TYPES)}, found {name!r}")
    return name


def cycle(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be decided and planned.")
    ] = False,
    as_of: AsOfOption = None,
    org: Annotated[
        list[str] | None, typer.Option(help="Only this organisation; repeat for more.")
    ] = None,
    process: Annotated[bool, typer.Option(help="Send what is due afterwards.")] = True,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Decide on every member, plan messages, send what is due, and publish. Reaches members."""
    from engagement_pipeline.terminal import outreach

    settings = load_settings()
    if dry_run:
        found = outreach.dry_run(settings, as_of=as_of, org_ids=org or [])
        _show_dry_run(found, is_json)
        if found.failed:
            listed = [
                f"{one}: nobody could be decided on: {why}" for one, why in found.failed.items()
            ]
            raise RunFailedError("\n".join(listed))
        return
    with showing.progress_bars(not is_json and not debug):
        report = outreach.cycle(
            settings, as_of=as_of, org_ids=org or [], processes=process, is_verbose=debug
        )
    failures = report.outcome.failures
    if is_json:
        told = {**report.stats, "organisations": report.organisations}
        delivery = {"delivery": report.delivery, "not_sent": report.not_sent}
        showing.as_json({**told, **delivery, "failures": failures})
    elif report.stats:
        _show_stats(report.stats, "The cycle")
        if report.delivery is not None:
            showing.table([report.delivery], title="Messages that were due")
        if report.not_sent is not None:
            showing.note(report.not_sent)
    if failures:
        raise RunFailedError("\n".join(failures))


def schedule_outreach(
    user_id: Annotated[str, typer.Option(help="The person's id.")],
    kind: Annotated[
        str,
        typer.Option(
            "--type", callback=_outreach_type, help=f"One of {', '.join(OUTREACH_TYPES)}."
        ),
    ],
    org: Annotated[
        str | None, typer.Option(help="The organisation; default: all of the person's.")
    ] = None,
    as_of: AsOfOption = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Plan a message to one person for the person's best hour, and publish."""
    from engagement_pipeline.terminal import outreach

    report = outreach.schedule(
        load_settings(),
        user_id=user_id,
        outreach_type=kind,
        org_id=org,
        as_of=as_of,
        is_verbose=debug,
    )
    if is_json:
        showing.as_json({"messages": report.messages, "refused": report.refused})
    elif report.outcome.jobs[0].is_success:
        showing.table(report.messages, title="Planned")
        for org_id, why in report.refused.items():
            showing.note(f"{org_id}: refused: {why}")
    if report.outcome.failures:
        raise RunFailedError("\n".join(report.outcome.failures))


def process_outreaches(
    limit: Annotated[int, typer.Option(min=1, help="Messages to try at most.")] = 50,
    as_of: AsOfOption = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Send the messages that are due, and publish. Reaches members."""
    from engagement_pipeline.terminal import outreach

    report = outreach.process(load_settings(), limit=limit, as_of=as_of, is_verbose=debug)
    if report.delivery is not None:
        show(report.delivery, "Messages that were due", is_json)
    if report.outcome.failures:
        raise RunFailedError("\n".join(report.outcome.failures))


def _show_dry_run(found: Any, is_json: bool) -> None:
    if is_json:
        showing.as_json(vars(found))
        return
    _show_stats(found.stats, "What the cycle would decide")
    for rows, title in (
        (found.decisions, "Decisions"),
        (found.messages, "Messages that would be planned"),
    ):
        showing.table(
            [{name: showing.cell(value) for name, value in row.items()} for row in rows[:_ROWS]],
            title=title,
        )
        if len(rows) > _ROWS:
            showing.note(f"… and {len(rows) - _ROWS:,} more; --json gives them all")


def _show_stats(stats: dict[str, Any], title: str) -> None:
    plain = {name: stats[name] for name in ("total", "eligible", "skipped")}
    showing.table([plain], title=title)
    for name, told, unit in (
        ("by_segment", "Eligible members by segment", "members"),
        ("skip_reasons", "Skipped members by reason", "members"),
        ("messages", "Messages planned by type", "messages"),
    ):
        rows = [{"what": word, unit: count} for word, count in stats[name].items() if count]
        showing.table(rows, title=told)
    if stats["withheld"]:
        showing.note(f"{stats['withheld']:,} more are withheld from members of the holdout.")
