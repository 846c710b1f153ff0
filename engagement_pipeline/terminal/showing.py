"""How results look on a terminal, and as JSON for machines."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from engagement_pipeline.defs.progress import listening
from engagement_pipeline.settings import Settings

_PIPED_WIDTH = 180
"""Columns where nobody sees a terminal: rich would take 80, and cut ids into pieces."""

OUT = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
ERR = Console(stderr=True, width=None if sys.stderr.isatty() else _PIPED_WIDTH)

_NUMBER = (int, float)
_NARROWEST = 9
"""Columns of the terminal that a column of a table needs at least to be readable."""
_BLOCKS = 10


def table(rows: Sequence[Mapping[str, Any]], *, title: str) -> None:
    """Print rows as a table, numbers to the right."""
    if not rows:
        OUT.print(f"{title}: none", markup=False, highlight=False)
        return
    if len(rows[0]) * _NARROWEST > OUT.width:
        _vertical(rows, title)
        return
    drawn = Table(title=title, title_justify="left")
    for name, value in rows[0].items():
        is_number = isinstance(value, _NUMBER) and not isinstance(value, bool)
        drawn.add_column(
            name,
            justify="right" if is_number else "left",
            overflow="fold",
            # Ids are there to be copied.
            no_wrap=is_number or name.endswith("_id"),
        )
    for row in rows:
        drawn.add_row(*(_plain(cell(value)) for value in row.values()))
    OUT.print(drawn)


def _vertical(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Too many columns to stand side by side: one line each, a block a row."""
    OUT.print(title, markup=False, highlight=False)
    for number, row in enumerate(rows[:_BLOCKS], start=1):
        table([{"column": name, "value": cell(v)} for name, v in row.items()], title=f"{number}")
    if len(rows) > _BLOCKS:
        OUT.print(f"… and {len(rows) - _BLOCKS:,} more; --json gives them all", markup=False)


def note(text: str) -> None:
    """Tell whoever watches what goes on."""
    ERR.print(text, markup=False, highlight=False)


def warn_of_missing_key(settings: Settings) -> None:
    """Tell whoever wants texts put to the model that it cannot be asked."""
    if settings.sentiment_llm and not settings.has_api_key:
        note(
            "sentiment_llm is on, but there is no ANTHROPIC_API_KEY: texts are scored by VADER "
            "alone, and are not scored again."
        )


def cell(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def as_json(value: Any) -> None:
    """Print a value as JSON, instants in ISO 8601."""
    OUT.file.write(json.dumps(value, default=_json_value, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def progress_bars(is_shown: bool) -> Iterator[None]:
    """Draw the progress that assets report while this holds."""
    if not is_shown:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=ERR, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def listen(work: str, done: int, total: int) -> None:
            if work not in tasks:
                tasks[work] = bars.add_task(work, total=total)
            bars.update(tasks[work], completed=done, total=total)

        with listening(listen):
            yield


def _plain(text: str) -> Any:
    # Names and notes come from outside: square brackets in them are no markup.
    from rich.text import Text

    return Text(text)


def _json_value(value: Any) -> Any:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return str(value)
