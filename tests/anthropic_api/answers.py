"""What the model answers to a request: content, stop reason and tokens.

Rows and texts belong to `policy`, `text_ratings` and `rewritings`, and to `spoilt_answers` where
they are to be wrong; what is billed and how it travels to `service`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import invalid
from .faults import Fault, Misbehaviour
from .models import ModelSpec
from .policy import classify
from .request_checks import has_forced_tool, is_thinking
from .rewritings import TOOL_NAME as REWRITING_TOOL_NAME
from .rewritings import read_messages, rewrite, spoil_rewritings
from .spoilt_answers import Row, spoil_ratings, spoil_rows
from .text_ratings import rate, read_texts
from .tokens import compact, content_text, output_tokens
from .wire import UnreadableMessageError, read_question

TOOL_NAME = "classify_engagement"
RATING_TOOL_NAME = "rate_sentiment"
THINKING_TOKENS = 200
_CLASSIFICATIONS, _RATINGS, _REWRITINGS = "classifications", "ratings", "rewritings"
_ROWS_OF_TOOL = {RATING_TOOL_NAME: _RATINGS, REWRITING_TOOL_NAME: _REWRITINGS}

_THOUGHT = "The organisation asks about its members. I weigh attendance and activity of each."
_PREFACE = "I have looked at every profile with care. Here is what I found."
_SMALL_TALK = "I am happy to help, but I would need to know more about these members."

Block = dict[str, Any]


@dataclass
class Answer:
    """What the model made of a request.

    Attributes:
        content: blocks, as the API sends them.
        stop_reason: as the API names it.
        output_tokens: all of them, thinking included.
        thinking_tokens: those of thinking.
        org_name, profiles, texts: what was asked, for the record.
    """

    content: list[Block]
    stop_reason: str
    output_tokens: int
    thinking_tokens: int = 0
    stop_details: dict[str, Any] | None = None
    org_name: str | None = None
    profiles: tuple[str, ...] = field(default=())
    texts: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Form:
    """How the request wants its answer: by a call of the tool named, or else as JSON text.

    `rows` is the list that the answer's rows go into.
    """

    tool: str | None
    is_schema: bool
    rows: str

    def blocks(self, payload: object, call: str) -> list[Block]:
        if self.tool is None:
            return [{"type": "text", "text": compact(payload)}]
        return [{"type": "tool_use", "id": f"toolu_{call}", "name": self.tool, "input": payload}]


def make_answer(
    body: Mapping[str, Any], model: ModelSpec, misbehaviour: Misbehaviour | None, call: str
) -> Answer:
    """Answer a request that has been checked.

    Args:
        body: of the request.
        model: asked for.
        misbehaviour: what is to be wrong with the answer, if anything.
        call: a name for the call, unique on this server.

    Raises:
        ApiError: 400, where the user message is not in the form agreed. The real API would
            answer anything; here a client's mistake is to be seen at once.
    """
    form = _form(body)
    if form.tool is None and not form.is_schema:
        return _talk(body, model, "end_turn", _SMALL_TALK)
    asked = content_text(body["messages"][0]["content"])
    fault = misbehaviour.fault if misbehaviour is not None else None
    try:
        rows, told = _rows(asked, form, misbehaviour)
    except UnreadableMessageError as error:
        raise invalid(f"messages.0.content: this server cannot read it: {error}") from None
    if fault is Fault.REFUSAL:
        answer = Answer([], "refusal", model.tokens(output_tokens("")))
        answer.stop_details = {"type": "refusal", "category": None, "explanation": None}
    elif fault is Fault.ONLY_TEXT:
        answer = _talk(body, model, "end_turn", _SMALL_TALK)
    else:
        answer = _whole_or_cut(body, model, rows, form, fault, call)
    return replace(answer, **told)


def _rows(
    asked: str, form: _Form, misbehaviour: Misbehaviour | None
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of the answer, spoilt if they are to be; and what was asked, for the record."""
    rows: list[Row]
    if form.rows == _RATINGS:
        texts = read_texts(asked)
        rows = rate(texts)
        if misbehaviour is not None:
            rows = spoil_ratings(rows, misbehaviour)
        return rows, {"texts": texts}
    if form.rows == _REWRITINGS:
        texts = read_messages(asked)
        rows = rewrite(texts)
        if misbehaviour is not None:
            rows = spoil_rewritings(rows, misbehaviour)
        return rows, {"texts": texts}
    question = read_question(asked)
    rows = classify(question)
    if misbehaviour is not None:
        rows = spoil_rows(rows, question.profiles, misbehaviour)
    return rows, {"org_name": question.name, "profiles": question.profiles}


def _form(body: Mapping[str, Any]) -> _Form:
    choice = body.get("tool_choice") or {}
    tools = body.get("tools") or []
    output_format = (body.get("output_config") or {}).get("format")
    is_schema = bool(output_format)
    if not tools or choice.get("type") == "none" or (is_schema and not has_forced_tool(body)):
        shape = (output_format or {}).get("schema", {}).get("properties", {})
        listed = (name for name in (_RATINGS, _REWRITINGS) if name in shape)
        return _Form(None, is_schema, next(listed, _CLASSIFICATIONS))
    tool = choice.get("name") or tools[0]["name"]
    return _Form(tool, is_schema, _ROWS_OF_TOOL.get(tool, _CLASSIFICATIONS))


def _thinking(body: Mapping[str, Any], model: ModelSpec) -> int:
    return THINKING_TOKENS if is_thinking(body, model) else 0


def _thinking_block() -> Block:
    return {"type": "thinking", "thinking": _THOUGHT, "signature": "c2lnbmF0dXJl"}


def _talk(body: Mapping[str, Any], model: ModelSpec, stop_reason: str, text: str) -> Answer:
    thinking = _thinking(body, model)
    content = [_thinking_block()] if thinking else []
    content.append({"type": "text", "text": text})
    return Answer(content, stop_reason, model.tokens(output_tokens(text)) + thinking, thinking)


def _whole_or_cut(
    body: Mapping[str, Any],
    model: ModelSpec,
    rows: list[Row],
    form: _Form,
    fault: Fault | None,
    call: str,
) -> Answer:
    thinking = _thinking(body, model)
    room = body["max_tokens"] - thinking
    count = model.tokens(output_tokens(compact({form.rows: rows})))
    stop_reason = "end_turn" if form.tool is None else "tool_use"
    if fault is Fault.MAX_TOKENS or count > room:
        share = 0.5 if fault is Fault.MAX_TOKENS else max(0.0, room / count)
        content = _cut_blocks(rows, form, share, call)
        stop_reason = "max_tokens"
        count = max(0, min(room, count if share == 0.5 else room))
    else:
        content = _blocks(rows, form, fault, call)
    if thinking or fault is Fault.THINKING_BEFORE_TOOL:
        content.insert(0, _thinking_block())
    return Answer(content, stop_reason, min(body["max_tokens"], count + thinking), thinking)


def _cut_blocks(rows: list[Row], form: _Form, share: float, call: str) -> list[Block]:
    """The answer up to a share of it: whole rows, and a last one whose text breaks off."""
    if share == 0:
        return []
    if form.tool is None:
        text = compact({form.rows: rows})
        return [{"type": "text", "text": text[: int(len(text) * share)]}]
    whole = min(int(len(rows) * share), len(rows) - 1)
    last = dict(rows[whole])
    if form.rows == _RATINGS:
        # The point and what is behind it are lost.
        last["sentiment"] = int(last["sentiment"])
    elif form.rows == _REWRITINGS:
        last["text"] = last["text"][: len(last["text"]) // 2]
    else:
        last["user_explanation"] = last["user_explanation"][: len(last["user_explanation"]) // 2]
    return form.blocks({form.rows: [*rows[:whole], last]}, call)


def _blocks(rows: list[Row], form: _Form, fault: Fault | None, call: str) -> list[Block]:
    payload: dict[str, Any] = {form.rows: rows}
    if fault is Fault.TEXT_BEFORE_TOOL:
        return [{"type": "text", "text": _PREFACE}, *form.blocks(payload, call)]
    if fault is Fault.INPUT_AS_STRING:
        return form.blocks(compact(payload), call)
    if fault is Fault.NO_CLASSIFICATIONS:
        return form.blocks({}, call)
    if fault is Fault.TWO_TOOL_CALLS:
        middle = (len(rows) + 1) // 2
        halves = ({form.rows: rows[:middle]}, {form.rows: rows[middle:]})
        return [
            block
            for place, half in enumerate(halves)
            for block in form.blocks(half, f"{call}{place}")
        ]
    if fault is Fault.WRONG_TOOL_NAME:
        if form.tool is None:
            return form.blocks({"results": rows}, call)
        return replace(form, tool="classify_members").blocks(payload, call)
    return form.blocks(payload, call)
