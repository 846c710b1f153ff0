"""The purchases of 2,357 customers of 1997, as attendance: two moments, nine months apart."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.home import published
from tests.real_data import plain
from tests.real_data.conftest import RealHome

EARLY = datetime(1997, 10, 1, tzinfo=UTC)
LATE = datetime(1998, 7, 1, tzinfo=UTC)
MOMENTS = pytest.mark.parametrize("as_of", [EARLY, LATE], ids=["1997-10", "1998-07"])


@pytest.fixture(scope="module")
def home(real_home: Callable[[str], RealHome]) -> RealHome:
    made = real_home("cdnow_sample")
    # All purchases are there from the first run on; those to come must not show in it.
    made.run(EARLY)
    made.run(LATE)
    return made


def _expected(home: RealHome, as_of: datetime) -> dict[plain.Member, dict[str, object]]:
    return plain.signals(
        as_of,
        plain.rows_of(home.source / "memberships.csv"),
        plain.rows_of(home.source / "attendance.csv"),
    )


def test_all_rows_land_once_though_two_runs_met_them(home: RealHome) -> None:
    assert home.raw_rows("organizations", "memberships", "attendance") == {
        "organizations": 1,
        "memberships": 2_357,
        "attendance": 6_696,
    }
    assert home.rejects() == {}


@MOMENTS
def test_each_member_has_the_signals_that_plain_python_finds(
    home: RealHome, as_of: datetime
) -> None:
    expected = _expected(home, as_of)
    assert len(expected) == 2_357
    assert home.signals(as_of) == expected


@MOMENTS
def test_each_member_has_the_level_that_plain_python_finds(home: RealHome, as_of: datetime) -> None:
    expected = {member: plain.level(row) for member, row in _expected(home, as_of).items()}
    assert home.levels(as_of) == expected
    counted = {
        EARLY: {"highly_engaged": 69, "moderate": 340, "at_risk": 310, "inactive": 1_638},
        LATE: {"highly_engaged": 40, "moderate": 259, "at_risk": 215, "inactive": 1_843},
    }
    assert Counter(level for level, _ in expected.values()) == counted[as_of]


def test_analysts_see_the_later_moment_and_who_moved_since_the_earlier_one(home: RealHome) -> None:
    early = {member: plain.level(row)[0] for member, row in _expected(home, EARLY).items()}
    late = {member: plain.level(row)[0] for member, row in _expected(home, LATE).items()}
    assert home.shown_levels() == late
    moves = Counter((early[m], late[m]) for m in late if early[m] != late[m])
    shown = published(
        home.settings, "SELECT from_level, to_level, members FROM marts.level_transitions"
    )
    assert {(before, after): members for before, after, members in shown} == moves
