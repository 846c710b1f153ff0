"""HTTP/1.1 by hand: reading requests, and sending answers well or badly.

Written over asyncio streams, as the standard library's servers neither break connections on
demand nor serve many at once cheaply. What an answer says belongs to `service`.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from .faults import Fault, Misbehaviour

BODY_MAX_BYTES = 256 * 2**20

_READ_LIMIT = 2**20
_BACKLOG = 1024
_DRIPS = 20
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Site Overloaded"}


@dataclass(frozen=True)
class HttpRequest:
    """A request as it arrived; header names are in lower case.

    `body` is None where it was longer than `BODY_MAX_BYTES` and thrown away.
    """

    method: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | None
    is_foreign: bool = False


@dataclass
class HttpAnswer:
    """An answer to send.

    Attributes:
        misbehaviour: of the connection; None: sent well.
        is_reset: whether the connection is reset in place of an answer.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    misbehaviour: Misbehaviour | None = None
    is_reset: bool = False


Handler = Callable[[HttpRequest], Awaitable[HttpAnswer]]


class MalformedRequestError(Exception):
    """What arrived is no HTTP/1.1 request that this server reads."""


async def listen(handler: Handler, port: int = 0, *, is_foreign: bool = False) -> asyncio.Server:
    """Serve on 127.0.0.1.

    Args:
        handler: called for each request.
        port: 0: any that is free.
        is_foreign: what requests are marked with.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _serve_connection(reader, writer, handler, is_foreign)

    return await asyncio.start_server(serve, "127.0.0.1", port, limit=_READ_LIMIT, backlog=_BACKLOG)


async def _serve_connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    handler: Handler,
    is_foreign: bool,
) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while True:
            request = await _read_request(reader, is_foreign)
            if request is None:
                break
            answer = await handler(request)
            if answer.is_reset:
                _reset(writer)
                return
            is_kept = await _send(writer, answer)
            if not is_kept or request.headers.get("connection", "").lower() == "close":
                break
    except (ConnectionError, asyncio.IncompleteReadError, MalformedRequestError):
        pass
    except asyncio.CancelledError:
        # The server stops; a task that ends as cancelled would be reported by asyncio's streams.
        pass
    finally:
        writer.close()


async def _read_request(reader: asyncio.StreamReader, is_foreign: bool) -> HttpRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        raise MalformedRequestError("headers too long") from None
    lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, _ = lines[0].split(" ")
    except ValueError:
        raise MalformedRequestError(lines[0]) from None
    headers = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    url = urlsplit(target)
    return HttpRequest(
        method=method,
        path=url.path,
        target=target,
        query=dict(parse_qsl(url.query)),
        headers=headers,
        body=await _read_body(reader, headers),
        is_foreign=is_foreign,
    )


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes | None:
    if "transfer-encoding" in headers:
        raise MalformedRequestError("chunked requests are not read")
    announced = headers.get("content-length", "0")
    if not announced.isdecimal():
        raise MalformedRequestError(f"content-length: {announced}")
    length = int(announced)
    if length <= BODY_MAX_BYTES:
        return await reader.readexactly(length)
    # A client that is still sending would see a reset in place of the answer.
    while length > 0:
        piece = await reader.read(min(length, _READ_LIMIT))
        if not piece:
            raise ConnectionError
        length -= len(piece)
    return None


def _head(answer: HttpAnswer, length: int) -> bytes:
    reason = _REASONS.get(answer.status, "Unknown")
    lines = [f"HTTP/1.1 {answer.status} {reason}", f"content-length: {length}"]
    lines.append(f"content-type: {answer.content_type}")
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send(writer: asyncio.StreamWriter, answer: HttpAnswer) -> bool:
    """Send an answer as its misbehaviour wants it.

    Returns:
        Whether the connection may be used again.
    """
    body, misbehaviour = answer.body, answer.misbehaviour
    fault = misbehaviour.fault if misbehaviour is not None else None
    if misbehaviour is None or fault is None:
        writer.write(_head(answer, len(body)) + body)
        await writer.drain()
        return True
    if fault is Fault.SLOW_ANSWER:
        await asyncio.sleep(misbehaviour.seconds)
        writer.write(_head(answer, len(body)) + body)
    elif fault is Fault.SLOW_BODY:
        writer.write(_head(answer, len(body)))
        await writer.drain()
        await asyncio.sleep(misbehaviour.seconds)
        writer.write(body)
    elif fault is Fault.DRIPPING_BODY:
        writer.write(_head(answer, len(body)))
        size = -(-len(body) // _DRIPS) or 1
        for start in range(0, len(body), size):
            await asyncio.sleep(misbehaviour.seconds / _DRIPS)
            writer.write(body[start : start + size])
            await writer.drain()
    elif fault is Fault.SHORT_CONTENT_LENGTH:
        writer.write(_head(answer, len(body) * 2 // 3) + body)
    elif fault is Fault.TRUNCATED_BODY:
        writer.write(_head(answer, len(body)) + body[: len(body) * 2 // 3])
    await writer.drain()
    return fault not in (Fault.SHORT_CONTENT_LENGTH, Fault.TRUNCATED_BODY)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection with a reset: closing with no time to linger sends one."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
