"""Publishing: readers never notice, failures leave yesterday's file, kills heal."""

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from engagement_pipeline.contracts import contract, contracts
from engagement_pipeline.settings import PROJECT_FOLDER
from engagement_pipeline.warehouse.audit import AuditError, planned_checks
from engagement_pipeline.warehouse.connection import Connection, WarehouseError
from engagement_pipeline.warehouse.frames import read_table
from engagement_pipeline.warehouse.publication import (
    Publication,
    PublicationError,
    create_views,
    publish,
)
from engagement_pipeline.warehouse.published import NotPublishedError, open_published
from engagement_pipeline.warehouse.sql_models import SqlProject, load_project

NOW = datetime(2026, 3, 25, 5, tzinfo=UTC)


class House:
    """A warehouse and its published folder, with a clock that moves on with every publish."""

    def __init__(self, folder: Path, project: SqlProject, world: Any) -> None:
        self.warehouse = folder / "warehouse.duckdb"
        self.folder = folder / "published"
        self.path = self.folder / "engagement.duckdb"
        self.project = project
        self.as_of = world.shown
        self.now = NOW
        world.write(self.warehouse)

    def publish(self, connection: Connection | None = None, **given: Any) -> Publication:
        if connection is None:
            with duckdb.connect(str(self.warehouse)) as own:
                return self.publish(own, **given)
        self.now += timedelta(minutes=1)
        arguments = {
            "published_path": self.path,
            "keep_snapshots": 3,
            "as_of": self.as_of,
            "published_at": self.now,
        }
        return publish(connection, given.pop("project", self.project), **arguments | given)

    def execute(self, sql: str) -> None:
        with duckdb.connect(str(self.warehouse)) as connection:
            connection.execute(sql)

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def leftovers(self) -> list[str]:
        return [name for name in self.files() if ".building" in name or name.endswith(".wal")]


@pytest.fixture
def house(
    tmp_path: Path, sql_project: SqlProject, make_seeded_world: Callable[[int], Any]
) -> House:
    return House(tmp_path, sql_project, make_seeded_world(21))


def members_in(path: Path) -> tuple[int, int]:
    """The members as two marts give them: equal in every file that was published whole."""
    with open_published(path) as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM marts.member_engagement), "
            "(SELECT sum(members) FROM marts.org_summary)"
        ).fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


# --- what is published --------------------------------------------------------------------------


def test_a_publication_says_what_it_put_where(house: House) -> None:
    publication = house.publish()
    assert {m.full_name for m in publication.marts} == {c.full_name for c in contracts("marts")}
    assert publication.bytes == house.path.stat().st_size
    assert all(check.passed and check.failing_rows == 0 for check in publication.checks)
    assert len({(c.asset, c.name) for c in publication.checks}) == len(publication.checks)
    with open_published(house.path) as connection:
        for mart in publication.marts:
            found = connection.execute(f"SELECT count(*) FROM {mart.full_name}").fetchone()
            assert found == (mart.rows,)
            assert mart.parquet_bytes == mart.parquet_path.stat().st_size
    assert house.leftovers() == []


def test_checks_are_known_by_name_before_anything_is_built(house: House) -> None:
    planned = [(c.asset, c.name, c.column) for c in planned_checks(house.project)]
    assert planned == [(c.asset, c.name, c.column) for c in house.publish().checks]


def test_parquet_equals_the_tables_in_rows_and_order(house: House) -> None:
    publication = house.publish()
    with open_published(house.path) as connection:
        for mart in publication.marts:
            table = read_table(connection, contract(mart.full_name))
            from_parquet = pl.read_parquet(mart.parquet_path).cast(dict(table.schema))
            assert_frame_equal(from_parquet, table)
            if key := contract(mart.full_name).key:
                assert_frame_equal(table, table.sort(key, nulls_last=True))


def test_the_published_tables_have_the_contracts_types_comments_and_constraints(
    house: House,
) -> None:
    house.publish()
    with open_published(house.path) as connection:
        tables = dict(
            connection.execute("SELECT table_name, comment FROM duckdb_tables()").fetchall()
        )
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns() "
            "WHERE schema_name = 'marts'"
        ).fetchall()
    found = {(table, column): rest for table, column, *rest in columns}
    for mart in contracts("marts"):
        assert tables[mart.name].startswith(mart.description)
        for column in mart.columns:
            data_type, is_nullable, comment = found.pop((mart.name, column.name))
            assert data_type.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ") == column.sql_type
            assert is_nullable == column.is_nullable
            assert comment == column.description
    assert found == {}


def test_an_instant_reads_the_same_in_a_session_of_any_zone(house: House) -> None:
    house.publish()
    moments = set()
    for zone in ("UTC", "Asia/Kathmandu"):
        with duckdb.connect(str(house.path), read_only=True) as connection:
            connection.execute(f"SET TimeZone = '{zone}'")
            found = connection.execute(
                "SELECT epoch_us(max(as_of)) FROM marts.org_summary"
            ).fetchone()
        assert found is not None
        moments.add(datetime.fromtimestamp(found[0] / 1e6, UTC))
    assert moments == {house.as_of}


def test_snapshots_are_complete_and_only_the_newest_are_kept(house: House) -> None:
    made = [house.publish() for _ in range(5)]
    kept = sorted((house.folder / "history").iterdir())
    assert kept == sorted(p.snapshot_path for p in made[-3:])
    assert made[-1].removed_snapshots == (made[1].snapshot_path,)
    assert all(members_in(path) == members_in(house.path) for path in kept)
    assert kept[-1].read_bytes() == house.path.read_bytes()


def test_a_past_day_published_again_is_a_new_snapshot(house: House) -> None:
    for _ in range(3):
        house.publish()
    past = house.publish(as_of=house.as_of - timedelta(days=300))
    assert past.snapshot_path.exists()


def test_a_snapshot_is_kept_even_when_the_clock_was_set_back(house: House) -> None:
    for _ in range(3):
        house.publish()
    back = house.publish(published_at=NOW - timedelta(days=1))
    assert back.snapshot_path.exists()
    assert len(list((house.folder / "history").iterdir())) == 3


def test_without_hard_links_the_snapshot_is_a_copy(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    publication = house.publish()
    assert not publication.snapshot_path.samefile(house.path)
    assert publication.snapshot_path.read_bytes() == house.path.read_bytes()


# --- failures leave yesterday's -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        pytest.param(
            "UPDATE scores.classifications SET source = 'rumour' WHERE user_id = 'user-1'",
            r"marts\.member_engagement: source_accepted_values: \d+ rows.*user-1, rumour",
            id="a word that is not allowed",
        ),
        pytest.param(
            "UPDATE scores.override_history SET new_level = NULL",
            r"marts\.member_engagement: keeps_contract: .*effective_level not_null",
            id="a null where none may be",
        ),
        pytest.param(
            "INSERT INTO raw.profiles SELECT * FROM raw.profiles WHERE user_id = 'user-3'",
            r"marts\.member_engagement: keeps_contract: .*org_id, user_id unique.*user-3",
            id="a key twice",
        ),
    ],
)
def test_a_failed_audit_names_what_failed_and_changes_nothing(
    house: House, damage: str, expected: str
) -> None:
    house.publish()
    before = house.files()
    house.execute(damage)
    with pytest.raises(AuditError, match=expected) as caught:
        house.publish()
    assert house.files() == before
    failed = {(c.asset, c.name) for c in caught.value.failed}
    assert failed
    assert len(caught.value.results) == len(planned_checks(house.project))


def test_a_failed_audit_before_anything_was_published_leaves_nothing(house: House) -> None:
    house.execute("UPDATE scores.classifications SET source = 'rumour'")
    with pytest.raises(AuditError, match="nothing was published"):
        house.publish()
    assert house.files() == {}
    with pytest.raises(NotPublishedError, match="nothing has been published yet"):
        members_in(house.path)


def test_the_connection_can_publish_again_after_a_failure(house: House) -> None:
    with duckdb.connect(str(house.warehouse)) as connection:
        connection.execute("UPDATE scores.classifications SET source = 'rumour'")
        with pytest.raises(AuditError):
            house.publish(connection)
        connection.execute("UPDATE scores.classifications SET source = 'rules'")
        assert house.publish(connection).bytes > 0


def test_what_fails_before_the_swap_leaves_yesterdays_file(house: House) -> None:
    house.publish()
    before = house.path.read_bytes()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        house.publish(before_swap=stop)
    assert house.path.read_bytes() == before
    assert house.leftovers() == []


def project_with(house: House, model: str, change: Callable[[str], str]) -> SqlProject:
    folder = house.folder.parent / "sql"
    shutil.copytree(PROJECT_FOLDER / "dbt_like_sql", folder, dirs_exist_ok=True)
    path = next(folder.rglob(f"{model}.sql"))
    path.write_text(change(path.read_text()))
    return load_project(folder)


def test_a_model_with_other_columns_than_its_contract_is_refused(house: House) -> None:
    project = project_with(
        house, "attendance_daily", lambda sql: sql.replace("AS no_shows", "AS missed")
    )
    with pytest.raises(PublicationError, match=r"missing \['no_shows'\], unknown \['missed'\]"):
        house.publish(project=project)


def test_sql_that_fails_is_named_by_its_model(house: House) -> None:
    project = project_with(house, "attendance_daily", lambda sql: sql.replace("day", "dya", 1))
    with pytest.raises(PublicationError, match=r"^marts\.attendance_daily: "):
        house.publish(project=project)
    assert house.leftovers() == []


def test_a_view_whose_model_is_gone_is_dropped(house: House) -> None:
    with duckdb.connect(str(house.warehouse)) as connection:
        create_views(connection, house.project)
        connection.execute("CREATE VIEW staging.stg_of_last_year AS SELECT 1 AS one")
        create_views(connection, house.project)
        views = connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE schema_name = 'staging'"
        ).fetchall()
    assert {name for (name,) in views} == {view.name for view in house.project.views}


def test_a_log_left_beside_the_old_file_is_not_played_into_the_new_one(house: House) -> None:
    house.publish()
    Path(f"{house.path}.wal").write_bytes(b"not of this file")
    house.publish()
    assert members_in(house.path)[0] > 0
    assert house.leftovers() == []


# --- readers ------------------------------------------------------------------------------------

READER = """
import sys, duckdb
from pathlib import Path
from engagement_pipeline.warehouse.published import open_published
path, stop = Path(sys.argv[1]), Path(sys.argv[2])
query = ("SELECT (SELECT count(*) FROM marts.member_engagement) = "
         "(SELECT sum(members) FROM marts.org_summary)")
opens = 0
while not stop.exists():
    connection = duckdb.connect(str(path), read_only=True)
    assert connection.execute(query).fetchone() == (True,)
    connection.close()
    with open_published(path) as connection:
        assert connection.execute(query).fetchone() == (True,)
    opens += 2
print(opens)
"""


@pytest.mark.slow
def test_readers_in_other_processes_never_fail_while_publishing(
    house: House, tmp_path: Path
) -> None:
    house.publish()
    stop = tmp_path / "stop"
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(house.path), str(stop)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        end = time.monotonic() + 8
        publishes = 0
        while time.monotonic() < end or publishes < 4:
            house.publish()
            publishes += 1
    finally:
        stop.touch()
        outcomes = [reader.communicate(timeout=60) for reader in readers]
    assert [errors for _, errors in outcomes] == ["", ""]
    assert all(int(opens) > 10 for opens, _ in outcomes)


def test_a_reader_keeps_what_it_opened_and_the_next_one_sees_the_new(house: House) -> None:
    house.publish()
    members, _ = members_in(house.path)
    with open_published(house.path) as reader:
        house.execute("DELETE FROM scores.classifications WHERE user_id = 'user-1'")
        house.publish()
        still = reader.execute("SELECT count(*) FROM marts.member_engagement").fetchone()
        assert still == (members,)
        assert members_in(house.path)[0] < members


def test_threads_of_one_process_read_at_once(house: House) -> None:
    house.publish()
    expected = members_in(house.path)
    found: list[tuple[int, int]] = []

    def read() -> None:
        found.extend(members_in(house.path) for _ in range(10))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 30


def test_readers_cannot_write(house: House) -> None:
    house.publish()
    with open_published(house.path) as connection, pytest.raises(duckdb.Error, match="read-only"):
        connection.execute("DELETE FROM marts.org_summary")


def test_a_damaged_file_is_named(house: House) -> None:
    house.publish()
    house.path.write_bytes(b"x" * 20_000)
    with pytest.raises(WarehouseError, match=r"engagement\.duckdb: cannot be read"):
        members_in(house.path)


# --- kills --------------------------------------------------------------------------------------

# Imports once and forks for every publish: starting Python anew took most of the time. It opens
# no database itself, so no thread is lost in the fork.
PUBLISHER = """
import os, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
import duckdb
from engagement_pipeline.warehouse import publication
from engagement_pipeline.warehouse.sql_models import load_project
folder, project = Path(sys.argv[1]), load_project(Path(sys.argv[2]))
sync, synced = publication._sync, 0

def publish_until_killed(die_at):
    def sync_or_die(path):
        global synced
        synced += 1
        if synced == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)
    publication._sync = sync_or_die
    connection = duckdb.connect(str(folder / "warehouse.duckdb"))
    while True:
        now = datetime.now(UTC)
        publication.publish(
            connection, project, published_path=folder / "published" / "engagement.duckdb",
            keep_snapshots=3, as_of=now, published_at=now,
        )

for line in sys.stdin:
    die_at, kill_after_seconds = line.split()
    child = os.fork()
    if child == 0:
        try:
            publish_until_killed(int(die_at))
        finally:
            os._exit(1)
    if int(die_at) < 0:
        time.sleep(float(kill_after_seconds))
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Killer:
    """Publishes in another process, and kills it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def publish_and_kill(self, *, at_sync: int = -1, after_seconds: float = 0) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{at_sync} {after_seconds}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == "-9"


@pytest.fixture
def killer(house: House) -> Iterator[Killer]:
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, house.warehouse.parent, PROJECT_FOLDER / "dbt_like_sql"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Killer(process)
    finally:
        process.kill()
        process.communicate()


def assert_heals(house: House, expected: tuple[int, int]) -> None:
    assert members_in(house.path) == expected
    publication = house.publish()
    assert members_in(house.path) == expected
    assert house.leftovers() == []
    history = sorted((house.folder / "history").iterdir())
    assert publication.snapshot_path in history
    assert len(history) <= 3
    assert {p.name for p in house.folder.iterdir()} == {"engagement.duckdb", "parquet", "history"}


@pytest.mark.slow
def test_a_publish_killed_between_any_two_steps_leaves_a_whole_file_and_heals(
    house: House, killer: Killer
) -> None:
    house.publish()
    expected = members_in(house.path)
    marts = len(house.project.tables)
    # Each mart's Parquet is synced twice; then come the file, the snapshot's name, and the swap.
    last = 2 * marts + 3
    for at_sync in (1, marts, marts + 1, marts + 2, 2 * marts + 1, last - 1, last):
        killer.publish_and_kill(at_sync=at_sync)
        assert_heals(house, expected)


@pytest.mark.slow
def test_a_publish_killed_at_any_moment_leaves_a_whole_file_and_heals(
    house: House, killer: Killer
) -> None:
    house.publish()
    expected = members_in(house.path)
    dice = random.Random(7)
    for _ in range(8):
        killer.publish_and_kill(after_seconds=dice.uniform(0.0, 1.2))
        assert_heals(house, expected)


def test_bytes_are_on_the_disk_before_a_file_takes_its_final_name(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real_sync(descriptor)

    def replace(path: Path, target: Path) -> Path:
        linked = [other for other in synced if other.exists() and other.samefile(path)]
        assert linked, f"{path} was renamed before its bytes were on disk"
        return real_replace(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    publication = house.publish()
    assert synced[-1] == publication.path.parent
