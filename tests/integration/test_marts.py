"""The marts against plain Python that says the same in another way."""

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import sqrt
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.contracts import contract, contracts, vocabulary
from engagement_pipeline.warehouse.frames import read_table
from engagement_pipeline.warehouse.publication import Publication
from engagement_pipeline.warehouse.published import open_published

Row = dict[str, Any]
Build = Callable[..., Publication]

SHOWN = datetime(2026, 3, 25, 4, tzinfo=UTC)
COMPUTED_AT = SHOWN + timedelta(minutes=30)
DECIDED_AT = SHOWN + timedelta(hours=6)
SEEDS = (1, 2, 3)
FEW = 7
GONE = "gone"


@pytest.fixture(scope="session", params=[*SEEDS, "decided since"])
def world(request: pytest.FixtureRequest, make_seeded_world: Callable[..., Any]) -> Any:
    if request.param == "decided since":
        return make_seeded_world(6, is_decided_since=True)
    return make_seeded_world(request.param)


@pytest.fixture(scope="session")
def marts(world: Any, build_marts: Build) -> dict[str, list[Row]]:
    return read_marts(build_marts(world))


def read_marts(publication: Publication) -> dict[str, list[Row]]:
    with open_published(publication.path) as connection:
        return {
            mart.full_name: read_table(connection, contract(mart.full_name)).rows(named=True)
            for mart in publication.marts
        }


# --- what should be there -----------------------------------------------------------------------


def override_at(world: Any, member: tuple[str, str], moment: datetime) -> Row | None:
    """The override in force: time is played forward over every change and every expiry."""
    own = [
        row
        for row in world.rows("scores.override_history")
        if (row["org_id"], row["user_id"]) == member and row["action"] != "expire"
    ]
    holding: Row | None = None
    for row in sorted(own, key=lambda r: (r["performed_at"], r["request_id"])):
        if row["performed_at"] > moment:
            break
        holding = row if row["action"] == "override" else None
    if holding and holding["expires_at"] is not None and holding["expires_at"] <= moment:
        return None
    return holding


def overrides_at(world: Any) -> datetime:
    """When the current overrides are judged: at the last decision that the run did not know."""
    run = max(world.rows("scores.scoring_runs"), key=lambda r: r["run_number"])
    moment: datetime = run["as_of"]
    for row in world.rows("scores.override_history"):
        is_since = row["action"] != "expire" and row["recorded_at"] > run["computed_at"]
        if is_since and row["recorded_at"] > moment:
            moment = row["recorded_at"]
    return moment


def orgs(world: Any) -> dict[str, str]:
    return {row["org_id"]: row["name"] for row in world.rows("raw.organizations")}


def labels(world: Any) -> list[Row]:
    """The labels that the marts may know of."""
    return [
        row
        for row in world.rows("scores.classifications")
        if row["as_of"] <= world.shown and row["org_id"] in orgs(world)
    ]


def effective(world: Any, label: Row, moment: datetime) -> str:
    override = override_at(world, (label["org_id"], label["user_id"]), moment)
    return override["new_level"] if override else label["level"]


def scored_moments(world: Any) -> dict[str, list[datetime]]:
    found: dict[str, set[datetime]] = defaultdict(set)
    for row in world.rows("scores.org_runs"):
        if row["outcome"] == "classified" and row["as_of"] <= world.shown:
            found[row["org_id"]].add(row["as_of"])
    return {org_id: sorted(moments) for org_id, moments in found.items()}


def current_labels(world: Any) -> list[Row]:
    last = {org_id: moments[-1] for org_id, moments in scored_moments(world).items()}
    return [row for row in labels(world) if row["as_of"] == last[row["org_id"]]]


def wilson(k: int, n: int) -> tuple[float, float]:
    """The roots p of |k/n - p| = z sqrt(p (1 - p) / n), found by halving."""
    z = 1.959963984540054

    def root(outer: float) -> float:
        inner = k / n
        for _ in range(200):
            middle = (inner + outer) / 2
            is_inside = abs(k / n - middle) <= z * sqrt(middle * (1 - middle) / n)
            inner, outer = (middle, outer) if is_inside else (inner, middle)
        return inner

    return root(0.0), root(1.0)


# --- member_engagement and engagement_history ---------------------------------------------------


def test_every_current_member_is_shown_once_with_the_override_in_force(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    shown = {(r["org_id"], r["user_id"]): r for r in marts["marts.member_engagement"]}
    expected = current_labels(world)
    assert len(shown) == len(marts["marts.member_engagement"]) == len(expected)
    overridden = 0
    for label in expected:
        member = (label["org_id"], label["user_id"])
        row, override = shown[member], override_at(world, member, overrides_at(world))
        overridden += override is not None
        effective_level = override["new_level"] if override else label["level"]
        assert row["effective_level"] == effective_level
        assert row["user_label"] == vocabulary.USER_LABELS[effective_level]
        assert row["is_overridden"] == (override is not None)
        source = override or dict.fromkeys(
            ("new_level", "notes", "performed_by", "performed_at", "expires_at")
        )
        assert row["override_level"] == source["new_level"]
        assert row["override_notes"] == source["notes"]
        assert row["overridden_by"] == source["performed_by"]
        assert row["overridden_at"] == source["performed_at"]
        assert row["override_expires_at"] == source["expires_at"]
        assert row["computed_level"] == label["level"]
        assert row["org_name"] == orgs(world)[member[0]]
        kept = set(contract("marts.member_engagement").column_names) & set(label)
        kept -= {"level", "flag_severity"}
        assert {name: row[name] for name in kept} == {name: label[name] for name in kept}
    assert overridden > 5


def test_names_come_from_profiles_and_may_be_missing(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    names = {row["user_id"]: row["display_name"] for row in world.rows("raw.profiles")}
    rows = marts["marts.member_engagement"]
    assert {r["display_name"] for r in rows} > {None}
    assert all(row["display_name"] == names.get(row["user_id"]) for row in rows)


def test_an_override_is_stale_only_past_90_days_and_without_an_end(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    limit = overrides_at(world) - timedelta(days=90)
    for row in marts["marts.member_engagement"]:
        is_stale = (
            row["is_overridden"]
            and row["override_expires_at"] is None
            and row["overridden_at"] < limit
        )
        assert row["is_stale_override"] == is_stale
    limits = {r["overridden_at"] for r in marts["marts.member_engagement"]}
    assert limits >= {limit, limit - timedelta(microseconds=1)}


def test_a_failed_organisation_keeps_its_last_good_labels_and_an_emptied_one_none(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    moments = {row["org_id"]: row["as_of"] for row in marts["marts.member_engagement"]}
    assert moments["failed"] == scored_moments(world)["failed"][-1] < world.shown
    assert moments["steady"] == world.shown
    assert "emptied" not in moments
    assert GONE not in moments


def test_history_has_every_known_label_with_the_override_of_its_own_moment(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    found = {
        (r["org_id"], r["user_id"], r["as_of"]): (
            r["effective_level"],
            r["computed_level"],
            r["baseline_level"],
            r["is_overridden"],
            r["source"],
        )
        for r in marts["marts.engagement_history"]
    }
    expected = {
        (r["org_id"], r["user_id"], r["as_of"]): (
            effective(world, r, r["as_of"]),
            r["level"],
            r["baseline_level"],
            override_at(world, (r["org_id"], r["user_id"]), r["as_of"]) is not None,
            r["source"],
        )
        for r in labels(world)
    }
    assert found == expected
    assert len(marts["marts.engagement_history"]) == len(expected)


MEMBER = ("steady", "user-0")
HOUR = timedelta(hours=1)


def decision(
    action: str,
    performed_at: datetime,
    recorded_at: datetime,
    *,
    member: tuple[str, str] = MEMBER,
    expires_at: datetime | None = None,
) -> Row:
    """A row of the history."""
    return {
        "org_id": member[0],
        "user_id": member[1],
        "new_level": "new" if action == "override" else None,
        "notes": "because",
        "action": action,
        "performed_by": "admin-1",
        "performed_at": performed_at,
        "expires_at": expires_at,
        "request_id": f"{member}-{performed_at}",
        "recorded_at": recorded_at,
    }


SET_BEFORE = decision("override", SHOWN - HOUR, COMPUTED_AT)
ENDS_SOON = decision("override", SHOWN - HOUR, COMPUTED_AT, expires_at=SHOWN + HOUR)
EXPIRY = decision("expire", SHOWN + HOUR, DECIDED_AT, expires_at=SHOWN + HOUR)
OF_ANOTHER = decision("override", DECIDED_AT, DECIDED_AT, member=("busy", "user-2"))
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("history", "is_shown", "is_in_history"),
    [
        ([decision("override", DECIDED_AT, DECIDED_AT)], True, False),
        ([decision("override", COMPUTED_AT + TICK, COMPUTED_AT + TICK)], True, False),
        ([decision("override", DECIDED_AT + TICK, DECIDED_AT)], False, False),
        ([decision("override", SHOWN + HOUR / 4, COMPUTED_AT)], False, False),
        ([decision("override", SHOWN + HOUR / 4, COMPUTED_AT), OF_ANOTHER], True, False),
        ([SET_BEFORE, decision("clear", DECIDED_AT, DECIDED_AT)], False, True),
        ([SET_BEFORE, decision("clear", SHOWN + HOUR / 4, COMPUTED_AT)], True, True),
        ([ENDS_SOON], True, True),
        ([ENDS_SOON, EXPIRY], True, True),
        ([ENDS_SOON, EXPIRY, OF_ANOTHER], False, True),
    ],
    ids=[
        "set since",
        "set just after the run",
        "set since for later",
        "known to the run, but later than its as_of",
        "known to the run, and another decided since",
        "cleared since",
        "cleared as the run knew, but later than its as_of",
        "not expired at as_of",
        "an expiry is no decision",
        "expired before the decision",
    ],
)
def test_a_decision_recorded_since_the_run_counts_at_once_and_leaves_history_alone(
    make_seeded_world: Callable[..., Any],
    build_marts: Build,
    history: list[Row],
    is_shown: bool,
    is_in_history: bool,
) -> None:
    world = make_seeded_world(FEW)
    world.tables["scores.override_history"] = history
    rows = read_marts(build_marts(world))
    by_member = {(r["org_id"], r["user_id"]): r for r in rows["marts.member_engagement"]}
    assert by_member[MEMBER]["is_overridden"] is is_shown
    assert is_shown is (override_at(world, MEMBER, overrides_at(world)) is not None)
    then = {(r["org_id"], r["user_id"], r["as_of"]): r for r in rows["marts.engagement_history"]}
    assert then[*MEMBER, SHOWN]["is_overridden"] is is_in_history
    steady = next(r for r in rows["marts.org_summary"] if r["org_id"] == "steady")
    members = [r for member, r in by_member.items() if member[0] == "steady"]
    assert steady["new_count"] == sum(r["effective_level"] == "new" for r in members)


@pytest.mark.parametrize(
    ("computed_at", "as_of", "is_shown"),
    [
        (DECIDED_AT + HOUR, SHOWN, False),
        (DECIDED_AT, SHOWN, False),
        (DECIDED_AT + HOUR, DECIDED_AT, True),
        # A run of a moment to come: what is recorded before that moment is judged at it.
        (DECIDED_AT - 2 * HOUR, DECIDED_AT + HOUR, True),
    ],
    ids=["later, of the same moment", "the run that recorded it", "of the decision", "of later"],
)
def test_the_next_run_shows_the_overrides_of_its_own_moment(
    make_seeded_world: Callable[..., Any],
    build_marts: Build,
    computed_at: datetime,
    as_of: datetime,
    is_shown: bool,
) -> None:
    world = make_seeded_world(FEW)
    recorded_at = DECIDED_AT - HOUR if computed_at < DECIDED_AT else DECIDED_AT
    world.tables["scores.override_history"] = [decision("override", DECIDED_AT, recorded_at)]
    last = max(world.rows("scores.scoring_runs"), key=lambda r: r["run_number"])
    world.rows("scores.scoring_runs").append(
        last
        | {
            "run_id": "next",
            "run_number": last["run_number"] + 1,
            "as_of": as_of,
            "computed_at": computed_at,
        }
    )
    world.shown = as_of
    rows = read_marts(build_marts(world))["marts.member_engagement"]
    (found,) = (r for r in rows if (r["org_id"], r["user_id"]) == MEMBER)
    assert found["is_overridden"] is is_shown


# --- level_transitions --------------------------------------------------------------------------


def test_a_member_moves_from_the_last_level_of_one_scored_week_to_that_of_the_next(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    by_member: dict[tuple[str, str], dict[Any, Row]] = defaultdict(dict)
    for label in sorted(labels(world), key=lambda r: r["as_of"]):
        day = label["as_of"].astimezone(UTC).date()
        monday = day - timedelta(days=day.weekday())
        by_member[label["org_id"], label["user_id"]][monday] = label
    expected: Counter[tuple[Any, ...]] = Counter()
    for (org_id, _), weeks in by_member.items():
        mondays = sorted(weeks)
        for before, after in pairwise(mondays):
            old, new = (effective(world, weeks[w], weeks[w]["as_of"]) for w in (before, after))
            if old != new:
                expected[org_id, old, new, after] += 1
    found = {
        (r["org_id"], r["from_level"], r["to_level"], r["week"]): r["members"]
        for r in marts["marts.level_transitions"]
    }
    assert found == dict(expected)


# --- org_summary --------------------------------------------------------------------------------


def test_every_organisation_is_summed_up_with_wilson_intervals(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    found = {row["org_id"]: row for row in marts["marts.org_summary"]}
    assert set(found) == set(orgs(world))
    moment = overrides_at(world)
    counts = Counter((r["org_id"], effective(world, r, moment)) for r in current_labels(world))
    for org_id, row in found.items():
        n = sum(counts[org_id, level] for level in vocabulary.LEVELS)
        assert row["members"] == n
        assert row["org_name"] == orgs(world)[org_id]
        assert row["as_of"] == scored_moments(world).get(org_id, [world.shown])[-1]
        for level in vocabulary.LEVELS:
            k = counts[org_id, level]
            assert row[f"{level}_count"] == k
            ends = (row[f"{level}_share_lower"], row[f"{level}_share_upper"])
            if n == 0:
                assert (row[f"{level}_share"], *ends) == (None, None, None)
            else:
                assert row[f"{level}_share"] == pytest.approx(k / n)
                assert ends == pytest.approx(wilson(k, n), abs=1e-9)
    assert found["emptied"]["members"] == found["never_scored"]["members"] == 0


@pytest.mark.parametrize("days", [7, 28])
def test_a_change_is_on_the_newest_scoring_that_is_old_enough_and_not_twice_as_old(
    world: Any, marts: dict[str, list[Row]], days: int
) -> None:
    counts: Counter[tuple[Any, ...]] = Counter(
        (r["org_id"], r["as_of"], effective(world, r, r["as_of"])) for r in labels(world)
    )
    known = 0
    for row in marts["marts.org_summary"]:
        org_id = row["org_id"]
        then = [
            moment
            for moment in scored_moments(world).get(org_id, [])
            if timedelta(days=days) <= row["as_of"] - moment <= timedelta(days=2 * days)
        ]
        known += bool(then)
        for level in vocabulary.LEVELS:
            expected = row[f"{level}_count"] - counts[org_id, then[-1], level] if then else None
            assert row[f"{level}_change_{days}d"] == expected
    assert 0 < known < len(marts["marts.org_summary"])


# --- attendance_daily ---------------------------------------------------------------------------


def test_a_day_of_attendance_counts_what_was_known_at_the_moment_shown(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    facts: dict[tuple[str, Any], list[tuple[str, str]]] = defaultdict(list)
    for row in world.rows("raw.attendance"):
        if row["org_id"] not in orgs(world) or row["created_at"] > world.shown:
            continue
        settled_at = row["responded_at"] or row["created_at"]
        is_settled = settled_at <= world.shown
        if not (is_settled and row["status"] in ("cancelled", "waitlisted")):
            day = row["created_at"].astimezone(UTC).date()
            facts[row["org_id"], day].append(("registered", row["user_id"]))
        column = {"attended": "attended", "partial": "attended", "no_show": "no_shows"}.get(
            row["status"]
        )
        if is_settled and column:
            day = settled_at.astimezone(UTC).date()
            facts[row["org_id"], day].append((column, row["user_id"]))
    expected = {
        place: {
            **{c: sum(f == c for f, _ in found) for c in ("registered", "attended", "no_shows")},
            "distinct_members": len({user_id for _, user_id in found}),
        }
        for place, found in facts.items()
    }
    rows = {(r.pop("org_id"), r.pop("day")): r for r in map(dict, marts["marts.attendance_daily"])}
    assert rows == expected


# --- data_quality -------------------------------------------------------------------------------


def test_data_quality_has_a_total_per_ingestion_and_a_row_per_reason(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    shown, later = world.shown, world.shown + timedelta(days=5)
    expected = {
        ("attendance", shown, None, 150, 140, 5, shown),
        ("attendance", shown, "unknown_status", 150, 140, 3, shown),
        ("attendance", shown, "missing_user_id", 150, 140, 2, shown),
        ("attendance", later, None, 8, 7, 1, shown - timedelta(days=1)),
        ("attendance", later, "found_later", 8, 7, 1, shown - timedelta(days=1)),
        ("interactions", shown, None, 10, 0, 10, None),
        ("interactions", shown, "unknown_type", 10, 0, 10, None),
        ("override_requests", later, None, 3, 0, 3, None),
        ("override_requests", later, "not_an_admin", 3, 0, 1, None),
        ("override_requests", later, "missing_notes", 3, 0, 2, None),
    }
    columns = ("table_name", "ingested_at", "reason", "rows_read", "rows_loaded")
    columns += ("rows_rejected", "newest_row_at")
    rows = marts["marts.data_quality"]
    assert {tuple(row[c] for c in columns) for row in rows} == expected
    assert len(rows) == len(expected)


# --- all of them --------------------------------------------------------------------------------


def test_before_the_first_scoring_only_what_needs_no_level_has_rows(
    make_seeded_world: Callable[[int], Any], build_marts: Build
) -> None:
    world = make_seeded_world(4)
    del world.tables["scores.scoring_runs"]
    del world.tables["loops.productions"]
    rows = {mart.full_name: mart.rows for mart in build_marts(world).marts}
    assert rows.pop("marts.data_quality") > 0
    assert rows.pop("marts.run_costs") == 3
    # What a value means can be said before anything was scored.
    assert rows.pop("marts.vocabulary_candidates") == 4
    # What members do, and what is predicted of them, is known before it too.
    for mart in ("member_patterns", "member_predictions", "model_report"):
        assert rows.pop(f"marts.{mart}") > 0
    # So is who was written to and what came of it, and how far members are.
    of_outreach = ("outreach_log", "outreach_effectiveness", "outreach_uplift", "cycle_stats")
    for mart in (*of_outreach, "milestone_progress"):
        assert rows.pop(f"marts.{mart}") > 0
    assert set(rows.values()) == {0}


def test_before_the_first_scoring_the_loops_are_shown_for_what_was_drawn(
    make_seeded_world: Callable[[int], Any], build_marts: Build
) -> None:
    world = make_seeded_world(4)
    del world.tables["scores.scoring_runs"]
    rows = read_marts(build_marts(world))
    assert not rows["marts.member_engagement"]
    assert {row["members"] for row in rows["marts.review_queue"]} == {0}
    assert len(rows["marts.loop_status"]) == len(orgs(world)) * len(vocabulary.ARCHETYPES)
    for name in ("engagement_calibrations", "digest_plan", "label_agreement"):
        assert rows[f"marts.{name}"]


def test_the_marts_are_the_same_in_every_time_zone_of_the_session(
    make_seeded_world: Callable[[int], Any], build_marts: Build
) -> None:
    world = make_seeded_world(5)
    # In both places the clocks changed within the days that the marts look back.
    utc, new_york, casablanca = (
        read_marts(build_marts(world, time_zone))
        for time_zone in ("UTC", "America/New_York", "Africa/Casablanca")
    )
    assert utc == new_york == casablanca


def test_every_mart_keeps_its_contract_as_a_frame_too(marts: dict[str, list[Row]]) -> None:
    assert set(marts) == {c.full_name for c in contracts("marts")}
    for name, rows in marts.items():
        contract(name).validate(pl.DataFrame(rows, schema=contract(name).polars_schema))
