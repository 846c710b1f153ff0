"""What came of a message: against plain Python, to the microsecond, and never twice."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts.contract import ContractViolationError
from engagement_pipeline.outreach.responses import (
    INTERACTION_COLUMNS,
    MESSAGE_COLUMNS,
    OUTCOMES,
    ResponseInputError,
    effectiveness,
    first_responses,
    outcomes,
)

Row = dict[str, Any]

SENT = datetime(2026, 3, 2, 9, tzinfo=UTC)
TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)

some_minutes = st.floats(0, 1_440)
some_sentiments = st.one_of(st.none(), st.floats(-1, 1))


# --- How much a response is worth.


@pytest.mark.parametrize(
    ("minutes", "sentiment", "is_meaningful", "expected"),
    [
        (None, None, False, 0.0),
        (None, 1.0, True, 0.0),
        (0.0, None, False, 0.8),
        (60.0, None, False, 0.8),
        (60.000001, None, False, 0.7),
        (240.0, None, False, 0.7),
        (240.000001, None, False, 0.6),
        (1_440.0, None, False, 0.6),
        (1_440.0, -1.0, False, 0.5),
        (1_440.0, 0.5, False, 0.65),
        (30.0, 0.0, True, 0.9),
        (30.0, 1.0, True, 1.0),
    ],
)
def test_silence_is_worth_nothing_and_a_response_more_the_quicker_friendlier_and_fuller_it_is(
    minutes, sentiment, is_meaningful, expected
):
    assert effectiveness(minutes, sentiment, is_meaningful) == pytest.approx(expected, abs=1e-12)


@given(some_minutes, some_sentiments, st.booleans())
def test_any_response_is_worth_at_least_half_and_at_most_all(minutes, sentiment, is_meaningful):
    # A half but for rounding: 0.5 + 0.1 - 0.1.
    assert 0.5 - 1e-12 <= effectiveness(minutes, sentiment, is_meaningful) <= 1


@given(some_minutes, some_minutes, st.floats(-1, 1), st.floats(-1, 1), st.booleans())
def test_nothing_better_is_worth_less(minutes, later, sentiment, other, is_meaningful):
    worth = effectiveness(min(minutes, later), max(sentiment, other), True)
    assert worth >= effectiveness(max(minutes, later), max(sentiment, other), True)
    assert worth >= effectiveness(min(minutes, later), min(sentiment, other), True)
    assert worth >= effectiveness(min(minutes, later), max(sentiment, other), is_meaningful)


@pytest.mark.parametrize(
    ("minutes", "sentiment"),
    [(-0.1, None), (1_440.1, None), (float("nan"), None), (1.0, 1.1), (1.0, float("nan"))],
)
def test_what_cannot_be_a_response_is_refused(minutes, sentiment):
    with pytest.raises(ResponseInputError, match=r"expected .*found"):
        effectiveness(minutes, sentiment, False)


# --- What answers what.


def message(number: int, at: datetime = SENT, *, org: str = "org", user: str = "user") -> Row:
    return {
        "message_id": f"message-{number}",
        "org_id": org,
        "user_id": user,
        "outreach_type": "re_engagement",
        "template_id": f"template-{number % 2}",
        "sent_at": at,
    }


def interaction(
    number: int,
    at: datetime,
    *,
    org: str = "org",
    user: str = "user",
    sentiment: float | None = None,
    is_meaningful: bool | None = False,
) -> Row:
    return {
        "interaction_id": f"interaction-{number}",
        "org_id": org,
        "user_id": user,
        "sent_at": at,
        "sentiment": sentiment,
        "is_meaningful": is_meaningful,
    }


def _frames(messages: list[Row], interactions: list[Row]) -> tuple[pl.DataFrame, pl.DataFrame]:
    types = OUTCOMES.polars_schema
    said = {
        "interaction_id": pl.String,
        "org_id": pl.String,
        "user_id": pl.String,
        "sent_at": types["sent_at"],
        "sentiment": pl.Float64,
        "is_meaningful": pl.Boolean,
    }
    return (
        pl.DataFrame(messages, schema={name: types[name] for name in MESSAGE_COLUMNS}),
        pl.DataFrame(interactions, schema={name: said[name] for name in INTERACTION_COLUMNS}),
    )


def found(messages: list[Row], interactions: list[Row], until: datetime) -> list[Row]:
    rows = outcomes(*_frames(messages, interactions), known_until=until)
    assert OUTCOMES.validate(rows) is rows
    return rows.to_dicts()


def answered(messages: list[Row], interactions: list[Row], until: datetime) -> dict[str, datetime]:
    """Message -> when it was answered, as far as that is known."""
    rows = first_responses(*_frames(messages, interactions), known_until=until)
    return dict(rows.select("message_id", "responded_at").iter_rows())


def plain_answers(messages: list[Row], interactions: list[Row], until: datetime) -> dict[str, Row]:
    """In loops: each interaction goes to the latest message before it, if that is near."""
    answers: dict[str, Row] = {}
    said = [row for row in interactions if row["sent_at"] <= until]
    for row in sorted(said, key=lambda row: (row["sent_at"], row["interaction_id"])):
        before = [
            sent
            for sent in messages
            if (sent["org_id"], sent["user_id"]) == (row["org_id"], row["user_id"])
            and sent["sent_at"] < row["sent_at"]
        ]
        if before:
            latest = max(before, key=lambda sent: (sent["sent_at"], sent["message_id"]))
            if row["sent_at"] <= latest["sent_at"] + DAY:
                answers.setdefault(latest["message_id"], row)
    return answers


def plainly(messages: list[Row], interactions: list[Row], until: datetime) -> list[Row]:
    """`outcomes` in loops: of nothing whose time is not over."""
    answers = plain_answers(messages, interactions, until)
    rows = []
    for sent in sorted(messages, key=lambda sent: sent["message_id"]):
        answer = answers.get(sent["message_id"])
        if sent["sent_at"] + DAY > until:
            continue
        minutes = None
        if answer is not None:
            minutes = (answer["sent_at"] - sent["sent_at"]) / timedelta(minutes=1)
        is_meaningful = bool(answer and answer["is_meaningful"])
        sentiment = answer["sentiment"] if answer else None
        rows.append(
            sent
            | {
                "is_response": answer is not None,
                "interaction_id": answer["interaction_id"] if answer else None,
                "responded_at": answer["sent_at"] if answer else None,
                "response_minutes": minutes,
                "response_sentiment": sentiment,
                "is_meaningful": is_meaningful,
                "effectiveness": effectiveness(minutes, sentiment, is_meaningful),
            }
        )
    return rows


@pytest.mark.parametrize(
    ("after", "is_response"),
    [(-TICK, False), (timedelta(), False), (TICK, True), (DAY, True), (DAY + TICK, False)],
)
def test_a_response_comes_after_the_message_and_at_most_24_hours_after_it(after, is_response):
    (row,) = found([message(1)], [interaction(1, SENT + after)], SENT + 3 * DAY)
    assert row["is_response"] is is_response
    assert row["effectiveness"] == (0.8 if after == TICK else 0.6 if after == DAY else 0)
    assert row["responded_at"] == (SENT + after if is_response else None)


def test_silence_is_known_once_the_24_hours_have_passed_and_not_before():
    assert found([message(1)], [], SENT + DAY - TICK) == []
    (row,) = found([message(1)], [], SENT + DAY)
    assert (row["is_response"], row["effectiveness"], row["response_minutes"]) == (False, 0, None)


def test_a_response_is_known_at_once_but_told_of_only_with_the_silence_of_others():
    answer = interaction(1, SENT + HOUR, sentiment=-1.0, is_meaningful=True)
    assert answered([message(1)], [answer], SENT + HOUR - TICK) == {}
    assert answered([message(1)], [answer], SENT + HOUR) == {"message-1": SENT + HOUR}
    sent = [message(1), message(2, user="silent")]
    assert found(sent, [answer], SENT + DAY - TICK) == []
    row, silence = found(sent, [answer], SENT + DAY)
    assert (row["is_response"], silence["is_response"]) == (True, False)
    assert row["response_minutes"] == 60
    assert row["effectiveness"] == pytest.approx(0.8)
    assert row["interaction_id"] == "interaction-1"


def test_an_interaction_answers_the_latest_message_before_it_and_no_other():
    sent = [message(1), message(2, SENT + 12 * HOUR)]
    rows = found(sent, [interaction(1, SENT + 13 * HOUR)], SENT + 3 * DAY)
    assert [row["is_response"] for row in rows] == [False, True]
    rows = found(sent, [interaction(1, SENT + 12 * HOUR)], SENT + 3 * DAY)
    assert [row["is_response"] for row in rows] == [True, False]


def test_of_two_messages_at_the_same_instant_one_alone_is_answered():
    rows = found([message(2), message(1)], [interaction(1, SENT + HOUR)], SENT + DAY)
    assert [(row["message_id"], row["is_response"]) for row in rows] == [
        ("message-1", False),
        ("message-2", True),
    ]


@pytest.mark.parametrize("other", [{"org": "another"}, {"user": "another"}])
def test_what_is_said_elsewhere_or_by_others_is_no_response(other):
    (row,) = found([message(1)], [interaction(1, SENT + HOUR, **other)], SENT + DAY)
    assert not row["is_response"]


def test_a_response_that_is_not_scored_yet_counts_without_its_tone():
    answer = interaction(1, SENT + HOUR, is_meaningful=None)
    (row,) = found([message(1)], [answer], SENT + DAY)
    assert row["is_response"]
    assert (row["is_meaningful"], row["effectiveness"]) == (False, pytest.approx(0.8))


def test_a_message_that_is_sent_later_has_no_outcome_yet():
    assert found([message(1, SENT + TICK)], [], SENT) == []


def test_a_message_that_comes_twice_is_refused():
    with pytest.raises(ContractViolationError, match="message-1"):
        found([message(1), message(1)], [], SENT + DAY)


some_moments = st.tuples(st.integers(0, 60), st.sampled_from([-TICK, timedelta(), TICK])).map(
    lambda drawn: SENT + drawn[0] * HOUR + drawn[1]
)
some_member = {"org": st.sampled_from("ab"), "user": st.sampled_from("cd")}


def _numbered(make, rows):
    return [make(number, at, **more) for number, (at, more) in enumerate(rows)]


some_messages = st.lists(st.tuples(some_moments, st.fixed_dictionaries(some_member)), max_size=8)
some_interactions = st.lists(
    st.tuples(
        some_moments,
        st.fixed_dictionaries(
            some_member
            | {"sentiment": some_sentiments, "is_meaningful": st.sampled_from([None, True, False])}
        ),
    ),
    max_size=20,
)


@given(some_messages, some_interactions, some_moments, st.randoms(use_true_random=False))
def test_all_outcomes_are_what_plain_python_finds_whatever_the_order_of_rows(
    messages, interactions, until, random
):
    sent, said = _numbered(message, messages), _numbered(interaction, interactions)
    expected = plainly([row for row in sent if row["sent_at"] <= until], said, until)
    for row in expected:
        row["effectiveness"] = pytest.approx(row["effectiveness"], abs=1e-12)
        if row["response_minutes"] is not None:
            row["response_minutes"] = pytest.approx(row["response_minutes"], rel=1e-12)
    random.shuffle(sent)
    random.shuffle(said)
    assert found(sent, said, until) == expected
    known = plain_answers([row for row in sent if row["sent_at"] <= until], said, until)
    responses = {name: row["sent_at"] for name, row in known.items()}
    assert answered(sent, said, until) == responses
    # The young ones by themselves tell the same of themselves.
    young = [row for row in sent if row["sent_at"] > until - DAY]
    assert answered(young, said, until) == {
        row["message_id"]: responses[row["message_id"]]
        for row in young
        if row["message_id"] in responses
    }


@given(some_messages, some_interactions)
def test_each_interaction_answers_at_most_one_message(messages, interactions):
    rows = found(_numbered(message, messages), _numbered(interaction, interactions), SENT + 5 * DAY)
    answers = [row["interaction_id"] for row in rows if row["is_response"]]
    assert len(answers) == len(set(answers))
    assert len(rows) == len(messages)


@given(some_messages, some_interactions, some_moments, some_moments)
def test_what_is_decided_of_a_message_stays_as_more_becomes_known(
    messages, interactions, earlier, later
):
    sent, said = _numbered(message, messages), _numbered(interaction, interactions)
    first, last = sorted((earlier, later))
    then = {row["message_id"]: row for row in found(sent, said, last)}
    for row in found(sent, said, first):
        assert then[row["message_id"]] == row
