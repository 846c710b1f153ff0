"""Whether an organisation's levels have moved, beyond what chance moves.

The measure and its limit belong here. Over which days levels are averaged, and what is made of
a drift, is decided elsewhere; how far two judges of the same members agree is in `agreement`.
"""

import polars as pl

from engagement_pipeline.contracts.vocabulary import LEVELS

DRIFT_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "n_now": pl.Int64(),
        "n_before": pl.Float64(),
        "psi": pl.Float64(),
        "chance_limit": pl.Float64(),
        "has_drifted": pl.Boolean(),
    }
)

MAJOR_SHIFT_PSI = 0.25
"""The index from which a shift is called major by custom (N. Siddiqi, "Credit Risk Scorecards",
2006), however many members there are."""

_ADDED_PER_LEVEL = 0.5

# The 0.99 quantile of chi-square with four degrees of freedom: one fewer than there are levels.
_CHI_SQUARE_LIMIT = 13.2767


class DriftInputError(ValueError):
    """Counts that no drift can be measured of; the message says why."""


def level_drift(now: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """How far each organisation's levels are from what they were, as one number.

    The population stability index, `sum((p - q) * ln(p / q))` over the five levels, where `p`
    is a level's share of the members now and `q` its share before. A level that nobody has would
    make it infinite, so half a member is added to every level on both sides.

    An organisation has drifted if its index is above both `MAJOR_SHIFT_PSI` and `chance_limit`:
    the 0.99 quantile of chi-square with four degrees of freedom, times `1/n_now + 1/n_before`.
    Where nothing changed, the index of samples of `n` and `m` is about chi-square times
    `1/n + 1/m` (B. Yurdakul, "Statistical Properties of Population Stability Index", Western
    Michigan University, 2018). That is for samples drawn apart; members are mostly the same on
    both sides, so chance moves them less, and the limit errs on the quiet side.

    Args:
        now: `org_id`, `level` and `members`, the number of members of that level. A level
            without a row has no members.
        before: the same as averages per day over the reference days, so that `members` is a
            number of members and not of days of members; Float or Int.

    Returns:
        One row per organisation in `now`, by `org_id` (`DRIFT_SCHEMA`): `n_now` and `n_before`
        are members, `psi` and `chance_limit` have no unit. Where an organisation has no members
        on one side, `psi` and `chance_limit` are null and it has not drifted.

    Raises:
        DriftInputError: a level is unknown, or a number of members is missing, negative or
            infinite.
    """
    for counts in (now, before):
        _check(counts)
    sides = _wide(now, "now").join(_wide(before, "before"), on="org_id", how="left").fill_null(0)
    n_now, n_before = pl.col("n_now"), pl.col("n_before")
    is_comparable = (n_now > 0) & (n_before > 0)
    limit = _CHI_SQUARE_LIMIT * (1 / n_now + 1 / n_before)
    measured = sides.with_columns(
        psi=pl.when(is_comparable).then(_stability_index()),
        chance_limit=pl.when(is_comparable).then(limit),
    )
    beyond = pl.col("psi") > pl.max_horizontal(pl.lit(MAJOR_SHIFT_PSI), "chance_limit")
    return (
        measured.with_columns(has_drifted=beyond.fill_null(False))
        .select(pl.col(name).cast(dtype) for name, dtype in DRIFT_SCHEMA.items())
        .sort("org_id")
    )


def _wide(counts: pl.DataFrame, side: str) -> pl.DataFrame:
    """One row per organisation: a column of members for each level, and their sum."""
    members = pl.col("members").cast(pl.Float64)
    return counts.group_by("org_id").agg(
        members.sum().alias(f"n_{side}"),
        *(
            members.filter(pl.col("level") == level).sum().alias(f"{side}_{level}")
            for level in LEVELS
        ),
    )


def _stability_index() -> pl.Expr:
    terms = []
    for level in LEVELS:
        p, q = _share(level, "now"), _share(level, "before")
        terms.append((p - q) * (p / q).log())
    return pl.sum_horizontal(terms)


def _share(level: str, side: str) -> pl.Expr:
    added = _ADDED_PER_LEVEL * len(LEVELS)
    return (pl.col(f"{side}_{level}") + _ADDED_PER_LEVEL) / (pl.col(f"n_{side}") + added)


def _check(counts: pl.DataFrame) -> None:
    unknown = counts.filter(~pl.col("level").is_in(LEVELS) | pl.col("level").is_null())
    if not unknown.is_empty():
        raise DriftInputError(
            f"the organisation {unknown['org_id'][0]!r} has members of the level "
            f"{unknown['level'][0]!r}; expected one of {', '.join(LEVELS)}"
        )
    members = pl.col("members").cast(pl.Float64)
    wrong = counts.filter(~(members.is_finite() & (members >= 0)).fill_null(False))
    if not wrong.is_empty():
        raise DriftInputError(
            f"the organisation {wrong['org_id'][0]!r} has {wrong['members'][0]} members of the "
            f"level {wrong['level'][0]!r}; expected a number from 0"
        )
