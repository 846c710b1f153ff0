"""A stream of bytes as blocks of whole lines, in bounded memory.

Lines end with a line feed. What a line means (CSV, JSON) is not known here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

BLOCK_BYTES = 16 << 20
"""Bytes read at a time: large enough that a block's fixed costs vanish, small enough to hold."""

MAX_LINE_BYTES = 1 << 20
"""No row of an input table comes near: its longest text is 65,536 characters."""

LINE_TEXT_CHARACTERS = 4_096
"""How much of a line that cannot be read is kept."""


@dataclass(frozen=True)
class LineBlock:
    """Whole lines; only the very last one of a stream may lack its line feed."""

    data: bytes


@dataclass(frozen=True)
class OverlongLine:
    """A line of more than `MAX_LINE_BYTES`: only its beginning was held."""

    head: bytes


def line_blocks(
    stream: IO[bytes], block_bytes: int = BLOCK_BYTES
) -> Iterator[LineBlock | OverlongLine]:
    """Give the stream's lines in order, in blocks of about `block_bytes`.

    At most one block and one line are held at a time, however long a line is.
    """
    rest = b""
    while chunk := stream.read(block_bytes):
        data = rest + chunk
        cut = data.rfind(b"\n") + 1
        yield from _without_overlong(data[:cut])
        rest = data[cut:]
        if len(rest) > MAX_LINE_BYTES:
            head = rest[: 4 * LINE_TEXT_CHARACTERS]
            rest = _skip_line(stream, block_bytes)
            yield OverlongLine(head)
    yield from _without_overlong(rest)


def as_line_text(line: bytes) -> str:
    """A line as text that can be kept: at most 4,096 characters, unreadable bytes escaped."""
    head = line[: 4 * LINE_TEXT_CHARACTERS].decode("utf-8", "backslashreplace")
    return head.replace("\0", "\\x00")[:LINE_TEXT_CHARACTERS].rstrip("\r\n")


def _skip_line(stream: IO[bytes], block_bytes: int) -> bytes:
    """Read to the end of the current line; give what was read of the lines after it."""
    while chunk := stream.read(block_bytes):
        end = chunk.find(b"\n")
        if end >= 0:
            return chunk[end + 1 :]
    return b""


def _without_overlong(data: bytes) -> Iterator[LineBlock | OverlongLine]:
    begin = start = 0
    # Hops from a line feed to the last one within reach, so a sound block costs a few searches.
    while len(data) - start > MAX_LINE_BYTES:
        end = data.rfind(b"\n", start, start + MAX_LINE_BYTES + 1)
        if end >= 0:
            start = end + 1
            continue
        if start > begin:
            yield LineBlock(data[begin:start])
        end = data.find(b"\n", start)
        yield OverlongLine(data[start : start + 4 * LINE_TEXT_CHARACTERS])
        begin = start = len(data) if end < 0 else end + 1
    if begin < len(data):
        yield LineBlock(data[begin:])
