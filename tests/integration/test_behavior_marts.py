"""The marts of behaviour, and the churn probability of a member, against plain Python."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC
from typing import Any

import pytest

from engagement_pipeline.warehouse.publication import Publication
from tests.integration.test_marts import orgs, read_marts

Row = dict[str, Any]
Build = Callable[..., Publication]


@pytest.fixture(scope="module")
def world(make_seeded_world: Callable[..., Any]) -> Any:
    return make_seeded_world(41)


@pytest.fixture(scope="module")
def marts(world: Any, build_marts: Build) -> dict[str, list[Row]]:
    return read_marts(build_marts(world))


def _place(training: Row) -> tuple[Any, ...]:
    return training["outcome"] != "failed", training["computed_at"], training["as_of"]


def by_key(rows: list[Row], *key: str) -> dict[tuple[Any, ...], Row]:
    found = {tuple(row[name] for name in key): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize(
    ("mart", "table"),
    [
        ("member_patterns", "behavior.patterns"),
        ("member_predictions", "behavior.predictions"),
    ],
)
def test_what_is_known_of_a_member_is_shown_with_the_organisations_name(
    world: Any, marts: dict[str, list[Row]], mart: str, table: str
) -> None:
    names = {row["org_id"]: row["name"] for row in world.rows("raw.organizations")}
    expected = [
        row | {"org_name": names[row["org_id"]]}
        for row in world.rows(table)
        if row["org_id"] in names
    ]
    assert len(expected) < len(world.rows(table))  # an organisation is gone
    assert by_key(marts[f"marts.{mart}"], "org_id", "user_id") == by_key(
        expected, "org_id", "user_id"
    )


def test_the_last_churn_probability_shows_beside_a_level_of_whatever_moment(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    predicted = {
        (row["org_id"], row["user_id"]): row["churn_probability"]
        for row in world.rows("behavior.predictions")
    }
    shown = marts["marts.member_engagement"]
    for row in shown:
        assert row["churn_probability"] == predicted.get((row["org_id"], row["user_id"]))
    assert {row["churn_probability"] is None for row in shown} == {True, False}


def test_days_of_interactions_are_counted_up_to_the_moment_shown(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    days: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in world.rows("behavior.interactions_scored"):
        if row["org_id"] in orgs(world) and row["sent_at"] <= world.shown:
            days[row["org_id"], row["sent_at"].astimezone(UTC).date()].append(row)
    found = by_key(marts["marts.interactions_daily"], "org_id", "day")
    assert found.keys() == days.keys()
    for key, rows in days.items():
        sentiments = [row["sentiment"] for row in rows if row["sentiment"] is not None]
        qualities = [row["quality"] for row in rows]
        assert found[key] == {
            "org_id": key[0],
            "day": key[1],
            "interactions": len(rows),
            "members": len({row["user_id"] for row in rows}),
            "sessions": len({row["session_id"] for row in rows}),
            "meaningful": sum(row["is_meaningful"] for row in rows),
            "texts": len(sentiments),
            "mean_sentiment": pytest.approx(sum(sentiments) / len(sentiments))
            if sentiments
            else None,
            "mean_quality": pytest.approx(sum(qualities) / len(qualities)),
        }


def test_the_report_shows_the_training_done_last_also_where_it_measured_nothing(
    world: Any, marts: dict[str, list[Row]]
) -> None:
    last: dict[str, Row] = {}
    for row in world.rows("behavior.trainings"):
        before = last.get(row["target"])
        if before is None or _place(row) > _place(before):
            last[row["target"]] = row
    kept = (
        "target", "as_of", "outcome", "reason", "population", "base_rate", "samples", "members",
        "horizon_days", "cutoffs", "last_cutoff",
    )  # fmt: skip
    nothing = {"model": "none", "metric": "none", "value": None, "lower": None, "upper": None}
    nothing |= {"n": 0, "is_baseline": False, "is_champion": False}
    expected = []
    for training in last.values():
        measured = [
            row
            for row in world.rows("behavior.model_metrics")
            if (row["target"], row["as_of"]) == (training["target"], training["as_of"])
        ]
        told = {name: training[name] for name in kept}
        expected += [told | metrics for metrics in measured or [nothing]]
    key = ("target", "model", "metric")
    assert by_key(marts["marts.model_report"], *key) == by_key(expected, *key)
    assert {row["model"] for row in expected} == {"a_model", "a_baseline", "none"}
