"""How fast a file gets into the warehouse, beside DuckDB's own reader with no checks at all.

    python -m benchmarks.ingestion --rows 1000000 --rows 10000000 --out results.json

Ours reads, checks every value, finds duplicate keys, and writes rows, rejects and the log in one
transaction; DuckDB's `read_parquet` and `read_csv` only make a table. Each run is a process of its
own, in turn, into a new file.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORK = Path(__file__).parent / "work"
FORMATS = ("parquet", "csv", "jsonl")
_READERS = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}


def measure(rows: int, formats: list[str], repeats: int) -> list[dict[str, Any]]:
    """One result per format: both contestants' seconds (median), peak memory, and the ratio."""
    folder = WORK / f"ingestion_{rows}"
    if not (folder / "complete").exists():
        _child("generate", str(rows), str(folder))
    results = []
    for kind in formats:
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "duckdb": []}
        for _ in range(repeats):
            for who, found in runs.items():
                found.append(json.loads(_child(who, kind, str(folder))))
        seconds = {who: statistics.median(r["seconds"] for r in f) for who, f in runs.items()}
        ratios = [
            o["seconds"] / d["seconds"] for o, d in zip(runs["ours"], runs["duckdb"], strict=True)
        ]
        results.append(
            {
                "rows": rows,
                "format": kind,
                "ours_seconds": seconds["ours"],
                "duckdb_seconds": seconds["duckdb"],
                "ratio": statistics.median(ratios),
                "ours_peak_gib": max(r["peak_gib"] for r in runs["ours"]),
                "duckdb_peak_gib": max(r["peak_gib"] for r in runs["duckdb"]),
            }
        )
    return results


def _child(*step: str) -> str:
    command = [sys.executable, "-m", "benchmarks.ingestion", "--step", *step]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(step)} failed:\n{done.stderr}")
    return done.stdout


def _generate(rows: int, folder: Path) -> None:
    import polars as pl

    from benchmarks.source_tables import write_attendance

    path = write_attendance(folder, orgs=1_000, members=200_000, rows=rows, seed=3)
    instants = pl.selectors.datetime().dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    frame = pl.scan_parquet(path).with_columns(instants)
    frame.sink_csv(folder / "attendance.csv")
    frame.sink_ndjson(folder / "attendance.jsonl")
    (folder / "complete").touch()


def _ours(kind: str, folder: Path, into: Path) -> float:
    import logging
    from datetime import UTC, datetime

    import polars as pl

    from engagement_pipeline.contracts import contract
    from engagement_pipeline.defs.ingestion import ingest_table
    from engagement_pipeline.defs.progress import Progress
    from engagement_pipeline.ingest import SourceFile
    from engagement_pipeline.settings import load_settings
    from engagement_pipeline.warehouse.connection import Warehouse
    from engagement_pipeline.warehouse.frames import append
    from engagement_pipeline.warehouse.schema import upgrade

    settings = load_settings(home=into)
    now = datetime.now(UTC)
    file = SourceFile("attendance", folder / f"attendance.{kind}", kind)
    progress: Any = Progress(logging.getLogger("benchmark"), "ingesting", 1, "files")  # type: ignore[arg-type]
    orgs = pl.DataFrame({"n": range(1_000)}).select(
        org_id=pl.format("org-{}", "n"), name=pl.lit("x"), timezone=pl.lit("UTC")
    )
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=now)
        append(connection, "raw.organizations", orgs)
    start = time.perf_counter()
    with Warehouse.of(settings).open() as connection:
        into_table = contract("raw.attendance")
        result = ingest_table(
            connection, into_table, [file], settings=settings, now=now, progress=progress
        )
    seconds = time.perf_counter() - start
    assert result.loaded[0].rows_rejected == 0, result.loaded
    return seconds


def _duckdb(kind: str, folder: Path, into: Path) -> float:
    import duckdb

    start = time.perf_counter()
    with duckdb.connect(str(into / "bare.duckdb")) as connection:
        path = folder / f"attendance.{kind}"
        connection.execute(f"CREATE TABLE attendance AS SELECT * FROM {_READERS[kind]}('{path}')")
    return time.perf_counter() - start


def _step(action: str, what: str, folder: str) -> None:
    if action == "generate":
        _generate(int(what), Path(folder))
        return
    with tempfile.TemporaryDirectory(dir=WORK) as into:
        seconds = {"ours": _ours, "duckdb": _duckdb}[action](what, Path(folder), Path(into))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "peak_gib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        _step(*arguments.step)
        return
    results = []
    for rows in arguments.rows or [1_000_000]:
        for result in measure(rows, arguments.formats, arguments.repeats):
            print(json.dumps(result), flush=True)
            results.append(result)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
