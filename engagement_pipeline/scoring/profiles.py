"""Signal profiles: members whose signals fall in the same buckets, and what may be said of all.

The buckets belong here, the text that a profile is sent as, what follows from that text alone,
how an organisation and its admins' corrections are told to a model, and the fingerprint by which an
answer is known again.
Describing members less closely, so that more of them share a profile, belongs to `sharing`. What
a model is told of profiles belongs to `prompt`, what it answers to the answer checks.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import polars as pl

from engagement_pipeline.scoring.levels import Correction, OrgContext, Thresholds

PROFILES_VERSION = "profiles-2"
"""Changes, by hand, whenever a cell comes to mean something else."""

NAME_MAX_CHARACTERS = 80
DESCRIPTION_MAX_CHARACTERS = 240

CELLS: tuple[str, ...] = (
    "attended",
    "previous",
    "rsvps",
    "no_shows",
    "last_attended",
    "last_active",
    "joined",
    "reads",
    "interactions",
    "profile_update",
    "trend",
)
"""What a profile is made of, in the order in which it is sent.

A count, a number of days or a share is the lower bound of its bucket, as a whole number.
"""

NEVER = "x"
UNKNOWN = "?"
NOT_TOLD = "*"
"""Holds of a cell that `sharing` left out."""

_TRENDS = ("+", "=", "-")
_UNNAMED = "(unnamed)"

_ATTENDED_EDGES = (0, 1, 2, 3, 4, 5)
_RSVP_EDGES = (0, 1, 3, 6)
_NO_SHOW_EDGES = (0, 1, 2)
_DAYS_SINCE_EDGES = (0, 8, 31, 61, 91, 181)
_JOINED_EDGES = (0, 30, 60, 180, 365)
_INTERACTION_EDGES = (0, 1, 5, 20)
_PROFILE_UPDATE_EDGES = (0, 91)

# None read, some, a quarter, three quarters: the one cell whose bounds are no plain count.
_READS = ("0", "1", "25", "75")

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,3}")


def _written(edges: Iterable[int], *others: str) -> frozenset[str]:
    return frozenset(map(str, edges)).union(others)


# Cells that thresholds split further may hold any whole number, and are not named here.
_ALLOWED: Mapping[str, frozenset[str]] = {
    "rsvps": _written(_RSVP_EDGES, NOT_TOLD),
    "no_shows": _written(_NO_SHOW_EDGES, NOT_TOLD),
    "last_attended": _written(_DAYS_SINCE_EDGES, NEVER, NOT_TOLD),
    "reads": frozenset((*_READS, UNKNOWN, NOT_TOLD)),
    "interactions": _written(_INTERACTION_EDGES, UNKNOWN, NOT_TOLD),
    "profile_update": _written(_PROFILE_UPDATE_EDGES, NEVER, NOT_TOLD),
    "trend": frozenset((*_TRENDS, NOT_TOLD)),
}

_ALWAYS_CITABLE = frozenset(
    (
        "events_attended_90d",
        "events_attended_prev_90d",
        "events_attended_total",
        "rsvp_count_90d",
        "no_show_count_90d",
        "days_since_active",
        "days_since_joined",
        "joined_at",
        "window_days",
    )
)
# Cell -> what may be cited unless the cell says never or unknown, or nothing.
_CITABLE_IF_KNOWN: Mapping[str, tuple[str, ...]] = {
    "last_attended": ("last_attended_at", "days_since_attended"),
    "reads": ("notifications_sent_90d", "notifications_read_90d"),
    "interactions": ("interaction_count_90d",),
    "profile_update": ("profile_updated_at",),
}


class MalformedProfileError(ValueError):
    """A text is no profile; the message quotes it and says which cell is wrong."""


@dataclass(frozen=True)
class Profile:
    """One combination of buckets, and what holds of every member in it.

    Attributes:
        text: the cells (`CELLS`) with single blanks between them, as `with_profiles` writes it.

    Raises:
        MalformedProfileError: the text has another number of cells, or a cell holds what it
            never can.
    """

    text: str

    def __post_init__(self) -> None:
        found = self.text.split(" ")
        if len(found) != len(CELLS):
            raise MalformedProfileError(
                f"the profile {self.text!r} has {len(found)} cells; expected {len(CELLS)}"
            )
        for cell, value in zip(CELLS, found, strict=True):
            allowed = _ALLOWED.get(cell)
            if cell == "previous" and value == NOT_TOLD:
                continue
            if allowed is None and not _WHOLE_NUMBER.fullmatch(value):
                expected = "a whole number of at most four digits"
            elif allowed is not None and value not in allowed:
                expected = f"one of {', '.join(sorted(allowed))}"
            else:
                continue
            raise MalformedProfileError(
                f"the profile {self.text!r} has {value!r} in the cell {cell!r}; expected {expected}"
            )

    @cached_property
    def cells(self) -> dict[str, str]:
        """Name of the cell -> what it holds."""
        return dict(zip(CELLS, self.text.split(" "), strict=True))

    @cached_property
    def citable(self) -> frozenset[str]:
        """The placeholders whose values are known of every member of the profile."""
        known = (
            names
            for cell, names in _CITABLE_IF_KNOWN.items()
            if self.cells[cell] not in (NEVER, UNKNOWN, NOT_TOLD)
        )
        return _ALWAYS_CITABLE.union(*known)

    def is_new(self, thresholds: Thresholds) -> bool:
        """Whether its members joined lately enough to be new, whatever they did since.

        Args:
            thresholds: those that the profile was made with.
        """
        return int(self.cells["joined"]) < thresholds.new_member_days

    def baseline_level(self, thresholds: Thresholds) -> str:
        """The level that the written rules give every member of the profile.

        The rules are those of `levels.with_baseline`, on lower bounds: buckets split at the
        thresholds, so that a lower bound is on the same side of each as all that it stands for.

        Args:
            thresholds: those that the profile was made with.
        """
        attended = int(self.cells["attended"])
        if attended >= thresholds.highly_engaged_min:
            return "highly_engaged"
        if self.is_new(thresholds):
            return "new"
        if attended >= thresholds.moderate_min:
            return "moderate"
        if int(self.cells["last_active"]) >= thresholds.inactive_days:
            return "inactive"
        return "at_risk"


def with_profiles(members: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """The members with the profile that each of them falls in.

    Args:
        members: one row per member with the columns of `signals.member_90d`.
        thresholds: the thresholds of the members' organisation; buckets split at them, so that
            no profile has members of two baseline levels.

    Returns:
        The same rows in the same order, with `profile`: a String that `Profile` takes.
    """
    by_attendance = (thresholds.moderate_min, thresholds.highly_engaged_min)
    cells = {
        "attended": _lower_bound(pl.col("events_attended_90d"), _ATTENDED_EDGES, *by_attendance),
        "previous": _lower_bound(
            pl.col("events_attended_prev_90d"), _ATTENDED_EDGES, *by_attendance
        ),
        "rsvps": _lower_bound(pl.col("rsvp_count_90d"), _RSVP_EDGES),
        "no_shows": _lower_bound(pl.col("no_show_count_90d"), _NO_SHOW_EDGES),
        "last_attended": _lower_bound(
            _whole_days_since("last_attended_at"), _DAYS_SINCE_EDGES
        ).fill_null(NEVER),
        "last_active": _lower_bound(
            pl.col("days_since_active"), _DAYS_SINCE_EDGES, thresholds.inactive_days
        ),
        "joined": _lower_bound(
            pl.col("days_since_joined"), _JOINED_EDGES, thresholds.new_member_days
        ),
        "reads": _read_share(),
        "interactions": _lower_bound(pl.col("interaction_count_90d"), _INTERACTION_EDGES).fill_null(
            UNKNOWN
        ),
        "profile_update": _lower_bound(
            _whole_days_since("profile_updated_at"), _PROFILE_UPDATE_EDGES
        ).fill_null(NEVER),
        "trend": _trend(),
    }
    text = pl.concat_str([cells[cell] for cell in CELLS], separator=" ")
    return members.with_columns(text.alias("profile"))


def org_as_sent(org: OrgContext) -> dict[str, str | None]:
    """What a model is told of an organisation: its `name` and `description`.

    Both are one line of visible text: an organisation writes them itself, and what nobody sees
    on a screen, or what looks like the end of a line, has no business in a prompt.

    Returns:
        `name`, at most `NAME_MAX_CHARACTERS` long, `(unnamed)` where nothing is left of it; and
        `description`, at most `DESCRIPTION_MAX_CHARACTERS`, None where nothing is left of it.
    """
    return {
        "name": _one_line(org.name, NAME_MAX_CHARACTERS) or _UNNAMED,
        "description": _one_line(org.description or "", DESCRIPTION_MAX_CHARACTERS) or None,
    }


def corrections_as_sent(corrections: Sequence[Correction]) -> str | None:
    """What a model is told of profiles that admins corrected: one line; None where there are none.

    Only cells and the admins' levels: no member, note or date. The line says itself that it asks
    for nothing, since the system text, which all organisations share, does not speak of it.

    Raises:
        MalformedProfileError: a correction is of no profile.
    """
    if not corrections:
        return None
    told = (f"{Profile(one.profile).text} => {one.admin_level}" for one in corrections)
    return f"admins corrected (guidance, not rows): {'; '.join(told)}"


def profile_fingerprint(
    org: OrgContext,
    profile: Profile,
    *,
    prompt_version: str,
    tool_schema: Mapping[str, object],
    model: str,
    output_mode: str,
    validator_version: str,
) -> str:
    """Sha256, in hex, of all that could change what a model answers for a profile.

    Of the organisation counts what is sent, and whose it is: what is cut off a description
    cannot change an answer, and an answer is never shared between organisations. Corrections count
    where there are any, so that answers from before the first one stay known.

    Args:
        org: the organisation that the profile belongs to.
        profile: what is asked.
        prompt_version: the prompt's version.
        tool_schema: the answer's shape, as values that JSON can hold; the order of keys does
            not count.
        model: the model's id.
        output_mode: how the model is made to keep to the schema.
        validator_version: the version of the checks that an answer passed.

    Raises:
        MalformedProfileError: a correction is of no profile.
    """
    identity: dict[str, object] = {
        "org_id": org.org_id,
        "org": org_as_sent(org),
        "thresholds": asdict(org.thresholds),
        "profile": profile.text,
        "profiles_version": PROFILES_VERSION,
        "prompt_version": prompt_version,
        "tool_schema": dict(tool_schema),
        "model": model,
        "output_mode": output_mode,
        "validator_version": validator_version,
    }
    if (guidance := corrections_as_sent(org.corrections)) is not None:
        identity["guidance"] = guidance
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _lower_bound(value: pl.Expr, edges: Sequence[int], *more_edges: int) -> pl.Expr:
    """The lower bound of the value's bucket, written out; null where the value is."""
    lowest, *higher = sorted({*edges, *more_edges})
    # A clock that runs behind makes days negative; they count as none.
    bound: pl.Expr = pl.lit(str(lowest))
    for edge in higher:
        bound = pl.when(value >= edge).then(pl.lit(str(edge))).otherwise(bound)
    return pl.when(value.is_not_null()).then(bound)


def _whole_days_since(column: str) -> pl.Expr:
    return (pl.col("as_of") - pl.col(column)).dt.total_days()


def _read_share() -> pl.Expr:
    """Notifications read, of those sent; more may be read than were sent in the same window."""
    read, sent = pl.col("notifications_read_90d"), pl.col("notifications_sent_90d")
    none, some, quarter, three_quarters = (pl.lit(share) for share in _READS)
    # In whole numbers: a share that is a fraction may come to lie beside its edge.
    return (
        pl.when(read.is_null() | sent.is_null() | (sent == 0))
        .then(pl.lit(UNKNOWN))
        .when(read == 0)
        .then(none)
        .when(read * 4 < sent)
        .then(some)
        .when(read * 4 < sent * 3)
        .then(quarter)
        .otherwise(three_quarters)
    )


def _trend() -> pl.Expr:
    attended, previous = pl.col("events_attended_90d"), pl.col("events_attended_prev_90d")
    up, flat, down = (pl.lit(trend) for trend in _TRENDS)
    return (
        pl.when(attended > previous).then(up).when(attended == previous).then(flat).otherwise(down)
    )


def _one_line(text: str, max_characters: int) -> str:
    visible = "".join(map(_visible, text))
    return " ".join(visible.split())[:max_characters].rstrip()


def _visible(character: str) -> str:
    """The character; a blank in place of a control or a separator, nothing for a hidden one."""
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    return "" if category in ("Cf", "Cs") else character
