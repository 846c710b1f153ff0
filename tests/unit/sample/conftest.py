"""One sample for all tests of this folder: it takes seconds to make and nobody changes it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from engagement_pipeline.sample import write_sample
from engagement_pipeline.sample.generator import sample_files
from engagement_pipeline.sample.layout import SampleFile, times_as_text

AS_OF = datetime(2026, 1, 1, 4, 0, tzinfo=UTC)
SEED = 20260101


@pytest.fixture(scope="session")
def as_of() -> datetime:
    return AS_OF


@pytest.fixture(scope="session")
def seed() -> int:
    return SEED


@pytest.fixture(scope="session")
def files() -> list[SampleFile]:
    return sample_files(AS_OF, SEED)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sample") / "source"
    write_sample(folder, as_of=AS_OF, seed=SEED)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield folder
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before, "a test changed the shared sample"


@pytest.fixture(scope="session")
def tables(files: list[SampleFile]) -> dict[str, pl.DataFrame]:
    """Clean and spoilt rows by table, every time as an instant; a time that is none is null."""
    parts: dict[str, list[pl.DataFrame]] = {}
    for file in files:
        frame = times_as_text(file.frame)
        instants = [
            pl.col(column).str.to_datetime(time_zone="UTC", time_unit="us", strict=False)
            for column in frame.columns
            if column.endswith("_at")
        ]
        parts.setdefault(file.table, []).append(frame.with_columns(instants))
    return {table: pl.concat(frames) for table, frames in parts.items()}
