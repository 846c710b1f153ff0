"""From files to typed rows and rejects: the front door of the pipeline's data.

`discover` finds a source's files, `digest` tells whether one is new, `read_batches` gives its raw
rows, `check_rows` makes typed rows and rejects of them. Nothing here knows the warehouse.
"""

from engagement_pipeline.ingest.errors import BadFileError, SourceError
from engagement_pipeline.ingest.inspection import FileFacts, digest
from engagement_pipeline.ingest.reading import RawBatch, UnparseableLine, read_batches
from engagement_pipeline.ingest.rejects import rejects_of_lines
from engagement_pipeline.ingest.source import Discovery, SourceFile, discover
from engagement_pipeline.ingest.validation import CheckedRows, check_rows

__all__ = [
    "BadFileError",
    "CheckedRows",
    "Discovery",
    "FileFacts",
    "RawBatch",
    "SourceError",
    "SourceFile",
    "UnparseableLine",
    "check_rows",
    "digest",
    "discover",
    "read_batches",
    "rejects_of_lines",
]
