"""How much of a metric each member has, at the end of today and of each day before.

Here belongs what every metric of `vocabulary.MILESTONE_METRICS` means. When a milestone counts as
reached, and when it will be, belongs to `progress`; what a day has, to `days`.

Rows are sorted by person and day once, and all that follows is sums from the first row on, looked
up by position: a group for each of a million people and for each metric would take minutes.
"""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from engagement_pipeline.behavior.patterns import HIGH_QUALITY
from engagement_pipeline.behavior.sentiment import POSITIVE_FROM
from engagement_pipeline.milestones.days import TYPE_COUNTS

VELOCITY_DAYS = 14
"""The days by which a pace is told."""

_PERSON = ("org_id", "user_id")
# A key is the person's number times this, and the day, which may lie before 1970.
_KEYS_A_PERSON = 2**32
_FIRST_DAY = -(2**31)
_LONGEST_WINDOW_DAYS = 4_000_000
_WEEKDAYS = 5

_SUMS = {
    "messages": pl.col("messages"),
    "interactions": pl.col("interactions"),
    "active_days": pl.lit(1),
    "meaningful_interactions": pl.col("meaningful"),
    "voice_messages": pl.col("voices"),
    "quality_days": pl.col("mean_quality") >= HIGH_QUALITY,
    "events_attended": pl.col("events_attended"),
    "notifications_read": pl.col("notifications_read"),
    "positive_days": pl.col("mean_sentiment") >= POSITIVE_FROM,
    "gratitude_interactions": pl.col("gratitude"),
    "night_days": pl.col("night") > 0,
    "early_days": pl.col("early") > 0,
    "weekend_days": pl.col("weekday") >= _WEEKDAYS,
}
"""Metric -> what a day adds to it, for those that are sums over days.

Any day with a row is an active one: something was said or done, an event attended, or a
notification read. A day of good conversation, and a cheerful one, are so by the mean of the day.
"""


@dataclass(frozen=True)
class Tally:
    """How much of one metric, in one window, each person has.

    Attributes:
        now: by person, as of the person's today.
        before: by person, as of 14 days earlier.
        running: `person`, `day`, `value` (on that day), `gained` (by that day alone).
    """

    now: pl.Series
    before: pl.Series
    running: pl.DataFrame

    def reached(self, target: int) -> pl.DataFrame:
        """The first day on which each person had `target`: `person`, `day`."""
        value, gained = pl.col("value"), pl.col("gained")
        return (
            # On the day that it is first met, it would not have been without that day.
            self.running.lazy()
            .filter(value >= target, value - gained < target)
            .group_by("person")
            .agg(pl.col("day").min())
            .collect()
        )


@dataclass(frozen=True)
class _Bounds:
    """Between how many rows a window lies, as positions in the sums.

    Attributes:
        now: by person, the window that ends today: the rows before it, and those up to its end.
        before: the same for the one that ended 14 days earlier.
        of_rows: by row, the rows before the window that ends on its day.
    """

    now: tuple[pl.Series, pl.Series]
    before: tuple[pl.Series, pl.Series]
    of_rows: pl.Series


class Timeline:
    """The days of some people, in order, ready to be counted.

    Args:
        days: rows of `milestones.daily`; those of others, and after a person's today, are not seen.
        people: `org_id`, `user_id`, `today` (Date), once each; a person's number is the row's.
    """

    def __init__(self, days: pl.DataFrame, people: pl.DataFrame) -> None:
        numbered = people.select(
            pl.int_range(pl.len(), dtype=pl.Int64).alias("person"),
            *_PERSON,
            pl.col("today").cast(pl.Int64),
        )
        self._person, self._today = numbered["person"], numbered["today"]
        self._rows = (
            days.lazy()
            .join(numbered.lazy(), on=_PERSON)
            .drop(_PERSON)
            .with_columns(pl.col("day").cast(pl.Int64))
            .filter(pl.col("day") <= pl.col("today"))
            .drop("today")
            .sort("person", "day")
            # The first day of 1970 was a Thursday, the fourth day of its week.
            .with_columns(((pl.col("day") + 3) % 7).alias("weekday"))
            .collect()
        )
        self._keys = _keys(self._rows["person"], self._rows["day"])
        self._starts = self._keys.search_sorted(self._person * _KEYS_A_PERSON + _FIRST_DAY)
        self._known_bounds: dict[int | None, _Bounds] = {}

    def tally(self, metric: str, window_days: int | None) -> Tally:
        """Count a metric of all people, over all days or those of a window.

        Raises:
            KeyError: the metric is none that days are counted by.
        """
        window = None if window_days is None else min(window_days, _LONGEST_WINDOW_DAYS)
        match metric:
            case "longest_streak_days":
                return self._longest_streak(window)
            case "weekly_streak_weeks":
                return self._weekly_streak()
            case "interaction_types":
                return self._sum(self._new_types, window)
        return self._sum(self._rows.select(_SUMS[metric].alias("gained"))["gained"], window)

    def _sum(self, gained: pl.Series, window: int | None) -> Tally:
        if gained.len() != self._rows.height:
            gained = pl.repeat(gained.item(), self._rows.height, eager=True)
        # Unknown quality and mood make no day good or cheerful.
        gained = gained.fill_null(0).cast(pl.Int64).rename("gained")
        sums = _sums(gained)
        bounds = self._bounds(window)
        running = self._rows.select(
            "person",
            "day",
            (sums[1:] - sums.gather(bounds.of_rows)).alias("value"),
            gained,
        )
        now, before = (
            sums.gather(until) - sums.gather(since) for since, until in (bounds.now, bounds.before)
        )
        return Tally(now, before, running)

    def _bounds(self, window: int | None) -> "_Bounds":
        if window not in self._known_bounds:
            ends = self._today, self._today - VELOCITY_DAYS
            if window is None:
                of_rows = self._starts.gather(self._rows["person"])
                since = [self._starts, self._starts]
            else:
                of_rows = self._position(self._rows["person"], self._rows["day"] - window)
                since = [self._position(self._person, end - window) for end in ends]
            until = [self._position(self._person, end) for end in ends]
            now, before = zip(since, until, strict=True)
            self._known_bounds[window] = _Bounds(now, before, of_rows)
        return self._known_bounds[window]

    @cached_property
    def _new_types(self) -> pl.Series:
        """How many kinds of interaction each day is the person's first one of."""
        found = pl.repeat(0, self._rows.height, dtype=pl.Int64, eager=True)
        starts = self._bounds(None).of_rows
        for name in TYPE_COUNTS:
            has_it = (self._rows[name] > 0).cast(pl.Int64)
            sums = _sums(has_it)
            days_with_it = sums[1:] - sums.gather(starts)
            found += has_it * (days_with_it == 1).cast(pl.Int64)
        return found

    def _longest_streak(self, window: int | None) -> Tally:
        """Days in a row, by the local calendar; the longest such row within the window."""
        runs = self._rows.select("person", "day").with_columns(_run("day").alias("value"))

        def as_of(ends: pl.Series) -> pl.Series:
            within = runs.lazy().with_columns(ends.gather(runs["person"]).alias("end"))
            day, value = pl.col("day"), pl.col("value")
            within = within.filter(day <= pl.col("end"))
            if window is not None:
                inside = day - (pl.col("end") - window)
                value = pl.min_horizontal(value, inside)
                within = within.filter(inside > 0)
            return self._by_person(within.group_by("person").agg(value.max()))

        running = runs.with_columns(pl.lit(1, dtype=pl.Int64).alias("gained"))
        return Tally(as_of(self._today), as_of(self._today - VELOCITY_DAYS), running)

    def _weekly_streak(self) -> Tally:
        """ISO weeks in a row with an active day, up to this week, or the last while this is young.

        A week that was left out ends it: the next one begins at 1.
        """
        week = _week(pl.col("day"))
        is_first = (week != week.shift()) | (pl.col("person") != pl.col("person").shift())
        weeks = (
            self._rows.lazy()
            .select("person", "day", week.alias("week"))
            .filter(is_first.fill_null(True))
            .with_columns(_run("week").alias("value"))
            .collect()
        )
        keys = _keys(weeks["person"], weeks["day"])

        def as_of(ends: pl.Series) -> pl.Series:
            asked = pl.DataFrame({"key": _keys(self._person, ends), "end": ends})
            places = keys.search_sorted(asked["key"], side="right").cast(pl.Int64) - 1
            last = weeks.select("person", "week", "value").with_row_index("place")
            found = asked.select(self._person, "end", places.alias("place")).join(
                last.with_columns(pl.col("place").cast(pl.Int64)),
                on=["place", "person"],
                how="left",
            )
            holds = pl.col("week") >= _week(pl.col("end")) - 1
            value = pl.when(holds).then("value").otherwise(0)
            return found.sort("person").select(value.alias("value"))["value"]

        running = weeks.select("person", "day", "value", pl.lit(1, dtype=pl.Int64).alias("gained"))
        return Tally(as_of(self._today), as_of(self._today - VELOCITY_DAYS), running)

    def _position(self, person: pl.Series, day: pl.Series) -> pl.Series:
        """How many rows there are up to the end of a day of a person."""
        return self._keys.search_sorted(_keys(person, day), side="right")

    def _by_person(self, found: pl.LazyFrame) -> pl.Series:
        people = pl.LazyFrame([self._person])
        values = people.join(found, on="person", how="left").sort("person").collect()["value"]
        return values.fill_null(0)


def _keys(person: pl.Series, day: pl.Series) -> pl.Series:
    return person * _KEYS_A_PERSON + day


def _sums(gained: pl.Series) -> pl.Series:
    """The sum of all rows before each row, and after the last one that of all."""
    return pl.concat([pl.Series([0], dtype=pl.Int64), gained.cum_sum()])


def _week(day: pl.Expr) -> pl.Expr:
    """The number of a day's ISO week, which begins on Monday."""
    return (day + 3) // 7


def _run(step: str) -> pl.Expr:
    """The how-manieth a row is of those whose `step` goes up one by one, of one person."""
    place = pl.int_range(pl.len(), dtype=pl.Int64)
    goes_on = (pl.col("person").diff() == 0) & (pl.col(step).diff() == 1)
    start = pl.when(goes_on.fill_null(False)).then(None).otherwise(place).forward_fill()
    return place - start + 1
