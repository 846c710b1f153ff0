"""Where a member stands in the life of a community, by periods of 30 days that end at a moment.

Here belong the states and their rule. They are those of PostHog's lifecycle insight, only that here
who is dormant stays so until active again. What counts as activity belongs elsewhere.
"""

from datetime import timedelta

import polars as pl

PERIOD_DAYS = 30
PERIOD = timedelta(days=PERIOD_DAYS)


def lifecycle_state(last_at: pl.Expr, last_before: pl.Expr, period_start: pl.Expr) -> pl.Expr:
    """The state of each member: one of `vocabulary.LIFECYCLE_STATES`.

    Two moments tell it. Of the activity before this period only the last matters: whether it was
    in the period before, which is half-open like this one, `(start - 30 d, start]`.

    Args:
        last_at: when the member was last active, no later than the period's end; null if never.
        last_before: when last active at the period's start or before it; null if never.
        period_start: where this period begins; what happened just then is in the one before.

    Returns:
        `new`, `returning`, `resurrecting` or `dormant`; null of who was never active.
    """
    is_active = last_at > period_start
    was_active = last_before > period_start - PERIOD
    return (
        pl.when(last_at.is_null())
        .then(None)
        .when(~is_active)
        .then(pl.lit("dormant"))
        .when(last_before.is_null())
        .then(pl.lit("new"))
        .when(was_active)
        .then(pl.lit("returning"))
        .otherwise(pl.lit("resurrecting"))
    )
