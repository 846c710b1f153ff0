"""Replies that answer numbered rows, whatever they are about: finding each row's answer.

What a good answer to a row is comes from the caller. Replies about profiles have rules of their
own, in `answers`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from engagement_pipeline.scoring.answers import Reply

Answer = TypeVar("Answer")
Item = Mapping[str, object]

_DONE = {"tool": ("tool_use", "end_turn", "stop_sequence"), "json": ("end_turn", "stop_sequence")}
_CUT = ("max_tokens", "model_context_window_exceeded")
_QUOTED_CHARACTERS = 40
_FENCED = re.compile(r"```\w*\s(.*)```", re.DOTALL)


class BadAnswerError(ValueError):
    """What is said of a row is no answer; the text says why, in a few words."""


@dataclass(frozen=True)
class RowAnswers(Generic[Answer]):
    """A reply's verdict, row by row; each row asked is in one of the two.

    Attributes:
        answers: row -> its answer.
        problems: row -> why it has none, in a few words.
        reply_problem: what is wrong with the reply as a whole, if anything; answers of such a
            reply are good all the same.
    """

    answers: dict[int, Answer] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    reply_problem: str | None = None


@dataclass(frozen=True)
class RowForm:
    """The shape that an answer was asked for in: the tool's name, and that of the list of rows."""

    tool_name: str
    list_name: str


def check_rows(
    reply: Reply,
    rows: int,
    form: RowForm,
    judge: Callable[[int, Sequence[Item]], Answer],
) -> RowAnswers[Answer]:
    """Tell what of a reply can be used.

    Of a reply that was cut off the last row is not believed: some of it may be missing.

    Args:
        reply: what the API sent. Its blocks are not trusted to have any shape.
        rows: how many rows were asked about.
        form: the shape that was asked for.
        judge: the answer to a row, of all that is said of it; raises `BadAnswerError` if there is
            none in it.

    Raises:
        ValueError: there is no such output mode. Nothing that a model sends raises.
    """
    if reply.output_mode not in _DONE:
        raise ValueError(f"the output mode is {reply.output_mode!r}; expected tool or json")
    is_cut = reply.stop_reason in _CUT
    if not is_cut and reply.stop_reason not in _DONE[reply.output_mode]:
        return _none(rows, f"stop reason {str(reply.stop_reason)[:_QUOTED_CHARACTERS]}")
    items, wrong = _items(reply, form)
    if is_cut:
        items, wrong = items[:-1], str(reply.stop_reason)
    given, has_unknown = _by_row(items, rows)
    found: RowAnswers[Answer] = RowAnswers(
        reply_problem="rows nobody asked for" if has_unknown and not wrong else wrong
    )
    for row in range(1, rows + 1):
        try:
            if row not in given:
                raise BadAnswerError(wrong or "missing")
            found.answers[row] = judge(row, given[row])
        except BadAnswerError as error:
            found.problems[row] = str(error)
    return found


def _none(rows: int, problem: str) -> RowAnswers[Answer]:
    return RowAnswers({}, dict.fromkeys(range(1, rows + 1), problem), problem)


def _items(reply: Reply, form: RowForm) -> tuple[list[object], str | None]:
    """What a reply lists, not judged yet, and what is wrong with it as a whole."""
    content = reply.content if isinstance(reply.content, Sequence) else ()
    blocks = [block for block in content if isinstance(block, Mapping)]
    if reply.output_mode == "tool":
        calls = [block for block in blocks if block.get("type") == "tool_use"]
        inputs = [call.get("input") for call in calls if call.get("name") == form.tool_name]
        if not inputs:
            return [], "call of another tool" if calls else "no tool call"
    else:
        texts = (block.get("text") for block in blocks if block.get("type") == "text")
        text = "".join(text for text in texts if isinstance(text, str)).strip()
        fenced = _FENCED.fullmatch(text)
        inputs = [fenced[1] if fenced else text]
    lists = [_listed(given, form) for given in inputs]
    items = [item for found in lists for item in found or ()]
    return items, f"no list of {form.list_name}" if None in lists else None


def _listed(given: object, form: RowForm) -> list[object] | None:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        # Also digits too many for a number, and brackets too many for the parser.
        except (ValueError, RecursionError):
            return None
    found = given.get(form.list_name) if isinstance(given, Mapping) else None
    return found if isinstance(found, list) else None


def _by_row(items: Sequence[object], rows: int) -> tuple[dict[int, list[Item]], bool]:
    """What is said of each row, and whether anything is of no row."""
    given: dict[int, list[Item]] = {}
    has_unknown = False
    for item in items:
        row = item.get("row") if isinstance(item, Mapping) else None
        # A bool is an int to Python, and no row number.
        if not isinstance(item, Mapping) or type(row) is not int or not 1 <= row <= rows:
            has_unknown = True
        else:
            given.setdefault(row, []).append(item)
    return given, has_unknown
