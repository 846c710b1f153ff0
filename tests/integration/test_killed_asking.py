"""Killed while it asks: nothing paid is lost, next to nothing is paid twice."""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from tests.anthropic_api import AnthropicApi
from tests.asked_home import ask_and_label, copy_home
from tests.forking import fork_server
from tests.home import refresh, settings_of, stored, tables
from tests.model_home import model_settings, use_model
from tests.varied_source import AS_OF, write_varied_source

KILLS = int(os.environ.get("KILLS", "6"))
"""Each takes seconds; `make test-long` has thirty."""
_CALLS_IN_FLIGHT = 2
_ORGS, _MEMBERS = 18, 50
_PROFILES_PER_CALL = 5
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Whole:
    """What one pass that nobody disturbed comes to."""

    usd: float
    seconds: float
    levels: pl.DataFrame
    answers: pl.DataFrame


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi(latency_seconds=0.005, is_recording=False) as server:
        yield server


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    source = write_varied_source(folder / "source", orgs=_ORGS, members=_MEMBERS)
    refresh(settings_of(folder / "home", source), AS_OF)
    return folder / "home"


def _work(home: str, run_id: str, environment: dict[str, str]) -> None:
    # The server that processes are forked from may have been started by another test, with its own.
    os.environ.clear()
    os.environ.update(environment)
    ask_and_label(model_settings(Path(home), Path(home)), run_id)


def _levels_and_answers(home: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    found = tables(home / "data" / "warehouse.duckdb", "scores")
    answers = found["scores.llm_answers"].drop("call_id", "answered_at")
    return found["scores.classifications"], answers.sort(answers.columns)


def _undisturbed(prepared: Path, home: Path, api: AnthropicApi) -> Whole:
    copy_home(prepared, home)
    before, started = api.billed_usd, time.monotonic()
    ask_and_label(model_settings(home, home), "whole")
    return Whole(api.billed_usd - before, time.monotonic() - started, *_levels_and_answers(home))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_passes_pay_two_in_a_hundred_more_at_most_and_say_the_same(
    prepared: Path, tmp_path: Path, api: AnthropicApi, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    use_model(
        monkeypatch,
        api,
        tmp_path / "whole",
        calls_in_flight=_CALLS_IN_FLIGHT,
        # For many calls about few members.
        members_per_profile=1,
        profiles_per_call=_PROFILES_PER_CALL,
    )
    whole = _undisturbed(prepared, tmp_path / "whole", api)
    # What is in flight when a pass is killed may be two in a hundred of it at most.
    assert api.totals.billed_calls >= 50 * _CALLS_IN_FLIGHT
    dice = random.Random(seed)
    cut_off = 0
    for kill in range(KILLS // 2):
        home = copy_home(prepared, tmp_path / f"kill{kill}")
        monkeypatch.setenv("ENGAGEMENT_HOME", str(home))
        before = api.billed_usd
        _killed(home, dice.uniform(0.05, 1.1) * whole.seconds, is_first=kill == 0)
        cut_off += _calls(home) > 0 and _levels_of(home) == 0
        ask_and_label(model_settings(home, home), "again")
        assert api.billed_usd - before <= 1.02 * whole.usd, kill
        levels, answers = _levels_and_answers(home)
        assert levels.equals(whole.levels), kill
        assert answers.equals(whole.answers), kill
        booked = stored(model_settings(home, home), "SELECT sum(spent_usd) FROM scores.llm_calls")
        assert api.billed_usd - before == pytest.approx(booked[0][0], rel=0.02)
    # Most of the kills must have hit a pass at work, or nothing was shown.
    assert cut_off >= KILLS // 4


def _killed(home: Path, after: float, *, is_first: bool) -> None:
    process = fork_server().Process(target=_work, args=(str(home), "killed", dict(os.environ)))
    process.start()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    # The time runs from the first sign of work: starting takes a while, and the first start more.
    wal = home / "data" / "warehouse.duckdb.wal"
    while not wal.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(after)
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join(_PATIENCE_SECONDS)
    assert not process.is_alive(), is_first


def _calls(home: Path) -> int:
    return _count(home, "scores.llm_calls")


def _levels_of(home: Path) -> int:
    return _count(home, "scores.classifications")


def _count(home: Path, table: str) -> int:
    return int(stored(model_settings(home, home), f"SELECT count(*) FROM {table}")[0][0])  # type: ignore[call-overload]
