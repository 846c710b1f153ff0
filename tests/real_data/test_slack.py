"""Two years of a Slack community: messages and mentions, and no attendance at all."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from tests.home import stored
from tests.real_data import plain
from tests.real_data.conftest import RealHome

AS_OF = datetime(2019, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def home(real_home: Callable[[str], RealHome]) -> RealHome:
    made = real_home("slack_2017_2018")
    made.run(AS_OF)
    return made


def _rows(home: RealHome, table: str) -> list[dict[str, Any]]:
    return pl.read_parquet(home.source / f"{table}.parquet").to_dicts()


def _expected(home: RealHome) -> dict[plain.Member, dict[str, Any]]:
    return plain.signals(
        AS_OF,
        _rows(home, "memberships"),
        interactions=_rows(home, "interactions"),
        notifications=_rows(home, "notifications"),
    )


def test_all_rows_land_and_a_read_time_on_a_notification_becomes_a_read(home: RealHome) -> None:
    reads = sum(row["read_at"] is not None for row in _rows(home, "notifications"))
    assert home.raw_rows(
        "organizations",
        "memberships",
        "attendance",
        "interactions",
        "notifications",
        "notification_reads",
    ) == {
        "organizations": 2,
        "memberships": 229,
        "attendance": 0,
        "interactions": 16_466,
        "notifications": 3_569,
        "notification_reads": reads,
    }
    assert home.rejects() == {}


def test_each_member_has_the_signals_that_plain_python_finds(home: RealHome) -> None:
    expected = _expected(home)
    assert len(expected) == 229
    assert home.signals(AS_OF) == expected


def test_what_the_source_does_not_have_is_unknown_and_what_it_has_none_of_is_zero(
    home: RealHome,
) -> None:
    found = home.signals(AS_OF).values()
    assert {row["event_view_count_90d"] for row in found} == {None}
    # There is a file of attendance, without rows.
    assert {row["events_attended_total"] for row in found} == {0}
    assert {row["last_attended_at"] for row in found} == {None}
    silent = [row for row in found if row["interaction_count_90d"] == 0]
    assert silent
    assert all(row["notifications_sent_90d"] is not None for row in found)
    (snapshot,) = stored(
        home.settings,
        "SELECT has_event_views, has_notifications, has_interactions FROM signals.snapshot",
    )
    assert snapshot == (False, True, True)


def test_mentions_count_for_whom_they_name_in_the_organisation_they_name(home: RealHome) -> None:
    start = AS_OF - plain.WINDOW
    sent, read = Counter[plain.Member](), Counter[plain.Member]()
    for row in _rows(home, "notifications"):
        member = (row["org_id"], row["user_id"])
        sent[member] += start < row["sent_at"] <= AS_OF
        read[member] += row["read_at"] is not None and start < row["read_at"] <= AS_OF
    found = home.signals(AS_OF)
    most = [member for member, _ in sent.most_common(5)]
    assert [found[m]["notifications_sent_90d"] for m in most] == [sent[m] for m in most]
    assert [found[m]["notifications_read_90d"] for m in most] == [read[m] for m in most]
    assert min(sent[m] for m in most) > 0
    for org in ("racket-2017", "racket-2018"):
        in_org = {m: row for m, row in found.items() if m[0] == org}
        assert sum(row["notifications_sent_90d"] for row in in_org.values()) == sum(
            sent[m] for m in in_org
        )


def test_each_member_has_the_level_that_plain_python_finds(home: RealHome) -> None:
    expected = {member: plain.level(row) for member, row in _expected(home).items()}
    assert home.levels(AS_OF) == expected
    assert home.shown_levels() == {member: level for member, (level, _) in expected.items()}
    # Without attendance nobody can be engaged, however much they write.
    assert not {"highly_engaged", "moderate"} & {level for level, _ in expected.values()}
