"""Interactions scored in a warehouse: each once, and alike in whatever order they arrive."""

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import dagster  # noqa: F401  the workers of a process that has it must not
import polars as pl
import pytest
from joblib import Parallel, delayed

from engagement_pipeline.behavior.interactions import score
from engagement_pipeline.behavior.sentiment import compound_scores
from engagement_pipeline.behavior.sessions import session_ids
from engagement_pipeline.contracts import contract
from engagement_pipeline.defs import interaction_scoring
from engagement_pipeline.defs.interaction_scoring import (
    Scored,
    compound_on_all_cores,
    score_new_interactions,
)
from engagement_pipeline.settings import Settings, load_settings
from engagement_pipeline.warehouse import interactions as stored
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.frames import append, read_table
from engagement_pipeline.warehouse.quality import violations
from engagement_pipeline.warehouse.schema import upgrade
from tests.small_source import AS_OF

RAW = contract("raw.interactions")
SCORED = contract("behavior.interactions_scored")
TEXTS = (None, " ", "ok", "Thanks a lot!", "Why does this not work?", "I'm so excited :)", "no")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, profile="test", batch_rows=1_000)


@pytest.fixture
def warehouse(settings: Settings) -> Iterator[Connection]:
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=AS_OF)
        yield connection


def _said(rows: int, *, seed: int = 7, members: int = 12) -> pl.DataFrame:
    """Interactions of some members of two organisations, often within half an hour."""
    random = Random(seed)
    names = random.sample(range(10 * rows), rows)
    span = 20 * rows // members
    return pl.DataFrame(
        {
            "interaction_id": [f"i{name}" for name in names],
            "org_id": [random.choice(["choir", "garden"]) for _ in range(rows)],
            "user_id": [f"u{random.randrange(members)}" for _ in range(rows)],
            "type": [random.choice(["message", "voice", "sticker"]) for _ in range(rows)],
            "text": [random.choice(TEXTS) for _ in range(rows)],
            "sent_at": [AS_OF - timedelta(minutes=random.randrange(span)) for _ in range(rows)],
            "response_time_seconds": [random.choice([None, 5.0, 500.0]) for _ in range(rows)],
        },
        schema=RAW.polars_schema,
    )


def _said_at(*minutes: float, prefix: str = "i") -> pl.DataFrame:
    """What one member said, so many minutes before `AS_OF`."""
    return pl.DataFrame(
        [
            {
                "interaction_id": f"{prefix}{before:g}",
                "org_id": "choir",
                "user_id": "keen",
                "type": "message",
                "text": "ok",
                "sent_at": AS_OF - timedelta(minutes=before),
            }
            for before in minutes
        ],
        schema=RAW.polars_schema,
    )


def _arrive(connection: Connection, rows: pl.DataFrame) -> None:
    append(connection, RAW.full_name, rows)


def _table(connection: Connection) -> pl.DataFrame:
    assert violations(connection, SCORED) == []
    return read_table(connection, SCORED).sort("interaction_id")


def _sessions(connection: Connection) -> dict[str, str]:
    return dict(_table(connection).select("interaction_id", "session_id").iter_rows())


def _expected(rows: pl.DataFrame) -> pl.DataFrame:
    """All rows scored and put into sessions at once."""
    found = score(rows, compound_scores).join(session_ids(rows), on="interaction_id")
    return found.select(SCORED.column_names).sort("interaction_id")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_arrival_makes_no_difference(
    warehouse: Connection, settings: Settings, seed: int
) -> None:
    said = _said(2_500, seed=seed)
    arriving = said.sample(fraction=1.0, shuffle=True, seed=seed)
    ends = sorted(Random(seed).sample(range(said.height), 3))
    for first, end in zip([0, *ends], [*ends, said.height], strict=True):
        _arrive(warehouse, arriving[first:end])
        done = score_new_interactions(warehouse, settings, as_of=AS_OF)
        assert (done.new, done.total) == (end - first, end)
    assert _table(warehouse).equals(_expected(said))
    assert 100 < _table(warehouse)["session_id"].n_unique() < 2_000


def test_each_interaction_is_scored_once(warehouse: Connection, settings: Settings) -> None:
    said = _said(300)
    _arrive(warehouse, said)
    texts = said.filter(pl.col("text").str.strip_chars() != "").height
    assert score_new_interactions(warehouse, settings, as_of=AS_OF) == Scored(300, 300, texts)
    before = _table(warehouse)
    assert score_new_interactions(warehouse, settings, as_of=AS_OF) == Scored(0, 300, 0)
    assert _table(warehouse).equals(before)


def test_what_comes_after_the_moment_waits_for_its_own(
    warehouse: Connection, settings: Settings
) -> None:
    said = _said(400)
    _arrive(warehouse, said)
    middle = said["sent_at"].sort()[200]
    known = said.filter(pl.col("sent_at") <= middle)
    done = score_new_interactions(warehouse, settings, as_of=middle)
    assert (done.new, done.total) == (known.height, known.height)
    assert _table(warehouse).equals(_expected(known))
    # A moment before that is asked for later takes nothing away.
    assert score_new_interactions(warehouse, settings, as_of=middle - timedelta(days=30)).new == 0
    score_new_interactions(warehouse, settings, as_of=AS_OF)
    assert _table(warehouse).equals(_expected(said))


def test_a_late_row_joins_two_sessions_and_a_later_one_does_not_rename_them(
    warehouse: Connection, settings: Settings
) -> None:
    _arrive(warehouse, _said_at(200, 100, 50, 40))
    score_new_interactions(warehouse, settings, as_of=AS_OF)
    assert _sessions(warehouse) == {"i200": "i200", "i100": "i100", "i50": "i50", "i40": "i50"}
    _arrive(warehouse, _said_at(75))
    score_new_interactions(warehouse, settings, as_of=AS_OF)
    joined = dict.fromkeys(["i100", "i75", "i50", "i40"], "i100")
    assert _sessions(warehouse) == {"i200": "i200", **joined}
    _arrive(warehouse, _said_at(10.0, 130.0))
    score_new_interactions(warehouse, settings, as_of=AS_OF)
    joined = dict.fromkeys([*joined, "i10", "i130"], "i130")
    assert _sessions(warehouse) == {"i200": "i200", **joined}


def test_of_the_same_moment_the_lower_id_begins_the_session_also_if_it_comes_late(
    warehouse: Connection, settings: Settings
) -> None:
    _arrive(warehouse, _said_at(60, 40, prefix="m"))
    score_new_interactions(warehouse, settings, as_of=AS_OF)
    _arrive(warehouse, pl.concat([_said_at(60, prefix="a"), _said_at(60, prefix="z")]))
    score_new_interactions(warehouse, settings, as_of=AS_OF)
    assert _sessions(warehouse) == dict.fromkeys(["a60", "m60", "z60", "m40"], "a60")


def test_sessions_that_nothing_new_is_near_are_left_alone(
    warehouse: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _arrive(warehouse, _said(1_500, members=5))
    score_new_interactions(warehouse, settings, as_of=AS_OF)
    near: list[pl.DataFrame] = []
    look = stored.NewInteractions.sessions_near

    def watched(*given: Any, **more: Any) -> pl.DataFrame:
        near.append(look(*given, **more))
        return near[-1]

    monkeypatch.setattr(stored.NewInteractions, "sessions_near", watched)
    moved: list[pl.DataFrame] = []
    monkeypatch.setattr(interaction_scoring, "store", lambda *given: moved.append(given[-1]))
    late = _said(1).with_columns(user_id=pl.lit("u1"), interaction_id=pl.lit("late"))
    _arrive(warehouse, late)
    score_new_interactions(warehouse, settings, as_of=AS_OF)
    assert len(near) == 1
    assert near[0].height <= 2
    assert moved[0].height <= 1


def test_a_run_that_is_killed_between_batches_is_completed_by_the_next(
    warehouse: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _said(3_500)
    _arrive(warehouse, said)
    calls = 0

    def killed(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        stored.store(*given)

    with monkeypatch.context() as patch:
        patch.setattr(interaction_scoring, "store", killed)
        with pytest.raises(KeyboardInterrupt):
            score_new_interactions(warehouse, settings, as_of=AS_OF)
    half = _table(warehouse)
    assert half.height == 2_000
    done = score_new_interactions(warehouse, settings, as_of=AS_OF)
    assert (done.new, done.total) == (1_500, 3_500)
    assert _table(warehouse).equals(_expected(said))


def test_a_write_that_fails_leaves_neither_rows_nor_moved_sessions(
    warehouse: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _arrive(warehouse, _said_at(50, 10))
    score_new_interactions(warehouse, settings, as_of=AS_OF)
    before = _table(warehouse)

    def failing(connection: Connection, target: str, frame: pl.DataFrame) -> None:
        if target == SCORED.full_name:
            raise OSError("the disk is full")
        append(connection, target, frame)

    _arrive(warehouse, _said_at(30))
    with monkeypatch.context() as patch:
        patch.setattr(stored, "append", failing)
        with pytest.raises(OSError, match="the disk is full"):
            score_new_interactions(warehouse, settings, as_of=AS_OF)
    assert _table(warehouse).equals(before)
    score_new_interactions(warehouse, settings, as_of=AS_OF)
    assert _sessions(warehouse) == dict.fromkeys(["i50", "i30", "i10"], "i50")


def test_batches_hold_no_more_rows_or_text_than_they_may(
    warehouse: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _said(6_500).with_columns(text=pl.lit("x" * 100))
    _arrive(warehouse, said)
    new = stored.set_new_apart(warehouse, as_of=AS_OF, batch_rows=2_500)
    parts = list(new.batches())
    assert [part.end - part.first for part in parts] == [2_000, 2_000, 2_500]
    order = ["org_id", "user_id", "sent_at", "interaction_id"]
    assert pl.concat([new.read(part) for part in parts]).equals(said.sort(order))
    monkeypatch.setattr(stored, "_BATCH_BYTES", 50_000)
    parts = list(new.batches())
    assert [part.end - part.first for part in parts] == [1_000] * 6 + [500]
    stored.forget_new(warehouse)


def test_the_model_is_asked_where_it_is_handed_in(
    warehouse: Connection, settings: Settings
) -> None:
    text = "This is a text of over thirty characters."
    _arrive(warehouse, _said_at(3, 2, 1).with_columns(text=pl.lit(text)))
    asked: list[str] = []

    def model(texts: Any, org_ids: Any) -> list[float | None]:
        assert len(org_ids) == len(texts)
        asked.extend(texts)
        return [1.0] * len(texts)

    score_new_interactions(warehouse, settings, as_of=AS_OF, model_sentiments=model)
    assert asked == [text]
    assert _table(warehouse).select("sentiment", "sentiment_by").unique().rows() == [
        (0.5, "vader_and_model")
    ]


def test_an_empty_source_scores_nothing(warehouse: Connection, settings: Settings) -> None:
    assert score_new_interactions(warehouse, settings, as_of=AS_OF) == Scored(0, 0, 0)


def test_many_texts_are_read_by_processes_that_know_nothing_of_dagster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [f"{text} {n}" for n in range(20) for text in TEXTS]
    monkeypatch.setattr(interaction_scoring, "_TEXTS_FOR_WORKERS", 100)
    monkeypatch.setattr(interaction_scoring, "_TEXTS_A_TASK", 7)
    assert compound_on_all_cores(texts) == compound_scores(texts)
    # The workers are still there, and answer for themselves.
    [(process, known)] = Parallel(n_jobs=-1)([delayed(eval)(_WHAT_A_WORKER_KNOWS)])
    assert process != os.getpid()
    assert "dagster" in sys.modules
    assert not {"dagster", "duckdb", "pandera"} & set(known)


_WHAT_A_WORKER_KNOWS = f"""(
    __import__("{compound_scores.__module__}"),
    (__import__("os").getpid(), [*__import__("sys").modules]),
)[1]"""
