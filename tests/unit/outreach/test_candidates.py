"""What there is to say to members, against going through them one by one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts.vocabulary import OUTREACH_TYPES, TRIGGERS
from engagement_pipeline.outreach.candidates import (
    CANDIDATES_SCHEMA,
    MAX_PER_CYCLE,
    MEMBERS_SCHEMA,
    MILESTONES_SCHEMA,
    PRIORITIES,
    USED_SCHEMA,
    CandidatesInputError,
    candidates,
    celebrations,
)

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
MILESTONE = "milestone_celebration"

Row = dict[str, Any]


def member(user_id="u", **of_member) -> Row:
    """A member of whom there is nothing to say unless told otherwise."""
    quiet = dict.fromkeys(MEMBERS_SCHEMA)
    quiet |= {"org_id": "o", "segment": "normal", "created_at": NOW - 100 * DAY}
    return {**quiet, "last_active_at": NOW - 2 * DAY, "user_id": user_id, **of_member}


def milestone(milestone_id="m", user_id="u", **of_milestone) -> Row:
    blank = {"org_id": "o", "name": f"The {milestone_id}", "metric": "messages", "share": 0.0}
    blank |= {"reached_at": None, "celebrated_at": None}
    return {**blank, "milestone_id": milestone_id, "user_id": user_id, **of_milestone}


def told(*members: Row, milestones=(), used=None) -> list[Row]:
    found = candidates(
        pl.DataFrame(list(members), schema=MEMBERS_SCHEMA, orient="row"),
        pl.DataFrame(list(milestones), schema=MILESTONES_SCHEMA, orient="row"),
        now=NOW,
        used=None if used is None else pl.DataFrame(used, schema=USED_SCHEMA, orient="row"),
    )
    assert found.schema == CANDIDATES_SCHEMA
    return found.rows(named=True)


def known_until(*members: Row, active_until: datetime) -> list[str]:
    """Occasions, where activity is known only up to a moment before `NOW`."""
    rows = candidates(
        pl.DataFrame(list(members), schema=MEMBERS_SCHEMA, orient="row"),
        MILESTONES_SCHEMA.to_frame(),
        now=NOW,
        active_until=active_until,
    )
    return rows["occasion"].to_list()


def test_an_absence_lasts_no_longer_than_activity_is_known() -> None:
    last = NOW - 8 * DAY
    occasion = f"absent:7d:{last.isoformat()}"
    assert known_until(member(last_active_at=last), active_until=last + 7 * DAY) == [
        occasion.replace("7d", "5d")
    ]
    assert known_until(member(last_active_at=last), active_until=last + 7 * DAY + MICROSECOND) == [
        occasion
    ]
    # Who was never active has been absent since the account was made, and that is known at once.
    new = member(last_active_at=None, created_at=NOW - 5 * DAY - MICROSECOND)
    occasion = f"absent:5d:{new['created_at'].isoformat()}"
    assert known_until(new, active_until=NOW - DAY) == [occasion]
    gone = member(last_active_at=NOW - 366 * DAY)
    assert known_until(gone, active_until=NOW) == []
    assert len(known_until(gone, active_until=NOW - DAY)) == 1


def triggers(*members: Row, milestones=(), used=None) -> list[str]:
    return [row["trigger"] for row in told(*members, milestones=milestones, used=used)]


# Each trigger, and its bounds


def row_of(**of_row) -> Row:
    nothing = dict.fromkeys(("milestone_id", "milestone", "topic", "feature"))
    return {"org_id": "o", "user_id": "u", **nothing, **of_row}


LAST = (NOW - 2 * DAY).isoformat()
EXAMPLES = {
    "churn": (
        {"churn_probability": 0.81, "churn_model": "random_forest 2026-03-01"},
        {"outreach_type": "re_engagement", "occasion": f"churn:{LAST}", "priority": 0.9},
    ),
    "declining": (
        {"is_declining": True},
        {
            "outreach_type": "personalized_checkin",
            "occasion": "declining:2026-03",
            "priority": 0.7,
        },
    ),
    "low_mood": (
        {"mood_now": -0.31},
        {"outreach_type": "mood_support", "occasion": "low_mood:2026-03", "priority": 0.65},
    ),
    "new_member": (
        {"segment": "new_user"},
        {"outreach_type": "personalized_checkin", "occasion": "welcome", "priority": 0.62},
    ),
    "absent": (
        {"last_active_at": NOW - 6 * DAY},
        {
            "outreach_type": "re_engagement",
            "occasion": f"absent:5d:{(NOW - 6 * DAY).isoformat()}",
            "priority": 0.6,
        },
    ),
    "topic": (
        {"topic_id": "e7", "topic": "Choral evening"},
        {
            "outreach_type": "topic_follow_up",
            "occasion": "topic:e7",
            "priority": 0.5,
            "topic": "Choral evening",
        },
    ),
    "feature": (
        {"feature": "voice"},
        {
            "outreach_type": "feature_suggestion",
            "occasion": "feature:voice",
            "priority": 0.45,
            "feature": "voice",
        },
    ),
}
NAMED = {"milestone_id": "m", "milestone": "The m"}
OF_MILESTONES = {
    "milestone_reached": (
        {"share": 1.0, "reached_at": NOW - DAY},
        {"occasion": "milestone_reached:m", "priority": 0.85},
    ),
    "milestone_near": (
        {"share": 0.81},
        {"occasion": "milestone_near:m", "priority": 0.8},
    ),
}


def test_a_member_of_whom_there_is_nothing_to_say_gets_nothing():
    assert told(member(), milestones=[milestone(share=0.5)]) == []


@pytest.mark.parametrize("trigger", EXAMPLES)
def test_each_trigger_alone_is_one_candidate(trigger):
    of_member, expected = EXAMPLES[trigger]
    assert told(member(**of_member)) == [row_of(trigger=trigger, **expected)]


@pytest.mark.parametrize("trigger", OF_MILESTONES)
def test_a_milestone_reached_or_near_is_a_candidate_with_its_name(trigger):
    of_milestone, expected = OF_MILESTONES[trigger]
    found = told(member(), milestones=[milestone(**of_milestone)])
    assert found == [row_of(trigger=trigger, outreach_type=MILESTONE, **NAMED, **expected)]


def test_every_trigger_but_the_manual_one_has_a_priority_and_an_example():
    assert {*PRIORITIES, "manual"} == {*EXAMPLES, *OF_MILESTONES, "manual"} == set(TRIGGERS)


@pytest.mark.parametrize(
    "of_member",
    [
        {"churn_probability": 0.8, "churn_model": "random_forest"},
        {"churn_probability": float("nan"), "churn_model": "random_forest"},
        {"churn_probability": 0.99, "churn_model": "heuristic"},
        {"churn_probability": 0.99, "churn_model": None},
        {"mood_now": -0.3},
        {"is_declining": False},
        {"last_active_at": NOW - 5 * DAY},
        {"last_active_at": NOW + 400 * DAY},
        {"last_active_at": None, "created_at": NOW - 5 * DAY},
        {"topic": "An event without an id"},
    ],
)
def test_at_its_bound_or_without_what_it_needs_a_trigger_is_not_met(of_member):
    assert told(member(**of_member)) == []


@pytest.mark.parametrize(
    ("of_milestone", "is_met"),
    [
        ({"share": 0.8}, False),
        ({"share": 0.81}, True),
        ({"share": 0.81, "metric": "days_since_joined"}, False),
        ({"share": 1.0, "metric": "days_since_joined", "reached_at": NOW}, True),
        ({"share": 0.9, "metric": "night_days"}, False),
        ({"share": 1.0, "metric": "early_days", "reached_at": NOW}, False),
        ({"share": 0.9, "reached_at": NOW - 20 * DAY}, False),
        ({"share": 1.0, "reached_at": NOW}, True),
        ({"share": 1.0, "reached_at": NOW + MICROSECOND}, False),
        ({"share": 1.0, "reached_at": NOW - 14 * DAY}, True),
        ({"share": 1.0, "reached_at": NOW - 14 * DAY - MICROSECOND}, False),
        ({"share": 1.0, "reached_at": NOW - DAY, "celebrated_at": NOW}, False),
    ],
)
def test_a_milestone_is_news_for_fourteen_days_and_celebrated_once(of_milestone, is_met):
    assert bool(told(member(), milestones=[milestone(**of_milestone)])) is is_met


def test_who_was_never_active_is_absent_since_the_account_was_made():
    made = NOW - 8 * DAY
    (found,) = told(member(last_active_at=None, created_at=made))
    assert found["occasion"] == f"absent:7d:{made.isoformat()}"


@pytest.mark.parametrize("fear", [{}, {"churn_probability": 0.9, "churn_model": "a_model"}])
def test_nobody_is_called_back_after_a_year(fear):
    assert len(told(member(last_active_at=NOW - 365 * DAY, **fear))) == 1
    assert told(member(last_active_at=NOW - 365 * DAY - MICROSECOND, **fear)) == []


def test_the_milestones_of_people_who_are_not_asked_about_are_passed_over():
    assert told(member(), milestones=[milestone(user_id="another", share=0.9)]) == []


# The best of each type, and the order

EVERYTHING = {
    "churn_probability": 0.9,
    "churn_model": "a_model",
    "is_declining": True,
    "mood_now": -1.0,
    "segment": "new_user",
    "last_active_at": NOW - 20 * DAY,
    "topic_id": "e",
    "feature": "voice",
}
BEST = ["churn", "milestone_reached", "declining", "low_mood", "topic", "feature"]
MILESTONES = [
    milestone("b", reached_at=NOW - DAY, share=1.0),
    milestone("a", reached_at=NOW - DAY, share=1.0),
    milestone("0", share=0.9),
]


def test_each_type_has_one_candidate_at_most_its_best_and_the_best_comes_first():
    found = told(member(**EVERYTHING), milestones=MILESTONES)
    assert [row["trigger"] for row in found] == BEST
    assert {row["outreach_type"] for row in found} == set(OUTREACH_TYPES)
    assert found[1]["milestone_id"] == "a"


def test_an_occasion_that_had_its_message_gives_way_to_the_next_best():
    used = [("o", "u", "re_engagement", f"churn:{(NOW - 20 * DAY).isoformat()}")]
    used += [("o", "u", MILESTONE, "milestone_reached:a")]
    found = told(member(**EVERYTHING), milestones=MILESTONES, used=used)
    assert found[0]["trigger"] == "milestone_reached"
    assert "absent" in [row["trigger"] for row in found]
    assert found[0]["milestone_id"] == "b"


def test_an_occasion_is_used_up_for_its_own_member_and_type_alone():
    others = [("o", "v", "mood_support", "low_mood:2026-03"), ("p", "u", "mood_support", "x")]
    others += [("o", "u", "re_engagement", "low_mood:2026-03")]
    assert triggers(member(mood_now=-1.0), used=others) == ["low_mood"]
    others += [("o", "u", "mood_support", "low_mood:2026-03")]
    assert triggers(member(mood_now=-1.0), used=others) == []


def test_celebrations_are_the_reached_milestones_alone_one_a_member():
    rows = [*MILESTONES, milestone("z", "v", reached_at=NOW, share=1.0), milestone("y", "w")]
    frame = pl.DataFrame(rows, schema=MILESTONES_SCHEMA, orient="row")
    found = celebrations(frame, NOW)
    assert found.schema == CANDIDATES_SCHEMA
    assert found.select("user_id", "occasion").rows() == [
        ("u", "milestone_reached:a"),
        ("v", "milestone_reached:z"),
    ]
    used = found.select(USED_SCHEMA.names())
    again = celebrations(frame, NOW, used).select("user_id", "occasion")
    assert again.rows() == [("u", "milestone_reached:b")]


def test_a_cycle_plans_two_at_most():
    assert MAX_PER_CYCLE == 2


# Against plain Python

instants = st.none() | st.sampled_from(
    [NOW - days * DAY for days in (-1, 1, 5, 6, 7.5, 14, 14.5, 31, 365, 366)]
)
names = st.none() | st.sampled_from("ab")
pairs = {"org_id": st.sampled_from("op"), "user_id": st.sampled_from("uvw")}
some_members = st.lists(
    st.fixed_dictionaries(
        {
            **pairs,
            "segment": st.sampled_from(("dormant", "new_user", "normal")),
            "created_at": instants.filter(bool),
            "last_active_at": instants,
            "churn_probability": st.none() | st.sampled_from((0.0, 0.8, 0.85, 1.0)),
            "churn_model": st.sampled_from(("heuristic", "random_forest 2026-03-01", None)),
            "is_declining": st.none() | st.booleans(),
            "mood_now": st.none() | st.sampled_from((-1.0, -0.3, -0.29, 0.5)),
            "topic_id": names,
            "topic": names,
            "feature": names,
        }
    ),
    max_size=6,
    unique_by=lambda row: (row["org_id"], row["user_id"]),
)
some_milestones = st.lists(
    st.fixed_dictionaries(
        {
            **pairs,
            "milestone_id": st.sampled_from("abcd"),
            "name": st.sampled_from("xy"),
            "metric": st.sampled_from(("messages", "days_since_joined")),
            "share": st.sampled_from((0.0, 0.8, 0.9, 1.0)),
            "reached_at": instants,
            "celebrated_at": instants,
        }
    ),
    max_size=8,
    unique_by=lambda row: (row["org_id"], row["user_id"], row["milestone_id"]),
)
OCCASIONS = ("welcome", "topic:a", "feature:b", "milestone_reached:a", "milestone_near:b")
some_used = st.none() | st.lists(
    st.tuples(*pairs.values(), st.sampled_from(OUTREACH_TYPES), st.sampled_from(OCCASIONS))
)


def plainly_of(row: Row, milestones: list[Row]) -> list[tuple]:
    """All that there is to say to one member: (-priority, type, occasion, trigger, slots)."""
    found = []
    since = row["last_active_at"] or row["created_at"]
    days = (NOW - since) / DAY
    is_modelled = row["churn_model"] not in (None, "heuristic")
    if is_modelled and (row["churn_probability"] or 0) > 0.8 and days <= 365:
        found.append((0.9, "re_engagement", f"churn:{since.isoformat()}", "churn"))
    passed = [step for step in (5, 7, 14, 30) if days > step]
    if passed and days <= 365:
        found.append((0.6, "re_engagement", f"absent:{passed[-1]}d:{since.isoformat()}", "absent"))
    if row["is_declining"]:
        found.append((0.7, "personalized_checkin", "declining:2026-03", "declining"))
    if row["mood_now"] is not None and row["mood_now"] < -0.3:
        found.append((0.65, "mood_support", "low_mood:2026-03", "low_mood"))
    if row["segment"] == "new_user":
        found.append((0.62, "personalized_checkin", "welcome", "new_member"))
    if row["topic_id"]:
        found.append((0.5, "topic_follow_up", f"topic:{row['topic_id']}", "topic", row["topic"]))
    if row["feature"]:
        name = row["feature"]
        found.append((0.45, "feature_suggestion", f"feature:{name}", "feature", name))
    for its in milestones:
        if (its["org_id"], its["user_id"]) != (row["org_id"], row["user_id"]):
            continue
        reached, named = its["reached_at"], (its["milestone_id"], its["name"])
        takes_only_time = its["metric"] == "days_since_joined"
        if reached is None and its["share"] > 0.8 and not takes_only_time:
            found.append((0.8, MILESTONE, f"milestone_near:{named[0]}", "milestone_near", *named))
        elif reached and 0 <= (NOW - reached) / DAY <= 14 and its["celebrated_at"] is None:
            occasion = f"milestone_reached:{named[0]}"
            found.append((0.85, MILESTONE, occasion, "milestone_reached", *named))
    return [(-priority, *rest) for priority, *rest in found]


def plainly(members: list[Row], milestones: list[Row], used) -> list[Row]:
    rows = []
    for of_member in sorted(members, key=lambda row: (row["org_id"], row["user_id"])):
        pair, types = (of_member["org_id"], of_member["user_id"]), set()
        for candidate in sorted(plainly_of(of_member, milestones), key=lambda found: found[:3]):
            minus_priority, outreach_type, occasion, trigger, *slots = candidate
            if outreach_type in types or (*pair, outreach_type, occasion) in (used or ()):
                continue
            types.add(outreach_type)
            columns = {
                "topic_follow_up": ("topic",),
                "feature_suggestion": ("feature",),
                MILESTONE: ("milestone_id", "milestone"),
            }.get(outreach_type, ())
            rows.append(
                row_of(
                    outreach_type=outreach_type,
                    trigger=trigger,
                    occasion=occasion,
                    priority=-minus_priority,
                )
                | dict(zip(("org_id", "user_id"), pair, strict=True))
                | dict(zip(columns, slots, strict=True))
            )
    return rows


@given(some_members, some_milestones, some_used, st.randoms())
def test_candidates_are_what_going_through_the_members_says_in_any_order(
    members, milestones, used, random
):
    expected = plainly(members, milestones, used)
    shuffled = random.sample(members, len(members)), random.sample(milestones, len(milestones))
    assert told(*shuffled[0], milestones=shuffled[1], used=used) == expected


# Input


def frame_of_members(*members: Row) -> pl.DataFrame:
    return pl.DataFrame(list(members), schema=MEMBERS_SCHEMA, orient="row")


NO_MILESTONES = pl.DataFrame(schema=MILESTONES_SCHEMA)


def test_a_column_of_nothing_needs_no_type_and_others_are_passed_over():
    frame = frame_of_members(member(mood_now=-1.0)).with_columns(
        pl.lit(None).alias("feature"), pl.lit(1).alias("stray")
    )
    assert candidates(frame, NO_MILESTONES, now=NOW)["trigger"].to_list() == ["low_mood"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (pl.col("created_at").dt.replace_time_zone(None), "created_at as .*UTC.* found"),
        (pl.col("mood_now").cast(pl.String), "mood_now as Float64, found String"),
    ],
)
def test_a_column_of_another_type_is_refused_by_name(change, complaint):
    with pytest.raises(CandidatesInputError, match=f"members: expected {complaint}"):
        candidates(frame_of_members(member()).with_columns(change), NO_MILESTONES, now=NOW)


def test_a_missing_column_or_a_row_that_comes_twice_is_refused():
    with pytest.raises(CandidatesInputError, match="members: expected a column topic, found org"):
        candidates(frame_of_members(member()).drop("topic"), NO_MILESTONES, now=NOW)
    with pytest.raises(CandidatesInputError, match=r"members: .* found two of \('o', 'u'\)"):
        candidates(frame_of_members(member(), member()), NO_MILESTONES, now=NOW)
    twice = pl.DataFrame([milestone(), milestone()], schema=MILESTONES_SCHEMA, orient="row")
    with pytest.raises(CandidatesInputError, match="milestones: expected one row"):
        celebrations(twice, NOW)


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="now: expected a time zone"):
        candidates(frame_of_members(), NO_MILESTONES, now=NOW.replace(tzinfo=None))
