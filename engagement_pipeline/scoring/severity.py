"""How grave an at-risk flag is: how far a member has gone on the way to inactivity.

Whether a member is flagged at all belongs to `levels` and the overrides; which threshold is in
force belongs to the caller.
"""

import polars as pl

from engagement_pipeline.contracts import vocabulary


def severity(days_since_active: pl.Expr, inactive_days: int) -> pl.Expr:
    """How grave an at-risk flag on a member would be, one of `vocabulary.FLAG_SEVERITIES`.

    `low` below a third of the way to inactivity, `medium` below two thirds, else `high`.

    Args:
        days_since_active: whole days without activity; null where unknown, and so is the result.
        inactive_days: whole days without activity from which a member is inactive.

    Raises:
        ValueError: `inactive_days` is below 1.
    """
    if inactive_days < 1:
        raise ValueError(f"inactive_days: expected at least 1, found {inactive_days}")
    low, medium, high = vocabulary.FLAG_SEVERITIES
    # In whole numbers: a third that is a fraction may come to lie beside its edge.
    thirds = days_since_active * 3
    return (
        pl.when(thirds.is_null())
        .then(pl.lit(None, dtype=pl.String))
        .when(thirds < inactive_days)
        .then(pl.lit(low))
        .when(thirds < 2 * inactive_days)
        .then(pl.lit(medium))
        .otherwise(pl.lit(high))
    )
