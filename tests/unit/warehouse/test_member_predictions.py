"""What is predicted of members as it is stored: all or nothing, once a week, newest last."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.contract import ContractViolationError
from engagement_pipeline.warehouse import member_predictions as stored
from engagement_pipeline.warehouse.connection import Connection, Warehouse
from engagement_pipeline.warehouse.frames import append
from engagement_pipeline.warehouse.schema import upgrade

AS_OF = datetime(2026, 3, 1, 4, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
MEMBERS = contract("behavior.predictions")
TRAININGS = contract("behavior.trainings")
METRICS = contract("behavior.model_metrics")
CURVES = contract("behavior.model_curves")
MAPS = contract("loops.calibration_maps")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with Warehouse(tmp_path / "w.duckdb", tmp_path / "spool").open() as opened:
        upgrade(opened, now=AS_OF)
        yield opened


def predicted(user_id: str, as_of: datetime = AS_OF, **given: object) -> dict[str, object]:
    return {
        "org_id": "choir",
        "user_id": user_id,
        "as_of": as_of,
        "churn_probability": 0.4,
        "churn_raw": 0.25,
        "churn_heuristic": 0.5,
        "churn_model": "random_forest@2026-02-23",
        "confidence": 0.2,
        "churn_reason": None,
        "horizon_days": 30,
        "mood_now": None,
        "mood_predicted": None,
        "best_hour": 14,
        "best_weekday": None,
        "timing_model": "default",
        "timezone": "UTC",
        **given,
    }


def frame(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=MEMBERS.polars_schema)


def users(connection: Connection) -> list[str]:
    found = connection.execute("SELECT user_id FROM behavior.predictions ORDER BY ALL").fetchall()
    return [user for (user,) in found]


def kept(connection: Connection, columns: str = "made_at, user_id") -> list[tuple[Any, ...]]:
    connection.execute("SET TimeZone = 'UTC'")
    return connection.execute(f"SELECT {columns} FROM loops.predictions ORDER BY ALL").fetchall()


# --- What is predicted now.


def test_slices_together_replace_all_that_was_predicted(connection: Connection) -> None:
    assert stored.write_predictions(connection, [frame(predicted("ada"), predicted("bo"))]) == 2
    assert stored.write_predictions(connection, [frame(predicted("cy")), frame()]) == 1
    assert users(connection) == ["cy"]


def test_a_slice_that_breaks_leaves_what_was_predicted_before(connection: Connection) -> None:
    stored.write_predictions(connection, [frame(predicted("ada"))])

    def slices() -> Iterator[pl.DataFrame]:
        yield frame(predicted("bo"))
        raise RuntimeError("the second slice")

    with pytest.raises(RuntimeError, match="the second slice"):
        stored.write_predictions(connection, slices())
    assert users(connection) == ["ada"]


def test_a_row_that_breaks_the_contract_leaves_what_was_predicted_before(
    connection: Connection,
) -> None:
    stored.write_predictions(connection, [frame(predicted("ada"))])
    with pytest.raises(ContractViolationError, match="churn_probability"):
        stored.write_predictions(connection, [frame(predicted("bo", churn_probability=1.5))])
    assert users(connection) == ["ada"]


def test_the_moment_and_the_figures_are_those_of_the_rows(connection: Connection) -> None:
    assert stored.predicted_as_of(connection) is None
    assert stored.overview(connection)["members"] == 0
    rows = [
        predicted("ada", churn_probability=0.2, mood_now=0.1, mood_predicted=0.3),
        predicted("bo", churn_probability=0.6, timing_model="logistic_regression"),
    ]
    stored.write_predictions(connection, [frame(*rows)])
    assert stored.predicted_as_of(connection) == AS_OF
    assert stored.overview(connection) == {
        "members": 2,
        "mean_churn_probability": pytest.approx(0.4),
        "churn_model": "random_forest@2026-02-23",
        "churn_reason": None,
        "moods_predicted": 1,
        "hours_by_model": 1,
    }


# --- What is kept to meet its outcome.


def keep(connection: Connection, as_of: datetime, *names: str, **given: object) -> int:
    rows = [predicted(name, as_of, **given) for name in names or ("ada", "bo")]
    stored.write_predictions(connection, [frame(*rows)])
    return stored.keep_for_outcomes(connection, kind="churn", as_of=as_of)


def test_what_is_kept_is_what_the_model_said_and_by_its_name(connection: Connection) -> None:
    assert keep(connection, AS_OF, "ada") == 1
    columns = "kind, org_id, user_id, subject, predicted, made_at, due_at, predicted_by"
    assert kept(connection, columns) == [
        ("churn", "choir", "ada", "ada", 0.25, AS_OF, AS_OF + 30 * DAY, "random_forest")
    ]


def test_horizons_are_hours_whatever_clocks_do(connection: Connection) -> None:
    connection.execute("SET TimeZone = 'Europe/Berlin'")
    spring = datetime(2026, 3, 20, 4, tzinfo=UTC)
    keep(connection, spring, "ada", horizon_days=14)
    assert kept(connection, "due_at") == [(spring + 14 * DAY,)]


def test_the_same_moment_is_kept_once_and_as_it_was_predicted_last(connection: Connection) -> None:
    keep(connection, AS_OF, "ada", "bo")
    ids = kept(connection, "prediction_id")
    assert keep(connection, AS_OF, "ada", "bo", churn_raw=0.75, churn_model="heuristic") == 2
    assert kept(connection, "prediction_id") == ids
    assert kept(connection, "predicted, predicted_by") == [(0.75, "heuristic")] * 2
    assert keep(connection, AS_OF, "bo") == 1
    assert kept(connection) == [(AS_OF, "bo")]


def test_a_prediction_of_another_moment_or_kind_is_not_touched(connection: Connection) -> None:
    keep(connection, AS_OF, "ada")
    (first,) = kept(connection, "*")
    assert stored.keep_for_outcomes(connection, kind="mood", as_of=AS_OF) == 1
    assert keep(connection, AS_OF + 8 * DAY, "ada") == 1
    found = kept(connection, "*")
    assert first in found
    assert len({row[0] for row in found}) == 3


def test_nothing_is_kept_of_what_is_predicted_of_another_moment(connection: Connection) -> None:
    stored.write_predictions(connection, [frame(predicted("ada", AS_OF - DAY))])
    assert stored.keep_for_outcomes(connection, kind="churn", as_of=AS_OF) == 0
    assert kept(connection) == []


def test_a_week_is_over_at_the_very_moment(connection: Connection) -> None:
    assert keep(connection, AS_OF) == 2
    assert keep(connection, AS_OF + 7 * DAY - TICK) == 0
    assert keep(connection, AS_OF + 7 * DAY) == 2


# All examples share a warehouse, emptied each time: to make one takes a quarter of a second.
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(waits=st.lists(st.sampled_from([1, 24, 25, 72, 167, 168, 169]), min_size=1, max_size=8))
def test_from_one_that_is_kept_to_the_next_it_is_a_week_and_no_longer_than_needed(
    connection: Connection, waits: list[int]
) -> None:
    connection.execute("DELETE FROM loops.predictions")
    expected: list[datetime] = []
    moment = AS_OF
    for hours in waits:
        moment += timedelta(hours=hours)
        if not expected or moment - expected[-1] >= 7 * DAY:
            expected.append(moment)
        keep(connection, moment, "ada")
    assert [made_at for made_at, _ in kept(connection)] == expected


# --- Maps.


def test_maps_are_in_force_from_their_moment_until_they_expire(connection: Connection) -> None:
    def knot(org: str, key: str, raw: float, computed_at: datetime) -> dict[str, object]:
        return {
            "org_id": org,
            "key": key,
            "raw": raw,
            "calibrated": raw / 2,
            "n": 200,
            "is_pooled": False,
            "computed_at": computed_at,
            "expires_at": computed_at + 10 * DAY,
        }

    key = "churn:random_forest"
    knots = [
        knot("choir", key, 0.9, AS_OF),
        knot("choir", key, 0.1, AS_OF),
        knot("choir", key, 0.5, AS_OF - 10 * DAY),
        knot("choir", key, 0.5, AS_OF + TICK),
        knot("choir", "churn:heuristic", 0.5, AS_OF),
        knot("band", key, 0.5, AS_OF - 10 * DAY + TICK),
    ]
    append(connection, MAPS.full_name, pl.DataFrame(knots, schema=MAPS.polars_schema))
    found = stored.maps_in_force(connection, key=key, as_of=AS_OF)
    assert found.select("org_id", "raw").rows() == [("band", 0.5), ("choir", 0.1), ("choir", 0.9)]
    assert found.schema == MAPS.polars_schema
    assert stored.maps_in_force(connection, key="churn:none", as_of=AS_OF).is_empty()


# --- Trainings.


def training(target: str = "churn", as_of: datetime = AS_OF, **given: object) -> dict[str, object]:
    return {
        "target": target,
        "as_of": as_of,
        "outcome": "champion",
        "champion": "random_forest",
        "reason": None,
        "samples": 600,
        "members": 60,
        "organisations": 2,
        "base_rate": 0.3,
        "horizon_days": 30,
        "cutoffs": 10,
        "first_cutoff": as_of - 300 * DAY,
        "last_cutoff": as_of - 30 * DAY,
        "population": "all",
        **given,
    }


def metrics(*models: str, target: str = "churn", as_of: datetime = AS_OF) -> pl.DataFrame:
    row = {"target": target, "as_of": as_of, "metric": "roc_auc", "value": 0.7, "n": 100}
    flags = {"lower": None, "upper": None, "is_baseline": False, "is_champion": False}
    rows = [row | flags | {"model": model} for model in models]
    return pl.DataFrame(rows, schema=METRICS.polars_schema)


def curve(target: str = "churn", as_of: datetime = AS_OF) -> pl.DataFrame:
    row = {"target": target, "as_of": as_of, "model": "a", "curve": "importance", "place": 0}
    told = {"label": "days_since_active", "x": None, "y": 0.1, "n": None}
    return pl.DataFrame([row | told], schema=CURVES.polars_schema)


def test_a_training_of_the_same_moment_replaces_all_that_was_measured_and_no_other(
    connection: Connection,
) -> None:
    for target in ("churn", "mood"):
        for as_of in (AS_OF - 7 * DAY, AS_OF):
            stored.add_training(
                connection,
                training(target, as_of),
                metrics("a", "b", target=target, as_of=as_of),
                curve(target, as_of),
                computed_at=AS_OF,
            )
    again = training(outcome="failed", champion=None, reason="no", base_rate=None)
    stored.add_training(connection, again, METRICS.empty(), CURVES.empty(), computed_at=AS_OF + DAY)

    def counted(table: str) -> list[tuple[object, ...]]:
        sql = f"SELECT target, as_of = ?, count(*) FROM {table} GROUP BY ALL ORDER BY ALL"
        return connection.execute(sql, [AS_OF]).fetchall()

    others = [("churn", False), ("mood", False), ("mood", True)]
    assert counted("behavior.model_metrics") == [(*key, 2) for key in others]
    assert counted("behavior.model_curves") == [(*key, 1) for key in others]
    assert len(counted("behavior.trainings")) == 4
    assert stored.last_trainings(connection)["churn"]["outcome"] == "failed"


def test_a_training_that_cannot_be_kept_whole_is_not_kept_at_all(connection: Connection) -> None:
    nothing = CURVES.empty()
    stored.add_training(connection, training(), metrics("a"), nothing, computed_at=AS_OF)
    twice = pl.concat([metrics("b"), metrics("b")])
    with pytest.raises(ContractViolationError):
        stored.add_training(
            connection, training(samples=1), twice, nothing, computed_at=AS_OF + DAY
        )
    assert stored.last_trainings(connection)["churn"]["samples"] == 600
    models = connection.execute("SELECT model FROM behavior.model_metrics").fetchall()
    assert models == [("a",)]


def test_the_last_training_is_the_one_done_last_and_of_those_the_one_for_the_latest_moment(
    connection: Connection,
) -> None:
    assert stored.last_trainings(connection) == {}
    done = [
        ("churn", AS_OF, AS_OF + DAY),
        ("churn", AS_OF - 60 * DAY, AS_OF + 2 * DAY),
        ("churn", AS_OF - 30 * DAY, AS_OF + 2 * DAY),
        ("mood", AS_OF, AS_OF),
    ]
    for target, as_of, computed_at in done:
        stored.add_training(
            connection,
            training(target, as_of),
            METRICS.empty(),
            CURVES.empty(),
            computed_at=computed_at,
        )
    found = stored.last_trainings(connection)
    assert {target: row["as_of"] for target, row in found.items()} == {
        "churn": AS_OF - 30 * DAY,
        "mood": AS_OF,
    }


def test_a_training_that_failed_is_on_record_unless_one_of_the_same_moment_ended(
    connection: Connection,
) -> None:
    failed = {"outcome": "failed", "champion": None, "reason": "it broke", "base_rate": None}
    stored.add_training(connection, training(), metrics("a"), curve(), computed_at=AS_OF)
    for target, as_of in (("churn", AS_OF), ("churn", AS_OF - DAY), ("mood", AS_OF)):
        for day in (1, 2):
            stored.add_failed_training(
                connection, training(target, as_of, **failed), computed_at=AS_OF + day * DAY
            )
    rows = connection.execute(
        "SELECT target, as_of = ?, outcome FROM behavior.trainings ORDER BY ALL", [AS_OF]
    ).fetchall()
    assert rows == [
        ("churn", False, "failed"),
        ("churn", True, "champion"),
        ("mood", True, "failed"),
    ]
    for table in ("model_metrics", "model_curves"):
        assert connection.execute(f"SELECT count(*) FROM behavior.{table}").fetchall() == [(1,)]
