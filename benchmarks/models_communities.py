"""What the project's own training makes of two public communities, as a person would run it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.models_homes import Home, temporary_home
from benchmarks.models_page import CHURN_METRICS, metric_table, population
from engagement_pipeline.behavior.churn_training import GAIN

HORIZONS = (30, 90)
FEW_SAMPLES = 100
COMMUNITIES = {
    "slack_2017_2018": (
        datetime(2019, 1, 1, tzinfo=UTC),
        "A Slack community: messages, and mentions as notifications, whose reads are the "
        "addressee's next message (a stand-in, which takes no reading to happen). No events. Its "
        "members have other pseudonyms in the second year, so nobody is known to be in both.",
    ),
    "meetup_montana": (
        datetime(2016, 6, 4, tzinfo=UTC),
        "Thirteen Meetup groups: answers to invitations, and nothing else.",
    ),
}
_METRICS = {"mood": ("mae", "rmse"), "timing": ("log_loss", "roc_auc", "brier")}


def study(data: Path, command: str) -> str:
    """Ingest, train at each horizon, and give the section."""
    lines = [
        "### Communities",
        "",
        f"`{command}`",
        "",
        "Each folder was ingested with `engagement run --source … --as-of …` and trained on with "
        "`engagement train-models --as-of …`, with `ENGAGEMENT_CHURN_HORIZON_DAYS` at 30 and 90. "
        "In brackets 95 % intervals, of 1,000 draws of people. Baselines stand in plain type, "
        "models in italics, who serves in bold.",
        "",
    ]
    for name, (as_of, words) in COMMUNITIES.items():
        with temporary_home(data / name) as home:
            home.run(as_of)
            lines += [f"#### `{name}`, as of {as_of:%Y-%m-%d}", "", words, ""]
            for days in HORIZONS:
                home.train(as_of, ENGAGEMENT_CHURN_HORIZON_DAYS=str(days))
                lines += _told(home, "churn", f"**Churn in {days} days.**", CHURN_METRICS)
            few = _told_of_others(home, lines)
            if few:
                home.train(as_of, min_samples=FEW_SAMPLES)
                lines += [f"The same with `--min-samples {FEW_SAMPLES}`, to see what there is:", ""]
                for target in few:
                    lines += _told(home, target, f"**{target.capitalize()}.**", _METRICS[target])
    return "\n".join(lines)


def _told_of_others(home: Home, lines: list[str]) -> list[str]:
    """Tell of mood and timing; gives the targets that had samples, but too few."""
    few = []
    for target, metrics in _METRICS.items():
        lines += _told(home, target, f"**{target.capitalize()}.**", metrics)
        training, _ = home.trained(target)
        if training["outcome"] == "too_few_samples" and training["samples"] >= FEW_SAMPLES:
            few.append(target)
    return few


def _told(home: Home, target: str, title: str, metrics: tuple[str, ...]) -> Iterator[str]:
    training, figures = home.trained(target)
    champion = training["champion"]
    ended = f"Serves: `{champion}`." if champion else str(training["reason"])
    measured = f" Measured on {figures['n'].max():,} held-out rows." if figures.height else ""
    yield f"{title} {population(training)}{measured} {ended}"
    yield ""
    if figures.height:
        gain = (GAIN,) if target == "churn" else ()
        yield from metric_table(figures, (*metrics, *gain))
        yield ""
