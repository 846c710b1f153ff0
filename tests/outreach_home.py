"""A warehouse of members in every situation that outreach tells apart, put together by hand.

Rows go straight into the tables that a cycle reads, so that a test holds all that it is about. What
must come of them belongs to the tests.
"""

import logging
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.outreach_cycle import CycleOutcome, run_cycle
from engagement_pipeline.outreach.holdout import is_held_out
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.connection import Connection, configure
from engagement_pipeline.warehouse.frames import append, query
from engagement_pipeline.warehouse.schema import upgrade
from tests.home import settings_of

NOW = datetime.fromisoformat("2026-03-04T10:20:00Z")
"""A Wednesday."""
LOG: Any = logging.getLogger("outreach of the tests")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def outreach_settings(home: Path, **given: object) -> Settings:
    """Settings of a home whose holdout is empty unless told otherwise."""
    home.mkdir(parents=True, exist_ok=True)
    return settings_of(home, home / "source", **{"holdout_share": 0.0, **given})


def someone_held_out(settings: Settings, org_id: str) -> str:
    """The first of some names who is in the holdout of an organisation."""
    salt, share = settings.holdout_salt, settings.holdout_share
    names = (f"held-{number}" for number in range(10_000))
    return next(n for n in names if is_held_out(org_id, n, salt=salt, share=share))


class World:
    """Rows by table, to be put into a warehouse."""

    def __init__(self, *orgs: str, signals_at: datetime = NOW - 6 * HOUR) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.signals_at = signals_at
        for org_id in orgs or ("choir",):
            self.add("raw.organizations", org_id=org_id, name=org_id.title(), timezone="UTC")

    def add(self, table: str, **row: Any) -> "World":
        """One row; what is left out is null."""
        self.rows.setdefault(table, []).append(row)
        return self

    def member(
        self,
        org_id: str,
        user_id: str,
        *,
        absent: timedelta | None = 6 * DAY,
        here_for: timedelta = 400 * DAY,
    ) -> "World":
        """A member who was silent for so long when the signals were computed; None: never active.

        So silent a member counts as for cycles of later, too, until the next signals.
        """
        joined_at = NOW - here_for
        self.add(
            "raw.memberships", org_id=org_id, user_id=user_id, role="member", joined_at=joined_at
        )
        counts = [
            name
            for name in contract("signals.member_90d").column_names
            if name.startswith(("events_", "no_show", "rsvp", "days_"))
        ]
        return self.add(
            "signals.member_90d",
            org_id=org_id,
            user_id=user_id,
            as_of=self.signals_at,
            joined_at=joined_at,
            last_active_at=None if absent is None else self.signals_at - absent,
            **dict.fromkeys(counts, 0),
        )

    def profile(self, user_id: str, **given: Any) -> "World":
        return self.add("raw.profiles", user_id=user_id, **given)

    def prediction(self, org_id: str, user_id: str, **given: Any) -> "World":
        known = {
            "as_of": self.signals_at,
            "churn_probability": 0.1,
            "churn_raw": 0.1,
            "churn_heuristic": 0.1,
            "churn_model": "random_forest@2026-03-01",
            "confidence": 0.5,
            "horizon_days": 30,
            "best_hour": 14,
            "timing_model": "own_hours",
            "timezone": "UTC",
        }
        return self.add("behavior.predictions", org_id=org_id, user_id=user_id, **known | given)

    def pattern(self, org_id: str, user_id: str, **given: Any) -> "World":
        known = {
            "as_of": self.signals_at,
            "timezone": "UTC",
            "interactions": 3,
            "active_days": 2,
            "sessions": 2,
            "stickiness": 0.1,
            "is_highly_engaged": False,
            "is_declining": False,
            "needs_reengagement": False,
        }
        return self.add("behavior.patterns", org_id=org_id, user_id=user_id, **known | given)

    def preference(self, user_id: str, org_id: str | None = None, **given: Any) -> "World":
        known = {"opted_out": False, "updated_at": NOW - 30 * DAY}
        return self.add("raw.preferences", user_id=user_id, org_id=org_id, **known | given)

    def message(self, org_id: str, user_id: str, *, at: datetime, **given: Any) -> "World":
        """A message that was sent, unless told otherwise."""
        status = given.get("status", "sent")
        known = {
            "message_id": f"earlier:{org_id}:{user_id}:{at.isoformat()}",
            "engine": "engagement",
            "cycle_id": "engagement:earlier",
            "outreach_type": "topic_follow_up",
            "trigger": "topic",
            "occasion": "topic:long-ago",
            "tries": 0,
            "priority": 0.5,
            "planned_at": at - HOUR,
            "send_at": at,
            "segment": "normal",
            "tone": "neutral",
            "template_id": "topic_follow_up.neutral.earlier",
            "is_rewritten": False,
            "propensity": 1.0,
            "channel": "log",
            "status": status,
            "attempts": 1,
            "text": "Hi, just checking in!",
            "reserved_at": None if status in ("scheduled", "cancelled") else at,
            "sent_at": None if status in ("scheduled", "cancelled", "reserved") else at,
        }
        return self.add("outreach.messages", org_id=org_id, user_id=user_id, **known | given)

    def milestone(self, org_id: str, user_id: str, milestone_id: str, **given: Any) -> "World":
        known = {
            "as_of": self.signals_at,
            "current": 5,
            "target": 10,
            "share": 0.5,
            "velocity_per_day": 0.0,
        }
        return self.add(
            "milestones.progress",
            org_id=org_id,
            user_id=user_id,
            milestone_id=milestone_id,
            **known | given,
        )

    def catalogue(self, milestone_id: str, name: str) -> "World":
        return self.add(
            "milestones.catalogue",
            milestone_id=milestone_id,
            name=name,
            description="Something is done.",
            category="special",
            difficulty=1,
            points=10,
            metric="messages",
            target=10,
            seeded_at=NOW - 100 * DAY,
        )

    def put(self, settings: Settings, *, has_signals: bool = True) -> Settings:
        """Into the warehouse of a home, with the moment of the signals; gives the settings."""
        connection = connection_of(settings)
        snapshot = {
            "as_of": self.signals_at,
            "members": len(self.rows.get("signals.member_90d", [])),
            "has_event_views": True,
            "has_notifications": True,
            "has_interactions": True,
            "inputs_digest": "none",
            "computed_at": self.signals_at,
        }
        found = {**self.rows, **({"signals.snapshot": [snapshot]} if has_signals else {})}
        for name, rows in found.items():
            table = contract(name)
            frame = pl.DataFrame(rows, schema=table.polars_schema)
            append(connection, name, table.validate(frame))
        return settings


_connections: dict[Path, Connection] = {}


def connection_of(settings: Settings) -> Connection:
    """To the warehouse of a home, which is made if there is none; kept until `close_all`.

    To open and close a warehouse takes longer than what a test does with it.
    """
    path = settings.warehouse_path
    if path not in _connections:
        if not path.exists():
            path.parent.mkdir(parents=True)
            path.write_bytes(_empty_warehouse())
        _connections[path] = duckdb.connect(str(path))
        configure(_connections[path], settings.spool_folder, settings.memory_limit_mb)
    return _connections[path]


def close_all() -> None:
    """Let go of all warehouses, as whoever else opens one needs it."""
    while _connections:
        _connections.popitem()[1].close()


@cache
def _empty_warehouse() -> bytes:
    """A warehouse with all its tables, as a file: to make them takes a fifth of a second."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "empty.duckdb")
        with duckdb.connect(str(path)) as connection:
            upgrade(connection, now=NOW)
        return path.read_bytes()


def cycle(settings: Settings, as_of: datetime = NOW, **given: Any) -> CycleOutcome:
    """A cycle without Dagster's records."""
    return run_cycle(
        connection_of(settings), settings, as_of=as_of, computed_at=as_of, log=LOG, **given
    )


def rows_of(settings: Settings, sql: str) -> list[dict[str, Any]]:
    """Rows of a query on the warehouse."""
    return query(connection_of(settings), sql).to_dicts()


def execute(settings: Settings, sql: str) -> None:
    """Change the warehouse."""
    connection_of(settings).execute(sql)


def messages(settings: Settings) -> list[dict[str, Any]]:
    """All messages but those that a test put there."""
    return rows_of(
        settings,
        "SELECT * FROM outreach.messages WHERE NOT starts_with(message_id, 'earlier:') "
        "ORDER BY org_id, user_id, send_at, message_id",
    )


def everything(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """All that cycles decided, counted and planned, sorted, without when that was computed."""
    queries = {
        "decisions": "SELECT * FROM outreach.decisions ORDER BY ALL",
        "cycles": "SELECT * EXCLUDE (computed_at) FROM outreach.cycles ORDER BY ALL",
        "withheld": "SELECT * FROM outreach.withheld ORDER BY ALL",
    }
    found = {name: rows_of(settings, sql) for name, sql in queries.items()}
    return {**found, "messages": messages(settings)}
