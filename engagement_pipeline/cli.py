"""The command line `engagement`: what the Dagster UI does, from a terminal.

Commands and their options belong here, but for those of the loops (`terminal.learning_commands`),
of behaviour (`terminal.behavior_commands`), of outreach (`terminal.outreach_commands`) and of
milestones (`terminal.milestones`); what they do is in `terminal`.
"""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from engagement_pipeline.contracts.vocabulary import LEVELS
from engagement_pipeline.settings import PROJECT_FOLDER, Settings, load_settings
from engagement_pipeline.terminal import (
    behavior_commands,
    learning_commands,
    milestones,
    outreach_commands,
    reading,
    showing,
    tasks,
)
from engagement_pipeline.terminal.knobs import knobs
from engagement_pipeline.terminal.options import Debug, Json, RunFailedError, moment_option, show

app = typer.Typer(
    help="Who is engaged, why, and what to do next, per organisation and member.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
override_app = typer.Typer(help="Set, clear and list overrides of levels.", no_args_is_help=True)
db_app = typer.Typer(help="The warehouse file.", no_args_is_help=True)
app.add_typer(override_app, name="override")
app.add_typer(db_app, name="db")
learning_commands.add_to(app)
behavior_commands.add_to(app)
outreach_commands.add_to(app)
milestones.add_to(app)
tasks.add_to(app)

OrgOption = Annotated[str, typer.Option("--org", help="The organisation's id.")]
UserOption = Annotated[str, typer.Option("--user", help="The member's id.")]


_DEMO_DAYS_BEFORE = (28, 7, 0)


def _classifier(name: str | None) -> str | None:
    known = get_args(Settings.model_fields["classifier"].annotation)
    if name is not None and name not in known:
        raise typer.BadParameter(f"expected one of {', '.join(known)}, found {name!r}")
    return name


AtOption = Annotated[
    str | None,
    typer.Option("--at", callback=moment_option, help="When it was decided; default: now."),
]


@app.command()
def run(
    source: Annotated[str | None, typer.Option(help="Folder with the input tables.")] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            callback=moment_option, help="The moment to compute for, ISO 8601 in UTC; default: now."
        ),
    ] = None,
    org: Annotated[
        list[str] | None, typer.Option(help="Classify only this organisation; repeat for more.")
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(callback=_classifier, help="auto, rules, anthropic or anthropic-batch."),
    ] = None,
    max_cost_usd: Annotated[
        float | None,
        typer.Option(min=0, help="Dollars the run may spend on the model; default: the setting."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    wait: Annotated[
        bool, typer.Option(help="Wait for a batch of questions to the model, where one is out.")
    ] = True,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take in new files, compute signals, classify, and publish."""
    from engagement_pipeline.terminal import daily

    settings = load_settings(source=source, classifier=classifier, max_cost_usd=max_cost_usd)
    showing.warn_of_missing_key(settings)
    if dry_run:
        from engagement_pipeline.terminal.plan import plan

        row = plan(settings, as_of=as_of, org_ids=org or []).as_row()
        if is_json:
            showing.as_json(row)
            return
        notes = [row.pop(name) for name in ("refusal", "note")]
        showing.table([row], title="The plan")
        for note in filter(None, notes):
            showing.note(note)
        return
    with showing.progress_bars(not is_json and not debug):
        outcome = daily.run(
            settings, as_of=as_of, org_ids=org or [], is_verbose=debug, waits_for_batches=wait
        )
    _show_outcome(settings, outcome, is_json)


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Seed of the sample data.")] = 20260101,
    as_of: Annotated[
        str,
        typer.Option(
            callback=moment_option, help="The moment the sample ends and is computed for."
        ),
    ] = "2026-06-30T04:00:00Z",
    classifier: Annotated[
        str,
        typer.Option(callback=_classifier, help="Who gives the levels; the rules cost nothing."),
    ] = "rules",
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Generate sample data in `data/sample`, and run the pipeline on it, at three moments."""
    from engagement_pipeline.defs.resources import parse_moment
    from engagement_pipeline.sample import write_sample
    from engagement_pipeline.terminal import daily

    settings = load_settings()
    moment = parse_moment(as_of)
    paths = write_sample(settings.sample_folder, as_of=moment, seed=seed)
    if not is_json:
        showing.OUT.print(f"{len(paths)} sample files in {settings.sample_folder}")
    sampled = load_settings(source=str(settings.sample_folder), classifier=classifier)
    # Levels of one day alone would show no changes, and nobody moving.
    for days_before in _DEMO_DAYS_BEFORE:
        then = (moment - timedelta(days=days_before)).isoformat()
        if not is_json:
            showing.OUT.print(f"Running the pipeline as of {then}")
        with showing.progress_bars(not is_json and not debug):
            outcome = daily.run(sampled, as_of=then, org_ids=[], is_verbose=debug)
        if outcome.failures:
            break
    _show_outcome(sampled, outcome, is_json)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 3000,
) -> None:
    """Start the Dagster UI, with its schedules and sensors, on this machine only."""
    from engagement_pipeline.terminal.running import prepare_dagster_home

    prepare_dagster_home(load_settings())
    command = [
        str(Path(sys.executable).with_name("dagster")),
        "dev",
        "--workspace",
        str(PROJECT_FOLDER / "workspace.yaml"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    raise typer.Exit(subprocess.call(command, cwd=PROJECT_FOLDER))


@app.command()
def query(
    sql: Annotated[
        str, typer.Argument(help='Such as "SELECT org_name, members FROM marts.org_summary".')
    ],
    is_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Run SQL on the published file, which holds the schema `marts`."""
    rows = reading.ask(load_settings(), sql).to_dicts()
    show(rows, f"{len(rows):,} rows", is_json)


@app.command()
def status(is_json: Json = False, _debug: Debug = False) -> None:
    """What is published, how the last runs ended, and what was left failed."""
    from engagement_pipeline.terminal import daily

    found = daily.status(load_settings())
    if is_json:
        showing.as_json(found)
        return
    for title, rows in found.items():
        showing.table(rows, title=title.replace("_", " ").capitalize())


@app.command()
def explain(org: OrgOption, user: UserOption, is_json: Json = False, _debug: Debug = False) -> None:
    """A member's signals, level, why, and history."""
    found = reading.explain(load_settings(), org, user)
    if is_json:
        showing.as_json(vars(found))
        return
    for title, row in (("Member", found.member), ("Signals", found.signals)):
        shown = [{"what": name, "value": showing.cell(value)} for name, value in row.items()]
        showing.table(shown, title=title)
    showing.table(found.history, title="History")


@app.command(name="eval")
def eval_command(
    classifier: Annotated[
        str | None,
        typer.Option(callback=_classifier, help="auto, rules, anthropic or anthropic-batch."),
    ] = None,
    max_cost_usd: Annotated[
        float | None,
        typer.Option(min=0, help="Dollars that may be spent on the model; default: the setting."),
    ] = None,
    is_json: Json = False,
    _debug: Debug = False,
) -> None:
    """How good the classifier is on the golden set, and how steady when asked otherwise."""
    from engagement_pipeline.terminal import evaluation

    found = evaluation.run(load_settings(classifier=classifier, max_cost_usd=max_cost_usd))
    if is_json:
        showing.as_json(found.as_dict())
        return
    row = found.as_dict()
    flips = [
        {"way of asking": way, "flip rate": rate} for way, rate in row.pop("flip_rates").items()
    ]
    disagreements = row.pop("disagreements")
    showing.table(
        [{"measure": k, "value": showing.cell(v)} for k, v in row.items()], title="Quality"
    )
    showing.table(flips, title="Levels that differ from the reference")
    showing.table(disagreements, title="Differs from what people expect")


@app.command(name="settings")
def settings_command(is_json: Json = False, _debug: Debug = False) -> None:
    """Every setting, its value, and where that came from."""
    show([vars(knob) for knob in knobs(load_settings())], "Settings", is_json)


@app.command()
def export(
    to: Annotated[Path, typer.Option(help="Folder to write into.")],
    mart: Annotated[list[str] | None, typer.Option(help="Only this mart; repeat for more.")] = None,
    kind: Annotated[str, typer.Option("--format", help="csv, jsonl or parquet.")] = "csv",
    is_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Write the published marts as files."""
    if kind not in reading.EXPORT_KINDS:
        raise typer.BadParameter(f"--format: expected one of {reading.EXPORT_KINDS}, found {kind}")
    paths = reading.export(load_settings(), to, mart or [], kind)
    show([{"file": str(path)} for path in paths], "Exported", is_json)


@override_app.command("set")
def override_set(
    org: OrgOption,
    user: UserOption,
    level: Annotated[str, typer.Option(help=f"One of {', '.join(LEVELS)}.")],
    notes: Annotated[str, typer.Option(help="Why.")],
    by: Annotated[str, typer.Option(help="User id of the admin who decides.")],
    expires_at: Annotated[
        str | None, typer.Option(callback=moment_option, help="When it ends; default: never.")
    ] = None,
    at: AtOption = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Set a member's level, and publish."""
    if level not in LEVELS:
        raise typer.BadParameter(f"--level: expected one of {', '.join(LEVELS)}, found {level!r}")
    given = {"level": level, "expires_at": expires_at}
    _override("override_engagement", "set_override", given, org, user, notes, by, at, debug)
    show(reading.overrides(load_settings(), org), "Overrides in force", is_json)


@override_app.command("clear")
def override_clear(
    org: OrgOption,
    user: UserOption,
    notes: Annotated[str, typer.Option(help="Why.")],
    by: Annotated[str, typer.Option(help="User id of the admin who decides.")],
    at: AtOption = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take back a member's override, and publish."""
    _override("clear_override", "remove_override", {}, org, user, notes, by, at, debug)
    show(reading.overrides(load_settings(), org), "Overrides in force", is_json)


@override_app.command("list")
def override_list(
    org: Annotated[str | None, typer.Option(help="Only this organisation.")] = None,
    is_json: Json = False,
    _debug: Debug = False,
) -> None:
    """The overrides in force, as published."""
    show(reading.overrides(load_settings(), org), "Overrides in force", is_json)


@db_app.command("upgrade")
def db_upgrade(is_json: Json = False, _debug: Debug = False) -> None:
    """Bring the warehouse up to this version's schema."""
    from engagement_pipeline.warehouse.connection import Warehouse
    from engagement_pipeline.warehouse.schema import upgrade

    with Warehouse.of(load_settings()).open() as connection:
        applied = upgrade(connection, now=datetime.now(UTC))
    rows = [{"version": m.version, "what": m.title} for m in applied]
    show(rows, "Migrations applied", is_json)


def _override(
    job_name: str,
    op: str,
    given: dict[str, Any],
    org: str,
    user: str,
    notes: str,
    by: str,
    at: str | None,
    debug: bool,
) -> None:
    from engagement_pipeline.terminal import daily

    config = {
        "org_id": org,
        "user_id": user,
        "notes": notes,
        "performed_by": by,
        "performed_at": at,
        **given,
    }
    outcome = daily.override(load_settings(), job_name, op, config, is_verbose=debug)
    if outcome.failures:
        raise RunFailedError("\n".join(outcome.failures))


def _show_outcome(settings: Settings, outcome: Any, is_json: bool) -> None:
    if is_json:
        showing.as_json(outcome.as_dict())
    elif outcome.has_published:
        showing.table(outcome.levels, title="Members by level")
        showing.table(outcome.rejects, title="Rows rejected so far")
        showing.table(outcome.published, title=f"Published in {settings.published_path}")
        if outcome.waiting:
            showing.note(
                f"{len(outcome.waiting)} organisations wait for a batch, and keep the levels they "
                f"had, if any: {', '.join(outcome.waiting[:10])}. The next run takes it in, or the "
                "sensor collect_batches where `engagement ui` runs."
            )
        showing.OUT.print(f"Took {outcome.seconds:.1f} s. Look at it with: engagement ui")
    if outcome.failures:
        raise RunFailedError("\n".join(outcome.failures))


def main() -> None:
    """The entry point: 0 done, 1 something failed and was named, 2 usage."""
    debug = "--debug" in sys.argv
    try:
        app()
    except Exception as error:
        if debug:
            raise
        # One paragraph, whatever a library put between its lines.
        told = "\n".join(line for line in f"engagement: {error}".splitlines() if line.strip())
        showing.ERR.print(told, style="red", markup=False, highlight=False)
        sys.exit(1)
