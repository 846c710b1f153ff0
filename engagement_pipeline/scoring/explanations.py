"""Explanations: from a template and a member's signals to the text that people read.

A template is plain text with placeholders. `{events_attended_90d}` gives the bare figure,
`{last_attended_at}` a date such as `3 May 2026` (UTC), and `{events_attended_90d:event|events}`
the word that fits the figure: the first for exactly one, the second for anything else. Which
template a member gets belongs to the classifiers, and what a text may not say to `user_text`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.signals import SIGNAL_COLUMNS

ADMIN_EXPLANATION_MAX_CHARACTERS = 400
USER_EXPLANATION_MAX_CHARACTERS = 280

WINDOW_DAYS = 90

_BRACED = re.compile(r"\{([^{}]*)\}")
_FIGURE_FORM = "{name} or {name:one|many}"
_DATE_FORMAT = "%-d %B %Y"
_TEMPLATES = ("admin_template", "user_template")
_ROW = "row_number"


class TemplateError(ValueError):
    """A template cannot be filled; the text quotes it and says why."""


class MalformedTemplateError(TemplateError):
    """A template has a brace without its partner, or a placeholder of an unknown form."""


class UnknownPlaceholderError(TemplateError):
    """A template names a placeholder that there is none of."""


class NullPlaceholderError(TemplateError):
    """A template cites a figure that is unknown of a member who got it."""


class PlaceholderKind(StrEnum):
    """How a value is written: a bare figure, or a date in words."""

    FIGURE = "figure"
    DATE = "date"


# By identity: expressions do not compare.
@dataclass(frozen=True, eq=False)
class Placeholder:
    """A name that templates may use.

    Attributes:
        name: what stands between the braces.
        kind: how the value is written.
        description: what the value is, for whoever writes templates.
        is_nullable: whether it is unknown of some members.
        value: the value, from the columns of `signals.member_90d`.
    """

    name: str
    kind: PlaceholderKind
    description: str
    is_nullable: bool
    value: pl.Expr

    @cached_property
    def text(self) -> pl.Expr:
        """The value as people read it; null where the value is."""
        if self.kind is PlaceholderKind.DATE:
            return self.value.dt.strftime(_DATE_FORMAT)
        return self.value.cast(pl.String)


@dataclass(frozen=True)
class _Slot:
    """One use of a placeholder in a template; `words` are those for one and for many."""

    name: str
    words: tuple[str, str] | None

    @property
    def text(self) -> pl.Expr:
        written = pl.col(self.name)
        if self.words is None:
            return written
        one, many = self.words
        # Without the first branch an unknown figure would silently read as many.
        return (
            pl.when(written.is_null())
            .then(pl.lit(None, dtype=pl.String))
            .when(written == "1")
            .then(pl.lit(one))
            .otherwise(pl.lit(many))
        )


def _placeholders() -> dict[str, Placeholder]:
    found = {}
    for column in contract("signals.member_90d").columns:
        if column.name not in SIGNAL_COLUMNS:
            continue
        is_figure = column.dtype == pl.Int64
        found[column.name] = Placeholder(
            name=column.name,
            kind=PlaceholderKind.FIGURE if is_figure else PlaceholderKind.DATE,
            description=column.description,
            is_nullable=column.is_nullable,
            value=pl.col(column.name),
        )
    found["days_since_attended"] = Placeholder(
        name="days_since_attended",
        kind=PlaceholderKind.FIGURE,
        description="Whole days since an event was last attended.",
        is_nullable=True,
        value=(pl.col("as_of") - pl.col("last_attended_at")).dt.total_days(),
    )
    found["window_days"] = Placeholder(
        name="window_days",
        kind=PlaceholderKind.FIGURE,
        description="Days in the window that the counts are made over.",
        is_nullable=False,
        value=pl.lit(WINDOW_DAYS),
    )
    return found


PLACEHOLDERS: dict[str, Placeholder] = _placeholders()
"""Every placeholder by name: each signal, and what follows from them.

They derive from the contract, so that a signal added there can be cited at once.
"""


def placeholders_of(template: str) -> tuple[str, ...]:
    """The names of the placeholders a template uses, each once, in order of first use.

    Raises:
        UnknownPlaceholderError: there is no placeholder of that name.
        MalformedTemplateError: a brace has no partner, or a placeholder has an unknown form.
    """
    return tuple(dict.fromkeys(p.name for p in _parse(template) if isinstance(p, _Slot)))


def render(labelled: pl.DataFrame) -> pl.DataFrame:
    """Fill each member's templates from that member's signals.

    Works on all members of one template at once, so its cost goes with the number of templates.

    Args:
        labelled: one row per member, with `user_id`, `as_of`, the signals, and `admin_template`
            and `user_template`.

    Returns:
        The same rows in the same order, with `admin_explanation` and `user_explanation`.

    Raises:
        UnknownPlaceholderError: a template names a placeholder that there is none of.
        MalformedTemplateError: a template cannot be read.
        NullPlaceholderError: a template cites what is unknown of a member who got it.
    """
    templates = labelled.select(_TEMPLATES).unique(maintain_order=True)
    used = _used(template for pair in templates.iter_rows() for template in pair)
    values = labelled.select(
        pl.int_range(pl.len()).alias(_ROW),
        "user_id",
        *_TEMPLATES,
        *(PLACEHOLDERS[name].text.alias(name) for name in used),
    )
    filled = [
        _fill(group, *pair)
        for pair, group in values.partition_by(
            _TEMPLATES, as_dict=True, maintain_order=True, include_key=False
        ).items()
    ]
    if not filled:
        no_text = pl.lit(None, dtype=pl.String)
        return labelled.with_columns(admin_explanation=no_text, user_explanation=no_text)
    return labelled.hstack(pl.concat(filled).sort(_ROW).drop(_ROW))


@lru_cache(maxsize=4096)
def _parse(template: str) -> tuple[str | _Slot, ...]:
    # An odd place holds what stood between braces: `split` gives the captured group there.
    pieces = _BRACED.split(template)
    parts: list[str | _Slot] = []
    for place, piece in enumerate(pieces):
        if place % 2:
            parts.append(_slot(piece, template))
        elif "{" in piece or "}" in piece:
            raise MalformedTemplateError(f"a brace has no partner in the template {template!r}")
        elif piece:
            parts.append(piece)
    return tuple(parts)


def _slot(inner: str, template: str) -> _Slot:
    name, colon, choice = inner.partition(":")
    if name not in PLACEHOLDERS:
        raise UnknownPlaceholderError(
            f"the template {template!r} names the placeholder {name!r}, which does not exist"
        )
    if not colon:
        return _Slot(name, None)
    words = choice.split("|")
    if len(words) != 2 or PLACEHOLDERS[name].kind is not PlaceholderKind.FIGURE:
        raise MalformedTemplateError(
            f"the template {template!r} writes {inner!r}; expected {_FIGURE_FORM}, "
            "the latter for figures only"
        )
    return _Slot(name, (words[0], words[1]))


def _used(templates: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for t in templates for name in placeholders_of(t)))


def _fill(group: pl.DataFrame, admin_template: str, user_template: str) -> pl.DataFrame:
    filled = group.select(
        _ROW,
        _text(admin_template).alias("admin_explanation"),
        _text(user_template).alias("user_explanation"),
    )
    for template, column in zip((admin_template, user_template), filled.columns[1:], strict=True):
        if filled[column].null_count():
            raise _null_error(group, template)
    return filled


# An organisation has few members a template, and building its expression would cost more than
# running it.
@lru_cache(maxsize=4096)
def _text(template: str) -> pl.Expr:
    parts = _parse(template)
    return pl.concat_str(
        [pl.lit(""), *(part.text if isinstance(part, _Slot) else pl.lit(part) for part in parts)]
    )


def _null_error(group: pl.DataFrame, template: str) -> NullPlaceholderError:
    names = placeholders_of(template)
    name = next(name for name in names if group[name].null_count())
    user_id = group.filter(pl.col(name).is_null())["user_id"][0]
    return NullPlaceholderError(
        f"the template {template!r} cites {name!r}, which is unknown of the member {user_id!r}"
    )
