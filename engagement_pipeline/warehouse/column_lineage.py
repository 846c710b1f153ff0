"""Where the values of a query's columns come from, read off its SQL.

Only projections count: a column that merely filters or joins is not in the lineage. What the
queries are, and in which order they build on each other, belongs to `sql_models`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage


@dataclass(frozen=True, order=True)
class UpstreamColumn:
    """A column of a table that a query reads; `table` as `schema.table`."""

    table: str
    column: str


ColumnLineage = Mapping[str, tuple[UpstreamColumn, ...]]
"""By column of a query: the columns that its values are made from, sorted."""


def trace_columns(
    sql: str, read: Mapping[str, Sequence[str]], *, expected: Sequence[str]
) -> ColumnLineage:
    """The lineage of each column of the DuckDB query `sql`.

    Args:
        sql: one SELECT, which names its tables as `schema.table`.
        read: the columns of each table it reads, by `schema.table`.
        expected: the query's columns where the query itself cannot be understood; each then has
            no lineage.
    """
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for full_name, columns in read.items():
        schema_name, _, table = full_name.partition(".")
        schema.setdefault(schema_name, {})[table] = dict.fromkeys(columns, "VARCHAR")
    try:
        # All columns at once share the work; each by itself took 50 times as long.
        found = lineage(None, sql, schema, dialect="duckdb", trim_selects=False)
    except SqlglotError:
        return dict.fromkeys(expected, ())
    assert isinstance(found, dict)
    return {column: _origins(node, read) for column, node in found.items()}


def _origins(node: Node, read: Mapping[str, Sequence[str]]) -> tuple[UpstreamColumn, ...]:
    found = set()
    for step in node.walk():
        if isinstance(step.source, exp.Table) and not step.downstream:
            table = f"{step.source.db}.{step.source.name}"
            column = exp.to_column(step.name).name
            if column in read.get(table, ()):
                found.add(UpstreamColumn(table, column))
    return tuple(sorted(found))
