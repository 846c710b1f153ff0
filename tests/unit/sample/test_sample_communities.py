"""The communities are believable: sizes, habits, seasons, and every level in every organisation."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from engagement_pipeline.sample import generate
from engagement_pipeline.sample.phrases import STATUS_SPELLINGS

TABLES = {
    "organizations",
    "memberships",
    "profiles",
    "profile_updates",
    "events",
    "attendance",
    "event_views",
    "notifications",
    "notification_reads",
    "interactions",
    "preferences",
    "override_requests",
    "org_settings",
    "erasure_requests",
}
LEVELS = {"highly_engaged", "new", "moderate", "inactive", "at_risk"}
DEFAULTS = {
    "highly_engaged_min": 3,
    "moderate_min": 1,
    "new_member_days": 60,
    "inactive_days": 180,
}
CAME = ["attended", "partial", *STATUS_SPELLINGS["attended"], *STATUS_SPELLINGS["partial"]]

Tables = dict[str, pl.DataFrame]


@pytest.fixture(scope="session")
def orgs(tables: Tables) -> dict[str, str]:
    """Time zone by organisation."""
    known = tables["organizations"].drop_nulls("org_id")
    return dict(known.select("org_id", "timezone").iter_rows())


@pytest.fixture(scope="session")
def members(tables: Tables, as_of: datetime) -> pl.DataFrame:
    """Memberships that a careful reader takes and that hold at `as_of`."""
    return current_members(tables, as_of)


def current_members(tables: Tables, as_of: datetime) -> pl.DataFrame:
    known = tables["organizations"]["org_id"].drop_nulls().to_list()
    return (
        tables["memberships"]
        .filter(
            pl.col("org_id").is_in(known),
            pl.col("joined_at") <= as_of,
            pl.col("user_id").str.len_chars() <= 256,
            pl.col("role").is_null() | pl.col("role").is_in(["member", "admin"]),
            pl.col("left_at").is_null() | (pl.col("left_at") > as_of),
        )
        .unique(["org_id", "user_id"])
    )


def test_every_input_table_is_there_and_has_rows(tables: Tables) -> None:
    assert set(tables) == TABLES
    assert all(frame.height > 0 for frame in tables.values())


def test_the_whole_sample_has_between_60_and_120_thousand_rows(tables: Tables) -> None:
    assert 60_000 <= sum(frame.height for frame in tables.values()) <= 120_000


def test_about_fifteen_hundred_members_in_six_organisations_of_six_zones(
    members: pl.DataFrame, orgs: dict[str, str]
) -> None:
    assert 1_300 <= members.height <= 1_700
    assert members["org_id"].n_unique() == len(orgs) == len(set(orgs.values())) == 6
    assert members.filter(pl.col("role") == "admin")["org_id"].n_unique() == len(orgs)


def test_some_people_are_in_two_organisations_and_some_have_left(
    tables: Tables, members: pl.DataFrame
) -> None:
    per_user = members.group_by("user_id").len()
    assert per_user.filter(pl.col("len") > 1).height >= 20
    assert tables["memberships"]["left_at"].drop_nulls().len() >= 30


@pytest.mark.parametrize(
    ("as_of", "seed"),
    [
        (datetime(2026, 1, 1, 4, tzinfo=UTC), 20260101),
        (datetime(2025, 3, 3, 0, 0, 0, 1, tzinfo=UTC), 1),
        (datetime(2026, 9, 10, 13, tzinfo=UTC), 2),
        (datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC), 3),
    ],
)
def test_every_level_occurs_in_every_organisation_whatever_the_season(
    as_of: datetime, seed: int
) -> None:
    found = levels(parsed(generate(as_of, seed)), as_of)
    assert len(found) == 6
    for org_id, counts in found.items():
        assert set(counts) == LEVELS, (org_id, counts)
        assert max(counts.values()) < 0.65 * counts.total(), (org_id, counts)
        assert min(counts.values()) >= 4, (org_id, counts)


def test_some_members_come_very_often_and_some_never_did_anything(
    tables: Tables, members: pl.DataFrame, as_of: datetime
) -> None:
    per_member = came(tables, as_of).group_by("org_id", "user_id").len()
    recent = came(tables, as_of, 90).group_by("org_id", "user_id").len()
    assert recent["len"].max() >= 15  # type: ignore[operator]
    never = members.join(per_member, on=["org_id", "user_id"], how="anti")
    assert never.height >= 100
    assert never.join(tables["interactions"], on="user_id", how="anti").height >= 50


def test_some_members_drifted_away_and_some_came_back(
    tables: Tables, members: pl.DataFrame, as_of: datetime
) -> None:
    gone, back = 0, 0
    key = ["org_id", "user_id"]
    # Who left is gone for another reason.
    stayed = came(tables, as_of).join(members, on=key, how="semi")
    visits = stayed.sort("at").group_by(key).agg("at")
    for moments in visits["at"].to_list():
        # Five visits within four months are a habit; what comes seldom anyway makes no gap.
        habits = [
            later
            for first, later in zip(moments, moments[4:], strict=False)
            if later - first < timedelta(days=120)
        ]
        breaks = {
            earlier for earlier, later in pairwise(moments) if later - earlier > timedelta(days=130)
        }
        gone += moments[-1] in habits and as_of - moments[-1] > timedelta(days=150)
        back += bool(breaks & set(habits)) and as_of - moments[-1] < timedelta(days=60)
    assert gone >= 50
    assert back >= 50


def test_most_events_begin_in_the_local_evening_and_none_at_christmas(
    tables: Tables, orgs: dict[str, str]
) -> None:
    evenings, starts = 0, 0
    for org_id, starts_at in tables["events"].select("org_id", "starts_at").iter_rows():
        if org_id not in orgs or starts_at is None:
            continue
        local = starts_at.astimezone(ZoneInfo(orgs[org_id]))
        starts += 1
        evenings += 16 <= local.hour <= 20
        assert not (local.month == 12 and local.day > 20)
    assert evenings / starts > 0.7


def test_each_organisation_has_an_annual_gala_that_draws_more_than_usual(
    tables: Tables, orgs: dict[str, str], as_of: datetime
) -> None:
    people = came(tables, as_of).group_by("event_id").len()
    events = (
        tables["events"]
        .join(people, on="event_id", how="left")
        .with_columns(pl.col("len").fill_null(0), is_gala=pl.col("title").str.contains(r" 20\d\d$"))
    )
    past = events.filter(pl.col("starts_at") < as_of, pl.col("org_id").is_in(list(orgs)))
    for org_id in orgs:
        own = past.filter(org_id=org_id)
        gala, usual = own.filter("is_gala"), own.filter(~pl.col("is_gala"))
        assert gala.height == 2
        assert gala["len"].mean() > 1.4 * usual["len"].mean()  # type: ignore[operator]


def test_statuses_come_in_all_kinds_and_several_spellings(tables: Tables) -> None:
    spelled = set(tables["attendance"]["status"].drop_nulls())
    assert set(STATUS_SPELLINGS) <= spelled
    assert {"yes", "No Show", "checked-in"} <= spelled


def test_answers_come_after_the_sign_up(tables: Tables) -> None:
    answered = tables["attendance"].drop_nulls(["created_at", "responded_at"])
    in_order = answered.filter(pl.col("responded_at") > pl.col("created_at"))
    # The planted future `created_at` are the exception.
    assert answered.height * 0.99 < in_order.height


def test_people_have_signed_up_for_events_to_come(tables: Tables, as_of: datetime) -> None:
    ahead = tables["events"].filter(pl.col("starts_at") > as_of)
    assert tables["attendance"].join(ahead, on="event_id", how="semi").height >= 50


def test_some_attendance_is_of_people_who_are_no_members(tables: Tables) -> None:
    known = tables["memberships"].select("org_id", "user_id")
    guests = tables["attendance"].join(known, on=["org_id", "user_id"], how="anti")
    assert guests.drop_nulls("user_id").height >= 30


def test_notifications_have_several_features_with_and_without_an_organisation(
    tables: Tables,
) -> None:
    sent = tables["notifications"]
    assert sent["feature"].drop_nulls().n_unique() >= 4
    assert 0.02 < sent["org_id"].null_count() / sent.height < 0.5
    reads = tables["notification_reads"].group_by("notification_id").len()
    assert reads.filter(pl.col("len") > 1).height >= 200


def test_requests_to_be_erased_are_at_most_two_and_of_people_in_the_data(tables: Tables) -> None:
    requests = tables["erasure_requests"]
    assert 1 <= requests.height <= 2
    assert requests.join(tables["memberships"], on="user_id", how="anti").is_empty()


def test_one_file_has_one_column_that_no_reader_knows(tables: Tables) -> None:
    assert tables["events"].columns[-1] == "venue"


def test_names_are_of_many_scripts_and_none_looks_like_an_address(tables: Tables) -> None:
    names = tables["profiles"]["display_name"].drop_nulls()
    assert names.n_unique() > 500
    assert names.str.contains(r"[^\x00-\x7F]").mean() > 0.3  # type: ignore[operator]
    assert not names.str.contains("@").any()


def parsed(frames: Tables) -> Tables:
    """Frames with their times as instants; a broken time is null."""
    return {
        table: frame.with_columns(
            pl.col(name).str.to_datetime(time_zone="UTC", time_unit="us", strict=False)
            for name, dtype in frame.schema.items()
            if name.endswith("_at") and dtype == pl.String
        )
        for table, frame in frames.items()
    }


def came(tables: Tables, as_of: datetime, window_days: int = 10_000) -> pl.DataFrame:
    """Attendance that counts, each (event, member) once, with `at` when it happened."""
    rows = (
        tables["attendance"]
        .drop_nulls("created_at")
        .with_columns(at=pl.coalesce("responded_at", "created_at"))
        .sort("at")
        .unique(["org_id", "event_id", "user_id"], keep="last", maintain_order=True)
    )
    since = as_of - timedelta(days=window_days)
    return rows.filter(pl.col("status").is_in(CAME), pl.col("at") <= as_of, pl.col("at") > since)


def levels(tables: Tables, as_of: datetime) -> dict[str, Counter[str]]:
    """Baseline levels by organisation, from attendance, sign-ups and talk (no reads)."""
    thresholds: dict[str, dict[str, int]] = {}
    for org_id, setting, value in tables["org_settings"].iter_rows():
        thresholds.setdefault(org_id, dict(DEFAULTS))[setting] = int(value)
    key = ["org_id", "user_id"]
    attended = came(tables, as_of, 90).group_by(key).agg(attended=pl.len())
    activity = pl.concat(
        [
            came(tables, as_of).select(*key, "at"),
            tables["attendance"].select(*key, at="created_at"),
            tables["interactions"].select(*key, at="sent_at"),
        ]
    ).filter(pl.col("at") <= as_of)
    last = activity.group_by(key).agg(pl.col("at").max())
    rows = current_members(tables, as_of).join(attended, on=key, how="left")
    rows = rows.join(last, on=key, how="left")
    found: dict[str, Counter[str]] = {}
    for row in rows.iter_rows(named=True):
        rule = thresholds.get(row["org_id"], DEFAULTS)
        idle_days = (as_of - (row["at"] or row["joined_at"])).days
        found.setdefault(row["org_id"], Counter())[
            "highly_engaged"
            if (row["attended"] or 0) >= rule["highly_engaged_min"]
            else "new"
            if (as_of - row["joined_at"]).days < rule["new_member_days"]
            else "moderate"
            if (row["attended"] or 0) >= rule["moderate_min"]
            else "inactive"
            if idle_days >= rule["inactive_days"]
            else "at_risk"
        ] += 1
    return found
