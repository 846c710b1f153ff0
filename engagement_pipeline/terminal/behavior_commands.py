"""The commands of behaviour: `analyze-patterns`, `user-insights`, `train-models`, `analytics`."""

from typing import Annotated

import typer

from engagement_pipeline.settings import load_settings
from engagement_pipeline.terminal import behavior, showing
from engagement_pipeline.terminal.options import Debug, Json, RunFailedError, moment_option, show
from engagement_pipeline.terminal.publishing import stale_hint


def add_to(app: typer.Typer) -> None:
    """Put the commands into the command line."""
    app.command(name="analyze-patterns")(analyze_patterns)
    app.command(name="user-insights")(user_insights)
    app.command(name="train-models")(train_models)
    app.command(name="analytics")(analytics)


AsOfOption = Annotated[
    str | None,
    typer.Option(callback=moment_option, help="The moment to work for, ISO 8601; default: now."),
]


def analyze_patterns(
    user_id: Annotated[str | None, typer.Option(help="Only this person; default: all.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Members described at a time; default: as many as memory allows."),
    ] = None,
    as_of: AsOfOption = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score new interactions, describe how members behave, and publish."""
    settings = load_settings()
    showing.warn_of_missing_key(settings)
    with showing.progress_bars(not is_json and not debug):
        outcome = behavior.analyze(
            settings, user_id=user_id, batch_size=batch_size, as_of=as_of, is_verbose=debug
        )
    if outcome.has_published:
        rows = behavior.patterns_by_org(settings)
        if user_id is not None:
            rows = behavior.insights(settings, user_id)["patterns"]
        show(rows, "Patterns of the 30 days up to as_of", is_json)
        if as_of is None and not is_json and (hint := stale_hint(settings, did="Done", days=30)):
            showing.note(hint)
    if outcome.failures:
        raise RunFailedError("\n".join(outcome.failures))


def user_insights(
    user_id: Annotated[str, typer.Option(help="The person's id.")],
    is_json: Json = False,
    _debug: Debug = False,
) -> None:
    """All that is known of one person: level, patterns, predictions, and when to write."""
    found = behavior.insights(load_settings(), user_id)
    if is_json:
        showing.as_json(found)
        return
    for title, rows in found.items():
        for row in rows:
            told = [{"what": name, "value": showing.cell(value)} for name, value in row.items()]
            showing.table(told, title=f"{title.capitalize()} in {row['org_id']}")
        if not rows:
            showing.table([], title=title.capitalize())


def train_models(
    min_samples: Annotated[
        int | None,
        typer.Option(
            min=10, help="Samples that a model needs; default: the setting min_training_samples."
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            callback=moment_option,
            help="The moment to train for, ISO 8601; default: that of the last refresh.",
        ),
    ] = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train models of churn, mood and timing, predict by those that win, and publish."""
    settings = load_settings()
    if not is_json and settings.warehouse_path.exists():
        showing.note("Training takes a minute or two, and several on large communities.")
    with showing.progress_bars(not is_json and not debug):
        outcome = behavior.train(settings, min_samples=min_samples, as_of=as_of, is_verbose=debug)
    if outcome.has_published:
        trainings, metrics = behavior.trainings(settings), behavior.metrics(settings)
        if is_json:
            showing.as_json({"trainings": trainings, "metrics": metrics})
        else:
            showing.table(trainings, title="What was trained, and what serves")
            for target, rows in metrics.items():
                title = f"{target.capitalize()}: on members and times not trained on, 95 %"
                showing.table(rows, title=title)
    if outcome.failures:
        raise RunFailedError("\n".join(outcome.failures))


def analytics(
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How far to look back.")] = 30,
    is_json: Json = False,
    _debug: Debug = False,
) -> None:
    """What was said and attended in each organisation in the last whole days (UTC), and the mean
    probability of churn, where a model tells it."""
    rows = behavior.analytics(load_settings(), days)
    show(rows, f"The {days} whole days (UTC) before that of as_of", is_json)
