"""What may go wrong around a run: a held warehouse, a full disk, a killed process, a busy reader.

Everything is real here: processes, signals, file systems and files.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.forking import Command
from tests.home import tables
from tests.small_source import ADMIN, AS_OF, ago, write_small_source, write_table

SCRIPT = Path(sys.executable).with_name("engagement")
PATIENCE_SECONDS = 240
"""How long a test waits for a process that should end by itself."""

KILLS = int(os.environ.get("KILLS", "6"))
"""Each takes seconds; `make test-long` has thirty."""
READINGS = 200
DISK_MB = 64

# The list of runs grows with every run; no other table may tell how often one was tried.
LIST_OF_RUNS = "scores.scoring_runs"
# It has a row for each moment at which a table's files came in: only its sums are the source's.
LIST_OF_INGESTIONS = "marts.data_quality"


@dataclass
class Home:
    """A home folder and its source, worked on by processes of their own."""

    folder: Path
    source: Path

    @property
    def warehouse(self) -> Path:
        return self.folder / "data" / "warehouse.duckdb"

    @property
    def published(self) -> Path:
        return self.folder / "data" / "published" / "engagement.duckdb"

    @property
    def words(self) -> list[str]:
        return ["run", "--source", str(self.source), "--as-of", AS_OF.isoformat(), "--json"]

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ENGAGEMENT_")}
        return inherited | {"ENGAGEMENT_HOME": str(self.folder)} | dict(variables)

    def start(self, **variables: str) -> Command:
        """`engagement run`, in a process and a session of its own."""
        # Beside the home: where there is no room for the home, its words must still be kept.
        printed = self.source.parent / "printed"
        return Command(self.words, self.environment(variables), printed)

    def run(self, **variables: str) -> "subprocess.CompletedProcess[str]":
        """`engagement run` to its end, whatever that is."""
        process = self.start(**variables)
        try:
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run_script(self, **variables: str) -> "subprocess.CompletedProcess[str]":
        """The same by the console script, as a terminal or cron starts it."""
        return subprocess.run(
            [SCRIPT, *self.words],
            env=self.environment(variables),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def tables(self) -> dict[str, pl.DataFrame]:
        """All that the warehouse and the published file hold, the clock's columns aside."""
        found = tables(self.warehouse, "raw", "signals", "scores")
        return found | tables(self.published, "marts")

    def shown(self) -> list[tuple[object, ...]]:
        """What an analyst reads in the published file, opened as another process would."""
        with duckdb.connect(str(self.published), read_only=True) as connection:
            return connection.execute(
                "SELECT org_id, user_id, effective_level, events_attended_total "
                "FROM marts.member_engagement ORDER BY ALL"
            ).fetchall()

    def unfinished(self) -> list[Path]:
        """Files that a publish or an ingest should not have left lying about."""
        data = self.folder / "data"
        spooled = (data / "spool").rglob("*") if (data / "spool").exists() else ()
        return [*data.rglob("*.building*"), *(path for path in spooled if path.is_file())]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The small source, its attendance as a folder to which files can be added."""
    folder = write_small_source(tmp_path / "source")
    (folder / "attendance").mkdir()
    (folder / "attendance.csv").rename(folder / "attendance" / "first.csv")
    return folder


@pytest.fixture
def home(tmp_path: Path, source: Path) -> Home:
    return Home(tmp_path / "home", source)


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a process and all it started, in the hardest way there is."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_one_paragraph(text: str) -> bool:
    return bool(text.strip()) and "Traceback" not in text and "\n\n" not in text.strip()


def _assert_same_tables(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    assert found.keys() == expected.keys()
    for name in sorted(expected.keys() - {LIST_OF_RUNS, LIST_OF_INGESTIONS}):
        assert found[name].equals(expected[name]), name
    assert_frame_equal(
        *(_ingested(tables[LIST_OF_INGESTIONS]) for tables in (found, expected)),
        check_row_order=False,
    )


def _ingested(list_of_ingestions: pl.DataFrame) -> pl.DataFrame:
    # The rows of a reason repeat what was read and loaded altogether.
    totals = pl.when(pl.col("reason").is_null()).then(pl.col("rows_read", "rows_loaded"))
    return (
        list_of_ingestions.with_columns(totals)
        .group_by("table_name", "reason")
        .agg(
            pl.col("rows_read", "rows_loaded", "rows_rejected").sum(),
            pl.col("newest_row_at").max(),
        )
    )


def _add_attendance(source: Path, name: str, rows: int) -> None:
    """A further file of the small source's attendance, made whole before it is put in place."""
    made = write_table(
        source.parent / "made",
        name,
        ["org_id", "event_id", "user_id", "status", "created_at"],
        [["garden", f"{name}-{n}", "lost", "attended", ago(100 + n % 500)] for n in range(rows)],
    )
    made.rename(source / "attendance" / made.name)


# --- The warehouse is held by another process.

HOLDER = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
connection.close()
"""


@contextmanager
def _held(path: Path, *, seconds: float) -> Iterator["subprocess.Popen[str]"]:
    path.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        _kill(process)


def test_a_run_gives_up_on_a_warehouse_that_is_held_and_names_who_holds_it(home: Home) -> None:
    with _held(home.warehouse, seconds=PATIENCE_SECONDS) as holder:
        ended = home.run_script(ENGAGEMENT_LOCK_TIMEOUT_SECONDS="0.5")
        assert holder.poll() is None
    assert ended.returncode == 1
    assert _is_one_paragraph(ended.stderr)
    # The terminal's width breaks lines.
    told = " ".join(ended.stderr.split())
    assert str(home.warehouse) in told
    assert f"PID {holder.pid}" in told
    assert "lock_timeout_seconds" in told
    assert not home.published.exists()


def test_a_run_waits_for_a_warehouse_that_is_let_go_in_time(home: Home) -> None:
    held_seconds = 10.0
    started = time.monotonic()
    with _held(home.warehouse, seconds=held_seconds):
        ended = home.run(ENGAGEMENT_LOCK_TIMEOUT_SECONDS=str(PATIENCE_SECONDS))
    assert ended.returncode == 0, ended.stderr
    assert time.monotonic() - started > held_seconds
    assert len(home.shown()) == 9


# --- The disk is full.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a file system takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_where_the_disk_is_nearly_full_no_run_starts(small_disk: Path, source: Path) -> None:
    home = Home(small_disk / "home", source)
    ended = home.run_script(ENGAGEMENT_MIN_FREE_DISK_MB=str(DISK_MB * 2))
    assert ended.returncode == 1
    assert _is_one_paragraph(ended.stderr)
    told = " ".join(ended.stderr.split())
    assert f"expected at least {DISK_MB * 2} MB of free disk" in told
    assert "min_free_disk_mb" in told
    assert list(small_disk.iterdir()) == []


# Too little for the records of runs; for loading a file; for the marts.
ROOMS_KB = (300, 1_000, 3_500)


@pytest.mark.slow
def test_a_disk_that_fills_up_in_a_run_harms_nothing_and_a_run_with_room_makes_up_for_it(
    small_disk: Path, tmp_path: Path, source: Path
) -> None:
    home = Home(small_disk / "home", source)
    first = home.run(ENGAGEMENT_MIN_FREE_DISK_MB="0")
    assert first.returncode == 0, first.stderr
    shown, content = home.shown(), home.published.read_bytes()
    for room_kb in ROOMS_KB:
        _add_attendance(home.source, f"many-{room_kb}", rows=20_000)
        _fill(small_disk / "ballast", leaving_kb=room_kb)
        stopped = home.run(ENGAGEMENT_MIN_FREE_DISK_MB="0")
        assert stopped.returncode == 1, room_kb
        assert _is_one_paragraph(stopped.stderr)
        told = " ".join(stopped.stderr.split())
        assert str(small_disk) in told
        assert any(sign in told for sign in ("No space left on device", "MB of disk are free"))
        assert "[SQL:" not in told
        assert home.published.read_bytes() == content
        assert home.shown() == shown
        (small_disk / "ballast").unlink()

    last = home.run(ENGAGEMENT_MIN_FREE_DISK_MB="0")
    assert last.returncode == 0, last.stderr
    assert home.unfinished() == []
    untroubled = Home(tmp_path / "untroubled", home.source)
    assert untroubled.run().returncode == 0
    _assert_same_tables(home.tables(), untroubled.tables())


def _fill(path: Path, *, leaving_kb: int) -> None:
    free = shutil.disk_usage(path.parent).free
    path.write_bytes(bytes(max(0, free - leaving_kb * 1_000)))


# --- The process is killed.


@pytest.mark.slow
def test_runs_killed_at_any_moment_leave_the_published_file_readable_and_are_made_up_for(
    home: Home, tmp_path: Path
) -> None:
    dice = random.Random(20_260_301)
    _add_override_requests(home.source)
    started = time.monotonic()
    untroubled = Home(tmp_path / "untroubled", home.source)
    assert untroubled.run().returncode == 0
    whole_run_seconds = time.monotonic() - started
    shutil.rmtree(untroubled.folder)

    # One moment in each of so many equal parts of a run, from start-up to the last step.
    parts = [(part + dice.random()) / KILLS for part in range(KILLS)]
    dice.shuffle(parts)
    killed = answered = 0
    for number, part in enumerate(parts):
        if number == KILLS // 2 and not home.published.exists():
            # On a busy machine none of those killed came so far, and there is a file to look at.
            assert home.run().returncode == 0
        # Each time there is something new to read, classify and publish.
        _add_attendance(home.source, f"more-{number}", rows=5)
        process = home.start()
        began = time.monotonic()
        try:
            process.communicate(timeout=part * whole_run_seconds)
            # It was faster than the one that was timed.
            whole_run_seconds = min(whole_run_seconds, time.monotonic() - began)
        except subprocess.TimeoutExpired:
            killed += 1
        finally:
            process.kill()
        if home.published.exists():
            answered += 1
            shown = home.shown()
            assert len(shown) == 9
            assert {level for _, user, level, _ in shown if user == "keen"} == {"highly_engaged"}
    assert killed >= KILLS * 2 // 3
    assert answered > 0

    last = home.run()
    assert last.returncode == 0, last.stderr
    assert home.unfinished() == []
    assert untroubled.run().returncode == 0
    _assert_same_tables(home.tables(), untroubled.tables())


def _add_override_requests(source: Path) -> None:
    header = ["request_id", "org_id", "user_id", "action", "level", "notes", "performed_by"]
    write_table(
        source,
        "override_requests",
        [*header, "performed_at", "expires_at"],
        [
            ["r1", "choir", "lost", "override", "new", "back", ADMIN, ago(30), ago(10)],
            ["r2", "garden", "lost", "override", "inactive", "moved", ADMIN, ago(5), ""],
            ["r3", "runners", "lost", "override", "inactive", "no admin", "keen", ago(5), ""],
        ],
    )


# --- Readers come while a run publishes.


@pytest.mark.slow
def test_readers_can_open_the_published_file_at_every_moment_of_a_run(home: Home) -> None:
    assert home.run().returncode == 0
    _add_attendance(home.source, "more", rows=5)
    files, answers = set(), []
    process = home.start()
    try:
        while len(answers) < READINGS or process.poll() is None:
            files.add(home.published.stat().st_ino)
            answers.append(home.shown())
            time.sleep(0.02)
        _, told = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, told
    assert len(answers) >= READINGS
    assert all(len(answer) == 9 for answer in answers)
    assert len(files) == 2
    assert answers[0] != answers[-1]
