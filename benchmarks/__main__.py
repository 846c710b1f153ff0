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
_LIBRARIES = ("dagster", "duckdb", "polars", "narwhals", "pandas")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the scripts")
    parser.add_argument("--only", choices=("signals", "ingestion", "daily_run"), nargs="*")
    quick = parser.parse_args().quick
    only = parser.parse_args().only or ("signals", "ingestion", "daily_run")
    WORK.mkdir(exist_ok=True)
    rows = ["--rows", "100000"] if quick else ["--rows", "1000000", "--rows", "10000000"]
    size = ["--orgs", "20", "--members", "2000", "--attendance", "20000"] if quick else []
    for name, arguments in {"signals": rows, "ingestion": rows, "daily_run": size}.items():
        if name in only:
            _run(name, arguments)
    if not quick:
        found = {name: json.loads(_result(name).read_text()) for name in _TABLES}
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


_TABLES: dict[str, Any] = {"signals": _signals, "ingestion": _ingestion, "daily_run": _daily_run}

if __name__ == "__main__":
    main()
