"""How a warehouse comes to today's schema, whichever it starts from."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from engagement_pipeline.contracts import contracts
from engagement_pipeline.warehouse.connection import Connection, WarehouseError
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.schema import MIGRATIONS, SCHEMAS, Migration, upgrade, version

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)

ADD = Migration(2, "moods", ("CREATE TABLE raw.moods (mood VARCHAR)",))
FILL = Migration(
    3,
    "moods filled",
    (
        "INSERT INTO raw.moods VALUES ('good')",
        "ALTER TABLE raw.moods ADD COLUMN seen_at TIMESTAMPTZ",
    ),
)
FAILING = Migration(
    4, "fails", ("INSERT INTO raw.moods VALUES ('bad', NULL)", "DROP TABLE raw.no_such_table")
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as opened:
        yield opened


def _history(connection: Connection) -> list[tuple[int, str, datetime]]:
    return query(connection, "SELECT * FROM meta.schema_migrations ORDER BY version").rows()


def _tables(connection: Connection) -> set[str]:
    sql = "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE schema_name <> 'meta'"
    return {name for (name,) in connection.execute(sql).fetchall()}


def test_an_empty_file_gets_every_table_that_a_contract_describes(connection: Connection) -> None:
    assert upgrade(connection, now=NOW) == list(MIGRATIONS)
    expected = {found.full_name for schema in SCHEMAS for found in contracts(schema)}
    assert _tables(connection) == expected
    assert version(connection) == MIGRATIONS[-1].version
    assert _history(connection) == [(m.version, m.title, NOW) for m in MIGRATIONS]


def test_a_second_upgrade_does_nothing(connection: Connection) -> None:
    upgrade(connection, now=NOW)
    connection.execute("INSERT INTO raw.erasure_requests VALUES ('u', now())")
    before = _history(connection)
    assert upgrade(connection, now=LATER) == []
    assert _history(connection) == before
    assert connection.execute("SELECT count(*) FROM raw.erasure_requests").fetchall() == [(1,)]


def test_the_history_has_no_gap_and_no_version_twice() -> None:
    assert [m.version for m in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    assert all(m.title and m.statements for m in MIGRATIONS)


@pytest.mark.parametrize("later", [(ADD, FILL), (FILL, ADD)], ids=["in order", "listed backwards"])
def test_later_migrations_are_applied_once_and_in_order(
    later: tuple[Migration, ...], connection: Connection
) -> None:
    first = [Migration(1, "raw", ("CREATE SCHEMA raw",))]
    upgrade(connection, now=NOW, migrations=first)
    for expected in ([ADD, FILL], []):
        assert upgrade(connection, now=LATER, migrations=[*first, *later]) == expected
        assert connection.execute("SELECT * FROM raw.moods").fetchall() == [("good", None)]
    assert [(number, at) for number, _, at in _history(connection)] == [
        (1, NOW),
        (2, LATER),
        (3, LATER),
    ]


def test_a_migration_that_fails_leaves_the_version_before_it_and_can_be_tried_again(
    connection: Connection,
) -> None:
    first = [Migration(1, "raw", ("CREATE SCHEMA raw",)), ADD, FILL]
    for _ in range(2):
        with pytest.raises(duckdb.Error, match="no_such_table"):
            upgrade(connection, now=NOW, migrations=[*first, FAILING])
        assert version(connection) == 3
        assert connection.execute("SELECT * FROM raw.moods").fetchall() == [("good", None)]
    mended = Migration(4, "works", FAILING.statements[:1])
    assert upgrade(connection, now=NOW, migrations=[*first, mended]) == [mended]
    assert version(connection) == 4


def test_a_warehouse_from_the_future_is_refused_and_not_touched(connection: Connection) -> None:
    upgrade(connection, now=NOW)
    connection.execute("INSERT INTO meta.schema_migrations VALUES (99, 'to come', now())")
    with pytest.raises(WarehouseError, match=r"schema version 99.*up to \d+: update the project"):
        upgrade(connection, now=LATER)
    assert version(connection) == 99
    assert len(_history(connection)) == len(MIGRATIONS) + 1


def test_a_warehouse_that_was_closed_in_between_keeps_its_version(tmp_path: Path) -> None:
    for expected in (list(MIGRATIONS), []):
        with duckdb.connect(str(tmp_path / "kept.duckdb")) as opened:
            assert upgrade(opened, now=NOW) == expected
