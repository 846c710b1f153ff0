"""How an answer goes wrong. How it is sent so belongs to `server`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """Each way to misbehave. All but the first come after the message was taken in."""

    RESET_BEFORE_WORK = "reset_before_work"  # the connection is reset, nothing was taken in
    ANSWER = "answer"  # another status, header or body than a good one
    RESET = "reset"
    DROP = "drop"  # the connection is closed in good order, without an answer
    SILENCE = "silence"  # nothing for `seconds`, then a good answer
    DRIPPING_HEAD = "dripping_head"  # headers without end, one at a time, for `seconds`
    DRIPPING_BODY = "dripping_body"  # a good head, and a body in small pieces for `seconds`
    HUGE_BODY = "huge_body"  # as many bytes as the client takes, up to `size`
    SHORT_CONTENT_LENGTH = "short_content_length"  # fewer bytes announced than sent
    LONG_CONTENT_LENGTH = "long_content_length"  # more bytes announced than sent
    NO_HTTP = "no_http"  # what was sent comes back, which is no answer at all


@dataclass(frozen=True)
class Misbehaviour:
    """One thing that goes wrong.

    Attributes:
        fault: what.
        status: of the answer, where there is one.
        headers: further ones of the answer.
        body: of the answer.
        seconds: how long it takes.
        size: bytes of a huge body.
    """

    fault: Fault = Fault.ANSWER
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    seconds: float = 0.0
    size: int = 0
