"""What a table promises, derived from its one pandera model.

A `Contract` joins the model with the table's name and key. Everything that must agree with the
model is derived here: DuckDB DDL, comments, SQL that finds violations, and frame validation.
No table is described here, and nothing here opens a database: the SQL is only text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import cleandoc
from typing import Any, TypeVar

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from engagement_pipeline.contracts.columns import ColumnKind

_SQL_TYPES: tuple[tuple[Any, str], ...] = (
    (pl.String, "VARCHAR"),
    (pl.Int64, "BIGINT"),
    (pl.Float64, "DOUBLE"),
    (pl.Boolean, "BOOLEAN"),
    (pl.Date, "DATE"),
    (pl.Datetime("us", "UTC"), "TIMESTAMPTZ"),
)

_Model = TypeVar("_Model", bound=pa.DataFrameModel)

_CONTRACTS: dict[str, "Contract"] = {}


class ContractViolationError(ValueError):
    """A frame does not keep its table's contract; the text names columns, checks and values."""


@dataclass(frozen=True)
class Column:
    """One column of a contract: its types, and what the model says of it."""

    name: str
    dtype: pl.DataType
    sql_type: str
    is_nullable: bool
    description: str
    kind: ColumnKind
    metadata: dict[str, Any]
    checks: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def allowed(self) -> tuple[str, ...] | None:
        """The words this column may hold, where it has a closed list."""
        for check, statistics in self.checks:
            if check == "isin":
                return tuple(statistics["allowed_values"])
        return None

    @property
    def violation_sql(self) -> list[tuple[str, str]]:
        """(name of the promise, SQL condition true on a row that breaks it)."""
        quoted = _quote(self.name)
        found = [] if self.is_nullable else [("not_null", f"{quoted} IS NULL")]
        found += [(check, _check_sql(quoted, check, stats)) for check, stats in self.checks]
        return found


@dataclass(frozen=True)
class Contract:
    """A table's name, key and model, and what follows from them."""

    model: type[pa.DataFrameModel]
    schema: str
    name: str
    key: tuple[str, ...]
    has_key_index: bool
    newer_by: tuple[str, ...] = ()
    is_event_like: bool = False
    is_required: bool = False
    time_column: str | None = None

    @property
    def full_name(self) -> str:
        """`schema.table`, as SQL and the Dagster asset key spell it."""
        return f"{self.schema}.{self.name}"

    @property
    def description(self) -> str:
        return cleandoc(self.model.__doc__ or "")

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The table's columns: the key, then the model's own, then those it inherits."""
        found = []
        columns = self.model.to_schema().columns
        own = [c for c in self.model.__annotations__ if c in columns]
        for column_name in dict.fromkeys([*self.key, *own, *columns]):
            column = columns[column_name]
            dtype = column.dtype.type
            metadata = dict(column.metadata or {})
            found.append(
                Column(
                    name=column_name,
                    dtype=dtype,
                    sql_type=_sql_type(dtype),
                    is_nullable=column.nullable,
                    description=column.description or "",
                    kind=metadata.pop("kind", ColumnKind.TEXT),
                    metadata=metadata,
                    checks=tuple((check.name, check.statistics) for check in column.checks),
                )
            )
        return tuple(found)

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def polars_schema(self) -> pl.Schema:
        """Column names and Polars types of a frame that keeps the contract."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def empty(self) -> pl.DataFrame:
        """A frame of the right shape with no rows."""
        return pl.DataFrame(schema=self.polars_schema)

    def validate(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Give back `frame` if it keeps the contract, key included.

        Raises:
            ContractViolationError: names the table, and each broken promise with an example.
        """
        if self._is_kept(frame):
            return frame
        try:
            # Lazy frames would skip every value check, so only eager ones come in.
            self.model.validate(frame, lazy=True)
        except SchemaErrors as errors:
            cases = errors.failure_cases
            listed = "; ".join(
                f"{row['column'] or 'table'}: {row['check']} (found {row['failure_case']!r})"
                for row in cases.head(10).iter_rows(named=True)
            )
            raise ContractViolationError(f"{self.full_name}: {listed}") from None
        if self.key and frame.select(self.key).is_duplicated().any():
            example = frame.filter(frame.select(self.key).is_duplicated()).select(self.key).row(0)
            raise ContractViolationError(
                f"{self.full_name}: the key {self.key} must be unique (found {example} twice)"
            )
        return frame

    def _is_kept(self, frame: pl.DataFrame) -> bool:
        """Whether all is well, found in one pass; what is not is left to pandera to put in words.

        Pandera itself takes 30 ms a frame, which over a thousand organisations is half a minute.
        """
        if dict(frame.schema) != dict(self.polars_schema):
            return False
        if self.key and frame.select(self.key).is_duplicated().any():
            return False
        return not any(frame.select(self._faults).row(0))

    @cached_property
    def _faults(self) -> list[pl.Expr]:
        faults = []
        for column in self.columns:
            found = pl.col(column.name)
            conditions = [] if column.is_nullable else [found.is_null()]
            conditions += [_check_fault(found, *check) for check in column.checks]
            if conditions:
                faults.append(pl.any_horizontal(conditions).any().alias(column.name))
        return faults

    def ddl(self, target: str | None = None) -> str:
        """`CREATE TABLE IF NOT EXISTS` for the table, or for `target` in its place."""
        lines = [
            f"{_quote(column.name)} {column.sql_type}{'' if column.is_nullable else ' NOT NULL'}"
            for column in self.columns
        ]
        if self.has_key_index:
            lines.append(f"PRIMARY KEY ({', '.join(map(_quote, self.key))})")
        body = ",\n  ".join(lines)
        return f"CREATE TABLE IF NOT EXISTS {target or self.full_name} (\n  {body}\n)"

    def comments(self, target: str | None = None) -> list[str]:
        """The `COMMENT ON` statements that show an analyst what each thing is."""
        table = target or self.full_name
        key = f" Key: {', '.join(self.key)}." if self.key else ""
        statements = [f"COMMENT ON TABLE {table} IS {_literal(self.description + key)}"]
        for column in self.columns:
            statements.append(
                f"COMMENT ON COLUMN {table}.{_quote(column.name)} IS {_literal(column.description)}"
            )
        return statements

    def violations_query(self, target: str | None = None) -> str:
        """SQL giving one row (`column_name`, `promise`, `rows`) per promise that is broken."""
        table = target or self.full_name
        names, sums = [], []
        for column in self.columns:
            for promise, condition in column.violation_sql:
                names.append((column.name, promise))
                sums.append(f"count(*) FILTER (WHERE {condition})")
        if self.key:
            names.append((", ".join(self.key), "unique"))
            key = ", ".join(map(_quote, self.key))
            # One hash a row finds the suspects cheaply; only they are compared by the key itself.
            sums.append(
                f"(SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM {table} WHERE "
                f"hash({key}) IN (SELECT hash({key}) AS h FROM {table} GROUP BY h "
                f"HAVING count(*) > 1) GROUP BY {key} HAVING count(*) > 1))"
            )
        counted = ", ".join(f"({s})::BIGINT" for s in sums)
        labels = ", ".join(f"{{'c': {_literal(c)}, 'p': {_literal(p)}}}" for c, p in names)
        return (
            f"WITH counted AS (SELECT [{counted}] AS found FROM {table}),\n"
            f"paired AS (SELECT unnest([{labels}]) AS label, unnest(found) AS rows FROM counted)\n"
            "SELECT label.c AS column_name, label.p AS promise, rows FROM paired WHERE rows > 0"
        )


def table(
    full_name: str,
    *,
    key: Sequence[str] = (),
    has_key_index: bool = False,
    **traits: Any,
) -> Callable[[type[_Model]], type[_Model]]:
    """Register the decorated pandera model as the contract of `schema.table`.

    `has_key_index` puts the key into the DDL as a PRIMARY KEY. It is for small tables: DuckDB
    keeps such an index in memory, and on a table of millions of rows it costs more than the load
    itself. Elsewhere the write keeps the key, and `violations_query` checks it.
    """
    schema, _, table_name = full_name.partition(".")

    def register(model: type[_Model]) -> type[_Model]:
        _CONTRACTS[full_name] = Contract(
            model=model,
            schema=schema,
            name=table_name,
            key=tuple(key),
            has_key_index=has_key_index,
            **traits,
        )
        return model

    return register


def contract(full_name: str) -> Contract:
    """The contract of `schema.table`. Raises `KeyError` naming the table if there is none."""
    return _CONTRACTS[full_name]


def contracts(schema: str | None = None) -> list[Contract]:
    """All contracts in order of definition, or those of one schema."""
    return [c for c in _CONTRACTS.values() if schema is None or c.schema == schema]


def _sql_type(dtype: Any) -> str:
    for polars_type, sql_type in _SQL_TYPES:
        if dtype == polars_type:
            return sql_type
    raise TypeError(f"no DuckDB type is known for the Polars type {dtype}")


def _quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _check_fault(column: pl.Expr, check: str, statistics: dict[str, Any]) -> pl.Expr:
    """True on a value that breaks the check; null where there is no value."""
    found: pl.Expr
    match check:
        case "isin":
            found = ~column.is_in(list(statistics["allowed_values"]))
        case "greater_than_or_equal_to":
            found = column < statistics["min_value"]
        case "less_than_or_equal_to":
            found = column > statistics["max_value"]
        case "str_matches":
            found = ~column.str.contains(_pattern(statistics))
        case "str_length":
            length = column.str.len_chars()
            found = length < (statistics.get("min_value") or 0)
            if statistics.get("max_value") is not None:
                found = found | (length > statistics["max_value"])
        case _:
            raise NotImplementedError(f"the check {check!r} has no Polars form")
    return found


def _pattern(statistics: dict[str, Any]) -> str:
    pattern = statistics["pattern"]
    return str(getattr(pattern, "pattern", pattern))


def _check_sql(column: str, check: str, statistics: dict[str, Any]) -> str:
    match check:
        case "isin":
            allowed = ", ".join(_literal(v) for v in statistics["allowed_values"])
            return f"{column} NOT IN ({allowed})"
        case "greater_than_or_equal_to":
            return f"{column} < {statistics['min_value']}"
        case "less_than_or_equal_to":
            return f"{column} > {statistics['max_value']}"
        case "str_matches":
            return f"NOT regexp_matches({column}, {_literal(_pattern(statistics))})"
        case "str_length":
            low = statistics.get("min_value") or 0
            high = statistics.get("max_value")
            too_long = f" OR length({column}) > {high}" if high is not None else ""
            return f"(length({column}) < {low}{too_long})"
    raise NotImplementedError(f"the check {check!r} has no SQL form")
