"""What training and scoring take, each in a process of its own so that its peak memory is its own.

Members are those of `community_tables`, with every channel, and texts. What is done is what the
jobs do (`defs.training.train_models`, `defs.predicting.predict`), without Dagster's records.
"""

import json
import logging
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import community_tables as made
from benchmarks.models_page import table

WORK = Path(__file__).parent / "work" / "models"
TRAINED, SCORED = 200_000, 1_000_000
MEMBERS_AN_ORG = 200
_TEXTS, _ONE_WITH_TEXT_IN = 5_000, 4
_FIGURES = {"seconds": 1, "cpu_seconds": 1, "peak_gib": 2}
"""And how many digits of each are told."""
AIM_SECONDS, AIM_GIB = 60, 4
MODEL = "random_forest"
_LIBRARIES = ("scikit-learn", "polars", "duckdb", "numpy", "scipy", "skops")


def study(_data: Path, command: str) -> str:
    """Measure, and give the section."""
    shutil.rmtree(WORK, ignore_errors=True)
    for members in (TRAINED, SCORED):
        _child("fill", members)
    training = _child("train", TRAINED)
    _child("forest", TRAINED)
    forest = _child("score", SCORED)
    _child("forget", SCORED)
    heuristic = _child("score", SCORED)
    shutil.rmtree(WORK)
    rows = [
        [f"training, {TRAINED:,} members at 12 cut-offs", "", *_figures(training)],
        *(
            [f"of it {target}", f"`{training['ended'][target]}`", f"{training[target]:.1f}", "", ""]
            for target in ("churn", "mood", "timing")
        ),
        [f"scoring {SCORED:,} members", f"`{forest['by']}`", *_figures(forest)],
        ["the same", f"`{heuristic['by']}`", *_figures(heuristic)],
    ]
    return "\n".join(
        [
            "### Cost",
            "",
            f"`{command}`",
            "",
            f"{_machine()} Each row in a process of its own, reading from the warehouse and "
            "writing to it. Invented communities of "
            f"{MEMBERS_AN_ORG} members on average, three fifths of them silent for over half a "
            f"year, a quarter of the messages with a text; the {SCORED:,} have "
            f"{forest['attendance']:,} rows of attendance, "
            f"{forest['notifications']:,} notifications and {forest['interactions']:,} "
            f"interactions. Aim of scoring: at most {AIM_SECONDS} s and {AIM_GIB} GiB. Of the "
            f"members trained on there were {training['samples']:,} samples looked at, of which a "
            f"model is trained on 200,000 at most.",
            "",
            *table(["", "by, or how it ended", "seconds", "CPU s", "peak GiB"], rows, words=2),
        ]
    )


def _figures(found: dict[str, Any]) -> list[str]:
    return [f"{found[n]:.{digits}f}" for n, digits in _FIGURES.items()]


def _machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [ln for ln in cpuinfo.read_text().splitlines() if ln.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"Machine: {os.cpu_count()} cores of {model}, Python {platform.python_version()}, "
        f"{libraries}."
    )


def _child(step: str, members: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.models_cost", step, str(members)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step} of {members:,} members failed")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _step(step: str, members: int) -> dict[str, Any]:
    from engagement_pipeline.settings import load_settings
    from engagement_pipeline.warehouse.connection import Warehouse
    from engagement_pipeline.warehouse.schema import upgrade

    settings = load_settings(home=WORK / str(members), profile="test")
    if step == "forget":
        shutil.rmtree(settings.models_folder)
        return {}
    with Warehouse.of(settings).open() as connection:
        upgrade(connection, now=made.AS_OF)
        done = {"fill": _fill, "train": _train, "forest": _forest, "score": _score}[step]
        found = done(connection, settings)
    return {**found, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def _fill(connection: Any, settings: Any) -> dict[str, Any]:
    import polars as pl

    from benchmarks.sentiment import texts
    from engagement_pipeline.defs.interaction_scoring import score_new_interactions
    from engagement_pipeline.warehouse.frames import append

    members = int(settings.home.name)
    people = made.community(orgs=members // MEMBERS_AN_ORG, members=members)
    tables = made.first_day(people)
    tables["organizations"] = tables["organizations"].with_columns(timezone=pl.lit("UTC"))
    tables["memberships"] = tables["memberships"].with_columns(role=pl.lit("member"))
    said = tables["interactions"]
    written = pl.Series("text", list(texts(_TEXTS)))
    place = pl.int_range(pl.len())
    tables["interactions"] = said.with_columns(
        text=pl.when(place % _ONE_WITH_TEXT_IN == 0).then(
            pl.lit(written).gather(place // _ONE_WITH_TEXT_IN % _TEXTS)
        )
    )
    for name, frame in tables.items():
        append(connection, f"raw.{name}", frame)
    score_new_interactions(connection, settings, as_of=made.AS_OF)
    return {}


def _train(connection: Any, settings: Any) -> dict[str, Any]:
    from engagement_pipeline.contracts.vocabulary import PREDICTION_TARGETS
    from engagement_pipeline.defs.training import train_models

    times = _Times()
    started, cpu = time.perf_counter(), time.process_time()
    found = train_models(
        connection,
        settings,
        as_of=made.AS_OF,
        computed_at=made.AS_OF,
        min_samples=settings.min_training_samples,
        log=_log(times),
    )
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    ends = [started, *(times.last[target] for target in PREDICTION_TARGETS)]
    rows = {one.training["target"]: one.training for one in found}
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        **{
            target: end - begin
            for target, (begin, end) in zip(PREDICTION_TARGETS, pairwise(ends), strict=True)
        },
        "samples": rows["churn"]["samples"],
        "ended": {target: row["champion"] or row["outcome"] for target, row in rows.items()},
    }


def _forest(connection: Any, settings: Any) -> dict[str, Any]:
    """Keep a forest of full size for the members to be scored, whichever model won."""
    import polars as pl

    from engagement_pipeline.behavior.churn_models import ServedModel, churn_fitters, feature_rows
    from engagement_pipeline.behavior.churn_samples import churn_samples, cutoffs
    from engagement_pipeline.behavior.features import FEATURES
    from engagement_pipeline.contracts import contract
    from engagement_pipeline.defs.behavior_reading import behavior_slices
    from engagement_pipeline.defs.served_models import keep
    from engagement_pipeline.settings import load_settings

    days = settings.churn_horizon_days
    moments = cutoffs(made.AS_OF, horizon_days=days, count=1)
    samples = pl.concat(
        churn_samples(sources, moments, horizon_days=days)
        for sources in behavior_slices(connection, settings, made.AS_OF)
    ).head(settings.max_training_samples)
    rows, outcomes = feature_rows(samples, FEATURES), samples["outcome"].to_numpy()
    model = ServedModel(
        target="churn",
        name=MODEL,
        feature_names=FEATURES,
        horizon_days=days,
        as_of=made.AS_OF,
        estimator=churn_fitters()[MODEL](rows, outcomes, settings.seed),
        knots=((0.0, 1.0), (0.0, 1.0)),
    )
    scored = load_settings(home=WORK / str(SCORED), profile="test")
    keep(scored, "churn", model, contract("behavior.model_metrics").empty())
    return {}


def _score(connection: Any, settings: Any) -> dict[str, Any]:
    from engagement_pipeline.defs.predicting import predict
    from engagement_pipeline.warehouse.frames import query

    started, cpu = time.perf_counter(), time.process_time()
    predict(connection, settings, as_of=made.AS_OF, log=_log())
    spent = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
    }
    counted = {
        name: query(connection, f"SELECT count(*) AS n FROM raw.{name}").item()
        for name in ("attendance", "notifications", "interactions")
    }
    by = query(connection, "SELECT any_value(churn_model) AS m FROM behavior.predictions").item()
    return {**spent, "by": by, **counted}


class _Times(logging.Handler):
    """When each target was last spoken of: that is when its training had ended."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.last: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.last[record.getMessage().partition(":")[0]] = time.perf_counter()


def _log(handler: logging.Handler | None = None) -> Any:
    log = logging.getLogger("benchmarks.models_cost")
    log.setLevel(logging.INFO)
    log.addHandler(handler or logging.NullHandler())
    return log


if __name__ == "__main__":
    print(json.dumps(_step(sys.argv[1], int(sys.argv[2]))))
