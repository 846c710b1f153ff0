"""What timing is learned and told from, read from a real warehouse, in slices and at once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from engagement_pipeline.behavior.timing import best_times
from engagement_pipeline.behavior.timing_training import train_timing
from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.timing import TimingInputs, timing_inputs
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.frames import append
from tests.home import settings_of

# Four in the morning in UTC, so that hours of the day before are not those of the day.
AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)
TABLES = (
    "raw.organizations",
    "raw.profiles",
    "raw.memberships",
    "raw.interactions",
    "raw.attendance",
    "raw.notifications",
    "raw.notification_reads",
)
TRAINED, TESTED = AS_OF - timedelta(days=90), AS_OF - timedelta(days=30)


def ago(days: float) -> datetime:
    return AS_OF - timedelta(days=days)


def put(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    """Put rows into a table; what they leave out is null."""
    promised = contract(table)
    append(connection, table, promised.validate(pl.DataFrame(rows, promised.polars_schema)))


def member(org: str, user: str, joined: float = 600, left: float | None = None) -> dict[str, Any]:
    left_at = None if left is None else ago(left)
    named = {"org_id": org, "user_id": user, "role": "member"}
    return {**named, "joined_at": ago(joined), "left_at": left_at}


def sent(
    connection: Connection,
    user: str,
    days: float,
    *,
    org: str | None = None,
    read: tuple[float, ...] = (),
) -> None:
    """Put a notification that was sent so many days ago, and read so many hours after that."""
    name = f"{user}-{days}"
    message = {"notification_id": name, "user_id": user, "org_id": org, "feature": "digest"}
    put(connection, "raw.notifications", [{**message, "sent_at": ago(days)}])
    reads = [
        {"notification_id": name, "read_at": ago(days) + timedelta(hours=hours)} for hours in read
    ]
    put(connection, "raw.notification_reads", reads)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path / "home", tmp_path / "source")


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A choir in Kolkata (UTC+5:30), a garden in UTC, and nothing that was done."""
    with duckdb.connect() as found:
        found.execute("SET TimeZone = 'UTC'")
        for table in TABLES:
            found.execute(f"CREATE SCHEMA IF NOT EXISTS {contract(table).schema}")
            found.execute(contract(table).ddl())
        zones = {"choir": "Asia/Kolkata", "garden": "UTC"}
        put(
            found,
            "raw.organizations",
            [{"org_id": org, "name": org, "timezone": zone} for org, zone in zones.items()],
        )
        put(found, "raw.profiles", [{"user_id": "ada", "timezone": "America/New_York"}])
        put(
            found,
            "raw.memberships",
            [
                member("choir", "ada"),
                member("choir", "bo"),
                member("garden", "bo", joined=40),
                member("garden", "gone", left=20),
            ],
        )
        yield found


def messages(inputs: TimingInputs) -> list[tuple[object, ...]]:
    assert inputs.messages is not None
    return sorted(inputs.messages.rows())


def activity(inputs: TimingInputs) -> list[tuple[object, ...]]:
    return sorted(inputs.activity.rows())


def test_messages_are_counted_by_the_persons_clock_and_the_organisation_at_the_sending(
    connection: Connection, settings: Settings
) -> None:
    sent(connection, "ada", 40, read=(25, 30))
    sent(connection, "bo", 35, org="garden", read=(23,))
    sent(connection, "bo", 10, read=(-1,))
    sent(connection, "gone", 25, read=(150,))
    sent(connection, "gone", 15)
    # Too old, too new, not known yet, and to nobody's organisation.
    for user, days in (("ada", 90), ("ada", 0.5), ("ada", -1), ("stranger", 40)):
        sent(connection, user, days, read=(1,))
    found = messages(timing_inputs(connection, settings, as_of=AS_OF))
    assert found == [
        # 4:00 UTC: 23:00 the day before in New York, 9:30 in Kolkata.
        ("choir", "ada", TRAINED, 23, 1, 1, 0),
        ("choir", "bo", TESTED, 9, 4, 1, 1),
        ("garden", "bo", TRAINED, 4, 7, 1, 1),
        ("garden", "gone", TESTED, 4, 3, 1, 0),
    ]


def test_activity_is_what_was_said_answered_and_first_read_in_half_a_year(
    connection: Connection, settings: Settings
) -> None:
    said = {"org_id": "choir", "user_id": "ada", "type": "message"}
    put(
        connection,
        "raw.interactions",
        [
            {**said, "interaction_id": f"i{days}", "sent_at": ago(days)}
            for days in (0, 179, 180, 269, 270, 271, -1)
        ],
    )
    answered = {"org_id": "garden", "user_id": "bo", "status": "cancelled"}
    put(
        connection,
        "raw.attendance",
        [{**answered, "event_id": "e", "created_at": ago(20), "responded_at": ago(1)}],
    )
    # Sent a year ago, read twice of late: once is the first.
    sent(connection, "bo", 365, read=(24 * 300, 24 * 364))
    found = activity(timing_inputs(connection, settings, as_of=AS_OF))
    assert found == [
        # In New York it was summer until November: midnight then, and 23:00 in winter.
        ("choir", "ada", TRAINED, 0, 3),
        ("choir", "ada", TESTED, 0, 2),
        ("choir", "ada", AS_OF, 0, 1),
        ("choir", "ada", AS_OF, 23, 1),
        ("choir", "bo", TESTED, 9, 1),
        ("choir", "bo", AS_OF, 9, 1),
        ("garden", "bo", AS_OF, 4, 1),
    ]


def _busy(connection: Connection) -> None:
    for number in range(40):
        user = ("ada", "bo", "gone")[number % 3]
        read = (number % 30,) if number % 2 else ()
        sent(connection, user, 1.1 + number * 2.3, read=read)


def test_slices_of_people_give_what_all_at_once_give(
    connection: Connection, settings: Settings
) -> None:
    _busy(connection)
    at_once = timing_inputs(connection, settings, as_of=AS_OF)
    few = settings.model_copy(update={"slice_rows": 7})
    sliced = timing_inputs(connection, few, as_of=AS_OF)
    assert messages(sliced) == messages(at_once)
    assert activity(sliced) == activity(at_once)
    assert len(messages(at_once)) > 10


def test_best_times_need_only_what_is_known_now(connection: Connection, settings: Settings) -> None:
    _busy(connection)
    trained = timing_inputs(connection, settings, as_of=AS_OF)
    told = timing_inputs(connection, settings, as_of=AS_OF, trains=False)
    assert told.messages is None
    assert set(told.activity["known_at"]) == {AS_OF}
    best = [
        best_times(found.activity, found.members, None, as_of=AS_OF) for found in (trained, told)
    ]
    assert best[0].equals(best[1])
    assert best[0].select("org_id", "user_id", "timezone").rows() == [
        ("choir", "ada", "America/New_York"),
        ("choir", "bo", "Asia/Kolkata"),
        ("garden", "bo", "UTC"),
    ]


def test_a_source_without_notifications_has_no_messages_and_its_training_is_off(
    connection: Connection, settings: Settings
) -> None:
    sent(connection, "ada", -1)
    found = timing_inputs(connection, settings, as_of=AS_OF)
    assert found.messages is None
    trained = train_timing(
        found.messages, found.activity, as_of=AS_OF, min_samples=500, seed=settings.seed
    )
    assert trained.training["outcome"] == "off"
    best = best_times(found.activity, found.members, trained.model, as_of=AS_OF)
    assert set(best["best_hour"]) == {14}
    assert set(best["timing_model"]) == {"default"}
