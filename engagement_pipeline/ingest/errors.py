"""What can be wrong with a source as a whole, or with one file of it.

A bad *row* is no error: it becomes a reject (see `validation`).
"""

from pathlib import Path


class SourceError(ValueError):
    """The source itself cannot be used; the text names its path."""


class BadFileError(ValueError):
    """One file cannot be read; the text is `path: expected …, found …`.

    It may be raised after batches of the same file were given, so whoever loads a file does so in
    one transaction and rolls it back.
    """

    def __init__(self, path: Path, expected: str, found: str) -> None:
        self.path = path
        self.expected = expected
        self.found = found
        super().__init__(path, expected, found)

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"
