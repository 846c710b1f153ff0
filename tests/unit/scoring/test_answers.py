"""What of a model's reply can be used."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.scoring import PLACEHOLDERS
from engagement_pipeline.scoring.answers import Answer, Asked, Checked, Reply, check_reply

ADMIN = "Came to {events_attended_90d} events lately. Thank them in person."
USER = "It was lovely to see you lately. Thank you!"
KNOWN = Asked(frozenset(PLACEHOLDERS), is_new=False)
NEW = Asked(frozenset(PLACEHOLDERS), is_new=True)
GOOD = Answer("moderate", ADMIN, USER, is_vetoed=False)


def item(row: object, **change: object) -> dict[str, object]:
    return {
        "row": row,
        "level": "moderate",
        "admin_explanation": ADMIN,
        "user_explanation": USER,
        **change,
    }


def call(given: object, name: str = "classify_engagement") -> dict[str, object]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": given}


def of_tool(*items: object, stop_reason: str | None = "tool_use", rows: int = 2) -> Checked:
    reply = Reply(stop_reason, [call({"classifications": list(items)})], "tool")
    return check_reply(reply, [KNOWN] * rows)


def of_blocks(*blocks: object, stop_reason: str = "tool_use") -> Checked:
    return check_reply(Reply(stop_reason, blocks, "tool"), [KNOWN] * 2)  # type: ignore[arg-type]


def of_text(text: str, stop_reason: str = "end_turn") -> Checked:
    return check_reply(Reply(stop_reason, [{"type": "text", "text": text}], "json"), [KNOWN] * 2)


def payload(*items: object) -> str:
    return json.dumps({"classifications": items})


ALL = Checked({1: GOOD, 2: GOOD}, {}, None, is_cut=False)


def nothing(problem: str, *, row_problem: str | None = None, is_cut: bool = False) -> Checked:
    return Checked({}, dict.fromkeys((1, 2), row_problem or problem), problem, is_cut)


@pytest.mark.parametrize("stop_reason", ["tool_use", "end_turn", "stop_sequence"])
def test_a_good_call_answers_every_row(stop_reason: str) -> None:
    assert of_tool(item(1), item(2), stop_reason=stop_reason) == ALL
    assert of_tool(item(2), item(1), stop_reason=stop_reason) == ALL


@pytest.mark.parametrize("stop_reason", ["end_turn", "stop_sequence"])
def test_a_good_text_answers_every_row(stop_reason: str) -> None:
    assert of_text(payload(item(1), item(2)), stop_reason) == ALL


@pytest.mark.parametrize(
    "wrapped", [" \n{} ", "```json\n{}\n```", "```\n{}```", "\n```json {} ```\n"]
)
def test_a_text_may_stand_in_a_fence(wrapped: str) -> None:
    assert of_text(wrapped.replace("{}", payload(item(1), item(2)))) == ALL


def test_a_text_may_come_in_pieces_between_thoughts() -> None:
    whole = payload(item(1), item(2))
    blocks = [
        {"type": "thinking", "thinking": "{"},
        {"type": "text", "text": whole[:50]},
        {"type": "text", "text": whole[50:]},
    ]
    assert check_reply(Reply("end_turn", blocks, "json"), [KNOWN] * 2) == ALL


@pytest.mark.parametrize(
    ("stop_reason", "mode", "problem"),
    [
        ("refusal", "tool", "refusal"),
        ("refusal", "json", "refusal"),
        ("pause_turn", "tool", "pause_turn"),
        ("tool_use", "json", "stop reason tool_use"),
        (None, "tool", "stop reason None"),
        ("TOOL_USE", "tool", "stop reason TOOL_USE"),
        ("x" * 1000, "tool", "stop reason " + "x" * 40),
    ],
)
def test_a_reply_that_ended_otherwise_is_not_read(
    stop_reason: str | None, mode: str, problem: str
) -> None:
    given = {"classifications": [item(1), item(2)]}
    blocks = [call(given), {"type": "text", "text": json.dumps(given)}]
    assert check_reply(Reply(stop_reason, blocks, mode), [KNOWN] * 2) == nothing(problem)


def test_there_are_two_output_modes() -> None:
    with pytest.raises(ValueError, match="'xml'; expected tool or json"):
        check_reply(Reply("end_turn", [], "xml"), [KNOWN])


@pytest.mark.parametrize("stop_reason", ["max_tokens", "model_context_window_exceeded"])
def test_of_a_cut_call_the_last_row_is_not_trusted(stop_reason: str) -> None:
    found = of_tool(item(1), item(2), item(3), rows=4, stop_reason=stop_reason)
    assert found.answers == {1: GOOD, 2: GOOD}
    assert found.problems == {3: "cut off", 4: "cut off"}
    assert found.reply_problem == stop_reason
    assert found.is_cut


@pytest.mark.parametrize("end", ['{"row": 3, "lev', "{", '{"row": 3, "x": [[{', ","])
def test_of_a_cut_json_the_complete_rows_are_kept(end: str) -> None:
    whole = payload(item(1), item(2))
    cut = whole.removesuffix("]}") + ", " + end
    answered = {1: GOOD} if end == "," else {1: GOOD, 2: GOOD}
    assert of_text(cut, "max_tokens").answers == answered
    assert of_text("```json\n" + cut, "max_tokens").answers == answered
    assert of_blocks(call(cut), stop_reason="max_tokens").answers == answered


@pytest.mark.parametrize("start", ["", "{", '{"classifications"', '{"classifications": [', "[1, 2",
                                   '{"classifications": [' + "[" * 99_999])  # fmt: skip
def test_a_reply_cut_before_its_first_row_has_none(start: str) -> None:
    assert of_text(start, "max_tokens") == nothing("max_tokens", row_problem="cut off", is_cut=True)


def test_only_what_was_cut_is_salvaged() -> None:
    cut = payload(item(1), item(2)).removesuffix("]}")
    assert of_text(cut) == nothing("no list of classifications")
    assert of_blocks(call(cut)) == nothing("no list of classifications")


def test_of_several_cut_calls_only_the_last_lacks_its_end() -> None:
    first, last = ({"classifications": [item(row)]} for row in (1, 2))
    found = of_blocks(call(first), call(last), stop_reason="max_tokens")
    assert found.answers == {1: GOOD}


def test_what_is_not_the_call_is_passed_over() -> None:
    chatter = [{"type": "text", "text": "Here you go: 1"}, {"type": "thinking"}, {}, 7, None, "x"]
    assert of_blocks(*chatter, call({"classifications": [item(1), item(2)]})) == ALL


def test_a_call_that_a_server_made_is_none_of_ours() -> None:
    made = {**call({"classifications": [item(1)]}), "type": "server_tool_use"}
    assert of_blocks(made) == nothing("no tool call")


@pytest.mark.parametrize("content", [None, 7, "<html>", {"type": "tool_use"}])
def test_content_of_no_blocks_answers_nothing(content: object) -> None:
    reply = Reply("tool_use", content, "tool")  # type: ignore[arg-type]
    assert check_reply(reply, [KNOWN] * 2) == nothing("no tool call")


@pytest.mark.parametrize("name", ["classify", "Classify_Engagement", "", None])
def test_a_call_of_another_tool_answers_nothing(name: str) -> None:
    good = {"classifications": [item(1), item(2)]}
    assert of_blocks(call(good, name)) == nothing("call of another tool")
    beside = of_blocks(call(good), call(good, name))
    assert (beside.answers, beside.reply_problem) == (ALL.answers, "call of another tool")


def test_words_alone_answer_nothing() -> None:
    assert of_blocks({"type": "text", "text": payload(item(1))}) == nothing("no tool call")
    no_text = check_reply(Reply("end_turn", [call({})], "json"), [KNOWN] * 2)
    assert no_text == nothing("no text")


def test_rows_of_several_calls_count_and_the_calls_are_told() -> None:
    first, second = ({"classifications": [item(row)]} for row in (1, 2))
    found = of_blocks(call(first), call(second))
    assert (found.answers, found.reply_problem) == (ALL.answers, "several tool calls")
    contrary = {"classifications": [item(1, level="new"), item(2)]}
    assert of_blocks(call(first), call(contrary)).problems == {1: "given twice, differently"}


def test_a_calls_input_may_come_as_a_string() -> None:
    assert of_blocks(call(payload(item(1), item(2)))) == ALL


@pytest.mark.parametrize(
    "given",
    [None, 7, [], [item(1)], {}, {"classifications": None}, {"classifications": {"1": item(1)}},
     {"classifications": "[]"}, {"Classifications": [item(1)]}, "", "{", "[]", "null", "NaN",
     "[" * 99_999, '{"classifications": ' + "9" * 5_000 + "}"],
)  # fmt: skip
def test_an_answer_is_a_list_of_classifications(given: object) -> None:
    assert of_blocks(call(given)) == nothing("no list of classifications")


def test_an_empty_list_lacks_every_row() -> None:
    assert of_tool() == Checked({}, {1: "missing", 2: "missing"}, None, is_cut=False)


@pytest.mark.parametrize(
    "row",
    [True, 1.0, "1", None, [1], {}, 0, -1, 3, float("nan"), pytest.param(10**5_000, id="huge")],
)
def test_a_row_number_is_a_whole_number_that_was_asked(row: object) -> None:
    found = of_tool(item(row), item(2))
    assert found.answers == {2: GOOD}
    assert found.problems == {1: "missing"}
    assert found.reply_problem == "rows nobody asked for"


@pytest.mark.parametrize("listed", [None, 7, "row", [item(1)], []])
def test_what_is_no_row_is_passed_over_and_told(listed: object) -> None:
    found = of_tool(listed, item(1), item(2))
    assert (found.answers, found.reply_problem) == (ALL.answers, "rows nobody asked for")


def test_saying_the_same_twice_is_saying_it_once() -> None:
    assert of_tool(item(1), item(2), item(1, mood="good")) == ALL


@pytest.mark.parametrize(
    "change", [{"level": "at_risk"}, {"user_explanation": USER + "!"}, {"admin_explanation": 7}]
)
def test_a_row_given_twice_differently_has_no_answer(change: dict[str, object]) -> None:
    found = of_tool(item(1), item(2), item(1, **change))
    assert found.answers == {2: GOOD}
    assert found.problems == {1: "given twice, differently"}


def test_fields_nobody_asked_for_change_nothing() -> None:
    nested: object = []
    for _ in range(50_000):
        nested = [nested]
    assert of_tool(item(1, mood=nested), item(2, confidence=float("nan"))) == ALL


@pytest.mark.parametrize("level", ["", "At_Risk", "at risk", " new", "churned", None, 1, ["new"]])
def test_a_level_is_one_of_the_five(level: object) -> None:
    found = of_tool(item(1, level=level), item(2))
    assert found.problems == {1: "unknown level"}
    assert found.answers == {2: GOOD}


@pytest.mark.parametrize("level", vocabulary.LEVELS)
def test_every_level_can_be_given(level: str) -> None:
    assert of_tool(item(1, level=level), item(2)).answers[1].level == level


@pytest.mark.parametrize("field", ["admin_explanation", "user_explanation"])
@pytest.mark.parametrize("text", [None, 7, ["a"], {}, True, "half a pair \ud83d here"])
def test_a_text_is_a_text_that_can_be_written(field: str, text: object) -> None:
    assert of_tool(item(1, **{field: text}), item(2)).problems == {1: "a text is missing or broken"}
    without = {key: value for key, value in item(1).items() if key != field}
    assert of_tool(without, item(2)).problems == {1: "a text is missing or broken"}


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        ("admin_explanation", "Came to 3 events lately.", "digit"),
        ("user_explanation", "You came to three events.", "number word"),
        ("admin_explanation", " \n", "blank"),
        ("user_explanation", "You are at-risk, we think.", "at_risk"),
        ("user_explanation", "w" * 281, "too long"),
        ("admin_explanation", "w" * 401, "too long"),
        ("admin_explanation", "Last seen on {last_attended_at}",
         "last_attended_at is not known"),
    ],
)  # fmt: skip
def test_a_bad_text_costs_its_own_row_only(field: str, text: str, problem: str) -> None:
    given = {"classifications": [item(1, **{field: text}), item(2)]}
    asked = [Asked(KNOWN.citable - {"last_attended_at"}, is_new=False), KNOWN]
    found = check_reply(Reply("tool_use", [call(given)], "tool"), asked)
    assert found == Checked({2: GOOD}, {1: f"{field}: {problem}"}, None, is_cut=False)


def test_each_text_is_judged_by_its_reader() -> None:
    level_named = "Seems at risk of leaving: write to them."
    assert of_tool(item(1, admin_explanation=level_named), item(2)).problems == {}
    at_length = "w" * 281
    assert of_tool(item(1, admin_explanation=at_length), item(2)).problems == {}


def test_blanks_around_a_text_are_dropped() -> None:
    assert of_tool(item(1, user_explanation=f"\n {USER}\n"), item(2)) == ALL


@pytest.mark.parametrize("level", vocabulary.LEVELS)
def test_a_new_member_is_never_called_at_risk_or_inactive(level: str) -> None:
    given = {"classifications": [item(row, level=level) for row in (1, 2)]}
    found = check_reply(Reply("tool_use", [call(given)], "tool"), [NEW, KNOWN]).answers
    assert found[1].is_vetoed == (level in ("at_risk", "inactive"))
    assert not found[2].is_vetoed


def test_the_texts_of_a_vetoed_answer_are_not_judged() -> None:
    given = {"classifications": [item(1, level="at_risk", user_explanation="You are at risk")]}
    found = check_reply(Reply("tool_use", [call(given)], "tool"), [NEW])
    assert found.answers == {1: Answer("at_risk", ADMIN, "You are at risk", is_vetoed=True)}


def test_nothing_asked_is_nothing_answered() -> None:
    assert check_reply(Reply("tool_use", [call({"classifications": []})], "tool"), []) == Checked(
        {}, {}, None, is_cut=False
    )


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from([ADMIN, USER])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "row": st.integers(-1, 5) | VALUES,
        "level": st.sampled_from(vocabulary.LEVELS) | VALUES,
        "admin_explanation": st.just(ADMIN) | VALUES,
        "user_explanation": st.just(USER) | VALUES,
        "mood": VALUES,
    },
)
LISTS = st.fixed_dictionaries({"classifications": st.lists(ITEMS | VALUES, max_size=6) | VALUES})
# Strings of JSON, whole and cut.
STRINGS = st.tuples(LISTS, st.integers(0, 400)).map(lambda p: json.dumps(p[0])[: p[1]]) | LISTS.map(
    json.dumps
)
BLOCKS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["tool_use", "text", "thinking"]) | VALUES,
        "name": st.just("classify_engagement") | VALUES,
        "input": LISTS | STRINGS | VALUES,
        "text": STRINGS | VALUES,
    },
)
STOP_REASONS = st.sampled_from(["tool_use", "end_turn", "max_tokens", "refusal", None]) | st.text()


@given(
    STOP_REASONS,
    st.lists(BLOCKS | VALUES, max_size=4) | VALUES,
    st.sampled_from(["tool", "json"]),
    st.lists(st.sampled_from([KNOWN, NEW, Asked(frozenset(), is_new=False)]), max_size=4),
)
def test_every_row_asked_has_either_an_answer_or_a_problem_whatever_comes(
    stop_reason: str | None, content: object, mode: str, asked: Sequence[Asked]
) -> None:
    reply = Reply(stop_reason, content, mode)  # type: ignore[arg-type]
    found = check_reply(reply, asked)
    assert sorted([*found.answers, *found.problems]) == list(range(1, len(asked) + 1))
    assert all(found.problems.values())
    assert all(answer.level in vocabulary.LEVELS for answer in found.answers.values())
