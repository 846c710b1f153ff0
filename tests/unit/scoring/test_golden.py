"""The golden set, and what is refused in one."""

import tomllib
from collections import Counter
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.scoring import RulesClassifier, score_org, with_baseline
from engagement_pipeline.scoring.golden import (
    GOLDEN_ORG,
    InvalidGoldenSetError,
    expected,
    golden_members,
    read_golden_set,
)
from engagement_pipeline.scoring.profiles import CELLS, Profile, org_as_sent, with_profiles

AS_OF = datetime(2026, 5, 20, 12, tzinfo=UTC)
LIMITS = GOLDEN_ORG.thresholds

ENTRY: dict[str, Any] = {
    "id": "one",
    "signals": {
        "attended": 2, "previous": 1, "total": 5, "rsvps": 3, "no_shows": 1,
        "days_since_attended": 20, "days_since_active": 10, "days_since_joined": 400,
        "sent": 20, "read": 5, "interactions": 1, "days_since_profile_update": 100,
    },
    "expected": "moderate",
    "why": "An ordinary member.",
}  # fmt: skip


def entry(**changes: Any) -> dict[str, Any]:
    """The entry with signals or parts changed; a signal that is `...` is left out."""
    changed = deepcopy(ENTRY)
    for name, value in changes.items():
        place = changed["signals"] if name in changed["signals"] else changed
        place[name] = value
        if value is ...:
            del place[name]
    return changed


def written(*entries: Any) -> str:
    return yaml.safe_dump(list(entries))


def judged() -> pl.DataFrame:
    members = with_profiles(with_baseline(golden_members(AS_OF), LIMITS), LIMITS)
    levels = [expected()[slug][0] for slug in members["user_id"]]
    return members.with_columns(expected=pl.Series(levels))


def test_there_are_enough_entries_of_every_level_and_reason() -> None:
    members = judged()
    assert len(members) >= 66
    of_level = Counter(members["expected"])
    assert set(of_level) == set(vocabulary.LEVELS)
    assert min(of_level.values()) >= 10
    of_reason = Counter(members["reason"].drop_nulls())
    assert set(of_reason) == set(vocabulary.AT_RISK_REASONS)
    assert min(of_reason.values()) >= 6


def test_a_person_often_departs_from_the_rules_and_from_each_of_their_levels() -> None:
    departures = judged().filter(pl.col("expected") != pl.col("baseline_level"))
    assert len(departures) >= 15
    assert set(departures["baseline_level"]) == set(vocabulary.LEVELS) - {"inactive"}
    assert set(departures["expected"]) == set(vocabulary.LEVELS)


def test_no_judgement_is_one_that_would_be_vetoed() -> None:
    new = judged().filter(pl.col("days_since_joined") < LIMITS.new_member_days)
    assert not new.is_empty()
    assert not set(new["expected"]) & {"at_risk", "inactive"}


def test_each_entry_is_a_profile_of_its_own() -> None:
    assert not judged()["profile"].is_duplicated().any()


def test_every_bucket_at_default_thresholds_occurs() -> None:
    profiles = [Profile(text).cells for text in judged()["profile"]]
    found = {cell: {cells[cell] for cells in profiles} for cell in CELLS}
    assert found == {
        "attended": set("012345"),
        "previous": set("012345"),
        "rsvps": set("0136"),
        "no_shows": set("012"),
        "last_attended": {"x", "8", "31", "61", "91", "181", "0"},
        "last_active": {"0", "8", "31", "61", "91", "180", "181"},
        "joined": {"0", "30", "60", "180", "365"},
        "reads": {"?", "0", "1", "25", "75"},
        "interactions": {"?", "0", "1", "5", "20"},
        "profile_update": {"x", "0", "91"},
        "trend": set("+=-"),
    }


@pytest.mark.parametrize(
    ("signal", "edges"),
    [
        ("events_attended_90d", (1, 2, 3, 4, 5)),
        ("events_attended_prev_90d", (1, 2, 3, 4, 5)),
        ("rsvp_count_90d", (1, 3, 6)),
        ("no_show_count_90d", (1, 2)),
        ("days_since_attended", (8, 31, 61, 91, 181)),
        ("days_since_active", (8, 31, 61, 91, 180, 181)),
        ("days_since_joined", (30, 60, 180, 365)),
        ("interaction_count_90d", (1, 5, 20)),
        ("days_since_update", (91,)),
    ],
)
def test_both_sides_of_every_edge_occur(signal: str, edges: tuple[int, ...]) -> None:
    members = golden_members(AS_OF).with_columns(
        days_since_attended=(pl.col("as_of") - pl.col("last_attended_at")).dt.total_days(),
        days_since_update=(pl.col("as_of") - pl.col("profile_updated_at")).dt.total_days(),
    )
    assert {side for edge in edges for side in (edge - 1, edge)} <= set(members[signal])


def test_golden_members_keep_the_contract_of_signals() -> None:
    members = golden_members(AS_OF)
    contract("signals.member_90d").validate(members)
    assert set(members["org_id"]) == {GOLDEN_ORG.org_id}
    assert members["user_id"].to_list() == list(expected())


def test_golden_members_can_be_scored() -> None:
    members = golden_members(AS_OF)
    scored = score_org(GOLDEN_ORG, members, RulesClassifier(), as_of=AS_OF, computed_at=AS_OF)
    assert len(scored) == len(expected())


def test_golden_profiles_are_the_same_whenever_they_are_asked() -> None:
    now = with_profiles(golden_members(AS_OF), LIMITS)
    elsewhere = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=9)))
    then = with_profiles(golden_members(elsewhere), LIMITS)
    assert then["profile"].equals(now["profile"])
    assert set(then["as_of"]) == {elsewhere}


def test_a_member_without_a_trace_was_never_active() -> None:
    last_active = dict(golden_members(AS_OF).select("user_id", "last_active_at").rows())
    assert last_active["joined-yesterday"] is None
    # These two have as many days since they were active as since they joined.
    assert last_active["joined-today"] == AS_OF
    assert last_active["signed-up-on-joining"] == AS_OF - timedelta(days=25)
    assert last_active["newcomer-who-reads"] == AS_OF - timedelta(days=8)


def test_the_reasons_are_one_short_sentence_each() -> None:
    for level, why in expected().values():
        assert level in vocabulary.LEVELS
        assert why.endswith(".")
        assert why.count(".") == 1
        assert len(why) <= 120


def test_the_golden_organisation_is_sent_whole() -> None:
    sent = org_as_sent(GOLDEN_ORG)
    assert sent == {"name": GOLDEN_ORG.name, "description": GOLDEN_ORG.description}


def test_the_golden_set_is_part_of_the_package() -> None:
    root = Path(__file__).parents[3]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    packaged = project["tool"]["setuptools"]["package-data"]["engagement_pipeline.scoring"]
    folder = root / "engagement_pipeline" / "scoring"
    assert folder / "golden_set.yaml" in {file for glob in packaged for file in folder.glob(glob)}


def test_an_entry_is_read_as_it_is_written() -> None:
    (found,) = read_golden_set(written(entry()))
    assert (found.slug, found.expected, found.why) == ("one", "moderate", "An ordinary member.")
    assert vars(found.signals) == ENTRY["signals"]


@pytest.mark.parametrize("text", ["", "a: 1", "[]", "[1]", "- id: [", "- {id: one}"])
def test_what_is_no_list_of_entries_is_refused(text: str) -> None:
    with pytest.raises(InvalidGoldenSetError):
        read_golden_set(text)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"id": 7}, "entry 1: expected a word as id"),
        ({"id": " "}, "entry 1: expected a word as id"),
        ({"expected": "active"}, "one: expected one of highly_engaged, .* found 'active'"),
        ({"why": " "}, "one: does not say why"),
        ({"why": ...}, "entry 1: expected exactly id"),
        ({"note": "x"}, "entry 1: expected exactly id"),
        ({"sent": ...}, "one: expected exactly the signals"),
        ({"rsvps": -1}, "one: rsvps: expected a whole number from 0, found -1"),
        ({"rsvps": True}, "rsvps: .* found True"),
        ({"rsvps": 1.0}, "rsvps: .* found 1.0"),
        ({"rsvps": None}, "rsvps: .* found None"),
        ({"days_since_attended": "never"}, "days_since_attended: .* found 'never'"),
        ({"total": 2}, "one: total is less than attended and previous together"),
        ({"days_since_attended": None}, "one: total and days_since_attended disagree"),
        ({"attended": 0, "previous": 0, "total": 0}, "total and days_since_attended disagree"),
        ({"days_since_attended": 90}, "days_since_attended is not in the 90 days"),
        ({"attended": 0}, "days_since_attended is not in the 90 days"),
        ({"attended": 0, "days_since_attended": 180}, "days_since_attended is not in the 90"),
        ({"attended": 0, "previous": 0, "days_since_attended": 179}, "not in the 90 days"),
        ({"days_since_joined": 89, "total": 3, "days_since_profile_update": 80},
         "attended events before joining"),
        ({"days_since_joined": 179}, "attended events before joining"),
        ({"days_since_profile_update": 401}, "something happened before joining"),
        ({"days_since_active": 21}, "something happened after days_since_active"),
        ({"days_since_profile_update": 9}, "something happened after days_since_active"),
        ({"attended": 0, "rsvps": 1, "read": 0, "interactions": 0, "days_since_attended": 100,
          "days_since_active": 90}, "was active in the 90 days and yet not"),
        ({"attended": 0, "rsvps": 0, "read": 1, "interactions": 0, "days_since_attended": 100,
          "days_since_active": 90}, "was active in the 90 days and yet not"),
        ({"attended": 0, "rsvps": 0, "read": 0, "interactions": 1, "days_since_attended": 100,
          "days_since_active": 90}, "was active in the 90 days and yet not"),
        ({"read": None}, "sent and read are not known together"),
        ({"sent": None}, "sent and read are not known together"),
        ({"previous": 0, "total": 2, "days_since_joined": 59, "days_since_profile_update": 50,
          "expected": "at_risk"}, "a new member is called at_risk or inactive"),
        ({"previous": 0, "total": 2, "days_since_joined": 59, "days_since_profile_update": 50,
          "expected": "inactive"}, "a new member is called at_risk or inactive"),
    ],
)  # fmt: skip
def test_an_entry_that_no_member_could_be_is_refused_by_name(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidGoldenSetError, match=complaint):
        read_golden_set(written(entry(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"attended": 0, "days_since_attended": 90},
        {"attended": 0, "days_since_attended": 179},
        {"attended": 0, "previous": 0, "days_since_attended": 180},
        {"days_since_attended": 89, "days_since_active": 89},
        {"days_since_joined": 180},
        {"days_since_profile_update": None, "sent": None, "read": None, "interactions": None},
        {"days_since_joined": 60, "previous": 0, "total": 2, "days_since_profile_update": 60,
         "expected": "at_risk"},
    ],
)  # fmt: skip
def test_an_entry_at_the_edge_of_what_can_be_is_read(changes: dict[str, Any]) -> None:
    assert read_golden_set(written(entry(**changes)))


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidGoldenSetError, match="one: 2 entries have this id"):
        read_golden_set(written(entry(), entry(rsvps=0)))


def test_two_entries_of_one_profile_are_refused() -> None:
    twin = entry(id="two", total=500, days_since_joined=4_000)
    with pytest.raises(InvalidGoldenSetError, match=r"two: has the profile of one: 2 1 3 1 8 "):
        read_golden_set(written(entry(), twin))
    assert len(read_golden_set(written(entry(), {**twin, **entry(id="two", rsvps=0)}))) == 2
