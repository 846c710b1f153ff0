"""The templates of messages: reading, checking and finding them.

What they say is in `templates.yaml`, the only file that this package opens. Filling them in is
`rendering`'s, choosing among those that fit is `loops.routing`'s.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from itertools import product
from types import MappingProxyType
from typing import Any

import yaml

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.outreach.forbidden_words import tone_problems, words_problems

SLOTS: Mapping[str, int] = MappingProxyType(
    {"name": 60, "org": 80, "milestone": 100, "topic": 100, "feature": 100}
)
"""What can be filled in, and how many characters of it are shown at most."""

MIN_CHARACTERS, MAX_CHARACTERS = 10, 500
"""Bounds of a message."""

MIN_TEMPLATES = 17
MIN_CHOICES = 2
"""Templates of a type and tone that need no more than a name, so that there is one to learn of."""

_FILE = "templates.yaml"
_KEYS = {"template_id", "type", "tone", "text"}
_MAY_HAVE = {"triggers"}
_ID = re.compile(r"[a-z0-9_.]{3,80}")
_ALWAYS_KNOWN = {"name", "org"}

_SLOT = re.compile(r"\{([^{}]*)\}")
# A slot that is glued to letters would make words with what is filled in.
_SLOT_APART = re.compile(r"(?<![^\s\"(“])\{[^{}]*\}(?=[”\")]?[,.;:!?]?(?:\s|$))")


class InvalidTemplatesError(ValueError):
    """Templates that are not as they must be; the message names each and says how."""


@dataclass(frozen=True)
class Template:
    """A text with slots.

    Attributes:
        template_id: its name, which never passes on to other words.
        outreach_type: what it is for.
        tone: how it sounds.
        text: the words; slots stand in braces.
        triggers: the only occasions that it is right for; empty: all of its type.
        is_rewritten: whether a model put it into other words.
    """

    template_id: str
    outreach_type: str
    tone: str
    text: str
    triggers: tuple[str, ...] = ()
    is_rewritten: bool = False

    @cached_property
    def slots(self) -> frozenset[str]:
        """The slots that the text has."""
        return frozenset(self.pieces[1::2])

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """The text cut at its slots: text, slot, text, ..., text."""
        return tuple(_SLOT.split(self.text))


class Templates:
    """Templates, to be found by what they are for. Never changed."""

    def __init__(self, templates: Iterable[Template]) -> None:
        """Take templates that `lint` finds no problem in; only ids are looked at here.

        Raises:
            InvalidTemplatesError: an id comes twice.
        """
        self._all = tuple(sorted(templates, key=lambda one: one.template_id))
        self._by_id = {one.template_id: one for one in self._all}
        if len(self._by_id) < len(self._all):
            raise InvalidTemplatesError(", ".join(_duplicates(self._all)))
        self._by_use: dict[tuple[str, str], list[Template]] = {}
        for one in self._all:
            self._by_use.setdefault((one.outreach_type, one.tone), []).append(one)
        # A cycle asks the same few questions for every member.
        self._fitting: dict[tuple[str, str, str | None, frozenset[str]], tuple[Template, ...]] = {}

    def __iter__(self) -> Iterator[Template]:
        """All of them, by id."""
        return iter(self._all)

    def __getitem__(self, template_id: str) -> Template:
        """The template of that id; `KeyError` if there is none."""
        return self._by_id[template_id]

    def fitting(
        self,
        outreach_type: str,
        tone: str,
        known: Collection[str],
        *,
        trigger: str | None = None,
    ) -> tuple[Template, ...]:
        """The templates to choose among, sorted by id; never none.

        Args:
            outreach_type: what the message is for.
            tone: how it is to sound.
            known: the slots that can be filled in.
            trigger: the occasion. Templates for this very occasion are preferred to those for any;
                None: only the latter.

        Raises:
            InvalidTemplatesError: there are none of that type and tone that need no slot.
        """
        asked = (outreach_type, tone, trigger, frozenset(known))
        found = self._fitting.get(asked)
        if found is None:
            found = self._fitting[asked] = self._found(*asked)
        return found

    def reworded(self, texts: Mapping[str, str]) -> "Templates":
        """The same templates, some of them in other words.

        Args:
            texts: template id -> its new text. Ids that are not known are passed over.
        """
        return Templates(
            replace(one, text=texts[one.template_id], is_rewritten=True)
            if one.template_id in texts
            else one
            for one in self._all
        )

    def _found(
        self, outreach_type: str, tone: str, trigger: str | None, known: frozenset[str]
    ) -> tuple[Template, ...]:
        usable = [one for one in self._by_use.get((outreach_type, tone), ()) if one.slots <= known]
        special = tuple(one for one in usable if trigger in one.triggers)
        found = special or tuple(one for one in usable if not one.triggers)
        if not found:
            raise InvalidTemplatesError(
                f"expected a template of {outreach_type!r} in the tone {tone!r} that needs no "
                f"slot, found none"
            )
        return found


@cache
def catalogue() -> Templates:
    """The templates of the package.

    Raises:
        InvalidTemplatesError: `templates.yaml` is not as it must be.
    """
    text = resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    templates = read_templates(text)
    if problems := lint(templates):
        raise InvalidTemplatesError(f"{_FILE}: " + "; ".join(problems))
    return Templates(templates)


def read_templates(text: str) -> tuple[Template, ...]:
    """The templates of a file, in its order, not looked at yet by `lint`.

    Args:
        text: YAML: a list of entries as `templates.yaml` has them.

    Raises:
        InvalidTemplatesError: it is no YAML, or no such list.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidTemplatesError(f"{_FILE}: expected YAML, found: {error}") from None
    if not isinstance(found, list):
        raise InvalidTemplatesError(
            f"{_FILE}: expected a list of templates, found {type(found).__name__}"
        )
    return tuple(_template(entry, place) for place, entry in enumerate(found, start=1))


def lint(templates: Iterable[Template]) -> list[str]:
    """All that is wrong with templates, in words; none where they can be used.

    Looked at are ids, types, tones, triggers and slots; lengths with the shortest and the longest
    of what may be filled in; words that members may not read, digits, and words that blame, press
    or claim to have watched; and whether each type has, in each tone, something to choose among.
    """
    listed = list(templates)
    problems = _duplicates(listed)
    for one in listed:
        problems += [f"{one.template_id}: {problem}" for problem in _problems(one)]
    if len(listed) < MIN_TEMPLATES:
        problems.append(f"expected at least {MIN_TEMPLATES} templates, found {len(listed)}")
    for outreach_type, tone in product(vocabulary.OUTREACH_TYPES, vocabulary.TONES):
        use = f"{outreach_type}, {tone}"
        plain = [
            one
            for one in listed
            if (one.outreach_type, one.tone) == (outreach_type, tone) and not one.triggers
        ]
        if not any(not one.slots for one in plain):
            problems.append(f"{use}: expected a template that needs no slot, found none")
        choices = sum(one.slots <= _ALWAYS_KNOWN for one in plain)
        if choices < MIN_CHOICES:
            problems.append(
                f"{use}: expected {MIN_CHOICES} templates that need no more than a name, "
                f"found {choices}"
            )
    return problems


def slot_problems(text: str) -> list[str]:
    """What is wrong with the slots of a text."""
    names = _SLOT.findall(text)
    problems = [
        f"unknown slot {name!r}; expected one of {', '.join(SLOTS)}"
        for name in names
        if name not in SLOTS
    ]
    if re.search(r"[{}]", _SLOT.sub("", text)):
        problems.append("a brace without its pair")
    if len(_SLOT_APART.findall(text)) < len(names):
        problems.append("a slot that does not stand apart")
    return problems


def length_problem(text: str) -> str | None:
    """Whether a text may come out too short or too long, and how."""
    shortest = len(_SLOT.sub("x", text))
    longest = len(_SLOT.sub(lambda slot: "x" * SLOTS.get(slot[1], 0), text))
    if shortest >= MIN_CHARACTERS and longest <= MAX_CHARACTERS:
        return None
    return (
        f"expected {MIN_CHARACTERS} to {MAX_CHARACTERS} characters when it is filled in, "
        f"found {shortest} to {longest}"
    )


def _problems(template: Template) -> Iterator[str]:
    if not _ID.fullmatch(template.template_id):
        yield "expected an id of small letters, digits, dots and underscores"
    if template.outreach_type not in vocabulary.OUTREACH_TYPES:
        yield f"unknown type {template.outreach_type!r}"
    if template.tone not in vocabulary.TONES:
        yield f"unknown tone {template.tone!r}"
    for trigger in template.triggers:
        if trigger not in vocabulary.TRIGGERS:
            yield f"unknown trigger {trigger!r}"
    yield from slot_problems(template.text)
    if (problem := length_problem(template.text)) is not None:
        yield problem
    yield from tone_problems(template.text)
    yield from (f"may not be read: {rule}" for rule in words_problems(sample_of(template.text)))


def sample_of(text: str) -> str:
    """A text with something harmless in its slots."""
    return _SLOT.sub("Robin", text)


def _duplicates(templates: Iterable[Template]) -> list[str]:
    counted = Counter(one.template_id for one in templates)
    return [f"{name}: comes {times} times" for name, times in counted.items() if times > 1]


def _template(entry: Any, place: int) -> Template:
    if not isinstance(entry, dict) or not _KEYS <= set(entry) <= _KEYS | _MAY_HAVE:
        found = sorted(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        raise InvalidTemplatesError(
            f"{_FILE}: template {place}: expected {sorted(_KEYS)} and maybe "
            f"{sorted(_MAY_HAVE)}, found {found}"
        )
    triggers = entry.get("triggers", [])
    if not isinstance(triggers, list) or not all(
        isinstance(value, str) for value in (*triggers, *(entry[key] for key in _KEYS))
    ):
        raise InvalidTemplatesError(
            f"{_FILE}: template {place}: expected texts, and triggers as a list of texts"
        )
    return Template(
        entry["template_id"], entry["type"], entry["tone"], entry["text"], tuple(triggers)
    )
