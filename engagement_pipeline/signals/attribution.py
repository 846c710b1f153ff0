"""Which organisation a notification speaks for, and how that is known.

The organisation that the notification names (`explicit`); else the person's only membership at
the moment (`sole`); else the oldest of them, ties to the smaller `org_id` (`primary`, best
effort); else none. What is counted afterwards does not belong here.
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
    return with_attribution(touches, memberships).select(columns)


def with_attribution(touches: Rows, memberships: Rows) -> Rows:
    """As `attributed`, and beside it `attribution`: one of `vocabulary.ATTRIBUTIONS`.

    Two stays of one person in one organisation are one membership also where they overlap.

    Args:
        touches: as for `attributed`, without a column `attribution`.
        memberships: as for `attributed`.
    """
    columns = touches.collect_schema().names()
    is_explicit = ~nw.col("org_id").is_null()
    at = nw.col("at")
    # The null key of an explicit touch meets no spell. To split the touches and put them together
    # again would make DuckDB compute twice whatever they are drawn from.
    found = touches.with_columns(
        nw.when(~is_explicit).then(nw.col("user_id")).alias("spell_user_id")
    ).join(_spells(memberships), on="spell_user_id", how="left")
    return (
        found.filter(
            is_explicit | ((at >= nw.col("spell_starts_at")) & (at < nw.col("spell_ends_at")))
        )
        .with_columns(
            nw.when(is_explicit)
            .then(nw.lit("explicit"))
            .otherwise(nw.col("spell_attribution"))
            .alias("attribution"),
            nw.coalesce("org_id", "spell_org_id").alias("org_id"),
        )
        .select(*columns, "attribution")
    )


def _spells(memberships: Rows) -> Rows:
    """Where a person belongs, from when until when.

    Spells of one person are half-open, `[spell_starts_at, spell_ends_at)`, and never overlap, so
    a moment finds at most one of them, and nothing has to be ranked per notification.

    Returns:
        `spell_user_id`, `spell_org_id`, `spell_starts_at`, `spell_ends_at`, `spell_attribution`
        (`sole` or `primary`).
    """
    left_at = nw.col("left_at").fill_null(_STILL_HOLDS)
    stays = memberships.select(
        nw.col("user_id").alias("spell_user_id"), "org_id", "joined_at", left_at
    ).with_columns(nw.len().over("spell_user_id").alias("stays"))
    alone = stays.filter(nw.col("stays") == 1).select(
        "spell_user_id",
        nw.col("org_id").alias("spell_org_id"),
        nw.col("joined_at").alias("spell_starts_at"),
        nw.col("left_at").alias("spell_ends_at"),
        nw.lit("sole").alias("spell_attribution"),
    )
    # Nearly everyone has one stay, and needs none of what follows.
    return nw.concat([alone, _shared_spells(stays.filter(nw.col("stays") > 1))], how="vertical")


def _shared_spells(stays: Rows) -> Rows:
    """The spells between all moments at which one of a person's stays begins or ends.

    Within such a spell the same stays hold from its start to its end.
    """
    user_id, starts_at, ends_at = "spell_user_id", "spell_starts_at", "spell_ends_at"
    bounds = nw.concat(
        [stays.select(user_id, nw.col(name).alias(starts_at)) for name in ("joined_at", "left_at")],
        how="vertical",
    )
    spells = (
        bounds.join(bounds.rename({starts_at: ends_at}), on=user_id, how="inner")
        .filter(nw.col(ends_at) > nw.col(starts_at))
        .group_by(user_id, starts_at)
        .agg(nw.col(ends_at).min())
    )
    org_id, still_holds = nw.col("org_id"), nw.col("left_at") > nw.col(starts_at)
    held = (
        spells.join(stays, on=user_id, how="inner")
        .filter(nw.col("joined_at") <= nw.col(starts_at), still_holds)
        .group_by(user_id, starts_at, ends_at)
        .agg(
            nw.col("joined_at").min(),
            org_id.min().alias("smallest_org_id"),
            org_id.max().alias("largest_org_id"),
        )
    )
    is_sole = nw.col("smallest_org_id") == nw.col("largest_org_id")
    # Grouping twice takes a third of the time of windows over as many small groups.
    return (
        held.join(stays, on=[user_id, "joined_at"], how="inner")
        .filter(still_holds)
        .group_by(user_id, starts_at, ends_at, "smallest_org_id", "largest_org_id")
        .agg(org_id.min().alias("spell_org_id"))
        .select(
            user_id,
            "spell_org_id",
            starts_at,
            ends_at,
            nw.when(is_sole)
            .then(nw.lit("sole"))
            .otherwise(nw.lit("primary"))
            .alias("spell_attribution"),
        )
    )
