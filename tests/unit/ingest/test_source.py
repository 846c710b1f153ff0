"""What `discover` finds in a folder, and what it says of the rest."""

from pathlib import Path

import pytest

from engagement_pipeline.ingest import SourceError, SourceFile, discover

REQUIRED = ("organizations", "memberships", "attendance")


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _source(folder: Path) -> Path:
    _touch(*(folder / f"{table}.csv" for table in REQUIRED))
    return folder


def test_every_ending_is_known_with_its_format(tmp_path: Path) -> None:
    expected = {
        "events.csv": ("csv", False),
        "events.csv.gz": ("csv", True),
        "events.jsonl": ("jsonl", False),
        "events.jsonl.gz": ("jsonl", True),
        "events.parquet": ("parquet", False),
    }
    _touch(*(tmp_path / name for name in expected))
    found = discover(_source(tmp_path)).files["events"]
    assert found == [
        SourceFile("events", tmp_path / name, *expected[name]) for name in sorted(expected)
    ]


def test_a_folder_of_a_table_gives_its_files_in_order_of_name(tmp_path: Path) -> None:
    folder = _source(tmp_path) / "events"
    _touch(folder / "b.csv", folder / "a.parquet", folder / "notes.txt", tmp_path / "events.jsonl")
    found = discover(tmp_path)
    names = [file.path.name for file in found.files["events"]]
    assert names == ["a.parquet", "b.csv", "events.jsonl"]
    assert found.ignored == [folder / "notes.txt"]
    assert not any(found.problems.values())


def test_a_missing_required_table_is_a_problem_that_names_what_was_looked_for(
    tmp_path: Path,
) -> None:
    _touch(tmp_path / "organizations.csv", tmp_path / "memberships.csv")
    problems = discover(tmp_path).problems
    assert [table for table in problems if problems[table]] == ["attendance"]
    assert "attendance.csv.gz" in problems["attendance"][0]
    assert str(tmp_path) in problems["attendance"][0]


def test_an_empty_folder_of_a_required_table_is_a_missing_table(tmp_path: Path) -> None:
    _touch(tmp_path / "organizations.csv", tmp_path / "memberships.csv")
    (tmp_path / "attendance").mkdir()
    assert "found none" in discover(tmp_path).problems["attendance"][0]


def test_a_folder_named_as_a_file_is_a_problem_of_its_table_only(tmp_path: Path) -> None:
    (_source(tmp_path) / "events.csv").mkdir()
    found = discover(tmp_path)
    assert "found a folder" in found.problems["events"][0]
    assert found.files["attendance"]
    assert [t for t in found.problems if found.problems[t]] == ["events"]


def test_a_broken_link_is_a_problem(tmp_path: Path) -> None:
    (_source(tmp_path) / "events.csv").symlink_to(tmp_path / "gone")
    assert "broken link" in discover(tmp_path).problems["events"][0]


def test_unknown_files_are_ignored_and_named(tmp_path: Path) -> None:
    names = ["README.md", "attendance.xlsx", "rejects.csv", "strangers.csv"]
    _touch(*(_source(tmp_path) / name for name in names))
    assert [path.name for path in discover(tmp_path).ignored] == names


def test_a_source_that_is_no_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    _touch(tmp_path / "file")
    for path in (tmp_path / "file", tmp_path / "absent"):
        with pytest.raises(SourceError, match=str(path)):
            discover(path)
