"""Whether outreach helps: how many more of those who were treated came back than of those held out.

By intention to treat: who was planned a message counts as treated, whatever became of it. Each
member counts once, at the first enrolment in the window: who came back because of that one is not
enrolled again so soon, and who was held out is, so that later ones are no longer random.

Who is held out is `holdout`'s; first enrolments, and what counts as a return, belong to the
warehouse.
"""

from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import UPLIFT_ARMS

UPLIFT = contract("outreach.uplift")

WINDOW = timedelta(days=180)
"""How far back enrolments are looked for."""

ALL_ORGS = "*"
TREATED, HELD_OUT = UPLIFT_ARMS

SAMPLE_RATIO_P_MIN = 0.001
"""Below this, a split is too uneven to be chance. (A. Fabijan et al., "Diagnosing sample ratio
mismatch in online controlled experiments", KDD 2019, take 0.0005 to 0.01.)"""

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

    The interval is Newcombe's hybrid score interval (R. G. Newcombe, Statistics in Medicine 17,
    1998, method 10); the sample-ratio check is `scipy.stats.chisquare`.

    Args:
        enrolments: each member's first in the window, in any order: `org_id`, `user_id`, `arm` (of
            `UPLIFT_ARMS`) and `returned` (Boolean: whether the member came back within the
            horizon).
        as_of: up to when returns are known, with a time zone. The window ends `horizon_days`
            before, that moment included.
        window_start: where it begins, excluded, with a time zone.
        horizon_days: days within which a return counts.
        holdout_share: share of members who are meant to be held out, in [0, 1).

    Returns:
        Rows of `outreach.uplift`, sorted by its key: one an organisation that has an enrolment, and
        one for `ALL_ORGS`, whose members are those of all organisations together. None where there
        is no enrolment. Without one in both arms there is no uplift.

    Raises:
        UpliftInputError: an arm is unknown, a member is enrolled twice, or the share or the horizon
            is out of its bounds.
        ContractViolationError: an organisation is called `ALL_ORGS`.
    """
    _check(enrolments, horizon_days, holdout_share)
    if enrolments.is_empty():
        return UPLIFT.empty()
    of_orgs = _counts(enrolments, "org_id")
    pooled = _counts(enrolments, pl.lit(ALL_ORGS).alias("org_id"))
    counts = pl.concat([of_orgs, pooled]).sort("org_id")
    n = _columns(counts, "treated_members", "held_out_members")
    k = _columns(counts, "treated_returns", "held_out_returns")
    found = {**_differences(n, k), "sample_ratio_p": _sample_ratio_p(n, holdout_share)}
    p = pl.col("sample_ratio_p")
    instant = UPLIFT.polars_schema["as_of"]
    rows = counts.with_columns(
        pl.Series(name, values).fill_nan(None) for name, values in found.items()
    ).with_columns(
        is_sample_ratio_ok=p.is_null() | (p >= SAMPLE_RATIO_P_MIN),
        as_of=pl.lit(as_of, dtype=instant),
        window_start=pl.lit(window_start, dtype=instant),
        window_end=pl.lit(as_of - timedelta(days=horizon_days), dtype=instant),
        horizon_days=pl.lit(horizon_days),
        holdout_share=pl.lit(holdout_share),
    )
    schema = UPLIFT.polars_schema
    return UPLIFT.validate(rows.select(pl.col(name).cast(dtype) for name, dtype in schema.items()))


def _check(enrolments: pl.DataFrame, horizon_days: int, holdout_share: float) -> None:
    if not 0 <= holdout_share < 1:
        raise UpliftInputError(f"holdout_share: expected a share in [0, 1), found {holdout_share}")
    if horizon_days < 1:
        raise UpliftInputError(f"horizon_days: expected one day or more, found {horizon_days}")
    unknown = sorted(set(enrolments["arm"].unique()) - set(UPLIFT_ARMS))
    if unknown:
        raise UpliftInputError(f"arm: expected {TREATED!r} or {HELD_OUT!r}, found {unknown[0]!r}")
    members = enrolments.select("org_id", "user_id")
    twice = members.filter(members.is_duplicated()).sort("org_id", "user_id")
    if not twice.is_empty():
        raise UpliftInputError(
            f"enrolments: expected one a member, found more of {'/'.join(twice.row(0))}"
        )


def _counts(enrolments: pl.DataFrame, by: str | pl.Expr) -> pl.DataFrame:
    """Per organisation and arm: members, and those of them who returned."""
    counts = []
    for arm in UPLIFT_ARMS:
        own = pl.col("arm") == arm
        counts += [
            own.sum().alias(f"{arm}_members"),
            (own & pl.col("returned")).sum().alias(f"{arm}_returns"),
        ]
    return enrolments.group_by(by).agg(counts)


def _columns(counts: pl.DataFrame, *names: str) -> _Floats:
    return np.array([counts[name].to_numpy() for name in names], dtype=float)


def _differences(n: _Floats, k: _Floats) -> dict[str, _Floats]:
    """Rates, their difference and its interval, of members and returns: treated, then held out."""
    # It imports SciPy, which takes seconds, and most importers of this module estimate nothing.
    from engagement_pipeline.loops.intervals import wilson

    rates = np.full(n.shape, np.nan)
    np.divide(k, n, out=rates, where=n > 0)
    lower, upper = wilson(k, n)
    uplift = rates[0] - rates[1]
    below = np.hypot(rates[0] - lower[0], upper[1] - rates[1])
    above = np.hypot(upper[0] - rates[0], rates[1] - lower[1])
    return {
        "treated_rate": rates[0],
        "held_out_rate": rates[1],
        "uplift": uplift,
        # Its ends lie in [-1, 1] but for rounding.
        "uplift_lower": np.maximum(uplift - below, -1.0),
        "uplift_upper": np.minimum(uplift + above, 1.0),
    }


def _sample_ratio_p(n: _Floats, holdout_share: float) -> _Floats:
    """NaN where nobody is meant to be held out: then nothing can be told."""
    if holdout_share == 0:
        return np.full(n.shape[1], np.nan)
    # As above.
    from scipy.stats import chisquare

    expected = n.sum(axis=0) * np.array([[1 - holdout_share], [holdout_share]])
    return np.asarray(chisquare(n, expected, axis=0).pvalue)
