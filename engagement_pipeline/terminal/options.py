"""What all commands of the command line share: options, failing by name, and showing rows."""

from typing import Annotated, Any

import typer

from engagement_pipeline.terminal import showing

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
# Every command takes it: `main` shows the traceback, also of those that do nothing with it.
Debug = Annotated[bool, typer.Option("--debug", help="Show logs and tracebacks.")]


class RunFailedError(Exception):
    """Something failed and has been named; the exit status is 1."""


def moment_option(text: str | None) -> str | None:
    """The text of an option that must be a moment; usage where it is none."""
    from engagement_pipeline.defs.resources import BadRunOptionError, parse_moment

    try:
        if text is not None:
            parse_moment(text)
    except BadRunOptionError:
        raise typer.BadParameter(
            f"expected a moment such as 2026-01-31T04:00:00Z, found {text!r}"
        ) from None
    return text


def show(rows: Any, title: str, is_json: bool) -> None:
    """Rows as a table with a title, or as JSON."""
    if is_json:
        showing.as_json(rows)
    else:
        showing.table(rows if isinstance(rows, list) else [rows], title=title)
