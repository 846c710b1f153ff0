"""How fast the member signals are, beside the same table written by hand for one engine.

    python -m benchmarks.signals --rows 1000000 --rows 10000000 --out results.json

For each size, seeded Parquet tables are made once in `benchmarks/work/`. Then each contestant
computes the whole table from them, each time in a fresh process, the contestants in turn, so that
a busy minute of the machine hits them all. A run is timed from the first scan to the result in
memory; imports are not timed. The files are read once beforehand: disks are not compared.
Every contestant's result must have the same hash. What a contestant computes is in
`benchmarks.signals_contestants`, what from in `benchmarks.signals_tables`.
"""

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The parent stays free of large libraries: a child's peak memory starts from its parent's.
if TYPE_CHECKING:
    import polars as pl

WORK = Path(__file__).parent / "work"
CONTESTANTS = ("ours", "polars", "duckdb", "pandas")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append", help="attendance rows; repeatable")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        _step(*arguments.step)
        return
    results = []
    for rows in arguments.rows or [1_000_000]:
        folder = WORK / f"signals_{rows}"
        if not (folder / "complete").exists():
            _child("generate", str(rows), str(folder))
        _read_once(folder)
        measured = _measured(folder, arguments.only, arguments.repeats)
        results.append({"rows": rows, "contestants": measured})
        print(_table(rows, measured), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


def _measured(folder: Path, names: list[str], repeats: int) -> dict[str, dict[str, Any]]:
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            runs[name].append(json.loads(_child("run", name, str(folder))))
    digests = {run["digest"] for found in runs.values() for run in found}
    if len(digests) != 1:
        listed = {name: sorted({run["digest"] for run in found}) for name, found in runs.items()}
        raise SystemExit(f"contestants disagree: {listed}")
    return {
        name: {
            "wall_seconds_min": min(run["wall_seconds"] for run in found),
            "wall_seconds_median": statistics.median(run["wall_seconds"] for run in found),
            "cpu_seconds_min": min(run["cpu_seconds"] for run in found),
            "peak_gib": max(run["peak_gib"] for run in found),
            "digest": found[0]["digest"],
        }
        for name, found in runs.items()
    }


def _table(rows: int, measured: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"{rows:,} attendance rows",
        f"{'':8}{'min s':>9}{'median s':>10}{'cpu s':>9}{'peak GiB':>10}{'ours/it':>9}",
    ]
    ours = measured.get("ours")
    for name, found in measured.items():
        ratio = ours["wall_seconds_min"] / found["wall_seconds_min"] if ours else float("nan")
        lines.append(
            f"{name:8}{found['wall_seconds_min']:9.2f}{found['wall_seconds_median']:10.2f}"
            f"{found['cpu_seconds_min']:9.2f}{found['peak_gib']:10.2f}{ratio:9.2f}"
        )
    return "\n".join(lines)


def _child(*step: str) -> str:
    command = [sys.executable, "-m", "benchmarks.signals", "--step", *step]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(step)} failed:\n{done.stderr}")
    return done.stdout


def _read_once(folder: Path) -> None:
    for path in folder.rglob("*.parquet"):
        with path.open("rb") as file:
            while file.read(1 << 22):
                pass


def _step(action: str, what: str, folder: str) -> None:
    if action == "generate":
        from benchmarks import signals_tables

        signals_tables.generate(int(what), Path(folder))
        return
    from benchmarks import signals_contestants

    compute = signals_contestants.prepared(what)
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    result = compute(Path(folder))
    wall_seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    measured = {
        "wall_seconds": wall_seconds,
        "cpu_seconds": cpu_seconds,
        "peak_gib": after.ru_maxrss / 2**20,
        "digest": _digest(signals_contestants.comparable(result)),
    }
    print(json.dumps(measured))


def _digest(frame: "pl.DataFrame") -> str:
    return hashlib.sha256(frame.write_csv().encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
