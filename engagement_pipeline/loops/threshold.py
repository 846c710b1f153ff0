"""Tuned thresholds: where an organisation's levels should begin, judged by its admins' overrides.

The search for the thresholds that admins would have agreed with most belongs here, and the pace at
which thresholds move there. What thresholds mean belongs to `scoring.levels`; whether tuned ones
are applied or only shown belongs to the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from datetime import datetime, timedelta
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.contracts.vocabulary import THRESHOLD_BOUNDS, THRESHOLDS
from engagement_pipeline.loops.calibration import LEARNED_SCHEMA, THRESHOLD, WINDOW
from engagement_pipeline.scoring.levels import Thresholds

FEWEST_OVERRIDES = 20
"""With fewer overrides in the window an organisation's thresholds are not tuned."""

STEPS: Mapping[str, int] = MappingProxyType(
    {"highly_engaged_min": 1, "moderate_min": 1, "new_member_days": 7, "inactive_days": 14}
)
"""The furthest that each threshold moves at once."""

MOVES_EVERY = timedelta(days=6, hours=12)
"""Thresholds that moved rest so long: less than a week, so that a late run delays none after it."""

SIGNALS = ("events_attended_90d", "days_since_joined", "days_since_active")
"""The signals that the written rules look at."""

_Counts = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class Overridden:
    """The members whom admins of one organisation gave a level, as they were at that time.

    Args:
        overridden: one row per override: `admin_level`, and the columns `SIGNALS` as
            `signals.member_90d` has them.

    Raises:
        ValueError: a column is missing, or has nulls, or a level is none of `vocabulary.LEVELS`.
    """

    def __init__(self, overridden: pl.DataFrame) -> None:
        _check_overridden(overridden, ("admin_level", *SIGNALS))
        self._attended, self._joined, self._active = (
            overridden[name].to_numpy().astype(np.int64) for name in SIGNALS
        )
        self._admin = _places(overridden["admin_level"])

    def agreed(self, thresholds: Thresholds) -> int:
        """How many of the members the written rules would have given the admins' level."""
        return int((self._levels(thresholds) == self._admin).sum())

    def best_near(self, current: Thresholds) -> Thresholds:
        """The thresholds that agree best with the admins, found from `current` on.

        Coordinate descent: each threshold in turn takes its best value while the others stay,
        until none moves. A threshold's values are all tried, so far as they differ: agreement only
        changes where a member passes over it. Of values that agree alike, the one nearest to
        `current` is taken, then the lower, so that nothing moves without evidence.
        """
        found = current
        while True:
            before = found
            for name in THRESHOLDS:
                found = self._best_along(name, found, current)
            # Agreement only grows, or stays as thresholds come back to where they were: it ends.
            if found == before:
                return found

    def _best_along(self, name: str, found: Thresholds, current: Thresholds) -> Thresholds:
        """`found` with the best value of one threshold, exactly.

        Members below the threshold have one level, those from it on another. Sorted by the signal
        concerned, prefix sums count both kinds of agreement for every value of the threshold.
        """
        lowest, highest = THRESHOLD_BOUNDS[name]
        if name == "highly_engaged_min":
            lowest = max(lowest, found.moderate_min)
        if name == "moderate_min":
            highest = min(highest, found.highly_engaged_min)
        signal = self._signal(name)
        below, from_it_on = (
            (self._levels(found, {name: np.full(signal.shape, is_below)}) == self._admin)
            for is_below in (True, False)
        )
        home = getattr(current, name)
        others = [home, getattr(found, name), lowest, highest]
        values = np.unique(np.concatenate([signal, signal + 1, others]))
        values = values[(values >= lowest) & (values <= highest)]
        order = np.argsort(signal, kind="stable")
        passed = np.searchsorted(signal[order], values, side="left")
        agreed = _sums(below[order])[passed] + from_it_on.sum() - _sums(from_it_on[order])[passed]
        best = values[agreed == agreed.max()]
        return replace(found, **{name: int(best[np.argmin(np.abs(best - home))])})

    def _signal(self, name: str) -> _Counts:
        if name == "new_member_days":
            return self._joined
        return self._active if name == "inactive_days" else self._attended

    def _levels(
        self, thresholds: Thresholds, is_below: Mapping[str, _Flags] = MappingProxyType({})
    ) -> _Counts:
        """Each member's level by the rules of `levels.with_baseline`, as its place in `LEVELS`.

        Args:
            thresholds: the thresholds.
            is_below: threshold -> who is to pass for being below it, whatever it is.
        """
        below = {
            name: is_below.get(name, self._signal(name) < getattr(thresholds, name))
            for name in THRESHOLDS
        }
        rules = (
            ("highly_engaged", ~below["highly_engaged_min"]),
            ("new", below["new_member_days"]),
            ("moderate", ~below["moderate_min"]),
            ("inactive", ~below["inactive_days"]),
        )
        place = vocabulary.LEVELS.index
        return np.select(
            [holds for _, holds in rules],
            [np.int64(place(level)) for level, _ in rules],
            default=np.int64(place("at_risk")),
        )


def tune(overridden: pl.DataFrame, current: Thresholds) -> Thresholds:
    """Thresholds a step nearer to those that agree best with an organisation's overrides.

    They never agree less with the overrides than `current` does. Where all steps together would,
    the best choice among them is taken, which may be none.

    Args:
        overridden: one row per override, as `Overridden` takes them; however few.
        current: the thresholds that are in use.

    Raises:
        ValueError: the overrides are not as `Overridden` takes them.
    """
    members = Overridden(overridden)
    return _step(members, current, members.best_near(current))


def step_towards(current: Thresholds, best: Thresholds) -> Thresholds:
    """`current`, with each threshold at most one of its `STEPS` nearer to `best`.

    The last step is as short as it has to be. The result is always valid: both thresholds of
    attendance move by the same step, so that none overtakes the other.
    """
    return replace(
        current,
        **{
            name: _clamp(getattr(best, name), getattr(current, name), step)
            for name, step in STEPS.items()
        },
    )


def learn_thresholds(
    overridden: pl.DataFrame,
    current: Mapping[str, Thresholds],
    versions: pl.DataFrame,
    *,
    as_of: datetime,
) -> pl.DataFrame:
    """The thresholds that each organisation's overrides speak for, a step from those in use.

    Args:
        overridden: one row per override (`override`, not `clear`) of any organisation: `org_id`,
            `performed_at`, `admin_level` and the columns `SIGNALS`, as they were then. Only those
            performed in `(as_of - WINDOW, as_of]` count.
        current: organisation -> the thresholds in use: with tuned ones applied, where they are.
        versions: rows of `loops.calibrations`, of any key; those after `as_of` are invisible.
            Thresholds that moved lately are learned again as they are, also where they moved at
            `as_of` itself: the same moment again is no other week.
        as_of: the moment, with a time zone.

    Returns:
        Rows of `calibration.LEARNED_SCHEMA`, sorted: `threshold:<name>` for each of the four, `n`
        being the number of overrides and the interval null. Organisations with fewer than
        `FEWEST_OVERRIDES` have none.

    Raises:
        ValueError: `as_of` has no time zone, an organisation is not in `current`, or the overrides
            are not as above.
    """
    if as_of.utcoffset() is None:
        raise ValueError(f"as_of: expected a time zone, found none in {as_of.isoformat()}")
    _check_overridden(overridden, ("org_id", "performed_at", "admin_level", *SIGNALS))
    performed_at = pl.col("performed_at")
    in_window = overridden.filter((performed_at > as_of - WINDOW) & (performed_at <= as_of))
    resting = _resting(versions, as_of)
    rows: list[tuple[Any, ...]] = []
    for (org_id,), own in in_window.partition_by("org_id", as_dict=True).items():
        if own.height < FEWEST_OVERRIDES:
            continue
        if org_id not in current:
            raise ValueError(f"current: expected the thresholds of the org {org_id!r}, found none")
        learned = resting.get(org_id) or _values(tune(own, current[org_id]))
        rows += [
            (org_id, THRESHOLD + name, float(value), None, None, own.height)
            for name, value in learned.items()
        ]
    return pl.DataFrame(rows, schema=LEARNED_SCHEMA, orient="row").sort("org_id", "key")


def tuned_thresholds(calibrations_in_force: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Organisation -> threshold -> its tuned value, as `Thresholds.with_tuned` takes them.

    Args:
        calibrations_in_force: rows of `loops.calibrations` in force, of any key.
    """
    found: dict[str, dict[str, float]] = {}
    tuned = calibrations_in_force.filter(pl.col("key").str.starts_with(THRESHOLD))
    for org_id, key, value in tuned.select("org_id", "key", "value").iter_rows():
        found.setdefault(org_id, {})[key.removeprefix(THRESHOLD)] = value
    return found


def is_too_soon(moved_at: datetime | None, as_of: datetime) -> bool:
    """Whether thresholds that last moved at `moved_at` (None: never yet) still rest."""
    return moved_at is not None and as_of - moved_at < MOVES_EVERY


def _step(members: Overridden, current: Thresholds, best: Thresholds) -> Thresholds:
    least = members.agreed(current)
    stepped = step_towards(current, best)
    if members.agreed(stepped) >= least:
        return stepped
    # Steps of several thresholds can undo each other halfway to where they agree.
    chosen = (least, 0, current)
    for moves in product((True, False), repeat=len(THRESHOLDS)):
        some = {
            name: getattr(stepped if moves_it else current, name)
            for name, moves_it in zip(THRESHOLDS, moves, strict=True)
        }
        if some["moderate_min"] <= some["highly_engaged_min"]:
            thresholds = Thresholds(**some)
            moved = sum(a != b for a, b in zip(astuple(thresholds), astuple(current), strict=True))
            chosen = max(chosen, (members.agreed(thresholds), moved, thresholds), key=_preference)
    return chosen[2]


def _preference(choice: tuple[int, int, Thresholds]) -> tuple[int, int]:
    """More agreement first, then more movement; of like choices `max` keeps the earlier."""
    return choice[:2]


def _resting(versions: pl.DataFrame, as_of: datetime) -> dict[str, dict[str, float]]:
    """Organisation -> the thresholds learned last, of those that moved too lately to move again.

    A version that repeats the one before has not moved: a run every day must not hold back the
    step of the week for ever.
    """
    known = versions.filter(
        pl.col("key").str.starts_with(THRESHOLD) & (pl.col("computed_at") <= as_of)
    )
    has_moved = pl.col("value").ne_missing(pl.col("previous_value"))
    moved = known.filter(has_moved).group_by("org_id").agg(moved_at=pl.col("computed_at").max())
    resting = [org for org, at in moved.iter_rows() if is_too_soon(at, as_of)]
    newest = known.sort("computed_at").unique(["org_id", "key"], keep="last")
    found = tuned_thresholds(newest.filter(pl.col("org_id").is_in(resting)))
    return {
        org_id: {name: values[name] for name in THRESHOLDS}
        for org_id, values in found.items()
        if values.keys() == set(THRESHOLDS)
    }


def _values(thresholds: Thresholds) -> dict[str, float]:
    return {name: float(getattr(thresholds, name)) for name in THRESHOLDS}


def _clamp(wanted: int, around: int, step: int) -> int:
    return min(max(wanted, around - step), around + step)


def _sums(flags: _Flags) -> _Counts:
    """How many of the first 0, 1, 2 and so on hold."""
    return np.concatenate([[0], np.cumsum(flags, dtype=np.int64)])


def _places(levels: pl.Series) -> _Counts:
    """Each level's place in `vocabulary.LEVELS`."""
    places = {level: place for place, level in enumerate(vocabulary.LEVELS)}
    return levels.replace_strict(places, return_dtype=pl.Int64).to_numpy()


def _check_overridden(overridden: pl.DataFrame, columns: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in overridden.columns]:
        raise ValueError(
            f"overrides: expected the columns {', '.join(columns)}, found none of "
            f"{', '.join(missing)}"
        )
    if with_nulls := [name for name in columns if overridden[name].null_count()]:
        raise ValueError(f"overrides: expected no nulls, found some in {', '.join(with_nulls)}")
    unknown = overridden["admin_level"].filter(~overridden["admin_level"].is_in(vocabulary.LEVELS))
    if len(unknown):
        raise ValueError(
            f"admin_level: expected one of {', '.join(vocabulary.LEVELS)}, found {unknown[0]!r}"
        )
