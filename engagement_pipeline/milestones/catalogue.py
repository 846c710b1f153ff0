"""The catalogue of milestones, and what a good one keeps to.

Reading and checking `catalogue.yaml` belongs here; the only module of this package that opens a
file, and only that one. How a metric is counted belongs to `progress`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from itertools import combinations
from typing import Any

import polars as pl
import yaml

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.scoring.user_text import check_user_text

TABLE = contract("milestones.catalogue")
COLUMNS = tuple(name for name in TABLE.column_names if name != "seeded_at")
SCHEMA = pl.Schema({name: TABLE.polars_schema[name] for name in COLUMNS})

WINDOWED_METRICS = frozenset(vocabulary.MILESTONE_METRICS) - {
    "weekly_streak_weeks",
    "interaction_types",
    "days_since_joined",
}
"""The metrics that can be counted in a window of days; the others are of all time."""

POINTS = (10, 1_000)
DIFFICULTIES = (1, 5)

_FILE = "catalogue.yaml"
_KEYS = {"id" if name == "milestone_id" else name for name in COLUMNS}
_DAYS = ("active_days", "quality_days", "positive_days", "night_days", "early_days", "weekend_days")
_MOST = {"interaction_types": len(vocabulary.INTERACTION_TYPES)}
# Points and ranks are for the team's view alone; levels and scores are what `user_text` looks for.
_GAME_WORDS = re.compile(r"\b(?:points?|rank\w*|levels?|leaderboards?|badges?)\b", re.IGNORECASE)
_MOST_OF_A_WINDOW = (*_DAYS, "longest_streak_days")


class InvalidCatalogueError(ValueError):
    """Milestones contradict themselves or each other; the message names them and says how."""


@cache
def catalogue() -> pl.DataFrame:
    """The milestones of `catalogue.yaml`, sorted by id.

    Returns:
        The columns of the contract `milestones.catalogue`, without `seeded_at`.

    Raises:
        InvalidCatalogueError: see `lint`.
    """
    file = resources.files("engagement_pipeline.milestones").joinpath(_FILE)
    return read_catalogue(file.read_text(encoding="utf-8"))


def read_catalogue(text: str) -> pl.DataFrame:
    """The milestones of a YAML text in the shape of `catalogue.yaml`; as `catalogue`.

    Raises:
        InvalidCatalogueError: it is no list of milestones, or `lint` finds fault with it.
    """
    try:
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidCatalogueError(f"{_FILE}: expected YAML, found: {error}") from None
    if not isinstance(entries, list) or not entries:
        raise InvalidCatalogueError(f"{_FILE}: expected a list of milestones, found {entries!r}")
    rows = pl.DataFrame([_row(entry) for entry in entries], schema=SCHEMA).sort("milestone_id")
    faults = lint(rows)
    if faults:
        raise InvalidCatalogueError(f"{_FILE}: " + "; ".join(faults))
    return rows


def lint(rows: pl.DataFrame) -> list[str]:
    """What is wrong with these milestones, each fault with the milestone's id; none if all is well.

    Args:
        rows: the columns of `catalogue`.

    Returns:
        Faults of: ids and names that occur twice or are empty, words outside the vocabulary,
        difficulty and points out of bounds, names and descriptions that members may not read
        (`user_text.check_user_text`; also points, ranks and levels, and figures in a name), what
        cannot be counted or reached (`uncountable`), two of the same metric, target and window,
        and more wanted for fewer points.
    """
    found = rows.rows(named=True)
    faults = [fault for row in found for fault in _faults(row)]
    for column in ("milestone_id", "name"):
        counts = Counter(row[column] for row in found)
        faults += [f"{value}: its {column} occurs twice" for value, n in counts.items() if n > 1]
    faults += [fault for one, other in combinations(found, 2) for fault in _between(one, other)]
    return faults + uncountable(rows)


def uncountable(rows: pl.DataFrame) -> list[str]:
    """Why `progress` cannot count some of these milestones; none if it can.

    A metric must be known, a target at least 1, a window at least a day long and of a metric that
    has one (`WINDOWED_METRICS`), and a target no more than the window, or the kinds of interaction,
    can hold.
    """
    return [
        f"{row['milestone_id']}: {why}" for row in rows.rows(named=True) for why in _obstacles(row)
    ]


def _row(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise InvalidCatalogueError(f"{_FILE}: expected a milestone's keys, found {entry!r}")
    missing = _KEYS - {"window_days"} - entry.keys()
    unknown = entry.keys() - _KEYS
    if missing or unknown:
        raise InvalidCatalogueError(
            f"{_FILE}: {entry.get('id', entry)}: expected the keys {sorted(_KEYS)}; missing: "
            f"{sorted(missing) or 'none'}, unknown: {sorted(map(str, unknown)) or 'none'}"
        )
    row = {name: entry.get("id" if name == "milestone_id" else name) for name in COLUMNS}
    for name, value in row.items():
        is_text = SCHEMA[name] == pl.String
        # A bool is an int to Python, and `yes` would pass as 1.
        is_right = type(value) is (str if is_text else int)
        if not (is_right or (name == "window_days" and value is None)):
            expected = "a text" if is_text else "a whole number"
            raise InvalidCatalogueError(
                f"{_FILE}: {row['milestone_id']}: {name}: expected {expected}, found {value!r}"
            )
    return row


def _faults(row: Mapping[str, Any]) -> Iterator[str]:
    who = row["milestone_id"] or "a milestone without an id"
    if not row["milestone_id"]:
        yield f"{who}: expected an id, found none"
    if row["category"] not in vocabulary.MILESTONE_CATEGORIES:
        expected = ", ".join(vocabulary.MILESTONE_CATEGORIES)
        yield f"{who}: category: expected one of {expected}, found {row['category']!r}"
    for name, (lowest, highest) in (("difficulty", DIFFICULTIES), ("points", POINTS)):
        if not lowest <= row[name] <= highest:
            yield f"{who}: {name}: expected {lowest} to {highest}, found {row[name]}"
    for name in ("name", "description"):
        text = row[name]
        if not text.strip():
            yield f"{who}: {name}: expected a text, found none"
        for rule in check_user_text(text):
            yield f"{who}: {name}: breaks the rule {rule!r} of what members read: {text!r}"
        if _GAME_WORDS.search(text):
            yield f"{who}: {name}: expected no points, ranks and levels, found {text!r}"
    if any(character.isdigit() for character in row["name"]):
        yield f"{who}: name: expected no figures, found {row['name']!r}"


def _obstacles(row: Mapping[str, Any]) -> Iterator[str]:
    metric, target, window = row["metric"], row["target"], row["window_days"]
    if metric not in vocabulary.MILESTONE_METRICS:
        expected = ", ".join(vocabulary.MILESTONE_METRICS)
        yield f"metric: expected one of {expected}, found {metric!r}"
        return
    if target < 1:
        yield f"target: expected at least 1, found {target}"
    if target > _MOST.get(metric, target):
        yield f"target: expected at most {_MOST[metric]} {metric}, found {target}"
    if window is None:
        return
    if metric not in WINDOWED_METRICS:
        yield f"window_days: {metric} are counted over all days, found a window of {window}"
    elif window < 1:
        yield f"window_days: expected at least 1, found {window}"
    elif metric in _MOST_OF_A_WINDOW and target > window:
        yield f"target: expected at most the {window} days of its window, found {target}"


def _between(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    if (one["metric"], one["window_days"]) != (other["metric"], other["window_days"]):
        return
    both = f"{one['milestone_id']} and {other['milestone_id']}"
    if one["target"] == other["target"]:
        yield f"{both}: the same metric, target and window"
        return
    less, more = sorted((one, other), key=lambda row: row["target"])
    for worth in ("points", "difficulty"):
        if less[worth] > more[worth]:
            yield f"{both}: {more['milestone_id']} wants more for less: {worth}"
