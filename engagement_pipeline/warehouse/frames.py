"""Frames in and out of DuckDB, by column name and without a detour over pyarrow.

Everywhere in this room a result is fetched to its end, also where one row is all there is: DuckDB 2
refuses the next query on a connection that has an unfinished one.
"""

import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from engagement_pipeline.contracts import Contract
from engagement_pipeline.warehouse.connection import Connection

_INCOMING = "incoming_frame"
_VARIABLE = "query_"
_PLACE = re.compile(r"\$([A-Za-z_]\w*)")


class _ArrowStream:
    """Hands a frame over by the Arrow C stream: DuckDB would ask a Polars frame for pyarrow."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def append(connection: Connection, target: str, frame: pl.DataFrame) -> None:
    """Add the rows of `frame` to the table `target`, matching columns by name."""
    if frame.is_empty():
        return
    connection.register(_INCOMING, _ArrowStream(frame))
    try:
        names = ", ".join(f'"{name}"' for name in frame.columns)
        connection.execute(f"INSERT INTO {target} BY NAME SELECT {names} FROM {_INCOMING}")
    finally:
        connection.unregister(_INCOMING)


def replace_all(connection: Connection, contract: Contract, frame: pl.DataFrame) -> None:
    """Make `frame` the whole content of the contract's table."""
    connection.execute(f"DELETE FROM {contract.full_name}")
    append(connection, contract.full_name, frame)


def query(
    connection: Connection, sql: str, parameters: Mapping[str, Any] | None = None
) -> pl.DataFrame:
    """The rows of a query, instants as `Datetime("us", "UTC")`.

    Args:
        connection: to the warehouse.
        sql: one SELECT, with `$name` where a value belongs.
        parameters: the values, by name.
    """
    values = dict(parameters or {})
    # DuckDB gives the rows of a query with parameters out twenty times slower than those of one
    # without. Variables are as safe, but a null or an empty list in one counts as numbers, which
    # text cannot be compared with.
    if values and not any(value is None or value == [] for value in values.values()):
        frame = _query_by_variables(connection, sql, values)
    else:
        frame = pl.DataFrame(connection.sql(sql, params=values))
    return frame.with_columns(
        pl.col(name).dt.convert_time_zone("UTC") if _is_in_other_zone(dtype) else pl.col(name)
        for name, dtype in frame.schema.items()
    )


def _query_by_variables(
    connection: Connection, sql: str, values: Mapping[str, Any]
) -> pl.DataFrame:
    for name, value in values.items():
        connection.execute(f"SET VARIABLE {_VARIABLE}{name} = $value", {"value": value})
    try:
        told = _PLACE.sub(
            lambda place: (
                f"getvariable('{_VARIABLE}{place[1]}')" if place[1] in values else place[0]
            ),
            sql,
        )
        return pl.DataFrame(connection.sql(told))
    finally:
        for name in values:
            connection.execute(f"RESET VARIABLE {_VARIABLE}{name}")


def read_table(connection: Connection, contract: Contract) -> pl.DataFrame:
    """All rows of a table, in its contract's columns and types."""
    names = ", ".join(f'"{name}"' for name in contract.column_names)
    return query(connection, f"SELECT {names} FROM {contract.full_name}").cast(
        contract.polars_schema
    )


def _is_in_other_zone(dtype: pl.DataType) -> bool:
    # The session's zone, which even if it is UTC may be named otherwise ("Etc/UTC" in DuckDB 2).
    return isinstance(dtype, pl.Datetime) and dtype.time_zone not in (None, "UTC")
