"""Milestones from a terminal: the commands `seed-milestones` and `milestone-progress`."""

from typing import Annotated, Any

import typer

from engagement_pipeline.settings import Settings, load_settings
from engagement_pipeline.terminal import reading, showing
from engagement_pipeline.terminal.options import Debug, Json, RunFailedError, moment_option, show
from engagement_pipeline.terminal.publishing import run_and_publish
from engagement_pipeline.warehouse import milestones as stored
from engagement_pipeline.warehouse.connection import Warehouse
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.published import open_published

Row = dict[str, Any]

NEAREST = 3
"""How many milestones that are nearly reached are named of each organisation."""


def add_to(app: typer.Typer) -> None:
    """Put the commands into the command line."""
    app.command(name="seed-milestones")(seed_milestones)
    app.command(name="milestone-progress")(milestone_progress)


def seed_milestones(
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Put the project's milestones in the place of those with the same id; otherwise "
            "only missing ones are added.",
        ),
    ] = False,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """Put the project's milestones into the catalogue, and publish. Others that are there stay."""
    settings = load_settings()
    outcome = run_and_publish(
        settings,
        "seed_milestones",
        as_of=None,
        ops={"milestones": {"config": {"overwrite_catalogue": overwrite}}},
        is_verbose=debug,
    )
    if outcome.has_published and not outcome.failures:
        show(catalogue(settings), "The catalogue of milestones", is_json)
    if outcome.failures:
        raise RunFailedError("\n".join(outcome.failures))


def milestone_progress(
    user_id: Annotated[str | None, typer.Option(help="Only this person; default: all.")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Count the days and the progress anew, plan celebrations, and publish."
        ),
    ] = False,
    as_of: Annotated[
        str | None,
        typer.Option(
            callback=moment_option,
            help="With --check: the moment to tell it for, ISO 8601; default: now.",
        ),
    ] = None,
    is_json: Json = False,
    debug: Debug = False,
) -> None:
    """How far members are on the way to milestones: per organisation, or of one person."""
    if as_of is not None and not check:
        raise typer.BadParameter("expected --check beside --as-of, found none")
    settings = load_settings()
    failures: list[str] = []
    if check:
        with showing.progress_bars(not is_json and not debug):
            outcome = run_and_publish(settings, "check_milestones", as_of=as_of, is_verbose=debug)
        failures = outcome.failures
        if not is_json and outcome.has_published:
            showing.note(
                "Celebrations of what was reached of late are planned as well; process-outreaches "
                "sends them, and marts.outreach_log has them."
            )
    if not check or outcome.has_published:
        if user_id is None:
            rows = progress_by_org(settings)
            show(rows, "Milestones by organisation", is_json)
            if not rows and not is_json:
                showing.note(
                    "Nothing was counted yet. To do it: engagement milestone-progress --check"
                )
        else:
            show(progress_of(settings, user_id), f"Milestones of {user_id}", is_json)
    if failures:
        raise RunFailedError("\n".join(failures))


def catalogue(settings: Settings) -> list[Row]:
    """The milestones of the warehouse, by category and from the easiest on."""
    with Warehouse.of(settings).open() as connection:
        rows = stored.catalogue(connection)
    return rows.drop("description", "seeded_at").sort(_ORDER).to_dicts()


_ORDER = ("category", "difficulty", "points", "milestone_id")


def progress_by_org(settings: Settings) -> list[Row]:
    """Each organisation's members with any progress, what they reached, and who is nearest."""
    with open_published(settings.published_path) as connection:
        return query(connection, _BY_ORG, {"nearest": NEAREST}).to_dicts()


_BY_ORG = """
    WITH ranked AS (
        SELECT *, row_number() OVER (
            PARTITION BY org_id ORDER BY reached_at IS NOT NULL, share DESC, user_id, milestone_id
        ) AS place
        FROM marts.milestone_progress
    )
    SELECT org_id, any_value(org_name) AS org_name, any_value(as_of) AS as_of,
           count(DISTINCT user_id) AS members, count(reached_at) AS reached,
           count(*) FILTER (WHERE reached_at > as_of - INTERVAL 7 DAY) AS reached_7d,
           count(celebrated_at) AS celebrated,
           string_agg(
               user_id || ': ' || name || ' ' || CAST(floor(100 * share) AS INTEGER) || ' %', ', '
               ORDER BY place
           ) FILTER (WHERE place <= $nearest AND reached_at IS NULL) AS nearest
    FROM ranked GROUP BY org_id ORDER BY org_id"""


def progress_of(settings: Settings, user_id: str) -> list[Row]:
    """One person's progress in every organisation: what is nearest first, what was reached last.

    Raises:
        NotFoundError: nothing is published of the person's milestones.
    """
    with open_published(settings.published_path) as connection:
        rows = query(
            connection,
            """SELECT org_id, name AS milestone, category, "current", target, share,
                      velocity_per_day, estimated_at, reached_at, celebrated_at
               FROM marts.milestone_progress WHERE user_id = $user
               ORDER BY org_id, reached_at IS NOT NULL, share DESC, reached_at DESC,
                        milestone_id""",
            {"user": user_id},
        ).to_dicts()
    if not rows:
        raise reading.NotFoundError(
            f"member {user_id!r}: expected milestones of a current member in "
            f"{settings.published_path}, found none. To count them anew: "
            "engagement milestone-progress --check"
        )
    return rows
