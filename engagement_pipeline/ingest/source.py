"""Which files of a folder hold which input table.

Only names and kinds of files are looked at here; no file is opened (see `inspection`, `reading`).
"""

from dataclasses import dataclass, field
from pathlib import Path

from engagement_pipeline.contracts import contract, contracts, inputs
from engagement_pipeline.ingest.errors import SourceError

ENDINGS: dict[str, tuple[str, bool]] = {
    ".csv": ("csv", False),
    ".csv.gz": ("csv", True),
    ".jsonl": ("jsonl", False),
    ".jsonl.gz": ("jsonl", True),
    ".parquet": ("parquet", False),
}
"""Ending of a file's name -> its format, and whether it is gzip-compressed."""

# The schema `raw` also holds what ingestion keeps about its own work, which no source may bring.
INPUT_TABLES = tuple(c.name for c in contracts("raw") if c.model.__module__ == inputs.__name__)
"""The bare names of the tables that a source may bring."""


@dataclass(frozen=True)
class SourceFile:
    """A file that holds rows of `table` (its bare name, such as `attendance`)."""

    table: str
    path: Path
    format: str
    is_gzip: bool = False


@dataclass
class Discovery:
    """What a folder holds.

    `files`: per table its files, by name; a later file is later in the order that breaks ties.
    `problems`: per table the sentences that say why it cannot be loaded in full.
    `ignored`: what was found and belongs to no table, by name.
    Every input table has an entry in `files` and `problems`, empty where there is nothing.
    """

    files: dict[str, list[SourceFile]] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)


def discover(folder: Path) -> Discovery:
    """Find the input tables' files in `folder`: `<table>.csv` and so on, and `<table>/` of such.

    Endings are matched as they are spelled in `ENDINGS`, in lower case.

    Raises:
        SourceError: `folder` is absent, is no folder, or cannot be listed.
    """
    found = Discovery({t: [] for t in INPUT_TABLES}, {t: [] for t in INPUT_TABLES})
    for entry in _entries_of_source(folder):
        table, ending = _split(entry.name)
        if table in INPUT_TABLES and ending:
            _add_file(found, table, entry, ending)
        elif entry.name in INPUT_TABLES and entry.is_dir():
            _add_folder(found, entry.name, entry)
        else:
            found.ignored.append(entry)
    for table in INPUT_TABLES:
        is_required = contract(f"raw.{table}").is_required
        found.files[table].sort(key=lambda file: (file.path.name, str(file.path)))
        if is_required and not found.files[table] and not found.problems[table]:
            names = ", ".join(f"{table}{ending}" for ending in ENDINGS)
            found.problems[table].append(
                f"{folder}: expected one of {names}, or a folder {table}/ of such files, found none"
            )
    return found


def _split(name: str) -> tuple[str, str]:
    """`attendance.csv.gz` -> (`attendance`, `.csv.gz`); the ending is empty if it is unknown."""
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.endswith(ending):
            return name.removesuffix(ending), ending
    return name, ""


def _entries_of_source(folder: Path) -> list[Path]:
    if not folder.exists():
        raise SourceError(f"{folder}: expected a folder of input tables, found nothing there")
    if not folder.is_dir():
        raise SourceError(f"{folder}: expected a folder of input tables, found a file")
    try:
        return _listed(folder)
    except OSError as error:
        raise SourceError(
            f"{folder}: expected a folder that can be listed, found {error.strerror}"
        ) from error


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda entry: entry.name)


def _add_file(found: Discovery, table: str, entry: Path, ending: str) -> None:
    if not entry.is_file():
        what = "a folder" if entry.is_dir() else "something else (a broken link or a device)"
        found.problems[table].append(f"{entry}: expected a file, found {what}")
        return
    file_format, is_gzip = ENDINGS[ending]
    found.files[table].append(SourceFile(table, entry, file_format, is_gzip))


def _add_folder(found: Discovery, table: str, folder: Path) -> None:
    try:
        entries = _listed(folder)
    except OSError as error:
        found.problems[table].append(
            f"{folder}: expected a folder that can be listed, found {error.strerror}"
        )
        return
    for entry in entries:
        _, ending = _split(entry.name)
        if ending:
            _add_file(found, table, entry, ending)
        else:
            found.ignored.append(entry)
