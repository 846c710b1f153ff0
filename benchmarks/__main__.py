"""All benchmarks, one after another, and `docs/performance.md` written from what they measured.

python -m benchmarks [--quick]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

WORK = Path(__file__).parent / "work"
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_LIBRARIES = ("dagster", "duckdb", "polars", "narwhals", "pandas", "anthropic")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the scripts")
    parser.add_argument("--only", choices=tuple(_TABLES), nargs="*")
    quick = parser.parse_args().quick
    only = parser.parse_args().only or tuple(_TABLES)
    WORK.mkdir(exist_ok=True)
    rows = ["--rows", "100000"] if quick else ["--rows", "1000000", "--rows", "10000000"]
    size = ["--orgs", "20", "--members", "2000", "--attendance", "20000"] if quick else []
    few = ["--orgs", "20", "--members", "4000", "--sample", "200", "--limited-calls", "40"]
    for name, arguments in {
        "signals": rows,
        "ingestion": rows,
        "daily_run": size,
        "learning": ["--rows", "100000", "--repeats", "1"] if quick else [],
        "model_calls": few if quick else [],
        "sentiment": ["--rows", "60000", "--repeats", "1"] if quick else [],
        "outreach": ["--members", "20000", "--repeats", "1"] if quick else [],
    }.items():
        if name in only:
            _run(name, arguments)
    if not quick:
        found = {
            name: json.loads(_result(name).read_text())
            for name in _TABLES
            if _result(name).exists()
        }
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(_BEGIN)
        _, _, after = rest.partition(_END)
        measured = "\n\n".join([_machine(), *(_TABLES[n](r) for n, r in found.items())])
        PAGE.write_text(f"{before}{_BEGIN}\n\n{measured}\n\n{_END}{after}", encoding="utf-8")


def _run(name: str, arguments: list[str]) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--out", str(_result(name))]
    subprocess.run(command, check=True)


def _result(name: str) -> Path:
    return WORK / f"{name}.json"


def _machine() -> str:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [ln for ln in cpuinfo.read_text().splitlines() if ln.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"Machine: {os.cpu_count()} cores of {model}, {gib:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}, {libraries}."
    )


def _signals(results: list[dict[str, Any]]) -> str:
    lines = [
        "### Signals",
        "",
        "| rows | who | seconds (median) | seconds (min) | CPU s | peak GiB | ours / it |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        ours = result["contestants"]["ours"]["wall_seconds_median"]
        for name, found in result["contestants"].items():
            median, peak = found["wall_seconds_median"], found["peak_gib"]
            lines.append(
                f"| {result['rows']:,} | {name} | {median:.2f} | {found['wall_seconds_min']:.2f} "
                f"| {found['cpu_seconds_min']:.2f} | {peak:.2f} | {ours / median:.2f} |"
            )
    return "\n".join(lines)


def _ingestion(results: list[dict[str, Any]]) -> str:
    lines = [
        "### Ingestion of attendance",
        "",
        "| rows | format | ours, rows/s | bare DuckDB, rows/s | ours / bare | peak GiB |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for found in results:
        ours, bare = (found["rows"] / found[f"{who}_seconds"] for who in ("ours", "duckdb"))
        lines.append(
            f"| {found['rows']:,} | {found['format']} | {ours:,.0f} | {bare:,.0f} "
            f"| {found['ratio']:.2f} | {found['ours_peak_gib']:.2f} |"
        )
    return "\n".join(lines)


def _daily_run(result: dict[str, Any]) -> str:
    runs = {"first_run": "first run", "nothing_new": "nothing new", "next_day": "the next day"}
    stages = list(result["first_run_stages"])
    lines = [
        "### The daily run",
        "",
        f"{result['orgs']:,} organisations, {result['members']:,} members, "
        f"{result['attendance']:,} attendance rows and a quarter as many notifications.",
        "",
        f"| run | seconds | CPU s | {' | '.join(stages)} |",
        f"| --- | ---: | ---: | {' | '.join('---:' for _ in stages)} |",
    ]
    for name, words in runs.items():
        found = result[name]
        parts = " | ".join(f"{result[f'{name}_stages'].get(s, 0):.1f}" for s in stages)
        lines.append(f"| {words} | {found['seconds']:.1f} | {found['cpu_seconds']:.1f} | {parts} |")
    raw = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["raw"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"Peak memory {result['next_day']['peak_gib']:.2f} GiB. The raw computations alone: "
            f"{raw}; together {result['raw_seconds']:.1f} s, so the first run's overhead is "
            f"{result['overhead_seconds']:.1f} s.",
        ]
    )


def _learning(results: list[dict[str, Any]]) -> str:
    lines = [
        "### Learning from notifications",
        "",
        "| notifications | reads | who | new signals | seconds (median) | times the group-by |",
        "| ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for found in results:
        size = f"| {found['notifications']:,} | {found['reads']:,} "
        for name, words in {"weekly": "ours, every week", "first": "ours, the first time"}.items():
            lines.append(
                f"{size}| {words} | {found[f'{name}_new_signals']:,} "
                f"| {found[f'{name}_seconds']:.1f} | {found[f'{name}_ratio']:.2f} |"
            )
        lines.append(f"{size}| one group-by of DuckDB | | {found['peer_seconds']:.1f} | 1 |")
    last = results[-1]
    return "\n".join(
        [
            *lines,
            "",
            f"{last['orgs']:,} organisations, {last['calibrations']:,} calibrations; peak memory "
            f"{last['peak_gib']:.2f} GiB.",
        ]
    )


_WAYS = {
    "one_call_a_member": "one call a member (scaled)",
    "ten_members_a_call": "ten members a call (scaled)",
    "first_day": "profiles, the first day",
    "next_day": "profiles, the next day",
    "same_day_again": "profiles, the same day again",
    "first_day_in_a_batch": "profiles, the first day in a batch",
    "first_day_with_caching": "profiles, the first day, claude-haiku-5-5",
}


def _model_calls(result: dict[str, Any]) -> str:
    alone, profiles = result["one_call_a_member"], result["profiles"]
    sizes, first = result["org_sizes"], profiles["first_day"]
    lines = [
        "### Asking a model",
        "",
        f"{result['members']:,} members in {result['orgs']:,} organisations (mean "
        f"{sizes['mean']:,.0f}, median {sizes['median']:,.0f}, largest {sizes['max']:,.0f}) share "
        f"{first['total']:,} profiles: {first['members_a_profile']:.1f} members each.",
        "",
        "| way | calls | input tokens | output tokens | $ | $ per 1,000 members | times cheaper "
        "| seconds | of them asking |",
        f"| --- |{' ---: |' * 8}",
    ]
    for name, words in _WAYS.items():
        found = result[name]
        cheaper = f"{alone['usd'] / found['usd']:,.1f}" if found["usd"] else ""
        asking = found.get("asking_seconds", found["seconds"]) if found["calls"] else 0
        lines.append(
            f"| {words} | {found['calls']:,} | {found['input_tokens']:,} "
            f"| {found['output_tokens']:,} | {found['usd']:,.2f} "
            f"| {found['usd_per_1000_members']:.4f} | {cheaper} | {found['seconds']:,.0f} "
            f"| {asking:,.0f} |"
        )
    return "\n".join([*lines, "", *_profile_lines(result), "", *_limit_lines(result["limits"])])


def _profile_lines(result: dict[str, Any]) -> list[str]:
    first, newer, alone = (
        result[name] for name in ("first_day", "first_day_with_caching", "one_call_a_member")
    )
    lines = [
        f"A profile of the first day took {first['input_tokens_a_profile']:.1f} input and "
        f"{first['output_tokens_a_profile']:.1f} output tokens, ten of them "
        f"{first['calls_per_ten_profiles']:.2f} calls; {first['calls_gone_wrong']:,} calls went "
        f"wrong. One call a member took {alone['input_tokens'] / alone['calls']:,.0f} input "
        f"tokens; with the signals as named JSON it would be "
        f"{alone['json_turn_input_tokens']:,.0f}. With prompt caching, claude-haiku-5-5 read "
        f"{newer['cache_read_tokens'] / newer['input_tokens']:.0%} of its input from the cache; "
        f"without, the same would cost ${newer['usd_without_caching']:.2f}.",
        "",
        "| profiles, counted without a run | profiles | an organisation | members a profile |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, words in {
        "first_day": "as above",
        "same_size": "every organisation of the same size",
        "twice_the_variety": "twice as many members who do anything",
    }.items():
        found = result["profiles"][name]
        lines.append(
            f"| {words} | {found['total']:,} | {found['mean']:.1f} "
            f"| {found['members_a_profile']:.1f} |"
        )
    for enough, found in result["profiles"]["shared_by"].items():
        lines.append(
            f"| shared by {enough} members or more (`members_per_profile`) | {found['total']:,} "
            f"| {found['mean']:.1f} | {found['members_a_profile']:.1f} |"
        )
        new = found["new"]["profiles"]
        lines.append(f"| … of them new on the next day | {new:,} | {new / result['orgs']:.1f} | |")
    for name, words in {
        "new_on_next_day": "new on the next day",
        "new_by_the_clock_alone": "new on the next day, had nobody done anything",
    }.items():
        found = result["profiles"][name]
        an_org = found["profiles"] / result["orgs"]
        lines.append(f"| {words} | {found['profiles']:,} | {an_org:.1f} | |")
    return lines


def _limit_lines(limits: dict[str, Any]) -> list[str]:
    lines = [
        "| the limit that binds | a minute | calls | seconds | used | 429s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for option, words in {
        "rpm": "requests",
        "itpm": "input tokens",
        "otpm": "output tokens",
    }.items():
        found = limits[option]
        lines.append(
            f"| {words} | {found['limit_a_minute']:,.0f} | {found['calls']:,} "
            f"| {found['seconds']:.1f} | {found['share_used']:.1%} | {found['refused_429']} |"
        )
    return lines


def _sentiment(results: list[dict[str, Any]]) -> str:
    lines = [
        "### Scoring interactions",
        "",
        "| texts | who | seconds (median) | texts/s | ours / it |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    for found in results:
        for name, words in {
            "ours": "VADER on all cores",
            "peer": "`vaderSentiment` in one process",
            "whole": "interactions read, scored in full and stored",
        }.items():
            seconds = found[f"{name}_seconds"]
            lines.append(
                f"| {found['texts']:,} | {words} | {seconds:.1f} | {found['texts'] / seconds:,.0f} "
                f"| {found['ours_seconds'] / seconds:.2f} |"
            )
    last = results[-1]
    return "\n".join(
        [
            *lines,
            "",
            f"All texts differ, of {last['mean_characters']:.0f} characters on average. "
            f"{last['late_rows']:,} interactions that came late took {last['late_seconds']:.1f} s; "
            f"peak memory {last['peak_gib']:.2f} GiB, of workers not counted.",
        ]
    )


def _outreach(found: dict[str, Any]) -> str:
    parts = ("read", "decide", "find", "plan", "write")
    return "\n".join(
        [
            "### A cycle of outreach",
            "",
            f"{found['members']:,} members of {found['orgs']:,} organisations, "
            f"{found['eligible_share']:.0%} eligible, {found['messages_share']:.0%} with a "
            f"message: decided, planned and stored in {found['seconds']:.1f} s (aim: "
            f"{found['aim_seconds']:g} s), {found['cpu_seconds']:.1f} s of CPU, "
            f"{found['peak_gib']:.1f} GiB (aim: {found['aim_gib']:g} GiB).",
            "",
            f"| {' | '.join(parts)} |",
            "| " + " | ".join("---:" for _ in parts) + " |",
            "| " + " | ".join(f"{found[f'{p}_cpu_seconds']:.1f} s CPU" for p in parts) + " |",
        ]
    )


_TABLES: dict[str, Any] = {
    "signals": _signals,
    "ingestion": _ingestion,
    "daily_run": _daily_run,
    "learning": _learning,
    "model_calls": _model_calls,
    "sentiment": _sentiment,
    "outreach": _outreach,
}

if __name__ == "__main__":
    main()
