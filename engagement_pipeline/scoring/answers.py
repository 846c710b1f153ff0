"""What a model answered, checked here whatever its schema promised.

A reply is the blocks that the API sent for one request; rows are the request's own numbers, from
one. What a text may hold is in `answer_texts` and `user_text`; asking again, bisecting and falling
back belong to the classifiers.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.scoring.answer_texts import admin_text_problem, user_text_problem
from engagement_pipeline.scoring.prompt import TOOL_NAME

# Part of every cached label's fingerprint. It must change whenever an answer that was accepted
# would be refused now, or the other way round: here, in `answer_texts` or in `user_text`. Words of
# a problem may change without. A change asks for every label anew, and is paid for.
VALIDATOR_VERSION = "checks-1"

_VETOED_FOR_NEW_MEMBERS = ("at_risk", "inactive")
_TEXT_FIELDS = ("admin_explanation", "user_explanation")

_DONE = {
    "tool": ("tool_use", "end_turn", "stop_sequence"),
    "json": ("end_turn", "stop_sequence"),
}
_CUT = ("max_tokens", "model_context_window_exceeded")
_STOPPED = ("refusal", "pause_turn")
_QUOTED_CHARACTERS = 40

_FENCED = re.compile(r"```\w*\s(.*)```", re.DOTALL)
_LIST_BEGIN = re.compile(r'"classifications"\s*:\s*\[')
_BETWEEN_ITEMS = re.compile(r"[\s,]*")
_NOT_AN_ITEM = object()


@dataclass(frozen=True)
class Reply:
    """What came back for one request.

    Attributes:
        stop_reason: as the API gives it.
        content: the blocks, as plain JSON values.
        output_mode: `tool`, where the answer is a call of `classify_engagement`; or `json`, where
            it is a text that holds the same object.
    """

    stop_reason: str | None
    content: Sequence[Mapping[str, object]]
    output_mode: str


@dataclass(frozen=True)
class Asked:
    """What an answer to one row is held against.

    Attributes:
        citable: placeholders whose values are known of everyone in the row's profile.
        is_new: whether they are members for less than the organisation's `new_member_days`.
    """

    citable: frozenset[str]
    is_new: bool


@dataclass(frozen=True)
class Answer:
    """A row's label and templates, fit for use; a vetoed one only says that it was given.

    The texts of a vetoed answer are not checked: nobody is to read them.
    """

    level: str
    admin_template: str
    user_template: str
    is_vetoed: bool


@dataclass(frozen=True)
class Checked:
    """A reply's verdict, row by row.

    Attributes:
        answers: the good answers, by row.
        problems: for every other row asked, why it has none, in a few words.
        reply_problem: what is wrong with the reply as a whole, if anything; answers of a reply
            with a problem are good all the same.
        is_cut: the reply ended for want of room, so that fewer rows may fit.
    """

    answers: dict[int, Answer]
    problems: dict[int, str]
    reply_problem: str | None
    is_cut: bool


@dataclass(frozen=True)
class _Listed:
    """What a reply lists, not judged yet; `missing` is why a row that is not listed has none."""

    items: Sequence[object]
    problems: tuple[str, ...]
    missing: str


def check_reply(reply: Reply, asked: Sequence[Asked]) -> Checked:
    """Tell what of a reply can be used.

    Args:
        reply: what the API sent. Its blocks are not trusted to have any shape.
        asked: what is known of the profiles asked about, row 1 first.

    Returns:
        The verdict. The rows with an answer and those with a problem are together exactly the
        rows asked.

    Raises:
        ValueError: there is no such output mode. Nothing that a model sends raises.
    """
    if reply.output_mode not in _DONE:
        raise ValueError(f"the output mode is {reply.output_mode!r}; expected tool or json")
    is_cut = reply.stop_reason in _CUT
    listed = _listed(reply, is_cut=is_cut)
    contents, has_unknown = _by_row(listed.items, len(asked))
    answers: dict[int, Answer] = {}
    problems: dict[int, str] = {}
    for row, known in enumerate(asked, start=1):
        verdict = _verdict(contents[row], known) if row in contents else listed.missing
        if isinstance(verdict, Answer):
            answers[row] = verdict
        else:
            problems[row] = verdict
    wrong = (*listed.problems, "rows nobody asked for") if has_unknown else listed.problems
    return Checked(answers, problems, "; ".join(wrong) or None, is_cut)


def _listed(reply: Reply, *, is_cut: bool) -> _Listed:
    stopped = None if is_cut else _stop_problem(reply)
    if stopped is not None:
        return _Listed((), (stopped,), stopped)
    blocks = [block for block in _sequence(reply.content) if isinstance(block, Mapping)]
    inputs, problems = _tool_inputs(blocks) if reply.output_mode == "tool" else _json_texts(blocks)
    items: list[object] = []
    for place, given in enumerate(inputs, start=1):
        # What comes last before a cut may lack its end, though something has closed its brackets.
        ends_in_a_cut = is_cut and place == len(inputs)
        found = _items(given, ends_in_a_cut=ends_in_a_cut)
        if found is None:
            problems.append("no list of classifications")
        else:
            items += found[:-1] if ends_in_a_cut else found
    if is_cut:
        # The cut explains whatever else is wrong.
        return _Listed(items, (str(reply.stop_reason),), "cut off")
    return _Listed(items, tuple(problems), "missing" if items else (*problems, "missing")[0])


def _stop_problem(reply: Reply) -> str | None:
    if reply.stop_reason in _DONE[reply.output_mode]:
        return None
    if reply.stop_reason in _STOPPED:
        return str(reply.stop_reason)
    return f"stop reason {str(reply.stop_reason)[:_QUOTED_CHARACTERS]}"


def _tool_inputs(blocks: Iterable[Mapping[str, object]]) -> tuple[list[object], list[str]]:
    calls = [block for block in blocks if block.get("type") == "tool_use"]
    inputs = [call.get("input") for call in calls if call.get("name") == TOOL_NAME]
    problems = []
    if len(inputs) < len(calls):
        problems.append("call of another tool")
    if not calls:
        problems.append("no tool call")
    if len(inputs) > 1:
        problems.append("several tool calls")
    return inputs, problems


def _json_texts(blocks: Iterable[Mapping[str, object]]) -> tuple[list[object], list[str]]:
    texts = (block.get("text") for block in blocks if block.get("type") == "text")
    text = "".join(text for text in texts if isinstance(text, str)).strip()
    if not text:
        return [], ["no text"]
    fenced = _FENCED.fullmatch(text)
    return [fenced[1] if fenced else text], []


def _items(given: object, *, ends_in_a_cut: bool) -> Sequence[object] | None:
    if isinstance(given, str):
        try:
            parsed = json.loads(given)
        # Also digits too many for a number, and brackets too many for the parser.
        except (ValueError, RecursionError):
            return _salvaged(given) if ends_in_a_cut else None
        given = parsed
    if not isinstance(given, Mapping):
        return None
    found = given.get("classifications")
    return found if isinstance(found, list) else None


def _salvaged(text: str) -> Sequence[object] | None:
    begin = _LIST_BEGIN.search(text)
    if begin is None:
        return None
    decoder = json.JSONDecoder()
    items: list[object] = []
    place = begin.end()
    while True:
        gap = _BETWEEN_ITEMS.match(text, place)
        place = gap.end() if gap else place
        try:
            item, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            # An item that was begun is the last one listed, in place of the one before it.
            return [*items, _NOT_AN_ITEM] if place < len(text) else items
        items.append(item)


def _by_row(items: Iterable[object], rows: int) -> tuple[dict[int, set[tuple[object, ...]]], bool]:
    """What is said of each row, same things once; and whether anything is of no row."""
    contents: dict[int, set[tuple[object, ...]]] = {}
    has_unknown = False
    for item in items:
        row = item.get("row") if isinstance(item, Mapping) else None
        # A bool is an int to Python, and no row number.
        if not isinstance(item, Mapping) or type(row) is not int or not 1 <= row <= rows:
            has_unknown = True
            continue
        given = (item.get(field) for field in ("level", *_TEXT_FIELDS))
        content = tuple(value if isinstance(value, str) else None for value in given)
        contents.setdefault(row, set()).add(content)
    return contents, has_unknown


def _verdict(contents: set[tuple[object, ...]], asked: Asked) -> Answer | str:
    if len(contents) > 1:
        return "given twice, differently"
    level, *texts = next(iter(contents))
    if level not in vocabulary.LEVELS:
        return "unknown level"
    templates = [text.strip() for text in texts if isinstance(text, str) and _is_writable(text)]
    if len(templates) < len(_TEXT_FIELDS):
        return "a text is missing or broken"
    admin, user = templates
    answer = Answer(str(level), admin, user, asked.is_new and level in _VETOED_FOR_NEW_MEMBERS)
    if answer.is_vetoed:
        return answer
    found = (admin_text_problem(admin, asked.citable), user_text_problem(user, asked.citable))
    for field, problem in zip(_TEXT_FIELDS, found, strict=True):
        if problem is not None:
            return f"{field}: {problem}"
    return answer


def _is_writable(text: str) -> bool:
    # Half of a surrogate pair comes through JSON, and goes into no file.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) else ()
