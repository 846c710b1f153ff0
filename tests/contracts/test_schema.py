"""How a warehouse comes to today's schema, whichever it starts from."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from engagement_pipeline.contracts import contract, contracts
from engagement_pipeline.warehouse import schema
from engagement_pipeline.warehouse.connection import Connection, WarehouseError
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.schema import (
    MIGRATIONS,
    SCHEMAS,
    TABLES,
    Migration,
    upgrade,
    version,
)

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

TABLE = "raw.erasure_requests"
MOODS = "CREATE TABLE IF NOT EXISTS raw.moods (mood VARCHAR)"
MOODS_SEEN = "CREATE TABLE IF NOT EXISTS raw.moods (mood VARCHAR, seen_at TIMESTAMPTZ)"
SEEN_COMMENT = "COMMENT ON COLUMN raw.moods.seen_at IS 'When it was seen.'"
ADD_SEEN = Migration(
    2, "moods are seen", ("ALTER TABLE IF EXISTS raw.moods ADD COLUMN seen_at TIMESTAMPTZ",)
)

Contracts = Callable[..., None]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as opened:
        yield opened


def _history(connection: Connection) -> list[tuple[int, str, datetime]]:
    return query(connection, "SELECT * FROM meta.schema_migrations ORDER BY version").rows()


def _tables(connection: Connection) -> set[str]:
    sql = "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE schema_name <> 'meta'"
    return {name for (name,) in connection.execute(sql).fetchall()}


@pytest.fixture
def also(monkeypatch: pytest.MonkeyPatch) -> Contracts:
    """Today's contracts, with these statements besides."""
    today = schema.contract_statements()

    def become(*statements: str) -> None:
        monkeypatch.setattr(schema, "contract_statements", lambda: (*today, *statements))

    return become


class _Spy:
    """A connection that notes what it is asked."""

    def __init__(self, connection: Connection) -> None:
        self.asked: list[str] = []
        self._connection = connection

    def execute(self, sql: str, *rest: Any) -> Connection:
        self.asked.append(sql)
        return self._connection.execute(sql, *rest)


def _columns(connection: Connection, table: str) -> list[str]:
    return query(connection, f"SELECT * FROM {table}").columns


def _comment(connection: Connection, table: str) -> str:
    sql = "SELECT comment FROM duckdb_tables() WHERE schema_name || '.' || table_name = ?"
    (found,) = connection.execute(sql, [table]).fetchall()
    return str(found[0])


def _make_as_first_released(connection: Connection) -> None:
    """A warehouse as it was before the contracts' digest was kept."""
    upgrade(connection, now=NOW, migrations=[])
    connection.execute("DROP TABLE meta.contracts")
    connection.execute("UPDATE meta.schema_migrations SET title = 'the first tables'")


def test_an_empty_file_gets_every_table_that_a_contract_describes(connection: Connection) -> None:
    assert upgrade(connection, now=NOW) == [TABLES]
    expected = {found.full_name for name in SCHEMAS for found in contracts(name)}
    assert _tables(connection) == expected
    assert version(connection) == len(MIGRATIONS) + 1
    assert _history(connection) == [(m.version, m.title, NOW) for m in (TABLES, *MIGRATIONS)]


def test_a_second_upgrade_does_nothing(connection: Connection) -> None:
    upgrade(connection, now=NOW)
    connection.execute(f"INSERT INTO {TABLE} VALUES ('u', now())")
    before = _history(connection)
    assert upgrade(connection, now=LATER) == []
    assert _history(connection) == before
    assert connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall() == [(1,)]


def test_a_second_upgrade_asks_two_questions_and_runs_nothing(connection: Connection) -> None:
    upgrade(connection, now=NOW)
    spy = _Spy(connection)
    assert upgrade(cast(Connection, spy), now=LATER) == []
    assert len(spy.asked) == 2
    assert all(sql.startswith("SELECT ") for sql in spy.asked)


def test_the_history_has_no_gap_and_no_version_twice() -> None:
    history = (TABLES, *MIGRATIONS)
    assert [m.version for m in history] == list(range(1, len(history) + 1))
    assert all(m.title and m.statements for m in MIGRATIONS)


def test_a_warehouse_that_cannot_be_made_is_not_half_made(
    connection: Connection, also: Contracts
) -> None:
    also("DROP TABLE raw.no_such_table")
    with pytest.raises(duckdb.Error, match="no_such_table"):
        upgrade(connection, now=NOW)
    assert _tables(connection) == set()
    also()
    assert upgrade(connection, now=NOW) == [TABLES]


def test_a_contract_that_came_later_reaches_a_warehouse_that_exists(
    connection: Connection, also: Contracts
) -> None:
    upgrade(connection, now=NOW)
    connection.execute(f"INSERT INTO {TABLE} VALUES ('u', now())")
    before = _history(connection)
    also(MOODS)
    assert upgrade(connection, now=LATER) == [TABLES]
    assert _columns(connection, "raw.moods") == ["mood"]
    assert connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall() == [(1,)]
    assert _history(connection) == before
    assert query(connection, "SELECT applied_at FROM meta.contracts").rows() == [(LATER,)]
    assert upgrade(connection, now=LATER) == []


def test_a_warehouse_from_before_the_digest_is_brought_to_the_contracts(
    connection: Connection,
) -> None:
    _make_as_first_released(connection)
    connection.execute(f"DROP TABLE {TABLE}")
    assert upgrade(connection, now=LATER) == [*MIGRATIONS, TABLES]
    assert TABLE in _tables(connection)
    assert _history(connection)[0] == (1, "the first tables", NOW)
    assert upgrade(connection, now=LATER) == []


def test_tables_without_a_history_are_kept_and_get_one(connection: Connection) -> None:
    upgrade(connection, now=NOW)
    connection.execute(f"INSERT INTO {TABLE} VALUES ('u', now())")
    connection.execute("DROP SCHEMA meta CASCADE")
    assert upgrade(connection, now=LATER) == [*MIGRATIONS, TABLES]
    assert connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall() == [(1,)]
    assert _history(connection)[0] == (1, TABLES.title, LATER)
    assert upgrade(connection, now=LATER) == []


def test_comments_follow_the_contracts(connection: Connection, also: Contracts) -> None:
    upgrade(connection, now=NOW)
    before = _comment(connection, TABLE)
    also(f"COMMENT ON TABLE {TABLE} IS 'Said better.'")
    assert upgrade(connection, now=LATER) == [TABLES]
    assert _comment(connection, TABLE) == "Said better." != before


def test_a_new_column_comes_by_its_migration_to_a_table_that_exists(
    connection: Connection, also: Contracts
) -> None:
    also(MOODS)
    upgrade(connection, now=NOW, migrations=[])
    connection.execute("INSERT INTO raw.moods VALUES ('good')")
    also(MOODS_SEEN, SEEN_COMMENT)
    assert upgrade(connection, now=LATER, migrations=[ADD_SEEN]) == [ADD_SEEN, TABLES]
    assert connection.execute("SELECT * FROM raw.moods").fetchall() == [("good", None)]
    assert version(connection) == 2
    assert upgrade(connection, now=LATER, migrations=[ADD_SEEN]) == []


def test_a_new_column_comes_by_its_contract_to_a_fresh_warehouse(
    connection: Connection, also: Contracts
) -> None:
    also(MOODS_SEEN, SEEN_COMMENT)
    assert upgrade(connection, now=NOW, migrations=[ADD_SEEN]) == [TABLES]
    assert _columns(connection, "raw.moods") == ["mood", "seen_at"]
    assert _history(connection) == [(m.version, m.title, NOW) for m in (TABLES, ADD_SEEN)]
    assert upgrade(connection, now=LATER, migrations=[ADD_SEEN]) == []


def test_a_new_column_comes_by_its_contract_to_a_warehouse_that_lacks_the_table(
    connection: Connection, also: Contracts
) -> None:
    upgrade(connection, now=NOW, migrations=[])
    also(MOODS_SEEN, SEEN_COMMENT)
    assert upgrade(connection, now=LATER, migrations=[ADD_SEEN]) == [ADD_SEEN, TABLES]
    assert _columns(connection, "raw.moods") == ["mood", "seen_at"]


def test_a_new_column_without_its_migration_is_noticed_and_changes_nothing(
    connection: Connection, also: Contracts
) -> None:
    also(MOODS)
    upgrade(connection, now=NOW)
    also(f"COMMENT ON TABLE {TABLE} IS 'Said better.'", MOODS_SEEN, SEEN_COMMENT)
    with pytest.raises(duckdb.Error, match="seen_at"):
        upgrade(connection, now=LATER)
    assert _comment(connection, TABLE) != "Said better."
    assert query(connection, "SELECT applied_at FROM meta.contracts").rows() == [(NOW,)]


@pytest.mark.parametrize("later", [(ADD, FILL), (FILL, ADD)], ids=["in order", "listed backwards"])
def test_later_migrations_are_applied_once_and_in_order(
    later: tuple[Migration, ...], connection: Connection
) -> None:
    upgrade(connection, now=NOW, migrations=[])
    for expected in ([ADD, FILL], []):
        assert upgrade(connection, now=LATER, migrations=later) == expected
        assert connection.execute("SELECT * FROM raw.moods").fetchall() == [("good", None)]
    assert [(number, at) for number, _, at in _history(connection)] == [
        (1, NOW),
        (2, LATER),
        (3, LATER),
    ]


def test_a_migration_that_fails_leaves_the_version_before_it_and_can_be_tried_again(
    connection: Connection,
) -> None:
    upgrade(connection, now=NOW, migrations=[])
    first = [ADD, FILL]
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
    assert len(_history(connection)) == len(MIGRATIONS) + 2


def test_a_warehouse_that_was_closed_in_between_keeps_its_version(tmp_path: Path) -> None:
    for expected in ([TABLES], []):
        with duckdb.connect(str(tmp_path / "kept.duckdb")) as opened:
            assert upgrade(opened, now=NOW) == expected


def test_a_warehouse_from_before_severities_gets_their_column_and_keeps_its_levels(
    connection: Connection,
) -> None:
    connection.execute("CREATE SCHEMA scores")
    before = contract("scores.classifications").ddl().replace('"flag_severity" VARCHAR,', "")
    assert "flag_severity" not in before
    connection.execute(before)
    assert upgrade(connection, now=LATER)[0] == MIGRATIONS[0]
    assert "flag_severity" in _columns(connection, "scores.classifications")
