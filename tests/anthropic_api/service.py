"""The API's endpoints for messages and models: from a request to its answer, and what it costs.

Endpoints for batches belong to `batch_service`; sockets to `http_server`.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .answers import Answer, make_answer
from .errors import ApiError, invalid
from .faults import Fault, FaultPlan, Misbehaviour, Place, Stage
from .http_server import HttpAnswer, HttpRequest
from .limits import Bucket, RateLimits
from .models import MODELS, ModelSpec, Usage
from .prompt_cache import PromptCache
from .records import RequestRecord, Totals
from .refusals import error_of, html_page, page_of
from .request_checks import check_count_request, check_message_request
from .tokens import input_tokens

MESSAGE_BODY_MAX_BYTES = 32 * 2**20
UNLIMITED_PER_MINUTE = 1_000_000_000


@dataclass(frozen=True)
class ServerOptions:
    """How the server is set up.

    Attributes:
        key: the API key that is served.
        forbidden_key: one that is known, but may nothing.
        models: that it knows.
        rpm, itpm, otpm: requests, input tokens and output tokens per minute.
        capacity_seconds: of refill that each limit's full bucket holds.
        latency_seconds: that every message takes.
        seconds_per_output_token: that it takes besides.
        batch_polls: how often a batch is seen in progress.
        batch_seconds: that a batch takes at least.
        canceled_share: of a batch's requests that a cancellation still stops.
        is_recording: whether each request is kept; totals always are.
    """

    key: str = "sk-ant-test-key"
    forbidden_key: str = "sk-ant-forbidden-key"
    models: tuple[ModelSpec, ...] = MODELS
    rpm: float = UNLIMITED_PER_MINUTE
    itpm: float = UNLIMITED_PER_MINUTE
    otpm: float = UNLIMITED_PER_MINUTE
    capacity_seconds: float = 60.0
    latency_seconds: float = 0.0
    seconds_per_output_token: float = 0.0
    batch_polls: int = 1
    batch_seconds: float = 0.0
    canceled_share: float = 1.0
    is_recording: bool = True


class MessageService:
    """Messages, token counts and models.

    Attributes:
        options: as given.
        plan: what is to go wrong.
        records: of requests, where they are kept.
        totals: over all requests.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.plan = FaultPlan()
        self._models = {model.id: model for model in options.models}
        self.reset()

    def reset(self) -> None:
        """As new: nothing seen, billed, cached, limited or to go wrong."""
        clock = time.monotonic
        self.plan.clear()
        self.records: list[RequestRecord] = []
        self.totals = Totals()
        self._cache = PromptCache(clock)
        self._number = 0
        self._limits = RateLimits(
            *(
                Bucket(per_minute, self.options.capacity_seconds, clock)
                for per_minute in (self.options.rpm, self.options.itpm, self.options.otpm)
            )
        )

    def find_model(self, model_id: str) -> ModelSpec | None:
        return self._models.get(model_id)

    def new_record(self, request: HttpRequest, place: Place | None) -> RequestRecord:
        """Count a request, and keep its record if records are kept."""
        self._number += 1
        record = RequestRecord(
            number=self._number,
            place=place,
            method=request.method,
            path=request.target,
            headers=request.headers,
            is_foreign=request.is_foreign,
        )
        self.totals.calls[place or "elsewhere"] += 1
        if self.options.is_recording:
            self.records.append(record)
        return record

    def misbehaviour(
        self, record: RequestRecord, place: Place, body: Mapping[str, Any], name: str | None = None
    ) -> Misbehaviour | None:
        """What is to go wrong with this request, noted in its record."""
        found = self.plan.next_at(place, body, name)
        if found is not None:
            record.fault = found.fault
            self.totals.faults[found.fault] += 1
        return found

    def refused(self, misbehaviour: Misbehaviour | None) -> HttpAnswer | None:
        """The answer to a request that is not to be worked on.

        Raises:
            ApiError: where the answer is an error in JSON.
        """
        if misbehaviour is None or misbehaviour.stage is not Stage.REFUSAL:
            return None
        if misbehaviour.fault is Fault.RESET_BEFORE_WORK:
            return HttpAnswer(0, b"", is_reset=True)
        page = page_of(misbehaviour.fault)
        if page is not None:
            return HttpAnswer(page[0], page[1], content_type="text/html; charset=UTF-8")
        error = error_of(misbehaviour)
        if error.status == 429:
            error.headers.update(self._limits.headers())
        raise error

    async def create_message(self, record: RequestRecord, body: dict[str, Any]) -> HttpAnswer:
        """`POST /v1/messages`.

        Raises:
            ApiError: refused.
        """
        model = check_message_request(body, self.find_model)
        misbehaviour = self.misbehaviour(record, Place.MESSAGES, body)
        refused = self.refused(misbehaviour)
        if refused is not None:
            return refused
        usage = self._cache.usage_of(body, model, self.options.key)
        self._limit(usage)
        totals = self.totals
        totals.in_flight += 1
        totals.in_flight_max = max(totals.in_flight_max, totals.in_flight)
        try:
            answer = make_answer(body, model, misbehaviour, f"{record.number:024d}")
            usage = _with_output(usage, answer)
            delay = self.options.latency_seconds
            delay += usage.output * self.options.seconds_per_output_token
            if delay > 0:
                await asyncio.sleep(delay)
            self._limits.output_tokens.take(usage.output)
            self._cache.keep(body, model, self.options.key, usage)
            self._bill(record, answer, usage, model.usd(usage))
        finally:
            totals.in_flight -= 1
        message = message_json(answer, model, usage, record, "standard")
        sent = spoilt_body(message, misbehaviour)
        sent.headers.update(self._limits.headers())
        return sent

    def batch_message(
        self, record: RequestRecord, params: dict[str, Any], misbehaviour: Misbehaviour | None
    ) -> dict[str, Any]:
        """The message that answers a request of a batch; billed at half price.

        Raises:
            ApiError: the params are refused.
        """
        model = check_message_request(params, self.find_model)
        usage = self._cache.usage_of(params, model, self.options.key)
        answer = make_answer(params, model, misbehaviour, f"{record.number:024d}")
        usage = _with_output(usage, answer)
        self._cache.keep(params, model, self.options.key, usage)
        self._bill(record, answer, usage, model.usd(usage, is_batch=True))
        message = message_json(answer, model, usage, record, "batch")
        return without_parts(message, misbehaviour)

    def count_tokens(self, body: dict[str, Any]) -> dict[str, Any]:
        """`POST /v1/messages/count_tokens`."""
        model = check_count_request(body, self.find_model)
        return {"input_tokens": model.tokens(input_tokens(body))}

    def model_list(self) -> dict[str, Any]:
        """`GET /v1/models`: all on one page."""
        models = [_model_json(model) for model in self.options.models]
        return {
            "data": models,
            "has_more": False,
            "first_id": models[0]["id"],
            "last_id": models[-1]["id"],
        }

    def model(self, model_id: str) -> dict[str, Any]:
        """`GET /v1/models/{id}`.

        Raises:
            ApiError: 404.
        """
        model = self.find_model(model_id)
        if model is None:
            raise ApiError(404, f"model: {model_id}")
        return _model_json(model)

    def _limit(self, usage: Usage) -> None:
        refusal = self._limits.refusal(usage.input + usage.cache_creation)
        if refusal is None:
            return
        name, seconds = refusal
        self.totals.refused_by_limits += 1
        raise ApiError(
            429,
            f"This request would exceed your organization's rate limit of {name} per minute.",
            headers={"retry-after": str(seconds), **self._limits.headers()},
        )

    def _bill(self, record: RequestRecord, answer: Answer, usage: Usage, usd: float) -> None:
        record.org_name, record.profiles = answer.org_name, answer.profiles
        record.texts = answer.texts
        record.usage, record.usd = usage, usd
        self.totals.bill(usage, usd)


def read_json(request: HttpRequest, max_bytes: int) -> dict[str, Any]:
    """The body of a request.

    Raises:
        ApiError: 413 if it is too large, 400 if it is no JSON object.
    """
    if request.body is None or len(request.body) > max_bytes:
        raise ApiError(413, "Request exceeds the maximum size")
    try:
        body = json.loads(request.body)
    except ValueError as error:
        raise invalid(f"The request body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise invalid("The request body should be an object")
    return body


def message_json(
    answer: Answer, model: ModelSpec, usage: Usage, record: RequestRecord, tier: str
) -> dict[str, Any]:
    """A message as the API sends it."""
    return {
        "id": f"msg_{record.number:024d}",
        "type": "message",
        "role": "assistant",
        "model": model.answers_as or model.id,
        "content": answer.content,
        "stop_reason": answer.stop_reason,
        "stop_sequence": None,
        "stop_details": answer.stop_details,
        "usage": {
            "input_tokens": usage.input,
            "cache_creation_input_tokens": usage.cache_creation,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_creation,
                "ephemeral_1h_input_tokens": 0,
            },
            "output_tokens": usage.output,
            "output_tokens_details": {"thinking_tokens": usage.thinking},
            "service_tier": tier,
        },
    }


def without_parts(message: dict[str, Any], misbehaviour: Misbehaviour | None) -> dict[str, Any]:
    """The message without its usage or content, where that is to go wrong."""
    missing = {Fault.MISSING_USAGE: "usage", Fault.MISSING_CONTENT: "content"}
    if misbehaviour is not None and misbehaviour.fault in missing:
        del message[missing[misbehaviour.fault]]
    return message


def spoilt_body(payload: dict[str, Any], misbehaviour: Misbehaviour | None) -> HttpAnswer:
    """The answer 200 with a payload, as a misbehaviour of body or connection wants it."""
    fault = misbehaviour.fault if misbehaviour is not None else None
    answer = HttpAnswer(200, json.dumps(without_parts(payload, misbehaviour)).encode())
    if misbehaviour is not None and misbehaviour.stage is Stage.CONNECTION:
        answer.misbehaviour = misbehaviour
        answer.is_reset = fault is Fault.RESET_AFTER_WORK
    elif fault is Fault.EMPTY_BODY:
        answer.body = b""
    elif fault is Fault.MALFORMED_JSON:
        answer.body = answer.body[: len(answer.body) * 2 // 3]
    elif fault is Fault.HTML_BODY:
        answer.body, answer.content_type = html_page("Please wait"), "text/html; charset=UTF-8"
    elif fault is Fault.WRONG_SHAPE:
        answer.body = b'{"ok": true}'
    elif fault is Fault.JSON_NULL:
        answer.body = b"null"
    return answer


def _with_output(usage: Usage, answer: Answer) -> Usage:
    return replace(usage, output=answer.output_tokens, thinking=answer.thinking_tokens)


def _model_json(model: ModelSpec) -> dict[str, Any]:
    return {
        "id": model.id,
        "type": "model",
        "display_name": model.id.replace("-", " ").title(),
        "created_at": "2025-10-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": model.context_window,
        "max_tokens": model.max_output,
    }
