"""Answers that a fault has spoilt are wrong in just the way it says."""

import json
import unicodedata
from typing import Any

import anthropic
import pytest

from tests.anthropic_api import (
    AT_RISK_SPELLINGS,
    AnthropicApi,
    Fault,
    Stage,
    citable,
    expected_level,
    faults_of,
)
from tests.anthropic_api.asking import (
    PROFILES,
    REGULAR,
    client_of,
    json_request,
    rows_of,
    tool_request,
)


def spoilt_rows(api: AnthropicApi, fault: Fault, **options: Any) -> list[dict[str, Any]]:
    api.misbehave(fault, **options)
    return rows_of(client_of(api).messages.create(**tool_request()))


def test_blocks_around_the_call_are_what_the_fault_says(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    kinds, stops = {}, {}
    last: dict[Fault, Any] = {}
    for fault in faults_of(Stage.ANSWER)[:9]:
        api.misbehave(fault)
        message = client.messages.create(**tool_request())
        kinds[fault] = [block.type for block in message.content]
        stops[fault] = message.stop_reason
        last[fault] = message.content[-1] if message.content else None
    assert kinds == {
        Fault.MAX_TOKENS: ["tool_use"],
        Fault.REFUSAL: [],
        Fault.TEXT_BEFORE_TOOL: ["text", "tool_use"],
        Fault.THINKING_BEFORE_TOOL: ["thinking", "tool_use"],
        Fault.INPUT_AS_STRING: ["tool_use"],
        Fault.WRONG_TOOL_NAME: ["tool_use"],
        Fault.TWO_TOOL_CALLS: ["tool_use", "tool_use"],
        Fault.ONLY_TEXT: ["text"],
        Fault.NO_CLASSIFICATIONS: ["tool_use"],
    }
    unusual = {fault: stop for fault, stop in stops.items() if stop != "tool_use"}
    assert unusual == {
        Fault.MAX_TOKENS: "max_tokens",
        Fault.REFUSAL: "refusal",
        Fault.ONLY_TEXT: "end_turn",
    }
    assert len(json.loads(last[Fault.INPUT_AS_STRING].input)["classifications"]) == len(PROFILES)
    assert last[Fault.WRONG_TOOL_NAME].name != "classify_engagement"
    assert last[Fault.NO_CLASSIFICATIONS].input == {}
    assert api.totals.billed_calls == len(kinds)


def test_a_cut_answer_has_the_first_rows_and_breaks_off_in_the_last(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    whole = rows_of(client.messages.create(**tool_request()))
    cut = spoilt_rows(api, Fault.MAX_TOKENS)
    assert cut[:-1] == whole[: len(cut) - 1]
    assert 1 < len(cut) < len(whole)
    text = whole[len(cut) - 1]["user_explanation"]
    assert text.startswith(cut[-1]["user_explanation"])
    assert text != cut[-1]["user_explanation"]
    (alone,) = rows_of(client.messages.create(**tool_request([REGULAR])))
    api.misbehave(Fault.MAX_TOKENS)
    (cut_alone,) = rows_of(client.messages.create(**tool_request([REGULAR])))
    assert cut_alone["user_explanation"] != alone["user_explanation"]


def test_a_cut_answer_in_json_is_no_json(api: AnthropicApi, client: anthropic.Anthropic) -> None:
    api.misbehave(Fault.MAX_TOKENS)
    message = client.messages.create(**json_request())
    assert message.stop_reason == "max_tokens"
    with pytest.raises(json.JSONDecodeError):
        rows_of(message)


def test_rows_are_wrong_as_the_fault_says(api: AnthropicApi) -> None:
    def numbers(fault: Fault, **options: Any) -> list[object]:
        return [row["row"] for row in spoilt_rows(api, fault, **options)]

    assert numbers(Fault.ROW_MISSING) == [2, 3, 4, 5, 6]
    assert numbers(Fault.ROW_MISSING, rows=4) == [5, 6]
    assert numbers(Fault.ROW_MISSING, rows=None) == []
    assert numbers(Fault.ROW_TWICE) == [1, 2, 3, 4, 5, 6, 1]
    assert numbers(Fault.ROWS_SHUFFLED) == [6, 5, 4, 3, 2, 1]
    assert numbers(Fault.ROW_UNKNOWN) == [7, 2, 3, 4, 5, 6]
    assert [type(number) for number in numbers(Fault.ROW_AS_STRING)][:2] == [str, int]
    assert [type(number) for number in numbers(Fault.ROW_AS_FLOAT)][:2] == [float, int]
    assert [type(number) for number in numbers(Fault.ROW_AS_BOOL)][:2] == [bool, int]
    twice = spoilt_rows(api, Fault.ROW_TWICE)
    assert twice[0] == twice[-1]
    against = spoilt_rows(api, Fault.ROW_CONTRADICTED)
    assert against[0]["row"] == against[-1]["row"]
    assert against[0]["level"] != against[-1]["level"]
    extra = spoilt_rows(api, Fault.EXTRA_FIELDS)
    assert len(extra[0]) == len(extra[1]) + 1
    known = {expected_level(profile) for profile in PROFILES}
    assert spoilt_rows(api, Fault.UNKNOWN_LEVEL)[0]["level"] not in known
    assert {row["level"] for row in spoilt_rows(api, Fault.ALL_AT_RISK)} == {"at_risk"}


def test_texts_are_wrong_in_turn_as_the_fault_says(
    api: AnthropicApi, client: anthropic.Anthropic
) -> None:
    right = rows_of(client.messages.create(**tool_request()))

    def user(fault: Fault, **options: Any) -> str:
        rows = spoilt_rows(api, fault, **options)
        assert rows[1:] == right[1:]
        return str(rows[0]["user_explanation"])

    assert "3 events" in user(Fault.DIGITS)
    assert unicodedata.name("\u0663") == "ARABIC-INDIC DIGIT THREE"
    assert "\u0663" in user(Fault.DIGITS)
    assert "three events" in user(Fault.NUMBER_WORDS)
    assert "Dozens" in user(Fault.NUMBER_WORDS)
    for spelling in AT_RISK_SPELLINGS:
        assert f"seem {spelling} to" in user(Fault.AT_RISK_SPELT)
    assert "as highly engaged with" in user(Fault.LEVEL_NAMED)
    assert "https://" in user(Fault.URL)
    assert "**" in user(Fault.MARKUP)
    assert len(user(Fault.TOO_LONG)) > 400
    assert user(Fault.EMPTY_TEXT) == ""
    assert "{events_attended_last_week}" in user(Fault.UNKNOWN_PLACEHOLDER)
    assert "{events_attended_90d so" in user(Fault.BROKEN_BRACE)
    assert "four score" in user(Fault.DIGITS, text="four score")
    assert len(set(AT_RISK_SPELLINGS)) >= 20


def test_a_figure_that_is_unknown_of_the_row_is_cited(api: AnthropicApi) -> None:
    rows = spoilt_rows(api, Fault.UNKNOWN_FIGURE, rows=None)
    for row, profile in zip(rows, PROFILES, strict=True):
        cited = row["admin_explanation"].rsplit("{", 1)[1].partition("}")[0]
        assert cited not in citable(profile)
