"""How long learning from notifications takes, beside one group-by of DuckDB over the same rows.

    python -m benchmarks.learning --rows 10000000 --out results.json

Ours draws the signals, learns engagement and read rates with their intervals, and plans digests:
what the job `tune_engagement` does for its sixth loop, without Dagster. It is measured the week
after the signals of the weeks before were drawn, as it is every Monday, and the first time, when
all of history is drawn. The peer counts notifications and first reads by organisation and feature,
and does nothing else.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

WORK = Path(__file__).parent / "work"
AS_OF = datetime(2026, 6, 29, 5, 30, tzinfo=UTC)
ORGS = 1_000

PEER = """SELECT n.org_id, n.feature, count(*) AS sent, count(r.first_read_at) AS read
FROM raw.notifications AS n LEFT JOIN (
    SELECT notification_id, min(read_at) AS first_read_at
    FROM raw.notification_reads GROUP BY notification_id) AS r USING (notification_id)
GROUP BY n.org_id, n.feature"""


def measure(rows: int, repeats: int) -> dict[str, Any]:
    """Seconds (median) of both contestants, peak memory, and the ratios."""
    home = WORK / f"learning_{rows}"
    if not (home / "complete").exists():
        _child("generate", rows, home)
    found: dict[str, list[dict[str, float]]] = {"first": [], "weekly": [], "peer": []}
    for _ in range(repeats):
        _child("forget", rows, home)
        found["first"].append(json.loads(_child("first", rows, home)))
        found["peer"].append(json.loads(_child("peer", rows, home)))
        _child("week_before", rows, home)
        found["weekly"].append(json.loads(_child("weekly", rows, home)))
    seconds = {who: statistics.median(r["seconds"] for r in runs) for who, runs in found.items()}
    return {
        "notifications": rows,
        "reads": 2 * rows,
        "orgs": ORGS,
        **{f"{who}_seconds": s for who, s in seconds.items()},
        "weekly_ratio": seconds["weekly"] / seconds["peer"],
        "first_ratio": seconds["first"] / seconds["peer"],
        "weekly_new_signals": found["weekly"][0]["signals"],
        "first_new_signals": found["first"][0]["signals"],
        "calibrations": found["weekly"][0]["calibrations"],
        "peak_gib": max(r["peak_gib"] for runs in found.values() for r in runs),
    }


def _child(step: str, rows: int, home: Path) -> str:
    command = [sys.executable, "-m", "benchmarks.learning", "--step", step]
    command += ["--rows", str(rows), "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step} failed:\n{done.stderr}")
    return done.stdout


def _step(step: str, rows: int, home: Path) -> None:
    from benchmarks.notification_tables import fill
    from engagement_pipeline.settings import load_settings
    from engagement_pipeline.warehouse.connection import Warehouse
    from engagement_pipeline.warehouse.schema import upgrade

    settings = load_settings(home=home, profile="test")
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=AS_OF)
        if step == "generate":
            fill(connection, notifications=rows, orgs=ORGS, as_of=AS_OF)
            (home / "complete").touch()
        elif step == "forget":
            _forget(connection)
        elif step == "week_before":
            _forget(connection)
            _learn(connection, settings, AS_OF - timedelta(days=7))
        elif step == "peer":
            started = time.perf_counter()
            connection.execute(f"CREATE TEMP TABLE counted AS {PEER}")
            _report(started)
        else:
            import engagement_pipeline.defs.learning  # noqa: F401  before the clock starts

            started = time.perf_counter()
            learned = _learn(connection, settings, AS_OF)
            _report(started, **learned)


def _forget(connection: Any) -> None:
    from engagement_pipeline.contracts import contracts

    for table in contracts("loops"):
        connection.execute(f"DELETE FROM {table.full_name}")
    connection.execute("CHECKPOINT")


def _learn(connection: Any, settings: Any, as_of: datetime) -> dict[str, int]:
    from engagement_pipeline.defs.drawing import draw
    from engagement_pipeline.defs.guidance import guides_at
    from engagement_pipeline.defs.learning import Learning
    from engagement_pipeline.warehouse.classifications import stored_orgs

    drawn = draw(connection, settings, as_of=as_of, computed_at=as_of)
    guides = guides_at(connection, settings, as_of=as_of)
    orgs = {org.org_id: org for org in stored_orgs(connection)}
    learning = Learning(connection, settings, guides, orgs, as_of, as_of)
    learned = learning.learn("engagement")
    learning.plan_digests()
    if learned.failed:
        raise SystemExit(str(learned.failed))
    return {"signals": sum(drawn.new.values()), "calibrations": learned.calibrations}


def _report(started: float, **facts: int) -> None:
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "peak_gib": peak, **facts}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, action="append", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--step")
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    if given.step:
        _step(given.step, given.rows[0], given.home)
        return
    results = [measure(rows, given.repeats) for rows in given.rows or [10_000_000]]
    text = json.dumps(results, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
