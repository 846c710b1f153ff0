"""Reading what was published, as an analyst does. Nothing here writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from engagement_pipeline.warehouse.connection import Connection, WarehouseError

_CATALOG = "engagement"


class NotPublishedError(WarehouseError):
    """Nothing has been published yet; the text says where it was looked for and what to do."""


@contextmanager
def open_published(path: Path) -> Iterator[Connection]:
    """A connection that reads the published file as it is now, also in the middle of a publish.

    Marts are `marts.<name>`. Instants show in UTC whatever the machine's zone, so that the same
    query gives the same answer everywhere.

    Raises:
        NotPublishedError: there is no file at `path`.
        WarehouseError: the file is not a DuckDB database that this version reads.
    """
    if not path.exists():
        raise NotPublishedError(
            f"{path}: nothing has been published yet. `engagement run` does it; `engagement demo` "
            "does it with made-up data."
        )
    # A database of its own that attaches the file: connecting to a path that another thread of
    # this process still reads would give that thread's file, from before the swap.
    connection = duckdb.connect(":memory:")
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET python_enable_replacements = false")
        try:
            quoted = str(path).replace("'", "''")
            connection.execute(f"ATTACH '{quoted}' AS {_CATALOG} (READ_ONLY)")
        except duckdb.Error as error:
            first_line = str(error).strip().splitlines()[0]
            raise WarehouseError(f"{path}: cannot be read: {first_line}") from None
        connection.execute(f"USE {_CATALOG}")
        yield connection
    finally:
        connection.close()
