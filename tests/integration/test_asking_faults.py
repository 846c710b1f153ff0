"""Asking a model that misbehaves in every way the loopback API knows.

Each fault says what it may cost: requests, organisations, or the run. Rates are in
`test_asking_pace`.
"""

import random
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from engagement_pipeline.scoring.anthropic import retries
from engagement_pipeline.scoring.anthropic.client import Connection
from engagement_pipeline.scoring.anthropic.sending import StopRunError
from engagement_pipeline.scoring.packing import pack
from tests.anthropic_api import AnthropicApi, Fault, Place, Stage, faults_of
from tests.integration.asked_model import (
    Recorded,
    ask_model,
    facts_of,
    levels_by_policy,
    org_of,
    profiles_of,
)

STOPPING = (
    Fault.UNAUTHORIZED,
    Fault.FORBIDDEN,
    Fault.CREDIT_TOO_LOW,
    Fault.USAGE_LIMIT_REACHED,
    Fault.BILLING,
    Fault.SPEND_LIMIT_REACHED,
    Fault.CONTRACT_SPEND_LIMIT_REACHED,
    Fault.ORGANIZATION_ON_HOLD,
)
FAILING_THE_ORG = (Fault.NOT_FOUND, Fault.INVALID_REQUEST)

# Of ten rows asked, requests until all are answered, where it is not one more than without.
_HARMLESS = (
    Fault.SLOW_ANSWER,
    Fault.SLOW_BODY,
    Fault.DRIPPING_BODY,
    Fault.TEXT_BEFORE_TOOL,
    Fault.THINKING_BEFORE_TOOL,
    Fault.INPUT_AS_STRING,
    Fault.TWO_TOOL_CALLS,
    Fault.ROW_TWICE,
    Fault.ROWS_SHUFFLED,
    Fault.EXTRA_FIELDS,
    Fault.ALL_AT_RISK,
)
CALLS = {
    **dict.fromkeys(_HARMLESS, 1),
    Fault.TOO_LARGE_HTML: 3,  # two halves
    Fault.MAX_TOKENS: 3,  # half is there already, and the rest in halves
}
SINGLE = tuple(
    fault
    for fault in faults_of(Stage.REFUSAL, Stage.CONNECTION, Stage.BODY, Stage.ANSWER)
    if fault not in STOPPING + FAILING_THE_ORG
)


@pytest.fixture
def api() -> Iterator[AnthropicApi]:
    with AnthropicApi() as api:
        yield api


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(retries, "RETRY_AFTER_MAX_SECONDS", 0.1)


def sent_before(api: AnthropicApi) -> list[tuple[str, ...]]:
    """The profiles of each message as it was sent, whatever became of it."""
    return [
        tuple(line.split(" ", 1)[1] for line in body["messages"][0]["content"].split("\n")[2:])
        for body in (record.body for record in api.messages)
    ]


# One fault, once


@pytest.mark.parametrize("fault", SINGLE, ids=str)
def test_one_fault_costs_no_more_requests_than_the_repair_takes(
    api: AnthropicApi, fault: Fault
) -> None:
    org = org_of(1, profiles_of(10, joined=("60", "180", "365")))
    api.misbehave(fault)
    asked = ask_model([org], api)
    assert api.pending_misbehaviours == 0
    assert len(api.messages) == len(asked.ledger.calls) == CALLS.get(fault, 2)
    assert (asked.outcome.failed, asked.outcome.unanswered) == ({}, {})
    # Each row that stood up is written once, and never asked again.
    assert Counter(row["fingerprint"] for row in asked.ledger.answers) == {
        question.fingerprint: 1 for question in org.questions
    }
    if fault is Fault.ALL_AT_RISK:
        assert set(asked.ledger.levels.values()) == {"at_risk"}
    else:
        assert asked.ledger.levels == levels_by_policy([org])
    check_accounts(api, asked.ledger)


def check_accounts(api: AnthropicApi, ledger: Recorded) -> None:
    """Dollars in the ledger are the server's, but for calls that say that they do not know."""
    billed = {record.request_id: record.usd for record in api.messages}
    for row in ledger.calls.values():
        assert row["outcome"] != "pending"
        if row["is_spent_certain"]:
            assert row["spent_usd"] == pytest.approx(billed.get(row["request_id"], 0.0), abs=1e-12)
        else:
            assert row["spent_usd"] == row["estimated_usd"] > 0
    unknown = sum(not row["is_spent_certain"] for row in ledger.calls.values())
    if not unknown:
        assert ledger.spent_usd == pytest.approx(api.billed_usd, abs=1e-9)


@pytest.mark.parametrize("fault", faults_of(Stage.ANSWER), ids=str)
def test_a_fault_of_one_row_leaves_the_answers_beside_it(api: AnthropicApi, fault: Fault) -> None:
    org = org_of(1, 10)
    api.misbehave(fault)
    asked = ask_model([org], api)
    first, *others = sent_before(api)
    again = {profile for profiles in others for profile in profiles}
    spoilt_whole = {
        Fault.REFUSAL,
        Fault.WRONG_TOOL_NAME,
        Fault.ONLY_TEXT,
        Fault.NO_CLASSIFICATIONS,
    }
    if fault in spoilt_whole:
        assert again == set(first)
    elif fault is Fault.MAX_TOKENS:
        assert [len(profiles) for profiles in others] == [3, 2]
        assert again == set(first[5:])
    else:
        assert again <= {first[0]}
    assert len(asked.ledger.answers) == 10


@pytest.mark.parametrize("fault", faults_of(Stage.ANSWER), ids=str)
def test_what_is_always_badly_answered_is_given_up_after_two_tries_alone(
    api: AnthropicApi, fault: Fault
) -> None:
    org = org_of(1, profiles_of(10, joined=("60", "180", "365")))
    bad = org.questions[6]
    # A fault spoils a call's first rows, so this one spoils all rows of calls that hold the bad.
    api.misbehave(fault, times=10**6, rows=None, when=lambda body: bad.profile.text in str(body))
    asked = ask_model([org], api)
    with_bad = [profiles for profiles in sent_before(api) if bad.profile.text in profiles]
    alone = with_bad.count((bad.profile.text,))
    if fault in _HARMLESS:
        assert asked.fallbacks == set()
        return
    assert asked.fallbacks == {bad.fingerprint}
    assert alone == 2
    assert {why.source for why in asked.outcome.unanswered.values()} == {"fallback"}
    levels = levels_by_policy([org])
    del levels[bad.fingerprint]
    assert asked.ledger.levels == levels
    assert len(asked.ledger.answers) == 9
    # First, again, then half of half: four profiles' worth of depth at most.
    assert len(with_bad) <= 2 + 3 + 2
    check_accounts(api, asked.ledger)


@pytest.mark.parametrize("fault", [Fault.DIGITS, Fault.MAX_TOKENS, Fault.TOO_LARGE_HTML], ids=str)
def test_a_single_question_is_asked_twice_and_no_more(api: AnthropicApi, fault: Fault) -> None:
    org = org_of(1, 1)
    api.misbehave(fault, times=10)
    asked = ask_model([org], api)
    assert asked.fallbacks == {org.questions[0].fingerprint}
    assert len(api.messages) == 2


def test_a_malformed_row_in_ten_is_two_calls_and_always_malformed_three(
    api: AnthropicApi,
) -> None:
    org = org_of(1, 10)
    first = org.questions[0]
    api.misbehave(Fault.UNKNOWN_LEVEL, times=9, when=lambda body: first.profile.text in str(body))
    asked = ask_model([org], api)
    assert [len(profiles) for profiles in sent_before(api)] == [10, 1, 1]
    assert asked.fallbacks == {first.fingerprint}
    assert "unknown level" in asked.outcome.unanswered[first.fingerprint].reason
    assert asked.ledger.outcomes == ["partly", "invalid", "invalid"]


def test_bad_rows_are_asked_again_in_another_order(api: AnthropicApi) -> None:
    org = org_of(1, 10)
    api.misbehave(Fault.ROW_MISSING, rows=6)
    asked = ask_model([org], api)
    first, second = sent_before(api)
    assert set(second) == set(first[:6])
    assert second != first[:6]
    assert [row["purpose"] for row in asked.ledger.calls.values()] == ["first", "again"]


def test_too_large_a_request_is_halved_until_it_fits(api: AnthropicApi) -> None:
    org = org_of(1, 10)

    def is_large(body: Mapping[str, Any]) -> bool:
        return str(body["messages"][0]["content"]).count("\n") - 1 > 3

    api.misbehave(Fault.TOO_LARGE_HTML, times=99, when=is_large)
    asked = ask_model([org], api)
    assert [len(profiles) for profiles in sent_before(api)] == [10, 5, 3, 2, 5, 3, 2]
    assert asked.ledger.levels == levels_by_policy([org])


def test_everyone_at_risk_is_vetoed_for_new_members_and_not_asked_again(
    api: AnthropicApi,
) -> None:
    org = org_of(1, profiles_of(10, joined=("0", "30")))
    api.misbehave(Fault.ALL_AT_RISK)
    asked = ask_model([org], api)
    assert {(row["level"], row["is_vetoed"]) for row in asked.ledger.answers} == {("at_risk", True)}
    assert (len(api.messages), len(asked.ledger.answers)) == (1, 10)


# Failures that last


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize(
    "fault",
    [Fault.SERVER_ERROR, Fault.OVERLOADED, Fault.RATE_LIMITED_BARE, Fault.JSON_NULL],
    ids=str,
)
def test_a_request_is_sent_as_often_as_allowed_and_then_its_organisation_fails(
    api: AnthropicApi, fault: Fault, attempts: int
) -> None:
    lost, kept = org_of(1, 10), org_of(2, 10)
    text = lost.questions[0].profile.text
    api.misbehave(fault, times=99, when=lambda body: text in str(body))
    asked = ask_model([lost, kept], api, facts=facts_of(max_attempts=attempts))
    assert sum(text in profiles for profiles in sent_before(api)) == attempts
    assert set(asked.outcome.failed) == {"org-1"}
    assert f"in {attempts} attempts" in asked.outcome.failed["org-1"]
    assert asked.ledger.levels == levels_by_policy([kept])
    tries = [row["attempt"] for row in asked.ledger.calls.values() if row["org_id"] == "org-1"]
    assert tries == list(range(1, attempts + 1))


@pytest.mark.parametrize("fault", FAILING_THE_ORG, ids=str)
def test_a_request_that_is_refused_fails_its_organisation_only(
    api: AnthropicApi, fault: Fault
) -> None:
    orgs = [org_of(n, 30) for n in range(4)]
    text = orgs[1].questions[0].profile.text
    api.misbehave(fault, times=99, when=lambda body: text in str(body))
    asked = ask_model(orgs, api, workers=1)
    assert set(asked.outcome.failed) == {"org-1"}
    assert "HTTP 40" in asked.outcome.failed["org-1"]
    assert "req_" in asked.outcome.failed["org-1"]
    # One worker: once refused, nothing more is asked about it.
    assert len(api.messages) == 9 + 1
    assert asked.ledger.levels == levels_by_policy([orgs[0], orgs[2], orgs[3]])
    check_accounts(api, asked.ledger)


@pytest.mark.parametrize("fault", STOPPING, ids=str)
def test_what_no_request_can_overcome_stops_the_run_with_one_error(
    monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    # Nobody waits out what is no pause.
    monkeypatch.setattr(retries, "RETRY_AFTER_MAX_SECONDS", 4.0)
    ledger = Recorded()
    with AnthropicApi(latency_seconds=0.03) as api:
        orgs = [org_of(n, 20) for n in range(40)]
        text = orgs[5].questions[0].profile.text
        api.misbehave(fault, when=lambda body: text in str(body), retry_after=30)
        started = time.monotonic()
        with pytest.raises(StopRunError) as stopped:
            ask_model(orgs, api, ledger=ledger, workers=4)
        assert time.monotonic() - started < 3
        # Calls that were out when it came were finished, paid and written down.
        assert len(api.messages) <= 11 + 2 * 4
        assert "the model cannot be asked (HTTP 4" in str(stopped.value)
        refused = next(record for record in api.messages if record.fault)
        assert refused.request_id in str(stopped.value)
        assert set(ledger.outcomes) == {"answered", "refused"} or (
            fault in (Fault.SPEND_LIMIT_REACHED, Fault.CONTRACT_SPEND_LIMIT_REACHED)
            and set(ledger.outcomes) == {"answered", "rate_limited"}
        )
        assert len(ledger.calls) == len(api.messages)
        check_accounts(api, ledger)


def test_a_wrong_key_is_told_at_once_and_shown_nowhere(api: AnthropicApi) -> None:
    ledger, secret = Recorded(), "sk-ant-not-the-key-9f2c"
    with pytest.raises(StopRunError) as stopped:
        ask_model([org_of(n, 20) for n in range(9)], api, ledger=ledger, key=secret)
    assert "HTTP 401" in str(stopped.value)
    assert len(api.messages) <= 4
    assert all(secret in str(dict(record.headers)) for record in api.messages)
    assert secret not in f"{stopped.value!r}{stopped.value.__cause__!r}"
    assert secret not in repr(ledger)
    assert secret not in repr(Connection(secret))


# The connection


def test_an_api_that_is_not_there_costs_nothing_and_ends_the_run_with_its_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    ledger = Recorded()
    with pytest.raises(StopRunError, match=f"no answer in 2 attempts.* at {url}"):
        ask_model([org_of(1, 10)], url, facts=facts_of(max_attempts=2), ledger=ledger)
    rows = ledger.calls.values()
    assert [(row["spent_usd"], row["is_spent_certain"]) for row in rows] == [(0.0, True)] * 2
    assert ledger.outcomes == ["failed", "failed"]


def test_a_reset_after_the_work_counts_what_was_estimated_and_says_so(api: AnthropicApi) -> None:
    api.misbehave(Fault.RESET_AFTER_WORK)
    asked = ask_model([org_of(1, 10)], api)
    lost, good = asked.ledger.calls.values()
    assert (lost["outcome"], lost["is_spent_certain"]) == ("lost", False)
    assert lost["spent_usd"] == lost["estimated_usd"] > 0
    assert asked.ledger.spent_usd == pytest.approx(api.billed_usd, rel=0.1)
    assert good["attempt"] == 2


@pytest.mark.parametrize("fault", [Fault.DRIPPING_BODY, Fault.SLOW_BODY, Fault.SLOW_ANSWER])
def test_an_answer_is_cut_off_at_the_total_timeout(api: AnthropicApi, fault: Fault) -> None:
    api.misbehave(fault, seconds=4)
    started = time.monotonic()
    asked = ask_model([org_of(1, 10)], api, timeout_seconds=0.5)
    assert time.monotonic() - started < 3
    lost, good = asked.ledger.calls.values()
    assert (lost["outcome"], good["outcome"]) == ("lost", "answered")
    assert lost["latency_seconds"] < 1.5


def test_doubtful_calls_count_against_the_budget(api: AnthropicApi) -> None:
    api.misbehave(Fault.RESET_AFTER_WORK, times=10**6)
    asked = ask_model(
        [org_of(n, 10) for n in range(40)],
        api,
        max_cost_usd=0.05,
        facts=facts_of(max_attempts=2),
    )
    assert asked.ledger.spent_usd <= 0.05
    assert api.billed_usd <= 0.05
    assert len(api.messages) < 20


# Everything at once


def test_one_per_cent_of_faults_costs_few_calls_and_no_answer(api: AnthropicApi) -> None:
    kinds = [fault for fault in SINGLE if fault is not Fault.ALL_AT_RISK]
    api.random_faults(0.01, seed=0, kinds=kinds)
    orgs = [org_of(n, random.Random(n).randrange(40, 61)) for n in range(60)]
    asked = ask_model(orgs, api, workers=8, facts=facts_of(max_attempts=8))
    profiles = sum(len(org.questions) for org in orgs)
    assert sum(api.totals.faults.values()) >= 3
    assert asked.ledger.levels == levels_by_policy(orgs)
    assert (asked.outcome.failed, asked.outcome.unanswered) == ({}, {})
    without_faults = sum(len(pack(org.questions, 10)) for org in orgs)
    assert without_faults < len(api.messages) <= 1.05 * without_faults
    assert len(api.messages) / profiles * 10 <= 1.05


def test_a_fifth_of_all_calls_going_wrong_loses_and_repeats_no_answer(api: AnthropicApi) -> None:
    kinds = [fault for fault in SINGLE if fault is not Fault.ALL_AT_RISK]
    api.random_faults(0.2, seed=5, kinds=kinds)
    orgs = [org_of(n, 30) for n in range(30)]
    asked = ask_model(orgs, api, workers=8, facts=facts_of(max_attempts=12))
    levels = levels_by_policy(orgs)
    assert asked.outcome.failed == {}
    assert set(asked.ledger.levels) | asked.fallbacks == set(levels)
    assert len(asked.ledger.answers) == len(asked.ledger.levels)
    assert all(asked.ledger.levels[key] == levels[key] for key in asked.ledger.levels)
    assert len(asked.fallbacks) < 9
    assert api.totals.calls[Place.MESSAGES] > 100
    check_accounts(api, asked.ledger)


def test_an_organisation_that_spoils_every_answer_is_not_asked_again_for_ever(
    api: AnthropicApi,
) -> None:
    spoilt, fine = org_of(1, profiles_of(60)), org_of(2, profiles_of(20, seed=1))
    name = spoilt.org.name
    api.misbehave(Fault.DIGITS, times=10_000, when=lambda body: name in str(body), rows=None)
    asked = ask_model([spoilt, fine], api)
    assert asked.fallbacks == {question.fingerprint for question in spoilt.questions}
    about_it = [body for body in api.messages if name in str(body.body)]
    # The first pack is taken apart down to single rows; the others are asked once each.
    assert len(about_it) <= 45
    assert asked.ledger.levels.keys() == {question.fingerprint for question in fine.questions}


@pytest.mark.parametrize("seconds", [0, -30])
def test_a_429_that_asks_for_no_wait_is_waited_for_all_the_same(
    api: AnthropicApi, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_SECONDS", 0.1)
    fault = Fault.RATE_LIMITED if seconds == 0 else Fault.RATE_LIMITED_DATE
    api.misbehave(fault, times=3, retry_after=seconds)
    org = org_of(1, profiles_of(5))
    started = time.monotonic()
    asked = ask_model([org], api)
    assert asked.outcome.failed == {}
    assert time.monotonic() - started > 0.3  # 0.05 + 0.1 + 0.2 at the least
