"""The hour, and perhaps the weekday, that a message to a member is best sent at.

Here belong the smoothed profile of a member's hours, and the choice of one. What is counted belongs
to `timing_counts`; learning a model, and whether it may serve, to `timing_training`.
"""

from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from engagement_pipeline.behavior.local_time import INSTANT, known_zones
from engagement_pipeline.signals.windows import microseconds

HOURS = 24
WEEKDAYS = 7
PRIOR_EVENTS = 10
"""How many events of a member's own weigh as much as the organisation's hours."""

OWN_EVENTS_NEEDED = 10
"""From how many events of a member's own a model is asked."""

DEFAULT_HOUR = 14

FEATURES = ("local_hour", "local_weekday", "log_share")
"""What a model of timing takes, in this order: hour 0 to 23, weekday 1 (Monday) to 7, and the log
of the member's smoothed share of activity in that hour."""

LEAST_SHARE = 0.005
"""What the share of an hour is taken for at least: one that nobody was ever seen in has none, of
which there is no logarithm. An eighth of an even share is as rare as ten events can tell."""

_SHARE_DECIMALS = 2
"""To how many decimals the log of a share is told: a hundredth of it is finer than counts can bear,
and messages that are alike then can be counted together."""

BEST_TIMES_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "best_hour": pl.Int64(),
        "best_weekday": pl.Int64(),
        "timing_model": pl.String(),
        "timezone": pl.String(),
    }
)

Model: TypeAlias = Any
"""A fitted scikit-learn classifier over `FEATURES`, of which `decision_function` is used."""

_Counts: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]
_PAIR = ("org_id", "user_id")
_CHUNK = 50_000


def smoothed_share(n_hour: pl.Expr, n: pl.Expr, org_n_hour: pl.Expr, org_n: pl.Expr) -> pl.Expr:
    """A member's share of activity in an hour: (n_h + 10 p_h) / (N + 10), p_h the organisation's.

    The mean of a Dirichlet posterior whose prior is the organisation's hours, with the weight of
    ten events (A. Gelman et al., "Bayesian Data Analysis", 2013, section 3.4).

    Args:
        n_hour: the member's events in the hour.
        n: the member's events.
        org_n_hour: the organisation's events in the hour, the member's among them.
        org_n: the organisation's events. Where it has none, all hours are alike.
    """
    p_hour = pl.when(org_n > 0).then(org_n_hour / org_n).otherwise(1 / HOURS)
    return (n_hour + PRIOR_EVENTS * p_hour) / (n + PRIOR_EVENTS)


def log_share(share: pl.Expr) -> pl.Expr:
    """The logarithm of a share as models take it: of 0.005 at least, to two decimals."""
    return share.clip(lower_bound=LEAST_SHARE).log().round(_SHARE_DECIMALS)


def best_times(
    activity: pl.DataFrame,
    members: pl.DataFrame,
    model: Model | None,
    *,
    as_of: datetime,
) -> pl.DataFrame:
    """The best hour for each member, in the member's zone, and how it was found.

    - `logistic_regression`: the model's best hour and weekday, for who has ten events or more.
    - `own_hours`: the hour with the largest smoothed share, for who has any.
    - `org_hours`: the organisation's hour with most activity, for who has none.
    - `default`: 14:00, where nobody in the organisation was ever seen.

    Among equal hours or weekdays the smaller is taken.

    Args:
        activity: rows of `timing_counts.ACTIVITY_SCHEMA`; those known at another moment than
            `as_of` are not looked at.
        members: `org_id`, `user_id`, `timezone` (nullable: UTC), one row each.
        model: a fitted classifier over `FEATURES`, or none. It adds up what the three of them
            say, as a logistic regression does.
        as_of: the moment, with a time zone.

    Returns:
        Rows of `BEST_TIMES_SCHEMA`, sorted by `org_id, user_id`; `best_weekday` (1, Monday, to 7)
        is null where no model was asked.

    Raises:
        ValueError: `as_of` has no time zone.
    """
    microseconds(as_of)
    known = activity.filter(pl.col("known_at") == pl.lit(as_of.astimezone(UTC), dtype=INSTANT))
    people = members.select(*_PAIR, known_zones(members["timezone"])).sort(_PAIR)
    orgs = people.select("org_id").unique().sort("org_id").with_row_index("org")
    by_org = known.join(orgs, on="org_id").group_by("org", "local_hour").agg(pl.col("n").sum())
    org_counts = _by_hour(by_org, "org", orgs.height)
    placed = people.join(orgs, on="org_id", maintain_order="left")
    parts = [
        _chosen(part.with_row_index("member"), known, org_counts, model)
        for part in placed.iter_slices(_CHUNK)
    ]
    found = pl.concat(parts) if parts else pl.DataFrame(schema=BEST_TIMES_SCHEMA)
    return found.select(BEST_TIMES_SCHEMA.names())


def _chosen(
    people: pl.DataFrame, known: pl.DataFrame, org_counts: _Counts, model: Model | None
) -> pl.DataFrame:
    own = _by_hour(people.select("member", *_PAIR).join(known, on=_PAIR), "member", people.height)
    theirs = org_counts[people["org"].to_numpy()]
    n, org_n = own.sum(axis=1), theirs.sum(axis=1)
    # The smoothed share by (N + 10) times the organisation's events: whole numbers tie exactly.
    weight = own * org_n[:, None] + PRIOR_EVENTS * theirs
    hour = np.where(org_n > 0, weight.argmax(axis=1), DEFAULT_HOUR)
    source = np.select([n > 0, org_n > 0], ["own_hours", "org_hours"], "default")
    weekday = np.zeros(people.height, dtype=np.int64)
    if model is not None:
        is_asked = n >= OWN_EVENTS_NEEDED
        share = weight[is_asked] / ((n + PRIOR_EVENTS) * org_n)[is_asked, None]
        hour[is_asked], weekday[is_asked] = _by_model(model, share)
        source = np.where(is_asked, "logistic_regression", source)
    return people.with_columns(
        pl.Series("best_hour", hour, pl.Int64),
        pl.Series("best_weekday", weekday, pl.Int64).replace(0, None),
        pl.Series("timing_model", source.tolist(), pl.String),
    )


def _by_hour(counted: pl.DataFrame, place: str, height: int) -> _Counts:
    """Events by row and hour: `height` x 24."""
    table = np.zeros((height, HOURS), dtype=np.int64)
    rows, hours = counted[place].to_numpy(), counted["local_hour"].to_numpy()
    np.add.at(table, (rows, hours), counted["n"].to_numpy())
    return table


def _by_model(model: Model, share: _Floats) -> tuple[_Counts, int]:
    """The best hour of each row of shares (n x 24), and the weekday that is best at any hour.

    The features add up, so that a hundred points tell what the model says of every member.
    """
    hours = np.arange(HOURS)
    by_hour = _decision(model, hours, np.ones(HOURS), np.zeros(HOURS))
    slope = float(np.diff(_decision(model, np.zeros(2), np.ones(2), np.array([0.0, 1.0])))[0])
    weekdays = np.arange(1, WEEKDAYS + 1)
    by_weekday = _decision(model, np.zeros(WEEKDAYS), weekdays, np.zeros(WEEKDAYS))
    logs = np.round(np.log(np.maximum(share, LEAST_SHARE)), _SHARE_DECIMALS)
    score = by_hour + slope * logs
    return score.argmax(axis=1), int(weekdays[by_weekday.argmax()])


def _decision(model: Model, hour: Any, weekday: Any, log: Any) -> _Floats:
    found: _Floats = model.decision_function(np.column_stack([hour, weekday, log]))
    return found
