"""What a clock and a calendar on the wall show: instants in each member's own time zone.

Only the conversion belongs here. Which zone a member has is the tables' affair, and what is
counted by hour or by day belongs to `patterns` and `timing`.
"""

from functools import cache

import polars as pl

INSTANT = pl.Datetime("us", "UTC")
FALLBACK_ZONE = "UTC"


def known_zones(zone: pl.Series) -> pl.Series:
    """The zones by their names, and UTC for a name that is missing or that tells of no place.

    `Factory` and `localtime` are such names: the time zone database has them, for a machine that
    has no zone, or for whichever it has.
    """
    names = zone.unique().to_list()
    unknown = [name for name in names if name is None or not _is_known(name)]
    return zone.replace(unknown, [FALLBACK_ZONE] * len(unknown))


def with_local_time(frame: pl.DataFrame, at: str, *, zone: str = "timezone") -> pl.DataFrame:
    """The rows of `frame` with what a clock on the wall showed at an instant.

    An hour that happens twice counts as one hour of the day, one that is left out is in nobody's
    day, and a day is the calendar's, be it of 23, 24 or 25 hours.

    Args:
        frame: rows with an instant and the name of a time zone each.
        at: the instant's column, `Datetime("us", "UTC")`.
        zone: the zone's column; see `known_zones` for what has none.

    Returns:
        The rows, grouped by zone, with `local_day` (Date), `local_hour` (0 to 23, Int8) and
        `local_weekday` (1, Monday, to 7, Int8), all null where the instant is.

    Raises:
        ValueError: the instants are of another type.
    """
    if frame.schema[at] != INSTANT:
        raise ValueError(f"expected {at} as {INSTANT}, found {frame.schema[at]}")
    named = frame.with_columns(known_zones(frame[zone]).alias(zone))
    # Polars converts a column to one zone at a time, and there are few zones.
    parts = [_in_zone(part, at, part[zone][0]) for part in named.partition_by(zone)]
    return pl.concat(parts) if parts else _in_zone(named, at, FALLBACK_ZONE)


def _in_zone(frame: pl.DataFrame, at: str, zone: str) -> pl.DataFrame:
    local = pl.col(at).dt.convert_time_zone(zone).dt
    return frame.with_columns(
        local.date().alias("local_day"),
        local.hour().alias("local_hour"),
        local.weekday().alias("local_weekday"),
    )


@cache
def _is_known(name: str) -> bool:
    try:
        pl.Series([0]).cast(INSTANT).dt.convert_time_zone(name)
    except pl.exceptions.ComputeError:
        return False
    return True
