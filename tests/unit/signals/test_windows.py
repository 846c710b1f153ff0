"""Which moments count: the windows' edges, what is not yet known, and whole days."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from engagement_pipeline.signals import SignalSources, member_signals
from engagement_pipeline.signals.windows import microseconds
from tests.unit.signals.communities import (
    AS_OF,
    SCHEMAS,
    ago,
    answer,
    instant_of,
    only_member,
    signals_of,
    stay,
)
from tests.unit.signals.oracle import DAY

WINDOW_START = AS_OF - 90 * DAY


def _one(table, moment):
    row = {"org_id": "o1", "event_id": "e1", "user_id": "u1", "notification_id": "n1"}
    row |= {"viewed_at": moment, "sent_at": moment, "read_at": moment}
    return {table: [{name: row[name] for name in SCHEMAS[table]}]}


COUNTED = {
    "events_attended_90d": lambda t: {"attendance": [answer("attended", ago(300), t)]},
    "no_show_count_90d": lambda t: {"attendance": [answer("no_show", ago(300), t)]},
    "rsvp_count_90d": lambda t: {"attendance": [answer("registered", t)]},
    "event_view_count_90d": lambda t: _one("event_views", t),
    "notifications_sent_90d": lambda t: _one("notifications", t),
    "notifications_read_90d": lambda t: (
        _one("notifications", ago(300)) | _one("notification_reads", t)
    ),
    "interaction_count_90d": lambda t: _one("interactions", t),
}


@pytest.mark.parametrize("column", COUNTED)
def test_the_90_days_leave_out_their_start_and_take_in_their_end(column):
    counted = {
        moment: only_member({"memberships": [stay()], **COUNTED[column](moment)})[column]
        for moment in (WINDOW_START, WINDOW_START + 1, AS_OF, AS_OF + 1)
    }
    assert counted == {WINDOW_START: 0, WINDOW_START + 1: 1, AS_OF: 1, AS_OF + 1: 0}


def test_the_90_days_before_touch_the_90_days_and_do_not_overlap_them():
    def in_both(moment):
        row = answer("partial", ago(400), moment)
        member = only_member({"memberships": [stay()], "attendance": [row]})
        return member["events_attended_prev_90d"], member["events_attended_90d"]

    edges = (AS_OF - 180 * DAY, AS_OF - 180 * DAY + 1, WINDOW_START, WINDOW_START + 1)
    assert [in_both(moment) for moment in edges] == [(0, 0), (1, 0), (1, 0), (0, 1)]


@pytest.mark.parametrize("status", ["attended", "no_show", "cancelled", "waitlisted"])
def test_a_status_known_only_later_is_until_then_an_answer(status):
    row = answer(status, ago(5), AS_OF + 1)
    member = only_member({"memberships": [stay()], "attendance": [row]})
    assert member["rsvp_count_90d"] == 1
    assert member["events_attended_total"] == member["no_show_count_90d"] == 0
    assert member["last_active_at"] == ago(5)


@pytest.mark.parametrize("status", ["cancelled", "waitlisted"])
def test_who_cancelled_or_waits_gave_no_answer_and_was_not_active(status):
    row = answer(status, ago(5), AS_OF)
    member = only_member({"memberships": [stay()], "attendance": [row]})
    assert (member["rsvp_count_90d"], member["last_active_at"]) == (0, None)


def test_a_row_created_later_is_invisible_even_if_it_was_answered_before():
    row = answer("attended", AS_OF + 1, ago(1))
    member = only_member({"memberships": [stay()], "attendance": [row]})
    assert (member["rsvp_count_90d"], member["events_attended_total"]) == (0, 0)


def test_a_no_show_is_active_when_it_answered_not_when_it_stayed_away():
    row = answer("no_show", ago(20), ago(10))
    member = only_member({"memberships": [stay()], "attendance": [row]})
    assert (member["no_show_count_90d"], member["last_active_at"]) == (1, ago(20))


def test_days_are_whole_and_rounded_down():
    def days(joined_at):
        membership = {**stay(), "joined_at": joined_at}
        return only_member({"memberships": [membership]})["days_since_joined"]

    moments = (AS_OF, AS_OF - DAY + 1, AS_OF - DAY, AS_OF - 2 * DAY + 1)
    assert [days(moment) for moment in moments] == [0, 0, 1, 1]


def test_who_was_never_active_is_counted_from_joining_and_others_from_their_activity():
    memberships = [stay(joined_days_ago=10)]
    never = only_member({"memberships": memberships})
    before = only_member(
        {"memberships": memberships, "attendance": [answer("registered", ago(50))]}
    )
    assert (never["last_active_at"], never["days_since_active"]) == (None, 10)
    assert (before["last_active_at"], before["days_since_active"]) == (ago(50), 50)


def test_a_membership_begins_when_joined_and_ends_when_left():
    def is_member(joined_at, left_at):
        membership = {**stay(), "joined_at": joined_at, "left_at": left_at}
        return bool(signals_of({"memberships": [membership], "attendance": []}))

    assert is_member(AS_OF, None)
    assert is_member(AS_OF - 1, AS_OF + 1)
    assert not is_member(AS_OF + 1, None)
    assert not is_member(AS_OF - 1, AS_OF)


def test_overlapping_stays_make_one_member_since_the_first():
    stays = [
        stay(joined_days_ago=10),
        stay(joined_days_ago=30),
        stay(joined_days_ago=90, left_days_ago=60),
    ]
    assert only_member({"memberships": stays})["joined_at"] == ago(30)


def test_attendance_without_membership_makes_no_member():
    row = answer("attended", ago(1), user_id="stranger")
    assert only_member({"memberships": [stay()], "attendance": [row]})["user_id"] == "u1"


def test_a_moment_without_zone_is_refused():
    naive = instant_of(AS_OF).replace(tzinfo=None)
    with pytest.raises(ValueError, match="must have a time zone"):
        member_signals(SignalSources(None, None), as_of=naive, significant_sections=())


def test_a_moment_is_the_same_in_every_zone_and_exact_to_the_microsecond():
    far = datetime(2262, 4, 11, 23, 47, 16, 854775, tzinfo=UTC)
    assert instant_of(microseconds(far)) == far
    assert microseconds(far.astimezone(timezone(timedelta(hours=-9)))) == microseconds(far)
    assert microseconds(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
