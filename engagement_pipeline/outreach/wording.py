"""In which words something is said: a template is chosen among those that fit, and filled in.

Which templates there are belongs to `templates`, how one is filled in to `rendering`, and what is
believed of how each is answered to the loop `routing`; here they meet, once for every message.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from engagement_pipeline.loops.routing import Choice, Chooser
from engagement_pipeline.outreach.rendering import UnshowableTextError, render, usable_slots
from engagement_pipeline.outreach.templates import Templates

Slots = tuple[tuple[str, str | None], ...]
"""Slot -> what is known for it, as it was found; None: nothing."""

FEATURE_WORDS = {
    "message": "messages",
    "command": "commands",
    "callback": "buttons",
    "voice": "voice messages",
    "document": "shared documents",
    "sticker": "stickers",
    "reaction": "reactions",
    "inline_query": "searches within a message",
}
"""What members call the kinds of interaction (`vocabulary.INTERACTION_TYPES`), as plurals."""

_NOTHING: Mapping[str, tuple[float, float]] = {}
_ARMS = {"template_id": pl.String, "alpha": pl.Float64, "beta": pl.Float64}


class Worded(NamedTuple):
    """A message in words.

    Attributes:
        template_id: the template.
        is_rewritten: whether a model put it into other words.
        is_learned: whether it was chosen by what was learned.
        propensity: how probable its choice was among those that could be shown, in (0, 1].
        text: what the member reads.
    """

    template_id: str
    is_rewritten: bool
    is_learned: bool
    propensity: float
    text: str


class Wording:
    """Chooses templates by what is believed of them, and fills them in."""

    def __init__(
        self, templates: Templates, *, arms: pl.DataFrame | None, floor: float, seed: int
    ) -> None:
        """Take what choices are made by.

        Args:
            templates: to choose among.
            arms: rows of `loops.arm_posteriors`, at most one an arm (`routing.arms_in_force`);
                None: nothing is believed of any, so that all that fit are chosen alike.
            floor: the share of choices made among all that fit alike, in [0, 1].
            seed: of all choices.
        """
        self._templates, self._floor, self._seed = templates, floor, seed
        self._believed: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
        if arms is not None:
            columns = ("org_id", "outreach_type", "template_id", "alpha", "beta")
            for org_id, kind, template_id, alpha, beta in arms.select(columns).iter_rows():
                self._believed.setdefault((org_id, kind), {})[template_id] = alpha, beta
        # A cycle chooses among the same few templates for many members.
        self._choosers: dict[tuple[str | None, tuple[str, ...]], Chooser] = {}

    def words(
        self, org_id: str, outreach_type: str, trigger: str, tone: str, slots: Slots, *, key: str
    ) -> Worded:
        """Put a message into words.

        Args:
            org_id: the organisation, whose experience counts.
            outreach_type: what the message is for.
            trigger: what makes it worth sending.
            tone: how it is to sound.
            slots: what the text may name. What a member should not read counts as not known.
            key: what the choice is drawn by: the message's id.

        Raises:
            UnshowableTextError: no template can be filled in.
        """
        known = usable_slots(dict(_in_words(slots)))
        fitting = self._templates.fitting(outreach_type, tone, known.keys(), trigger=trigger)
        problems, texts = [], {}
        # Each, and not only the chosen one, or the probability on record would be that of a choice
        # among others: one that cannot be shown takes no part in it.
        for template in fitting:
            try:
                texts[template.template_id] = render(template, known)
            except UnshowableTextError as error:
                # What is harmless by itself may not be so beside a template's words.
                problems.append(str(error))
        if not texts:
            raise UnshowableTextError("; ".join(problems))
        chosen, is_learned = self._choice(org_id, outreach_type, tuple(texts), key)
        name = chosen.template_id
        return Worded(
            name, self._templates[name].is_rewritten, is_learned, chosen.propensity, texts[name]
        )

    def _choice(
        self, org_id: str, outreach_type: str, ids: tuple[str, ...], key: str
    ) -> tuple[Choice, bool]:
        believed = self._believed.get((org_id, outreach_type), _NOTHING)
        is_learned = any(name in believed for name in ids)
        place = (org_id if is_learned else None, ids)
        chooser = self._choosers.get(place)
        if chooser is None:
            rows = [(name, *believed.get(name, (None, None))) for name in ids]
            arms = pl.DataFrame(rows, schema=_ARMS, orient="row")
            chooser = self._choosers[place] = Chooser(arms, floor=self._floor)
        return chooser.choose(seed=self._seed, key=key), is_learned


def _in_words(slots: Slots) -> Iterable[tuple[str, str | None]]:
    for name, value in slots:
        yield name, FEATURE_WORDS.get(value, value) if name == "feature" and value else value
