"""What asking costs, and what is written down of it: the ledger, the estimate and the budget.

What is asked and answered is in `test_asking`.
"""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from engagement_pipeline.defs.ledger import WarehouseLedger
from engagement_pipeline.scoring.anthropic import session
from engagement_pipeline.scoring.anthropic.budget import CostRefusedError, refuse_if_over
from engagement_pipeline.scoring.anthropic.estimate import estimate
from engagement_pipeline.scoring.anthropic.ledger import Writing
from engagement_pipeline.warehouse import llm, schema
from tests.anthropic_api import AnthropicApi, Fault
from tests.integration.asked_model import (
    AS_OF,
    HAIKU,
    UNHURRIED,
    Recorded,
    ask_model,
    facts_of,
    levels_by_policy,
    org_of,
    way_to,
)


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as api:
        yield api


# The ledger


def test_the_ledger_says_of_each_call_what_the_server_billed(api: AnthropicApi) -> None:
    orgs = [org_of(n, 15) for n in range(4)]
    asked = ask_model(orgs, api)
    by_id = {record.request_id: record for record in api.messages}
    assert len(asked.ledger.calls) == len(by_id) == 4
    for row in asked.ledger.calls.values():
        record = by_id[row["request_id"]]
        assert row["spent_usd"] == pytest.approx(record.usd, abs=1e-12)
        assert (row["input_tokens"], row["output_tokens"]) == (
            record.usage.input,
            record.usage.output,
        )
        assert (row["status_code"], row["stop_reason"], row["answers"]) == (200, "tool_use", 15)
        assert row["is_spent_certain"] is True
        assert row["profiles"] == len(record.profiles)
        assert 0 < row["latency_seconds"] < 10
        assert row["started_at"] <= row["ended_at"]
        assert (row["purpose"], row["attempt"], row["outcome"]) == ("first", 1, "answered")
        # An estimate: within a fifth of what it came to.
        assert row["estimated_usd"] == pytest.approx(record.usd, rel=0.2)
    assert asked.ledger.spent_usd == pytest.approx(api.billed_usd, abs=1e-9)


def test_a_call_is_on_disk_before_it_reaches_the_server_and_its_answer_after(
    api: AnthropicApi, tmp_path: Path
) -> None:
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        schema.upgrade(connection, now=AS_OF)
        seen: list[Any] = []
        lock = threading.Lock()

        def look(_: object) -> bool:
            with lock, connection.cursor() as cursor:
                rows = cursor.execute(
                    "SELECT outcome, spent_usd, asked, "
                    "(SELECT count(*) FROM scores.llm_answers) FROM scores.llm_calls "
                    "ORDER BY started_at"
                ).fetchall()
            seen.append(rows)
            return False

        api.misbehave(Fault.SLOW_ANSWER, when=look)
        org = org_of(1, 40)
        session.ask(
            [org],
            way_to(api, pace=replace(UNHURRIED, calls_in_flight=1)),
            facts_of(),
            WarehouseLedger(connection).write,
        )
        assert [[row[0] for row in rows] for rows in seen] == [
            ["answered"] * done + ["pending"] for done in range(4)
        ]
        assert [rows[-1][3] for rows in seen] == [0, 10, 20, 30]
        assert all(rows[-1][1] == 0 for rows in seen)
        asked_texts = [json.loads(rows[-1][2])["rows"] for rows in seen]
        assert [q for rows in asked_texts for q in rows] == [
            [q.fingerprint, q.profile.text] for q in org.questions
        ]
        kept = llm.known_answers(connection, ["org-1"], as_of=AS_OF, max_age_days=30)
        assert dict(kept.select("fingerprint", "level").iter_rows()) == levels_by_policy([org])
        spent = llm.spent_by_org(connection, "run-1")["org-1"]
        assert spent.spent_usd == pytest.approx(api.billed_usd, abs=1e-9)
        assert (spent.calls, spent.output_tokens) == (4, api.totals.usage.output)


class _BrokenLedger(Recorded):
    def __init__(self, writes_before: int) -> None:
        super().__init__()
        self._left = writes_before

    def write(self, writings: Sequence[Writing]) -> None:
        if self._left <= 0:
            raise OSError("no space left on device")
        self._left -= 1
        super().write(writings)


def test_nothing_is_sent_where_nothing_can_be_written_down(api: AnthropicApi) -> None:
    with pytest.raises(OSError, match="no space left"):
        ask_model([org_of(1, 40)], api, ledger=_BrokenLedger(0))
    assert api.messages == []


def test_a_ledger_that_breaks_ends_the_run_at_once(api: AnthropicApi) -> None:
    with pytest.raises(OSError, match="no space left"):
        ask_model([org_of(n, 40) for n in range(20)], api, ledger=_BrokenLedger(3), workers=2)
    assert len(api.messages) <= 5


def test_writes_of_several_workers_share_a_transaction() -> None:
    class Slow(Recorded):
        sizes: list[int]

        def write(self, writings: Sequence[Writing]) -> None:
            time.sleep(0.02)
            self.sizes.append(len(writings))
            super().write(writings)

    ledger = Slow()
    ledger.sizes = []
    with AnthropicApi() as api:
        asked = ask_model([org_of(n, 40) for n in range(4)], api, ledger=ledger, workers=8)
    assert len(asked.ledger.answers) == 160
    assert max(ledger.sizes) > 2
    assert len(ledger.sizes) < 32


# Money


def test_a_run_never_spends_more_than_it_may_and_leaves_the_rest_to_the_rules(
    api: AnthropicApi,
) -> None:
    orgs = [org_of(n, 20) for n in range(30)]
    need = estimate(orgs, HAIKU, profiles_per_call=10).cost_usd
    asked = ask_model(orgs, api, max_cost_usd=need / 2)
    spent, sources = api.billed_usd, {w.source for w in asked.outcome.unanswered.values()}
    assert asked.ledger.spent_usd == pytest.approx(spent, abs=1e-9)
    # What is set aside for one call at most is what may be left over.
    assert need / 2 - 0.02 <= spent <= need / 2
    assert sources == {"budget"}
    assert asked.fallbacks | set(asked.ledger.levels) == set(levels_by_policy(orgs))
    assert not asked.fallbacks & set(asked.ledger.levels)
    answered = {row["org_id"] for row in asked.ledger.answers}
    assert answered == {f"org-{n}" for n in range(len(answered))}


def test_a_budget_of_nothing_sends_nothing(api: AnthropicApi) -> None:
    asked = ask_model([org_of(1, 25)], api, max_cost_usd=0.0)
    assert (len(asked.fallbacks), asked.ledger.calls, api.messages) == (25, {}, [])


def test_a_run_over_its_limit_is_refused_with_both_figures() -> None:
    need = estimate([org_of(1, 1_234)], HAIKU, profiles_per_call=10)
    with pytest.raises(CostRefusedError, match=r"\$0\.\d{4} for 1,234 profiles in 123 calls") as no:
        refuse_if_over(need.cost_usd, 0.25, profiles=need.profiles, calls=need.calls)
    assert "max_cost_usd = $0.2500; nothing was sent" in str(no.value)
    refuse_if_over(0.25, 0.25, profiles=1, calls=1)


def test_the_estimate_is_close_to_what_the_server_bills(api: AnthropicApi) -> None:
    orgs = [org_of(n, 37) for n in range(8)]
    foreseen = estimate(orgs, HAIKU, profiles_per_call=10)
    ask_model(orgs, api)
    assert foreseen.calls == len(api.messages)
    assert foreseen.cost_usd == pytest.approx(api.billed_usd, rel=0.15)


# The clock of the ledger


def test_moments_in_the_ledger_are_those_of_the_clock_handed_in(api: AnthropicApi) -> None:
    moment = datetime(2030, 1, 2, 3, tzinfo=UTC)
    asked = ask_model([org_of(1, 2)], api, facts=replace(facts_of(), now=lambda: moment))
    (row,) = asked.ledger.calls.values()
    assert (row["started_at"], row["ended_at"], row["as_of"]) == (moment, moment, AS_OF)
    assert {answer["answered_at"] for answer in asked.ledger.answers} == {moment}
