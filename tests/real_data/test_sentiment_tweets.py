"""VADER beside people: 4,200 tweets, each rated by twenty of them, from Hutto & Gilbert (2014).

The ratings go from -4 to 4. The texts are as Twitter gave them, with `&amp;` for `&`; the pipeline
does not unescape texts either.
"""

import csv
import html
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from engagement_pipeline.behavior.moods import MOOD_WORDS, moods
from engagement_pipeline.behavior.sentiment import compound_scores
from tests.real_data.conftest import DATA

PATH = DATA / "sentiment_tweets" / "tweets_GroundTruth.txt"


@dataclass(frozen=True)
class Tweets:
    texts: list[str]
    ratings: np.ndarray
    scores: np.ndarray

    def r_of(self, predicted: np.ndarray) -> float:
        return float(np.corrcoef(predicted, self.ratings)[0, 1])


@pytest.fixture(scope="module")
def tweets() -> Tweets:
    if not PATH.exists():
        pytest.skip(f"{PATH} is not there")
    with PATH.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    texts = [text for _, _, text in rows]
    return Tweets(texts, np.array([float(r) for _, r, _ in rows]), np.array(compound_scores(texts)))


def test_every_tweet_scores_as_the_library_has_it(tweets: Tweets) -> None:
    library = SentimentIntensityAnalyzer()
    assert len(tweets.texts) == 4_200
    found = [library.polarity_scores(text)["compound"] for text in tweets.texts]
    assert tweets.scores.tolist() == found


def test_vader_goes_with_what_people_say(tweets: Tweets) -> None:
    assert round(tweets.r_of(tweets.scores), 4) == 0.8722


def test_unescaping_would_change_next_to_nothing(tweets: Tweets) -> None:
    plain = [html.unescape(text) for text in tweets.texts]
    assert sum(p != text for p, text in zip(plain, tweets.texts, strict=True)) == 162
    assert round(tweets.r_of(np.array(compound_scores(plain))), 4) == 0.8726


def test_moods_go_with_what_people_say(tweets: Tweets) -> None:
    found = pl.DataFrame({"mood": moods(pl.Series(tweets.texts)), "rating": tweets.ratings})
    mean = {
        mood: (rows["rating"].mean(), rows.height)
        for (mood,), rows in found.partition_by("mood", as_dict=True).items()
    }
    assert set(mean) == {*MOOD_WORDS, None}
    assert all(mean[mood][1] >= 20 for mood in MOOD_WORDS)
    assert mean["frustration"][0] < mean["confusion"][0] < mean[None][0]
    assert mean[None][0] < min(mean["gratitude"][0], mean["excitement"][0])


def test_moods_add_next_to_nothing_to_vader(tweets: Tweets) -> None:
    found = moods(pl.Series(tweets.texts))
    shown = [(found == mood).fill_null(False).to_numpy().astype(float) for mood in MOOD_WORDS]
    ones = np.ones(len(tweets.texts))
    alone = tweets.r_of(_cross_validated(np.column_stack([ones, tweets.scores]), tweets.ratings))
    both = np.column_stack([ones, tweets.scores, *shown])
    assert 0 < tweets.r_of(_cross_validated(both, tweets.ratings)) - alone < 0.01


def _cross_validated(features: np.ndarray, outcome: np.ndarray, folds: int = 10) -> np.ndarray:
    """Least squares, each row predicted by a fit that has not seen it."""
    fold = np.random.default_rng(20_260_301).permutation(len(outcome)) % folds
    predicted = np.empty(len(outcome))
    for number in range(folds):
        held_out = fold == number
        weights, *_ = np.linalg.lstsq(features[~held_out], outcome[~held_out], rcond=None)
        predicted[held_out] = features[held_out] @ weights
    return predicted
