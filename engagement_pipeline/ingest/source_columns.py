"""Which columns a file of a table may bring, and which it must.

Derived from the table's contract, plus the few columns that a file may bring on top of it. How a
value becomes a column's value is in `values`.
"""

from dataclasses import replace

from engagement_pipeline.contracts import Column, Contract, contract

_READS = contract("raw.notification_reads")

# Some sources keep one read per notification in the notification itself; each becomes a read.
EXTRA_COLUMNS: dict[str, tuple[Column, ...]] = {
    "raw.notifications": tuple(
        # Unlike a read, a notification may well have none.
        replace(c, is_nullable=True)
        for c in _READS.columns
        if c.name == "read_at"
    ),
}


def source_columns(table: Contract) -> tuple[Column, ...]:
    """The columns that a file of `table` may bring: the contract's, then the extra ones."""
    return table.columns + EXTRA_COLUMNS.get(table.full_name, ())


def required_columns(table: Contract) -> tuple[str, ...]:
    """The columns that a file of `table` must have: neither nullable nor with a default."""
    return tuple(
        c.name for c in table.columns if not c.is_nullable and c.metadata.get("default") is None
    )
