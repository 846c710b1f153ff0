"""VADER beside people: 4,200 tweets, each rated by twenty (C. J. Hutto, E. Gilbert, ICWSM 2014)."""

import csv
import html
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.models_page import table
from engagement_pipeline.behavior.moods import MOOD_WORDS, moods
from engagement_pipeline.behavior.resampling import Floats, member_bootstrap
from engagement_pipeline.behavior.sentiment import compound_scores

FILE = Path("sentiment_tweets") / "tweets_GroundTruth.txt"
SEED = 20_260_301
FOLDS = 10


def study(data: Path, command: str) -> str:
    """Measure, and give the section."""
    texts, ratings = read(data / FILE)
    scores = np.array(compound_scores(texts))
    plain = [html.unescape(text) for text in texts]
    found = moods(pl.Series(texts))
    shown = [(found == mood).fill_null(False).to_numpy().astype(float) for mood in MOOD_WORDS]
    alone = cross_validated(scores[:, None], ratings)
    both = cross_validated(np.column_stack([scores, *shown]), ratings)
    changed = sum(one != other for one, other in zip(plain, texts, strict=True))
    rows = [
        ("VADER's compound score, texts as they came", _r(scores, ratings)),
        (
            f"the same, with `&amp;` and the like unescaped ({changed} texts)",
            _r(np.array(compound_scores(plain)), ratings),
        ),
        ("least squares on the score alone", _r(alone, ratings)),
        ("least squares on the score and the mood", _r(both, ratings)),
        ("what the mood adds", _gain(both, alone, ratings)),
    ]
    return "\n".join(
        [
            "### Sentiment and mood of tweets",
            "",
            f"`{command}`",
            "",
            f"{len(texts):,} tweets, each rated from -4 to 4 by twenty people. Pearson's r with "
            f"their mean; least squares by {FOLDS}-fold cross-validation. In brackets 95 % "
            "intervals, of 1,000 draws of tweets. One person has .863 with the others, by the "
            "authors of the data.",
            "",
            *table(["", "Pearson's r"], rows),
            "",
            *table(
                ["mood", "tweets", "mean rating"],
                [
                    (mood or "none", rows.height, f"{rows['rating'].mean():+.2f}")
                    for (mood,), rows in _by_mood(found, ratings)
                ],
            ),
        ]
    )


def read(path: Path) -> tuple[list[str], Floats]:
    """The texts and their mean ratings."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [text for _, _, text in rows], np.array([float(rating) for _, rating, _ in rows])


def cross_validated(features: Floats, outcome: Floats) -> Floats:
    """Least squares with an intercept, each row predicted by a fit that has not seen it."""
    rows = np.column_stack([np.ones(outcome.size), features])
    fold = np.random.default_rng(SEED).permutation(outcome.size) % FOLDS
    predicted = np.empty(outcome.size)
    for number in range(FOLDS):
        is_held_out = fold == number
        weights, *_ = np.linalg.lstsq(rows[~is_held_out], outcome[~is_held_out], rcond=None)
        predicted[is_held_out] = rows[is_held_out] @ weights
    return predicted


def _by_mood(found: pl.Series, ratings: Floats) -> list[tuple[tuple[str | None], pl.DataFrame]]:
    frame = pl.DataFrame({"mood": found, "rating": ratings})
    parts = frame.partition_by("mood", as_dict=True).items()
    return sorted(parts, key=lambda part: part[1]["rating"].mean())  # type: ignore[return-value, arg-type]


def _weighted_r(predicted: Floats, ratings: Floats, weights: Floats) -> float:
    covariance = np.cov(predicted, ratings, aweights=weights)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def _r(predicted: Floats, ratings: Floats) -> str:
    return _told(lambda weights: _weighted_r(predicted, ratings, weights), ratings.size)


def _gain(predicted: Floats, over: Floats, ratings: Floats) -> str:
    def gain(weights: Floats) -> float:
        return _weighted_r(predicted, ratings, weights) - _weighted_r(over, ratings, weights)

    return _told(gain, ratings.size)


def _told(statistic: Callable[[Floats], float], rows: int) -> str:
    lower, upper = member_bootstrap(statistic, np.arange(rows), seed=SEED)
    return f"{statistic(np.ones(rows)):.4f} [{lower:.4f}, {upper:.4f}]"
