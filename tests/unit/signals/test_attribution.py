"""Which organisation a notification and its first read are counted in."""

import pytest

from tests.unit.signals.communities import AS_OF, ENGINES, ago, signals_of, stay


def _counts(stays, sent_at, *read_at, org_id=None, engine="polars"):
    """(sent, read) per organisation of which the person is a member at the end."""
    rows = signals_of(
        {
            "memberships": stays,
            "attendance": [],
            "notifications": [
                {"notification_id": "n1", "user_id": "u1", "org_id": org_id, "sent_at": sent_at}
            ],
            "notification_reads": [
                {"notification_id": "n1", "read_at": moment} for moment in read_at
            ],
        },
        engine,
    )
    return {
        row["org_id"]: (row["notifications_sent_90d"], row["notifications_read_90d"])
        for row in rows
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_the_organisation_that_a_notification_names_goes_before_older_memberships(engine):
    stays = [stay("old", joined_days_ago=300), stay("new", joined_days_ago=20)]
    found = _counts(stays, ago(30), ago(29), org_id="new", engine=engine)
    assert found == {"old": (0, 0), "new": (1, 1)}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_unnamed_one_belongs_to_the_oldest_membership(engine):
    stays = [stay("a", joined_days_ago=100), stay("b", joined_days_ago=300)]
    assert _counts(stays, ago(30), ago(29), engine=engine) == {"a": (0, 0), "b": (1, 1)}


@pytest.mark.parametrize("engine", ENGINES)
def test_memberships_of_one_age_give_way_to_the_smaller_id(engine):
    stays = [stay("b"), stay("B"), stay("ä")]
    found = _counts(stays, ago(30), ago(29), engine=engine)
    assert found == {"B": (1, 1), "b": (0, 0), "ä": (0, 0)}


def test_only_memberships_that_hold_at_the_moment_count():
    stays = [
        stay("left", joined_days_ago=300, left_days_ago=25),
        stay("second", joined_days_ago=200),
        stay("late", joined_days_ago=10),
    ]
    assert _counts(stays, ago(30), ago(20)) == {"second": (0, 1), "late": (0, 0)}
    assert _counts(stays, ago(25), ago(25)) == {"second": (1, 1), "late": (0, 0)}


def test_without_a_membership_at_the_moment_nothing_is_counted():
    assert _counts([stay("o1", joined_days_ago=10)], ago(11), ago(11)) == {"o1": (0, 0)}
    assert _counts([stay("o1", joined_days_ago=10)], ago(11), ago(10)) == {"o1": (0, 1)}


def test_a_membership_no_longer_holds_at_the_moment_it_ends():
    stays = [stay("home", joined_days_ago=80, left_days_ago=60), stay("home", joined_days_ago=40)]
    assert _counts(stays, ago(60) - 1) == {"home": (1, 0)}
    assert _counts(stays, ago(60)) == {"home": (0, 0)}


def test_who_came_back_belongs_where_they_stayed_meanwhile():
    stays = [
        stay("home", joined_days_ago=80, left_days_ago=60),
        stay("away", joined_days_ago=70),
        stay("home", joined_days_ago=40),
    ]
    assert _counts(stays, ago(75)) == {"home": (1, 0), "away": (0, 0)}
    assert _counts(stays, ago(65)) == {"home": (1, 0), "away": (0, 0)}
    assert _counts(stays, ago(50)) == {"home": (0, 0), "away": (1, 0)}
    assert _counts(stays, ago(30)) == {"home": (0, 0), "away": (1, 0)}


def test_the_first_read_counts_and_later_ones_never():
    assert _counts([stay("o1")], ago(200), ago(91), ago(5), AS_OF) == {"o1": (0, 0)}
    assert _counts([stay("o1")], ago(200), ago(5), ago(4), AS_OF) == {"o1": (0, 1)}


def test_a_read_before_its_sending_counts_as_it_is():
    assert _counts([stay("o1")], ago(5), ago(6)) == {"o1": (1, 1)}


def test_a_read_of_a_notification_not_yet_known_is_ignored():
    assert _counts([stay("o1")], AS_OF + 1, ago(6)) == {"o1": (0, 0)}
