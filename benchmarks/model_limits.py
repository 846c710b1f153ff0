"""How much of the API's limits our client uses when one of them binds, and how often it is refused.

Measured without the pipeline: `benchmarks.model_calls` brings the questions.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from benchmarks import community_tables as made
from benchmarks.loopback_api import IN_FLIGHT, KEY, Server, serve
from engagement_pipeline.scoring.anthropic.client import Connection
from engagement_pipeline.scoring.anthropic.models import DEFAULT_MODEL, model_spec
from engagement_pipeline.scoring.anthropic.sending import RunFacts
from engagement_pipeline.scoring.anthropic.session import Way, ask
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.packing import pack
from engagement_pipeline.scoring.questions import OrgQuestions, fingerprint_for, questions_about

CALLS_PER_MINUTE = 600.0
CAPACITY_SECONDS = 5.0
"""Of refill that the server's full buckets hold: little, so that the limit binds at once."""
LATENCY_SECONDS = 1.0
"""Answers that come at once would hide that output is only counted when it is there."""


def limits_in_turn(
    profiles: pl.DataFrame, contexts: dict[str, OrgContext], calls: int
) -> dict[str, dict[str, float]]:
    """Each limit in turn so low that it binds: how much of it was used, and the 429s met.

    Args:
        profiles: every member's `org_id`, and the signals.
        contexts: organisation -> what a model is told of it.
        calls: made at each limit, about.

    Raises:
        SystemExit: a profile is left without an answer.
    """
    fingerprint = fingerprint_for(DEFAULT_MODEL, "tool")
    questions, count = [], 0
    for org_id, context in contexts.items():
        mine = profiles.filter(pl.col("org_id") == org_id)
        questions.append(questions_about(context, mine, fingerprint))
        count += len(pack(questions[-1].questions, 10))
        if count >= calls:
            break
    with serve() as server:
        free = _ask_all(server, questions)
    minute = CALLS_PER_MINUTE / free["calls"]
    limits = {
        "rpm": ("requests", CALLS_PER_MINUTE),
        "itpm": ("input_tokens", free["input_tokens"] * minute),
        "otpm": ("output_tokens", free["output_tokens"] * minute),
    }
    result = {"none": free}
    for option, (counted, limit) in limits.items():
        with serve(
            **{option: round(limit)},
            latency=LATENCY_SECONDS,
            capacity_seconds=CAPACITY_SECONDS,
        ) as server:
            found = _ask_all(server, questions)
        used = found["calls"] if option == "rpm" else found[counted]
        # What a bucket held at the beginning was there to be used as well.
        allowed = limit / 60 * (found["seconds"] + CAPACITY_SECONDS)
        result[option] = {**found, "limit_a_minute": limit, "share_used": used / allowed}
    return result


def _ask_all(server: Server, questions: Sequence[OrgQuestions]) -> dict[str, float]:
    connection = Connection(KEY, server.url, max_connections=IN_FLIGHT + 2)
    way = Way(connection, model_spec(DEFAULT_MODEL, {}), max_cost_usd=100_000.0)
    facts = RunFacts("benchmark", made.AS_OF, "anthropic", 1, 8, lambda: datetime.now(UTC))
    start = time.perf_counter()
    outcome = ask(questions, way, facts, lambda _: None)
    seconds = time.perf_counter() - start
    if outcome.failed or outcome.unanswered:
        raise SystemExit(f"without an answer: {outcome.failed or outcome.unanswered}")
    stats = server.stats()
    return {
        "seconds": seconds,
        "calls": stats["billed_calls"],
        "input_tokens": stats["tokens"]["input"],
        "output_tokens": stats["tokens"]["output"],
        "refused_429": stats["statuses"].get("429", 0),
    }
