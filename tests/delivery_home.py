"""A warehouse with messages that are due, and ways to send them without Dagster.

Whoever forks processes has them send by `send_until_done`; what must come of it belongs to tests.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from engagement_pipeline.contracts import contract, contracts
from engagement_pipeline.defs.delivering import deliver_due
from engagement_pipeline.outreach.delivery.sending import DeliveryReport
from engagement_pipeline.settings import Settings, load_settings
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.frames import append, query

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_DUE_SINCE = timedelta(minutes=30)


def settings_for(home: Path, url: str | None = None, **given: Any) -> Settings:
    """Settings of a home whose messages go to a webhook, or into the log; nobody is held out."""
    channel = {"outreach_channel": "webhook", "webhook_url": url} if url else {}
    return load_settings(home=home, profile="test", **{"holdout_share": 0.0, **channel, **given})


def message_row(number: int, **given: Any) -> dict[str, Any]:
    """A message that is due at `NOW`, to a member of its own."""
    return {
        "message_id": f"{number:064x}",
        "org_id": "choir",
        "user_id": f"user-{number}",
        "engine": "engagement",
        "cycle_id": "engagement:1",
        "outreach_type": "re_engagement",
        "trigger": "absent",
        "occasion": "absent:5d",
        "tries": 0,
        "priority": 0.6,
        "planned_at": NOW - timedelta(hours=5),
        "send_at": NOW - _DUE_SINCE,
        "segment": "dormant",
        "tone": "playful",
        "template_id": "a_template",
        "is_rewritten": False,
        "propensity": 0.5,
        "channel": "webhook",
        "status": "scheduled",
        "attempts": 0,
        "text": f"Hey user {number}!",
        **given,
    }


def member_rows(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Memberships of everybody who has a message."""
    members = sorted({(row["org_id"], row["user_id"]) for row in messages})
    return [
        {"org_id": org, "user_id": user, "role": "member", "joined_at": NOW - timedelta(days=99)}
        for org, user in members
    ]


def write_home(home: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Make the warehouse of a home, with these rows."""
    (home / "data").mkdir(parents=True)
    with duckdb.connect(str(home / "data" / "warehouse.duckdb")) as connection:
        write_into(connection, tables)


def write_into(connection: Connection, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Make the tables of a warehouse that delivery knows, with these rows."""
    connection.execute("SET TimeZone = 'UTC'")
    # Without comments and all the other tables, which take ten times as long.
    for schema in ("raw", "signals", "behavior", "milestones", "outreach"):
        connection.execute(f"CREATE SCHEMA {schema}")
        for found in contracts(schema):
            connection.execute(found.ddl())
    for name, rows in tables.items():
        append(connection, name, pl.DataFrame(rows, schema=contract(name).polars_schema))


def write_due_messages(home: Path, messages: Sequence[dict[str, Any]]) -> None:
    """Make the warehouse of a home with messages to members whom nothing is known of."""
    orgs = sorted({row["org_id"] for row in messages})
    write_home(
        home,
        {
            "raw.organizations": [{"org_id": o, "name": o, "timezone": "UTC"} for o in orgs],
            "raw.memberships": member_rows(messages),
            "outreach.messages": list(messages),
        },
    )


def send(settings: Settings, *, limit: int = 1_000, now: datetime = NOW) -> DeliveryReport:
    """One run of delivery, whose clock stands still and which never sleeps."""
    with Warehouse.of(settings).open() as connection:
        return deliver_due(
            connection, settings, limit=limit, clock=lambda: now, sleep=lambda _: None
        )


def send_until_done(home: str, url: str) -> None:
    """Send all that is due, in runs of fifty."""
    settings = settings_for(Path(home), url)
    while send(settings, limit=50).left:
        pass


def rows_of(settings: Settings, table: str) -> list[dict[str, Any]]:
    """All rows of a table of the warehouse, in the order of its key."""
    found = contract(table)
    with Warehouse.of(settings).open() as connection:
        key = ", ".join(found.key)
        return query(connection, f"SELECT * FROM {table} ORDER BY {key}").to_dicts()
