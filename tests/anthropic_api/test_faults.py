"""Each misbehaviour is what it says, seen through the real client where that does not hide it."""

import json
import time
import urllib.request
from email.utils import parsedate_to_datetime
from errno import ECONNRESET
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import anthropic
import pytest

from tests.anthropic_api import (
    AnthropicApi,
    Fault,
    Place,
    Stage,
    faults_of,
)
from tests.anthropic_api.asking import (
    PROFILES,
    batch_of,
    client_of,
    rows_of,
    tool_request,
)
from tests.anthropic_api.faults import STAGES, FaultPlan, natural_place

_STATUSES = {
    Fault.OVERLOADED: (529, "overloaded_error"),
    Fault.SERVER_ERROR: (500, "api_error"),
    Fault.SERVICE_UNAVAILABLE: (503, "api_error"),
    Fault.GATEWAY_TIMEOUT: (504, "timeout_error"),
    Fault.REQUEST_TIMEOUT: (408, "timeout_error"),
    Fault.CONFLICT: (409, "conflict_error"),
    Fault.UNAUTHORIZED: (401, "authentication_error"),
    Fault.FORBIDDEN: (403, "permission_error"),
    Fault.NOT_FOUND: (404, "not_found_error"),
    Fault.CREDIT_TOO_LOW: (400, "invalid_request_error"),
    Fault.USAGE_LIMIT_REACHED: (400, "invalid_request_error"),
    Fault.BILLING: (402, "billing_error"),
    Fault.SPEND_LIMIT_REACHED: (429, "rate_limit_error"),
    Fault.CONTRACT_SPEND_LIMIT_REACHED: (429, "rate_limit_error"),
    Fault.ORGANIZATION_ON_HOLD: (400, "invalid_request_error"),
    Fault.INVALID_REQUEST: (400, "invalid_request_error"),
    Fault.TOO_LARGE_HTML: (413, None),
    Fault.BAD_GATEWAY_HTML: (502, None),
    Fault.RATE_LIMITED: (429, "rate_limit_error"),
    Fault.RATE_LIMITED_FLOAT: (429, "rate_limit_error"),
    Fault.RATE_LIMITED_DATE: (429, "rate_limit_error"),
    Fault.RATE_LIMITED_ABSURD: (429, "rate_limit_error"),
    Fault.RATE_LIMITED_BARE: (429, "rate_limit_error"),
}


def raw(api: AnthropicApi, path: str = "/v1/messages", method: str = "POST") -> tuple[Any, bytes]:
    """An answer's headers and body as bytes."""
    connection = HTTPConnection(api.base_url.removeprefix("http://"))
    headers = {"anthropic-version": "2026-10-21", "authorization": f"Bearer {api.key}"}
    body = json.dumps(tool_request()) if method == "POST" else None
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    try:
        return answer.headers, answer.read()
    finally:
        connection.close()


# Which fault meets which request


def test_faults_come_in_order_for_whom_they_are_meant_and_then_no_more(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    api.misbehave(Fault.OVERLOADED, when=lambda body: "Band" in body["messages"][0]["content"])
    api.misbehave(Fault.SERVER_ERROR, times=2)
    statuses = []
    for name in ("Choir", "Band", "Choir", "Band"):
        try:
            client.messages.create(**tool_request(name=name))
            statuses.append(200)
        except anthropic.APIStatusError as error:
            statuses.append(error.status_code)
    assert statuses == [500, 529, 500, 200]
    assert [record.fault for record in api.messages] == [
        Fault.SERVER_ERROR,
        Fault.OVERLOADED,
        Fault.SERVER_ERROR,
        None,
    ]
    assert api.pending_misbehaviours == 0
    assert api.totals.faults == {"server_error": 2, "overloaded": 1}


def test_dice_fall_by_seed_and_number_at_about_the_rate_asked() -> None:
    def thrown(seed: int) -> list[Fault | None]:
        plan = FaultPlan()
        plan.throw_dice(0.1, seed, (Fault.OVERLOADED, Fault.MAX_TOKENS))
        met = (plan.next_at(Place.MESSAGES, {}) for _ in range(3000))
        return [found.fault if found else None for found in met]

    once = thrown(1)
    assert once == thrown(1) != thrown(2)
    assert 240 < sum(fault is not None for fault in once) < 360
    assert set(once) == {None, Fault.OVERLOADED, Fault.MAX_TOKENS}


def test_a_fault_is_only_taken_where_it_can_happen(api: AnthropicApi) -> None:
    for fault, place in (
        (Fault.ROW_MISSING, Place.BATCH_LIST),
        (Fault.OVERLOADED, Place.BATCH_ITEM),
        (Fault.BATCH_EXPIRED, Place.MESSAGES),
        (Fault.ITEM_EXPIRED, Place.BATCH_CREATE),
    ):
        with pytest.raises(ValueError, match="cannot happen"):
            api.misbehave(fault, at=place)


# Refused, and not billed


@pytest.mark.parametrize("fault", sorted(_STATUSES))
def test_a_refusal_has_its_status_and_error_and_costs_nothing(
    api: AnthropicApi, client: anthropic.Anthropic, fault: Fault
) -> None:
    status, error_type = _STATUSES[fault]
    api.misbehave(fault)
    with pytest.raises(anthropic.APIStatusError) as refused:
        client.messages.create(**tool_request())
    assert (refused.value.status_code, refused.value.type) == (status, error_type)
    assert refused.value.request_id == api.requests[0].request_id
    assert (api.billed_usd, api.requests[0].status) == (0, status)
    assert ("anthropic-ratelimit-requests-limit" in refused.value.response.headers) == (
        status == 429
    )
    if error_type is None:
        assert refused.value.response.text.startswith("<html>")


def test_every_refusal_is_tested() -> None:
    assert set(_STATUSES) == set(faults_of(Stage.REFUSAL)) - {Fault.RESET_BEFORE_WORK}
    assert len(STAGES) == len(Fault)


def test_spend_limits_tell_their_cause(api: AnthropicApi, client: anthropic.Anthropic) -> None:
    for fault, cause in (
        (Fault.SPEND_LIMIT_REACHED, "enforced_spend_limit_reached"),
        (Fault.CONTRACT_SPEND_LIMIT_REACHED, "contract_spend_limit_reached"),
        (Fault.CREDIT_TOO_LOW, None),
    ):
        api.misbehave(fault)
        with pytest.raises(anthropic.APIStatusError) as refused:
            client.messages.create(**tool_request())
        assert refused.value.error_code == cause
    assert "credit balance is too low" in (refused.value.api_message or "")


def test_retry_after_comes_in_every_form(api: AnthropicApi, client: anthropic.Anthropic) -> None:
    def wait(fault: Fault, **options: Any) -> str | None:
        api.misbehave(fault, **options)
        with pytest.raises(anthropic.RateLimitError) as refused:
            client.messages.create(**tool_request())
        found: str | None = refused.value.response.headers.get("retry-after")
        return found

    assert wait(Fault.RATE_LIMITED) == "1"
    assert wait(Fault.RATE_LIMITED, retry_after=7) == "7"
    assert wait(Fault.RATE_LIMITED_FLOAT) == "0.500"
    assert wait(Fault.RATE_LIMITED_ABSURD) == "86400"
    assert wait(Fault.RATE_LIMITED_BARE) is None
    moment = parsedate_to_datetime(wait(Fault.RATE_LIMITED_DATE, retry_after=30) or "")
    assert 25 < moment.timestamp() - time.time() < 31


# Lost or late on the way


@pytest.mark.parametrize(
    ("fault", "is_billed"), [(Fault.RESET_BEFORE_WORK, False), (Fault.RESET_AFTER_WORK, True)]
)
def test_a_reset_breaks_the_connection_before_or_after_the_work(
    api: AnthropicApi, client: anthropic.Anthropic, fault: Fault, is_billed: bool
) -> None:
    api.misbehave(fault)
    with pytest.raises(ConnectionResetError) as reset:
        raw(api)
    assert reset.value.errno == ECONNRESET  # an orderly end without an answer has none
    api.misbehave(fault)
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.create(**tool_request())
    assert (api.billed_usd > 0) == is_billed
    assert [record.status for record in api.requests] == [None, None]
    client.messages.create(**tool_request())


@pytest.mark.parametrize("fault", [Fault.SLOW_ANSWER, Fault.SLOW_BODY, Fault.DRIPPING_BODY])
def test_a_slow_answer_takes_its_time_and_is_whole(
    api: AnthropicApi, client: anthropic.Anthropic, fault: Fault
) -> None:
    api.misbehave(fault, seconds=0.3)
    start = time.monotonic()
    with client.messages.with_streaming_response.create(**tool_request()) as answer:
        until_headers = time.monotonic() - start
        rows = rows_of(answer.parse())
    assert time.monotonic() - start >= 0.28
    assert (until_headers > 0.25) == (fault is Fault.SLOW_ANSWER)
    assert len(rows) == len(PROFILES)


def test_a_dripping_body_comes_in_many_pieces(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    api.misbehave(Fault.DRIPPING_BODY, seconds=0.3)
    with client.messages.with_streaming_response.create(**tool_request()) as answer:
        assert len(list(answer.iter_bytes())) > 5


def test_lengths_that_do_not_fit_the_body_cut_it(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    api.misbehave(Fault.SHORT_CONTENT_LENGTH, times=2)
    headers, body = raw(api)
    assert len(body) == int(headers["content-length"])
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    with pytest.raises(json.JSONDecodeError):
        client.messages.create(**tool_request())
    api.misbehave(Fault.TRUNCATED_BODY, times=2)
    with pytest.raises(IncompleteRead):
        raw(api)
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.create(**tool_request())
    assert api.totals.billed_calls == 4
    client.messages.create(**tool_request())


# 200, but not what the API sends


def test_bodies_that_are_no_message_arrive_as_200_and_are_billed(api: AnthropicApi) -> None:
    found = {}
    for fault in faults_of(Stage.BODY):
        api.misbehave(fault)
        found[fault] = raw(api)[1]
    assert {record.status for record in api.requests} == {200}
    assert api.totals.billed_calls == len(found)
    assert found[Fault.EMPTY_BODY] == b""
    assert found[Fault.HTML_BODY].startswith(b"<html>")
    assert json.loads(found[Fault.JSON_NULL]) is None
    assert "content" not in json.loads(found[Fault.WRONG_SHAPE])
    assert "usage" not in json.loads(found[Fault.MISSING_USAGE])
    assert "content" not in json.loads(found[Fault.MISSING_CONTENT])
    with pytest.raises(json.JSONDecodeError):
        json.loads(found[Fault.MALFORMED_JSON])


# Batches


def test_a_batch_whose_answer_is_lost_was_accepted(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    for fault in (Fault.BATCH_LOST_RESET, Fault.BATCH_LOST_500, Fault.BATCH_LOST_504):
        api.misbehave(fault)
        with pytest.raises((anthropic.APIConnectionError, anthropic.InternalServerError)):
            batch_of(client)
    api.misbehave(Fault.SERVER_ERROR, at=Place.BATCH_CREATE)
    with pytest.raises(anthropic.InternalServerError):
        batch_of(client)
    assert len(list(client.messages.batches.list())) == 3
    assert api.totals.billed_calls == 9


def _results(client: anthropic.Anthropic, count: int = 4) -> dict[str, Any]:
    batch = batch_of(client, count)
    for _ in range(2):
        client.messages.batches.retrieve(batch.id)
    return {one.custom_id: one.result for one in client.messages.batches.results(batch.id)}


def test_a_batch_ends_badly_in_whole_or_in_part(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    kinds = {}
    for fault in (Fault.BATCH_EXPIRED, Fault.BATCH_EXPIRED_IN_PART, Fault.BATCH_FAILED):
        api.misbehave(fault)
        kinds[fault] = [result.type for _, result in sorted(_results(client).items())]
    assert kinds == {
        Fault.BATCH_EXPIRED: ["expired"] * 4,
        Fault.BATCH_EXPIRED_IN_PART: ["succeeded", "expired"] * 2,
        Fault.BATCH_FAILED: ["errored"] * 4,
    }
    assert api.totals.billed_calls == 2


def test_requests_of_a_batch_fail_by_themselves(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    for fault in faults_of(Stage.BATCH_ITEM):
        api.misbehave(fault)
    api.misbehave(Fault.ROW_MISSING, at=Place.BATCH_ITEM)
    api.misbehave(Fault.MISSING_USAGE, at=Place.BATCH_ITEM)
    found = _results(client, 7)
    kinds = [found[f"r-{n}"].type for n in range(7)]
    assert kinds == ["errored", "errored", "canceled", "expired"] + ["succeeded"] * 3
    errors = [found[f"r-{n}"].error.error.type for n in range(2)]
    assert errors == ["api_error", "invalid_request_error"]
    assert [len(rows_of(found[f"r-{n}"].message)) for n in (4, 6)] == [5, 6]
    assert found["r-5"].message.usage is None
    assert api.totals.billed_calls == 3


def test_results_end_in_a_cut_line_for_so_many_downloads(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    batch = batch_of(client, 3)
    for _ in range(2):
        client.messages.batches.retrieve(batch.id)
    api.misbehave(Fault.RESULTS_CUT, times=2)
    for _ in range(2):
        results = iter(client.messages.batches.results(batch.id))
        assert len([next(results), next(results)]) == 2
        with pytest.raises(json.JSONDecodeError):
            next(results)
    assert len(list(client.messages.batches.results(batch.id))) == 3


def test_results_on_another_origin_are_served_and_show_who_brought_a_key(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    batch = batch_of(client)
    client.messages.batches.retrieve(batch.id)
    api.misbehave(Fault.RESULTS_ELSEWHERE, times=2)
    url = client.messages.batches.retrieve(batch.id).results_url or ""
    assert url.startswith(api.foreign_url)
    assert not url.startswith(api.base_url)
    assert not any(record.is_foreign for record in api.requests)
    with urllib.request.urlopen(url) as answer:  # brings no key, and needs none
        assert len(answer.read().splitlines()) == 3
    # The package follows the address and hands over the key, which our client has to prevent.
    assert len(list(client.messages.batches.results(batch.id))) == 3
    bare, foreign = (record for record in api.requests if record.is_foreign)
    assert "authorization" not in bare.headers
    assert api.key in foreign.headers["authorization"]


@pytest.mark.parametrize("fault", [Fault.TRUNCATED_BODY, Fault.MALFORMED_JSON, Fault.OVERLOADED])
def test_faults_of_the_connection_happen_at_every_endpoint(api: AnthropicApi, fault: Fault) -> None:
    batch = batch_of(client_of(api))
    for place, method, path in (
        (Place.BATCH_RETRIEVE, "GET", f"/{batch.id}"),
        (Place.BATCH_LIST, "GET", ""),
        (Place.BATCH_RESULTS, "GET", f"/{batch.id}/results"),
    ):
        client_of(api).messages.batches.retrieve(batch.id)
        api.misbehave(fault, at=place)
        try:
            status = raw(api, f"/v1/messages/batches{path}", method)
        except IncompleteRead:
            status = None
        assert (status is None) == (fault is Fault.TRUNCATED_BODY)
        assert api.requests[-1].fault is fault
    assert natural_place(Fault.RESULTS_CUT) is Place.BATCH_RESULTS
