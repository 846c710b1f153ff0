"""A source whose members' churn can be foretold, and better than by when they were last active.

Here belong the source and short ways to train and predict on its warehouse without Dagster, for
what has to be done often. What must come of it belongs to the tests.
"""

import csv
import logging
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from engagement_pipeline.behavior import churn_training, curves
from engagement_pipeline.behavior.churn_models import churn_fitters
from engagement_pipeline.contracts import contract
from engagement_pipeline.definitions import defs
from engagement_pipeline.defs.behavior import PATTERNS, PREDICTIONS
from engagement_pipeline.defs.metadata import asset_key
from engagement_pipeline.defs.predicting import Predicted, predict
from engagement_pipeline.defs.training import Trained, train_models
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal.running import JobRun, dagster_instance, run_job
from engagement_pipeline.warehouse.connection import Warehouse
from tests.home import settings_of, stored
from tests.small_source import write_table

AS_OF = datetime(2025, 12, 1, 4, tzinfo=UTC)
HORIZON = timedelta(days=30)
CUTOFFS = 3
ORGS = ("choir", "garden")
MEMBERS = 110
"""Of each organisation: both together are enough for a map of predictions at one moment."""
SAMPLES = CUTOFFS * len(ORGS) * MEMBERS
MODEL = "logistic_regression"

_LOG: Any = logging.getLogger("behaviour of the tests")
_TEXTS = ("I love this so much!", "This is bad and I hate it.", "When do we meet next week?")


def behavior_settings(home: Path, source: Path, **given: object) -> Settings:
    """Settings of a home whose trainings look at few past moments, in whatever process."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "engagement.toml").write_text(f"training_cutoffs = {CUTOFFS}\n")
    return settings_of(home, source, **given)


def train_one_model(patch: pytest.MonkeyPatch, *, tells_importance: bool = False) -> None:
    """Let trainings of churn fit a single model; all of them take seconds, as importance does."""
    fit = churn_fitters()[MODEL]
    patch.setattr(churn_training, "churn_fitters", lambda: {MODEL: fit})
    told = curves.importance if tells_importance else lambda *_, **__: []
    patch.setattr(churn_training, "importance", told)


def run(settings: Settings, job_name: str, *, ops: Any = None, **options: str) -> JobRun:
    """Run a job in the home's own instance."""
    given = {"home": str(settings.home), "source": str(settings.source_folder), **options}
    with dagster_instance(settings) as instance:
        return run_job(instance, job_name, options=given, ops=ops)


def describe_and_predict(settings: Settings, as_of: datetime) -> str:
    """Run the job `refresh` without taking in and scoring; gives the run's id."""
    options = {"home": str(settings.home), "as_of": as_of.isoformat()}
    with dagster_instance(settings) as instance:
        done = defs.resolve_job_def("refresh").execute_in_process(
            instance=instance,
            asset_selection=[asset_key(PATTERNS), asset_key(PREDICTIONS)],
            run_config={
                "resources": {"pipeline": {"config": options}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
    assert done.success
    return done.run_id


def checks_of(settings: Settings, run_id: str) -> dict[tuple[str, str], Any]:
    """What a run's checks found: (table, check) -> its evaluation."""
    with dagster_instance(settings) as instance:
        records = instance.get_records_for_run(
            run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ).records
    found = [record.event_log_entry.dagster_event for record in records]
    evaluations = [event.asset_check_evaluation_data for event in found if event is not None]
    return {
        (evaluation.asset_key.to_user_string().replace("/", "."), evaluation.check_name): evaluation
        for evaluation in evaluations
    }


def metadata_of(settings: Settings, run_id: str) -> dict[str, dict[str, Any]]:
    """What a run told of each table that it wrote: table -> name -> value."""
    with dagster_instance(settings) as instance:
        records = instance.get_records_for_run(
            run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
    found = [record.asset_materialization for record in records]
    return {
        told.asset_key.to_user_string().replace("/", "."): {
            name: value.value for name, value in told.metadata.items()
        }
        for told in found
        if told is not None
    }


def source_rows(folder: Path, table: str) -> list[dict[str, str]]:
    """The rows of a table of the source, as plain texts."""
    with (folder / f"{table}.csv").open() as lines:
        return list(csv.DictReader(lines))


def write_behavior_source(folder: Path) -> Path:
    """Write a source in which who did not come where they said they would then stays away.

    In each thirty days up to `AS_OF`, and in the thirty after it, a member answers one invitation
    at a time of its own, or does nothing. When that was tells nothing of the next thirty days;
    whether the member came tells nearly all. Some say something as they answer.
    """
    dice = random.Random(11)
    memberships, attendance, interactions = [], [], []
    for org in ORGS:
        for number in range(MEMBERS):
            user = f"{org}-{number:03d}"
            memberships.append([org, user, "member", _at(-CUTOFFS - 3, 0)])
            is_back, came = 0.7, True
            for period in range(-CUTOFFS - 2, 1):
                is_active = dice.random() < (is_back if came else 0.05)
                is_back, came = (0.95 if is_active else 0.5), True
                if not is_active:
                    continue
                at, came = _at(period, dice.random()), dice.random() < 0.5
                status = "attended" if came else "no_show"
                attendance.append([org, f"{org}{period}", user, status, at])
                if number % 3 == 0:
                    said = [f"{user}:{period}", org, user, "message", dice.choice(_TEXTS), at]
                    interactions.append(said)
    write_table(folder, "organizations", ["org_id", "name"], [[org, org.title()] for org in ORGS])
    write_table(folder, "memberships", ["org_id", "user_id", "role", "joined_at"], memberships)
    columns = ["org_id", "event_id", "user_id", "status", "created_at"]
    write_table(folder, "attendance", columns, attendance)
    columns = ["interaction_id", "org_id", "user_id", "type", "text", "sent_at"]
    write_table(folder, "interactions", columns, interactions)
    return folder


def _at(period: int, share: float) -> str:
    """A moment of the thirty days that begin so many times thirty days after `AS_OF`."""
    return (AS_OF + (period + share) * HORIZON).isoformat()


def train(
    settings: Settings,
    as_of: datetime = AS_OF,
    *,
    computed_at: datetime | None = None,
    min_samples: int = 500,
) -> dict[str, Trained]:
    """Train all models on the warehouse as the job `train_models` does; by target."""
    with Warehouse.of(settings).open() as connection:
        found = train_models(
            connection,
            settings,
            as_of=as_of,
            computed_at=computed_at or as_of,
            min_samples=min_samples,
            log=_LOG,
        )
    return {trained.training["target"]: trained for trained in found}


def predict_at(settings: Settings, as_of: datetime = AS_OF) -> Predicted:
    """Predict for every member, as the asset `behavior/predictions` does."""
    with Warehouse.of(settings).open() as connection:
        return predict(connection, settings, as_of=as_of, log=_LOG)


def predictions(settings: Settings) -> list[dict[str, Any]]:
    """What is predicted now, sorted by member."""
    names = contract("behavior.predictions").column_names
    rows = stored(
        settings,
        f"SELECT {', '.join(names)} FROM behavior.predictions ORDER BY org_id, user_id",
    )
    return [dict(zip(names, row, strict=True)) for row in rows]
