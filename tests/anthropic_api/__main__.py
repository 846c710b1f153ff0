"""`python -m tests.anthropic_api`: the server in a process of its own, for benchmarks.

Prints its URL and serves until it is stopped; `GET /_stats` tells what it saw, and `POST /_reset`
forgets it.
"""

import argparse
import signal
import threading

from .api import AnthropicApi
from .faults import Fault
from .service import UNLIMITED_PER_MINUTE, ServerOptions


def main() -> None:
    arguments = _parser().parse_args()
    options = ServerOptions(
        key=arguments.key,
        rpm=arguments.rpm,
        itpm=arguments.itpm,
        otpm=arguments.otpm,
        capacity_seconds=arguments.capacity_seconds,
        latency_seconds=arguments.latency,
        seconds_per_output_token=arguments.seconds_per_output_token,
        batch_polls=arguments.batch_polls,
        batch_seconds=arguments.batch_seconds,
        is_recording=False,
    )
    is_over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_over.set())
    with AnthropicApi(port=arguments.port, options=options) as api:
        if arguments.fault_rate:
            api.random_faults(arguments.fault_rate, arguments.seed, arguments.faults)
        print(api.base_url, flush=True)
        is_over.wait()


def _faults(names: str) -> tuple[Fault, ...]:
    return tuple(Fault(name) for name in names.split(","))


def _parser() -> argparse.ArgumentParser:
    defaults = ServerOptions()
    parser = argparse.ArgumentParser(prog="python -m tests.anthropic_api", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--key", default=defaults.key)
    for name in ("rpm", "itpm", "otpm"):
        parser.add_argument(f"--{name}", type=float, default=float(UNLIMITED_PER_MINUTE))
    parser.add_argument("--capacity-seconds", type=float, default=defaults.capacity_seconds)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds for each message")
    parser.add_argument("--seconds-per-output-token", type=float, default=0.0)
    parser.add_argument("--batch-polls", type=int, default=defaults.batch_polls)
    parser.add_argument("--batch-seconds", type=float, default=0.0)
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of requests")
    parser.add_argument("--faults", type=_faults, default=(Fault.OVERLOADED,), help="comma between")
    parser.add_argument("--seed", type=int, default=0, help="of random faults")
    return parser


if __name__ == "__main__":
    main()
