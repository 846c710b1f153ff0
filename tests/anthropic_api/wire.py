"""What a user message says: the organisation, its thresholds and the profiles asked about.

Only reading belongs here; what the model makes of a profile belongs to `policy`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

CELLS = (
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
NEVER, UNKNOWN, NOT_TOLD = "x", "?", "*"

_CELL_FORMS = {
    "previous": r"\*|\d+",
    "rsvps": r"\*|\d+",
    "no_shows": r"\*|\d+",
    "last_attended": r"x|\*|\d+",
    "reads": r"\?|\*|\d+",
    "interactions": r"\?|\*|\d+",
    "profile_update": r"x|\*|\d+",
    "trend": r"[-+=*]",
}
_PROFILE = re.compile(" ".join(f"(?:{_CELL_FORMS.get(name, r'[0-9]+')})" for name in CELLS))
_THRESHOLDS = re.compile(
    r"highly_engaged_min=(\d+) moderate_min=(\d+) new_member_days=(\d+) inactive_days=(\d+)"
)

_ALWAYS_CITABLE = frozenset(
    {
        "events_attended_90d",
        "events_attended_prev_90d",
        "events_attended_total",
        "rsvp_count_90d",
        "no_show_count_90d",
        "days_since_active",
        "days_since_joined",
        "joined_at",
        "window_days",
    }
)
_CITABLE_UNLESS = {
    ("last_attended", NEVER): {"last_attended_at", "days_since_attended"},
    ("reads", UNKNOWN): {"notifications_sent_90d", "notifications_read_90d"},
    ("interactions", UNKNOWN): {"interaction_count_90d"},
    ("profile_update", NEVER): {"profile_updated_at"},
    ("last_attended", NOT_TOLD): {"last_attended_at", "days_since_attended"},
    ("reads", NOT_TOLD): {"notifications_sent_90d", "notifications_read_90d"},
    ("interactions", NOT_TOLD): {"interaction_count_90d"},
    ("profile_update", NOT_TOLD): {"profile_updated_at"},
}
CITABLE = _ALWAYS_CITABLE.union(*_CITABLE_UNLESS.values())


class UnreadableMessageError(ValueError):
    """A user message is not what the client promised to send; the text says where."""


class ThresholdsLike(Protocol):
    """An organisation's thresholds, whoever holds them."""

    @property
    def highly_engaged_min(self) -> int: ...
    @property
    def moderate_min(self) -> int: ...
    @property
    def new_member_days(self) -> int: ...
    @property
    def inactive_days(self) -> int: ...


@dataclass(frozen=True)
class WireThresholds:
    """The thresholds that a message names."""

    highly_engaged_min: int = 3
    moderate_min: int = 1
    new_member_days: int = 60
    inactive_days: int = 180


@dataclass(frozen=True)
class Question:
    """What one message asks.

    Attributes:
        name, description: of the organisation.
        thresholds: the organisation's.
        profiles: the 11 cells of each, joined by blanks; the first has row number 1.
    """

    name: str
    description: str | None
    thresholds: WireThresholds
    profiles: tuple[str, ...]


def cells_of(profile: str) -> dict[str, str]:
    """The cells of a profile by name.

    Raises:
        UnreadableMessageError: it is no profile.
    """
    if _PROFILE.fullmatch(profile) is None:
        raise UnreadableMessageError(f"{profile!r} is not a profile of {len(CELLS)} cells")
    return dict(zip(CELLS, profile.split(" "), strict=True))


def citable(profile: str) -> frozenset[str]:
    """The placeholders that a text about this profile may cite."""
    cells = cells_of(profile)
    absent = (names for (cell, value), names in _CITABLE_UNLESS.items() if cells[cell] == value)
    return CITABLE.difference(*absent)


def read_question(text: str) -> Question:
    """Read a user message.

    Raises:
        UnreadableMessageError: a line is not as agreed, or the rows are not numbered 1 to n.
    """
    org_line, _, rest = text.partition("\n")
    threshold_line, _, profile_lines = rest.partition("\n")
    if profile_lines.startswith(_GUIDANCE):
        _, _, profile_lines = profile_lines.partition("\n")
    try:
        org = json.loads(org_line)
    except ValueError as error:
        raise UnreadableMessageError(f"the first line is not JSON: {error}") from None
    if not isinstance(org, dict) or set(org) != {"name", "description"}:
        raise UnreadableMessageError("the first line does not give a name and a description")
    thresholds = _THRESHOLDS.fullmatch(threshold_line)
    if thresholds is None:
        raise UnreadableMessageError(f"no thresholds in the second line {threshold_line!r}")
    return Question(
        name=org["name"],
        description=org["description"],
        thresholds=WireThresholds(*map(int, thresholds.groups())),
        profiles=_read_profiles(profile_lines.split("\n")),
    )


_GUIDANCE = "admins corrected (guidance, not rows): "


def _read_profiles(lines: Sequence[str]) -> tuple[str, ...]:
    profiles = []
    for expected, line in enumerate(lines, start=1):
        number, _, profile = line.partition(" ")
        if number != str(expected):
            raise UnreadableMessageError(f"expected row {expected}, found the line {line!r}")
        cells_of(profile)
        profiles.append(profile)
    return tuple(profiles)
