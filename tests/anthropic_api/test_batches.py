"""Batches live as the API's do; what goes wrong with them is tested in `test_faults`."""

import time
from typing import Any

import anthropic
import pytest

from tests.anthropic_api import AnthropicApi, Place
from tests.anthropic_api.asking import batch_of, client_of, post, rows_of, tool_request
from tests.anthropic_api.batches import Batch, Outcome


def test_a_batch_is_polled_to_its_end_and_costs_half(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    batch = batch_of(client, 30)
    assert batch.processing_status == "in_progress"
    assert batch.request_counts.processing == 30
    # The package asks for the batch before it asks for its results, which is a poll.
    with pytest.raises(anthropic.AnthropicError, match="results_url"):
        client.messages.batches.results(batch.id)
    ended = client.messages.batches.retrieve(batch.id)
    assert (ended.processing_status, ended.request_counts.succeeded) == ("ended", 30)
    results = list(client.messages.batches.results(batch.id))
    ids = [result.custom_id for result in results]
    assert sorted(ids) == sorted(f"r-{n}" for n in range(30))
    assert ids != sorted(ids, key=lambda name: int(name[2:]))
    half = api.billed_usd / 30
    single = client.messages.create(**tool_request())
    assert api.messages[0].usd == pytest.approx(2 * half)
    assert results[0].result.type == "succeeded"
    assert rows_of(results[0].result.message) == rows_of(single)
    assert len(api.requests_at(Place.BATCH_ITEM)) == 30


def test_a_large_batch_is_worked_on_in_the_background_and_ends_whole() -> None:
    with AnthropicApi(batch_polls=0) as api:
        client = client_of(api)
        batch = batch_of(client, 601)
        while (found := client.messages.batches.retrieve(batch.id)).processing_status != "ended":
            time.sleep(0.001)
        assert found.request_counts.succeeded == 601
        assert len(list(client.messages.batches.results(batch.id))) == 601


def test_a_batch_takes_its_time() -> None:
    with AnthropicApi(batch_seconds=0.3, batch_polls=0) as api:
        client = client_of(api)
        batch = batch_of(client)
        assert client.messages.batches.retrieve(batch.id).processing_status == "in_progress"
        time.sleep(0.35)
        assert client.messages.batches.retrieve(batch.id).processing_status == "ended"


def test_a_bad_request_fails_alone_within_its_batch(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    good, bad = tool_request(), {**tool_request(), "temperature": 0}
    requests = [{"custom_id": "good", "params": good}, {"custom_id": "bad", "params": bad}]
    batch = client.messages.batches.create(requests=requests)  # type: ignore[arg-type]
    for _ in range(2):
        counts = client.messages.batches.retrieve(batch.id).request_counts
    assert (counts.succeeded, counts.errored) == (1, 1)
    found = {one.custom_id: one.result for one in client.messages.batches.results(batch.id)}
    assert found["bad"].type == "errored"
    assert found["bad"].error.error.type == "invalid_request_error"
    assert api.totals.billed_calls == 1


def test_batches_that_make_no_sense_are_refused(api: AnthropicApi) -> None:
    one = {"custom_id": "a", "params": tool_request()}
    refused: tuple[list[dict[str, Any]], ...] = (
        [],
        [one, one],
        [{**one, "custom_id": "a b"}],
        [{**one, "custom_id": "a" * 65}],
        [{"custom_id": "a"}],
        [{"custom_id": str(n), "params": {}} for n in range(100_001)],
    )
    for requests in refused:
        status, found, _ = post(api, "/v1/messages/batches", {"requests": requests})
        assert (status, found["error"]["type"]) == (400, "invalid_request_error")
    assert api.totals.calls[Place.BATCH_ITEM] == 0


def test_a_canceled_batch_ends_with_what_was_done_and_bills_no_more() -> None:
    with AnthropicApi(canceled_share=0.5, batch_polls=9) as api:
        client = client_of(api)
        batch = batch_of(client, 40)
        all_usd = api.billed_usd
        assert client.messages.batches.cancel(batch.id).processing_status == "canceling"
        ended = client.messages.batches.retrieve(batch.id)
        assert ended.processing_status == "ended"
        counts = ended.request_counts
        assert counts.canceled + counts.succeeded == 40
        assert 0 < counts.canceled < 40
        assert api.billed_usd == pytest.approx(all_usd * counts.succeeded / 40)
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.cancel(batch.id)


def test_batches_are_listed_newest_first_page_by_page(client: anthropic.Anthropic) -> None:
    ids = [batch_of(client, 1).id for _ in range(5)][::-1]
    assert [batch.id for batch in client.messages.batches.list(limit=2)] == ids
    page = client.messages.batches.list(limit=2)
    assert ([batch.id for batch in page.data], page.has_more) == (ids[:2], True)
    after = client.messages.batches.list(limit=2, after_id=ids[2])
    assert ([batch.id for batch in after.data], after.has_more) == (ids[3:], False)
    before = client.messages.batches.list(limit=2, before_id=ids[3])
    assert ([batch.id for batch in before.data], before.has_more) == (ids[1:3], True)
    assert client.messages.batches.list(limit=2, before_id=ids[2]).has_more is False
    for bad in (0, 1001):
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.list(limit=bad)


def test_an_ended_batch_can_be_deleted(client: anthropic.Anthropic) -> None:
    batch = batch_of(client)
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.delete(batch.id)
    for _ in range(2):
        client.messages.batches.retrieve(batch.id)
    client.messages.batches.delete(batch.id)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(batch.id)


def test_a_batch_does_not_end_before_all_of_it_is_worked_on() -> None:
    requests: list[dict[str, Any]] = [{"custom_id": name, "params": {}} for name in "ab"]
    batch = Batch("b", requests, polls=0, seconds=0, clock=time.monotonic, misbehaviour=None)
    steps = batch.work_on(lambda _, params: Outcome({"type": "succeeded", **params}))
    for expected in ("in_progress", "ended"):
        next(steps)
        batch.observe(is_poll=True)
        assert batch.status == expected


def test_a_reset_forgets_batches(api: AnthropicApi, client: anthropic.Anthropic) -> None:
    batch_of(client)
    api.reset()
    assert list(client.messages.batches.list()) == []
