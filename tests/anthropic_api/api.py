"""The server as tests hold it: started in a thread of its own, told what to do, asked what it saw.

What it answers belongs to `router`.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from .faults import Fault, Misbehaviour, Place, Predicate
from .http_server import listen
from .records import RequestRecord, Totals
from .router import Router
from .service import ServerOptions

_START_SECONDS = 10.0


class AnthropicApi:
    """The Anthropic API on 127.0.0.1; a context manager, which raises if the server itself failed.

    Args:
        port: 0: any that is free.
        options: see `ServerOptions`; single ones of them may be given by name instead.
    """

    def __init__(self, *, port: int = 0, options: ServerOptions | None = None, **named: Any):
        self.options = replace(options or ServerOptions(), **named)
        self._port = port
        self._router = Router(self.options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="anthropic-api")
        self._has_started = threading.Event()
        self._start_error: BaseException | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        # A client would take the answer for one of the API's, and try again.
        if error is None and self._router.failures:
            raise RuntimeError("the loopback server failed") from self._router.failures[0]

    def start(self) -> Self:
        """Serve.

        Raises:
            OSError: the port is taken.
        """
        self._thread.start()
        self._has_started.wait(_START_SECONDS)
        if self._start_error is not None:
            raise self._start_error
        return self

    def stop(self) -> None:
        """Close every connection and end the thread; without effect on one that has ended."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_START_SECONDS)

    @property
    def base_url(self) -> str:
        return self._router.base_url

    @property
    def foreign_url(self) -> str:
        """Another origin of this server; see `Fault.RESULTS_ELSEWHERE`."""
        return self._router.foreign_url

    @property
    def key(self) -> str:
        return self.options.key

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests in order of arrival, those within batches too; a copy."""
        return list(self._router.service.records)

    def requests_at(self, place: Place) -> list[RequestRecord]:
        """The requests that arrived at a place."""
        return [record for record in self.requests if record.place is place]

    @property
    def messages(self) -> list[RequestRecord]:
        """The requests for a single message."""
        return self.requests_at(Place.MESSAGES)

    @property
    def totals(self) -> Totals:
        return self._router.service.totals

    @property
    def billed_usd(self) -> float:
        return self.totals.billed_usd

    @property
    def pending_misbehaviours(self) -> int:
        """Scripted misbehaviours that no request has met yet."""
        return self._router.service.plan.pending

    def misbehave(
        self,
        fault: Fault,
        times: int = 1,
        when: Predicate | None = None,
        *,
        at: Place | None = None,
        seconds: float = 0.2,
        retry_after: float | None = None,
        rows: int | None = 1,
        text: str | None = None,
    ) -> None:
        """Let requests meet a fault; those told first come first.

        Args:
            fault: what goes wrong.
            times: how many requests meet it.
            when: which: it sees the body of a message, of a request within a batch or of a batch
                creation; elsewhere `{"id": …}`.
            at: where; by default where the fault belongs, which is `Place.MESSAGES` for most.
            seconds, retry_after, rows, text: see `Misbehaviour`.

        Raises:
            ValueError: the fault cannot happen there.
        """
        misbehaviour = Misbehaviour(
            fault, seconds=seconds, retry_after=retry_after, rows=rows, text=text
        )
        self._router.service.plan.add(misbehaviour, times, when, at)

    def random_faults(self, rate: float, seed: int, kinds: Iterable[Fault]) -> None:
        """Let a share of requests, wherever they arrive, meet a fault that can happen there.

        Decided by a hash of the seed and the request's number at its place, or its `custom_id`
        within a batch.
        """
        self._router.service.plan.throw_dice(rate, seed, kinds)

    def reset(self) -> None:
        """As new, but for the ports: nothing seen, billed, cached, limited or to go wrong."""
        self._in_thread(self._router.reset)

    def _in_thread(self, call: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            call()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(_START_SECONDS)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._listen())
        except OSError as error:
            self._start_error = error
        self._has_started.set()
        if self._start_error is None:
            self._loop.run_forever()
        self._close()

    async def _listen(self) -> None:
        router = self._router
        own = await listen(router.handle, self._port)
        foreign = await listen(router.handle, is_foreign=True)
        router.base_url = _url(own)
        router.foreign_url = _url(foreign)
        self._servers = (own, foreign)

    def _close(self) -> None:
        for server in getattr(self, "_servers", ()):
            server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()


def _url(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"http://{host}:{port}"
