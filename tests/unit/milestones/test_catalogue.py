"""The catalogue: what is in it, and that each fault of one is found."""

import re

import polars as pl
import pytest

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.milestones.catalogue import (
    SCHEMA,
    InvalidCatalogueError,
    catalogue,
    lint,
    read_catalogue,
    uncountable,
)
from engagement_pipeline.settings import PROJECT_FOLDER

ENTRY = """
- id: first_words
  name: First words
  description: Send a first message.
  category: communication
  difficulty: 1
  points: 10
  metric: messages
  target: 1
"""
GOOD = {
    "milestone_id": "good",
    "name": "Good",
    "description": "Do it.",
    "category": "special",
    "difficulty": 2,
    "points": 20,
    "metric": "messages",
    "target": 20,
    "window_days": None,
}


def faults(*rows):
    return lint(pl.DataFrame(rows, schema=SCHEMA))


def test_the_catalogue_has_all_categories_and_metrics_from_a_day_to_a_year():
    rows = catalogue()
    assert rows.height >= 24
    assert set(rows["category"]) == set(vocabulary.MILESTONE_CATEGORIES)
    assert set(rows["metric"]) == set(vocabulary.MILESTONE_METRICS)
    assert set(rows["difficulty"]) == {1, 2, 3, 4, 5}
    assert (rows["points"].min(), rows["points"].max()) == (10, 1_000)
    stays = rows.filter(pl.col("metric") == "days_since_joined").select("milestone_id", "target")
    targets = dict(stays.iter_rows())
    assert (targets["newcomer"], targets["loyal_companion"]) == (1, 365)
    assert (min(targets.values()), max(targets.values())) == (1, 365)


def test_the_page_of_milestones_has_the_whole_catalogue():
    page = (PROJECT_FOLDER / "docs" / "milestones.md").read_text(encoding="utf-8")
    listed = [line for line in page.splitlines() if line.startswith("| ") and " | `" in line]
    expected = [
        f"| {row['name']} | {row['category']} | {row['target']:,} | `{row['metric']}` | "
        + ("" if row["window_days"] is None else f"{row['window_days']} days")
        + f" | {row['difficulty']} | {row['points']:,} |"
        for row in catalogue().rows(named=True)
    ]
    assert sorted(listed) == sorted(expected)
    metrics = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", "".join(metrics))) == set(vocabulary.MILESTONE_METRICS)


def test_the_catalogue_is_sorted_and_without_fault():
    assert lint(catalogue()) == []
    assert catalogue()["milestone_id"].is_sorted()


def test_harder_milestones_of_the_catalogue_are_worth_more_on_average():
    by_difficulty = catalogue().group_by("difficulty").agg(pl.col("points").mean())
    assert by_difficulty.sort("difficulty")["points"].is_sorted()


def test_a_good_milestone_has_no_fault():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"milestone_id": ""}, "a milestone without an id: expected an id, found none"),
        ({"category": "luck"}, "good: category: expected one of communication, "),
        ({"difficulty": 6}, "good: difficulty: expected 1 to 5, found 6"),
        ({"difficulty": 0}, "good: difficulty: expected 1 to 5, found 0"),
        ({"points": 9}, "good: points: expected 10 to 1000, found 9"),
        ({"points": 1_001}, "good: points: expected 10 to 1000, found 1001"),
        ({"name": " "}, "good: name: expected a text, found none"),
        ({"description": ""}, "good: description: expected a text, found none"),
        ({"name": "High score"}, "good: name: breaks the rule 'score'"),
        ({"name": "In danger of leaving"}, "good: name: breaks the rule 'at_risk'"),
        ({"description": "Be **there**."}, "good: description: breaks the rule 'markup'"),
        ({"name": "Top rank"}, "good: name: expected no points, ranks and levels"),
        ({"description": "Earn Points."}, "good: description: expected no points, ranks"),
        ({"name": "A 100 days"}, "good: name: expected no figures, found 'A 100 days'"),
        ({"metric": "kindness"}, "good: metric: expected one of messages, "),
        ({"target": 0}, "good: target: expected at least 1, found 0"),
        (
            {"metric": "interaction_types", "target": 9},
            "good: target: expected at most 8 interaction_types, found 9",
        ),
        (
            {"metric": "days_since_joined", "window_days": 90},
            "good: window_days: days_since_joined are counted over all days, found a window of 90",
        ),
        ({"window_days": 0}, "good: window_days: expected at least 1, found 0"),
        (
            {"metric": "longest_streak_days", "target": 31, "window_days": 30},
            "good: target: expected at most the 30 days of its window, found 31",
        ),
    ],
)
def test_each_fault_of_a_milestone_is_told_once_with_its_id(change, told):
    (fault,) = faults(GOOD | change)
    assert fault.startswith(told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "Other", "target": 30}, "good: its milestone_id occurs twice"),
        ({"milestone_id": "other", "target": 30}, "Good: its name occurs twice"),
        ({"milestone_id": "b", "name": "B"}, "good and b: the same metric, target and window"),
        (
            {"milestone_id": "b", "name": "B", "target": 19, "points": 21},
            "good and b: good wants more for less: points",
        ),
        (
            {"milestone_id": "b", "name": "B", "target": 21, "difficulty": 1},
            "good and b: b wants more for less: difficulty",
        ),
    ],
)
def test_each_fault_between_two_milestones_is_told_once(change, told):
    assert faults(GOOD, GOOD | change) == [told]


def test_two_of_different_windows_may_be_worth_what_they_like():
    other = {"milestone_id": "b", "name": "B", "target": 19, "points": 21, "window_days": 7}
    assert faults(GOOD, GOOD | other) == []


def test_what_members_may_not_read_can_still_be_counted():
    assert uncountable(pl.DataFrame([GOOD | {"name": "Level 9"}], schema=SCHEMA)) == []


def test_a_milestone_is_read_as_it_is_written():
    row = read_catalogue(ENTRY + "  window_days: 7\n").row(0, named=True)
    assert row == GOOD | {
        "milestone_id": "first_words",
        "name": "First words",
        "description": "Send a first message.",
        "category": "communication",
        "difficulty": 1,
        "points": 10,
        "target": 1,
        "window_days": 7,
    }
    assert read_catalogue(ENTRY)["window_days"].to_list() == [None]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "expected YAML, found"),
        ("a: b", "expected a list of milestones, found {'a': 'b'}"),
        ("", "expected a list of milestones, found None"),
        ("- first_words", "expected a milestone's keys, found 'first_words'"),
        (ENTRY.replace("points: 10", "score: 10"), r"missing: \['points'\], unknown: \['score'\]"),
        (ENTRY.replace("target: 1", "target: yes"), "first_words: target: expected a whole number"),
        (ENTRY.replace("First words", "1"), "first_words: name: expected a text, found 1"),
        (ENTRY.replace("points: 10", "points: 1"), "first_words: points: expected 10 to 1000"),
    ],
)
def test_a_file_that_is_not_in_order_is_refused_with_what_was_found(text, told):
    with pytest.raises(InvalidCatalogueError, match=told):
        read_catalogue(text)
