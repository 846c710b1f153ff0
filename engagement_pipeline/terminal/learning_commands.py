"""The commands of the loops: tuning, where the loops stand, and what words mean."""

from typing import Annotated

import typer

from engagement_pipeline.settings import Settings, load_settings
from engagement_pipeline.terminal import showing
from engagement_pipeline.terminal.options import Debug, Json, RunFailedError, moment_option
from engagement_pipeline.terminal.publishing import stale_hint

vocabulary_app = typer.Typer(
    help="Values that no vocabulary knows, and what they mean.", no_args_is_help=True
)
loops_app = typer.Typer(help="What the pipeline learns from what happened.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Put the commands into the command line."""
    app.add_typer(vocabulary_app, name="vocabulary")
    app.add_typer(loops_app, name="loops")
    app.command(name="tune-engagement")(tune_engagement)
    app.command(name="tune-thresholds")(tune_thresholds)


AsOfOption = Annotated[
    str | None,
    typer.Option(callback=moment_option, help="The moment to learn for, ISO 8601; default: now."),
]


def tune_engagement(as_of: AsOfOption = None, is_json: Json = False, debug: Debug = False) -> None:
    """Learn from what was read, accepted and answered; plan digests; publish."""
    _tune("tune_engagement", as_of, is_json, debug)


def tune_thresholds(as_of: AsOfOption = None, is_json: Json = False, debug: Debug = False) -> None:
    """Learn from overrides where levels should begin; publish."""
    _tune("tune_thresholds", as_of, is_json, debug)


@loops_app.command("status")
def loops_status(
    org: Annotated[str | None, typer.Option(help="Only this organisation, loop by loop.")] = None,
    is_json: Json = False,
    _debug: Debug = False,
) -> None:
    """Where each loop stands: signals, what was learned, and who used it last."""
    _loop_status(load_settings(), org, is_json)


@vocabulary_app.command("list")
def vocabulary_list(is_json: Json = False, _debug: Debug = False) -> None:
    """Values that rows were quarantined for, the term nearest to each, and what was accepted."""
    from engagement_pipeline.terminal import vocabulary

    found = vocabulary.listed(load_settings())
    if is_json:
        showing.as_json(found)
        return
    showing.table(found["candidates"], title="Values that are not known")
    showing.table(found["mappings"], title="What was said that values mean")


@vocabulary_app.command("accept")
def vocabulary_accept(
    column: Annotated[
        str, typer.Argument(metavar="TABLE.COLUMN", help="Such as attendance.status.")
    ],
    value: Annotated[str, typer.Argument(help="The value, as the files have it.")],
    term: Annotated[str, typer.Argument(help="The known term that it means.")],
    org: Annotated[
        str | None, typer.Option("--org", help="Only this organisation means it so; default: all.")
    ] = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what a value means; the rows that were quarantined for it load at the next run."""
    from engagement_pipeline.loops.vocabulary import VocabularyError
    from engagement_pipeline.terminal import vocabulary

    settings = load_settings()
    try:
        mapping = vocabulary.check(settings, column, value, term, org)
    except VocabularyError as error:
        raise typer.BadParameter(str(error)) from None
    run = vocabulary.accept(settings, column, value, term, org, is_verbose=debug)
    if run.failures:
        raise RunFailedError("\n".join(run.failures))
    if is_json:
        showing.as_json(mapping)
        return
    whose = f"in {org}" if org else "everywhere"
    waiting = vocabulary.rows_waiting(settings, column, mapping["value"], org)
    showing.note(
        f"{column}: {mapping['value']} means {mapping['term']} {whose}. Rows that were quarantined "
        f"for it load at the next run; there are {waiting:,} now."
    )


def _tune(job_name: str, as_of: str | None, is_json: bool, debug: bool) -> None:
    from engagement_pipeline.terminal import learning

    settings = load_settings()
    outcome = learning.tune(settings, job_name, as_of=as_of, is_verbose=debug)
    if not settings.loops_enabled:
        if is_json:
            showing.as_json([])
        else:
            showing.note("LOOPS_ENABLED is not `true`: nothing was recorded, learned or used.")
    elif outcome.has_published:
        _loop_status(settings, None, is_json)
        if as_of is None and not is_json:
            days = settings.engagement_lookback_days
            if hint := stale_hint(settings, did="Learned", days=days):
                showing.note(hint)
    if outcome.failures:
        raise RunFailedError("\n".join(outcome.failures))


def _loop_status(settings: Settings, org: str | None, is_json: bool) -> None:
    from engagement_pipeline.terminal import learning

    rows = learning.status(settings, org)
    if is_json:
        showing.as_json(rows)
        return
    if not settings.loops_enabled:
        showing.note("LOOPS_ENABLED is not `true`: the loops are off. This is how they stood.")
    as_of = f"as of {rows[0]['window_end']:%Y-%m-%d %H:%M} UTC" if rows else "nothing scored yet"
    if org is None:
        title = f"Organisations by where each loop stands, {as_of}"
        showing.table(learning.by_archetype(rows), title=title)
    else:
        showing.table(learning.of_one(rows), title=f"Loops of {org}, {as_of}")
