"""One computation on each engine: Polars in memory, Polars streaming, DuckDB."""

import duckdb
import polars as pl

from engagement_pipeline.warehouse.frames import append

_SQL_TYPES = {pl.String: "VARCHAR", pl.Int64: "BIGINT", pl.Boolean: "BOOLEAN"}


def computed_by(engine, compute, **frames):
    """What `compute` makes of the frames, given by name as tables of the engine, collected."""
    if engine == "duckdb":
        with duckdb.connect() as connection:
            return pl.DataFrame(compute(**_relations(connection, frames)).to_native())
    mode = "streaming" if engine == "polars streaming" else "in-memory"
    lazily = {name: frame.lazy() for name, frame in frames.items()}
    return compute(**lazily).to_native().collect(engine=mode)


def _relations(connection, frames):
    for name, frame in frames.items():
        columns = ", ".join(f'"{c}" {_SQL_TYPES[type(t)]}' for c, t in frame.schema.items())
        connection.execute(f"CREATE TABLE {name} ({columns})")
        append(connection, name, frame)
    return {name: connection.table(name) for name in frames}
