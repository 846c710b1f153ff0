"""Ranking: which template answers best to outreach, and which is chosen for the next.

Here belongs what is believed of each template's response rate, and the choice by it. Which types
of outreach a member may get, what a template says, and what counts as a response, is `outreach`'s.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.loops.calibration import EXPIRES_AFTER, LEARNED_SCHEMA

ARCHETYPE = "ranking"
RESPONSE, SILENCE = "RESPONSE", "SILENCE"
POSTERIORS = contract("loops.arm_posteriors")

PRIOR_OUTREACHES = 20
"""Outreaches of other organisations that a prior counts for at most."""

_ARM = ["outreach_type", "template_id"]
_QUANTILES = np.concatenate([[0.0], (np.arange(128) + 0.5) / 128, [1.0]])
_UNITS = 2.0**53


class RoutingInputError(ValueError):
    """Arms or settings that nothing can be chosen by; the text says why."""


@dataclass(frozen=True)
class Choice:
    """A template, and how probable its choice was.

    Attributes:
        template_id: the template.
        propensity: in (0, 1]; what a later estimate weights the choice by.
    """

    template_id: str
    propensity: float


def subject_of(outreach_type: str, template_id: str) -> str:
    """The subject of a loop signal about an outreach, and the end of its calibrations' keys.

    Raises:
        RoutingInputError: the type has a colon, so the two could not be told apart.
    """
    if ":" in outreach_type:
        raise RoutingInputError(
            f"expected a type of outreach without a colon, found {outreach_type!r}"
        )
    return f"{outreach_type}:{template_id}"


def response_signals(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Outreaches that were answered, or not, as loop signals.

    Args:
        outcomes: `org_id`, `user_id`, `outreach_type`, `template_id`, `kind` (`RESPONSE` or
            `SILENCE`), `value`, `occurred_at` and `source_key` (the message).

    Returns:
        Rows of `loops.signals` without their ids, in the order of `outcomes`.

    Raises:
        RoutingInputError: a type of outreach has a colon.
    """
    return (
        _with_subjects(outcomes)
        .with_columns(archetype=pl.lit(ARCHETYPE), attribution=pl.lit(None, dtype=pl.String))
        .drop(_ARM)
    )


def settled(signals: pl.DataFrame) -> pl.DataFrame:
    """The signals that count: a silence whose response arrived late is none.

    Signals are only ever added, so such a message has both.

    Args:
        signals: rows of `loops.signals` of this loop.
    """
    answered = signals.filter(pl.col("kind") == RESPONSE).select("source_key")
    return pl.concat(
        [
            signals.filter(pl.col("kind") != SILENCE),
            signals.filter(pl.col("kind") == SILENCE).join(answered, on="source_key", how="anti"),
        ]
    )


def learn_arms(signals: pl.DataFrame, known_arms: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
    """What is believed of each arm's response rate: a Beta distribution.

    Responses and silences are added to a prior: to the uniform Beta(1, 1), and what the other
    organisations' outreaches by the same template came to, which counts for at most
    `PRIOR_OUTREACHES` of them. The organisation's own are not among those, or they would count
    twice. (Conjugate posterior of a proportion: A. Gelman et al., "Bayesian Data Analysis", 3rd
    ed., 2013, section 2.4.)

    Args:
        signals: `org_id`, `subject` (see `subject_of`) and `kind`, of the window, of all
            organisations, of each message one (see `settled`). Kinds other than `RESPONSE` and
            `SILENCE` are passed over, and so are arms that are not known.
        known_arms: `org_id`, `outreach_type` and `template_id`: who is to have a posterior.
        as_of: the moment that they are computed for, with a time zone.

    Returns:
        Rows of `loops.arm_posteriors`, one a known arm, sorted by their key.

    Raises:
        RoutingInputError: a type of outreach has a colon.
        ContractViolationError: a known arm comes twice, or breaks the contract otherwise.
    """
    own = _counted(signals)
    of_all = own.group_by("subject").agg(
        all_responses=pl.col("responses").sum(), all_n=pl.col("n").sum()
    )
    others, responses = pl.col("all_n") - pl.col("n"), pl.col("all_responses") - pl.col("responses")
    # Where there are no others their responses are none either, whatever the strength.
    strength = pl.min_horizontal(pl.lit(1.0), PRIOR_OUTREACHES / pl.max_horizontal(others, 1))
    instant = POSTERIORS.polars_schema["computed_at"]
    rows = (
        _with_subjects(known_arms)
        .join(own, on=["org_id", "subject"], how="left")
        .join(of_all, on="subject", how="left")
        .with_columns(pl.col("responses", "n", "all_responses", "all_n").fill_null(0))
        .with_columns(
            alpha=1 + strength * responses + pl.col("responses"),
            beta=1 + strength * (others - responses) + pl.col("n") - pl.col("responses"),
            computed_at=pl.lit(as_of, dtype=instant),
            expires_at=pl.lit(as_of + EXPIRES_AFTER, dtype=instant),
        )
    )
    schema = POSTERIORS.polars_schema
    columns = rows.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    return POSTERIORS.validate(columns.sort(POSTERIORS.key))


def arms_seen(signals: pl.DataFrame, org_ids: Collection[str]) -> pl.DataFrame:
    """Every template that any organisation has tried, for each of some organisations.

    So an organisation that begins with a template begins with what others made of it.

    Args:
        signals: as for `learn_arms`.
        org_ids: who is to have a posterior.

    Returns:
        `org_id`, `outreach_type` and `template_id`, as `learn_arms` takes them.
    """
    tried = signals.filter(pl.col("kind").is_in([RESPONSE, SILENCE]))
    named = tried.select(
        pl.col("subject").str.splitn(":", 2).struct.rename_fields(["outreach_type", "template_id"])
    ).unnest("subject")
    orgs = pl.DataFrame({"org_id": sorted(org_ids)}, schema={"org_id": pl.String})
    return orgs.join(named.unique().sort("outreach_type", "template_id"), how="cross")


def learned_rates(posteriors: pl.DataFrame) -> pl.DataFrame:
    """The response rate of each arm that an organisation has used, as calibrations.

    Args:
        posteriors: rows of `loops.arm_posteriors` of one moment.

    Returns:
        Rows of `LEARNED_SCHEMA`, the key `response-rate:<type>:<template>`: the posterior's mean,
        its equal-tailed 95 % interval, and the organisation's own outreaches. An arm without any
        has no row: what others make of it is not what this organisation learned.
    """
    # It imports SciPy, which takes seconds, and who draws signals alone need not wait for it.
    from engagement_pipeline.loops.intervals import beta_equal_tailed

    used = _with_subjects(posteriors.filter(pl.col("n") > 0))
    lower, upper = beta_equal_tailed(used["alpha"].to_numpy(), used["beta"].to_numpy())
    rows = used.with_columns(
        key="response-rate:" + pl.col("subject"),
        value=pl.col("alpha") / (pl.col("alpha") + pl.col("beta")),
        lower=pl.Series(lower, dtype=pl.Float64),
        upper=pl.Series(upper, dtype=pl.Float64),
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in LEARNED_SCHEMA.items()).sort(
        "org_id", "key"
    )


def arms_in_force(posteriors: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
    """The posteriors in force at `as_of`: at most one an arm.

    Args:
        posteriors: rows of `loops.arm_posteriors`, in any order; those computed for later moments
            are invisible.
        as_of: the moment, with a time zone.

    Returns:
        Rows of `posteriors`, sorted by organisation, type and template.
    """
    return (
        posteriors.filter((pl.col("computed_at") <= as_of) & (pl.col("expires_at") > as_of))
        .sort("computed_at")
        .unique(["org_id", *_ARM], keep="last", maintain_order=True)
        .sort("org_id", *_ARM)
    )


def propensities(arms: pl.DataFrame, *, floor: float) -> npt.NDArray[np.float64]:
    """How probably each arm is chosen: `floor / K + (1 - floor) * P(its rate is the highest)`.

    That is Thompson sampling (W. R. Thompson, Biometrika 25, 1933; O. Chapelle, L. Li, "An
    empirical evaluation of Thompson sampling", NIPS 2011) with a floor of exploration, its
    probabilities being computed rather than sampled. That an arm's rate is the highest of
    independent ones is the integral of `prod F_j` over `dF_k`, taken by the trapezoidal rule over
    the quantiles of all arms, which lie close wherever a distribution is peaked.

    Args:
        arms: `alpha` and `beta` of each arm of one organisation and type of outreach; null in both
            where nothing is believed of it yet, which counts as Beta(1, 1).
        floor: share of choices drawn from all arms alike, in [0, 1].

    Returns:
        Probabilities in the order of `arms`, correct to 0.001, each at least `floor / K`. They sum
        to 1. Without any posterior they are all alike.

    Raises:
        RoutingInputError: there is no arm, a parameter is not above zero, or the floor is outside
            [0, 1].
    """
    return _propensities(arms["alpha"].to_list(), arms["beta"].to_list(), floor)


def choose(arms: pl.DataFrame, *, floor: float, seed: int, key: str) -> Choice:
    """Choose a template, by the very probabilities that `propensities` gives.

    The chance is drawn from `seed` and `key` alone, so the same outreach gets the same template
    again, in whatever order the arms come.

    Args:
        arms: `template_id`, `alpha` and `beta`, as `propensities` takes them.
        floor: share of choices drawn from all arms alike, in [0, 1].
        seed: of all choices.
        key: what is chosen for, such as the id of a message; another one for each choice.

    Raises:
        RoutingInputError: a template comes twice, or as `propensities` says.
    """
    return Chooser(arms, floor=floor).choose(seed=seed, key=key)


class Chooser:
    """`choose` among the same arms, again and again: all that they alone tell is told once."""

    def __init__(self, arms: pl.DataFrame, *, floor: float) -> None:
        """Take the arms; what is taken and raised is as in `choose`."""
        columns = (arms[name].to_list() for name in ("template_id", "alpha", "beta"))
        rows = sorted(zip(*columns, strict=True), key=itemgetter(0))
        self._templates = [row[0] for row in rows]
        if len(set(self._templates)) < len(rows):
            raise RoutingInputError(f"arms: expected each template once, found {self._templates!r}")
        chances = _propensities([row[1] for row in rows], [row[2] for row in rows], floor)
        # Plain lists: this is gone by for every message.
        self._chances = [1.0] if len(rows) == 1 else chances.tolist()
        # Rounding can leave the sum, and so the last bound, a trifle below the number drawn.
        self._bounds = np.cumsum(chances)[:-1].tolist()

    def choose(self, *, seed: int, key: str) -> Choice:
        """As `choose` does."""
        drawn = bisect_right(self._bounds, _uniform(seed, key))
        return Choice(self._templates[drawn], self._chances[drawn])


def _counted(signals: pl.DataFrame) -> pl.DataFrame:
    return (
        signals.filter(pl.col("kind").is_in([RESPONSE, SILENCE]))
        .group_by("org_id", "subject")
        .agg(
            responses=(pl.col("kind") == RESPONSE).sum().cast(pl.Int64),
            n=pl.len().cast(pl.Int64),
        )
    )


def _with_subjects(arms: pl.DataFrame) -> pl.DataFrame:
    for outreach_type in arms["outreach_type"].unique():
        subject_of(outreach_type, "")
    return arms.with_columns(subject=pl.concat_str(_ARM, separator=":"))


def _propensities(
    alpha: Sequence[float | None], beta: Sequence[float | None], floor: float
) -> npt.NDArray[np.float64]:
    if not 0 <= floor <= 1:
        raise RoutingInputError(f"floor: expected a share in [0, 1], found {floor!r}")
    if not alpha:
        raise RoutingInputError("arms: expected at least one, found none")
    parameters = tuple(
        (1.0 if a is None else float(a), 1.0 if b is None else float(b))
        for a, b in zip(alpha, beta, strict=True)
    )
    found: npt.NDArray[np.float64] = floor / len(alpha) + (1 - floor) * np.asarray(
        _best(parameters)
    )
    return found


# All members of an organisation choose among the same few arms until these are learned anew.
@lru_cache(maxsize=4_096)
def _best(parameters: tuple[tuple[float, float], ...]) -> tuple[float, ...]:
    """The probability of each of some independent Beta variables to be the highest."""
    alpha, beta = np.array(parameters).T[:, :, np.newaxis]
    if not (np.isfinite(alpha) & np.isfinite(beta) & (alpha > 0) & (beta > 0)).all():
        raise RoutingInputError(
            f"arms: expected finite parameters above zero, found {list(parameters)!r}"
        )
    if len(parameters) == 1:
        return (1.0,)
    # As above: who has but one template to choose from need not wait for it either.
    from scipy.stats import beta as beta_distribution

    nodes = np.unique(beta_distribution.ppf(_QUANTILES, alpha, beta))
    below = beta_distribution.cdf(nodes, alpha, beta)
    found = np.empty(len(parameters))
    for arm in range(len(parameters)):
        others = np.delete(below, arm, axis=0).prod(axis=0)
        found[arm] = np.trapezoid(others, below[arm])
    return tuple((found / found.sum()).tolist())


def _uniform(seed: int, key: str) -> float:
    """A number in [0, 1) that `seed` and `key` alone decide."""
    digest = hashlib.sha256(json.dumps([seed, key]).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / _UNITS
