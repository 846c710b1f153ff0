"""What this server says of texts, and which user messages about texts it refuses."""

import json

import pytest

from tests.anthropic_api.text_ratings import expected_sentiment, rate, read_texts
from tests.anthropic_api.wire import UnreadableMessageError

TEXTS = ("good evening", "line\nbreak", 'a "quote"')


def message_of(*texts: str) -> str:
    return "\n".join(f"{row} {json.dumps(text)}" for row, text in enumerate(texts, start=1))


def test_a_text_is_rated_the_same_whatever_stands_beside_it() -> None:
    alone = [rate((text,))[0]["sentiment"] for text in TEXTS]
    assert [row["sentiment"] for row in rate(TEXTS)] == alone
    assert [row["sentiment"] for row in rate(TEXTS[::-1])] == alone[::-1]
    assert all(-1 <= expected_sentiment(str(n)) <= 1 for n in range(300))


def test_texts_are_read_back_as_they_were_encoded() -> None:
    assert read_texts(message_of(*TEXTS)) == TEXTS


@pytest.mark.parametrize(
    "message",
    ["", '2 "a"', '1 "a"\n3 "b"', "1 a", '1 "a', "1 5", '1 "a"\n"b"', '1 "a"\n'],
)
def test_a_message_that_is_not_as_agreed_is_refused(message: str) -> None:
    with pytest.raises(UnreadableMessageError):
        read_texts(message)
