"""How long a whole daily run takes, by stage, and what of it is not the computation itself.

    python -m benchmarks.daily_run --orgs 1000 --members 200000 --attendance 2000000 --out r.json

A first run, the same again with nothing new, the next day, and a publish alone: each is the command
line as people use it, in a process of its own. Beside it stand the raw computations alone, in one
process and without Dagster: DuckDB loading the same files unchecked, the signals from frames in
memory, the levels of each organisation, and each mart as a bare CREATE TABLE.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

WORK = Path(__file__).parent / "work"


def measure(orgs: int, members: int, attendance: int) -> dict[str, Any]:
    """Seconds and peak GiB of each kind of run, seconds by stage, and of the raw computations."""
    from benchmarks.source_tables import AS_OF, write_source

    source = WORK / f"source_{orgs}_{members}_{attendance}"
    if not (source / "complete").exists():
        write_source(source, orgs=orgs, members=members, attendance=attendance)
        (source / "complete").touch()
    home = WORK / "home"
    shutil.rmtree(home, ignore_errors=True)
    next_day = (AS_OF + timedelta(days=1)).isoformat()
    run = ["run", "--source", str(source), "--as-of"]
    result: dict[str, Any] = {"orgs": orgs, "members": members, "attendance": attendance}
    for name, arguments in {
        "first_run": [*run, AS_OF.isoformat()],
        "nothing_new": [*run, AS_OF.isoformat()],
        "next_day": [*run, next_day],
    }.items():
        result[name] = _timed(home, arguments)
        result[f"{name}_stages"] = json.loads(_child("stages", str(home)))
    result["raw"] = json.loads(_child("raw", str(source), str(home)))
    result["raw_seconds"] = sum(result["raw"].values())
    result["overhead_seconds"] = result["first_run"]["seconds"] - result["raw_seconds"]
    return result


def _timed(home: Path, arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, "-c", "from engagement_pipeline.cli import main; main()", *arguments]
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        [*command, "--json"],
        env={**os.environ, "ENGAGEMENT_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{arguments}: {errors}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        # The largest of all children so far.
        "peak_gib": after.ru_maxrss / 2**20,
    }


def _child(*step: str) -> str:
    command = [sys.executable, "-m", "benchmarks.daily_run", "--step", *step]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(step)} failed:\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def _stages(home: Path) -> dict[str, float]:
    """Seconds of each step of the last refresh and classify, as Dagster recorded them."""
    import dagster as dg

    from engagement_pipeline.settings import load_settings
    from engagement_pipeline.terminal.running import dagster_instance

    found: dict[str, float] = {}
    with dagster_instance(load_settings(home=home)) as instance:
        for job_name in ("refresh", "classify"):
            (run,) = instance.get_runs(dg.RunsFilter(job_name=job_name), limit=1)
            for step in instance.get_run_step_stats(run.run_id):
                stage = "ingest" if step.step_key.startswith("ingest_") else step.step_key
                seconds = (step.end_time or 0.0) - (step.start_time or 0.0)
                found[stage] = found.get(stage, 0.0) + seconds
    return found


def _raw(source: Path, home: Path) -> dict[str, float]:
    import duckdb

    from benchmarks.raw_computations import levels, load, marts, signals

    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        warehouse = home / "data" / "warehouse.duckdb"
        connection.execute(f"ATTACH '{warehouse}' AS warehouse (READ_ONLY)")
        connection.execute(f"ATTACH '{WORK / 'raw.duckdb'}' AS bare")
        connection.execute("USE warehouse")
        parts = {}
        for name, compute in (
            ("load", lambda: load(connection, source)),
            ("signals", lambda: signals(connection)),
            ("levels", lambda: levels(connection)),
            ("marts", lambda: marts(connection)),
        ):
            start = time.perf_counter()
            compute()
            parts[name] = time.perf_counter() - start
    (WORK / "raw.duckdb").unlink()
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orgs", type=int, default=1_000)
    parser.add_argument("--members", type=int, default=200_000)
    parser.add_argument("--attendance", type=int, default=2_000_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        action, *paths = arguments.step
        done = {"stages": _stages, "raw": _raw}[action](*map(Path, paths))  # type: ignore[operator]
        print(json.dumps(done))
        return
    WORK.mkdir(exist_ok=True)
    result = measure(arguments.orgs, arguments.members, arguments.attendance)
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
