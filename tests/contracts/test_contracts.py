"""Every contract as DDL, as comments and as checks; and that the three forms of a check agree."""

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import polars as pl
import pytest
from pandera.errors import SchemaErrors

from engagement_pipeline.contracts import (
    Column,
    Contract,
    ContractViolationError,
    contract,
    contracts,
)
from engagement_pipeline.contracts.columns import ColumnKind
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.frames import append, query, read_table
from engagement_pipeline.warehouse.quality import violations
from engagement_pipeline.warehouse.schema import SCHEMAS

Row = dict[str, Any]

TABLES = {found.full_name: found for found in contracts()}


def _columns() -> dict[str, tuple[Contract, Column]]:
    """One column for every set of promises that columns make, of the narrowest table with one."""
    found: dict[str, tuple[Contract, Column]] = {}
    for table in sorted(contracts(), key=lambda t: len(t.columns)):
        for column in table.columns:
            promises = repr((column.dtype, column.is_nullable, column.checks))
            found.setdefault(promises, (table, column))
    return {f"{table.full_name}.{column.name}": (table, column) for table, column in found.values()}


COLUMNS = _columns()
MOMENT = datetime(2026, 3, 1, 4, tzinfo=UTC)


@pytest.fixture
def connection() -> Iterator[Connection]:
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        for schema in {found.schema for found in contracts()}:
            opened.execute(f"CREATE SCHEMA {schema}")
        yield opened


def _sound(column: Column, number: int) -> Any:
    if column.allowed:
        return column.allowed[0]
    if column.kind is ColumnKind.CLOCK_TIME:
        return "09:30"
    samples: dict[Any, Any] = {
        pl.String: f"x{number}",
        pl.Boolean: True,
        pl.Int64: number,
        pl.Float64: 0.5,
        pl.Date: date(2026, 3, 1 + number),
    }
    return samples.get(column.dtype, MOMENT.replace(day=1 + number))


def _frame(table: Contract, *rows: Row) -> pl.DataFrame:
    """Sound rows, no two alike, with these changes."""
    found = [
        {column.name: _sound(column, number) for column in table.columns} | row
        for number, row in enumerate(rows)
    ]
    return pl.DataFrame(found, schema=table.polars_schema)


def _verdicts(connection: Connection, table: Contract, frame: pl.DataFrame) -> dict[str, bool]:
    """Whether each form of the contract lets the frame pass."""
    by_pandera = by_validate = True
    try:
        table.model.validate(frame, lazy=True)
    except SchemaErrors:
        by_pandera = False
    try:
        table.validate(frame)
    except ContractViolationError:
        by_validate = False
    connection.execute(f"DROP TABLE IF EXISTS {table.full_name}")
    # Without its constraints the database takes anything of the right type.
    columns = ", ".join(f'"{column.name}" {column.sql_type}' for column in table.columns)
    connection.execute(f"CREATE TABLE {table.full_name} ({columns})")
    append(connection, table.full_name, frame)
    by_sql = violations(connection, table) == []
    return {"pandera": by_pandera, "validate": by_validate, "sql": by_sql}


def _all(verdict: bool) -> dict[str, bool]:
    return dict.fromkeys(("pandera", "validate", "sql"), verdict)


# --- what follows from a contract -----------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_the_ddl_makes_the_table_with_its_types_and_a_comment_on_every_thing(
    table: Contract, connection: Connection
) -> None:
    for statement in (table.ddl(), table.ddl(), *table.comments()):
        connection.execute(statement)
    columns = connection.execute(
        "SELECT column_name, data_type, is_nullable, comment FROM duckdb_columns() "
        "WHERE schema_name = ? AND table_name = ? ORDER BY column_index",
        [table.schema, table.name],
    ).fetchall()
    assert [(c.name, c.is_nullable, c.description) for c in table.columns] == [
        (name, is_nullable, comment) for name, _, is_nullable, comment in columns
    ]
    assert all(comment for *_, comment in columns)
    (comment,) = connection.execute(
        "SELECT comment FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?",
        [table.schema, table.name],
    ).fetchall()[0]
    assert comment.startswith(table.description)
    assert table.description
    assert comment.endswith(f"Key: {', '.join(table.key)}." if table.key else ".")


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_an_empty_table_and_an_empty_frame_keep_the_contract(
    table: Contract, connection: Connection
) -> None:
    connection.execute(table.ddl())
    assert violations(connection, table) == []
    assert table.validate(table.empty()).is_empty()
    assert table.model.validate(table.empty(), lazy=True).is_empty()


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_sound_rows_pass_every_form_and_come_back_as_they_were(
    table: Contract, connection: Connection
) -> None:
    frame = _frame(table, {}, {}, {})
    # A key of one word only cannot have three values.
    frame = frame.unique(table.key) if table.key else frame
    assert _verdicts(connection, table, frame) == _all(True)
    connection.execute(f"DROP TABLE {table.full_name}")
    connection.execute(table.ddl())
    append(connection, table.full_name, frame)
    back = read_table(connection, table)
    assert back.sort(back.columns).equals(frame.sort(frame.columns))


def test_the_column_order_of_a_frame_does_not_matter(connection: Connection) -> None:
    table = contract("raw.interactions")
    frame = _frame(table, {}, {})
    assert _verdicts(connection, table, frame.select(reversed(frame.columns))) == _all(True)


def test_every_contract_belongs_to_a_schema_that_is_made_somewhere() -> None:
    assert {found.schema for found in contracts()} == {*SCHEMAS, "marts"}


# --- the three forms agree ------------------------------------------------------------------------


def _edge_cases(column: Column) -> list[tuple[Any, bool]]:
    """Values at the edges of a column's promises, and whether they keep them."""
    cases: list[tuple[Any, bool]] = [(None, column.is_nullable)]
    for check, statistics in column.checks:
        if check == "isin":
            cases += [(word, True) for word in statistics["allowed_values"]]
            cases += [(bad, False) for bad in ("", "other", f"{column.allowed[0].upper()} ", "\0")]
        elif check == "str_matches":
            cases += [("00:00", True), ("23:59", True)]
            cases += [(bad, False) for bad in ("", "9:30", "24:00", "09:60", "x09:30", "09:30x")]
            cases += [(bad, False) for bad in ("09:30\n", "\n09:30", "٠٩:٣٠", "09:30\0")]
        elif check == "str_length":
            low, high = statistics.get("min_value") or 0, statistics["max_value"]
            # Characters are code points: neither bytes nor what looks like one sign.
            for sign in ("x", "é", "🎻", "\0", " ") if high < 100_000 else ("x",):
                cases += [(sign * high, True), (sign * (high + 1), False)]
            cases += [("e\u0301" * (high // 2), True), ("", low == 0)]
    if column.dtype == pl.Int64:
        has_floor = any(check == "greater_than_or_equal_to" for check, _ in column.checks)
        cases += [(0, True), (2**63 - 1, True), (-1, not has_floor), (-(2**63), not has_floor)]
    if column.dtype == pl.Float64:
        cases += [(0.0, True), (-0.0, True), (5e-324, True), (1.0, True)]
        cases += [(bad, False) for bad in (math.nan, math.inf, -math.inf)]
        bounds = dict(column.checks)
        low = bounds["greater_than_or_equal_to"]["min_value"]
        high = bounds["less_than_or_equal_to"]["max_value"]
        cases += [(low, True), (high, True), (math.nextafter(low, -math.inf), False)]
        cases += [(math.nextafter(high, math.inf), False)]
    return cases


@pytest.mark.parametrize(("table", "column"), COLUMNS.values(), ids=COLUMNS)
def test_pandera_the_fast_path_and_sql_agree_on_every_edge_of_a_column(
    table: Contract, column: Column, connection: Connection
) -> None:
    for value, is_sound in _edge_cases(column):
        frame = _frame(table, {column.name: value})
        # Among sound rows a bad one must not go under.
        among = pl.concat([frame, _frame(table, {}, {})]).unique(table.key or None)
        for rows in (frame, among if value is None or not is_sound else frame):
            assert _verdicts(connection, table, rows) == _all(is_sound), repr(value)[:50]


@pytest.mark.parametrize("table", [t for t in TABLES.values() if t.key], ids=lambda t: t.full_name)
def test_a_key_that_comes_twice_is_found_in_a_frame_and_in_a_table(
    table: Contract, connection: Connection
) -> None:
    frame = _frame(table, {}, {}, {}).unique(table.key)
    twice = pl.concat([frame, frame.head(1)])
    with pytest.raises(ContractViolationError, match="must be unique"):
        table.validate(twice)
    verdicts = _verdicts(connection, table, twice)
    assert (verdicts["validate"], verdicts["sql"]) == (False, False)
    (broken,) = violations(connection, table)
    assert (broken.column_name, broken.promise, broken.rows) == (", ".join(table.key), "unique", 1)


def test_two_nulls_in_a_key_are_the_same_key(connection: Connection) -> None:
    table = contract("raw.preferences")
    different = _frame(table, {"user_id": "u", "org_id": None}, {"user_id": "u", "org_id": "o"})
    assert _verdicts(connection, table, different) == _all(True)
    same = _frame(table, *[{"user_id": "u", "org_id": None}] * 3)
    verdicts = _verdicts(connection, table, same)
    assert (verdicts["validate"], verdicts["sql"]) == (False, False)
    assert [v.rows for v in violations(connection, table)] == [2]


@pytest.mark.parametrize(
    "change",
    [
        {"joined_at": pl.Series([datetime(2026, 1, 1)])},  # noqa: DTZ001
        {"joined_at": pl.Series([MOMENT]).dt.cast_time_unit("ms")},
        {"joined_at": pl.Series(["2026-01-01"])},
        {"user_id": pl.Series([1])},
        {"extra": pl.Series([1])},
    ],
    ids=["no zone", "milliseconds", "text", "number", "extra column"],
)
def test_a_frame_of_another_shape_is_refused_even_if_it_is_empty(
    change: dict[str, pl.Series],
) -> None:
    table = contract("raw.memberships")
    frame = _frame(table, {}).with_columns(**change)
    for found in (frame, frame.clear(), frame.drop("role")):
        with pytest.raises(ContractViolationError, match=r"raw\.memberships"):
            table.validate(found)


def test_a_violation_names_table_column_check_and_value() -> None:
    table = contract("raw.attendance")
    frame = _frame(table, {}, {"status": "dancing"}, {"user_id": ""})
    with pytest.raises(ContractViolationError) as caught:
        table.validate(frame)
    for word in ("raw.attendance", "status", "'dancing'", "user_id"):
        assert word in str(caught.value)


def test_a_broken_table_says_which_promise_how_many_rows_break(connection: Connection) -> None:
    table = contract("raw.attendance")
    frame = _frame(table, {"status": "x"}, {"status": "y"}, {"status": None}, {"user_id": ""})
    _verdicts(connection, table, frame)
    found = {(v.column_name, v.promise): v.rows for v in violations(connection, table)}
    assert found == {
        ("status", "isin"): 2,
        ("status", "not_null"): 1,
        ("user_id", "str_length"): 1,
    }


def test_a_query_gives_instants_in_utc_whatever_the_session_says(connection: Connection) -> None:
    connection.execute("SET TimeZone = 'Pacific/Auckland'")
    found = query(connection, "SELECT TIMESTAMPTZ '2026-03-01 04:00:00+00' AS moment")
    assert found.schema == {"moment": pl.Datetime("us", "UTC")}
    assert found["moment"].item() == MOMENT
