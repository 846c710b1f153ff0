"""Which organisation a notification speaks for, and how that is known.

The organisation that the notification names (`explicit`); else the person's only membership at
the moment (`sole`); else the oldest of them, ties to the smaller `org_id` (`primary`, best
effort); else none. What is counted afterwards does not belong here.
"""

import narwhals as nw

from engagement_pipeline.signals.sources import Rows

_STILL_HOLDS = 2**63 - 1
"""Stands for the end of a membership that has none, later than any instant."""

_SPELL = ("user_id", "org_id", "starts_at", "ends_at")


def attributed(touches: Rows, memberships: Rows) -> Rows:
    """`touches` with `org_id` filled in; those that belong to no organisation fall away.

    Args:
        touches: `user_id`, `org_id` (nullable), `at` (Int64 microseconds), and any other
            columns, which are kept.
        memberships: as in `SignalSources`. Those that begin after `at` take no part, so that
            they need no hiding from a past moment.
    """
    columns = touches.collect_schema().names()
    explicit = touches.filter(~nw.col("org_id").is_null())
    found = (
        touches.filter(nw.col("org_id").is_null())
        .drop("org_id")
        .join(_primary_spells(_stays(memberships)), on="user_id", how="inner")
        .filter(nw.col("at") >= nw.col("starts_at"), nw.col("at") < nw.col("ends_at"))
    )
    return nw.concat([explicit.select(columns), found.select(columns)], how="vertical")


def with_attribution(touches: Rows, memberships: Rows) -> Rows:
    """As `attributed`, and beside it `attribution`: one of `vocabulary.ATTRIBUTIONS`.

    Two stays of one person in one organisation are one membership also where they overlap.

    Args:
        touches: as for `attributed`, without a column `attribution`.
        memberships: as for `attributed`.
    """
    columns = touches.collect_schema().names()
    is_explicit = ~nw.col("org_id").is_null()
    spells = _attributed_spells(_stays(memberships)).rename(
        {"user_id": "unnamed_user_id", "org_id": "spell_org_id", "attribution": "spell_attribution"}
    )
    # The null key of an explicit touch meets no spell. To split the touches and put them together
    # again, as above, would make DuckDB compute twice the joins that they come from.
    unnamed_user_id = nw.when(~is_explicit).then(nw.col("user_id")).alias("unnamed_user_id")
    in_spell = (nw.col("at") >= nw.col("starts_at")) & (nw.col("at") < nw.col("ends_at"))
    return (
        touches.with_columns(unnamed_user_id)
        .join(spells, on="unnamed_user_id", how="left")
        .filter(is_explicit | in_spell)
        .with_columns(
            nw.when(is_explicit)
            .then(nw.lit("explicit"))
            .otherwise(nw.col("spell_attribution"))
            .alias("attribution"),
            nw.coalesce("org_id", "spell_org_id").alias("org_id"),
        )
        .select(*columns, "attribution")
    )


def _stays(memberships: Rows) -> Rows:
    """`user_id`, `org_id`, `joined_at`, `left_at` (never null) of each membership."""
    return memberships.select(
        "user_id", "org_id", "joined_at", nw.col("left_at").fill_null(_STILL_HOLDS)
    )


def _primary_spells(stays: Rows) -> Rows:
    """When each membership was the person's oldest: `user_id`, `org_id`, `starts_at`, `ends_at`.

    Spells of one person are half-open, `[starts_at, ends_at)`, and never overlap, so a moment
    finds at most one of them, and nothing has to be ranked per notification. A membership becomes
    the oldest when the last of those that are older ends: they have all begun before it, so each
    of them holds until its own end.
    """
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


def _attributed_spells(stays: Rows) -> Rows:
    """The primary spells, cut where any membership begins or ends, with `attribution`.

    That is `primary` while memberships of several organisations hold, else `sole`.
    """
    counted = stays.with_columns(nw.len().over("user_id").alias("stays"))
    # Nearly everyone has one stay, which needs no cutting.
    alone = counted.filter(nw.col("stays") == 1).select(
        "user_id",
        "org_id",
        nw.col("joined_at").alias("starts_at"),
        nw.col("left_at").alias("ends_at"),
        nw.lit("sole").alias("attribution"),
    )
    several = counted.filter(nw.col("stays") > 1).drop("stays")
    starts_at, holding = nw.col("starts_at"), nw.col("holding_org_id")
    cut = (
        _cut(_primary_spells(several), several)
        .join(several.rename({"org_id": "holding_org_id"}), on="user_id", how="inner")
        .filter(nw.col("joined_at") <= starts_at, nw.col("left_at") > starts_at)
        .group_by("user_id", "org_id", "starts_at", "ends_at")
        .agg(holding.min().alias("smallest"), holding.max().alias("largest"))
    )
    is_sole = nw.when(nw.col("smallest") == nw.col("largest"))
    attribution = is_sole.then(nw.lit("sole")).otherwise(nw.lit("primary")).alias("attribution")
    return nw.concat([alone, cut.select(*_SPELL, attribution)], how="vertical")


def _cut(spells: Rows, stays: Rows) -> Rows:
    """`spells`, cut at each moment at which one of the person's `stays` begins or ends."""
    bounds = nw.concat(
        [stays.select("user_id", nw.col(end).alias("bound")) for end in ("joined_at", "left_at")],
        how="vertical",
    )
    pieces = (
        bounds.rename({"bound": "piece_starts_at"})
        .join(bounds, on="user_id", how="inner")
        .filter(nw.col("bound") > nw.col("piece_starts_at"))
        .group_by("user_id", "piece_starts_at")
        .agg(nw.col("bound").min().alias("piece_ends_at"))
    )
    starts_at, ends_at = nw.col("piece_starts_at"), nw.col("piece_ends_at")
    return (
        spells.join(pieces, on="user_id", how="inner")
        .filter(starts_at >= nw.col("starts_at"), starts_at < nw.col("ends_at"))
        .select("user_id", "org_id", starts_at.alias("starts_at"), ends_at.alias("ends_at"))
    )
