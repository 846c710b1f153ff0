"""What asking a model takes: one call a member, ten members a call, and our profiles, day by day.

    python -m benchmarks.model_calls --orgs 1000 --members 200000 --sample 2000 --out r.json

All ask the loopback server of the tests, in a process of its own and without latency; calls,
tokens and dollars are what that server billed, by its own estimate of tokens and at list price.
One call a member and ten members a call are a plain script below, with requests as lean as ours,
on a sample, scaled to all members. Ours is the command line as people use it: the first day, the
next day, the same day again; the first day in a batch, and with a model that caches the prompt.
Then each of the API's three limits is made to bind (`benchmarks.model_limits`). The members are in
`benchmarks.community_tables`.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import anthropic
import duckdb
import numpy as np
import polars as pl

from benchmarks import community_tables as made
from benchmarks.loopback_api import IN_FLIGHT, KEY, Server, billed, serve
from benchmarks.model_limits import limits_in_turn
from engagement_pipeline.scoring.anthropic.models import DEFAULT_MODEL, ModelSpec, model_spec
from engagement_pipeline.scoring.anthropic.requests import message_params
from engagement_pipeline.scoring.levels import OrgContext, Thresholds
from engagement_pipeline.scoring.packing import pack
from engagement_pipeline.scoring.profiles import Profile
from engagement_pipeline.scoring.sharing import with_shared_profiles
from engagement_pipeline.signals import SignalSources, finish, member_signals

WORK = Path(__file__).parent / "work"
SHARED_BY = 5
"""Members who have to share a profile: the pipeline's default."""

NEWER_MODEL = "claude-haiku-5-5"


def measure(orgs: int, members: int, sample: int, limited_calls: int) -> dict[str, Any]:
    """All that the page tells: for each way of asking, what was billed and how long it took.

    Raises:
        SystemExit: members are left without an answer, or what the pipeline asked is not what
            the signals alone let expect.
    """
    people = made.community(orgs=orgs, members=members)
    before, changes = made.first_day(people), made.next_day(people)
    source, next_source = _write_sources(before, changes, orgs, members)
    after = made.together(before, changes)
    profiles = _profiles(before, made.AS_OF)
    new = _new(profiles, _profiles(after, made.NEXT_DAY))
    result: dict[str, Any] = {"orgs": orgs, "members": members, "sample": sample}
    result["org_sizes"] = _spread(np.bincount(people.org))
    result["profiles"] = {
        "first_day": _counted(profiles),
        "new_on_next_day": new,
        "new_by_the_clock_alone": _new(profiles, _profiles(before, made.NEXT_DAY)),
        "shared_by": {
            str(enough): {
                **_counted(_profiles(before, made.AS_OF, shared_by=enough)),
                "new": _new(
                    _profiles(before, made.AS_OF, shared_by=enough),
                    _profiles(after, made.NEXT_DAY, shared_by=enough),
                ),
            }
            for enough in (1, 2, 3, 5, 8)
        },
        "same_size": _count_of(orgs, members, size_spread=0.0),
        "twice_the_variety": _count_of(
            orgs, members, kinds=made.with_twice_the_variety(made.KINDS)
        ),
    }
    contexts = _contexts(before["organizations"])
    with serve() as server:
        result |= _by_member(server, profiles, contexts, sample, members)
        result |= _by_pipeline(server, source, next_source)
    counted = (profiles.select("org_id", "profile").n_unique(), new["profiles"])
    asked = tuple(result[day]["profiles_asked"] for day in ("first_day", "next_day"))
    if asked != counted:
        raise SystemExit(f"{asked} profiles were asked, and {counted} counted")
    result["limits"] = limits_in_turn(profiles, contexts, limited_calls)
    return result


# The tables and their profiles


def _write_sources(
    before: made.Tables, changes: made.Tables, orgs: int, members: int
) -> tuple[Path, Path]:
    """The folder of the first day's files, and that of the next day's, which has those too."""
    folder = WORK / f"communities_{orgs}_{members}"
    shutil.rmtree(folder, ignore_errors=True)
    first, following = folder / "first_day", folder / "next_day"
    made.write(before, first, "0")
    shutil.copytree(first, following)
    made.write(changes, following, "1")
    return first, following


def _profiles(tables: made.Tables, as_of: datetime, *, shared_by: int = SHARED_BY) -> pl.DataFrame:
    """Every member's signals with `profile`, without the pipeline; thresholds are the default."""
    tables = tables | {
        "memberships": tables["memberships"].with_columns(left_at=pl.lit(None, dtype=pl.Int64))
    }
    instants = pl.selectors.datetime().dt.epoch("us")
    frames = {
        table: frame.lazy().with_columns(instants)
        for table, frame in tables.items()
        if table != "organizations"
    }
    rows = member_signals(
        SignalSources(**frames), as_of=as_of, significant_sections=("work_history", "skills")
    )
    collected: pl.DataFrame = rows.to_native().collect(engine="streaming")
    members = finish(collected, as_of=as_of)
    return pl.concat(
        with_shared_profiles(org, Thresholds(), min_members=shared_by)
        for org in members.partition_by("org_id")
    )


def _counted(profiles: pl.DataFrame) -> dict[str, float]:
    by_org = profiles.group_by("org_id").agg(pl.col("profile").n_unique())["profile"]
    total = int(by_org.sum())
    everywhere = profiles["profile"].n_unique()
    return {
        **_spread(by_org.to_numpy()),
        "total": total,
        "members_a_profile": profiles.height / total,
        "across_organisations": everywhere,
    }


def _spread(values: Any) -> dict[str, float]:
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "max": float(np.max(values)),
    }


def _new(before: pl.DataFrame, after: pl.DataFrame) -> dict[str, int]:
    """Profiles that no member of their organisation had the day before."""
    key = ["org_id", "profile"]
    new = after.select(key).unique().join(before.select(key).unique(), on=key, how="anti")
    return {"profiles": new.height, "orgs": new["org_id"].n_unique()}


def _count_of(orgs: int, members: int, **how: Any) -> dict[str, float]:
    people = made.community(orgs=orgs, members=members, **how)
    return _counted(_profiles(made.first_day(people), made.AS_OF))


def _contexts(organizations: pl.DataFrame) -> dict[str, OrgContext]:
    return {
        org_id: OrgContext(org_id, name, description, Thresholds())
        for org_id, name, description in organizations.select(
            "org_id", "name", "description"
        ).iter_rows()
    }


# One call a member, and ten members a call


def _by_member(
    server: Server,
    profiles: pl.DataFrame,
    contexts: dict[str, OrgContext],
    sample: int,
    members: int,
) -> dict[str, Any]:
    """A plain script on whole organisations drawn by chance, until there are enough members."""
    model = model_spec(DEFAULT_MODEL, {})
    drawn: list[tuple[OrgContext, list[dict[str, Any]]]] = []
    left = sample
    for org_id in random.Random(made.SEED).sample(sorted(contexts), len(contexts)):
        rows = profiles.filter(pl.col("org_id") == org_id)[:left].to_dicts()
        drawn.append((contexts[org_id], rows))
        left -= len(rows)
        if not left:
            break
    result = {}
    for name, per_call in (("one_call_a_member", 1), ("ten_members_a_call", 10)):
        requests = [
            message_params(model, org, [Profile(row["profile"]) for row in some])
            for org, rows in drawn
            for some in pack(rows, per_call)
        ]
        server.reset()
        start = time.perf_counter()
        answered = asyncio.run(_plainly(server, requests))
        seconds = time.perf_counter() - start
        if answered != sample:
            raise SystemExit(f"{name}: {answered} members of {sample} have an answer")
        factor = members / sample
        result[name] = {
            **billed(server.stats(), members, factor),
            "seconds": seconds * factor,
            "calls_a_second": len(requests) / seconds,
        }
    result["one_call_a_member"]["json_turn_input_tokens"] = asyncio.run(
        _json_tokens(server, model, drawn)
    )
    return result


async def _plainly(server: Server, requests: Sequence[dict[str, Any]]) -> int:
    """Send all requests, as one would write it first; gives how many rows were answered."""
    waiting, answered = iter(requests), 0

    async def work(client: anthropic.AsyncAnthropic) -> None:
        nonlocal answered
        for params in waiting:
            message = await client.messages.create(**params)
            for block in message.content:
                if block.type == "tool_use":
                    answered += len(block.input["classifications"])

    async with _client(server) as client:
        await asyncio.gather(*(work(client) for _ in range(IN_FLIGHT)))
    return answered


async def _json_tokens(
    server: Server, model: ModelSpec, drawn: Sequence[tuple[OrgContext, list[dict[str, Any]]]]
) -> float:
    """Input tokens of a call about one member whose signals go as JSON with their names."""
    counts = []
    async with _client(server) as client:
        for org, rows in drawn:
            for row in rows[:10]:
                params = message_params(model, org, [Profile(row["profile"])])
                del params["max_tokens"]
                signals = {k: v for k, v in row.items() if k not in ("org_id", "user_id")}
                del signals["profile"]
                turn = json.dumps({"organisation": org.name, **signals}, default=str)
                params["messages"] = [{"role": "user", "content": turn}]
                counts.append((await client.messages.count_tokens(**params)).input_tokens)
    return float(np.mean(counts))


def _client(server: Server) -> anthropic.AsyncAnthropic:
    own = anthropic.DefaultAsyncHttpxClient(trust_env=False)
    return anthropic.AsyncAnthropic(api_key=KEY, base_url=server.url, http_client=own)


# The pipeline


def _by_pipeline(server: Server, source: Path, next_source: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    first, later = made.AS_OF.isoformat(), made.NEXT_DAY.isoformat()
    home = WORK / "model_home"
    shutil.rmtree(home, ignore_errors=True)
    for name, folder, as_of in (
        ("first_day", source, first),
        ("next_day", next_source, later),
        ("same_day_again", next_source, later),
    ):
        result[name] = _run(server, home, folder, as_of)
    shutil.rmtree(home)
    result["first_day_in_a_batch"] = _run(
        server,
        home,
        source,
        first,
        ENGAGEMENT_CLASSIFIER="anthropic-batch",
        ENGAGEMENT_BATCH_POLL_SECONDS="1",
    )
    shutil.rmtree(home)
    newer = _run(server, home, source, first, ENGAGEMENT_MODEL=NEWER_MODEL)
    model = model_spec(NEWER_MODEL, {})
    whole = newer["input_tokens"] * model.input_usd + newer["output_tokens"] * model.output_usd
    newer["usd_without_caching"] = whole / 1_000_000
    result["first_day_with_caching"] = newer
    shutil.rmtree(home)
    return result


def _run(server: Server, home: Path, source: Path, as_of: str, **settings: str) -> dict[str, Any]:
    server.reset()
    environment = {
        **os.environ,
        "ENGAGEMENT_HOME": str(home),
        "ENGAGEMENT_CLASSIFIER": "anthropic",
        "ENGAGEMENT_MODEL": DEFAULT_MODEL,
        "ENGAGEMENT_MAX_COST_USD": "100000",
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": server.url,
        "NO_PROXY": "127.0.0.1",
        **settings,
    }
    program = "from engagement_pipeline.cli import main; main()"
    arguments = ["run", "--source", str(source), "--as-of", as_of, "--json"]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{arguments}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"seconds": time.perf_counter() - start, "cpu_seconds": cpu, **_asked(home, as_of)}
    found |= billed(server.stats(), found["members"])
    asked = found["profiles_asked"]
    if asked:
        found["input_tokens_a_profile"] = found["input_tokens"] / asked
        found["output_tokens_a_profile"] = found["output_tokens"] / asked
        found["calls_per_ten_profiles"] = found["calls"] / asked * 10
    return found


def _asked(home: Path, as_of: str) -> dict[str, Any]:
    """What the warehouse has on the day's calls so far, and on its labels."""
    with duckdb.connect(str(home / "data" / "warehouse.duckdb"), read_only=True) as connection:
        calls = connection.execute(
            "SELECT count(*), coalesce(sum(profiles), 0), "
            "epoch(max(ended_at) - min(started_at)), "
            "count(*) FILTER (outcome <> 'answered') FROM scores.llm_calls WHERE as_of = ?",
            [as_of],
        ).fetchone()
        labels = connection.execute(
            "SELECT source, count(*) FROM scores.classifications WHERE as_of = ? GROUP BY ALL",
            [as_of],
        ).fetchall()
    assert calls is not None
    return {
        "calls_on_record": calls[0],
        "profiles_asked": int(calls[1]),
        "asking_seconds": calls[2],
        "calls_gone_wrong": calls[3],
        "labels": dict(labels),
        "members": sum(count for _, count in labels),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orgs", type=int, default=1_000)
    parser.add_argument("--members", type=int, default=200_000)
    parser.add_argument("--sample", type=int, default=2_000)
    parser.add_argument("--limited-calls", type=int, default=270)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    result = measure(arguments.orgs, arguments.members, arguments.sample, arguments.limited_calls)
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
