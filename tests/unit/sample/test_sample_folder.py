"""The folder: the same bytes for the same arguments, whole or not at all, nobody's files lost."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from engagement_pipeline.sample import ForeignFilesError, folder, generate, write_sample
from engagement_pipeline.sample.layout import SampleFile

MANIFEST = ".sample-manifest.json"


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def one_small_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What matters here is the folder; a sample of one file keeps these tests quick."""

    def sample_files(as_of: datetime, seed: int) -> list[SampleFile]:
        frame = pl.DataFrame({"org_id": [f"{as_of:%Y}-{seed}"]})
        return [SampleFile("organizations.csv", "organizations", "csv", frame, (), {})]

    monkeypatch.setattr(folder, "sample_files", sample_files)


def test_another_process_with_another_hash_seed_writes_the_same_bytes(
    source: Path, tmp_path: Path, as_of: datetime, seed: int
) -> None:
    code = (
        "import sys; from datetime import datetime; from pathlib import Path;"
        "from engagement_pipeline.sample import write_sample;"
        f"write_sample(Path(sys.argv[1]), as_of=datetime.fromisoformat(sys.argv[2]), seed={seed})"
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "4242",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TZ": "Asia/Tokyo",
        "POLARS_MAX_THREADS": "1",
    }
    again = tmp_path / "again"
    command = [sys.executable, "-c", code, str(again), as_of.isoformat()]
    subprocess.run(command, env=environment, check=True)
    assert contents(again) == contents(source)


def test_the_zone_in_which_as_of_is_given_does_not_matter(
    tables: dict[str, pl.DataFrame], as_of: datetime, seed: int
) -> None:
    elsewhere = generate(as_of.astimezone(timezone(timedelta(hours=9))), seed)
    without_zone = generate(as_of.replace(tzinfo=None), seed)
    assert elsewhere.keys() == without_zone.keys() == tables.keys()
    for table, frame in elsewhere.items():
        assert_frame_equal(frame, without_zone[table])


def test_another_seed_tells_another_story(
    tables: dict[str, pl.DataFrame], as_of: datetime, seed: int
) -> None:
    other = generate(as_of, seed + 1)
    ours, theirs = set(tables["memberships"]["user_id"]), set(other["memberships"]["user_id"])
    assert len(ours & theirs) < 0.01 * len(ours)


def test_the_folder_holds_every_table_and_shows_every_format(source: Path) -> None:
    data = [path for path in contents(source) if path != MANIFEST]
    assert len({path.split(".")[0].split("/")[0] for path in data}) == 14
    formats = {path.split(".", 1)[1] for path in data}
    assert formats == {"csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"}
    assert len(list((source / "attendance").iterdir())) == 4


@pytest.mark.usefixtures("one_small_file")
def test_an_older_sample_is_replaced_as_a_whole(tmp_path: Path, as_of: datetime) -> None:
    target = tmp_path / "source"
    write_sample(target, as_of=as_of, seed=1)
    written = write_sample(target, as_of=as_of, seed=2)
    assert written == [target / "organizations.csv"]
    assert written[0].read_text() == "org_id\n2026-2\n"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.usefixtures("one_small_file")
def test_an_empty_folder_is_taken(tmp_path: Path, as_of: datetime) -> None:
    target = tmp_path / "source"
    target.mkdir()
    assert write_sample(target, as_of=as_of) == [target / "organizations.csv"]


@pytest.mark.usefixtures("one_small_file")
def test_a_folder_with_a_file_of_someone_else_is_refused_and_left_alone(
    tmp_path: Path, as_of: datetime
) -> None:
    target = tmp_path / "source"
    write_sample(target, as_of=as_of, seed=1)
    (target / "attendance").mkdir()
    (target / "attendance" / "mine.csv").write_text("my own work")
    before = contents(target)
    with pytest.raises(ForeignFilesError, match=r"attendance/mine\.csv"):
        write_sample(target, as_of=as_of, seed=2)
    assert contents(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_refused_before_anything_is_generated(
    tmp_path: Path, as_of: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.csv").write_text("my own work")

    def sample_files(*_: object) -> list[SampleFile]:
        raise AssertionError("generated for nothing")

    monkeypatch.setattr(folder, "sample_files", sample_files)
    with pytest.raises(ForeignFilesError):
        write_sample(tmp_path, as_of=as_of)


def test_a_file_that_comes_while_the_sample_is_made_is_not_lost(
    tmp_path: Path, as_of: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "source"

    def sample_files(*_: object) -> list[SampleFile]:
        target.mkdir()
        (target / "mine.csv").write_text("my own work")
        return []

    monkeypatch.setattr(folder, "sample_files", sample_files)
    with pytest.raises(ForeignFilesError):
        write_sample(target, as_of=as_of)
    assert contents(target) == {"mine.csv": b"my own work"}
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.usefixtures("one_small_file")
def test_a_sample_that_was_edited_is_refused(tmp_path: Path, as_of: datetime) -> None:
    target = tmp_path / "source"
    (written,) = write_sample(target, as_of=as_of, seed=1)
    written.write_text("org_id\nmine\n")
    with pytest.raises(ForeignFilesError, match=r"organizations\.csv"):
        write_sample(target, as_of=as_of, seed=1)
    assert written.read_text() == "org_id\nmine\n"


@pytest.mark.usefixtures("one_small_file")
@pytest.mark.parametrize("manifest", ["", "[]", '{"files": ["organizations.csv"]}', "{}"])
def test_a_manifest_that_is_none_vouches_for_nothing(
    tmp_path: Path, as_of: datetime, manifest: str
) -> None:
    target = tmp_path / "source"
    write_sample(target, as_of=as_of)
    (target / MANIFEST).write_text(manifest)
    with pytest.raises(ForeignFilesError):
        write_sample(target, as_of=as_of)


@pytest.mark.usefixtures("one_small_file")
def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path, as_of: datetime) -> None:
    target = tmp_path / "source"
    target.write_text("a file")
    with pytest.raises(ForeignFilesError, match="is a file"):
        write_sample(target, as_of=as_of)
    assert target.read_text() == "a file"


@pytest.mark.usefixtures("one_small_file")
def test_a_linked_folder_is_filled_and_stays_a_link(tmp_path: Path, as_of: datetime) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real, target_is_directory=True)
    write_sample(link, as_of=as_of)
    assert link.is_symlink()
    assert (real / "organizations.csv").exists()


@pytest.mark.usefixtures("one_small_file")
@pytest.mark.parametrize("failing", ["write_bytes", "rename"])
def test_a_failure_leaves_the_older_sample_and_no_litter(
    tmp_path: Path, as_of: datetime, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    target = tmp_path / "source"
    write_sample(target, as_of=as_of, seed=1)
    before = contents(target)
    original = getattr(Path, failing)

    def fail_on_the_new_one(path: Path, *args: object) -> object:
        if "new" in path.parts:
            raise OSError("no space left on device")
        return original(path, *args)

    monkeypatch.setattr(Path, failing, fail_on_the_new_one)
    with pytest.raises(OSError, match="no space left"):
        write_sample(target, as_of=as_of, seed=2)
    assert contents(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_clean_is_known_before_it_happened(
    tables: dict[str, pl.DataFrame], as_of: datetime
) -> None:
    announced = {"starts_at", "ends_at", "expires_at"}
    for table, frame in tables.items():
        for name in (name for name in frame.columns if name.endswith("_at")):
            if name in announced:
                continue
            later = frame.filter(pl.col(name) > as_of)[name].drop_nulls()
            # What is later than `as_of` is planted, and then by more than ten years.
            assert later.filter(later < datetime(2036, 1, 1, tzinfo=UTC)).is_empty(), (table, name)
