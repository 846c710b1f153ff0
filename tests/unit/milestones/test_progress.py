"""How far members are, against plain loops over random histories, and limit by limit."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.milestones.catalogue import WINDOWED_METRICS, InvalidCatalogueError
from engagement_pipeline.milestones.progress import progress
from tests.unit.milestones.plain import COUNTS, progress_of

AS_OF = datetime(2026, 4, 5, 3, 17, tzinfo=UTC)  # Sunday; in New York still Saturday
DAY = timedelta(days=1)
TODAY = AS_OF.date()
DAYS = contract("milestones.daily").polars_schema
CATALOGUE = contract("milestones.catalogue").polars_schema
PROGRESS = contract("milestones.progress").polars_schema
INSTANT = PROGRESS["as_of"]
MEMBERS = {"org_id": pl.String, "user_id": pl.String, "joined_at": INSTANT, "timezone": pl.String}
PREVIOUS = {
    name: PROGRESS[name]
    for name in ("org_id", "user_id", "milestone_id", "reached_at", "celebrated_at")
}
ADA = {
    "org_id": "choir",
    "user_id": "ada",
    "joined_at": AS_OF - 1_000 * DAY,
    "timezone": "UTC",
}


def found(days, catalogue, members=(ADA,), previous=(), *, as_of=AS_OF):
    return progress(
        pl.DataFrame(list(days), schema=DAYS),
        pl.DataFrame(list(catalogue), schema=CATALOGUE),
        pl.DataFrame(list(members), schema=MEMBERS),
        pl.DataFrame(list(previous), schema=PREVIOUS),
        as_of=as_of,
    )


def wanted(metric, target, window_days=None, *, milestone_id="a"):
    return {
        "milestone_id": milestone_id,
        "name": f"Milestone {milestone_id}",
        "description": "Do it.",
        "category": "special",
        "difficulty": 1,
        "points": 10,
        "metric": metric,
        "target": target,
        "window_days": window_days,
        "seeded_at": AS_OF,
    }


def on(day, **counts):
    row = {"org_id": "choir", "user_id": "ada", "day": day, **dict.fromkeys(COUNTS, 0)}
    return row | {"interactions": 1, "mean_quality": None, "mean_sentiment": None} | counts


def ago(*days_ago):
    return [on(TODAY - n * DAY) for n in days_ago]


def reached(milestone_id="a", *, reached_at, celebrated_at=None):
    return {
        "org_id": "choir",
        "user_id": "ada",
        "milestone_id": milestone_id,
        "reached_at": reached_at,
        "celebrated_at": celebrated_at,
    }


def ada(days, metric, target, window_days=None, **given_):
    """The one row of a member with these days."""
    (row,) = found(days, [wanted(metric, target, window_days)], **given_).to_dicts()
    return row


# --- Against plain loops.

ZONES = st.sampled_from(["UTC", "America/New_York", "Pacific/Kiritimati", "Africa/Cairo", None])
USERS, ORGS = st.sampled_from(["ada", "bo"]), st.sampled_from(["choir", "garden"])
SHARES = st.none() | st.sampled_from([0.0, 0.05, 0.3, 0.6999, 0.7, 1.0])
HISTORIES = st.lists(
    st.fixed_dictionaries(
        {
            "org_id": ORGS,
            "user_id": USERS,
            # Enough days close together for streaks; also before the clocks' change, and tomorrow.
            "day": st.integers(-2, 16).map(lambda n: TODAY - n * DAY)
            | st.integers(30, 50).map(lambda n: TODAY - n * DAY),
            **{name: st.integers(0, 3) for name in COUNTS},
            "mean_quality": SHARES,
            "mean_sentiment": SHARES,
        }
    ),
    max_size=40,
    unique_by=lambda row: (row["org_id"], row["user_id"], row["day"]),
)
PEOPLE = st.lists(
    st.fixed_dictionaries(
        {
            "org_id": ORGS,
            "user_id": USERS,
            "joined_at": st.integers(-50, 1_000_000).map(
                lambda n: AS_OF - n * timedelta(hours=0.2)
            ),
            "timezone": ZONES,
        }
    ),
    min_size=1,
    unique_by=lambda row: (row["org_id"], row["user_id"]),
)
MILESTONES = st.lists(
    st.tuples(
        st.sampled_from(vocabulary.MILESTONE_METRICS),
        st.integers(1, 8),
        st.none() | st.integers(8, 30),
    ),
    min_size=1,
    max_size=6,
).map(
    lambda rows: [
        wanted(metric, target, window if metric in WINDOWED_METRICS else None, milestone_id=f"m{n}")
        for n, (metric, target, window) in enumerate(rows)
    ]
)
INSTANTS = st.integers(-3, 400).map(lambda n: AS_OF - n * DAY)
BEFORE = st.lists(
    st.builds(
        reached,
        st.sampled_from(["m0", "m1", "gone"]),
        reached_at=INSTANTS,
        celebrated_at=st.none() | INSTANTS,
    ),
    unique_by=lambda row: row["milestone_id"],
)


@given(HISTORIES, MILESTONES, PEOPLE, BEFORE)
def test_progress_is_that_of_plain_loops(days, catalogue, people, before):
    expected = progress_of(days, catalogue, people, before, AS_OF)
    rows = found(days, catalogue, people, before).to_dicts()
    for row, plain in zip(rows, expected, strict=True):
        assert row == plain | {
            name: pytest.approx(plain[name]) for name in ("share", "velocity_per_day")
        }


def test_every_metric_is_that_of_plain_loops_on_a_long_history():
    days = [
        on(
            TODAY - n * DAY,
            **{name: n * k % 17 // 4 for k, name in enumerate(COUNTS, 1)},
            mean_quality=(n % 11) / 10,
            mean_sentiment=(n % 7) / 10 - 0.3,
        )
        for n in range(160)
        if n % 13 and not 60 < n < 75
    ]
    catalogue = [
        wanted(metric, target, window, milestone_id=f"{metric}-{target}-{window}")
        for metric in vocabulary.MILESTONE_METRICS
        for target in (2, 8)
        for window in (None, 9, 60)
        if window is None or metric in WINDOWED_METRICS
    ]
    rows = found(days, catalogue).to_dicts()
    expected = progress_of(days, catalogue, [ADA], [], AS_OF)
    assert [row | {"velocity_per_day": round(row["velocity_per_day"], 9)} for row in rows] == [
        row | {"velocity_per_day": round(row["velocity_per_day"], 9)} for row in expected
    ]
    assert {row["milestone_id"].split("-")[0] for row in rows} == set(vocabulary.MILESTONE_METRICS)


@hypothesis_settings(max_examples=15)
@given(HISTORIES, MILESTONES, PEOPLE, BEFORE, st.randoms(use_true_random=False))
def test_progress_does_not_depend_on_the_order_of_rows(days, catalogue, people, before, dice):
    shuffled = [dice.sample(rows, len(rows)) for rows in (days, catalogue, people, before)]
    assert found(*shuffled).equals(found(days, catalogue, people, before))


@hypothesis_settings(max_examples=15)
@given(HISTORIES, HISTORIES, MILESTONES, PEOPLE)
def test_what_was_reached_stays_so_whatever_comes_of_the_days(days, others, catalogue, people):
    first = found(days, catalogue, people)
    was = first.filter(pl.col("reached_at").is_not_null())
    later = found(others, catalogue, people, was.select(*PREVIOUS).to_dicts(), as_of=AS_OF + DAY)
    now = was.join(later, on=["org_id", "user_id", "milestone_id"], how="left", suffix="_now")
    assert (now["reached_at_now"] <= now["reached_at"]).all()
    assert (now["share_now"] == 1.0).all()
    assert now["estimated_at_now"].null_count() == now.height
    assert later["share"].is_between(0.0, 1.0).all()


@hypothesis_settings(max_examples=15)
@given(HISTORIES, HISTORIES, MILESTONES, PEOPLE)
def test_late_rows_only_move_a_milestone_to_an_earlier_moment(days, late, catalogue, people):
    key = ("org_id", "user_id", "day")
    merged = {tuple(row[n] for n in key): row for row in days}
    for row in late:
        before = merged.get(tuple(row[n] for n in key))
        if before is None:
            merged[tuple(row[n] for n in key)] = row
        else:
            merged[tuple(row[n] for n in key)] = before | {
                name: before[name] + row[name] for name in COUNTS
            }
    # The mean of a day may fall by what is said later; what is counted only grows.
    counted = [m for m in catalogue if m["metric"] not in ("quality_days", "positive_days")]
    rows = found(days, counted, people)
    was = rows.filter(pl.col("reached_at").is_not_null())
    now = found(list(merged.values()), counted, people)
    both = was.join(now, on=["org_id", "user_id", "milestone_id"], how="left", suffix="_now")
    assert (both["reached_at_now"] <= both["reached_at"]).all()


# --- Streaks.


def test_a_streak_is_of_days_one_after_another():
    assert ada(ago(0, 1, 2, 4, 5, 6, 7), "longest_streak_days", 7)["current"] == 4
    assert ada(ago(0, 2, 4, 6), "longest_streak_days", 7)["current"] == 1
    row = ada(ago(1, 2, 3, 4, 5, 6, 7), "longest_streak_days", 7)
    assert (row["share"], row["reached_at"].date()) == (1.0, TODAY)


def test_days_of_two_people_make_no_streak():
    # The other's begin on the very next day.
    others = [row | {"user_id": "bo"} for row in ago(0, 1, 2)]
    bo = ADA | {"user_id": "bo"}
    rows = found([*ago(3, 4, 5), *others], [wanted("longest_streak_days", 6)], [ADA, bo])
    assert rows["current"].to_list() == [3, 3]


def test_a_streak_that_the_window_has_passed_halfway_counts_what_is_left():
    row = ada(ago(*range(6, 14)), "longest_streak_days", 9, 10)
    assert row["current"] == 4
    assert ada(ago(*range(10, 14)), "longest_streak_days", 4, 10)["current"] == 0


def test_a_weekly_streak_outlasts_a_week_that_is_not_over_and_no_more():
    monday = TODAY - 6 * DAY
    weeks = [on(monday - 7 * n * DAY) for n in range(1, 5)]
    assert ada(weeks, "weekly_streak_weeks", 8)["current"] == 4
    assert ada([on(TODAY), *weeks], "weekly_streak_weeks", 8)["current"] == 5
    # Two weeks ago was the last: it is over, and only that it was reached remains.
    row = ada(weeks[1:], "weekly_streak_weeks", 3)
    assert (row["current"], row["share"]) == (0, 1.0)


def test_weeks_begin_on_monday_also_over_new_year():
    sunday, monday = date(2025, 12, 28), date(2025, 12, 29)
    assert ada([on(sunday), on(monday)], "weekly_streak_weeks", 2)["reached_at"] == datetime(
        2025, 12, 30, tzinfo=UTC
    )
    assert found([on(monday), on(monday + 6 * DAY)], [wanted("weekly_streak_weeks", 2)]).is_empty()


# --- When it is reached.


def test_a_milestone_is_reached_at_the_end_of_the_local_day():
    zoned = [ADA | {"timezone": "America/New_York"}]
    days = [on(date(2026, 3, 8), messages=2), on(date(2026, 3, 9), messages=2)]
    # The clocks there went forward on the 8th.
    row = ada(days, "messages", 2, members=zoned)
    assert row["reached_at"] == datetime(2026, 3, 9, 4, tzinfo=UTC)
    row = ada(days, "messages", 3, members=zoned)
    assert row["reached_at"] == datetime(2026, 3, 10, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "ends_at"),
    [
        # Midnight was left out, was there twice, and a whole day was left out.
        ("America/Sao_Paulo", date(2018, 11, 3), datetime(2018, 11, 4, 3, tzinfo=UTC)),
        ("America/Havana", date(2025, 11, 1), datetime(2025, 11, 2, 4, tzinfo=UTC)),
        ("Pacific/Apia", date(2011, 12, 29), datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ],
)
def test_a_day_ends_where_the_next_begins_however_the_clocks_go(zone, day, ends_at):
    members = [ADA | {"timezone": zone}]
    assert ada([on(day, messages=1)], "messages", 1, members=members)["reached_at"] == ends_at


def test_what_is_reached_today_is_reached_now():
    assert ada([on(TODAY, messages=1)], "messages", 1)["reached_at"] == AS_OF


def test_a_day_that_the_person_has_not_come_to_is_not_counted():
    zoned = [ADA | {"timezone": "America/New_York"}]
    assert found([on(TODAY)], [wanted("messages", 1)], zoned).is_empty()
    assert ada([on(TODAY - DAY, messages=1)], "messages", 1, members=zoned)["reached_at"] == AS_OF


def test_the_earlier_of_what_was_stored_and_what_is_found_holds():
    days = [on(TODAY - 3 * DAY, messages=1)]
    end = datetime(2026, 4, 3, tzinfo=UTC)
    for stored, holds in [(end - DAY, end - DAY), (end + DAY, end)]:
        row = ada(days, "messages", 1, previous=[reached(reached_at=stored)])
        assert row["reached_at"] == holds


def test_what_was_reached_and_celebrated_is_kept_also_where_nothing_is_left_of_it():
    moments = {"reached_at": AS_OF - 90 * DAY, "celebrated_at": AS_OF - 89 * DAY}
    row = ada([], "active_days", 5, 30, previous=[reached(**moments)])
    assert (row["current"], row["share"], row["estimated_at"]) == (0, 1.0, None)
    assert {name: row[name] for name in moments} == moments


def test_a_window_counts_its_last_days_and_remembers_what_was_reached_in_it():
    # Three within four days, three weeks ago; never three in four days since.
    days = ago(2, 20, 21, 23)
    row = ada(days, "active_days", 3, 4)
    assert (row["current"], row["reached_at"].date()) == (1, TODAY - 19 * DAY)
    assert ada(days, "active_days", 3, 3)["reached_at"] is None


def test_membership_is_reached_to_the_microsecond():
    joined_at = AS_OF - 7 * DAY
    member = ADA | {"joined_at": joined_at}
    row = ada([], "days_since_joined", 7, members=[member])
    assert (row["current"], row["reached_at"]) == (7, AS_OF)
    later = member | {"joined_at": joined_at + timedelta(microseconds=1)}
    row = ada([], "days_since_joined", 7, members=[later])
    assert (row["current"], row["reached_at"]) == (6, None)
    # On the very day, not a day later as whole days would have it.
    assert (row["estimated_at"], row["velocity_per_day"]) == (AS_OF.date(), 1.0)


def test_who_just_joined_has_no_row_yet():
    comes = ADA | {"joined_at": AS_OF - DAY + timedelta(microseconds=1)}
    assert found([], [wanted("days_since_joined", 1)], [comes]).is_empty()


# --- The pace.


def test_the_pace_is_what_came_in_the_last_fourteen_days():
    days = [on(TODAY - 14 * DAY, messages=50), on(TODAY - 13 * DAY, messages=7)]
    row = ada(days, "messages", 60)
    assert (row["current"], row["velocity_per_day"]) == (57, 0.5)
    assert row["estimated_at"] == TODAY + 6 * DAY
    assert ada(days, "messages", 58)["estimated_at"] == TODAY + 2 * DAY


def test_nothing_is_foreseen_without_a_pace_or_in_more_than_ten_years():
    row = ada([on(TODAY - 14 * DAY, messages=50)], "messages", 60)
    assert (row["velocity_per_day"], row["estimated_at"]) == (0.0, None)
    days = [on(TODAY, messages=14)]
    assert ada(days, "messages", 14 + 3_652)["estimated_at"] == TODAY + 3_652 * DAY
    assert ada(days, "messages", 14 + 3_653)["estimated_at"] is None
    assert ada(days, "messages", 2**62)["estimated_at"] is None


def test_who_falls_back_in_a_window_has_no_pace():
    fallen = ada(ago(*range(20, 30), 1), "active_days", 12, 25)
    assert (fallen["current"], fallen["velocity_per_day"], fallen["estimated_at"]) == (6, 0.0, None)


# --- Who has rows.


def test_only_members_have_rows_and_only_of_what_they_have_anything_of():
    bo = ADA | {"user_id": "bo"}
    catalogue = [wanted("messages", 3), wanted("events_attended", 1, milestone_id="b")]
    rows = found([on(TODAY, messages=1)], catalogue, [bo, ADA])
    assert rows.select("user_id", "milestone_id").rows() == [("ada", "a")]
    assert found([on(TODAY, messages=1)], catalogue, [bo]).is_empty()


def test_a_milestone_that_is_none_any_more_has_no_rows():
    before = [reached("gone", reached_at=AS_OF)]
    assert found([], [wanted("messages", 1)], previous=before).is_empty()


def test_unknown_quality_and_sentiment_make_no_good_day():
    days = [on(TODAY, mean_quality=0.7, mean_sentiment=0.05), on(TODAY - DAY)]
    for metric in ("quality_days", "positive_days"):
        assert ada(days, metric, 2)["current"] == 1


def test_no_milestones_and_no_members_give_an_empty_table_of_the_right_shape():
    assert found([], []).schema == PROGRESS
    assert found(ago(1), [wanted("messages", 1)], []).schema == PROGRESS


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (wanted("weekly_streak_weeks", 2, 30), "a: window_days: weekly_streak_weeks are counted"),
        (wanted("messages", 0), "a: target: expected at least 1, found 0"),
        (wanted("active_days", 8, 7), "a: target: expected at most the 7 days of its window"),
    ],
)
def test_a_milestone_that_cannot_be_counted_is_named(row, told):
    with pytest.raises(InvalidCatalogueError, match=told):
        found([], [row])


def test_a_moment_without_a_zone_and_a_column_that_is_missing_are_refused():
    with pytest.raises(ValueError, match="as_of must have a time zone"):
        found([], [], as_of=AS_OF.replace(tzinfo=None))
    frames = [pl.DataFrame(schema=schema) for schema in (DAYS, CATALOGUE, MEMBERS, PREVIOUS)]
    with pytest.raises(ValueError, match=r"expected the columns .*'celebrated_at'"):
        progress(*frames[:3], frames[3].drop("celebrated_at"), as_of=AS_OF)
