"""Quality and meaning, against the rules written out in plain Python."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.behavior import quality as rules
from engagement_pipeline.contracts import vocabulary

_SENTIMENTS = st.none() | st.floats(-1, 1) | st.sampled_from([-1.0, -0.3, 0.3, 0.2999, 1.0])
_LENGTHS = st.integers(1, 130) | st.sampled_from([4, 5, 10, 11, 65_536])
_SECONDS = st.none() | st.floats(0, 400) | st.sampled_from([0.0, 120.0, 1e300])
_KINDS = st.sampled_from(vocabulary.INTERACTION_TYPES)

Facts = dict[str, object]


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    """What is known of one interaction; all of its text, or nothing."""
    has_text = draw(st.booleans())
    return {
        "sentiment": draw(_SENTIMENTS) if has_text else None,
        "characters": draw(_LENGTHS) if has_text else None,
        "is_question": draw(st.booleans()) if has_text else None,
        "response_time_seconds": draw(_SECONDS),
        "kind": draw(_KINDS),
    }


_SCHEMA = {
    "sentiment": pl.Float64,
    "characters": pl.Int64,
    "is_question": pl.Boolean,
    "response_time_seconds": pl.Float64,
    "kind": pl.String,
}


def _judged(given: list[Facts]) -> list[tuple[float, bool]]:
    columns = {name: pl.col(name) for name in _SCHEMA}
    told = {name: columns[name] for name in _SCHEMA if name != "response_time_seconds"}
    frame = pl.DataFrame(given, schema=_SCHEMA)
    return frame.select(rules.quality(**columns), rules.is_meaningful(**told).alias("m")).rows()


def _plain_quality(f: Facts) -> float:
    parts = {}
    if f["sentiment"] is not None:
        parts[0.30] = (f["sentiment"] + 1) / 2
    weights = [(0.20, _length(f)), (0.15, _question(f)), (0.15, _reply(f)), (0.20, _kind(f))]
    known = [*parts.items(), *((w, p) for w, p in weights if p is not None)]
    return sum(w * p for w, p in known) / sum(w for w, _ in known)


def _length(f: Facts) -> float | None:
    return None if f["characters"] is None else min(f["characters"] / 100, 1.0)


def _question(f: Facts) -> float | None:
    return None if f["is_question"] is None else (1.0 if f["is_question"] else 0.0)


def _reply(f: Facts) -> float | None:
    seconds = f["response_time_seconds"]
    return None if seconds is None else max(0.0, 1 - seconds / 120)


def _kind(f: Facts) -> float:
    return {"voice": 1.0, "message": 0.6, "document": 0.5, "command": 0.4}.get(f["kind"], 0.2)


def _plain_meaningful(f: Facts) -> bool:
    if f["kind"] in ("command", "voice"):
        return True
    if f["characters"] is None or f["characters"] < 5:
        return False
    sounds_strong = f["sentiment"] is not None and abs(f["sentiment"]) >= 0.3
    return f["is_question"] or sounds_strong or f["characters"] > 10


@given(st.lists(facts(), min_size=1, max_size=20))
def test_quality_and_meaning_are_what_plain_python_finds(given: list[Facts]) -> None:
    found = _judged(given)
    assert [m for _, m in found] == [_plain_meaningful(f) for f in given]
    assert [q for q, _ in found] == pytest.approx([_plain_quality(f) for f in given])


@given(facts())
def test_quality_lies_between_0_and_1(f: Facts) -> None:
    [(found, _)] = _judged([f])
    assert 0.0 <= found <= 1.0


@given(facts(), facts())
def test_no_part_that_grows_lowers_quality(low: Facts, high: Facts) -> None:
    # `high` is made at least as good as `low` in each part that both have.
    better = dict(low)
    for name in ("sentiment", "characters", "is_question"):
        if low[name] is not None and high[name] is not None:
            better[name] = max(low[name], high[name])
    if low["response_time_seconds"] is not None and high["response_time_seconds"] is not None:
        seconds = min(low["response_time_seconds"], high["response_time_seconds"])
        better["response_time_seconds"] = seconds
    if _kind(high) > _kind(low):
        better["kind"] = high["kind"]
    [(below, _), (above, _)] = _judged([low, better])
    assert above >= below


def test_a_perfect_interaction_has_1_and_the_poorest_0_but_for_its_kind() -> None:
    best = {"sentiment": 1.0, "characters": 100, "is_question": True}
    worst = {"sentiment": -1.0, "characters": 0, "is_question": False}
    found = _judged(
        [
            {**best, "response_time_seconds": 0.0, "kind": "voice"},
            {**worst, "response_time_seconds": 120.0, "kind": "sticker"},
        ]
    )
    assert [q for q, _ in found] == [1.0, pytest.approx(0.2 * 0.2)]


def test_what_has_nothing_but_its_kind_is_worth_its_kind() -> None:
    nothing = dict.fromkeys(_SCHEMA)
    found = _judged([{**nothing, "kind": kind} for kind in vocabulary.INTERACTION_TYPES])
    expected = {"voice": 1.0, "message": 0.6, "document": 0.5, "command": 0.4}
    assert [q for q, _ in found] == [
        pytest.approx(expected.get(kind, 0.2)) for kind in vocabulary.INTERACTION_TYPES
    ]
    assert [m for _, m in found] == [
        kind in ("command", "voice") for kind in vocabulary.INTERACTION_TYPES
    ]


@pytest.mark.parametrize(
    ("characters", "sentiment", "is_question", "expected"),
    [
        (10, 0.2999, False, False),
        (11, 0.0, False, True),
        (10, 0.3, False, True),
        (10, -0.3, False, True),
        (10, 0.0, True, True),
        (5, 0.3, False, True),
        (4, 1.0, True, False),
        (10, None, False, False),
        (11, None, False, True),
    ],
)
def test_meaning_begins_where_the_rules_say(
    characters: int, sentiment: float | None, is_question: bool, expected: bool
) -> None:
    told = {"characters": characters, "sentiment": sentiment, "is_question": is_question}
    [(_, found)] = _judged([{**dict.fromkeys(_SCHEMA), **told, "kind": "message"}])
    assert found is expected


def test_every_kind_that_is_worth_something_of_its_own_is_a_kind() -> None:
    assert {*rules.KIND_WORTH, *rules.MEANINGFUL_KINDS} <= set(vocabulary.INTERACTION_TYPES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("why", False),
        ("why?", True),
        ("why?!", True),
        ("\u00bfpor qu\u00e9", True),
        ("\u03c0\u03bf\u03cd\u037e", True),
        ("where; here", False),
        ("\u0644\u0645\u0627\u0630\u0627\u061f", True),
        ("\u4f55\uff1f", True),
        ("\u0587\u055e", True),
        ("https://a.example/b?c=d", False),
        ("HTTPS://A.EXAMPLE/?c=d&e=?f", False),
        ("www.a.example/?c", False),
        ("a.example/b?c=d", False),
        ("a.example:8080/b?c=d", False),
        ("seen https://a.example/b?c=d?", True),
        ("seen https://a.example/b?", True),
        ("seen (https://a.example/b?c)?", True),
        ("seen https://a.example/b?c=d ok?", True),
        ("seen a.example?", True),
        ("right?yes", True),
        ("right...? https://a.example/?b", True),
        (None, None),
        ("", False),
    ],
)
def test_a_question_has_a_mark_of_any_script_outside_of_addresses(
    text: str | None, expected: bool | None
) -> None:
    frame = pl.DataFrame({"text": [text]}, schema={"text": pl.String})
    assert frame.select(rules.asks_question(pl.col("text"))).item() is expected
