"""Milestones in a real warehouse: counted in slices, kept for good, and shown to the team."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.milestones import count_days, tell_progress
from engagement_pipeline.milestones.catalogue import SCHEMA
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import milestones as stored
from engagement_pipeline.warehouse.connection import Connection, configure
from engagement_pipeline.warehouse.frames import append, query, read_table
from engagement_pipeline.warehouse.publication import Publication
from engagement_pipeline.warehouse.quality import violations
from tests.home import settings_of
from tests.integration.milestone_world import DROPPED
from tests.integration.test_marts import read_marts

Row = dict[str, Any]

AS_OF = datetime(2026, 3, 11, 2, tzinfo=UTC)
DAY = timedelta(days=1)
TABLES = (
    "raw.organizations",
    "raw.memberships",
    "raw.profiles",
    "raw.events",
    "raw.attendance",
    "raw.notifications",
    "raw.notification_reads",
    "raw.org_settings",
    "behavior.interactions_scored",
    "milestones.catalogue",
    "milestones.daily",
    "milestones.progress",
    "milestones.retention",
    "outreach.messages",
)
MILESTONES = {
    "first_words": ("messages", 1, None),
    "streak": ("longest_streak_days", 3, 30),
    "gathering": ("events_attended", 1, None),
    "reader": ("notifications_read", 1, None),
    "newcomer": ("days_since_joined", 1, None),
}


def ago(days: float) -> datetime:
    return AS_OF - timedelta(days=days)


def put(connection: Connection, table: str, *rows: Row) -> None:
    """Put rows into a table; what they leave out is null."""
    promised = contract(table)
    append(connection, table, promised.validate(pl.DataFrame(rows, promised.polars_schema)))


def said(user: str, days: float, org: str = "choir", **given: Any) -> Row:
    named = {
        "interaction_id": f"{org}-{user}-{days}",
        "org_id": org,
        "user_id": user,
        "sent_at": ago(days),
        "session_id": f"{org}-{user}-{days}",
    }
    return {**named, "type": "message", "quality": 0.5, "is_meaningful": True, **given}


def stay(user: str, org: str = "choir", joined: float = 300, left: float | None = None) -> Row:
    left_at = None if left is None else ago(left)
    named = {"org_id": org, "user_id": user, "role": "member"}
    return {**named, "joined_at": ago(joined), "left_at": left_at}


def message(
    user: str, milestone_id: str, status: str, sent_at: datetime | None, **given: Any
) -> Row:
    named = {
        "message_id": f"{user}-{milestone_id}-{status}-{given}",
        "org_id": "choir",
        "user_id": user,
        "engine": "milestones",
        "cycle_id": "milestones:2026",
        "outreach_type": "milestone_celebration",
        "trigger": "milestone_reached",
        "occasion": f"milestone_reached:{milestone_id}",
        "planned_at": ago(2),
        "send_at": ago(2),
        "tone": "neutral",
        "template_id": "well_done",
        "is_rewritten": False,
        "channel": "log",
        "text": "Well done, and thank you!",
    }
    counts = {"tries": 0, "priority": 0.85, "propensity": 1.0, "attempts": 1}
    return {**named, **counts, "status": status, "sent_at": sent_at, **given}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path / "home", tmp_path / "source", slice_rows=1_000)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """Two organisations, of which people say something, come to an event, and read."""
    with duckdb.connect() as found:
        configure(found, tmp_path, 500)
        for table in TABLES:
            found.execute(f"CREATE SCHEMA IF NOT EXISTS {contract(table).schema}")
            found.execute(contract(table).ddl())
        put(
            found,
            "raw.organizations",
            *(
                {"org_id": org, "name": org.title(), "timezone": zone}
                for org, zone in (("choir", "Europe/Berlin"), ("garden", "UTC"))
            ),
        )
        put(found, "raw.profiles", {"user_id": "ada", "timezone": "America/New_York"})
        members = [stay(user) for user in ("ada", "bo", "silent")]
        former = [stay("left", left=0), stay("comes", joined=-0.001), stay("cyd", "nowhere")]
        put(found, "raw.memberships", *members, *former, stay("ada", "garden", joined=0.5))
        put(
            found,
            "behavior.interactions_scored",
            *(said("ada", days) for days in (3, 4, 5, 40)),
            said("bo", 0.04, mood="gratitude"),
            said("bo", -0.001),
            *(said(user, 2) for user in ("left", "stranger")),
            said("ada", 6, org="garden", type="voice"),
        )
        put(
            found,
            "raw.events",
            {"event_id": "e1", "org_id": "choir", "starts_at": ago(9)},
            {"event_id": "e2", "org_id": "choir", "starts_at": ago(-1)},
        )
        put(
            found,
            "raw.attendance",
            *(
                {
                    "org_id": "choir",
                    "event_id": event,
                    "user_id": "ada",
                    "status": "attended",
                    "created_at": ago(20),
                    "responded_at": ago(8),
                }
                for event in ("e1", "e2")
            ),
        )
        put(
            found,
            "raw.notifications",
            *(
                {
                    "notification_id": f"n{number}",
                    "user_id": "bo",
                    "org_id": org,
                    "feature": "digest",
                    "sent_at": ago(12),
                }
                for number, org in enumerate((None, "choir", "choir"))
            ),
        )
        put(
            found,
            "raw.notification_reads",
            *(
                {"notification_id": notification, "read_at": ago(days)}
                for notification, days in (("n0", 10), ("n0", 11), ("n1", 7), ("n2", -1))
            ),
        )
        seed(found)
        yield found


def seed(connection: Connection, *, overwrites: bool = False, **targets: int) -> stored.Seeded:
    rows = [
        {
            "milestone_id": milestone_id,
            "name": milestone_id.title(),
            "description": "Do it.",
            "category": "special",
            "difficulty": 1,
            "points": 10,
            "metric": metric,
            "target": targets.get(milestone_id, target),
            "window_days": window,
        }
        for milestone_id, (metric, target, window) in MILESTONES.items()
    ]
    return stored.seed_catalogue(
        connection, pl.DataFrame(rows, SCHEMA), seeded_at=AS_OF, overwrites=overwrites
    )


def check(connection: Connection, settings: Settings, as_of: datetime = AS_OF) -> None:
    count_days(connection, settings, as_of=as_of)
    tell_progress(connection, settings, as_of=as_of)


def progress(connection: Connection, columns: str = "reached_at") -> dict[tuple[str, ...], Any]:
    names = ["org_id", "user_id", "milestone_id", *columns.split(", ")]
    rows = query(connection, f"SELECT {', '.join(names)} FROM milestones.progress").rows()
    return {row[:3]: row[3] if len(row) == 4 else row[3:] for row in rows}


# --- Days.


def test_days_are_counted_by_each_persons_own_calendar(
    connection: Connection, settings: Settings
) -> None:
    assert count_days(connection, settings, as_of=AS_OF) == 11
    days = query(
        connection,
        "SELECT org_id, user_id, day, interactions, gratitude, events_attended, "
        "notifications_read FROM milestones.daily ORDER BY ALL",
    ).rows()
    march = {n: date(2026, 3, n) for n in range(1, 12)}
    assert days == [
        # 02:00 UTC is the evening before in New York, and the event was there, too.
        ("choir", "ada", date(2026, 1, 29), 1, 0, 0, 0),
        ("choir", "ada", march[1], 0, 0, 1, 0),
        *(("choir", "ada", march[n], 1, 0, 0, 0) for n in (5, 6, 7)),
        # The first of two reads, where the only membership was; and not the one to come.
        ("choir", "bo", date(2026, 2, 28), 0, 0, 0, 1),
        ("choir", "bo", march[4], 0, 0, 0, 1),
        ("choir", "bo", march[11], 1, 1, 0, 0),
        ("choir", "left", march[9], 1, 0, 0, 0),
        ("choir", "stranger", march[9], 1, 0, 0, 0),
        ("garden", "ada", march[4], 1, 0, 0, 0),
    ]
    assert violations(connection, stored.DAILY) == []


def test_days_and_progress_are_the_same_in_slices_of_any_size(
    connection: Connection, settings: Settings
) -> None:
    found = []
    for slice_rows in (1_000, 3):
        in_slices = settings.model_copy(update={"slice_rows": slice_rows})
        check(connection, in_slices)
        found.append(
            [
                read_table(connection, table).sort(table.key)
                for table in (stored.DAILY, stored.PROGRESS)
            ]
        )
    assert all(one.equals(other) for one, other in zip(*found, strict=True))
    assert all(table.height > 5 for table in found[0])


def test_a_late_row_and_another_zone_are_counted_at_the_next_time(
    connection: Connection, settings: Settings
) -> None:
    check(connection, settings)
    put(connection, "behavior.interactions_scored", said("bo", 100))
    connection.execute("UPDATE raw.profiles SET timezone = 'Asia/Kolkata' WHERE user_id = 'ada'")
    before = progress(connection)["choir", "bo", "first_words"]
    check(connection, settings)
    days = query(connection, "SELECT user_id, day FROM milestones.daily WHERE org_id = 'choir'")
    assert ("bo", ago(100).date()) in days.rows()
    assert ("ada", date(2026, 3, 8)) in days.rows()
    assert ("ada", date(2026, 3, 5)) not in days.rows()
    after = progress(connection)["choir", "bo", "first_words"]
    assert (before, after) == (AS_OF, datetime(2025, 12, 1, 23, tzinfo=UTC))


def test_days_that_are_frozen_outlive_what_they_were_counted_from(
    connection: Connection, settings: Settings
) -> None:
    check(connection, settings)
    days = read_table(connection, stored.DAILY).sort(stored.DAILY.key)
    told = progress(connection, "current, reached_at")
    removed_before = ago(4.5)
    before = stored.first_day_untouched(removed_before)
    stored.freeze(connection, before, as_of=AS_OF)
    connection.execute(
        "DELETE FROM behavior.interactions_scored WHERE sent_at < $at", {"at": removed_before}
    )
    check(connection, settings)
    assert read_table(connection, stored.DAILY).sort(stored.DAILY.key).equals(days)
    assert progress(connection, "current, reached_at") == told
    # What comes late is counted from the first day on that is not frozen, and not before.
    early, late = (datetime.combine(before - n * DAY, datetime.min.time(), UTC) for n in (1, 0))
    for number, at in enumerate((early, late)):
        row = said("ada", 0, org="garden", sent_at=at + timedelta(hours=12))
        put(connection, "behavior.interactions_scored", row | {"interaction_id": f"late{number}"})
    check(connection, settings)
    gained = read_table(connection, stored.DAILY).join(days, on=stored.DAILY.key, how="anti")
    assert gained.select("user_id", "day").rows() == [("ada", before)]


def test_days_once_frozen_stay_so(connection: Connection) -> None:
    assert stored.frozen_before(connection) is None
    for day in (date(2026, 2, 1), date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)):
        stored.freeze(connection, day, as_of=AS_OF)
    assert stored.frozen_before(connection) == date(2026, 3, 1)
    kept = read_table(connection, stored.RETENTION)["frozen_before"].sort().to_list()
    assert kept == [date(2026, 2, 1), date(2026, 3, 1)]


@pytest.mark.parametrize(
    ("removed_before", "day"),
    [
        # In Kiribati it is 14 hours later, and the moment itself is not removed.
        (datetime(2026, 3, 1, 10, tzinfo=UTC), date(2026, 3, 2)),
        (datetime(2026, 3, 1, 10, 0, 0, 1, tzinfo=UTC), date(2026, 3, 3)),
        (datetime(2026, 3, 1, 9, tzinfo=UTC), date(2026, 3, 2)),
    ],
)
def test_no_day_from_the_first_untouched_one_on_loses_anything_in_any_zone(
    removed_before: datetime, day: date
) -> None:
    assert stored.first_day_untouched(removed_before) == day


def test_a_moment_before_the_frozen_days_changes_none_of_them(
    connection: Connection, settings: Settings
) -> None:
    check(connection, settings)
    days = read_table(connection, stored.DAILY).sort(stored.DAILY.key)
    stored.freeze(connection, date(2026, 3, 20), as_of=AS_OF)
    check(connection, settings, ago(20))
    assert read_table(connection, stored.DAILY).sort(stored.DAILY.key).equals(days)
    assert progress(connection, "current")["choir", "ada", "first_words"] == 1


# --- Progress.


def test_members_have_what_they_did_and_nobody_else_has_anything(
    connection: Connection, settings: Settings
) -> None:
    check(connection, settings)
    found = progress(connection, "current, reached_at")
    joined_at = ago(300)
    assert found == {
        ("choir", "ada", "first_words"): (4, datetime(2026, 1, 30, 5, tzinfo=UTC)),
        ("choir", "ada", "streak"): (3, datetime(2026, 3, 8, 5, tzinfo=UTC)),
        ("choir", "ada", "gathering"): (1, datetime(2026, 3, 2, 5, tzinfo=UTC)),
        ("choir", "ada", "newcomer"): (300, joined_at + DAY),
        ("choir", "bo", "first_words"): (1, AS_OF),
        ("choir", "bo", "streak"): (1, None),
        ("choir", "bo", "reader"): (2, datetime(2026, 2, 28, 23, tzinfo=UTC)),
        ("choir", "bo", "newcomer"): (300, joined_at + DAY),
        ("choir", "silent", "newcomer"): (300, joined_at + DAY),
        ("garden", "ada", "streak"): (1, None),
    }
    assert violations(connection, stored.PROGRESS) == []


def test_a_second_time_gives_the_same_tables(connection: Connection, settings: Settings) -> None:
    found = []
    for _ in range(2):
        check(connection, settings)
        found.append(read_table(connection, stored.PROGRESS).sort(stored.PROGRESS.key))
    assert found[0].equals(found[1])


def test_what_was_reached_outlives_the_days_it_was_reached_on(
    connection: Connection, settings: Settings
) -> None:
    check(connection, settings)
    before = progress(connection)
    connection.execute("DELETE FROM milestones.daily")
    tell_progress(connection, settings, as_of=AS_OF + DAY)
    assert progress(connection) == {
        **{key: reached_at for key, reached_at in before.items() if reached_at is not None},
        # Now a member for a day.
        ("garden", "ada", "newcomer"): ago(0.5) + DAY,
    }


def test_what_is_reached_today_stays_reached_at_the_moment_it_was_first_seen(
    connection: Connection, settings: Settings
) -> None:
    for later in (timedelta(), timedelta(hours=3), 2 * DAY):
        check(connection, settings, AS_OF + later)
        assert progress(connection)["choir", "bo", "first_words"] == AS_OF


@pytest.mark.parametrize(
    ("by_default", "by_org", "orgs"),
    [
        (1, {}, {"choir", "garden"}),
        (0, {}, set()),
        (1, {"choir": "0"}, {"garden"}),
        (0, {"garden": "1"}, {"garden"}),
        (1, {"choir": "1", "garden": "0"}, {"choir"}),
    ],
)
def test_an_organisation_without_gamification_has_days_and_no_progress(
    connection: Connection,
    settings: Settings,
    by_default: int,
    by_org: dict[str, str],
    orgs: set[str],
) -> None:
    check(connection, settings)
    for org, value in by_org.items():
        row = {"org_id": org, "setting": "gamification_enabled", "value": value}
        put(connection, "raw.org_settings", row)
    put(
        connection,
        "raw.org_settings",
        {"org_id": "choir", "setting": "inactive_days", "value": "0"},
    )
    put(connection, "outreach.messages", message("ada", "streak", "sent", ago(1)))
    check(connection, settings.model_copy(update={"gamification_enabled": by_default}), AS_OF)
    assert {key[0] for key in progress(connection)} == orgs
    assert query(connection, "SELECT count(*) AS n FROM milestones.daily")["n"].item() == 11


def test_a_milestone_is_celebrated_by_the_first_message_about_it_that_left(
    connection: Connection, settings: Settings
) -> None:
    put(
        connection,
        "outreach.messages",
        message("ada", "streak", "responded", ago(1)),
        message("ada", "streak", "sent", ago(2)),
        message("ada", "first_words", "scheduled", None),
        message("ada", "gathering", "failed", ago(1)),
        message("ada", "newcomer", "sent", ago(1), trigger="milestone_near"),
        message("ada", "newcomer", "sent", ago(1), outreach_type="re_engagement"),
        message("ada", "newcomer", "sent", ago(1), org_id="garden"),
        # It has been said, though the progress is told for a moment before.
        message("bo", "newcomer", "delivered", AS_OF + DAY),
        # Not reached after all: there is nothing to celebrate.
        message("bo", "streak", "sent", ago(1)),
    )
    check(connection, settings)
    celebrated = {
        key: at for key, at in progress(connection, "celebrated_at").items() if at is not None
    }
    assert celebrated == {
        ("choir", "ada", "streak"): ago(2),
        ("choir", "bo", "newcomer"): AS_OF + DAY,
    }
    connection.execute("DELETE FROM outreach.messages")
    put(connection, "outreach.messages", message("ada", "streak", "read", ago(3)))
    check(connection, settings)
    assert progress(connection, "celebrated_at")["choir", "ada", "streak"] == ago(2)


def test_who_breaks_halfway_leaves_the_tables_as_they_were(
    connection: Connection, settings: Settings
) -> None:
    check(connection, settings)
    before = progress(connection, "as_of, reached_at")
    connection.execute("UPDATE milestones.catalogue SET target = 0 WHERE milestone_id = 'reader'")
    with pytest.raises(ValueError, match="reader: target: expected at least 1, found 0"):
        tell_progress(connection, settings, as_of=AS_OF + DAY)
    assert progress(connection, "as_of, reached_at") == before


def test_the_overview_counts_what_was_reached(connection: Connection, settings: Settings) -> None:
    check(connection, settings)
    assert stored.overview(connection) == stored.ProgressOverview(
        members=4, reached=8, reached_in_a_day=1, celebrated=0
    )
    (row,) = stored.reached_by_category(connection).to_dicts()
    counts = {"milestones": 5, "members": 3, "reached": 8, "reached_in_a_day": 1}
    assert row == {"category": "special", **counts}


# --- The catalogue.


def test_seeding_adds_what_is_missing_and_overwrites_only_when_asked(
    connection: Connection,
) -> None:
    def targets() -> dict[str, int]:
        rows = stored.catalogue(connection).select("milestone_id", "target")
        return dict(rows.iter_rows())

    assert seed(connection, streak=9) == stored.Seeded(added=0, replaced=0, kept=5)
    connection.execute("DELETE FROM milestones.catalogue WHERE milestone_id = 'reader'")
    connection.execute(
        "UPDATE milestones.catalogue SET milestone_id = 'own' WHERE milestone_id = 'gathering'"
    )
    assert seed(connection, streak=9) == stored.Seeded(added=2, replaced=0, kept=3)
    assert targets() == {name: row[1] for name, row in MILESTONES.items()} | {"own": 1}
    assert seed(connection, overwrites=True, streak=9) == stored.Seeded(0, replaced=5, kept=0)
    assert targets()["streak"] == 9
    assert targets()["own"] == 1
    assert violations(connection, stored.CATALOGUE) == []


# --- The mart.


@pytest.fixture(scope="module")
def world(make_seeded_world: Callable[..., Any]) -> Any:
    return make_seeded_world(41)


def test_progress_is_shown_with_what_milestone_and_organisation_are_called(
    world: Any, build_marts: Callable[..., Publication]
) -> None:
    names = {row["org_id"]: row["name"] for row in world.rows("raw.organizations")}
    milestones = {row["milestone_id"]: row for row in world.rows("milestones.catalogue")}
    told = ("name", "category", "difficulty", "points")
    stored_rows = world.rows("milestones.progress")
    expected = [
        row
        | {"org_name": names[row["org_id"]]}
        | {name: milestones[row["milestone_id"]][name] for name in told}
        for row in stored_rows
        if row["org_id"] in names and row["milestone_id"] in milestones
    ]
    # An organisation is gone, and a milestone.
    assert {row["org_id"] for row in stored_rows} - names.keys() == {"gone"}
    assert {row["milestone_id"] for row in stored_rows} - milestones.keys() == {DROPPED}
    found = read_marts(build_marts(world))["marts.milestone_progress"]
    key = ("org_id", "user_id", "milestone_id")
    assert sorted(found, key=lambda row: [row[n] for n in key]) == sorted(
        expected, key=lambda row: [row[n] for n in key]
    )
