"""Properties that the member signals have for every community, on every engine."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from tests.unit.signals.communities import (
    AS_OF,
    ENGINES,
    SECTIONS,
    as_of_moments,
    communities,
    computed,
    only_member,
    signals_of,
    stay,
)
from tests.unit.signals.oracle import DAY, expected_signals

TIME_COLUMNS = {
    "memberships": "joined_at",
    "attendance": "created_at",
    "event_views": "viewed_at",
    "notifications": "sent_at",
    "notification_reads": "read_at",
    "interactions": "sent_at",
    "profile_updates": "updated_at",
}


@given(tables=communities, as_of=as_of_moments)
@settings(max_examples=200, deadline=None)
def test_every_column_is_what_plain_loops_find(tables, as_of):
    assert signals_of(tables, as_of=as_of) == expected_signals(tables, as_of, SECTIONS)


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "polars"])
@given(tables=communities, as_of=as_of_moments)
@settings(max_examples=40, deadline=None)
def test_every_engine_finds_the_same(engine, tables, as_of):
    assert signals_of(tables, engine, as_of) == expected_signals(tables, as_of, SECTIONS)


@given(tables=communities, as_of=as_of_moments)
@settings(max_examples=60, deadline=None)
def test_what_happens_later_changes_nothing_of_a_past_moment(tables, as_of):
    assert signals_of(_as_it_stood(tables, as_of), as_of=as_of) == signals_of(tables, as_of=as_of)


@given(tables=communities, random=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_changes_nothing(tables, random):
    shuffled = {
        table: None if rows is None else random.sample(rows, len(rows))
        for table, rows in tables.items()
    }
    assert signals_of(shuffled) == signals_of(tables)


@given(tables=communities, revisits=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_revisit_never_counts_as_a_second_read(tables, revisits):
    reads = tables["notification_reads"] or []
    revisited = reads + [
        {**read, "read_at": read["read_at"] + visit * 45 * DAY}
        for read in reads
        for visit in range(revisits)
    ]
    assert signals_of({**tables, "notification_reads": revisited}) == signals_of(tables)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("event_views", ["event_view_count_90d"]),
        ("notifications", ["notifications_sent_90d", "notifications_read_90d"]),
        ("interactions", ["interaction_count_90d"]),
    ],
)
def test_a_table_that_is_not_there_gives_null_and_an_empty_one_zero(engine, table, columns):
    absent = only_member({"memberships": [stay()]}, engine=engine)
    empty = only_member({"memberships": [stay()], table: []}, engine=engine)
    assert [absent[name] for name in columns] == [None] * len(columns)
    assert [empty[name] for name in columns] == [0] * len(columns)


def test_notifications_that_nobody_reads_are_known_to_be_unread():
    notification = {"notification_id": "n1", "user_id": "u1", "org_id": "o1", "sent_at": AS_OF}
    member = only_member({"memberships": [stay()], "notifications": [notification]})
    assert (member["notifications_sent_90d"], member["notifications_read_90d"]) == (1, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_columns_come_in_the_order_and_type_of_the_contract_with_instants_as_integers(engine):
    frame = computed({"memberships": [stay()], "attendance": []}, engine)
    assert frame.columns == contract("signals.member_90d").column_names
    assert {str(dtype) for dtype in frame.dtypes[2:]} == {"Int64"}


@pytest.mark.parametrize("engine", ENGINES)
def test_without_significant_sections_no_profile_update_counts(engine):
    updates = [{"user_id": "u1", "section": "skills", "updated_at": AS_OF}]
    tables = {"memberships": [stay()], "profile_updates": updates}
    assert only_member(tables, engine=engine, sections=())["profile_updated_at"] is None
    assert only_member(tables, engine=engine)["profile_updated_at"] == AS_OF


def test_the_newest_of_several_significant_updates_is_told():
    updates = [
        {"user_id": "u1", "section": section, "updated_at": AS_OF - age}
        for section, age in [("skills", 9), ("work_history", 5), ("skills", 7), ("photo", 1)]
    ]
    member = only_member({"memberships": [stay()], "profile_updates": updates})
    assert (member["profile_updated_at"], member["last_active_at"]) == (AS_OF - 5, AS_OF - 5)


def test_an_update_of_another_section_is_no_activity():
    updates = [{"user_id": "u1", "section": "photo", "updated_at": AS_OF}]
    member = only_member({"memberships": [stay()], "profile_updates": updates})
    assert (member["profile_updated_at"], member["last_active_at"]) == (None, None)


def test_a_significant_profile_update_counts_in_all_organisations_of_the_person():
    updates = [{"user_id": "u1", "section": "skills", "updated_at": AS_OF - 7}]
    stays = [stay("o1"), stay("o2"), stay("o2", "u2")]
    rows = signals_of({"memberships": stays, "attendance": [], "profile_updates": updates})
    assert [row["last_active_at"] for row in rows] == [AS_OF - 7, AS_OF - 7, None]


def _as_it_stood(tables, as_of):
    """The community as a source would have shown it at `as_of`."""
    stood = {
        table: None if rows is None else [row for row in rows if row[TIME_COLUMNS[table]] <= as_of]
        for table, rows in tables.items()
    }
    stood["memberships"] = [
        {**row, "left_at": None} if row["left_at"] is not None and row["left_at"] > as_of else row
        for row in stood["memberships"]
    ]
    stood["attendance"] = [
        {**row, "status": "registered", "responded_at": None}
        if row["responded_at"] is not None and row["responded_at"] > as_of
        else row
        for row in stood["attendance"]
    ]
    return stood
