"""Thirteen Meetup groups of 2008 to 2016, where nobody is ever marked as having come."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.home import stored
from tests.real_data import plain
from tests.real_data.conftest import RealHome

AS_OF = datetime(2016, 6, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def home(real_home: Callable[[str], RealHome]) -> RealHome:
    made = real_home("meetup_montana")
    made.run(AS_OF)
    return made


def _expected(home: RealHome) -> dict[plain.Member, dict[str, object]]:
    return plain.signals(
        AS_OF,
        plain.rows_of(home.source / "memberships.csv"),
        plain.rows_of(home.source / "attendance.csv"),
    )


def test_all_rows_land_but_five_events_that_are_there_twice(home: RealHome) -> None:
    assert home.raw_rows("organizations", "memberships", "events", "attendance") == {
        "organizations": 13,
        "memberships": 1_941,
        "events": 1_391,
        "attendance": 10_416,
    }
    assert home.rejects() == {("events", "duplicate_key"): 5}


def test_each_member_has_the_signals_that_plain_python_finds(home: RealHome) -> None:
    expected = _expected(home)
    assert len(expected) == 1_941
    assert home.signals(AS_OF) == expected
    assert sum(row["rsvp_count_90d"] for row in home.signals(AS_OF).values()) == 799


def test_each_member_has_the_level_that_plain_python_finds(home: RealHome) -> None:
    expected = {member: plain.level(row) for member, row in _expected(home).items()}
    assert home.levels(AS_OF) == expected
    assert home.shown_levels() == {member: level for member, (level, _) in expected.items()}
    assert Counter(expected.values()) == {
        ("inactive", None): 1_187,
        ("at_risk", "never_activated"): 458,
        ("new", None): 296,
    }


def test_event_ids_of_letters_and_of_digits_both_keep_their_spelling(home: RealHome) -> None:
    written = {row["event_id"] for row in plain.rows_of(home.source / "events.csv")}
    assert {row[0] for row in stored(home.settings, "SELECT event_id FROM raw.events")} == written
