"""Which organisation a notification and its first read are counted in."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.signals.attribution import attributed, with_attribution
from engagement_pipeline.signals.sources import lazy
from tests.unit.signals.communities import AS_OF, ENGINES, ago, signals_of, stay
from tests.unit.signals.engines import computed_by


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


_STAYS = {"user_id": pl.String, "org_id": pl.String, "joined_at": pl.Int64, "left_at": pl.Int64}
_TOUCHES = {"touch": pl.Int64, "user_id": pl.String, "org_id": pl.String, "at": pl.Int64}
_people = st.sampled_from(("u1", "u2"))
_orgs = st.sampled_from(("o1", "O2", "ö3", "o4"))
_moments = st.integers(0, 6)
_stays = st.lists(
    st.tuples(_people, _orgs, _moments, st.none() | _moments),
    max_size=10,
    unique_by=lambda stay: stay[:3],
)
_touches = st.lists(st.tuples(_people, st.none() | _orgs, _moments), max_size=12)


def _found(stays, touches, engine="polars", attribute=with_attribution):
    """touch -> what `attribute` gives for it, in the order of its columns after `touch`."""
    numbered = [(number, *touch) for number, touch in enumerate(touches)]
    rows = computed_by(
        engine,
        lambda touches, memberships: attribute(lazy(touches), lazy(memberships)),
        touches=pl.DataFrame(numbered, _TOUCHES, orient="row"),
        memberships=pl.DataFrame(stays, _STAYS, orient="row"),
    ).rows()
    assert len({row[0] for row in rows}) == len(rows)
    return {number: row for number, *row in sorted(rows)}


def _expected(stays, touches):
    found = {}
    for number, (user, named, at) in enumerate(touches):
        holding = []
        for person, org, joined_at, left_at in stays:
            if person == user and joined_at <= at and (left_at is None or at < left_at):
                holding.append((joined_at, org))
        if named is not None:
            found[number] = [user, named, at, "explicit"]
        elif holding:
            is_sole = len({org for _, org in holding}) == 1
            found[number] = [user, min(holding)[1], at, "sole" if is_sole else "primary"]
    return found


@given(_stays, _touches)
@settings(max_examples=150)
def test_attribution_is_what_a_search_through_all_memberships_finds(stays, touches):
    assert _found(stays, touches) == _expected(stays, touches)


@given(_stays, _touches)
@settings(max_examples=15)
def test_every_engine_attributes_as_that_search_does(stays, touches):
    for engine in ENGINES[1:]:
        assert _found(stays, touches, engine) == _expected(stays, touches)


@given(_stays, _touches)
@settings(max_examples=40)
def test_where_a_touch_belongs_does_not_depend_on_asking_how_that_is_known(stays, touches):
    known_how = {number: row[:-1] for number, row in _found(stays, touches).items()}
    assert _found(stays, touches, attribute=attributed) == known_how


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_membership_makes_best_effort_of_certainty_while_it_lasts(engine):
    stays = [("u1", "home", 0, None), ("u1", "away", 3, 5)]
    found = _found(stays, [("u1", None, at) for at in (2, 3, 4, 5)], engine)
    assert [row[-1] for row in found.values()] == ["sole", "primary", "primary", "sole"]
    assert {row[1] for row in found.values()} == {"home"}


def test_two_stays_in_one_organisation_are_one_membership():
    stays = [("u1", "home", 0, None), ("u1", "home", 2, 4)]
    assert _found(stays, [("u1", None, 3)]) == {0: ["u1", "home", 3, "sole"]}


def test_a_named_organisation_is_explicit_also_for_who_is_no_member():
    assert _found([], [("u1", "o1", 3)]) == {0: ["u1", "o1", 3, "explicit"]}
