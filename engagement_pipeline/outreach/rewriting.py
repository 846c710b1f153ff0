"""What a model is asked about templates, and which of its words stand.

Templates go with their slots as they are, so that the model hears of no member and no
organisation. How a request is sent, tried again and paid for is in `scoring.anthropic`; which
words members may not read, in `forbidden_words`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from engagement_pipeline.outreach.forbidden_words import tone_problems, words_problems
from engagement_pipeline.outreach.templates import (
    SLOTS,
    Template,
    length_problem,
    sample_of,
    slot_problems,
)
from engagement_pipeline.scoring.answer_texts import user_text_problem
from engagement_pipeline.scoring.answers import Reply
from engagement_pipeline.scoring.row_answers import (
    BadAnswerError,
    Item,
    RowAnswers,
    RowForm,
    check_rows,
)

REWRITABLE_TYPES = ("mood_support", "milestone_celebration")
"""The types of outreach whose templates a model may put into other words."""

TEMPLATES_PER_CALL = 10
"""Templates in a call by rule."""

TOOL_NAME = "rewrite_messages"

SYSTEM = """\
Put each message into other words: a short note from a community to one of its members.
A row is a number and a message with what it is for and its tone. Keep what it says, its purpose \
and its tone; write plain, kind British English, one to three short sentences, at most 200 \
characters.
Slots in braces, such as {name}, are filled in later. Use exactly the slots of the row's own \
message, each as often as there, spelt the same, never beside a letter or a hyphen, and no others.
Never use numbers, in figures or in words, nor dates, points, ranks, levels or streaks. Never say \
or hint that somebody was watched, was away, may leave, is sad, or ought to do anything. No blame, \
no pressure, no promises, no links, no formatting, no emoji.
Who is close to a milestone has not reached it: then congratulate nobody.
Give every row once."""
"""Rules and bans, the same in every request."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "rewritings": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"row": {"type": "integer"}, "text": {"type": "string"}},
                "required": ["row", "text"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["rewritings"],
    "additionalProperties": False,
}
"""The answer's shape. Strict mode takes no bounds: lengths are checked here."""

VALIDATOR_VERSION = "rewritings-1"
"""Changes whenever words that stood would not any more, or the other way round."""

_FORM = RowForm(TOOL_NAME, "rewritings")
_SLOT = re.compile(r"\{([^{}]*)\}")
# Of a milestone that is only near, the wrong thing to say.
_REACHED = re.compile(
    r"\b(?:congrat\w*|reached|achieved|earned|unlocked|completed|made it|well done|did it"
    r"|(?:is|are) (?:all )?yours)\b",
    re.IGNORECASE,
)


def is_rewritable(template: Template) -> bool:
    """Whether a model may put a template into other words."""
    return template.outreach_type in REWRITABLE_TYPES and not template.is_rewritten


def told_of(template: Template) -> str:
    """What the model is told of a template: a JSON object in one line."""
    told = {
        "for": " or ".join(template.triggers or (template.outreach_type,)).replace("_", " "),
        "tone": template.tone,
        "message": template.text,
    }
    return json.dumps(told, ensure_ascii=False)


def user_turn(told: Sequence[str]) -> str:
    """The user's message: a line a template, its number from one and `told_of` it."""
    return "\n".join(f"{row} {line}" for row, line in enumerate(told, start=1))


def fingerprint(template: Template, *, model: str, output_mode: str) -> str:
    """Sha256, in hex, of all that could change how a model puts a template."""
    asked = [
        template.template_id,
        told_of(template),
        PROMPT_VERSION,
        VALIDATOR_VERSION,
        model,
        output_mode,
    ]
    return hashlib.sha256(json.dumps(asked, separators=(",", ":")).encode()).hexdigest()


def check_rewriting(template: Template, text: object) -> list[str]:
    """What is wrong with new words for a template, in a few words each; none where they stand.

    They must have exactly the slots of the template, apart from other letters; come out neither
    too short nor too long; be Latin letters without figures, number words, dates, links and
    formatting; and say nothing that members may not read, that blames, presses or claims to have
    watched, or that congratulates on a milestone that is only near.

    Args:
        template: in its own words.
        text: what was said. It is not trusted to be a text.
    """
    if not isinstance(text, str) or not text.strip():
        return ["no text"]
    if sorted(_SLOT.findall(text)) != sorted(_SLOT.findall(template.text)):
        return ["other slots"]
    # Slots are known to stand in pairs of braces now, so that a sample can be read for the rest.
    problems = slot_problems(text)
    if problems:
        return problems
    length = length_problem(text)
    if length is not None:
        problems.append(length)
    sample = sample_of(text)
    read = user_text_problem(sample, frozenset())
    if read is not None:
        problems.append(read)
    problems += [rule for rule in words_problems(sample) if rule != read]
    problems += tone_problems(text)
    if template.triggers == ("milestone_near",) and _REACHED.search(text):
        problems.append("congratulates on what is not reached")
    return problems


def check_rewritings(reply: Reply, templates: Sequence[Template]) -> RowAnswers[str]:
    """Tell which of a reply's words stand.

    A row is good if it is given once, or the same way again, and `check_rewriting` finds nothing.

    Args:
        reply: what the API sent. Its blocks are not trusted to have any shape.
        templates: what was asked about, row 1 first.

    Raises:
        ValueError: there is no such output mode. Nothing that a model sends raises.
    """

    def judge(row: int, given: Sequence[Item]) -> str:
        texts = [item.get("text") for item in given]
        if any(text != texts[0] for text in texts):
            raise BadAnswerError("given twice, differently")
        text = texts[0].strip() if isinstance(texts[0], str) else texts[0]
        problems = check_rewriting(templates[row - 1], text)
        if problems:
            raise BadAnswerError(", ".join(problems))
        return str(text)

    return check_rows(reply, len(templates), _FORM, judge)


def rewritable(templates: Iterable[Template]) -> list[Template]:
    """Those that a model may put into other words, by id."""
    return sorted(filter(is_rewritable, templates), key=lambda one: one.template_id)


def _version() -> str:
    written = json.dumps([SYSTEM, SCHEMA, TOOL_NAME, sorted(SLOTS)], sort_keys=True)
    return f"rewriting-1-{hashlib.sha256(written.encode()).hexdigest()[:12]}"


PROMPT_VERSION = _version()
"""Changes with every word above; its first part, by hand, with the encoding of rows."""
