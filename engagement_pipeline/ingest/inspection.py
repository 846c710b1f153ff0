"""Facts about a file's bytes: what it is known by, and what its first bytes say it is.

Nothing here looks into rows. Whether a stretch of text needs the careful reader is judged block by
block while it is read (see `reading`), so a file is passed over once for its digest and once for
its rows, and never a third time.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from engagement_pipeline.ingest.errors import BadFileError
from engagement_pipeline.ingest.source import SourceFile

_CHUNK_BYTES = 1 << 20

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"PAR1", "Parquet"),
    (b"PARE", "encrypted Parquet"),
    (b"PK\x03\x04", "a zip archive (or a spreadsheet)"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"SQLite format 3", "an SQLite database"),
)


@dataclass(frozen=True)
class FileFacts:
    """What a file is known by: `sha256` (hexadecimal) and `bytes` of the file as stored.

    `modified_ns` (since the epoch) and `inode` tell whether it was changed or replaced since.
    """

    sha256: str
    bytes: int
    modified_ns: int
    inode: int


def digest(path: Path) -> FileFacts:
    """Pass over the file's bytes once, in chunks; of a gzip file, over the compressed bytes.

    Raises:
        BadFileError: the file cannot be read, or it changes meanwhile.
    """
    sha256 = hashlib.sha256()
    try:
        before = path.stat()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                sha256.update(chunk)
        facts = FileFacts(sha256.hexdigest(), before.st_size, before.st_mtime_ns, before.st_ino)
    except OSError as error:
        raise unreadable(path, error) from error
    ensure_unchanged(path, facts)
    return facts


def ensure_unchanged(path: Path, facts: FileFacts | os.stat_result) -> None:
    """Raise `BadFileError` if the file's size, time or identity is no longer that of `facts`."""
    if isinstance(facts, os.stat_result):
        was = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
    else:
        was = (facts.bytes, facts.modified_ns, facts.inode)
    try:
        now = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    if was != (now.st_size, now.st_mtime_ns, now.st_ino):
        raise BadFileError(
            path,
            f"a file that stays as it is while it is read ({was[0]} bytes)",
            f"that it was changed or replaced ({now.st_size} bytes)",
        )


def ensure_format(file: SourceFile) -> None:
    """Raise `BadFileError` if the file's first (and, of Parquet, last) bytes belie its name."""
    try:
        with file.path.open("rb") as stream:
            head = stream.read(16)
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 4))
            tail = stream.read(4)
    except OSError as error:
        raise unreadable(file.path, error) from error
    kind = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if file.is_gzip:
        if kind != "gzip":
            raise BadFileError(file.path, "gzip", _found(head, kind))
    elif file.format == "parquet":
        if kind != "Parquet":
            raise BadFileError(file.path, "Parquet (first bytes PAR1)", _found(head, kind))
        if tail != b"PAR1":
            raise BadFileError(
                file.path,
                "Parquet that ends with PAR1",
                f"a truncated file (it ends with {tail!r})",
            )
    elif kind:
        raise BadFileError(file.path, f"{file.format} as UTF-8 text", _found(head, kind))


def unreadable(path: Path, error: OSError) -> BadFileError:
    """The error for a file that the operating system will not give."""
    return BadFileError(path, "a readable file", error.strerror or str(error))


def _found(head: bytes, kind: str | None) -> str:
    if not head:
        return "an empty file"
    return kind or f"a file that begins with {head[:8]!r}"
