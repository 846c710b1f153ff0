"""Members' behaviour described in a real warehouse: who is in it, in slices, and one by one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.pattern_analysis import Analysed, analyze_patterns
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.frames import append, query
from tests.home import settings_of

AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)
PATTERNS = contract("behavior.patterns")
TABLES = (
    "raw.organizations",
    "raw.profiles",
    "raw.memberships",
    "behavior.interactions_scored",
    "behavior.patterns",
)


def ago(days: float) -> datetime:
    return AS_OF - timedelta(days=days)


def put(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    """Put rows into a table; what they leave out is null."""
    promised = contract(table)
    append(connection, table, promised.validate(pl.DataFrame(rows, promised.polars_schema)))


def stay(org: str, user: str, joined: float = 300, left: float | None = None) -> dict[str, Any]:
    left_at = None if left is None else ago(left)
    named = {"org_id": org, "user_id": user, "role": "member"}
    return {**named, "joined_at": ago(joined), "left_at": left_at}


def said(org: str, user: str, days: float, quality: float = 0.5, **given: Any) -> dict[str, Any]:
    return {
        "interaction_id": f"{org}-{user}-{days}",
        "org_id": org,
        "user_id": user,
        "type": "message",
        "sent_at": ago(days),
        "quality": quality,
        "is_meaningful": True,
        "session_id": f"{org}-{user}-{days}",
        **given,
    }


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path / "home", tmp_path / "source")


@pytest.fixture
def connection() -> Iterator[Connection]:
    """Two organisations in two zones, and people who come, stay and go."""
    with duckdb.connect() as found:
        found.execute("SET TimeZone = 'UTC'")
        for table in TABLES:
            found.execute(f"CREATE SCHEMA IF NOT EXISTS {contract(table).schema}")
            found.execute(contract(table).ddl())
        put(
            found,
            "raw.organizations",
            [
                {"org_id": org, "name": org, "timezone": zone}
                for org, zone in (("choir", "Europe/Berlin"), ("garden", "Asia/Kolkata"))
            ],
        )
        put(
            found,
            "raw.profiles",
            [
                {"user_id": "ada", "timezone": "America/New_York"},
                {"user_id": "bo", "timezone": None},
            ],
        )
        put(
            found,
            "raw.memberships",
            [
                stay("choir", "ada"),
                stay("garden", "ada"),
                stay("choir", "bo"),
                stay("garden", "bo"),
                stay("choir", "left", left=0),
                stay("choir", "leaves", left=-0.001),
                stay("choir", "comes", joined=-0.001),
                stay("choir", "silent", joined=4),
                stay("nowhere", "cyd"),
            ],
        )
        put(
            found,
            "behavior.interactions_scored",
            [
                *(said("choir", "ada", days, 0.9) for days in (0, 1, 2, 40)),
                *(said("choir", "bo", days, 0.9 if days > 6 else 0.1) for days in (4, 5, 9, 10)),
                said("garden", "bo", 45),
                said("choir", "left", 1),
                said("choir", "stranger", 1),
                said("nowhere", "cyd", -1),
            ],
        )
        yield found


def stored(connection: Connection) -> dict[tuple[str, str], dict[str, Any]]:
    rows = query(connection, f"SELECT * FROM {PATTERNS.full_name}").to_dicts()
    return {(row["org_id"], row["user_id"]): row for row in rows}


def as_stored(connection: Connection) -> pl.DataFrame:
    return query(connection, f"SELECT * FROM {PATTERNS.full_name} ORDER BY org_id, user_id")


def test_who_is_described_is_who_is_a_member_at_the_moment(
    connection: Connection, settings: Settings
) -> None:
    analysed = analyze_patterns(connection, settings, as_of=AS_OF)
    rows = stored(connection)
    assert set(rows) == {
        ("choir", "ada"),
        ("garden", "ada"),
        ("choir", "bo"),
        ("garden", "bo"),
        ("choir", "leaves"),
        ("choir", "silent"),
        ("nowhere", "cyd"),
    }
    assert analysed == Analysed(members=7, highly_engaged=1, declining=1, needing=6)
    assert rows["choir", "ada"]["interactions"] == 3
    assert rows["choir", "ada"]["lifecycle_state"] == "returning"
    assert rows["garden", "bo"]["lifecycle_state"] == "dormant"
    assert rows["choir", "bo"]["is_declining"]
    assert rows["nowhere", "cyd"]["last_interaction_at"] is None


def test_a_zone_is_the_persons_else_the_organisations_else_utc(
    connection: Connection, settings: Settings
) -> None:
    analyze_patterns(connection, settings, as_of=AS_OF)
    zones = {pair: row["timezone"] for pair, row in stored(connection).items()}
    assert zones["choir", "ada"] == zones["garden", "ada"] == "America/New_York"
    assert zones["choir", "bo"] == zones["choir", "silent"] == "Europe/Berlin"
    assert zones["garden", "bo"] == "Asia/Kolkata"
    assert zones["nowhere", "cyd"] == "UTC"
    assert stored(connection)["choir", "ada"]["active_hours"] == "23"


@pytest.mark.parametrize("limit", [{"batch_size": 1}, {"batch_size": 3}, {"batch_size": 100}])
def test_slices_of_people_give_what_all_at_once_give(
    connection: Connection, settings: Settings, limit: dict[str, int]
) -> None:
    analysed = analyze_patterns(connection, settings, as_of=AS_OF)
    before = as_stored(connection)
    done: list[tuple[int, int]] = []
    sliced = analyze_patterns(
        connection,
        settings.model_copy(update={"slice_rows": 3}),
        as_of=AS_OF,
        report=lambda n, of: done.append((n, of)),
        **limit,
    )
    assert as_stored(connection).equals(before)
    assert sliced == analysed
    assert len(done) > 1
    assert done == sorted(done)
    assert done[-1] == (7, 7)


def test_one_persons_rows_are_replaced_in_every_organisation_and_nobody_elses(
    connection: Connection, settings: Settings
) -> None:
    analyze_patterns(connection, settings, as_of=ago(1))
    assert ("choir", "left") in stored(connection)
    later = [said("garden", "ada", 0.25), said("choir", "bo", 0.25)]
    put(connection, "behavior.interactions_scored", later)
    connection.execute("UPDATE raw.memberships SET left_at = joined_at WHERE org_id = 'choir'")
    before = stored(connection)
    told: list[tuple[int, int]] = []
    analysed = analyze_patterns(
        connection,
        settings,
        as_of=AS_OF,
        user_id="ada",
        report=lambda n, of: told.append((n, of)),
    )
    after = stored(connection)
    assert (analysed.members, told) == (1, [(1, 1)])
    assert ("choir", "ada") not in after
    assert after["garden", "ada"]["interactions"] == 1
    assert after["garden", "ada"]["as_of"] == AS_OF
    others = [{k: v for k, v in rows.items() if k[1] != "ada"} for rows in (before, after)]
    assert others[0] == others[1]


def test_without_an_interaction_by_then_nobody_is_described(
    connection: Connection, settings: Settings
) -> None:
    analyze_patterns(connection, settings, as_of=AS_OF)
    assert analyze_patterns(connection, settings, as_of=ago(60)) == Analysed()
    assert stored(connection) == {}


def test_a_member_who_said_nothing_is_described_where_others_have(
    connection: Connection, settings: Settings
) -> None:
    # The only interaction there is comes with another slice of the people than most members.
    connection.execute("DELETE FROM behavior.interactions_scored WHERE user_id <> 'stranger'")
    analysed = analyze_patterns(connection, settings, as_of=AS_OF, batch_size=1)
    assert analysed.members == len(stored(connection)) == 7


def test_what_breaks_half_way_leaves_the_table_as_it_was(
    connection: Connection, settings: Settings
) -> None:
    analyze_patterns(connection, settings, as_of=AS_OF)
    before = as_stored(connection)

    def stop(_done: int, _of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze_patterns(connection, settings, as_of=ago(1), batch_size=2, report=stop)
    assert as_stored(connection).equals(before)


def test_a_batch_has_at_least_one_member(connection: Connection, settings: Settings) -> None:
    with pytest.raises(ValueError, match="batch_size of at least 1, found 0"):
        analyze_patterns(connection, settings, as_of=AS_OF, batch_size=0)
