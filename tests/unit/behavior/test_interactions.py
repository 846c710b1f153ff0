"""Interactions scored: each text read once, by VADER and by a model where there is one."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from engagement_pipeline.behavior.interactions import SCORED_COLUMNS, BadSentimentError, score
from engagement_pipeline.behavior.sentiment import compound_scores
from engagement_pipeline.contracts import contract

SENT_AT = datetime(2026, 3, 1, tzinfo=UTC)
LONG = "This was really very helpful to me."
SCORED = contract("behavior.interactions_scored")


def _rows(*texts: str | None, **given: Any) -> pl.DataFrame:
    row = {
        "org_id": "o",
        "user_id": "u",
        "type": "message",
        "sent_at": SENT_AT,
        "response_time_seconds": None,
        **given,
    }
    return pl.DataFrame(
        [{**row, "interaction_id": f"i{n}", "text": text} for n, text in enumerate(texts)],
        schema=contract("raw.interactions").polars_schema,
    )


def _scored(*texts: str | None, **given: Any) -> list[dict[str, Any]]:
    return score(_rows(*texts, **given), compound_scores).to_dicts()


class Teller:
    """Gives the same answer about every text, and keeps what it was asked about."""

    def __init__(self, answer: float | None = 0.5, *, answers: Sequence[Any] | None = None) -> None:
        self.answer, self.answers = answer, answers
        self.asked: list[str] = []
        self.org_ids: list[str] = []

    def __call__(self, texts: Sequence[str], org_ids: Sequence[str] = ()) -> Sequence[Any]:
        self.asked += texts
        self.org_ids += org_ids
        return [self.answer] * len(texts) if self.answers is None else self.answers


def test_scored_rows_keep_the_contract_but_for_the_session() -> None:
    found = score(_rows("Thanks a lot!", None, "ok?"), compound_scores)
    assert set(found.columns) == set(SCORED.column_names) - {"session_id"}
    with_session = found.with_columns(session_id=pl.lit("i0")).select(SCORED.column_names)
    assert SCORED.validate(with_session).height == 3


def test_a_row_has_all_that_its_text_tells() -> None:
    [row] = _scored("  Thank you so much, this is great!  ", response_time_seconds=30.0)
    assert row["sentiment"] == compound_scores(["Thank you so much, this is great!"])[0] > 0.5
    assert (row["sentiment_label"], row["sentiment_by"]) == ("positive", "vader")
    assert (row["mood"], row["is_meaningful"]) == ("gratitude", True)
    parts = 0.3 * (row["sentiment"] + 1) / 2 + 0.2 * 0.33 + 0.15 * 0 + 0.15 * 0.75 + 0.2 * 0.6
    assert row["quality"] == pytest.approx(parts)


@pytest.mark.parametrize("text", [None, "", " ", "\n\t\u3000 "])
def test_no_text_has_no_sentiment_and_not_a_sentiment_of_0(text: str | None) -> None:
    [row] = _scored(text)
    for name in ("sentiment", "sentiment_label", "sentiment_by", "mood"):
        assert row[name] is None
    assert row["quality"] == pytest.approx(0.6)
    assert row["is_meaningful"] is False


def test_a_text_without_any_known_word_is_neutral() -> None:
    [row] = _scored("qwerty asdf")
    assert (row["sentiment"], row["sentiment_label"]) == (0.0, "neutral")


def test_each_different_text_is_read_once_whoever_said_it() -> None:
    vader, model = Teller(), Teller()
    found = score(_rows(LONG, "ok", f" {LONG}\n", "ok", None, " "), vader, model)
    assert sorted(vader.asked) == sorted([LONG, "ok"])
    assert model.asked == [LONG]
    assert found["interaction_id"].to_list() == [f"i{n}" for n in range(6)]
    assert found["sentiment"].to_list() == [0.5, 0.5, 0.5, 0.5, None, None]


def test_only_texts_of_over_30_characters_go_to_the_model() -> None:
    model = Teller()
    score(_rows("x" * 30, "y" * 31, f"  {'z' * 30}  "), compound_scores, model)
    assert model.asked == ["y" * 31]


def test_the_model_is_told_in_which_organisation_a_text_was_written() -> None:
    model = Teller(answers=[1.0, -1.0])
    rows = _rows(LONG, LONG, LONG).with_columns(org_id=pl.Series(["b", "a", "b"]))
    found = score(rows, Teller(0.0), model)
    assert (model.asked, model.org_ids) == ([LONG, LONG], ["a", "b"])
    assert found["sentiment"].to_list() == [-0.5, 0.5, -0.5]


def test_the_sentiment_is_the_mean_of_both_where_the_model_answered() -> None:
    texts = [f"{LONG} {n}" for n in range(3)]
    model = Teller(answers=[-1.0, None, 0.9])
    found = score(_rows(*texts), Teller(0.5), model).to_dicts()
    assert [row["sentiment"] for row in found] == [-0.25, 0.5, pytest.approx(0.7)]
    assert [row["sentiment_by"] for row in found] == ["vader_and_model", "vader", "vader_and_model"]
    assert [row["sentiment_label"] for row in found] == ["negative", "positive", "positive"]


def test_what_the_model_says_counts_for_quality_and_meaning() -> None:
    low, high = (
        score(_rows(LONG), Teller(0.0), Teller(answer))["quality"][0] for answer in (-1.0, 1.0)
    )
    assert high - low == pytest.approx(0.3 * 0.5 / 0.85)


def test_the_order_of_rows_makes_no_difference() -> None:
    rows = _rows(LONG, "ok", None, "why?", "Thanks", "ok")
    found = score(rows.reverse(), compound_scores).sort("interaction_id")
    assert found.equals(score(rows, compound_scores))


def test_no_rows_give_no_rows_and_nobody_is_asked() -> None:
    vader, model = Teller(), Teller()
    found = score(_rows(), vader, model)
    assert (found.height, tuple(found.columns)) == (0, SCORED_COLUMNS)
    assert found.schema.items() <= SCORED.polars_schema.items()
    assert vader.asked == model.asked == []


@pytest.mark.parametrize(
    ("vader", "model", "words"),
    [
        (Teller(answers=[0.1, 0.2]), None, "VADER: expected 1 scores, found 2"),
        (Teller(answers=[1.5]), None, "VADER: expected scores from -1 to 1, found 1.5"),
        (Teller(answers=[None]), None, "VADER: expected a score for every text"),
        (Teller(), Teller(answers=[]), "the model: expected 1 scores, found 0"),
        (Teller(), Teller(float("nan")), "the model: expected scores from -1 to 1, found nan"),
        (Teller(), Teller(-1.01), "the model: expected scores from -1 to 1, found -1.01"),
    ],
)
def test_scores_that_cannot_be_are_refused(vader: Teller, model: Teller | None, words: str) -> None:
    with pytest.raises(BadSentimentError, match=words):
        score(_rows(LONG), vader, model)
