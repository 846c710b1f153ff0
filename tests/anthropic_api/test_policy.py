"""The model's policy, the token estimate and the buckets, without a server."""

import random
import re

import pytest

from tests.anthropic_api import CELLS, citable, expected_level, texts_of
from tests.anthropic_api.asking import GONE, NEWCOMER, OCCASIONAL, QUIET, REGULAR, TALKER
from tests.anthropic_api.limits import Bucket
from tests.anthropic_api.tokens import text_tokens


@pytest.mark.parametrize(
    ("profile", "level"),
    [
        (REGULAR, "highly_engaged"),
        (OCCASIONAL, "moderate"),
        (QUIET, "at_risk"),
        (GONE, "inactive"),
        (NEWCOMER, "new"),
        (TALKER, "moderate"),
        ("3 0 0 0 0 0 0 ? ? x +", "highly_engaged"),
        ("1 0 3 0 0 0 60 ? 5 x +", "highly_engaged"),
        ("2 0 3 0 0 0 30 ? 5 x +", "new"),
        ("0 0 0 0 x 91 365 ? 20 x =", "moderate"),
        ("0 0 0 0 x 61 365 ? 5 x =", "at_risk"),
    ],
)
def test_levels_follow_the_policy(profile: str, level: str) -> None:
    assert expected_level(profile) == level
    assert expected_level(dict(zip(CELLS, profile.split(" "), strict=True))) == level


def test_texts_cite_only_what_is_known_and_write_no_figure() -> None:
    dice = random.Random(7)
    choices = ["0135", "0135", "0136", "012", "x08", ["0", "31", "91", "181"], ["0", "60", "365"]]
    choices += ["?01", ["?", "0", "5", "20"], "x0", "+=-"]
    for _ in range(2000):
        profile = " ".join(dice.choice(cells) for cells in choices)
        admin, user = texts_of(profile, expected_level(profile))
        for text, shortest, longest in ((admin, 25, 30), (user, 15, 20)):
            bare = re.sub(r"\{(\w+)[^}]*\}", "", text)
            assert set(re.findall(r"\{(\w+)", text)) <= citable(profile)
            assert not re.search(r"\d|\b(one|two|three|first|once)\b", bare)
            assert shortest <= len(text.split()) <= longest, text
        assert not re.search(r"risk|engage|moderate|\bnew\b|inactive|score", user.lower())


def test_tokens_are_counted_as_documented() -> None:
    assert text_tokens("engaged") == 1
    assert text_tokens("engaging") == 2
    assert text_tokens("1234567 8") == 4
    assert text_tokens('{":') == 1
    assert text_tokens("é東 a\n\n") == 5
    assert text_tokens("a_b") == 3


def test_a_bucket_refills_continuously_up_to_its_capacity() -> None:
    now = [0.0]
    bucket = Bucket(120, 30, lambda: now[0])
    assert bucket.level == 60
    bucket.take(90)
    assert bucket.level == -30
    assert bucket.seconds_until(1) == pytest.approx(15.5)
    now[0] = 15.5
    assert bucket.holds(1)
    assert not bucket.holds(1.1)
    now[0] = 1000
    assert bucket.level == 60
