"""Files of fitted models: one model a target, its bytes and its report.

Here belongs that what is read is what was written, whole, and by the same versions. What the bytes
mean belongs to whoever made them. The report is written last: the model that it names is the one
that counts, and others are leavings.
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("scikit-learn", "skops", "numpy", "scipy")
"""Those whose versions decide whether a model's bytes mean the same."""

_UNFINISHED = ".unfinished"
_TARGET = re.compile(r"[a-z_]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ModelFileError(Exception):
    """A model that cannot be read or must not be used; the text says why."""


@dataclass(frozen=True)
class StoredModel:
    """A model's bytes, and the report that was written with them."""

    data: bytes
    report: Mapping[str, Any]


def library_versions() -> dict[str, str]:
    """The versions that a model depends on: of libraries, and of Python without its last number."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: version(name) for name in LIBRARIES}}


def write_model(folder: Path, target: str, data: bytes, report: Mapping[str, Any]) -> Path:
    """Keep a model in place of the one before; then remove that.

    Each file is written under another name, forced to disk, and renamed. Whoever is killed on the
    way leaves the model before in force.

    Args:
        folder: where models are kept; made if it is not there.
        target: what it predicts: lower-case letters and underscores.
        data: the model.
        report: what is to be known beside it, as JSON can have it. `sha256` and `versions` are
            added.

    Returns:
        The model's file, `<target>-<twelve digits of its sha256>.skops`.

    Raises:
        ValueError: the target is not such a word.
        ValueError, TypeError: the report has what JSON cannot; the model before stays in force.
        OSError: the disk refuses.
    """
    report_path = _report_path(folder, target)
    sha256 = hashlib.sha256(data).hexdigest()
    path = _model_path(folder, target, sha256)
    complete = {**report, "sha256": sha256, "versions": library_versions()}
    text = json.dumps(complete, indent=2, sort_keys=True, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, data)
    _write(report_path, f"{text}\n".encode())
    _remove_others(folder, target, kept=path)
    return path


def read_model(
    folder: Path,
    target: str,
    *,
    feature_names: Sequence[str] | None = None,
    horizon_days: int | None = None,
) -> StoredModel:
    """The model in force.

    Args:
        folder: where models are kept.
        target: what it predicts.
        feature_names: the features that it must take, in their order; None takes any.
        horizon_days: the days that it must predict for; None takes any.

    Raises:
        ModelFileError: there is none; a file is missing, unreadable or damaged; it was written by
            other versions, for other features or another horizon.
        ValueError: the target is none.
    """
    report_path = _report_path(folder, target)
    report = _read_report(report_path)
    sha256 = str(report.get("sha256"))
    if not _SHA256.fullmatch(sha256):
        raise ModelFileError(f"{report_path}: expected a sha256, found {sha256!r}")
    path = _model_path(folder, target, sha256)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing, and the report of {target} names it") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelFileError(f"{path} is damaged: expected the sha256 {sha256}, found {found}")
    _refuse_other(report, "versions", library_versions(), path)
    if feature_names is not None:
        _refuse_other(report, "feature_names", list(feature_names), path)
    if horizon_days is not None:
        _refuse_other(report, "horizon_days", horizon_days, path)
    return StoredModel(data=data, report=report)


def drop_model(folder: Path, target: str) -> None:
    """Have no model in force: a training has ended without one, and the one before must not serve.

    Where there is none nothing happens.

    Raises:
        ValueError: the target is none.
        OSError: the disk refuses.
    """
    report_path = _report_path(folder, target)
    if not folder.is_dir():
        return
    report_path.unlink(missing_ok=True)
    _sync(folder)
    _remove_others(folder, target, kept=None)


def _report_path(folder: Path, target: str) -> Path:
    if not _TARGET.fullmatch(target):
        raise ValueError(f"expected a target of lower-case letters and _, found {target!r}")
    return folder / f"{target}.json"


def _model_path(folder: Path, target: str, sha256: str) -> Path:
    return folder / f"{target}-{sha256[:12]}.skops"


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing: no model was kept") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error
    if not isinstance(report, dict):
        raise ModelFileError(f"{path}: expected a mapping, found {type(report).__name__}")
    return report


def _refuse_other(report: Mapping[str, Any], key: str, expected: object, path: Path) -> None:
    found = report.get(key)
    if found == expected:
        return
    words = key.replace("_", " ")
    if isinstance(expected, dict) and isinstance(found, dict):
        names = sorted({*expected, *found})
        differing = [name for name in names if expected.get(name) != found.get(name)]
        expected = {name: expected.get(name) for name in differing}
        found = {name: found.get(name) for name in differing}
    raise ModelFileError(f"{path} is of other {words}: expected {expected}, found {found}")


def _write(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f"{path.name}{_UNFINISHED}")
    unfinished.write_bytes(data)
    _sync(unfinished)
    unfinished.replace(path)
    _sync(path.parent)


def _remove_others(folder: Path, target: str, *, kept: Path | None) -> None:
    leavings = [*folder.glob(f"{target}-*.skops*"), *folder.glob(f"{target}.json{_UNFINISHED}")]
    for path in leavings:
        if path != kept:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
