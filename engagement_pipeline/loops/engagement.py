"""The sixth loop, engagement: which notifications are read, per organisation and feature.

Here are the facts that signals are drawn from and rates counted from, and what is learned of them.
How notifications are delivered because of it belongs to `digest_plan`; who a notification speaks
for, to `signals.attribution`.
"""

import math
from collections.abc import Collection
from datetime import datetime

import narwhals as nw
import numpy as np
import polars as pl
from narwhals.typing import IntoFrame

from engagement_pipeline.contracts.vocabulary import ATTRIBUTIONS
from engagement_pipeline.loops.calibration import LEARNED_SCHEMA
from engagement_pipeline.loops.intervals import beta_equal_tailed, poisson_exact, wilson
from engagement_pipeline.loops.shrinkage import GroupPriors, fit_group_priors, posterior
from engagement_pipeline.signals.activity import first_reads
from engagement_pipeline.signals.attribution import with_attribution
from engagement_pipeline.signals.sources import Rows, lazy
from engagement_pipeline.signals.windows import Horizon

ENGAGEMENT_RATE = "engagement-rate:"
ENGAGEMENT_RATE_PRIMARY = "engagement-rate-primary:"
READ_RATE = "read-rate:"
READ_RATE_PRIMARY = "read-rate-primary:"
READ_RATE_SHRUNK = "read-rate-shrunk:"
"""What the keys of this loop's calibrations begin with; the feature follows.

First reads a day, and first reads by notifications sent; `-primary`: the part of them that rests
on best-effort attribution; `-shrunk`: drawn towards what organisations have in common.
"""

ENGAGED_COLUMNS = ("org_id", "feature", "attribution", "n")
SENT_COLUMNS = ("org_id", "feature", "attribution", "n_sent", "n_read")

_PAIR = ("org_id", "feature")
_DECIMALS = 4


def compute_engagement_scale(count: float | None, days: float | None) -> float:
    """How often a day: `count / days`, rounded to 4 decimals.

    Where either is missing, zero, negative or not finite, or the quotient is beyond every float,
    it is 0.
    """
    try:
        numerator, denominator = float(count or 0), float(days or 0)
    except OverflowError:  # A whole number beyond every float.
        return 0.0
    if not (numerator > 0 and denominator > 0):
        return 0.0
    per_day = numerator / denominator
    return round(per_day, _DECIMALS) if math.isfinite(per_day) else 0.0


def notification_facts(
    notifications: IntoFrame, reads: IntoFrame, memberships: IntoFrame, *, as_of: datetime
) -> Rows:
    """The notifications known at `as_of` that belong to an organisation, not yet computed.

    Rows that have been read are what `ENGAGE` is emitted for, once each, whatever revisits
    follow; rows sent in a window are what read rates are counted from.

    Args:
        notifications: `notification_id` (unique), `user_id`, `org_id` (nullable), `feature`,
            `sent_at`. Instants here and below are Int64 microseconds since the epoch.
        reads: `notification_id`, `read_at`, revisits included.
        memberships: `user_id`, `org_id`, `joined_at`, `left_at` (nullable).
        as_of: the moment, with a time zone; what came later is not known.

    Returns:
        `notification_id`, `org_id`, `user_id`, `feature`, `sent_at`, `first_read_at` (nullable),
        `attribution`. The organisation is that at the first read, and of an unread notification
        that at the sending. Of whom no membership holds then, there is no row.

    Raises:
        ValueError: `as_of` has no time zone.
    """
    horizon = Horizon.at(as_of)
    touches = (
        lazy(notifications)
        .filter(horizon.knows(nw.col("sent_at")))
        .select("notification_id", "org_id", "user_id", "feature", "sent_at")
        .join(first_reads(lazy(reads), horizon), on="notification_id", how="left")
        .with_columns(nw.coalesce("first_read_at", "sent_at").alias("at"))
    )
    return with_attribution(touches, lazy(memberships)).drop("at")


def read_rate_priors(sent: pl.DataFrame) -> GroupPriors:
    """What organisations have in common: per feature, the prior of their read rates.

    To be fitted once, over all organisations, before `learn_engagement` learns for any of them.

    Args:
        sent: as for `learn_engagement`, of all organisations.
    """
    units = (
        _checked(sent, SENT_COLUMNS)
        .group_by(_PAIR)
        .agg(pl.col("n_read").sum().alias("successes"), pl.col("n_sent").sum().alias("trials"))
    )
    return fit_group_priors(units, group="feature")


def learn_engagement(
    org_ids: Collection[str],
    engaged: pl.DataFrame,
    sent: pl.DataFrame,
    *,
    days: float,
    priors: GroupPriors,
) -> pl.DataFrame:
    """Engagement and read rates of organisations, feature by feature.

    A feature without signals has no engagement rate, and one of which nothing was sent has no read
    rate. `n` counts what is attributed for certain (`explicit`, `sole`); the part that is
    `primary` is in the value too, and by itself under a key of its own.

    Args:
        org_ids: whom to learn for; rows of others are not looked at.
        engaged: `org_id`, `feature`, `attribution`, `n`: first reads in the window.
        sent: `org_id`, `feature`, `attribution`, `n_sent`, `n_read`: notifications sent in the
            window, and those of them read at its end.
        days: length of the window.
        priors: from `read_rate_priors`.

    Returns:
        Rows of `calibration.LEARNED_SCHEMA`, sorted by `org_id, key`, with 95 % intervals: exact
        Poisson of engagement rates, Wilson's of read rates, and the equal-tailed interval of the
        posterior of shrunken ones.

    Raises:
        ValueError: a column is missing, a count is negative or missing, more were read than sent,
            an attribution is unknown, or `days` is not a positive number.
    """
    if not (math.isfinite(days) and days > 0):
        raise ValueError(f"days must be a positive number, and it is {days}")
    theirs = pl.col("org_id").is_in(list(org_ids))
    first_reads_there = _checked(engaged, ENGAGED_COLUMNS).filter(theirs)
    sendings = _checked(sent, SENT_COLUMNS).filter(theirs)
    _refuse_unsound(first_reads_there, ["n"])
    _refuse_unsound(sendings, ["n_sent", "n_read"])
    is_primary = pl.col("attribution") == "primary"
    certain = pl.when(~is_primary)
    all_reads = first_reads_there.group_by(_PAIR).agg(
        pl.col("n").sum().alias("count"), certain.then(pl.col("n")).sum().alias("n")
    )
    primary_reads = (
        first_reads_there.filter(is_primary)
        .group_by(_PAIR)
        .agg(pl.col("n").sum().alias("count"), pl.col("n").sum())
    )
    counts = (pl.col("n_read").sum(), pl.col("n_sent").sum())
    all_sent = sendings.group_by(_PAIR).agg(
        *counts, certain.then(pl.col("n_sent")).sum().alias("n")
    )
    primary_sent = (
        sendings.filter(is_primary).group_by(_PAIR).agg(*counts, pl.col("n_sent").sum().alias("n"))
    )
    learned = [
        _engagement_rates(ENGAGEMENT_RATE, all_reads, days),
        _engagement_rates(ENGAGEMENT_RATE_PRIMARY, primary_reads, days),
        _read_rates(READ_RATE, all_sent),
        _read_rates(READ_RATE_PRIMARY, primary_sent),
        _shrunken_read_rates(all_sent, priors),
    ]
    return pl.concat(learned).sort("org_id", "key")


def _engagement_rates(prefix: str, found: pl.DataFrame, days: float) -> pl.DataFrame:
    found = found.filter(pl.col("count") > 0)
    lower, upper = poisson_exact(found["count"])
    counts = {"value": found["count"].to_list(), "lower": lower.tolist(), "upper": upper.tolist()}
    a_day = {
        name: [compute_engagement_scale(count, days) for count in column]
        for name, column in counts.items()
    }
    return _rows(prefix, found, **a_day)


def _read_rates(prefix: str, found: pl.DataFrame) -> pl.DataFrame:
    found = found.filter(pl.col("n_sent") > 0)
    lower, upper = wilson(found["n_read"], found["n_sent"])
    return _rows(prefix, found, value=found["n_read"] / found["n_sent"], lower=lower, upper=upper)


def _shrunken_read_rates(found: pl.DataFrame, priors: GroupPriors) -> pl.DataFrame:
    found = found.filter(pl.col("n_sent") > 0)
    before = [priors.of(feature) for feature in found["feature"]]
    alpha, beta = posterior(
        found["n_read"],
        found["n_sent"],
        np.array([prior.alpha for prior in before]),
        np.array([prior.beta for prior in before]),
    )
    lower, upper = beta_equal_tailed(alpha, beta)
    return _rows(READ_RATE_SHRUNK, found, value=alpha / (alpha + beta), lower=lower, upper=upper)


def _rows(prefix: str, found: pl.DataFrame, **columns: object) -> pl.DataFrame:
    named = found.select("org_id", (pl.lit(prefix) + pl.col("feature")).alias("key"), "n")
    numbers = pl.DataFrame(columns)
    rows = pl.concat([named, numbers], how="horizontal")
    return rows.select(list(LEARNED_SCHEMA)).cast(LEARNED_SCHEMA)


def _checked(frame: pl.DataFrame, columns: Collection[str]) -> pl.DataFrame:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(f"expected the columns {list(columns)}, and found {frame.columns}")
    return frame


def _refuse_unsound(counted: pl.DataFrame, counts: list[str]) -> None:
    unsound = pl.any_horizontal(pl.col(name).is_null() | (pl.col(name) < 0) for name in counts)
    if "n_read" in counts:
        unsound = unsound | (pl.col("n_read") > pl.col("n_sent"))
    unknown = ~pl.col("attribution").is_in(ATTRIBUTIONS) | pl.col("attribution").is_null()
    wrong = counted.filter(unsound | unknown)
    if not wrong.is_empty():
        raise ValueError(
            f"expected attributions of {', '.join(ATTRIBUTIONS)}, and counts from 0, no more read "
            f"than sent; found {wrong.row(0, named=True)}"
        )
