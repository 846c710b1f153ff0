"""Whether a source folder has changed since someone last looked at it.

Of each file size and time are compared, which is cheap, and it is read only where those differ:
a look has little time, and the whole source may be large. A file that was merely touched, renamed
or copied anew is no news, for its content is known.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from engagement_pipeline.ingest.errors import BadFileError
from engagement_pipeline.ingest.inspection import digest
from engagement_pipeline.ingest.source import discover


class SeenFile(NamedTuple):
    """One file at one look: its size in bytes, time (ns since the epoch) and content's sha256.

    Of a file that could not be read, `content` is the error's text, and size and time are None.
    """

    size: int | None
    modified_ns: int | None
    content: str


@dataclass(frozen=True)
class Look:
    """What a folder looked like.

    Attributes:
        contents: sha256 of the set of (table, content): the same as long as there is no news.
        files: path -> what was seen there.
    """

    contents: str
    files: Mapping[str, SeenFile]

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str | None) -> "Look | None":
        """A look that `as_text` wrote; None where there is none, or one of another version."""
        try:
            found = json.loads(text or "")
            files = {path: SeenFile(*seen) for path, seen in found["files"].items()}
            return cls(found["contents"], files)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


def look_at(folder: Path, before: Look | None) -> Look:
    """What the folder looks like now; equal to `before` where no file has changed.

    Raises:
        SourceError: `folder` is absent, is no folder, or cannot be listed.
    """
    known = before.files if before else {}
    found = [file for files in discover(folder).files.values() for file in files]
    seen = {str(file.path): _seen(file.path, known.get(str(file.path))) for file in found}
    contents = sorted({(file.table, seen[str(file.path)].content) for file in found})
    return Look(hashlib.sha256(json.dumps(contents).encode()).hexdigest(), seen)


def _seen(path: Path, before: SeenFile | None) -> SeenFile:
    try:
        if before is not None and _is_as_before(path, before):
            return before
        facts = digest(path)
    except BadFileError as error:
        # A file that cannot be read is news as well: the run it starts says so. It is tried again
        # at every look, for neither its size nor its time need change when it is mended.
        return SeenFile(None, None, str(error))
    return SeenFile(facts.bytes, facts.modified_ns, facts.sha256)


def _is_as_before(path: Path, before: SeenFile) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False  # reading it tells why
    return (stat.st_size, stat.st_mtime_ns) == (before.size, before.modified_ns)
