"""The written rules: which level a member's signals give, and why somebody is at risk.

Thresholds and the baseline belong here, and what is known of the organisation that sets them: its
texts, and how its admins corrected levels.
How a level is explained belongs to `situations` and `templates`, and what a model may answer
in the baseline's place to the classifiers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import polars as pl

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.vocabulary import (
    ORG_SETTINGS,
    THRESHOLD_BOUNDS,
    THRESHOLDS,
)

MOST_CORRECTIONS = 3
"""How many corrections by its admins a classifier may know of an organisation."""

_WHOLE_NUMBER = re.compile(r"[0-9]+")


class InvalidThresholdsError(ValueError):
    """A threshold has a value it may not have.

    Attributes:
        setting: the threshold's name.
        expected: what it may be, in words.
        found: the value that it has.
    """

    def __init__(self, setting: str, expected: str, found: object) -> None:
        super().__init__(f"{setting}: expected {expected}, found {found!r}")
        self.setting = setting
        self.expected = expected
        self.found = found


_OTHER_SETTINGS = frozenset(ORG_SETTINGS) - frozenset(THRESHOLDS)


@dataclass(frozen=True)
class Thresholds:
    """Where one level ends and the next begins, for one organisation.

    Attributes:
        highly_engaged_min: events attended in 90 days from which a member is highly engaged.
        moderate_min: events attended in 90 days from which a member is moderately engaged.
        new_member_days: whole days since joining during which a member is new; 0: nobody is.
        inactive_days: whole days without activity from which a member is inactive.

    Raises:
        InvalidThresholdsError: a value is no whole number or out of bounds, or `moderate_min`
            is above `highly_engaged_min`, so that nobody could ever be moderately engaged.
    """

    highly_engaged_min: int = 3
    moderate_min: int = 1
    new_member_days: int = 60
    inactive_days: int = 180

    def __post_init__(self) -> None:
        for field in fields(self):
            lowest, highest = THRESHOLD_BOUNDS[field.name]
            value: Any = getattr(self, field.name)
            # A bool is an int to Python, and `True` would pass as 1.
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            if not is_whole or not lowest <= value <= highest:
                expected = f"a whole number from {lowest} to {highest}"
                raise InvalidThresholdsError(field.name, expected, value)
        if self.moderate_min > self.highly_engaged_min:
            expected = f"at most highly_engaged_min ({self.highly_engaged_min})"
            raise InvalidThresholdsError("moderate_min", expected, self.moderate_min)

    def with_org_settings(self, settings: Mapping[str, str]) -> "Thresholds":
        """These thresholds with an organisation's own values in their place.

        Args:
            settings: setting name -> value as text, as `raw.org_settings` holds them. Those that
                are no thresholds are passed over.

        Raises:
            InvalidThresholdsError: a name is no setting, a value is no whole number, or the
                thresholds that result contradict each other or their bounds.
        """
        values: dict[str, int] = {}
        for setting, text in settings.items():
            if setting in _OTHER_SETTINGS:
                continue
            if setting not in THRESHOLD_BOUNDS:
                raise InvalidThresholdsError(setting, f"one of {', '.join(THRESHOLDS)}", text)
            if not _WHOLE_NUMBER.fullmatch(text.strip()):
                lowest, highest = THRESHOLD_BOUNDS[setting]
                expected = f"a whole number from {lowest} to {highest}"
                raise InvalidThresholdsError(setting, expected, text)
            values[setting] = int(text)
        return replace(self, **values)

    def with_tuned(self, values: Mapping[str, float]) -> "Thresholds":
        """These thresholds with tuned ones in their place.

        Args:
            values: threshold name -> whole number, as a float, as calibrations hold them.

        Raises:
            InvalidThresholdsError: a name is no threshold, a value is no whole number, or the
                thresholds that result contradict each other or their bounds.
        """
        tuned: dict[str, int] = {}
        for name, value in values.items():
            if name not in THRESHOLD_BOUNDS:
                raise InvalidThresholdsError(name, f"one of {', '.join(THRESHOLDS)}", value)
            if not float(value).is_integer():
                lowest, highest = THRESHOLD_BOUNDS[name]
                expected = f"a whole number from {lowest} to {highest}"
                raise InvalidThresholdsError(name, expected, value)
            tuned[name] = int(value)
        return replace(self, **tuned)


@dataclass(frozen=True)
class Correction:
    """A level that admins of an organisation corrected, as guidance for the next one.

    Attributes:
        profile: the profile of the members concerned, as a model reads it.
        computed_level: the level that was suggested.
        admin_level: the level that the admins set.

    Raises:
        ValueError: a level is none of `vocabulary.LEVELS`.
    """

    profile: str
    computed_level: str
    admin_level: str

    def __post_init__(self) -> None:
        for name in ("computed_level", "admin_level"):
            if (level := getattr(self, name)) not in vocabulary.LEVELS:
                expected = ", ".join(vocabulary.LEVELS)
                raise ValueError(f"{name}: expected one of {expected}, found {level!r}")


@dataclass(frozen=True)
class OrgContext:
    """What a classifier may know of an organisation, besides its members.

    Attributes:
        org_id: the organisation.
        name: what it calls itself.
        description: what it is about, in its own words; None where it says nothing.
        thresholds: its own thresholds, its settings applied.
        corrections: what its admins corrected, the most telling first; at most three.

    Raises:
        ValueError: there are more corrections.
    """

    org_id: str
    name: str
    description: str | None
    thresholds: Thresholds
    corrections: tuple[Correction, ...] = ()

    def __post_init__(self) -> None:
        if len(self.corrections) > MOST_CORRECTIONS:
            raise ValueError(
                f"corrections: expected at most {MOST_CORRECTIONS} of the org {self.org_id!r}, "
                f"found {len(self.corrections)}"
            )


def with_baseline(signals: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    """The signals with the level that the written rules give; the first rule that fits wins.

    Args:
        signals: one row per member with the columns of `signals.member_90d`.
        thresholds: the thresholds of the members' organisation.

    Returns:
        The same rows in the same order, with `baseline_level` (one of `vocabulary.LEVELS`) and
        `reason` (`lapsed` or `never_activated` where the level is `at_risk`, else null).
    """
    attended = pl.col("events_attended_90d")
    level = (
        pl.when(attended >= thresholds.highly_engaged_min)
        .then(pl.lit("highly_engaged"))
        .when(pl.col("days_since_joined") < thresholds.new_member_days)
        .then(pl.lit("new"))
        .when(attended >= thresholds.moderate_min)
        .then(pl.lit("moderate"))
        .when(pl.col("days_since_active") >= thresholds.inactive_days)
        .then(pl.lit("inactive"))
        .otherwise(pl.lit("at_risk"))
    )
    lapsed, never_activated = vocabulary.AT_RISK_REASONS
    reason = (
        pl.when(pl.col("baseline_level") != "at_risk")
        .then(pl.lit(None, dtype=pl.String))
        .when(pl.col("events_attended_total") > 0)
        .then(pl.lit(lapsed))
        .otherwise(pl.lit(never_activated))
    )
    return signals.with_columns(level.alias("baseline_level")).with_columns(reason.alias("reason"))
