"""A small seeded warehouse for the tests of the marts: awkward on purpose, and known row by row."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.contracts.signals import SIGNAL_COLUMNS
from engagement_pipeline.settings import PROJECT_FOLDER
from engagement_pipeline.warehouse import schema
from engagement_pipeline.warehouse.connection import Connection, configure
from engagement_pipeline.warehouse.frames import append
from engagement_pipeline.warehouse.publication import Publication, publish
from engagement_pipeline.warehouse.sql_models import SqlProject, load_project
from tests.integration.behavior_world import add_behavior
from tests.integration.loop_world import add_loops
from tests.integration.milestone_world import add_milestones
from tests.integration.outreach_world import add_outreach

Row = dict[str, Any]

SQL_FOLDER = PROJECT_FOLDER / "dbt_like_sql"
FIRST = datetime(2026, 1, 21, 4, tzinfo=UTC)  # a Wednesday
WEEKS = 10
SHOWN = FIRST + timedelta(weeks=WEEKS - 1)
LATER = SHOWN + timedelta(days=5)
# When the run shown was computed, with what it recorded, and the marts were published.
PUBLISHED_AT = datetime(2026, 3, 25, 4, 30, tzinfo=UTC)
DECIDED_AT = datetime(2026, 3, 25, 10, tzinfo=UTC)  # when an admin decides something since

# What each organisation is there for.
STEADY, BUSY, FAILED, SPARSE, EMPTIED, NEVER_SCORED, GONE = (
    "steady",
    "busy",
    "failed",
    "sparse",
    "emptied",
    "never_scored",
    "gone",
)


@dataclass
class World:
    """All rows of the warehouse, by table; `shown` is the moment that the marts must show."""

    shown: datetime = SHOWN
    tables: dict[str, list[Row]] = field(default_factory=dict)

    def rows(self, table: str) -> list[Row]:
        return self.tables.setdefault(table, [])

    def write(self, path: Path) -> None:
        with duckdb.connect(str(path)) as connection:
            self.write_into(connection)

    def write_into(self, connection: Connection) -> None:
        connection.execute("SET TimeZone = 'UTC'")
        schema.upgrade(connection, now=PUBLISHED_AT)
        for name, rows in self.tables.items():
            append(connection, name, pl.DataFrame(rows, schema=contract(name).polars_schema))


def make_world(seed: int, *, is_decided_since: bool = False) -> World:
    """Six organisations scored weekly over ten weeks, with overrides, attendance and rejects.

    Args:
        seed: of the dice.
        is_decided_since: whether admins have decided something since the run shown, at
            `DECIDED_AT`, which is when overrides are judged then.
    """
    dice = random.Random(seed)
    world = World()
    for org_id in (STEADY, BUSY, FAILED, SPARSE, EMPTIED, NEVER_SCORED):
        world.rows("raw.organizations").append(
            {"org_id": org_id, "name": f"The {org_id}", "timezone": "UTC"}
        )
    _add_scores(world, dice)
    _add_overrides(world, dice, DECIDED_AT if is_decided_since else SHOWN)
    if is_decided_since:
        _add_decisions_since(world)
    _add_attendance(world, dice)
    _add_journal(world)
    add_loops(world, random.Random(f"loops of {seed}"))
    add_behavior(world, random.Random(f"behaviour of {seed}"))
    add_outreach(world, random.Random(f"outreach of {seed}"))
    add_milestones(world, random.Random(f"milestones of {seed}"))
    return world


def _moments(org_id: str) -> list[datetime]:
    """When an organisation was scored: weekly, and a week that has more, or none."""
    weekly = [FIRST + timedelta(weeks=week) for week in range(WEEKS)]
    match org_id:
        case "busy":
            # Twice in the third week, Sunday's last second and Monday's first; not in the sixth.
            sunday = datetime(2026, 2, 8, 23, 59, 59, 999_999, tzinfo=UTC)
            return [*weekly[:5], *weekly[6:], sunday, sunday + timedelta(microseconds=1), LATER]
        case "failed":
            return weekly[:-2]
        case "sparse":
            # Just not too long ago for the changes on 7 and on 28 days before.
            return [SHOWN - timedelta(days=56), SHOWN - timedelta(days=14), SHOWN]
        case "never_scored":
            return []
    return [*weekly, LATER]


def _add_scores(world: World, dice: random.Random) -> None:
    for number, moment in enumerate(
        # The last run computes an earlier moment again, so the newest as_of is not what is shown.
        [*(FIRST + timedelta(weeks=w) for w in range(WEEKS - 1)), LATER, SHOWN],
        start=1,
    ):
        world.rows("scores.scoring_runs").append(
            {
                "run_id": f"run-{dice.random()}",
                "as_of": moment,
                **dict.fromkeys(("orgs_due", "orgs_classified", "orgs_failed", "members"), 0),
                "computed_at": PUBLISHED_AT - timedelta(days=WEEKS + 1 - number),
                "run_number": number,
            }
        )
    _ask_a_model(world, dice)
    for org_id in (STEADY, BUSY, FAILED, SPARSE, EMPTIED, NEVER_SCORED, GONE):
        for moment in _moments(org_id):
            is_empty = org_id == EMPTIED and moment >= SHOWN
            members = [] if is_empty else [f"user-{n}" for n in range(25) if dice.random() < 0.9]
            world.rows("scores.org_runs").append(_org_run(org_id, moment, len(members)))
            for user_id in members:
                world.rows("scores.classifications").append(_label(dice, org_id, user_id, moment))
    world.rows("scores.org_runs").append(_org_run(FAILED, SHOWN, 0) | {"outcome": "failed"})
    for n in range(20):
        world.rows("raw.profiles").append(
            {
                "user_id": f"user-{n}",
                "display_name": None if n % 5 == 0 else f"Name {n}",
                "timezone": "UTC",
            }
        )


def _ask_a_model(world: World, dice: random.Random) -> None:
    """Three runs that a model classified: with calls of all kinds, with a lost one, with none."""
    table = contract("scores.llm_runs")
    counts = [column.name for column in table.columns if column.sql_type == "BIGINT"]
    for number, outcomes in enumerate((("answered", "partly", "failed", "lost"), ("lost",), ())):
        run_id = f"asking-{number}"
        world.rows("scores.llm_runs").append(
            {
                "run_id": run_id,
                "as_of": SHOWN,
                "classifier": "anthropic",
                "model": "a-model",
                **{name: dice.randrange(50) for name in counts},
                "estimated_usd": 0.25,
                "one_call_a_member_usd": 0.5,
                "computed_at": PUBLISHED_AT,
            }
        )
        for call, outcome in enumerate(outcomes):
            world.rows("scores.llm_calls").append(_call(run_id, call, outcome))


def _call(run_id: str, number: int, outcome: str) -> Row:
    return {
        "call_id": f"{run_id}:{number}",
        "run_id": run_id,
        "as_of": SHOWN,
        "org_id": STEADY,
        "classifier": "anthropic",
        "model": "a-model",
        "prompt_version": "a-prompt",
        "purpose": "first" if number else "again",
        "attempt": 1 + number % 2,
        "profiles": 10,
        "asked": "{}",
        "outcome": outcome,
        "answers": 10,
        **dict.fromkeys(("input_tokens", "output_tokens"), 100 + number),
        **dict.fromkeys(("cache_write_tokens", "cache_read_tokens"), number),
        "estimated_usd": 0.01,
        "spent_usd": 0.25 * number,
        "is_spent_certain": outcome != "lost",
        "started_at": PUBLISHED_AT,
    }


def _org_run(org_id: str, moment: datetime, members: int) -> Row:
    return {
        "org_id": org_id,
        "as_of": moment,
        "outcome": "classified",
        "members": members,
        "inputs_digest": "digest",
        "computed_at": PUBLISHED_AT,
    }


def _label(dice: random.Random, org_id: str, user_id: str, moment: datetime) -> Row:
    baseline = dice.choice(vocabulary.LEVELS)
    signals = {name: dice.randrange(9) for name in SIGNAL_COLUMNS if not name.endswith("_at")}
    return signals | {
        "org_id": org_id,
        "user_id": user_id,
        "as_of": moment,
        "level": dice.choice(vocabulary.LEVELS),
        "baseline_level": baseline,
        "reason": "lapsed" if baseline == "at_risk" else None,
        "source": dice.choice(vocabulary.LABEL_SOURCES),
        "admin_explanation": f"Because of {dice.random()}.",
        "user_explanation": "Good to have you.",
        "fingerprint": "f" * 64,
        "model_version": "rules-1",
        "prompt_version": "templates-1",
        "classified_at": moment,
        "computed_at": moment,
        "joined_at": moment - timedelta(days=50),
        "last_attended_at": None,
        "last_active_at": moment if dice.random() < 0.5 else None,
        "profile_updated_at": None,
    }


def _add_overrides(world: World, dice: random.Random, judged_at: datetime) -> None:
    """Changes at moments that often coincide: with each other, with expiries, with scorings."""
    moments = [FIRST + timedelta(days=day) for day in range(-45, 75, 7)]
    moments += [SHOWN, SHOWN - timedelta(days=90), SHOWN - timedelta(days=90, microseconds=1)]
    requests = 0
    # Odd members have no other overrides: at 90 days it is not stale yet, and then it is.
    for n in range(1, 20, 4):
        exact = judged_at - timedelta(days=90)
        _add_override(world, STEADY, f"user-{n}", exact)
        _add_override(world, BUSY, f"user-{n}", exact - timedelta(microseconds=1))
    for org_id in (STEADY, BUSY, FAILED, EMPTIED):
        for n in range(0, 25, 2):
            for _ in range(dice.randrange(5)):
                requests += 1
                performed_at = dice.choice(moments)
                is_override = dice.random() < 0.75
                expires_at = performed_at + timedelta(days=7 * dice.randrange(1, 6))
                row = {
                    "org_id": org_id,
                    "user_id": f"user-{n}",
                    "previous_level": None,
                    "new_level": dice.choice(vocabulary.LEVELS) if is_override else None,
                    "notes": f"note {requests}",
                    "action": "override" if is_override else "clear",
                    "performed_by": "admin-1",
                    "performed_at": performed_at,
                    "expires_at": expires_at if is_override and dice.random() < 0.5 else None,
                    "request_id": f"request-{dice.randrange(10**6)}-{requests}",
                    # By the run shown or by an earlier one; not always in order.
                    "recorded_at": PUBLISHED_AT - timedelta(days=requests % 3),
                }
                world.rows("scores.override_history").append(row)
                if row["expires_at"] is not None and row["expires_at"] <= SHOWN:
                    # Also of overrides that were overtaken before: they must end nothing else.
                    world.rows("scores.override_history").append(
                        row
                        | {
                            "action": "expire",
                            "new_level": None,
                            "performed_by": "system",
                            "performed_at": row["expires_at"],
                        }
                    )


def _add_override(world: World, org_id: str, user_id: str, performed_at: datetime) -> None:
    world.rows("scores.override_history").append(
        {
            "org_id": org_id,
            "user_id": user_id,
            "new_level": "inactive",
            "notes": "to the microsecond",
            "action": "override",
            "performed_by": "admin-1",
            "performed_at": performed_at,
            "expires_at": None,
            "request_id": f"exact-{user_id}-{performed_at}",
            "recorded_at": PUBLISHED_AT,
        }
    )


def _add_decisions_since(world: World) -> None:
    """Decisions on every second member of two organisations, most of which the run did not know."""
    tick = timedelta(microseconds=1)
    hour = timedelta(hours=1)
    decisions = [
        # action, performed_at, expires_at, recorded_at
        ("override", DECIDED_AT, None, DECIDED_AT),
        ("clear", DECIDED_AT, None, DECIDED_AT),
        ("override", DECIDED_AT + tick, None, DECIDED_AT),
        ("override", SHOWN + hour, DECIDED_AT, DECIDED_AT - hour),
        ("override", SHOWN + hour, DECIDED_AT + tick, DECIDED_AT - hour),
        ("override", SHOWN + hour, None, PUBLISHED_AT),
    ]
    for org_id in (STEADY, FAILED):
        for n in range(0, 25, 2):
            action, performed_at, expires_at, recorded_at = decisions[n // 2 % len(decisions)]
            world.rows("scores.override_history").append(
                {
                    "org_id": org_id,
                    "user_id": f"user-{n}",
                    "previous_level": None,
                    "new_level": "new" if action == "override" else None,
                    "notes": "decided since",
                    "action": action,
                    "performed_by": "admin-1",
                    "performed_at": performed_at,
                    "expires_at": expires_at,
                    "request_id": f"since-{n}-{org_id}",
                    "recorded_at": recorded_at,
                }
            )


def _add_attendance(world: World, dice: random.Random) -> None:
    for user_id, moment in [("user-1", SHOWN), ("user-2", SHOWN + timedelta(microseconds=1))]:
        world.rows("raw.attendance").append(
            {
                "org_id": STEADY,
                "event_id": "event-exact",
                "user_id": user_id,
                "status": "attended",
                "created_at": SHOWN - timedelta(days=2),
                "responded_at": moment,
            }
        )
    midnight = SHOWN.replace(hour=0)
    for n in range(600):
        created_at = midnight - timedelta(days=dice.randrange(-3, 25))
        created_at += timedelta(microseconds=dice.choice((-1, 0, 1, 3_600_000_000)))
        settled_at = created_at + timedelta(hours=dice.choice((-1, 0, 1, 30, 24 * 9)))
        world.rows("raw.attendance").append(
            {
                "org_id": dice.choice((STEADY, BUSY, NEVER_SCORED, GONE)),
                "event_id": f"event-{n}",
                # user-30 and above belong nowhere.
                "user_id": f"user-{dice.randrange(0, 35)}",
                "status": dice.choice(vocabulary.ATTENDANCE_STATUSES),
                "created_at": created_at,
                "responded_at": None if dice.random() < 0.3 else settled_at,
            }
        )


def _add_journal(world: World) -> None:
    for table, path, read, loaded, rejected, at, newest in [
        ("attendance", "a.csv", 100, 90, 5, SHOWN, SHOWN),
        ("attendance", "b.csv", 50, 50, 0, SHOWN, None),
        ("attendance", "c.csv", 7, 7, 0, LATER, SHOWN - timedelta(days=1)),
        ("interactions", "i.jsonl", 10, 0, 10, SHOWN, None),
    ]:
        world.rows("raw.ingested_files").append(
            {
                "path": path,
                "sha256": path,
                "bytes": 1,
                "table_name": table,
                "outcome": "loaded" if loaded else "refused",
                "rows_read": read,
                "rows_loaded": loaded,
                "rows_rejected": rejected,
                "rows_unchanged": read - loaded - rejected,
                "newest_row_at": newest,
                "ingested_at": at,
            }
        )
    for table, path, reason, count, at in [
        ("attendance", "a.csv", "unknown_status", 3, SHOWN),
        ("attendance", "a.csv", "missing_user_id", 2, SHOWN),
        ("interactions", "i.jsonl", "unknown_type", 10, SHOWN),
        ("attendance", "a.csv", "found_later", 1, LATER),
        ("override_requests", "cli", "not_an_admin", 1, LATER),
        ("override_requests", "dagster", "missing_notes", 2, LATER),
    ]:
        for n in range(count):
            world.rows("raw.rejects").append(
                {
                    "table_name": table,
                    "path": path,
                    "row_number": n,
                    "reason": reason,
                    "row_json": "{}",
                    "ingested_at": at,
                }
            )


@pytest.fixture(scope="session")
def sql_project() -> SqlProject:
    return load_project(SQL_FOLDER)


@pytest.fixture(scope="session")
def build_marts(
    sql_project: SqlProject, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[World], Publication]:
    """Publishes a world in a folder of its own, in a session whose time zone is not UTC."""

    def build(world: World, time_zone: str = "Pacific/Auckland") -> Publication:
        folder = tmp_path_factory.mktemp("world")
        world.write(folder / "warehouse.duckdb")
        with duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
            configure(connection, folder, 1_000)
            connection.execute(f"SET TimeZone = '{time_zone}'")
            return publish(
                connection,
                sql_project,
                published_path=folder / "published" / "engagement.duckdb",
                keep_snapshots=2,
                as_of=world.shown,
                published_at=PUBLISHED_AT,
            )

    return build


@pytest.fixture(scope="session")
def make_seeded_world() -> Callable[..., World]:
    return make_world
