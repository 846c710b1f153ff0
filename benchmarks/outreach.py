"""A cycle of outreach over a million members: seconds, and peak memory, in a process of its own.

python -m benchmarks.outreach [--members N] [--repeats N] [--out FILE]

Members, signals, predictions and the ledger are made by SQL straight in a warehouse. What is done
is what the asset does (`defs.outreach_cycle.run_cycle`), without Dagster's records.
"""

import argparse
import json
import logging
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

WORK = Path(__file__).parent / "work"
AS_OF = datetime(2026, 6, 29, 5, 30, tzinfo=UTC)
MEMBERS_AN_ORG = 200
AIM_SECONDS, AIM_GIB = 30, 4

# A third were active within the day, a quarter in the last days, the rest have been away for long;
# most of those were called already. `u` is a number in [0, 1) of each member's own.
_FILL = (
    """CREATE TEMP TABLE people AS
       SELECT i, 'org' || lpad((i // $size)::VARCHAR, 5, '0') AS org_id,
              'member' || lpad(i::VARCHAR, 8, '0') AS user_id,
              (hash(i) % 1000003) / 1000003 AS u, (hash(i, 1) % 1000003) / 1000003 AS v,
              (hash(i, 2) % 1000003) / 1000003 AS w
       FROM range($members) AS t(i)""",
    """ALTER TABLE people ADD COLUMN last_active_at TIMESTAMPTZ""",
    """UPDATE people SET last_active_at = date_trunc('second', $as_of - to_seconds(CASE
           WHEN u < 0.31 THEN v * 86400 WHEN u < 0.6 THEN (1 + v * 4) * 86400
           ELSE (5 + v * 300) * 86400 END))""",
    """INSERT INTO raw.organizations BY NAME
       SELECT DISTINCT org_id, 'Europe/Amsterdam' AS timezone,
              'Society ' || translate(org_id, '0123456789', 'aeiouklmnp') AS name
       FROM people""",
    """INSERT INTO raw.memberships BY NAME
       SELECT org_id, user_id, 'member' AS role,
              $as_of - to_days(CASE WHEN w < 0.01 THEN 0 ELSE 400 END) - INTERVAL 2 HOURS
                  AS joined_at FROM people""",
    """INSERT INTO raw.profiles BY NAME
       SELECT user_id, 'Robin M' || lower(translate(
              substr(md5(user_id), 2, 6), '0123456789', 'aeiouaeiou')) AS display_name,
              ['Europe/Amsterdam', 'America/New_York', 'Asia/Kolkata', 'UTC'][1 + i % 4]
                  AS timezone FROM people""",
    """INSERT INTO signals.member_90d BY NAME
       SELECT org_id, user_id, $as_of AS as_of, 1 AS events_attended_90d,
              1 AS events_attended_prev_90d, 2 AS events_attended_total, 0 AS no_show_count_90d,
              1 AS rsvp_count_90d, $as_of - to_days(400) AS joined_at, 400 AS days_since_joined,
              last_active_at, 0 AS days_since_active FROM people""",
    """INSERT INTO signals.snapshot BY NAME
       SELECT $as_of AS as_of, count(*) AS members, true AS has_event_views,
              true AS has_notifications, true AS has_interactions, 'none' AS inputs_digest,
              $as_of AS computed_at FROM people""",
    """INSERT INTO behavior.predictions BY NAME
       SELECT org_id, user_id, $as_of AS as_of, w AS churn_probability, w AS churn_raw,
              w AS churn_heuristic, 'random_forest@2026-06-22' AS churn_model, 0.5 AS confidence,
              30 AS horizon_days, CASE WHEN v < 0.1 THEN v * 10 - 0.9 END AS mood_now,
              i % 24 AS best_hour, 'own_hours' AS timing_model,
              ['Europe/Amsterdam', 'America/New_York', 'Asia/Kolkata', 'UTC'][1 + i % 4]
                  AS timezone FROM people""",
    """INSERT INTO behavior.patterns BY NAME
       SELECT org_id, user_id, $as_of AS as_of, 'UTC' AS timezone, 3 AS interactions,
              2 AS active_days, 2 AS sessions,
              CASE WHEN u < 0.6 THEN [
                  'message,reaction', 'message,voice,reaction', 'message,reaction,voice'
              ][1 + i % 3] END
                  AS top_types, 0.1 AS stickiness, false AS is_highly_engaged,
              v > 0.97 AS is_declining, false AS needs_reengagement FROM people""",
    """INSERT INTO raw.preferences BY NAME
       SELECT user_id, CASE WHEN v < 0.5 THEN org_id END AS org_id, w < 0.3 AS opted_out,
              '22:00' AS quiet_start, '07:30' AS quiet_end, $as_of - to_days(30) AS updated_at
       FROM people WHERE i % 10 = 0""",
    """INSERT INTO milestones.catalogue BY NAME
       SELECT 'm' || i AS milestone_id, 'First Steps' AS name, 'x' AS description,
              'special' AS category, 1 AS difficulty, 10 AS points, 'messages' AS metric,
              10 AS target, $as_of AS seeded_at FROM range(5) AS t(i)""",
    """INSERT INTO milestones.progress BY NAME
       SELECT org_id, user_id, 'm' || k AS milestone_id, $as_of AS as_of, 5 AS current,
              10 AS target, (hash(i, k) % 100) / 100 AS share, 0 AS velocity_per_day,
              CASE WHEN hash(i, k) % 100 > 97 THEN $as_of - to_days(40) END AS reached_at
       FROM people CROSS JOIN range(5) AS t(k) WHERE u < 0.3""",
    """CREATE TEMP TABLE said AS
       SELECT p.*, k, $as_of - to_seconds((k * 20 + 2 + v * 10) * 86400) AS said_at
       FROM people AS p CROSS JOIN range(4) AS t(k) WHERE u > 0.6 AND w < 0.84""",
    """INSERT INTO outreach.messages BY NAME
       SELECT sha256(user_id || k) AS message_id, org_id, user_id, 'engagement' AS engine,
              'engagement:' || said_at AS cycle_id, 're_engagement' AS outreach_type,
              CASE WHEN k = 0 THEN 'churn' ELSE 'absent' END AS trigger,
              CASE WHEN k = 0 THEN 'churn:' ELSE 'absent:' || [30, 14, 7][k] || 'd:' END
                  || strftime(last_active_at, '%Y-%m-%dT%H:%M:%S+00:00') AS occasion,
              0 AS tries, 0.6 AS priority, said_at AS planned_at, said_at AS send_at,
              'dormant' AS segment,
              'playful' AS tone, 're_engagement.playful.miss_you' AS template_id,
              false AS is_rewritten, 1 AS propensity, 'log' AS channel, 'sent' AS status,
              1 AS attempts, 'Hey, we miss you!' AS text, said_at AS reserved_at, said_at AS sent_at
       FROM said""",
    """INSERT INTO loops.arm_posteriors BY NAME
       SELECT DISTINCT org_id, 're_engagement' AS outreach_type, template_id, 3.0 AS alpha,
              9.0 + length(template_id) % 5 AS beta, 10 AS n, $as_of - to_days(1) AS computed_at,
              $as_of + to_days(30) AS expires_at
       FROM people CROSS JOIN (SELECT unnest($templates) AS template_id)""",
)


def measure(members: int, repeats: int) -> dict[str, Any]:
    """Seconds (median) and peak memory of a cycle, its parts, and what it came to."""
    home = WORK / f"outreach_{members}"
    shutil.rmtree(home, ignore_errors=True)
    _child("fill", members, home)
    runs = [_child("cycle", members, home) for _ in range(repeats)]
    shutil.rmtree(home)
    timed = [name for name in runs[0] if name.endswith("seconds")]
    return {
        **runs[0],
        **{name: statistics.median(run[name] for run in runs) for name in timed},
        "peak_gib": max(run["peak_gib"] for run in runs),
        "aim_seconds": AIM_SECONDS,
        "aim_gib": AIM_GIB,
    }


def _child(step: str, members: int, home: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.outreach", "--step", step]
    command += ["--members", str(members), "--home", str(home)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step} of {members:,} members failed")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _step(step: str, members: int, home: Path) -> dict[str, Any]:
    from engagement_pipeline.settings import load_settings
    from engagement_pipeline.warehouse.connection import Warehouse
    from engagement_pipeline.warehouse.schema import upgrade

    settings = load_settings(home=home, profile="test", loops_enabled=True)
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=AS_OF)
        return {"fill": _fill, "cycle": _cycle}[step](connection, settings, members)


def _fill(connection: Any, _settings: Any, members: int) -> dict[str, Any]:
    from engagement_pipeline.outreach.templates import catalogue

    ids = [one.template_id for one in catalogue() if one.outreach_type == "re_engagement"]
    values = {
        "members": members,
        "as_of": AS_OF,
        "size": MEMBERS_AN_ORG,
        "templates": ids,
    }
    for statement in _FILL:
        given = {name: value for name, value in values.items() if f"${name}" in statement}
        connection.execute(statement, given)
    connection.execute("CHECKPOINT")
    return {}


def _cycle(connection: Any, settings: Any, _members: int) -> dict[str, Any]:
    from engagement_pipeline.defs import outreach_cycle, outreach_planner
    from engagement_pipeline.warehouse import outreach_members, outreach_plans

    for table in ("decisions", "cycles", "withheld"):
        connection.execute(f"DELETE FROM outreach.{table}")
    connection.execute("DELETE FROM outreach.messages WHERE status = 'scheduled'")
    connection.execute("CHECKPOINT")
    parts: Counter[str] = Counter()
    for part, owner, name in (
        ("read", outreach_members, "_prepare"),
        ("read", outreach_members, "_slice"),
        ("decide", outreach_cycle._CycleRun, "_decided"),
        ("find", outreach_cycle, "candidates"),
        ("plan", outreach_planner.Planner, "plan"),
        ("write", outreach_plans, "add"),
        ("write", outreach_plans, "finish"),
    ):
        setattr(owner, name, _timed(getattr(owner, name), part, parts))
    import scipy.stats  # noqa: F401  before the clock starts

    started, cpu = time.perf_counter(), time.process_time()
    log: Any = logging.getLogger("benchmarks.outreach")
    outcome = outreach_cycle.run_cycle(
        connection, settings, as_of=AS_OF, computed_at=AS_OF, log=log
    )
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    if outcome.failed:
        raise SystemExit(str(dict(list(outcome.failed.items())[:3])))
    total = outcome.stats.total
    return {
        "members": total,
        "orgs": len(outcome.by_org),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        **{f"{part}_cpu_seconds": spent for part, spent in parts.items()},
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "eligible_share": outcome.stats.eligible / total,
        "messages_share": outcome.added / total,
        "messages": outcome.messages,
        "withheld": outcome.withheld,
        "reasons": outcome.stats.skip_reasons,
    }


def _timed(function: Callable[..., Any], part: str, parts: Counter[str]) -> Callable[..., Any]:
    def timed(*args: Any, **named: Any) -> Any:
        started = time.process_time()
        try:
            return function(*args, **named)
        finally:
            parts[part] += time.process_time() - started  # type: ignore[assignment]

    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--step")
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(_step(given.step, given.members, given.home)))
        return
    text = json.dumps(measure(given.members, given.repeats), indent=2)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
