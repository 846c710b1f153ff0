"""From a path to its endpoint: keys and headers, batches, and what every answer carries.

What a message answers belongs to `service`, and the life of a batch to `batches`.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from .batches import Batch, BatchBook, Outcome
from .errors import ApiError, invalid
from .faults import Fault, Misbehaviour, Place, Stage
from .http_server import BODY_MAX_BYTES, HttpAnswer, HttpRequest
from .records import RequestRecord
from .request_checks import check_batch_request
from .service import (
    MESSAGE_BODY_MAX_BYTES,
    MessageService,
    ServerOptions,
    read_json,
    spoilt_body,
)

WORKED_ON_AT_ONCE = 200
"""Requests of a batch that are worked on before its creation is answered; larger batches go on in
the background, resting between slices of this size."""

_BATCH = r"/v1/messages/batches/([A-Za-z0-9_-]+)"
_ROUTES: tuple[tuple[str, re.Pattern[str], Place], ...] = tuple(
    (method, re.compile(path), place)
    for method, path, place in (
        ("POST", r"/v1/messages", Place.MESSAGES),
        ("POST", r"/v1/messages/count_tokens", Place.COUNT_TOKENS),
        ("GET", r"/v1/models(?:/([A-Za-z0-9._-]+))?", Place.MODELS),
        ("POST", r"/v1/messages/batches", Place.BATCH_CREATE),
        ("GET", r"/v1/messages/batches", Place.BATCH_LIST),
        ("GET", _BATCH, Place.BATCH_RETRIEVE),
        ("GET", _BATCH + "/results", Place.BATCH_RESULTS),
        ("POST", _BATCH + "/cancel", Place.BATCH_CANCEL),
        ("DELETE", _BATCH, Place.BATCH_DELETE),
    )
)
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")
_LOST = {Fault.BATCH_LOST_500: 500, Fault.BATCH_LOST_504: 504}
_ITEM_RESULTS = {Fault.ITEM_CANCELED: "canceled", Fault.ITEM_EXPIRED: "expired"}


class Router:
    """All endpoints of the server.

    Attributes:
        base_url, foreign_url: where it is served; set once the ports are known.
        failures: of this server itself, answered with 500: mistakes of a test, or here.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.service = MessageService(options)
        self.base_url = self.foreign_url = ""
        self.failures: list[Exception] = []
        self._batches = BatchBook()
        # The number goes on after a reset, so that no batch is taken for an older one.
        self._batch_number = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        """As new."""
        for task in self._tasks:
            task.cancel()
        self._batches.clear()
        self.service.reset()

    async def handle(self, request: HttpRequest) -> HttpAnswer:
        """Answer a request; whatever happens, with an id of its own."""
        if request.path == "/_stats":
            return HttpAnswer(200, json.dumps(self.service.totals.as_json()).encode())
        if request.path == "/_reset" and request.method == "POST":
            self.reset()
            return HttpAnswer(200, b"{}")
        found = _route(request)
        record = self.service.new_record(request, found[0] if found else None)
        try:
            if found is None:
                raise ApiError(404, "Not found")
            answer = await self._answer(record, request, *found)
        except ApiError as error:
            body = json.dumps(error.body(record.request_id)).encode()
            answer = HttpAnswer(error.status, body, dict(error.headers))
        except Exception as error:
            self.failures.append(error)
            body = json.dumps(ApiError(500, repr(error)).body(record.request_id)).encode()
            answer = HttpAnswer(500, body)
        answer.headers["request-id"] = record.request_id
        answer.headers["anthropic-organization-id"] = "org_loopback"
        if not answer.is_reset:
            record.status = answer.status
            self.service.totals.statuses[answer.status] += 1
        return answer

    async def _answer(
        self, record: RequestRecord, request: HttpRequest, place: Place, name: str | None
    ) -> HttpAnswer:
        if not request.is_foreign:
            self._check_headers(request.headers)
        if place is Place.MESSAGES:
            record.body = read_json(request, MESSAGE_BODY_MAX_BYTES)
            return await self.service.create_message(record, record.body)
        body: dict[str, Any] = {}
        if place is Place.BATCH_CREATE:
            body = record.body = read_json(request, BODY_MAX_BYTES)
            check_batch_request(body)
        elif place is Place.COUNT_TOKENS:
            body = record.body = read_json(request, MESSAGE_BODY_MAX_BYTES)
        misbehaviour = self.service.misbehaviour(record, place, body or {"id": name})
        refused = self.service.refused(misbehaviour)
        if refused is not None:
            return refused
        if place is Place.BATCH_RESULTS:
            return self._results(name or "", misbehaviour)
        return self._payload(place, request, body, name, misbehaviour)

    def _payload(
        self,
        place: Place,
        request: HttpRequest,
        body: dict[str, Any],
        name: str | None,
        misbehaviour: Misbehaviour | None,
    ) -> HttpAnswer:
        if place is Place.COUNT_TOKENS:
            return spoilt_body(self.service.count_tokens(body), misbehaviour)
        if place is Place.MODELS:
            found = self.service.model(name) if name else self.service.model_list()
            return spoilt_body(found, misbehaviour)
        if place is Place.BATCH_CREATE:
            return self._create_batch(request, body, misbehaviour)
        if place is Place.BATCH_LIST:
            return spoilt_body(self._list(request.query), misbehaviour)
        batch = self._batches.get(name or "")
        if place is Place.BATCH_DELETE:
            self._batches.remove(batch.id)
            return spoilt_body({"id": batch.id, "type": "message_batch_deleted"}, misbehaviour)
        if place is Place.BATCH_CANCEL:
            batch.observe(is_poll=False)
            batch.cancel(self.options.canceled_share, self.service.totals.refund)
        else:
            batch.observe(is_poll=True)
        return spoilt_body(self._shown(batch, misbehaviour), misbehaviour)

    def _check_headers(self, headers: Mapping[str, str]) -> None:
        if _VERSION.fullmatch(headers.get("anthropic-version", "")) is None:
            raise invalid("anthropic-version: header is required")
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
        key = bearer or headers.get("x-api-key", "")
        if key == self.options.forbidden_key:
            raise ApiError(
                403, "Your API key does not have permission to use the specified resource"
            )
        if key != self.options.key:
            raise ApiError(401, "invalid x-api-key")

    def _create_batch(
        self, request: HttpRequest, body: dict[str, Any], misbehaviour: Misbehaviour | None
    ) -> HttpAnswer:
        self._batch_number += 1
        batch = Batch(
            id=f"msgbatch_{self._batch_number:024d}",
            requests=body["requests"],
            polls=self.options.batch_polls,
            seconds=self.options.batch_seconds,
            clock=time.monotonic,
            misbehaviour=misbehaviour,
        )
        self._batches.add(batch)
        steps = batch.work_on(lambda custom_id, params: self._work(request, custom_id, params))
        if _advance(steps):
            task = asyncio.ensure_future(_finish(steps))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if misbehaviour is not None:
            if misbehaviour.fault is Fault.BATCH_LOST_RESET:
                return HttpAnswer(0, b"", is_reset=True)
            if misbehaviour.fault in _LOST:
                raise ApiError(_LOST[misbehaviour.fault], "Internal server error")
        return spoilt_body(self._shown(batch, None), misbehaviour)

    def _work(self, request: HttpRequest, custom_id: str, params: Mapping[str, Any]) -> Outcome:
        service = self.service
        record = service.new_record(request, Place.BATCH_ITEM)
        record.custom_id, record.body = custom_id, params
        misbehaviour = service.misbehaviour(record, Place.BATCH_ITEM, params, custom_id)
        try:
            if misbehaviour is not None and misbehaviour.stage is Stage.BATCH_ITEM:
                return _given_up(misbehaviour.fault)
            message = service.batch_message(record, dict(params), misbehaviour)
        except ApiError as error:
            record.status = error.status
            return Outcome({"type": "errored", "error": error.body(record.request_id)})
        record.status = 200
        return Outcome({"type": "succeeded", "message": message}, record.usage, record.usd)

    def _shown(self, batch: Batch, misbehaviour: Misbehaviour | None) -> dict[str, Any]:
        is_elsewhere = misbehaviour is not None and misbehaviour.fault is Fault.RESULTS_ELSEWHERE
        origin = self.foreign_url if is_elsewhere else self.base_url
        return batch.as_json(f"{origin}/v1/messages/batches/{batch.id}/results")

    def _list(self, query: Mapping[str, str]) -> dict[str, Any]:
        batches, has_more = self._batches.page(query)
        for batch in batches:
            batch.observe(is_poll=False)
        return {
            "data": [self._shown(batch, None) for batch in batches],
            "has_more": has_more,
            "first_id": batches[0].id if batches else None,
            "last_id": batches[-1].id if batches else None,
        }

    def _results(self, batch_id: str, misbehaviour: Misbehaviour | None) -> HttpAnswer:
        batch = self._batches.get(batch_id)
        batch.observe(is_poll=False)
        results = batch.results()
        answer = spoilt_body({}, misbehaviour)
        is_body_spoilt = misbehaviour is not None and misbehaviour.stage is Stage.BODY
        if misbehaviour is not None and misbehaviour.fault is Fault.RESULTS_CUT:
            results = _without_end(results)
        if not is_body_spoilt:
            answer.body, answer.content_type = results, "application/x-jsonl"
        return answer


def _route(request: HttpRequest) -> tuple[Place, str | None] | None:
    for method, path, place in _ROUTES:
        found = path.fullmatch(request.path)
        if found is not None and method == request.method:
            return place, found.group(1) if path.groups else None
    return None


def _given_up(fault: Fault) -> Outcome:
    if fault in _ITEM_RESULTS:
        return Outcome({"type": _ITEM_RESULTS[fault]})
    error = invalid("messages: refused") if fault is Fault.ITEM_INVALID else ApiError(500, "Error")
    return Outcome({"type": "errored", "error": error.body(None)})


def _without_end(results: bytes) -> bytes:
    """The results up to the middle of the last line."""
    start = results.rfind(b"\n", 0, len(results) - 1) + 1
    return results[: start + (len(results) - start) // 2]


def _advance(steps: Iterator[None]) -> bool:
    """Take a slice of the steps; whether it was a full one, so that there may be more."""
    return sum(1 for _ in islice(steps, WORKED_ON_AT_ONCE)) == WORKED_ON_AT_ONCE


async def _finish(steps: Iterator[None]) -> None:
    while _advance(steps):
        await asyncio.sleep(0)
