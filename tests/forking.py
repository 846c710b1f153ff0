"""Processes that start fast: forked from a server that has the libraries loaded already.

What such a process does belongs here if more than one test wants it done; when it is killed, and
what must be so afterwards, belongs to the tests.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from pathlib import Path

# Four fifths of what the command takes to start. Of our own modules no more than asking needs: one
# that computes with Polars while it is imported leaves threads behind, which a fork lacks and waits
# for, and the definitions of all assets are free to do that.
PRELOADED = (
    "alembic.command",
    "anthropic",
    "dagster",
    "dagster._core.storage.sqlite_storage",
    "duckdb",
    "jinja2",
    "matplotlib.figure",
    "narwhals",
    "pandera.polars",
    "polars",
    "pydantic_settings",
    "pytest",
    "rapidfuzz",
    "rich.console",
    "scipy.stats",
    "sklearn.isotonic",
    "sqlglot",
    "tests.asked_home",
    "typer",
    "yaml",
)


def fork_server() -> ForkServerContext:
    """A way to start processes that have the libraries, and none of this process's threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


class Command:
    """`engagement` as a process in a session of its own, with what `subprocess.Popen` offers.

    It runs what the console script runs, from the script's entry point on.

    Args:
        words: the arguments.
        env: the whole environment.
        folder: where what it prints is kept.
    """

    def __init__(self, words: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.args = ["engagement", *words]
        folder.mkdir(parents=True, exist_ok=True)
        self._printed = [folder / "stdout", folder / "stderr"]
        files = [str(path) for path in self._printed]
        self._process = fork_server().Process(target=_run, args=(self.args, dict(env), files))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it printed, once it has ended.

        Raises:
            TimeoutExpired: it has not, after so many seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        out, err = (path.read_text() if path.exists() else "" for path in self._printed)
        return out, err

    def kill(self) -> None:
        """End it and all it started, in the hardest way there is."""
        if self._process.exitcode is None:
            # Its session is there as soon as it has opened one; what it starts comes later.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.kill()
        self._process.join()


def _run(argv: list[str], env: dict[str, str], files: list[str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate(files, start=1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = argv
    from engagement_pipeline import cli

    cli.main()
