"""The command `engagement`, from its arguments to its exit status."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from engagement_pipeline import cli
from engagement_pipeline.contracts import contracts
from engagement_pipeline.contracts.vocabulary import LEVELS
from tests.home import tables
from tests.small_source import (
    ADMIN,
    AS_OF,
    EXPECTED_LEVELS,
    ORGS,
    ago,
    write_small_source,
    write_table,
)

DONE, FAILED, USAGE = 0, 1, 2
MARTS = [mart.name for mart in contracts("marts")]


@dataclass(frozen=True)
class Answer:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def told(self) -> str:
        """What went wrong, without the line breaks that the terminal's width makes."""
        return " ".join(self.err.split())


class Terminal:
    """Gives commands in this process, through the entry point that the console script calls."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._capture = capture

    def __call__(self, *words: str) -> Answer:
        self._patch.setattr(sys, "argv", ["engagement", *words])
        self._capture.readouterr()
        try:
            cli.main()
            status = DONE
        except SystemExit as end:
            status = int(end.code or 0)
        printed = self._capture.readouterr()
        return Answer(status, printed.out, printed.err)


@pytest.fixture
def engagement(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)


@dataclass(frozen=True)
class Home:
    folder: Path
    source: Path
    first_run: dict[str, Any]

    @property
    def published(self) -> Path:
        return self.folder / "data" / "published" / "engagement.duckdb"

    @property
    def warehouse(self) -> Path:
        return self.folder / "data" / "warehouse.duckdb"


def _in_home(patch: pytest.MonkeyPatch, home: Path, source: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ENGAGEMENT_")]:
        patch.delenv(name)
    patch.setenv("ENGAGEMENT_HOME", str(home))
    patch.setenv("ENGAGEMENT_SOURCE", str(source))
    patch.setenv("DAGSTER_HOME", str(home / ".dagster"))


def _console_script(*words: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("engagement")
    return subprocess.run([script, *words], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home folder where the pipeline has run once on the small source."""
    folder = tmp_path_factory.mktemp("home")
    source = write_small_source(tmp_path_factory.mktemp("source"))
    with pytest.MonkeyPatch.context() as patch:
        _in_home(patch, folder, source)
        ran = _console_script("run", "--as-of", AS_OF.isoformat(), "--json")
        assert ran.returncode == DONE, ran.stderr
        yield Home(folder, source, json.loads(ran.stdout))


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder where nothing has ever run."""
    _in_home(monkeypatch, tmp_path / "home", tmp_path / "source")
    return tmp_path / "home"


def _marts(path: Path) -> dict[str, pl.DataFrame]:
    return tables(path, "marts")


def _fingerprints(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below the folder, by its bytes and the time it was last written."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def _is_one_paragraph(text: str) -> bool:
    return bool(text.strip()) and "Traceback" not in text and "\n\n" not in text.strip()


# --- What a run tells, and what stands published after it.


def test_a_run_tells_machines_its_jobs_levels_and_what_was_published(home: Home) -> None:
    told = home.first_run
    assert [(job["job_name"], job["is_success"]) for job in told["jobs"]] == [
        ("refresh", True),
        ("classify", True),
    ]
    assert told["failures"] == []
    counts = {level: list(EXPECTED_LEVELS.values()).count(level) for level in LEVELS}
    assert told["levels"] == [
        {"org_id": org, "org_name": org.title(), "as_of": AS_OF.isoformat(), "members": 3} | counts
        for org in ORGS
    ]
    rows = {row["table"]: row["rows"] for row in told["published"]}
    assert rows == {name: frame.height for name, frame in _marts(home.published).items()}


def test_status_tells_machines_what_is_published_and_how_the_last_runs_ended(
    home: Home, engagement: Terminal
) -> None:
    answer = engagement("status", "--json")
    assert answer.status == DONE
    # Decisions that were refused meanwhile, in tests that share the home, are counted there too.
    shown, first = (
        [row for row in published if row["table"] != "marts.data_quality"]
        for published in (answer.json["published"], home.first_run["published"])
    )
    assert shown == first
    assert answer.json["members_by_level"] == home.first_run["levels"]
    assert answer.json["organisations_left_failed"] == []
    told = {run["run"]: run["status"] for run in answer.json["last_runs"]}
    assert told == {job["run_id"]: "SUCCESS" for job in home.first_run["jobs"]}


@pytest.mark.usefixtures("home")
def test_status_shows_people_the_same_in_tables(engagement: Terminal) -> None:
    answer = engagement("status")
    assert answer.status == DONE
    for word in ("Published", "Members by level", "Last runs", "choir", "SUCCESS", *MARTS):
        assert word in answer.out


@pytest.mark.usefixtures("home")
def test_a_query_gives_its_rows_with_instants_in_utc(engagement: Terminal) -> None:
    answer = engagement(
        "query",
        "SELECT user_id, effective_level, as_of FROM marts.member_engagement "
        "WHERE org_id = 'choir' ORDER BY user_id",
        "--json",
    )
    assert answer.status == DONE
    assert answer.json == [
        {"user_id": user, "effective_level": level, "as_of": AS_OF.isoformat()}
        for user, level in sorted(EXPECTED_LEVELS.items())
    ]


def test_a_query_cannot_change_what_is_published(home: Home, engagement: Terminal) -> None:
    before = _fingerprints(home.published.parent)
    for sql in (
        "DELETE FROM marts.member_engagement",
        "DROP TABLE marts.org_summary",
        "CREATE TABLE marts.mine AS SELECT 1 AS one",
    ):
        answer = engagement("query", sql)
        assert answer.status == FAILED
        assert "read-only" in answer.told
    assert _fingerprints(home.published.parent) == before


@pytest.mark.usefixtures("home")
def test_explain_tells_the_level_why_the_signals_and_the_history(engagement: Terminal) -> None:
    answer = engagement("explain", "--org", "choir", "--user", "keen", "--json")
    assert answer.status == DONE
    assert answer.json["member"]["effective_level"] == "highly_engaged"
    assert "3" in answer.json["member"]["admin_explanation"]
    assert answer.json["signals"]["events_attended_90d"] == 3
    assert answer.json["signals"]["days_since_joined"] == 400
    assert [(row["as_of"], row["effective_level"]) for row in answer.json["history"]] == [
        (AS_OF.isoformat(), "highly_engaged")
    ]
    shown = engagement("explain", "--org", "choir", "--user", "keen")
    assert shown.status == DONE
    assert answer.json["member"]["admin_explanation"][:20] in shown.out


@pytest.mark.parametrize(("org", "user"), [("choir", "nobody"), ("nowhere", "keen")])
@pytest.mark.usefixtures("home")
def test_explaining_who_is_not_there_fails_and_names_the_organisations_there_are(
    engagement: Terminal, org: str, user: str
) -> None:
    answer = engagement("explain", "--org", org, "--user", user)
    assert answer.status == FAILED
    assert _is_one_paragraph(answer.err)
    for word in (org, user, "choir, garden, runners"):
        assert word in answer.told


# --- Settings.


def test_settings_show_where_each_value_came_from(
    home: Home, engagement: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = home.folder / "engagement.toml"
    toml.write_text("inactive_days = 200\nmoderate_min = 2\n")
    monkeypatch.setenv("ENGAGEMENT_MODERATE_MIN", "3")
    try:
        answer = engagement("settings", "--json")
    finally:
        toml.unlink()
    assert answer.status == DONE
    knobs = {knob["name"]: knob for knob in answer.json}
    found = {
        name: (knobs[name]["value"], knobs[name]["came_from"])
        for name in ("inactive_days", "moderate_min", "new_member_days", "home")
    }
    assert found == {
        "inactive_days": ("200", str(toml)),
        "moderate_min": ("3", "environment ENGAGEMENT_MODERATE_MIN"),
        "new_member_days": ("60", "default"),
        "home": (str(home.folder), "environment ENGAGEMENT_HOME"),
    }
    assert all(knob["description"] for knob in knobs.values())


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("ENGAGEMENT_MODERATE_MIN", "9", "highly_engaged_min"),
        ("ENGAGEMENT_INACTIVE_DAYS", "soon", "inactive_days"),
        ("ENGAGEMENT_MAX_REJECT_SHARE", "0.9", "production"),
    ],
)
@pytest.mark.usefixtures("home")
def test_a_setting_that_cannot_be_fails_every_command_and_is_named(
    engagement: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    word: str,
) -> None:
    monkeypatch.setenv(name, value)
    for command in (["settings"], ["status"], ["run", "--dry-run"]):
        answer = engagement(*command)
        assert answer.status == FAILED
        assert _is_one_paragraph(answer.err)
        assert word in answer.told


def test_a_settings_file_that_is_no_toml_is_named(home: Home, engagement: Terminal) -> None:
    toml = home.folder / "engagement.toml"
    toml.write_text("inactive_days = = 3")
    try:
        answer = engagement("settings")
    finally:
        toml.unlink()
    assert answer.status == FAILED
    assert _is_one_paragraph(answer.err)
    assert str(toml) in answer.told


# --- Exports.


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_exported_files_hold_the_marts(
    home: Home, engagement: Terminal, tmp_path: Path, kind: str
) -> None:
    answer = engagement("export", "--to", str(tmp_path / "out"), "--format", kind, "--json")
    assert answer.status == DONE
    paths = {Path(row["file"]).stem: Path(row["file"]) for row in answer.json}
    assert sorted(paths) == sorted(MARTS)
    with_clocks = _marts_with_clocks(home.published)
    for name, path in paths.items():
        expected = with_clocks[name]
        columns = expected.columns
        exported = _read_export(path, kind, expected.schema)
        assert exported.columns == columns
        assert_frame_equal(exported.sort(columns), expected.sort(columns))


def _marts_with_clocks(path: Path) -> dict[str, pl.DataFrame]:
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = {
            name: pl.DataFrame(connection.sql(f"SELECT * FROM marts.{name}")) for name in MARTS
        }
    utc = pl.selectors.datetime(time_zone="*").dt.convert_time_zone("UTC")
    return {name: frame.with_columns(utc) for name, frame in found.items()}


def _read_export(path: Path, kind: str, schema: pl.Schema) -> pl.DataFrame:
    if kind == "parquet":
        return pl.read_parquet(path)
    as_text = pl.Schema(
        {name: pl.String if dtype.is_temporal() else dtype for name, dtype in schema.items()}
    )
    if kind == "csv":
        found = pl.read_csv(path, schema=as_text)
    else:
        found = pl.read_ndjson(path, schema=as_text)
    return found.with_columns(
        pl.col(name).str.to_date()
        if dtype == pl.Date
        else pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC")
        for name, dtype in schema.items()
        if dtype.is_temporal()
    )


@pytest.mark.usefixtures("home")
def test_only_the_marts_asked_for_are_exported(engagement: Terminal, tmp_path: Path) -> None:
    answer = engagement("export", "--to", str(tmp_path), "--mart", "org_summary")
    assert answer.status == DONE
    assert [path.name for path in tmp_path.iterdir()] == ["org_summary.csv"]


@pytest.mark.usefixtures("home")
def test_an_unknown_mart_is_an_error_that_names_those_there_are(
    engagement: Terminal, tmp_path: Path
) -> None:
    answer = engagement("export", "--to", str(tmp_path), "--mart", "summary")
    assert answer.status == FAILED
    assert _is_one_paragraph(answer.err)
    assert "org_summary" in answer.told
    assert list(tmp_path.iterdir()) == []


# --- The plan of a run.


def test_a_dry_run_changes_no_file_and_tells_what_is_due(
    home: Home, engagement: Terminal, tmp_path: Path
) -> None:
    before = _fingerprints(home.folder)
    source = write_small_source(tmp_path / "more")
    with_new_file = write_table(
        source, "events", ["event_id", "org_id", "starts_at"], [["e1", "choir", ago(3)]]
    ).parent
    moment, later = AS_OF.isoformat(), AS_OF.replace(day=2).isoformat()
    plans = {
        "the same moment": ["--as-of", moment],
        "another moment": ["--as-of", later],
        "one organisation": ["--as-of", later, "--org", "garden"],
        "a new file": ["--as-of", moment, "--source", str(with_new_file)],
    }
    told = {}
    for name, words in plans.items():
        answer = engagement("run", "--dry-run", "--json", *words)
        assert answer.status == DONE, answer.err
        plan = answer.json
        told[name] = (plan["new_files"], plan["due_orgs"], plan["members"], plan["cost_usd"])
    assert told == {
        "the same moment": (0, 0, 0, 0.0),
        "another moment": (0, 3, 9, 0.0),
        "one organisation": (0, 1, 3, 0.0),
        "a new file": (1, 3, 9, 0.0),
    }
    assert _fingerprints(home.folder) == before


@pytest.mark.usefixtures("home")
def test_a_dry_run_for_an_organisation_there_is_not_fails_as_the_run_would(
    engagement: Terminal,
) -> None:
    words = ["run", "--dry-run", "--json", "--as-of", AS_OF.isoformat(), "--org", "choir"]
    answer = engagement(*words, "--org", "gardn")
    assert answer.status == FAILED
    assert answer.out == ""
    assert _is_one_paragraph(answer.err)
    assert "expected one of choir, garden, runners, found gardn" in answer.told


@pytest.mark.usefixtures("home")
def test_a_dry_run_takes_an_organisation_that_a_new_file_may_bring(
    engagement: Terminal, tmp_path: Path
) -> None:
    source = write_small_source(tmp_path)
    write_table(source, "organizations", ["org_id", "name"], [["gardn", "Gardn"]])
    words = ["run", "--dry-run", "--json", "--as-of", AS_OF.isoformat(), "--source", str(source)]
    answer = engagement(*words, "--org", "gardn")
    assert answer.status == DONE, answer.err
    assert answer.json["new_files"] == 1


def test_a_dry_run_where_nothing_ever_ran_creates_nothing(
    empty_home: Path, engagement: Terminal
) -> None:
    write_small_source(empty_home.parent / "source")
    answer = engagement("run", "--dry-run", "--json")
    assert answer.status == DONE
    assert answer.json["new_files"] == 3
    assert not empty_home.exists()


# --- Overrides.


@pytest.mark.usefixtures("home")
def test_overrides_in_force_are_listed_and_a_clear_ends_them(engagement: Terminal) -> None:
    assert engagement("override", "list", "--json").json == []
    who = ["--org", "choir", "--user", "lost", "--by", ADMIN, "--at", AS_OF.isoformat()]
    answer = engagement(
        "override", "set", *who, "--level", "inactive", "--notes", "[moved] away", "--json"
    )
    assert answer.status == DONE, answer.err
    (row,) = answer.json
    assert (row["user_id"], row["override_level"], row["computed_level"]) == (
        "lost",
        "inactive",
        "at_risk",
    )
    assert datetime.fromisoformat(row["overridden_at"]) == AS_OF
    assert engagement("override", "list", "--org", "choir", "--json").json == [row]
    assert engagement("override", "list", "--org", "garden", "--json").json == []
    assert "[moved] away" in engagement("override", "list").out
    cleared = engagement("override", "clear", *who, "--notes", "back again", "--json")
    assert cleared.status == DONE, cleared.err
    assert cleared.json == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["--by", "keen", "--notes", "x"], "not_an_admin"),
        (["--by", ADMIN, "--notes", "x", "--user", "nobody"], "unknown_member"),
        (["--by", ADMIN, "--notes", " "], "missing_notes"),
    ],
)
def test_a_decision_that_does_not_hold_fails_with_its_reason_and_changes_nothing(
    home: Home, engagement: Terminal, given: list[str], reason: str
) -> None:
    before = _marts(home.published)["marts.member_engagement"]
    who = ["--org", "choir", "--level", "inactive", "--at", AS_OF.isoformat()]
    user = [] if "--user" in given else ["--user", "lost"]
    answer = engagement("override", "set", *who, *user, *given)
    assert answer.status == FAILED
    assert _is_one_paragraph(answer.err)
    assert reason in answer.told
    assert_frame_equal(_marts(home.published)["marts.member_engagement"], before)


# --- Usage, and how errors look.


@pytest.mark.parametrize(
    "words",
    [
        "no-such-command",
        "run --no-such-option",
        "run --as-of yesterday",
        "run --dry-run --as-of 2026-13-01",
        "run --dry-run --classifier crystal-ball",
        "query",
        "explain --org choir",
        "export",
        "export --to out --format xlsx",
        "demo --seed lucky",
        "override set --org choir --user lost --level bored --notes x --by ada",
        "override set --org choir --user lost --level new --notes x --by ada --at noon",
        "override clear --org choir --user lost",
    ],
)
def test_what_cannot_be_asked_is_usage_and_starts_nothing(
    empty_home: Path, engagement: Terminal, words: str
) -> None:
    answer = engagement(*words.split())
    assert answer.status == USAGE
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert not empty_home.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["query", "SELECT 1"],
        ["explain", "--org", "choir", "--user", "keen"],
        ["override", "list"],
        ["export", "--to", "out"],
    ],
    ids=" ".join,
)
def test_where_nothing_is_published_reading_fails_and_says_what_to_do(
    empty_home: Path, engagement: Terminal, words: list[str]
) -> None:
    answer = engagement(*words)
    assert answer.status == FAILED
    assert answer.out == ""
    assert _is_one_paragraph(answer.err)
    assert str(empty_home) in answer.told
    assert "engagement run" in answer.told


@pytest.mark.usefixtures("empty_home")
def test_status_where_nothing_is_published_is_no_failure(engagement: Terminal) -> None:
    answer = engagement("status", "--json")
    assert answer.status == DONE
    assert answer.json == {"published": [], "last_runs": [], "organisations_left_failed": []}


@pytest.mark.parametrize(
    "sql", ["SELEC 1", "SELECT nope FROM marts.org_summary", "SELECT * FROM nowhere", "SELECT '"]
)
@pytest.mark.usefixtures("home")
def test_a_query_that_fails_is_one_paragraph(engagement: Terminal, sql: str) -> None:
    answer = engagement("query", sql)
    assert answer.status == FAILED
    assert _is_one_paragraph(answer.err)


@pytest.mark.usefixtures("home")
def test_an_error_is_one_paragraph_and_with_debug_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "nowhere").mkdir()
    words = ["run", "--source", str(tmp_path / "nowhere"), "--as-of", AS_OF.isoformat()]
    plain = _console_script(*words, "--json")
    assert plain.returncode == FAILED
    assert _is_one_paragraph(plain.stderr)
    assert str(tmp_path / "nowhere") in " ".join(plain.stderr.split())
    told = json.loads(plain.stdout)
    assert [job["is_success"] for job in told["jobs"]] == [False]
    assert told["failures"]
    debugged = _console_script(*words, "--debug")
    assert debugged.returncode == FAILED
    assert "Traceback" in debugged.stderr


@pytest.mark.usefixtures("home")
def test_every_command_takes_debug(engagement: Terminal) -> None:
    for words in (
        ["query", "SELECT 1 AS one"],
        ["status"],
        ["explain", "--org", "choir", "--user", "keen"],
        ["settings"],
        ["override", "list"],
        ["db", "upgrade"],
    ):
        assert engagement(*words, "--debug").status == DONE, words
    with pytest.raises(Exception, match="nowhere"):
        engagement("query", "SELECT * FROM nowhere", "--debug")


# --- The warehouse file.


@pytest.mark.usefixtures("empty_home")
def test_a_second_upgrade_finds_nothing_to_do(engagement: Terminal) -> None:
    first = engagement("db", "upgrade", "--json")
    assert first.status == DONE
    assert [row["version"] for row in first.json] == list(range(1, len(first.json) + 1))
    assert first.json
    second = engagement("db", "upgrade", "--json")
    assert (second.status, second.json) == (DONE, [])


def test_an_upgrade_of_a_file_that_is_no_database_fails_and_leaves_it(
    empty_home: Path, engagement: Terminal
) -> None:
    path = empty_home / "data" / "warehouse.duckdb"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"these are not the bytes of a database" * 200)
    before = path.read_bytes()
    answer = engagement("db", "upgrade")
    assert answer.status == FAILED
    assert _is_one_paragraph(answer.err)
    assert str(path) in answer.told
    assert path.read_bytes() == before
