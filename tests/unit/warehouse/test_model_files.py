"""Files of models: whole and of our versions, or not at all."""

import hashlib
import json
import os

import pytest

from engagement_pipeline.warehouse import model_files
from engagement_pipeline.warehouse.model_files import (
    ModelFileError,
    drop_model,
    library_versions,
    read_model,
    write_model,
)

REPORT = {"target": "churn", "feature_names": ["a", "b"], "horizon_days": 30, "knots": [0.1, 1 / 3]}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "models"


@pytest.fixture
def written(folder):
    return write_model(folder, "churn", b"a model", REPORT)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def rewrite(folder, **changes):
    path = folder / "churn.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_read_is_what_was_written(folder, written):
    found = read_model(folder, "churn", feature_names=("a", "b"), horizon_days=30)
    assert found.data == b"a model"
    assert {key: found.report[key] for key in REPORT} == REPORT
    sha256 = hashlib.sha256(b"a model").hexdigest()
    assert found.report["sha256"] == sha256
    assert written.name == f"churn-{sha256[:12]}.skops"
    versions = found.report["versions"]
    assert versions == library_versions()
    assert set(versions) == {"python", "scikit-learn", "skops", "numpy", "scipy"}
    assert versions["python"].count(".") == 1


def test_a_new_model_takes_the_place_of_the_old_and_of_no_other_target(folder, written):
    mood = write_model(folder, "mood", b"another", {})
    new = write_model(folder, "churn", b"a newer model", REPORT)
    assert names(folder) == sorted([new.name, "churn.json", mood.name, "mood.json"])
    assert read_model(folder, "churn").data == b"a newer model"
    assert not written.exists()


def test_the_same_model_may_be_written_again(folder, written):
    assert write_model(folder, "churn", b"a model", {**REPORT, "horizon_days": 60}) == written
    assert read_model(folder, "churn", horizon_days=60).data == b"a model"


@pytest.mark.parametrize("killed_at", [0, 1])
def test_who_is_killed_while_writing_leaves_the_old_model_in_force(folder, monkeypatch, killed_at):
    write_model(folder, "churn", b"a model", REPORT)
    done, real_replace = [], model_files.Path.replace

    def replace(self, target):
        if len(done) == killed_at:
            raise KeyboardInterrupt
        done.append(target)
        real_replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(model_files.Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            write_model(folder, "churn", b"a newer model", REPORT)
    assert read_model(folder, "churn").data == b"a model"
    new = write_model(folder, "churn", b"a third model", REPORT)
    assert names(folder) == [new.name, "churn.json"]


def test_nothing_is_renamed_before_it_is_on_disk(folder, monkeypatch):
    steps = []
    real_sync, real_replace = os.fsync, model_files.Path.replace

    def sync(descriptor):
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        real_sync(descriptor)

    def replace(self, target):
        steps.append(target.suffix)
        real_replace(self, target)

    monkeypatch.setattr(model_files.os, "fsync", sync)
    monkeypatch.setattr(model_files.Path, "replace", replace)
    write_model(folder, "churn", b"a model", REPORT)
    assert steps == ["file", ".skops", "folder", "file", ".json", "folder"]


def test_a_dropped_model_is_gone_and_dropping_none_is_nothing(folder, written):
    write_model(folder, "mood", b"another", {})
    drop_model(folder, "churn")
    assert [name.split("-")[0].split(".")[0] for name in names(folder)] == ["mood", "mood"]
    drop_model(folder, "churn")
    drop_model(folder / "nowhere", "churn")
    with pytest.raises(ModelFileError, match=r"churn\.json is missing: no model was kept"):
        read_model(folder, "churn")
    assert not written.exists()


def test_a_missing_folder_or_file_is_an_error(folder, written):
    with pytest.raises(ModelFileError, match="no model was kept"):
        read_model(folder / "nowhere", "churn")
    written.unlink()
    with pytest.raises(ModelFileError, match="is missing, and the report of churn names it"):
        read_model(folder, "churn")


@pytest.mark.parametrize("data", [b"A model", b"a mode", b""])
def test_a_flipped_or_missing_byte_is_damage(folder, written, data):
    written.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"is damaged: expected the sha256 .* found"):
        read_model(folder, "churn")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"target": "ch', "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[1]", "expected a mapping, found list"),
        (b"{}", "expected a sha256, found 'None'"),
        (b'{"sha256": "../../../etc/passwd"}', "expected a sha256"),
    ],
)
def test_an_unreadable_report_is_an_error(folder, written, text, words):
    assert written.exists()
    (folder / "churn.json").write_bytes(text)
    with pytest.raises(ModelFileError, match=words):
        read_model(folder, "churn")


def test_a_model_of_other_versions_is_not_read_and_both_are_named(folder, written):
    assert written.exists()
    ours = library_versions()
    rewrite(folder, versions={**ours, "scikit-learn": "1.2.3"})
    words = f"other versions: expected {{'scikit-learn': '{ours['scikit-learn']}'}}, found .*1.2.3"
    with pytest.raises(ModelFileError, match=words):
        read_model(folder, "churn")
    rewrite(folder, versions={**ours, "python": "3.9"})
    with pytest.raises(ModelFileError, match=r"3\.9"):
        read_model(folder, "churn")
    rewrite(folder, versions=None)
    with pytest.raises(ModelFileError, match="other versions"):
        read_model(folder, "churn")


def test_a_model_of_other_features_or_another_horizon_is_not_read(folder, written):
    assert written.exists()
    with pytest.raises(ModelFileError, match=r"other feature names: expected .'b', 'a'., found"):
        read_model(folder, "churn", feature_names=["b", "a"])
    with pytest.raises(ModelFileError, match="other horizon days: expected 60, found 30"):
        read_model(folder, "churn", horizon_days=60)


@pytest.mark.parametrize("target", ["", "../churn", "churn-2", "Churn", "*"])
def test_a_target_that_would_be_another_file_is_refused(folder, target):
    for use in (read_model, drop_model):
        with pytest.raises(ValueError, match="expected a target"):
            use(folder, target)
    with pytest.raises(ValueError, match="expected a target"):
        write_model(folder, target, b"", {})
    assert not folder.exists()


def test_a_report_that_json_cannot_have_leaves_the_old_model_in_force(folder, written):
    for value in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            write_model(folder, "churn", b"a newer model", {"value": value})
    assert read_model(folder, "churn").data == b"a model"
    assert names(folder) == [written.name, "churn.json"]
