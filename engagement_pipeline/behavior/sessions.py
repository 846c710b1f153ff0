"""Sessions: what a member sends with no more than 30 minutes in between belongs together.

A session is known by its first interaction, so that what comes later does not rename it. Which
sessions are stored already belongs to whoever holds them.
"""

from datetime import timedelta

import polars as pl

SESSION_GAP = timedelta(minutes=30)
"""The longest pause within a session; over it, another begins."""

_PAIR = ["org_id", "user_id"]


def session_ids(interactions: pl.DataFrame) -> pl.DataFrame:
    """The session of each interaction, if these are all that there are.

    Args:
        interactions: `interaction_id` (unique), `org_id`, `user_id`, `sent_at`.

    Returns:
        `interaction_id`, `session_id`; in no particular order.
    """
    return join_spans(spans_of(interactions)).select(
        pl.col("first_id").alias("interaction_id"), "session_id"
    )


def spans_of(interactions: pl.DataFrame) -> pl.DataFrame:
    """Each interaction as a span of its own, for `join_spans`."""
    return interactions.select(
        *_PAIR,
        pl.col("sent_at").alias("started_at"),
        pl.col("sent_at").alias("ended_at"),
        pl.col("interaction_id").alias("first_id"),
    )


def join_spans(spans: pl.DataFrame) -> pl.DataFrame:
    """Join single interactions and sessions into the sessions that they make together.

    Args:
        spans: `org_id`, `user_id`, `started_at`, `ended_at` and `first_id`, the id of the first
            interaction within. A session has its first and last moment; a single interaction has
            the same moment twice.

    Returns:
        The same rows, sorted by member, start and id, with `session_id`: the first id of all that
        they are joined with.
    """
    ended_before = pl.col("ended_at").cum_max().shift(1).over(_PAIR)
    goes_on = pl.col("started_at") - ended_before <= SESSION_GAP
    return spans.sort(*_PAIR, "started_at", "first_id").with_columns(
        # A member's first span never goes on, so that nothing is filled from one to the next.
        pl.when(~goes_on.fill_null(False)).then("first_id").forward_fill().alias("session_id")
    )
