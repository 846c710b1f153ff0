"""When a folder of input tables has news, and how little of it is read to know."""

import json
import os
from pathlib import Path

import pytest

from engagement_pipeline.ingest import BadFileError, SourceError, discover, watching
from engagement_pipeline.ingest.inspection import FileFacts, digest
from engagement_pipeline.ingest.watching import Look, look_at


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two tables in three files."""
    (tmp_path / "attendance").mkdir()
    for name in ("attendance/a.csv", "attendance/b.csv", "events.csv"):
        (tmp_path / name).write_text(f"content of {name}\n")
    return tmp_path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, as it goes on."""
    names: list[str] = []

    def counted(path: Path) -> FileFacts:
        names.append(path.name)
        return digest(path)

    monkeypatch.setattr(watching, "digest", counted)
    return names


def _looked_again(folder: Path, before: Look) -> Look:
    """As a sensor does it, which keeps a look as text."""
    return look_at(folder, Look.of_text(before.as_text()))


def test_where_nothing_changed_nothing_is_read_and_looks_are_equal(
    source: Path, read: list[str]
) -> None:
    first = look_at(source, None)
    assert sorted(read) == ["a.csv", "b.csv", "events.csv"]
    read.clear()
    assert _looked_again(source, first) == first
    assert read == []


def test_a_touched_file_is_read_alone_once_and_is_no_news(source: Path, read: list[str]) -> None:
    first = look_at(source, None)
    read.clear()
    os.utime(source / "events.csv", ns=(1, 1))
    touched = _looked_again(source, first)
    assert touched.contents == first.contents
    assert _looked_again(source, touched) == touched
    assert read == ["events.csv"]


@pytest.mark.parametrize("text", ["another content of any length\n", "CONTENT of events.csv\n"])
def test_a_changed_file_is_read_alone_and_is_news(source: Path, read: list[str], text: str) -> None:
    first = look_at(source, None)
    read.clear()
    (source / "events.csv").write_text(text)
    os.utime(source / "events.csv", ns=(1, 1))  # a clock may be too coarse to tell the two writes
    assert _looked_again(source, first).contents != first.contents
    assert read == ["events.csv"]


def test_an_added_file_is_news_and_so_is_a_removed_one(source: Path, read: list[str]) -> None:
    first = look_at(source, None)
    read.clear()
    (source / "profiles.csv").write_text("new\n")
    added = _looked_again(source, first)
    assert added.contents != first.contents
    assert read == ["profiles.csv"]
    (source / "profiles.csv").unlink()
    assert _looked_again(source, added) == first
    (source / "attendance" / "a.csv").unlink()
    assert _looked_again(source, first).contents != first.contents
    assert read == ["profiles.csv"]


def test_a_renamed_or_copied_file_is_no_news_but_one_of_another_table_is(source: Path) -> None:
    first = look_at(source, None)
    (source / "attendance" / "a.csv").rename(source / "attendance" / "z.csv")
    (source / "attendance" / "c.csv").write_bytes((source / "attendance" / "b.csv").read_bytes())
    assert _looked_again(source, first).contents == first.contents
    (source / "event_views.csv").write_bytes((source / "events.csv").read_bytes())
    assert _looked_again(source, first).contents != first.contents


def test_a_file_that_belongs_to_no_table_is_no_news(source: Path) -> None:
    first = look_at(source, None)
    (source / "README.md").write_text("hello\n")
    assert _looked_again(source, first) == first


def test_a_file_that_cannot_be_read_is_news_once_and_again_when_it_is_mended(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = look_at(source, None)
    (source / "profiles.csv").write_text("x\n")

    def failing(path: Path) -> FileFacts:
        if path.name == "profiles.csv":
            raise BadFileError(path, "a readable file", "Permission denied")
        return digest(path)

    with monkeypatch.context() as patch:
        patch.setattr(watching, "digest", failing)
        unreadable = _looked_again(source, whole)
        assert unreadable.contents != whole.contents
        assert "Permission denied" in unreadable.files[str(source / "profiles.csv")].content
        assert _looked_again(source, unreadable) == unreadable
    mended = _looked_again(source, unreadable)  # its size and time are what they were
    assert mended.contents not in (whole.contents, unreadable.contents)


def test_a_file_that_vanishes_during_a_look_is_no_error(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look_at(source, None)
    found = discover(source)
    (source / "events.csv").unlink()
    monkeypatch.setattr(watching, "discover", lambda _: found)
    assert _looked_again(source, first).contents != first.contents


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        look_at(tmp_path / "nowhere", None)


def test_a_look_survives_being_text_and_depends_on_nothing_but_the_folder(source: Path) -> None:
    for name in ('naïve 👋 ".csv', os.fsdecode(b"no UTF-8 \xff.csv")):
        (source / "attendance" / name).write_text("x\n")
    look = look_at(source, None)
    assert Look.of_text(look.as_text()) == look
    assert look_at(source, look) == look_at(source, None)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no JSON",
        "null",
        "3",
        "[]",
        "{}",
        json.dumps({"outside": "ab", "contents": "cd"}),
        json.dumps({"contents": "cd", "files": ["a.csv"]}),
        json.dumps({"contents": "cd", "files": {"a.csv": "ab"}}),
        json.dumps({"contents": "cd", "files": {"a.csv": [1, 2]}}),
        json.dumps({"contents": "cd", "files": {"a.csv": [1, 2, "ab", 3]}}),
        json.dumps({"contents": "cd", "files": {"a.csv": None}}),
    ],
)
def test_text_that_no_look_of_this_version_wrote_is_no_look(text: str | None) -> None:
    assert Look.of_text(text) is None
