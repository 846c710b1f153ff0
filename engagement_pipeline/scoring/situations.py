"""Situations: what is worth saying of a member, beyond the level.

Two members of one level may need different words: who still reads everything is spoken of
otherwise than who has gone quiet. Here a member's signals become the name of a situation;
the words for it are in `templates`. A situation is only given to members of whom everything is
known that its words cite.
"""

from functools import cache

import polars as pl

from engagement_pipeline.scoring.explanations import WINDOW_DAYS

_ATTENDED = pl.col("events_attended_90d")
_ATTENDED_PREV = pl.col("events_attended_prev_90d")
_ATTENDED_EVER = pl.col("events_attended_total")
_NO_SHOWS = pl.col("no_show_count_90d")
_LAST_ATTENDED = pl.col("last_attended_at")
_LAST_ACTIVE = pl.col("last_active_at")


@cache
def situation() -> pl.Expr:
    """The situation of a member, as a String; never null.

    Takes the columns that `levels.with_baseline` gives. Every value is a key of
    `templates.TEMPLATES`, and starts with the baseline level.
    """
    level = pl.col("baseline_level")
    return (
        pl.when(level == "highly_engaged")
        .then(_named("highly_engaged", _trend()))
        .when(level == "new")
        .then(_named("new", _arrival()))
        .when(level == "moderate")
        .then(_named("moderate", _regularity()))
        .when(level == "inactive")
        .then(_named("inactive", _absence()))
        .otherwise(_named("at_risk", _drift()))
        .alias("situation")
    )


def _named(level: str, nuance: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit(level), nuance, separator=".")


def _trend() -> pl.Expr:
    """How this window compares with the one before, of members who attended in this one."""
    # "Up from none" would be a poor thing to say of somebody who only just came, and a worse one
    # of somebody who came back.
    return (
        pl.when((_ATTENDED_PREV == 0) & (_ATTENDED_EVER <= _ATTENDED))
        .then(pl.lit("starting"))
        .when(_ATTENDED_PREV == 0)
        .then(pl.lit("returning"))
        .when(_ATTENDED > _ATTENDED_PREV)
        .then(pl.lit("rising"))
        .when(_ATTENDED < _ATTENDED_PREV)
        .then(pl.lit("falling"))
        .otherwise(pl.lit("steady"))
    )


def _regularity() -> pl.Expr:
    """The trend, unless as many events were missed as were attended."""
    return (
        pl.when((_NO_SHOWS > 0) & (_NO_SHOWS >= _ATTENDED))
        .then(pl.lit("no_shows"))
        .otherwise(_trend())
    )


def _arrival() -> pl.Expr:
    """How far somebody has come since joining."""
    return (
        pl.when(_ATTENDED > 0)
        .then(pl.lit("attending"))
        .when(_ATTENDED_EVER > 0)
        .then(pl.lit("attended_before"))
        .otherwise(_trace())
    )


def _drift() -> pl.Expr:
    """Whether somebody has come before, and what is still seen of them."""
    never_activated = pl.col("reason") == "never_activated"
    return (
        pl.when(_ATTENDED > 0)
        .then(pl.lit("seldom"))
        .when(never_activated)
        .then(_named("never_activated", _trace()))
        .when(_LAST_ATTENDED.is_null() | _LAST_ACTIVE.is_null())
        .then(pl.lit("lapsed.undated"))
        .otherwise(_named("lapsed", _trace()))
    )


def _absence() -> pl.Expr:
    """Whether somebody who is away has come before, and whether they still look in."""
    return (
        pl.when(pl.col("event_view_count_90d") > 0)
        .then(pl.lit("browsing"))
        .when((_ATTENDED_EVER > 0) & _LAST_ATTENDED.is_not_null())
        .then(pl.lit("attended_before"))
        .when(_ATTENDED_EVER > 0)
        .then(pl.lit("undated"))
        .when(_LAST_ACTIVE.is_not_null())
        .then(pl.lit("never_attended"))
        .otherwise(pl.lit("silent"))
    )


def _trace() -> pl.Expr:
    """The most telling thing somebody did lately, short of attending.

    A count that the source does not know is null, and a condition on it is not met.
    """
    was_active_lately = _LAST_ACTIVE.is_not_null() & (pl.col("days_since_active") <= WINDOW_DAYS)
    return (
        pl.when(_NO_SHOWS > 0)
        .then(pl.lit("no_shows"))
        .when(pl.col("rsvp_count_90d") > 0)
        .then(pl.lit("signed_up"))
        .when(pl.col("interaction_count_90d") > 0)
        .then(pl.lit("talking"))
        .when(pl.col("event_view_count_90d") > 0)
        .then(pl.lit("browsing"))
        .when(pl.col("notifications_read_90d") > 0)
        .then(pl.lit("reading"))
        .when(was_active_lately)
        .then(pl.lit("elsewhere"))
        .when(_LAST_ACTIVE.is_not_null())
        .then(pl.lit("quiet"))
        .otherwise(pl.lit("silent"))
    )
