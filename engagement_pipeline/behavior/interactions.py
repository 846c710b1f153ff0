"""An interaction scored: its sentiment, mood and quality, and whether it says something.

The rules of each are in `sentiment`, `moods` and `quality`; here they are applied to rows. Who runs
VADER on how many processes, and who asks a model, is handed in.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import polars as pl

from engagement_pipeline.behavior.moods import moods
from engagement_pipeline.behavior.quality import asks_question, is_meaningful, quality
from engagement_pipeline.behavior.sentiment import sentiment_label

Compound: TypeAlias = Callable[[Sequence[str]], Sequence[float]]
"""VADER's compound score of each text: `sentiment.compound_scores`, or the same on more cores."""

ModelSentiments: TypeAlias = Callable[[Sequence[str], Sequence[str]], Sequence[float | None]]
"""What a model says of each text, in [-1, 1]; null where it gave no answer. It is given the texts,
and the organisation that each was written in."""

MODEL_READS_OVER_CHARACTERS = 30

SCORED_COLUMNS = (
    "interaction_id",
    "org_id",
    "user_id",
    "type",
    "sent_at",
    "sentiment",
    "sentiment_label",
    "sentiment_by",
    "mood",
    "quality",
    "is_meaningful",
)
"""The columns of `behavior.interactions_scored` that an interaction has by itself."""


class BadSentimentError(ValueError):
    """Whoever tells sentiments gave too few, or one outside of [-1, 1]; the text says which."""


def score(
    rows: pl.DataFrame,
    compound: Compound,
    model_sentiments: ModelSentiments | None = None,
) -> pl.DataFrame:
    """Score interactions, each by itself.

    A text that is null or only whitespace is none; characters are counted without whitespace
    around them. Each different text is scored once; the model is given those of over 30 characters,
    once for each organisation, and the sentiment is then the mean of both.

    Args:
        rows: `interaction_id`, `org_id`, `user_id`, `type`, `text`, `sent_at`,
            `response_time_seconds`.
        compound: gives VADER's scores.
        model_sentiments: gives the model's; without it, VADER's stand.

    Returns:
        `SCORED_COLUMNS`, in the order of `rows`.

    Raises:
        BadSentimentError: not as many scores as texts came back, or one outside of [-1, 1].
    """
    stripped = pl.col("text").str.strip_chars()
    read = rows.with_columns(pl.when(stripped != "").then(stripped).alias("text"))
    texts = pl.DataFrame({"text": read["text"].drop_nulls().unique().sort()})
    facts = {
        "sentiment": pl.col("sentiment"),
        "characters": pl.col("characters"),
        "is_question": pl.col("is_question"),
        "kind": pl.col("type"),
    }
    vader, model = pl.col("vader"), pl.col("model")
    return (
        read.join(_read(texts, compound), on="text", how="left", maintain_order="left")
        .join(
            _asked(read, model_sentiments),
            on=["org_id", "text"],
            how="left",
            maintain_order="left",
        )
        .with_columns(
            pl.when(model.is_null()).then(vader).otherwise((vader + model) / 2).alias("sentiment"),
            pl.when(vader.is_not_null())
            .then(
                pl.when(model.is_null()).then(pl.lit("vader")).otherwise(pl.lit("vader_and_model"))
            )
            .alias("sentiment_by"),
        )
        .with_columns(
            sentiment_label(pl.col("sentiment")).alias("sentiment_label"),
            quality(**facts, response_time_seconds=pl.col("response_time_seconds")).alias(
                "quality"
            ),
            is_meaningful(**facts).alias("is_meaningful"),
        )
        .select(SCORED_COLUMNS)
    )


def _read(texts: pl.DataFrame, compound: Compound) -> pl.DataFrame:
    """All that a text tells by itself, for each of `texts`: no text is read twice."""
    text = pl.col("text")
    return texts.with_columns(
        _checked(texts["text"], compound, "VADER").alias("vader"),
        text.str.len_chars().cast(pl.Int64).alias("characters"),
        asks_question(text).alias("is_question"),
        moods(texts["text"]).alias("mood"),
    )


def _asked(read: pl.DataFrame, model_sentiments: ModelSentiments | None) -> pl.DataFrame:
    """`org_id`, `text` and `model`, of the texts that the model is given, if there is one."""
    is_long = pl.col("text").str.len_chars() > MODEL_READS_OVER_CHARACTERS
    texts = read.select("org_id", "text").filter(is_long).unique().sort("org_id", "text")
    if model_sentiments is None or texts.is_empty():
        return texts.clear().with_columns(pl.lit(None, pl.Float64).alias("model"))
    org_ids = texts["org_id"].to_list()
    told = _checked(
        texts["text"],
        lambda given: model_sentiments(given, org_ids),
        "the model",
        may_be_silent=True,
    )
    return texts.with_columns(told.alias("model"))


def _checked(
    texts: pl.Series,
    teller: Callable[[Sequence[str]], Sequence[float | None]],
    who: str,
    *,
    may_be_silent: bool = False,
) -> pl.Series:
    """A score for each text; nobody is asked about no texts."""
    if texts.is_empty():
        return pl.Series([], dtype=pl.Float64)
    found = pl.Series(list(teller(texts.to_list())), dtype=pl.Float64)
    if len(found) != len(texts):
        raise BadSentimentError(f"{who}: expected {len(texts)} scores, found {len(found)}")
    # NaN counts as larger than every number.
    is_bad = (found > 1) | (found < -1)
    if found.null_count() and not may_be_silent:
        raise BadSentimentError(f"{who}: expected a score for every text, found none for some")
    if is_bad.any():
        example = found.filter(is_bad)[0]
        raise BadSentimentError(f"{who}: expected scores from -1 to 1, found {example}")
    return found
