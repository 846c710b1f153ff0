"""Having templates rewritten: the real client against the loopback API, and a real warehouse.

How texts are asked about at all, and what is done about each fault, is in `test_sentiment_model`
and `test_asking_faults`.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engagement_pipeline.defs.rewriting import rewritten_templates, why_nothing_is_rewritten
from engagement_pipeline.outreach.rewriting import check_rewriting, rewritable
from engagement_pipeline.outreach.templates import catalogue
from engagement_pipeline.scoring.anthropic import retries
from engagement_pipeline.warehouse import llm
from engagement_pipeline.warehouse import rewritings as stored
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.schema import upgrade
from tests.anthropic_api import AnthropicApi, Fault, expected_rewriting
from tests.home import settings_of
from tests.model_home import use_model
from tests.varied_source import AS_OF

DAY = timedelta(days=1)
TEMPLATES = {one.template_id: one for one in rewritable(catalogue())}
EXPECTED = {name: expected_rewriting(one.text) for name, one in TEMPLATES.items()}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[AnthropicApi]:
    monkeypatch.setattr(retries, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(retries, "RETRY_AFTER_MAX_SECONDS", 0.05)
    with AnthropicApi() as server:
        use_model(monkeypatch, server, tmp_path, classifier="rules", outreach_rewriting=True)
        yield server


@pytest.fixture(scope="module")
def empty_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    with Warehouse.of(settings_of(folder, folder)).open() as connection:
        upgrade(connection, now=AS_OF)
        # Somebody whom the model must not hear of.
        connection.execute(
            "INSERT INTO raw.profiles BY NAME SELECT 'uid-zofia-1' AS user_id, "
            "'Zofia Wiśniewska' AS display_name"
        )
    return folder / "data" / "warehouse.duckdb"


@pytest.fixture
def connection(tmp_path: Path, empty_warehouse: Path) -> Iterator[Connection]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "warehouse.duckdb").write_bytes(empty_warehouse.read_bytes())
    with Warehouse.of(settings_of(tmp_path, tmp_path)).open() as opened:
        yield opened


def rewritten(
    connection: Connection, home: Path, run_id: str = "run-1", as_of: datetime = AS_OF, **given: Any
) -> dict[str, str]:
    return rewritten_templates(
        connection,
        settings_of(home, home, **given),
        run_id=run_id,
        as_of=as_of,
        log=logging.getLogger("asked"),  # type: ignore[arg-type]
    )


def on_record(connection: Connection) -> dict[str, tuple[str, datetime]]:
    rows = connection.execute(
        "SELECT template_id, text, written_at FROM outreach.rewritings"
    ).fetchall()
    return {name: (text, written_at) for name, text, written_at in rows}


# What is asked


@pytest.mark.parametrize(
    ("setting", "key", "reason"),
    [
        (False, "a-key", "outreach_rewriting is off"),
        (True, "", "no ANTHROPIC_API_KEY"),
    ],
)
def test_nobody_is_asked_unless_the_setting_is_on_and_there_is_a_key(
    api: AnthropicApi,
    connection: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: bool,
    key: str,
    reason: str,
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    assert rewritten(connection, tmp_path, outreach_rewriting=setting) == {}
    said = why_nothing_is_rewritten(settings_of(tmp_path, tmp_path, outreach_rewriting=setting))
    assert reason in str(said)
    assert api.requests == []


def test_the_setting_is_off_by_default(
    api: AnthropicApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENGAGEMENT_OUTREACH_REWRITING")
    assert "off" in str(why_nothing_is_rewritten(settings_of(tmp_path, tmp_path)))
    assert api.requests == []


@pytest.mark.parametrize("settings", [{}, {"output_mode": "json"}])
def test_every_rewritable_template_gets_the_models_own_words(
    api: AnthropicApi, connection: Connection, tmp_path: Path, settings: dict[str, str]
) -> None:
    assert rewritten(connection, tmp_path, **settings) == EXPECTED
    assert on_record(connection) == {name: (text, AS_OF) for name, text in EXPECTED.items()}
    assert len(api.messages) == 3
    reworded = catalogue().reworded(EXPECTED)
    assert sum(one.is_rewritten for one in reworded) == len(EXPECTED) == 30


def test_the_model_hears_of_templates_and_of_nobody(
    api: AnthropicApi, connection: Connection, tmp_path: Path
) -> None:
    rewritten(connection, tmp_path)
    told = [text for record in api.messages for text in record.texts]
    assert sorted(told) == sorted(one.text for one in TEMPLATES.values())
    for record in api.messages:
        body = json.dumps(record.body, ensure_ascii=False).lower()
        for secret in ("zofia", "uid-", "run-1", f"{AS_OF:%Y-%m-%d}"):
            assert secret not in body


# What is paid, and never twice


def test_words_on_record_are_never_paid_again_until_they_are_old(
    api: AnthropicApi, connection: Connection, tmp_path: Path
) -> None:
    first = rewritten(connection, tmp_path)
    calls = len(api.messages)
    assert rewritten(connection, tmp_path, "run-2", AS_OF + 30 * DAY) == first
    # Whoever computes an earlier moment again has the same words.
    assert rewritten(connection, tmp_path, "run-3", AS_OF - 90 * DAY) == first
    assert len(api.messages) == calls
    later = AS_OF + 30 * DAY + timedelta(microseconds=1)
    assert rewritten(connection, tmp_path, "run-4", later) == first
    assert len(api.messages) == 2 * calls
    assert {written_at for _, written_at in on_record(connection).values()} == {later}


def test_another_model_is_asked_anew(
    api: AnthropicApi, connection: Connection, tmp_path: Path
) -> None:
    rewritten(connection, tmp_path)
    rewritten(connection, tmp_path, "run-2", model="claude-haiku-5-5")
    assert len(api.messages) == 6


def test_words_that_a_killed_run_paid_for_are_not_paid_again(
    api: AnthropicApi, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stored, "keep", lambda *_: None)
        rewritten(connection, tmp_path)
    assert on_record(connection) == {}
    calls = len(api.messages)
    assert rewritten(connection, tmp_path, "run-2", AS_OF + DAY) == EXPECTED
    assert len(api.messages) == calls
    assert on_record(connection) == {name: (text, AS_OF) for name, text in EXPECTED.items()}


def test_the_ledger_says_what_was_billed(
    api: AnthropicApi, connection: Connection, tmp_path: Path
) -> None:
    rewritten(connection, tmp_path)
    spent = llm.spent_by_org(connection, "run-1")
    assert set(spent) == {"*"}
    assert spent["*"].spent_usd == pytest.approx(api.billed_usd, abs=1e-12)
    estimated = connection.execute("SELECT estimated_usd FROM scores.llm_runs").fetchall()
    assert estimated == [(pytest.approx(api.billed_usd, rel=0.5),)]


def test_when_the_budget_is_spent_templates_keep_their_own_words(
    api: AnthropicApi,
    connection: Connection,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert rewritten(connection, tmp_path, max_cost_usd=0.000_001) == {}
    assert api.messages == []
    assert "30 templates keep their own words: max_cost_usd is spent" in caplog.text


# What goes wrong


@pytest.mark.parametrize(
    "faults",
    [
        (Fault.DIGITS, Fault.NUMBER_WORDS, Fault.AT_RISK_SPELT),
        (Fault.LEVEL_NAMED, Fault.URL, Fault.MARKUP),
        (Fault.UNKNOWN_PLACEHOLDER, Fault.BROKEN_BRACE, Fault.UNKNOWN_FIGURE),
        (Fault.EMPTY_TEXT, Fault.UNKNOWN_LEVEL, Fault.TOO_LONG),
        (Fault.ROW_CONTRADICTED, Fault.ROW_MISSING, Fault.ROW_AS_BOOL),
    ],
    ids=lambda faults: "-".join(map(str, faults)),
)
def test_a_template_whose_words_never_stand_keeps_its_own(
    api: AnthropicApi,
    connection: Connection,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    faults: Sequence[Fault],
) -> None:
    # In each call the first row, and the same one once more when it is asked again.
    for fault in faults:
        api.misbehave(fault, rows=1, times=2)
    found = rewritten(connection, tmp_path, calls_in_flight=1)
    spoilt = TEMPLATES.keys() - found
    assert len(spoilt) == 3
    assert found == {name: text for name, text in EXPECTED.items() if name not in spoilt}
    assert on_record(connection).keys() == found.keys()
    assert all(check_rewriting(TEMPLATES[name], text) == [] for name, text in found.items())
    assert all(f"{name} keeps its own words" in caplog.text for name in spoilt)
    # The next run asks for them, and for no others.
    asked = len(api.messages)
    assert rewritten(connection, tmp_path, "run-2") == EXPECTED
    told = [text for record in api.messages[asked:] for text in record.texts]
    assert sorted(told) == sorted(TEMPLATES[name].text for name in spoilt)


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.MAX_TOKENS, Fault.REFUSAL], ids=str)
def test_a_passing_fault_costs_one_more_request_and_no_words(
    api: AnthropicApi, connection: Connection, tmp_path: Path, fault: Fault
) -> None:
    api.misbehave(fault)
    assert rewritten(connection, tmp_path) == EXPECTED
    assert len(api.messages) == 4


@pytest.mark.parametrize(
    ("fault", "said"), [(Fault.UNAUTHORIZED, "HTTP 401"), (Fault.INVALID_REQUEST, "HTTP 400")]
)
def test_a_model_that_cannot_be_asked_is_told_of_and_stops_nobody(
    api: AnthropicApi,
    connection: Connection,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
    said: str,
) -> None:
    api.misbehave(fault, times=99)
    assert rewritten(connection, tmp_path) == {}
    assert "keep their own words" in caplog.text
    assert said in caplog.text


def test_a_model_that_nobody_described_is_told_of_and_stops_nobody(
    api: AnthropicApi, connection: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert rewritten(connection, tmp_path, model="no-such-model") == {}
    assert "templates keep their own words: UnknownModelError" in caplog.text
    assert api.requests == []
