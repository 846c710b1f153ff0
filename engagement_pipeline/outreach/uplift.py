"""Whether outreach helps: how many more of those who were treated came back than of those held out.

By intention to treat: who was planned a message counts as treated, whatever became of it. Who is
held out is `holdout`'s; what counts as a return, and reading it, belongs to the warehouse.
"""

from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from engagement_pipeline.contracts import contract

UPLIFT = contract("outreach.uplift")

WINDOW = timedelta(days=180)
"""How far back enrolments are looked at."""

ALL_ORGS = "*"
TREATED, HELD_OUT = "treated", "held_out"
FIRST_ENROLMENT, ALL_ENROLMENTS = "first_enrolment", "all_enrolments"

SAMPLE_RATIO_P_MIN = 0.001
"""Below this, a split is too uneven to be chance. (A. Fabijan et al., "Diagnosing sample ratio
mismatch in online controlled experiments", KDD 2019, take 0.0005 to 0.01.)"""

_Z = 1.959963984540054  # of a 95 % interval; `scipy.stats.norm.isf(0.025)` takes seconds to import
_MEMBER = ["org_id", "user_id"]
_Floats = npt.NDArray[np.float64]


class UpliftInputError(ValueError):
    """Enrolments or settings that nothing can be estimated by; the text says why."""


def estimate(
    enrolments: pl.DataFrame,
    *,
    as_of: datetime,
    window_start: datetime,
    horizon_days: int,
    holdout_share: float,
) -> pl.DataFrame:
    """The uplift of each organisation and of all of them, with intervals.

    Args:
        enrolments: `org_id`, `user_id`, `enrolled_at`, `arm` (of `UPLIFT_ARMS`) and `returned`
            (Boolean: whether the member came back within the horizon). Several of a member at the
            same moment are one. Those outside the window are passed over.
        as_of: up to when returns are known, with a time zone. The window ends `horizon_days`
            before, that moment included.
        window_start: where it begins, excluded, with a time zone.
        horizon_days: days within which a return counts.
        holdout_share: share of members who are meant to be held out, in [0, 1).

    Returns:
        Rows of `outreach.uplift`, as `estimate_of_members` gives them.

    Raises:
        UpliftInputError: an arm is unknown, or as `estimate_of_members` says.
    """
    unknown = sorted(set(enrolments["arm"].unique()) - {TREATED, HELD_OUT})
    if unknown:
        raise UpliftInputError(f"arm: expected {TREATED!r} or {HELD_OUT!r}, found {unknown[0]!r}")
    instant = UPLIFT.polars_schema["as_of"]
    start = pl.lit(window_start, dtype=instant)
    end = pl.lit(as_of - timedelta(days=horizon_days), dtype=instant)
    in_window = enrolments.filter((pl.col("enrolled_at") > start) & (pl.col("enrolled_at") <= end))
    return estimate_of_members(
        by_member(in_window),
        as_of=as_of,
        window_start=window_start,
        horizon_days=horizon_days,
        holdout_share=holdout_share,
    )


def by_member(enrolments: pl.DataFrame) -> pl.DataFrame:
    """What an estimate takes of each member's enrolments.

    Args:
        enrolments: as for `estimate`, all of which are in the window.

    Returns:
        A row a member and arm: `org_id`, `user_id`, `arm`, `enrolments`, `returns`, and of the
        member's first enrolment, in the row of its arm, `first_returned` (Boolean; null in the
        other row of whom was held out for a while and treated for another). Of a moment at which
        both arms are on record the member counts as held out.
    """
    return (
        enrolments.group_by(*_MEMBER, "enrolled_at")
        .agg(pl.col("arm").min(), pl.col("returned").any())
        .sort("enrolled_at")
        .with_columns(is_first=pl.int_range(pl.len()).over(_MEMBER) == 0)
        .group_by(*_MEMBER, "arm")
        .agg(
            enrolments=pl.len().cast(pl.Int64),
            returns=pl.col("returned").sum().cast(pl.Int64),
            first_returned=pl.col("returned").filter("is_first").first(),
        )
        .sort(*_MEMBER, "arm")
    )


def estimate_of_members(
    members: pl.DataFrame,
    *,
    as_of: datetime,
    window_start: datetime,
    horizon_days: int,
    holdout_share: float,
) -> pl.DataFrame:
    """The uplift of each organisation and of all of them, from what `by_member` gives.

    `first_enrolment` is of each member's first enrolment in the window; its interval is Newcombe's
    hybrid score interval (R. G. Newcombe, Statistics in Medicine 17, 1998, method 10).
    `all_enrolments` is of every enrolment: returns by enrolments, with the variance of a ratio by
    the delta method, clustered by member (A. Deng, U. Knoblich, J. Lu, "Applying the delta method
    in metric analytics", KDD 2018), a normal interval, clipped to [-1, 1].

    Members are counted by the arm of their first enrolment, for the sample-ratio check too
    (`scipy.stats.chisquare`); under `all_enrolments` those who changed arms count in both.

    Args:
        members: as `by_member` gives them, in any order.
        as_of: as for `estimate`.
        window_start: as for `estimate`.
        horizon_days: as for `estimate`.
        holdout_share: as for `estimate`.

    Returns:
        Rows of `outreach.uplift`, sorted by its key: two an organisation that has an enrolment, and
        two for `ALL_ORGS`, whose members and enrolments are those of all organisations together.
        None where there is no enrolment. Without one in both arms there is no uplift; where an arm
        of `all_enrolments` has fewer than two members, or the same came of all of them, its
        variance cannot be told, and there is no interval.

    Raises:
        UpliftInputError: the share or the horizon is out of its bounds.
        ContractViolationError: an organisation is called `ALL_ORGS`.
    """
    if not 0 <= holdout_share < 1:
        raise UpliftInputError(f"holdout_share: expected a share in [0, 1), found {holdout_share}")
    if horizon_days < 1:
        raise UpliftInputError(f"horizon_days: expected one day or more, found {horizon_days}")
    if members.is_empty():
        return UPLIFT.empty()
    of_orgs = _sums(members, "org_id")
    pooled = _sums(members, pl.lit(ALL_ORGS).alias("org_id"))
    sums = pl.concat([of_orgs, pooled]).sort("org_id")
    shared = _sample_ratios(sums, holdout_share)
    rows = pl.concat([_first(sums, shared), _all(sums, shared)], how="diagonal")
    instant = UPLIFT.polars_schema["as_of"]
    rows = rows.with_columns(
        as_of=pl.lit(as_of, dtype=instant),
        window_start=pl.lit(window_start, dtype=instant),
        window_end=pl.lit(as_of - timedelta(days=horizon_days), dtype=instant),
        horizon_days=pl.lit(horizon_days),
        holdout_share=pl.lit(holdout_share),
    )
    schema = UPLIFT.polars_schema
    return UPLIFT.validate(
        rows.select(pl.col(name).cast(dtype) for name, dtype in schema.items()).sort(UPLIFT.key)
    )


def _sums(members: pl.DataFrame, by: str | pl.Expr) -> pl.DataFrame:
    """Per organisation and arm: members and returns, and the sums that a variance is made of."""
    n, k = (pl.col(name).cast(pl.Float64) for name in ("enrolments", "returns"))
    sums = []
    for arm in (TREATED, HELD_OUT):
        own = pl.col("arm") == arm
        sums += [
            own.sum().alias(f"{arm}_clusters"),
            (own & pl.col("first_returned").is_not_null()).sum().alias(f"{arm}_members"),
            (own & pl.col("first_returned").fill_null(False)).sum().alias(f"{arm}_first_returns"),
            n.filter(own).sum().alias(f"{arm}_n"),
            k.filter(own).sum().alias(f"{arm}_k"),
            (n * n).filter(own).sum().alias(f"{arm}_nn"),
            (n * k).filter(own).sum().alias(f"{arm}_nk"),
            (k * k).filter(own).sum().alias(f"{arm}_kk"),
        ]
    return members.group_by(by).agg(sums)


def _sample_ratios(sums: pl.DataFrame, holdout_share: float) -> pl.DataFrame:
    """`org_id`, `sample_ratio_p` (null where nothing can be told) and `is_sample_ratio_ok`."""
    p = np.full(sums.height, np.nan)
    if holdout_share > 0:
        # SciPy takes seconds to import, and most runs of the module's importers estimate nothing.
        from scipy.stats import chisquare

        found = _columns(sums, "members")
        total = found.sum(axis=0)
        expected = np.array([total * (1 - holdout_share), total * holdout_share])
        p = np.asarray(chisquare(found, expected, axis=0).pvalue)
    told = sums.select("org_id", sample_ratio_p=pl.Series(p).fill_nan(None))
    is_ok = pl.col("sample_ratio_p").is_null() | (pl.col("sample_ratio_p") >= SAMPLE_RATIO_P_MIN)
    return told.with_columns(is_sample_ratio_ok=is_ok)


def _first(sums: pl.DataFrame, shared: pl.DataFrame) -> pl.DataFrame:
    # It imports SciPy, as above.
    from engagement_pipeline.loops.intervals import wilson

    n, k = _columns(sums, "members"), _columns(sums, "first_returns")
    rates = _ratio(k, n)
    lower, upper = wilson(k, n)
    below = np.hypot(rates[0] - lower[0], upper[1] - rates[1])
    above = np.hypot(upper[0] - rates[0], rates[1] - lower[1])
    return _rows(shared, FIRST_ENROLMENT, n, n, rates, below, above)


def _all(sums: pl.DataFrame, shared: pl.DataFrame) -> pl.DataFrame:
    clusters, n, k = (_columns(sums, name) for name in ("clusters", "n", "k"))
    nn, nk, kk = (_columns(sums, name) for name in ("nn", "nk", "kk"))
    rates = _ratio(k, n)
    # Of `k - rate * n` over the members, whose mean is 0. Rounding must not make it negative.
    squares = np.maximum(kk - 2 * rates * nk + rates**2 * nn, 0.0)
    variance = _ratio(clusters, clusters - 1) * _ratio(squares, n**2)
    can_be_told = (clusters > 1) & (k > 0) & (k < n)
    half = _Z * np.sqrt(np.where(can_be_told, variance, np.nan).sum(axis=0))
    return _rows(shared, ALL_ENROLMENTS, clusters, n, rates, half, half)


def _rows(
    shared: pl.DataFrame,
    estimand: str,
    members: _Floats,
    enrolments: _Floats,
    rates: _Floats,
    below: _Floats,
    above: _Floats,
) -> pl.DataFrame:
    uplift = rates[0] - rates[1]
    columns = {
        "treated_members": members[0],
        "held_out_members": members[1],
        "treated_enrolments": enrolments[0],
        "held_out_enrolments": enrolments[1],
        "treated_rate": rates[0],
        "held_out_rate": rates[1],
        "uplift": uplift,
        "uplift_lower": np.clip(uplift - below, -1, 1),
        "uplift_upper": np.clip(uplift + above, -1, 1),
    }
    told = [pl.Series(name, values).fill_nan(None) for name, values in columns.items()]
    return shared.with_columns(*told, estimand=pl.lit(estimand))


def _columns(sums: pl.DataFrame, name: str) -> _Floats:
    """A column of each arm: treated, then held out."""
    return np.array([sums[f"{arm}_{name}"].to_numpy() for arm in (TREATED, HELD_OUT)], dtype=float)


def _ratio(numerator: _Floats, denominator: _Floats) -> _Floats:
    """Their ratio; NaN where nothing is divided by."""
    found = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=found, where=denominator > 0)
    return found
