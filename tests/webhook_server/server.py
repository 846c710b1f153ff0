"""The receiver: reads requests, keeps what came, and answers well or badly.

Written over asyncio streams, as the standard library's servers do not break connections on demand.
Which answers go wrong is told by tests, in the words of `faults`.
"""

import asyncio
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from .faults import Fault, Misbehaviour

_START_SECONDS = 10.0
_PIECE_SECONDS = 0.02
_GOOD = Misbehaviour()


@dataclass(frozen=True)
class Received:
    """A request as it came; header names are in lower case, `at` is in seconds of no zero."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    at: float

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


class WebhookServer:
    """A receiver on 127.0.0.1; a context manager.

    Attributes:
        received: all that was taken in, in order, repeats too.
        hung_up: how often a client went away before its answer was sent.
        dripped: how often one waited until all had dripped.
        sent_bytes: bytes of bodies that were sent.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.hung_up = 0
        self.dripped = 0
        self.sent_bytes = 0
        self.has_received = threading.Condition()
        self._script: deque[Misbehaviour] = deque()
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="webhook-server")
        self._has_started = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._has_started.wait(_START_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?of=tests"

    @property
    def keys(self) -> list[str]:
        """The idempotency keys that came, in order, repeats too."""
        return [request.key for request in self.received]

    @property
    def times_received(self) -> Counter[str]:
        """How often each message came. Who honours the key processes each once."""
        return Counter(self.keys)

    def misbehave(
        self,
        fault: Fault | int,
        times: int = 1,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"{}",
        seconds: float = 0.0,
        size: int = 0,
    ) -> None:
        """Let the next requests that nothing was said of meet a fault, or be answered a status."""
        status = 200 if isinstance(fault, Fault) else fault
        kind = fault if isinstance(fault, Fault) else Fault.ANSWER
        told = Misbehaviour(kind, status, headers or {}, body, seconds, size)
        self._script.extend([told] * times)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._answer, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._has_started.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        try:
            while True:
                request = await _read(reader, connection)
                wrong = self._script.popleft() if self._script else _GOOD
                if wrong.fault is Fault.RESET_BEFORE_WORK:
                    _reset(writer)
                    return
                with self.has_received:
                    self.received.append(request)
                    self.has_received.notify_all()
                if not await self._send(writer, request, wrong):
                    return
        except asyncio.IncompleteReadError:
            pass  # the client has no more to say
        except ConnectionError:
            self.hung_up += 1
        except asyncio.CancelledError:
            pass  # a task that ends as cancelled would be reported by asyncio's streams
        finally:
            writer.close()

    async def _send(
        self, writer: asyncio.StreamWriter, request: Received, wrong: Misbehaviour
    ) -> bool:
        """Answer as told; gives whether the connection may be used again."""
        match wrong.fault:
            case Fault.RESET:
                _reset(writer)
                return False
            case Fault.DROP:
                return False
            case Fault.NO_HTTP:
                writer.write(request.body + b"\r\n\r\n")
            case Fault.SILENCE:
                await asyncio.sleep(wrong.seconds)
                writer.write(_head(wrong, len(wrong.body)) + wrong.body)
            case Fault.DRIPPING_HEAD:
                await self._drip(writer, b"HTTP/1.1 200 OK\r\n", b"x-more: 1\r\n", wrong.seconds)
            case Fault.DRIPPING_BODY:
                await self._drip(writer, _head(wrong, 1_000_000), b"x", wrong.seconds)
            case Fault.HUGE_BODY:
                await self._pour(writer, wrong)
            case Fault.SHORT_CONTENT_LENGTH:
                writer.write(_head(wrong, 1) + b"more than announced")
            case Fault.LONG_CONTENT_LENGTH:
                writer.write(_head(wrong, 1_000) + b"less than announced")
            case _:
                writer.write(_head(wrong, len(wrong.body)) + wrong.body)
        await writer.drain()
        return wrong.fault is Fault.ANSWER

    async def _drip(
        self, writer: asyncio.StreamWriter, first: bytes, piece: bytes, seconds: float
    ) -> None:
        writer.write(first)
        for _ in range(round(seconds / _PIECE_SECONDS)):
            await asyncio.sleep(_PIECE_SECONDS)
            writer.write(piece)
            await writer.drain()
        self.dripped += 1

    async def _pour(self, writer: asyncio.StreamWriter, wrong: Misbehaviour) -> None:
        writer.write(_head(wrong, wrong.size))
        for _ in range(wrong.size // 65_536):
            writer.write(bytes(65_536))
            await writer.drain()
            self.sent_bytes += 65_536


async def _read(reader: asyncio.StreamReader, connection: int) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    pairs = (line.partition(":") for line in head[1:-2])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body, connection, time.monotonic())


def _head(wrong: Misbehaviour, length: int) -> bytes:
    lines = [f"HTTP/1.1 {wrong.status} Whatever", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in wrong.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection with a reset: closing with no time to linger sends one."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
