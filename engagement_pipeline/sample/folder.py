"""The sample on disk: how its files are encoded, and how a folder of them comes to be.

Only this module of the sample touches the disk. A folder appears whole or not at all, and nothing
that someone else put there is ever overwritten.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from engagement_pipeline.sample.generator import sample_files
from engagement_pipeline.sample.layout import SampleFile

DEFAULT_SEED = 20260101
MANIFEST = ".sample-manifest.json"
"""Names and checksums of the files that were generated: how a sample knows its own."""

_ROW_GROUP_ROWS = 50_000
_GZIP_LEVEL = 6
_NAMED_AT_MOST = 5


class ForeignFilesError(FileExistsError):
    """The folder for the sample holds files that the generator did not make."""


def write_sample(folder: Path, *, as_of: datetime, seed: int = DEFAULT_SEED) -> list[Path]:
    """Write the sample as a source folder and return the paths of its data files, sorted.

    The same `(as_of, seed)` writes the same bytes. The folder comes into being in one rename; an
    older sample that is still as it was generated is replaced. Beside the data lies a hidden
    manifest, which is not among the returned paths.

    Raises `ForeignFilesError` if the folder holds anything else, or a sample that was edited.
    """
    folder = Path(folder)
    # A rename would replace a symbolic link itself, not the folder it stands for.
    target = folder.resolve()
    _refuse_foreign(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    contents = {file.path: encoded(file) for file in sample_files(as_of, seed)}
    workshop = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        staged = workshop / "new"
        _write_all(staged, contents)
        _refuse_foreign(target)
        _swap(staged, target, workshop / "old")
    finally:
        shutil.rmtree(workshop)
    return sorted(folder / path for path in contents)


def encoded(file: SampleFile) -> bytes:
    """The bytes of one file: fixed Parquet options, gzip without a time or a name inside."""
    if file.format == "parquet":
        buffer = io.BytesIO()
        file.frame.write_parquet(
            buffer,
            compression="zstd",
            compression_level=3,
            statistics=True,
            row_group_size=_ROW_GROUP_ROWS,
        )
        return buffer.getvalue()
    lines = _csv_lines(file) if file.format.startswith("csv") else _json_lines(file)
    text = "".join(f"{line}\n" for line in _with_broken_lines(file, lines)).encode()
    if not file.format.endswith(".gz"):
        return text
    return gzip.compress(text, compresslevel=_GZIP_LEVEL, mtime=0)


def _csv_lines(file: SampleFile) -> Iterator[str]:
    for cells in file.frame.iter_rows():
        yield _csv_line("true" if c is True else "false" if c is False else c for c in cells)


def _csv_line(cells: Iterator[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _json_lines(file: SampleFile) -> Iterator[str]:
    for row in file.frame.iter_rows(named=True):
        yield json.dumps(row, ensure_ascii=False)


def _with_broken_lines(file: SampleFile, lines: Iterator[str]) -> Iterator[str]:
    """The header, where there is one, the rows, and the broken lines in their places."""
    if file.format.startswith("csv"):
        yield _csv_line(iter(file.frame.columns))
    waiting = list(file.broken_lines)
    for number, line in enumerate(lines):
        while waiting and waiting[0][0] <= number:
            yield waiting.pop(0)[1]
        yield line
    yield from (line for _, line in waiting)


def _write_all(folder: Path, contents: dict[str, bytes]) -> None:
    checksums = {path: hashlib.sha256(body).hexdigest() for path, body in contents.items()}
    manifest = json.dumps({"files": checksums}, indent=2, sort_keys=True).encode() + b"\n"
    for path, body in {**contents, MANIFEST: manifest}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)


def _swap(staged: Path, target: Path, retired: Path) -> None:
    """Put the staged folder in the target's place; the old one comes back if that fails."""
    if target.exists():
        target.rename(retired)
    try:
        staged.rename(target)
    except OSError:
        if retired.exists():
            retired.rename(target)
        raise


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ForeignFilesError(f"{target} is a file; the sample needs a folder of its own.")
    foreign = _foreign_files(target)
    if foreign:
        named = ", ".join(foreign[:_NAMED_AT_MOST])
        more = f" and {len(foreign) - _NAMED_AT_MOST} more" if foreign[_NAMED_AT_MOST:] else ""
        raise ForeignFilesError(
            f"{target} holds files that the sample generator did not make, or that were changed "
            f"since: {named}{more}. Nothing was written; choose an empty folder or move them away."
        )


def _foreign_files(target: Path) -> list[str]:
    """Names of the files under a folder that its manifest does not vouch for."""
    present = {
        path.relative_to(target).as_posix(): path
        for path in sorted(target.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }
    manifest = present.pop(MANIFEST, None)
    if manifest is None:
        return list(present)
    try:
        own = json.loads(manifest.read_bytes())["files"]
    except (ValueError, KeyError, TypeError):
        own = None
    if not isinstance(own, dict):
        return [MANIFEST, *present]
    return [
        name
        for name, path in present.items()
        if path.is_symlink()
        or not path.is_file()
        or own.get(name) != hashlib.sha256(path.read_bytes()).hexdigest()
    ]
