"""Whether a source folder has changed since someone last looked at it.

First the files' names, sizes and times are compared, which is cheap, and only where those differ
their contents: a file that was merely touched or copied anew is no news.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from engagement_pipeline.ingest.errors import BadFileError
from engagement_pipeline.ingest.inspection import digest
from engagement_pipeline.ingest.source import SourceFile, discover


@dataclass(frozen=True)
class Look:
    """What a folder looked like: sha256 of its files' names, sizes and times, and of the set of
    (table, content)."""

    outside: str
    contents: str

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str | None) -> "Look | None":
        """A look that `as_text` wrote; None where there is none, or one of another version."""
        try:
            return cls(**json.loads(text)) if text else None
        except (TypeError, ValueError):
            return None


def look_at(folder: Path, before: Look | None) -> Look:
    """What the folder looks like now; equal to `before` where no file has changed.

    Raises:
        SourceError: `folder` is absent, is no folder, or cannot be listed.
    """
    files = [file for table in discover(folder).files.values() for file in table]
    outside = _sha256([_outside(file) for file in files])
    if before is not None and before.outside == outside:
        return before
    return Look(outside, _sha256(sorted([file.table, _content(file)] for file in files)))


def _outside(file: SourceFile) -> list[object]:
    try:
        stat = file.path.stat()
    except OSError:
        return [str(file.path)]
    return [str(file.path), stat.st_size, stat.st_mtime_ns]


def _content(file: SourceFile) -> str:
    try:
        return digest(file.path).sha256
    except BadFileError as error:
        # A file that cannot be read is news as well: the run it starts says so.
        return str(error)


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
