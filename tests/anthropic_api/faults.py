"""Misbehaviour: which there is, and which request meets it.

What a fault of the answer's content does belongs to `spoilt_answers`, what one of the connection
does to `http_server`, and what one of a batch does to `batches`.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from threading import Lock
from typing import Any

Predicate = Callable[[Mapping[str, Any]], bool]


class Place(StrEnum):
    """Where a request arrives; `BATCH_ITEM` is a request within a batch."""

    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    MODELS = "models"
    BATCH_CREATE = "batch_create"
    BATCH_LIST = "batch_list"
    BATCH_RETRIEVE = "batch_retrieve"
    BATCH_RESULTS = "batch_results"
    BATCH_CANCEL = "batch_cancel"
    BATCH_DELETE = "batch_delete"
    BATCH_ITEM = "batch_item"


class Stage(Enum):
    """What a fault spoils, and so which work is still done and billed."""

    REFUSAL = "refused with an error, nothing is done or billed"
    CONNECTION = "done and billed, but the answer arrives badly or never"
    BODY = "done and billed, but the answer is not what the API sends"
    ANSWER = "done and billed, but the model answered badly"
    BATCH = "the batch goes wrong"
    BATCH_ITEM = "a request within a batch goes wrong, and is not billed"


class Fault(StrEnum):
    """Each way to misbehave; see `STAGES` for what of it is still billed."""

    RATE_LIMITED = "rate_limited"  # a 429; `retry_after` seconds, 1 if not given
    RATE_LIMITED_FLOAT = "rate_limited_float"  # 0.5 if not given
    RATE_LIMITED_DATE = "rate_limited_date"  # an HTTP date, 2 s from now if not given
    RATE_LIMITED_ABSURD = "rate_limited_absurd"  # a day
    RATE_LIMITED_BARE = "rate_limited_bare"  # without retry-after
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    BAD_GATEWAY_HTML = "bad_gateway_html"
    SERVICE_UNAVAILABLE = "service_unavailable"
    GATEWAY_TIMEOUT = "gateway_timeout"
    REQUEST_TIMEOUT = "request_timeout"
    CONFLICT = "conflict"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CREDIT_TOO_LOW = "credit_too_low"  # 400 invalid_request_error
    USAGE_LIMIT_REACHED = "usage_limit_reached"  # 400: the limit that the customer set
    BILLING = "billing"  # 402 billing_error
    SPEND_LIMIT_REACHED = "spend_limit_reached"  # 429 with an error code
    CONTRACT_SPEND_LIMIT_REACHED = "contract_spend_limit_reached"  # 429 with an error code
    ORGANIZATION_ON_HOLD = "organization_on_hold"  # 400 with an error code
    INVALID_REQUEST = "invalid_request"
    TOO_LARGE_HTML = "too_large_html"
    RESET_BEFORE_WORK = "reset_before_work"

    RESET_AFTER_WORK = "reset_after_work"
    SLOW_ANSWER = "slow_answer"  # nothing is sent for `seconds`
    SLOW_BODY = "slow_body"  # the headers at once, the body after `seconds`
    DRIPPING_BODY = "dripping_body"  # the body in small pieces over `seconds`
    SHORT_CONTENT_LENGTH = "short_content_length"  # fewer bytes announced than sent
    TRUNCATED_BODY = "truncated_body"  # more bytes announced than sent

    EMPTY_BODY = "empty_body"
    MALFORMED_JSON = "malformed_json"
    HTML_BODY = "html_body"
    WRONG_SHAPE = "wrong_shape"
    JSON_NULL = "json_null"
    MISSING_USAGE = "missing_usage"
    MISSING_CONTENT = "missing_content"

    MAX_TOKENS = "max_tokens"
    REFUSAL = "refusal"
    TEXT_BEFORE_TOOL = "text_before_tool"
    THINKING_BEFORE_TOOL = "thinking_before_tool"
    INPUT_AS_STRING = "input_as_string"
    WRONG_TOOL_NAME = "wrong_tool_name"
    TWO_TOOL_CALLS = "two_tool_calls"
    ONLY_TEXT = "only_text"
    NO_CLASSIFICATIONS = "no_classifications"
    ROW_MISSING = "row_missing"
    ROW_TWICE = "row_twice"  # with the same content
    ROW_CONTRADICTED = "row_contradicted"  # twice, with different levels
    ROW_UNKNOWN = "row_unknown"
    ROW_AS_STRING = "row_as_string"
    ROW_AS_FLOAT = "row_as_float"
    ROW_AS_BOOL = "row_as_bool"
    ROWS_SHUFFLED = "rows_shuffled"
    EXTRA_FIELDS = "extra_fields"
    UNKNOWN_LEVEL = "unknown_level"
    DIGITS = "digits"
    NUMBER_WORDS = "number_words"
    AT_RISK_SPELT = "at_risk_spelt"
    LEVEL_NAMED = "level_named"
    URL = "url"
    MARKUP = "markup"
    TOO_LONG = "too_long"
    EMPTY_TEXT = "empty_text"
    UNKNOWN_PLACEHOLDER = "unknown_placeholder"
    BROKEN_BRACE = "broken_brace"
    UNKNOWN_FIGURE = "unknown_figure"
    ALL_AT_RISK = "all_at_risk"

    BATCH_LOST_RESET = "batch_lost_reset"  # accepted, but the answer is lost
    BATCH_LOST_500 = "batch_lost_500"
    BATCH_LOST_504 = "batch_lost_504"
    BATCH_EXPIRED = "batch_expired"
    BATCH_EXPIRED_IN_PART = "batch_expired_in_part"
    BATCH_FAILED = "batch_failed"  # every request errored
    RESULTS_CUT = "results_cut"  # the last line of the download
    RESULTS_ELSEWHERE = "results_elsewhere"  # results_url is on another origin

    ITEM_API_ERROR = "item_api_error"
    ITEM_INVALID = "item_invalid"
    ITEM_CANCELED = "item_canceled"
    ITEM_EXPIRED = "item_expired"


_FIRST_OF_STAGE = {
    Fault.RATE_LIMITED: Stage.REFUSAL,
    Fault.RESET_AFTER_WORK: Stage.CONNECTION,
    Fault.EMPTY_BODY: Stage.BODY,
    Fault.MAX_TOKENS: Stage.ANSWER,
    Fault.BATCH_LOST_RESET: Stage.BATCH,
    Fault.ITEM_API_ERROR: Stage.BATCH_ITEM,
}


def _stages() -> dict[Fault, Stage]:
    stages = {}
    stage = Stage.REFUSAL
    for fault in Fault:
        stage = _FIRST_OF_STAGE.get(fault, stage)
        stages[fault] = stage
    return stages


STAGES = _stages()
"""The stage of each fault: they are listed stage by stage."""


def faults_of(*stages: Stage) -> tuple[Fault, ...]:
    """All faults of these stages."""
    return tuple(fault for fault in Fault if STAGES[fault] in stages)


_NATURAL_PLACES = {
    Fault.RESULTS_CUT: Place.BATCH_RESULTS,
    Fault.RESULTS_ELSEWHERE: Place.BATCH_RETRIEVE,
}
_STAGE_PLACES = {Stage.BATCH: Place.BATCH_CREATE, Stage.BATCH_ITEM: Place.BATCH_ITEM}


def natural_place(fault: Fault) -> Place:
    """Where a fault happens if nothing else is said."""
    return _NATURAL_PLACES.get(fault, _STAGE_PLACES.get(STAGES[fault], Place.MESSAGES))


def _can_happen(fault: Fault, place: Place) -> bool:
    stage = STAGES[fault]
    if stage in (Stage.BATCH, Stage.BATCH_ITEM):
        return place is natural_place(fault)
    if place is Place.BATCH_ITEM:
        return stage is Stage.ANSWER or fault in (Fault.MISSING_USAGE, Fault.MISSING_CONTENT)
    return stage is not Stage.ANSWER or place is Place.MESSAGES


@dataclass(frozen=True)
class Misbehaviour:
    """A fault as one request meets it.

    Attributes:
        fault: what goes wrong.
        seconds: how long slow ones take.
        retry_after: seconds, for a 429.
        rows: how many rows of the answer are spoilt, from the first on; None: all.
        text: what a fault of texts writes, in place of its own choice.
        turn: how often this fault was met before, for faults that have several forms.
    """

    fault: Fault
    seconds: float = 0.2
    retry_after: float | None = None
    rows: int | None = 1
    text: str | None = None
    turn: int = 0

    @property
    def stage(self) -> Stage:
        return STAGES[self.fault]


@dataclass
class _Scripted:
    misbehaviour: Misbehaviour
    place: Place
    times: int
    when: Predicate | None


@dataclass(frozen=True)
class _Dice:
    rate: float
    seed: int
    kinds: tuple[Fault, ...]

    def thrown(self, place: Place, number: int | str) -> Fault | None:
        kinds = [fault for fault in self.kinds if _can_happen(fault, place)]
        # A count of batch items of its own would depend on when batches are worked on.
        digest = hashlib.sha256(f"{self.seed}:{place}:{number}".encode()).digest()
        if not kinds or int.from_bytes(digest[:8], "big") >= self.rate * 2**64:
            return None
        return kinds[int.from_bytes(digest[8:16], "big") % len(kinds)]


class FaultPlan:
    """What is to go wrong, asked once for each request; scripted faults go before dice."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._script: list[_Scripted] = []
        self._dice: _Dice | None = None
        self._counts: dict[Place, int] = {}
        self._turns: dict[Fault, int] = {}

    def add(
        self, misbehaviour: Misbehaviour, times: int, when: Predicate | None, place: Place | None
    ) -> None:
        """Let the next `times` requests at a place that `when` holds of meet a fault.

        Raises:
            ValueError: the fault cannot happen there.
        """
        where = place or natural_place(misbehaviour.fault)
        if not _can_happen(misbehaviour.fault, where):
            raise ValueError(f"{misbehaviour.fault} cannot happen at {where}")
        with self._lock:
            self._script.append(_Scripted(misbehaviour, where, times, when))

    def throw_dice(self, rate: float, seed: int, kinds: Iterable[Fault]) -> None:
        """Let a share of all requests meet a fault, by the hash of a seed and their number."""
        with self._lock:
            self._dice = _Dice(rate, seed, tuple(kinds))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._script.clear()
            self._dice = None
            self._counts.clear()
            self._turns.clear()

    @property
    def pending(self) -> int:
        """Scripted misbehaviours that no request has met yet."""
        with self._lock:
            return sum(scripted.times for scripted in self._script)

    def next_at(
        self, place: Place, request: Mapping[str, Any], name: str | None = None
    ) -> Misbehaviour | None:
        """What goes wrong with this request.

        Args:
            place: where it arrived.
            request: its body, or what stands in for one; `when` sees it.
            name: what dice know it by; without one, its number at the place.
        """
        with self._lock:
            number = self._counts.get(place, 0)
            self._counts[place] = number + 1
            if not self._script and self._dice is None:
                return None
            for scripted in self._script:
                if scripted.place is place and (scripted.when is None or scripted.when(request)):
                    scripted.times -= 1
                    if scripted.times <= 0:
                        self._script.remove(scripted)
                    return self._in_turn(scripted.misbehaviour)
            fault = self._dice.thrown(place, name or number) if self._dice else None
            return self._in_turn(Misbehaviour(fault)) if fault else None

    def _in_turn(self, misbehaviour: Misbehaviour) -> Misbehaviour:
        turn = self._turns.get(misbehaviour.fault, 0)
        self._turns[misbehaviour.fault] = turn + 1
        return Misbehaviour(
            fault=misbehaviour.fault,
            seconds=misbehaviour.seconds,
            retry_after=misbehaviour.retry_after,
            rows=misbehaviour.rows,
            text=misbehaviour.text,
            turn=turn,
        )
