"""The loopback server of the tests, in a process of its own, and what it billed.

What is asked of it belongs to the benchmarks that start it.
"""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent
KEY = "sk-ant-test-key"
IN_FLIGHT = 16
"""Calls at a time, whoever asks: what the pipeline has by default."""


@dataclass(frozen=True)
class Server:
    """The loopback server in a process of its own."""

    url: str

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._open("/_stats"))
        return found

    def reset(self) -> None:
        self._open("/_reset", b"")

    def _open(self, path: str, body: bytes | None = None) -> bytes:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(self.url + path, body) as answer:
            content: bytes = answer.read()
        return content


@contextmanager
def serve(**options: float) -> Iterator[Server]:
    """A server until the block is left; `options` are those of its command line."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "tests.anthropic_api", "--key", KEY, *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stdout is not None
        try:
            yield Server(process.stdout.readline().strip())
        finally:
            process.terminate()


def billed(stats: dict[str, Any], members: int, factor: float = 1.0) -> dict[str, Any]:
    """What the server billed, `factor` times, and for each thousand members.

    Input tokens are all that were read, from the cache or not; `http_requests` are as they came.
    """
    tokens = stats["tokens"]
    read = tokens["input"] + tokens["cache_creation"] + tokens["cache_read"]
    return {
        "calls": round(stats["billed_calls"] * factor),
        "http_requests": sum(stats["statuses"].values()),
        "input_tokens": round(read * factor),
        "cache_read_tokens": round(tokens["cache_read"] * factor),
        "cache_write_tokens": round(tokens["cache_creation"] * factor),
        "output_tokens": round(tokens["output"] * factor),
        "usd": stats["billed_usd"] * factor,
        "usd_per_1000_members": stats["billed_usd"] * factor / members * 1_000,
    }
