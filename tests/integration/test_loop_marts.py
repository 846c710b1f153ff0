"""The marts of the loops, and the severity of flags, against plain Python that says the same."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.loops.calibration import EXPIRES_AFTER, get_calibration, in_force
from engagement_pipeline.settings import PROJECT_FOLDER
from engagement_pipeline.warehouse.audit import AuditError
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.publication import Publication
from engagement_pipeline.warehouse.sql_models import SqlProject
from tests.integration.test_marts import (
    current_labels,
    effective,
    orgs,
    overrides_at,
    read_marts,
)

Row = dict[str, Any]
Build = Callable[..., Publication]
MakeWorld = Callable[..., Any]

MODELS = PROJECT_FOLDER / "dbt_like_sql" / "models"
WINDOW = timedelta(days=30)
LONG_WINDOW = timedelta(days=180)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
CALIBRATIONS = contract("loops.calibrations")
# Signals were last drawn for a moment after the run shown, and for one before it.
WORLDS = {"drawn since": (32, False), "drawn before": (33, True)}
FEW = 7


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest, make_seeded_world: MakeWorld) -> Any:
    seed, is_decided_since = WORLDS[request.param]
    found = make_seeded_world(seed, is_decided_since=is_decided_since)
    assert (now(found) > found.shown) is (request.param == "drawn since")
    return found


@pytest.fixture(scope="module")
def marts(world: Any, build_marts: Build) -> dict[str, list[Row]]:
    return read_marts(build_marts(world))


@contextmanager
def opened(world: Any) -> Iterator[Connection]:
    with duckdb.connect() as connection:
        world.write_into(connection)
        connection.execute("SET TimeZone = 'Pacific/Auckland'")
        yield connection


def stored(world: Any) -> pl.DataFrame:
    return pl.DataFrame(world.rows("loops.calibrations"), schema=CALIBRATIONS.polars_schema)


# --- what should be there -----------------------------------------------------------------------


def now(world: Any) -> datetime:
    """The moment of the run shown, or of what was drawn last where that is later."""
    drawn = None
    for row in world.rows("loops.productions"):
        place = (row["computed_at"], row["as_of"])
        if drawn is None or place > (drawn["computed_at"], drawn["as_of"]):
            drawn = row
    moment: datetime = world.shown
    return max(moment, drawn["as_of"]) if drawn else moment


def versions(world: Any) -> dict[tuple[str, str], list[Row]]:
    """The versions that may be known of each calibration, oldest first."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(world.rows("loops.calibrations"), key=lambda r: r["computed_at"]):
        if row["computed_at"] <= now(world):
            found.setdefault((row["org_id"], row["key"]), []).append(row)
    return found


def newest_unexpired(world: Any) -> dict[tuple[str, str], Row]:
    found = {}
    for place, rows in versions(world).items():
        for row in rows:
            if now(world) < row["expires_at"]:
                found[place] = row
    return found


def by(rows: list[Row], *names: str) -> dict[tuple[Any, ...], Row]:
    found = {tuple(row[name] for name in names): row for row in rows}
    assert len(found) == len(rows), "the key is not unique"
    return found


# --- engagement_calibrations --------------------------------------------------------------------


def test_the_newest_unexpired_version_is_shown_with_the_number_of_all_that_are_known(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    known = versions(world)
    expected = {
        place: row | {"versions": len(known[place])}
        for place, row in newest_unexpired(world).items()
    }
    assert by(marts["marts.engagement_calibrations"], "org_id", "key") == expected
    # Some expire within the next microsecond, some have none left, some are not known yet.
    edge = now(world) + TICK
    assert any(row["expires_at"] == edge for row in expected.values())
    assert any(row["computed_at"] == now(world) for row in expected.values())
    assert any(rows[-1] is not newest_unexpired(world).get(p) for p, rows in known.items())
    assert {row["versions"] for row in expected.values()} == {1, 2, 3}


def test_the_view_the_mart_and_the_learners_take_the_same_calibrations_to_be_in_force(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    with opened(world) as connection:
        view = query(connection, "SELECT * FROM loops.calibrations_current")
    expected = by(in_force(stored(world), as_of=now(world)).rows(named=True), "org_id", "key")
    assert expected == newest_unexpired(world)
    assert by(view.rows(named=True), "org_id", "key") == expected
    shown = [dict(row) for row in marts["marts.engagement_calibrations"]]
    for row in shown:
        del row["versions"]
    assert by(shown, "org_id", "key") == expected


def test_a_reader_of_one_calibration_gets_what_the_mart_shows_or_nothing(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    shown = by(marts["marts.engagement_calibrations"], "org_id", "key")
    for prefix in vocabulary.CALIBRATION_ARCHETYPES:
        for org_id in ("steady", "sparse"):
            found = get_calibration(stored(world), org_id, prefix, now(world))
            row = shown.get((org_id, prefix))
            assert (found and found.value) == (row and row["value"])
            assert (found and found.expires_at) == (row and row["expires_at"])


# --- digest_plan --------------------------------------------------------------------------------

KEPT_WHEN_EXPIRED = {"org_id", "feature", "decided_at"}


def test_the_last_decision_holds_until_what_it_rests_on_expires_and_then_nothing_is_known(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    expected: dict[tuple[Any, ...], Row] = {}
    for row in sorted(world.rows("loops.digest_decisions"), key=lambda r: r["decided_at"]):
        if row["decided_at"] > now(world):
            continue
        plan = dict(row)
        expires_at = plan.pop("expires_at")
        if expires_at is not None and expires_at <= now(world):
            plan = {name: plan[name] if name in KEPT_WHEN_EXPIRED else None for name in plan}
            plan |= {"delivery": "immediate", "reason": "expired"}
        expected[plan["org_id"], plan["feature"]] = plan
    assert by(marts["marts.digest_plan"], "org_id", "feature") == expected
    reasons = Counter(row["reason"] for row in expected.values())
    assert reasons["expired"] > 2
    assert reasons["cold_start"] > 0
    assert reasons.total() - reasons["expired"] - reasons["cold_start"] > 3


# --- label_agreement and review_queue -----------------------------------------------------------


def last_judged(world: Any) -> dict[str, datetime]:
    """Organisation -> the last learning of admins' judgements that succeeded and still counts."""
    found: dict[str, datetime] = {}
    for row in sorted(world.rows("loops.learning_runs"), key=lambda r: r["as_of"]):
        if (row["archetype"], row["outcome"]) == ("suggestion", "learned") and row["as_of"] <= now(
            world
        ) < row["as_of"] + EXPIRES_AFTER:
            found[row["org_id"]] = row["as_of"]
    return found


def test_the_agreement_shown_is_that_of_the_last_successful_learning_for_thirty_days(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    learned, last = world.rows("loops.label_agreement"), last_judged(world)
    expected = [row for row in learned if row["window_end"] == last.get(row["org_id"])]
    names = contract("marts.label_agreement").key
    assert by(marts["marts.label_agreement"], *names) == by(expected, *names)
    ends = {row["window_end"] for row in expected}
    assert ends >= {now(world), now(world) - WINDOW + TICK, now(world) - DAY}
    left_out = {row["window_end"] for row in learned} - ends
    assert left_out == {now(world) + TICK, now(world) - WINDOW, now(world) - 8 * DAY}


def test_levels_wait_for_review_as_last_found_with_the_members_who_have_them_now(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    members = Counter((row["org_id"], row["level"]) for row in current_labels(world))
    expected = {
        (row["org_id"], row["level"]): row
        | {
            "org_name": orgs(world)[row["org_id"]],
            "members": members[row["org_id"], row["level"]],
        }
        for row in world.rows("loops.review_queue")
        if row["org_id"] in orgs(world)
        and row["queued_at"] == last_judged(world).get(row["org_id"])
    }
    assert by(marts["marts.review_queue"], "org_id", "level") == expected
    counts = {row["members"] for row in expected.values()}
    assert 0 in counts
    assert len(counts) > 2


def test_a_learning_that_found_no_level_to_review_empties_the_queue(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    waited = {row["org_id"] for row in world.rows("loops.review_queue")}
    emptied = {
        org_id
        for org_id, moment in last_judged(world).items()
        if (org_id, moment)
        not in {(row["org_id"], row["queued_at"]) for row in world.rows("loops.review_queue")}
    }
    assert emptied & waited
    assert not emptied & {row["org_id"] for row in marts["marts.review_queue"]}
    assert emptied <= {row["org_id"] for row in marts["marts.label_agreement"]}


# --- vocabulary_candidates ----------------------------------------------------------------------


def test_every_candidate_is_shown_as_it_was_found(world: Any, marts: dict[str, list[Row]]) -> None:
    names = contract("loops.vocabulary_candidates").key
    assert by(marts["marts.vocabulary_candidates"], *names) == by(
        world.rows("loops.vocabulary_candidates"), *names
    )


# --- loop_status --------------------------------------------------------------------------------


def is_of(row: Row, org_id: str, archetype: str) -> bool:
    return (row["org_id"], row["archetype"]) == (org_id, archetype)


def loop_of(key: str) -> str | None:
    return vocabulary.CALIBRATION_ARCHETYPES.get(key.partition(":")[0])


def window_start(world: Any, archetype: str) -> datetime:
    is_short = archetype in ("engagement", "vocabulary")
    return now(world) - (WINDOW if is_short else LONG_WINDOW)


def signals_in_window(world: Any, org_id: str, archetype: str) -> int:
    return sum(
        is_of(row, org_id, archetype)
        and window_start(world, archetype) < row["occurred_at"]
        and (row["occurred_at"] <= now(world) or archetype == "vocabulary")
        for row in world.rows("loops.signals")
    )


def known_calibrations(world: Any, org_id: str, archetype: str) -> tuple[int, int]:
    """How many are in force, and of how many no version is any more."""
    if archetype == "vocabulary":
        accepted = [
            row
            for row in world.rows("loops.vocabulary_mappings")
            if row["org_id"] in (None, org_id)
        ]
        return len(accepted), 0
    places = {p for p in versions(world) if p[0] == org_id and loop_of(p[1]) == archetype}
    current = places & set(newest_unexpired(world))
    return len(current), len(places) - len(current)


def last_learning(world: Any, org_id: str, archetype: str) -> Row:
    last: Row = {"as_of": None, "error": None}
    for row in sorted(world.rows("loops.learning_runs"), key=lambda r: r["as_of"]):
        if is_of(row, org_id, archetype) and row["as_of"] <= now(world):
            last = row
    return last


def last_use(world: Any, org_id: str, archetype: str) -> Row:
    """The last consumer; of two at the same moment the one whose name comes first."""
    last: Row = {"consumer": None, "used_at": None}
    for row in sorted(world.rows("loops.consumer_uses"), key=lambda r: r["consumer"]):
        is_known = is_of(row, org_id, archetype) and row["used_at"] <= now(world)
        if is_known and (last["used_at"] is None or row["used_at"] > last["used_at"]):
            last = row
    return last


def status(world: Any, org_id: str, archetype: str) -> Row:
    signals = signals_in_window(world, org_id, archetype)
    current, expired = known_calibrations(world, org_id, archetype)
    learning = last_learning(world, org_id, archetype)
    use = last_use(world, org_id, archetype)
    is_used = use["used_at"] is not None and use["used_at"] > window_start(world, archetype)
    if learning["error"] is not None:
        state = "failed"
    elif current:
        state = "closed" if signals and is_used else "learned"
    elif expired:
        state = "expired"
    else:
        state = "gathering" if signals else "idle"
    return {
        "org_id": org_id,
        "archetype": archetype,
        "state": state,
        "window_start": window_start(world, archetype),
        "window_end": now(world),
        "signals_in_window": signals,
        "calibrations_in_force": current,
        "calibrations_expired": expired,
        "learned_at": learning["as_of"],
        "learning_error": learning["error"],
        "consumer": use["consumer"],
        "consumer_last_used_at": use["used_at"],
    }


def test_every_loop_of_every_organisation_stands_where_its_three_parts_say(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    expected = {
        (org_id, archetype): status(world, org_id, archetype)
        for org_id in orgs(world)
        for archetype in vocabulary.ARCHETYPES
    }
    assert by(marts["marts.loop_status"], "org_id", "archetype") == expected
    assert {row["state"] for row in expected.values()} == set(vocabulary.LOOP_STATES)


def test_an_organisation_without_any_loop_has_a_row_for_each_all_the_same(
    marts: dict[str, list[Row]],
) -> None:
    rows = {r["archetype"]: r for r in marts["marts.loop_status"] if r["org_id"] == "sparse"}
    assert set(rows) == set(vocabulary.ARCHETYPES)
    # What was said to mean the same for every organisation holds for this one too.
    mapped = rows.pop("vocabulary")
    # Also what was said after the moment shown: files are taken in by the clock.
    assert (mapped["state"], mapped["calibrations_in_force"]) == ("learned", 2)
    for row in rows.values():
        assert row["state"] == "idle"
        assert row["signals_in_window"] == row["calibrations_in_force"] == 0
        assert row["learned_at"] is row["consumer"] is row["consumer_last_used_at"] is None


THREE_PARTS = [
    # org_id, which of the three parts run, where the loop stands then
    ("steady", {"signal", "calibration", "use"}, "closed"),
    ("busy", {"calibration", "use"}, "learned"),
    ("failed", {"signal", "calibration"}, "learned"),
    ("emptied", {"signal", "use"}, "gathering"),
    ("never_scored", {"use"}, "idle"),
]


def test_a_loop_is_closed_only_when_all_three_parts_run(
    make_seeded_world: MakeWorld, build_marts: Build
) -> None:
    world = without_loops(make_seeded_world(FEW))
    for org_id, parts, _ in THREE_PARTS:
        rows = {
            "signal": ("loops.signals", a_signal(org_id, world.shown)),
            "calibration": ("loops.calibrations", a_calibration(org_id, world.shown)),
            "use": ("loops.consumer_uses", a_use(org_id, world.shown)),
        }
        for part in parts:
            table, row = rows[part]
            world.rows(table).append(row)
    rows = by(read_marts(build_marts(world))["marts.loop_status"], "org_id", "archetype")
    for org_id, _, state in THREE_PARTS:
        assert rows.pop((org_id, "ranking"))["state"] == state, org_id
    assert {row["state"] for row in rows.values()} == {"idle"}


def test_a_use_counts_while_it_lies_in_the_window_of_its_loop(
    make_seeded_world: MakeWorld, build_marts: Build
) -> None:
    world = without_loops(make_seeded_world(FEW))
    start = world.shown - LONG_WINDOW
    for org_id, used_at in (("steady", start), ("busy", start + TICK)):
        world.rows("loops.signals").append(a_signal(org_id, world.shown))
        world.rows("loops.calibrations").append(a_calibration(org_id, world.shown))
        world.rows("loops.consumer_uses").append(a_use(org_id, used_at))
    rows = by(read_marts(build_marts(world))["marts.loop_status"], "org_id", "archetype")
    assert rows["steady", "ranking"]["state"] == "learned"
    assert rows["busy", "ranking"]["state"] == "closed"


def test_a_calibration_that_no_loop_learns_is_not_published(
    make_seeded_world: MakeWorld, build_marts: Build
) -> None:
    world = without_loops(make_seeded_world(FEW))
    row = a_calibration("steady", world.shown) | {"key": "unheard-of:read-rate"}
    world.rows("loops.calibrations").append(row)
    with pytest.raises(AuditError, match=r"stg_calibrations: archetype_not_null: 1 row"):
        build_marts(world)


def without_loops(world: Any) -> Any:
    """A world with its organisations and runs, in which no loop has begun."""
    for name in list(world.tables):
        if name.startswith("loops.") or name in ("scores.classifications", "raw.attendance"):
            world.tables[name] = []
    return world


def a_signal(org_id: str, moment: datetime) -> Row:
    return dict.fromkeys(contract("loops.signals").column_names) | {
        "signal_id": org_id,
        "archetype": "ranking",
        "kind": "RESPONSE",
        "org_id": org_id,
        "subject": "welcome",
        "occurred_at": moment,
        "source_key": org_id,
    }


def a_calibration(org_id: str, moment: datetime) -> Row:
    return dict.fromkeys(CALIBRATIONS.column_names) | {
        "org_id": org_id,
        "key": "response-rate:welcome",
        "value": 0.5,
        "n": 3,
        "window_start": moment - WINDOW,
        "window_end": moment,
        "computed_at": moment,
        "expires_at": moment + WINDOW,
    }


def a_use(org_id: str, moment: datetime) -> Row:
    return {
        "org_id": org_id,
        "archetype": "ranking",
        "consumer": "templates",
        "used_at": moment,
        "calibrations": 1,
    }


# --- the moment that they are shown for ---------------------------------------------------------

SHOWN = datetime(2026, 3, 25, 4, tzinfo=UTC)
EARLY, LATE = SHOWN - DAY, SHOWN + DAY


@pytest.mark.parametrize(
    ("is_scored", "productions", "expected"),
    [
        (True, [], SHOWN),
        (True, [(EARLY, SHOWN)], SHOWN),
        (True, [(LATE, SHOWN)], LATE),
        (True, [(LATE, SHOWN), (EARLY, SHOWN + HOUR)], SHOWN),
        (True, [(LATE, SHOWN + HOUR), (LATE + DAY, SHOWN)], LATE),
        (True, [(LATE, SHOWN), (LATE + DAY, SHOWN)], LATE + DAY),
        (False, [(LATE, SHOWN), (EARLY, SHOWN + HOUR)], EARLY),
        (False, [], None),
    ],
    ids=[
        "none drawn",
        "drawn for an earlier moment",
        "drawn for a later one",
        "for a past moment again",
        "last computed, not the latest",
        "two computed at once",
        "drawn but never scored",
        "neither",
    ],
)
def test_loops_are_shown_for_the_run_shown_or_for_what_was_drawn_since(
    make_seeded_world: MakeWorld,
    sql_project: SqlProject,
    is_scored: bool,
    productions: list[tuple[datetime, datetime]],
    expected: datetime | None,
) -> None:
    world = make_seeded_world(FEW)
    world.tables["scores.classifications"] = []
    if not is_scored:
        del world.tables["scores.scoring_runs"]
    world.tables["loops.productions"] = [
        {"as_of": as_of, "signals": 0, "computed_at": computed_at}
        for as_of, computed_at in productions
    ]
    with opened(world) as connection:
        connection.execute("CREATE SCHEMA staging")
        for model in sql_project.views:
            connection.execute(f"CREATE VIEW {model.full_name} AS {sql_project.sql(model.name)}")
        (found,) = query(connection, "SELECT as_of FROM staging.stg_loops_now")["as_of"]
        shown = query(connection, "SELECT * FROM staging.stg_calibrations WHERE is_in_force")
        view = query(connection, "SELECT * FROM loops.calibrations_current")
    assert found == expected
    known = [] if expected is None else in_force(stored(world), as_of=expected).rows(named=True)
    places = set(by(known, "org_id", "key", "computed_at"))
    assert bool(places) is (expected is not None)
    for frame in (shown, view):
        assert set(by(frame.rows(named=True), "org_id", "key", "computed_at")) == places


# --- flag_severity ------------------------------------------------------------------------------


def test_a_severity_is_shown_where_the_effective_level_is_at_risk_and_nowhere_else(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    moment = overrides_at(world)
    shown = by(marts["marts.member_engagement"], "org_id", "user_id")
    cases: Counter[tuple[bool, bool, bool]] = Counter()
    for label in current_labels(world):
        is_flagged = effective(world, label, moment) == "at_risk"
        severity = label["flag_severity"]
        row = shown[label["org_id"], label["user_id"]]
        assert row["flag_severity"] == (severity if is_flagged else None)
        cases[is_flagged, row["is_overridden"], severity is not None] += 1
    # Flagged and not, by an admin and not, with a severity stored and from before there was one.
    assert all(cases[flagged, by_admin, True] for flagged in (0, 1) for by_admin in (0, 1))
    assert cases[True, False, False] + cases[True, True, False] > 0


# --- words that SQL says again ------------------------------------------------------------------


def test_the_sql_knows_every_calibration_and_the_loop_that_learns_it() -> None:
    text = (MODELS / "staging" / "stg_calibrations.sql").read_text()
    (case,) = re.findall(r"CASE split_part\(c\.key, ':', 1\)(.*?)END AS archetype", text, re.DOTALL)
    found = re.findall(r"WHEN '([^']*)' THEN '([^']*)'", case)
    assert len(found) == case.count("WHEN")
    assert found == list(vocabulary.CALIBRATION_ARCHETYPES.items())


def test_the_sql_knows_every_loop() -> None:
    text = (MODELS / "marts" / "loop_status.sql").read_text()
    (listed,) = re.findall(r"unnest\(\s*\[(.*?)\]\s*\) AS archetype", text, re.DOTALL)
    assert tuple(re.findall(r"'([^']*)'", listed)) == vocabulary.ARCHETYPES
