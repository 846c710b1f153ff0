"""What timing is counted from, against plain loops over plain rows."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engagement_pipeline.behavior.timing_counts import (
    ACTIVITY_SCHEMA,
    MESSAGES_SCHEMA,
    TimingRows,
    activity_counts,
    cutoffs,
    message_counts,
)

_AS_OF = datetime(2026, 3, 30, 4, 30, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_TRAINED, _TESTED = _AS_OF - 90 * _DAY, _AS_OF - 30 * _DAY
_ZONES = {"ada": "America/New_York", "bo": None, "cyd": "Australia/Lord_Howe"}
_ORG_ZONES = {"choir": "Europe/Berlin", "garden": None}
_MEMBERSHIPS = [
    # Bo's oldest membership ends within the time looked at.
    ("choir", "ada", _AS_OF - 400 * _DAY, None),
    ("garden", "bo", _AS_OF - 400 * _DAY, _AS_OF - 50 * _DAY),
    ("choir", "bo", _AS_OF - 300 * _DAY, None),
    ("garden", "cyd", _AS_OF - 60 * _DAY, None),
]


def _us(moment):
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def _frame(names, rows):
    instants = {"at", "sent_at", "first_read_at", "joined_at", "left_at"}
    schema = {name: pl.Int64 if name in instants else pl.String for name in names}
    plain = [[_us(v) if isinstance(v, datetime) else v for v in row] for row in rows]
    return pl.DataFrame(plain, schema=schema, orient="row")


def _rows(acts=(), sent=()):
    """Acts are (org, user, at); notifications (user, org or none, sent, first read or none)."""
    return TimingRows(
        acts=_frame(["org_id", "user_id", "at"], acts),
        notifications=_frame(["user_id", "org_id", "sent_at", "first_read_at"], sent),
        memberships=_frame(["org_id", "user_id", "joined_at", "left_at"], _MEMBERSHIPS),
        profiles=_frame(["user_id", "timezone"], list(_ZONES.items())),
        organizations=_frame(["org_id", "timezone"], list(_ORG_ZONES.items())),
    )


def _org_at(user, org, moment):
    if org is not None:
        return org
    holding = [
        (joined, named)
        for named, who, joined, left in _MEMBERSHIPS
        if who == user and joined <= moment and (left is None or left > moment)
    ]
    return min(holding)[1] if holding else None


def _clock(org, user, moment):
    zone = _ZONES.get(user) or _ORG_ZONES.get(org) or "UTC"
    return moment.astimezone(ZoneInfo(zone))


def _expected_messages(sent):
    n, answered = Counter(), Counter()
    for user, named, sent_at, read_at in sent:
        org = _org_at(user, named, sent_at)
        if org is None:
            continue
        for begins, ends in ((_TRAINED, _TESTED), (_TESTED, _AS_OF)):
            if begins < sent_at <= ends - _DAY:
                local = _clock(org, user, sent_at)
                key = (org, user, begins, local.hour, local.isoweekday())
                n[key] += 1
                answered[key] += (
                    read_at is not None and read_at <= _AS_OF and read_at - sent_at <= _DAY
                )
    return sorted((*key, count, answered[key]) for key, count in n.items())


def _expected_activity(acts, sent):
    found = list(acts)
    for user, named, _, read_at in sent:
        if read_at is not None:
            found.append((_org_at(user, named, read_at), user, read_at))
    n = Counter()
    for org, user, at in found:
        for end in (_TRAINED, _TESTED, _AS_OF):
            if org is not None and end - 180 * _DAY < at <= end:
                n[org, user, end, _clock(org, user, at).hour] += 1
    return sorted((*key, count) for key, count in n.items())


_edges = st.sampled_from(
    [
        edge + days * _DAY + timedelta(microseconds=us)
        for edge in (_TRAINED, _TESTED, _AS_OF)
        for days in (0, -1, -180)
        for us in (-1, 0, 1)
    ]
    + [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 8, 7, tzinfo=UTC)]
)
_moments = _edges | st.integers(-100, 300 * 24 * 4).map(
    lambda quarters: _AS_OF - timedelta(minutes=15 * quarters)
)
_people = st.sampled_from(("ada", "bo", "cyd", "stranger"))
_orgs = st.sampled_from(("choir", "garden", "unknown"))
_acts = st.lists(st.tuples(_orgs, _people, _moments), max_size=25)
_delays = st.none() | st.sampled_from(
    (0 * _DAY, _DAY, _DAY + timedelta(microseconds=1), timedelta(minutes=7), 40 * _DAY)
)
_sent = st.lists(
    st.tuples(_people, st.none() | _orgs, _moments, _delays).map(
        lambda row: (*row[:3], None if row[3] is None else row[2] + row[3])
    ),
    max_size=25,
)


@given(_sent)
@hypothesis_settings(max_examples=40)
def test_messages_are_what_going_through_them_one_by_one_counts(sent):
    found = message_counts(_rows(sent=sent), as_of=_AS_OF)
    assert found.schema == MESSAGES_SCHEMA
    assert found.rows() == _expected_messages(sent)


@given(_acts, _sent)
@hypothesis_settings(max_examples=40)
def test_activity_is_what_going_through_it_one_by_one_counts(acts, sent):
    found = activity_counts(_rows(acts, sent), as_of=_AS_OF)
    assert found.schema == ACTIVITY_SCHEMA
    assert found.rows() == _expected_activity(acts, sent)


@given(_acts, _sent)
@hypothesis_settings(max_examples=20)
def test_to_tell_best_times_the_last_counts_are_enough(acts, sent):
    rows = _rows(acts, sent)
    all_counts = activity_counts(rows, as_of=_AS_OF)
    assert activity_counts(rows, as_of=_AS_OF, trains=False).equals(
        all_counts.filter(pl.col("known_at") == _AS_OF)
    )


def test_no_answer_to_a_message_is_among_the_activity_that_it_knows():
    # Sent in the time tested, and read at once: what is known of hours then must not have it.
    sent = [("ada", "choir", _TESTED + timedelta(hours=1), _TESTED + timedelta(hours=2))]
    assert message_counts(_rows(sent=sent), as_of=_AS_OF)["known_at"].to_list() == [_TESTED]
    assert activity_counts(_rows(sent=sent), as_of=_AS_OF)["known_at"].to_list() == [_AS_OF]


def test_of_messages_to_train_on_it_is_known_before_the_test_whether_they_were_answered():
    late = [("ada", "choir", _TESTED - timedelta(hours=23), _TESTED + timedelta(minutes=1))]
    assert message_counts(_rows(sent=late), as_of=_AS_OF).is_empty()


def test_the_cutoffs_are_ninety_and_thirty_days_before():
    assert cutoffs(_AS_OF) == (_TRAINED, _TESTED)


def test_a_moment_without_a_zone_is_refused():
    for count in (message_counts, activity_counts):
        with pytest.raises(ValueError, match="as_of must have a time zone"):
            count(_rows(), as_of=_AS_OF.replace(tzinfo=None))
