"""Which organisation a notification speaks for.

The organisation that the notification names (explicit); else the person's only membership at the
moment (sole); else the oldest of them, ties to the smaller `org_id` (primary); else none. The last
two are one rule: the oldest membership that holds. What is counted afterwards does not belong here.
"""

import narwhals as nw

from engagement_pipeline.signals.sources import Rows

_STILL_HOLDS = 2**63 - 1
"""Stands for the end of a membership that has none, later than any instant."""


def attributed(touches: Rows, memberships: Rows) -> Rows:
    """`touches` with `org_id` filled in; those that belong to no organisation fall away.

    Args:
        touches: `user_id`, `org_id` (nullable), `at` (Int64 microseconds), and any other
            columns, which are kept.
        memberships: as in `SignalSources`. Those that begin after `at` take no part, so that
            they need no hiding from a past moment.
    """
    columns = touches.collect_schema().names()
    spells = _primary_spells(memberships)
    explicit = touches.filter(~nw.col("org_id").is_null())
    found = (
        touches.filter(nw.col("org_id").is_null())
        .drop("org_id")
        .join(spells, on="user_id", how="inner")
        .filter(nw.col("at") >= nw.col("starts_at"), nw.col("at") < nw.col("ends_at"))
    )
    return nw.concat([explicit.select(columns), found.select(columns)], how="vertical")


def _primary_spells(memberships: Rows) -> Rows:
    """When each membership was the person's oldest: `user_id`, `org_id`, `starts_at`, `ends_at`.

    Spells of one person are half-open, `[starts_at, ends_at)`, and never overlap, so a moment
    finds at most one of them, and nothing has to be ranked per notification. A membership becomes
    the oldest when the last of those that are older ends: they have all begun before it, so each
    of them holds until its own end.
    """
    stays = memberships.select(
        "user_id", "org_id", "joined_at", nw.col("left_at").fill_null(_STILL_HOLDS)
    )
    older = stays.rename(
        {"org_id": "older_org_id", "joined_at": "older_joined_at", "left_at": "older_left_at"}
    )
    is_older = (nw.col("older_joined_at") < nw.col("joined_at")) | (
        (nw.col("older_joined_at") == nw.col("joined_at"))
        & (nw.col("older_org_id") < nw.col("org_id"))
    )
    freed = (
        stays.join(older, on="user_id", how="inner")
        .filter(is_older)
        .group_by("user_id", "org_id", "joined_at")
        .agg(nw.col("older_left_at").max().alias("freed_at"))
    )
    return (
        stays.join(freed, on=["user_id", "org_id", "joined_at"], how="left")
        .select(
            "user_id",
            "org_id",
            nw.max_horizontal("joined_at", "freed_at").alias("starts_at"),
            nw.col("left_at").alias("ends_at"),
        )
        .filter(nw.col("starts_at") < nw.col("ends_at"))
    )
