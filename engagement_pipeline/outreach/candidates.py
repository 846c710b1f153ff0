"""What there is to say to each member at a moment, and how much each of it matters.

Here belong the triggers and their priorities. Whether a member may be written to at all belongs to
`decision`, how many messages are planned and when, to `planning`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from engagement_pipeline.behavior.local_time import INSTANT
from engagement_pipeline.outreach import occasions

MAX_PER_CYCLE = 2
"""How many messages are planned for a member in a cycle at most."""

CHURN_ABOVE = 0.8
NEAR_ABOVE = 0.8
MOOD_BELOW = -0.3
CELEBRATED_WITHIN = timedelta(days=14)
"""How long after it was reached a milestone is news, the end included."""

CALLED_WITHIN = timedelta(days=365)
"""How long an absence may be, the end included, for a member still to be called back."""

PRIORITIES = {
    "churn": 0.9,
    "milestone_reached": 0.85,
    "milestone_near": 0.8,
    "declining": 0.7,
    "low_mood": 0.65,
    "new_member": 0.62,
    "absent": 0.6,
    "topic": 0.5,
    "feature": 0.45,
}
"""How much each trigger matters, in [0, 1]."""

MEMBERS_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "segment": pl.String(),
        "created_at": INSTANT,
        "last_active_at": INSTANT,
        "churn_probability": pl.Float64(),
        "churn_model": pl.String(),
        "is_declining": pl.Boolean(),
        "mood_now": pl.Float64(),
        "topic_id": pl.String(),
        "topic": pl.String(),
        "feature": pl.String(),
    }
)
MILESTONES_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "milestone_id": pl.String(),
        "name": pl.String(),
        "metric": pl.String(),
        "share": pl.Float64(),
        "reached_at": INSTANT,
        "celebrated_at": INSTANT,
    }
)
USED_SCHEMA = pl.Schema(
    dict.fromkeys(("org_id", "user_id", "outreach_type", "occasion"), pl.String())
)
CANDIDATES_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "outreach_type": pl.String(),
        "trigger": pl.String(),
        "occasion": pl.String(),
        "priority": pl.Float64(),
        "milestone_id": pl.String(),
        "milestone": pl.String(),
        "topic": pl.String(),
        "feature": pl.String(),
    }
)

_PAIR = ["org_id", "user_id"]
_FOR_THE_TEAM = ("night_days", "early_days")
"""Metrics whose milestones members are not told of: when they are up is their own affair."""

_COME_BY_THEMSELVES = ("days_since_joined",)
"""Metrics that only time moves: their milestones are celebrated once they are reached."""


class CandidatesInputError(ValueError):
    """Rows that no candidates can be told from; the text says what was expected and found."""


@dataclass(frozen=True)
class _Rule:
    """A trigger: what it is worth writing for, to whom, and about which occasion.

    `slots` are what a text about it may name: a candidate's column by the column it comes from.
    """

    trigger: str
    outreach_type: str
    is_met: pl.Expr
    occasion: pl.Expr
    slots: tuple[tuple[str, str], ...] = ()

    def of(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        nothing = pl.lit(None, dtype=pl.String)
        slots = {name: pl.col(column) for name, column in self.slots}
        names = ("milestone_id", "milestone", "topic", "feature")
        return frame.filter(self.is_met).select(
            *_PAIR,
            outreach_type=pl.lit(self.outreach_type),
            trigger=pl.lit(self.trigger),
            occasion=self.occasion,
            priority=pl.lit(PRIORITIES[self.trigger]),
            **{name: slots.get(name, nothing) for name in names},
        )


def candidates(
    members: pl.DataFrame,
    milestones: pl.DataFrame,
    *,
    now: datetime,
    active_until: datetime | None = None,
    used: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """What each member could be written about at `now`: the best of each type of outreach.

    - `churn`: a model (the heuristic gives a rank, and no probability) fears it above 0.8.
    - `milestone_reached`: up to 14 days ago, and not celebrated. `milestone_near`: over 80 % done,
      unless it only takes time.
    - `declining`: the member does less and less. `low_mood`: mean sentiment is below -0.3.
    - `new_member`: the segment is `new_user`.
    - `absent`: for longer than 5, 7, 14 or 30 days; each step is an occasion of its own.
    - `topic`: an event was attended of late. `feature`: there is one that the member has not used.

    Nobody who has been absent for longer than 365 days is called back, be it for `churn` or for
    `absent`. Absence counts from the last activity up to `active_until`, after which nothing is
    known of any. Without any activity it counts from the account's creation up to `now`.

    Args:
        members: `MEMBERS_SCHEMA`, one row each. Nullable: `last_active_at` and all from
            `churn_probability` on. `topic_id` and `topic` are of the last event attended.
        milestones: `MILESTONES_SCHEMA`, one row a member and milestone; those of people who are not
            among `members` are passed over. `share` is of the way, in [0, 1].
        now: the moment, with a time zone.
        active_until: up to when activity is known, likewise; by default `now`.
        used: `USED_SCHEMA`: occasions that have had their message. Taken out before the best is
            looked for, so that the next best has its turn.

    Returns:
        Rows of `CANDIDATES_SCHEMA`, sorted by organisation and member, the highest priority first,
        then by type and occasion. At most one a member and type; of equal ones that with the
        smallest occasion.

    Raises:
        CandidatesInputError: a column is missing or of another type, or a row comes twice.
        ValueError: `now` or `active_until` has no time zone.
    """
    people = _checked(members, MEMBERS_SCHEMA, "members", _PAIR).lazy()
    theirs = _checked(milestones, MILESTONES_SCHEMA, "milestones", [*_PAIR, "milestone_id"])
    known = theirs.lazy().join(people, on=_PAIR, how="semi")
    found = [rule.of(people) for rule in _member_rules(now, active_until or now)]
    return _best_of_each_type([*found, *(rule.of(known) for rule in _milestone_rules(now))], used)


def celebrations(
    milestones: pl.DataFrame, now: datetime, used: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The milestones that were just reached and not celebrated, one a member.

    Args:
        milestones: as for `candidates`, of members who may be written to.
        now: the moment, with a time zone.
        used: as for `candidates`.

    Returns:
        Rows of `CANDIDATES_SCHEMA`, as `candidates` gives them.

    Raises:
        CandidatesInputError: a column is missing or of another type, or a row comes twice.
        ValueError: `now` has no time zone.
    """
    theirs = _checked(milestones, MILESTONES_SCHEMA, "milestones", [*_PAIR, "milestone_id"]).lazy()
    reached = [rule for rule in _milestone_rules(now) if rule.trigger == "milestone_reached"]
    return _best_of_each_type([rule.of(theirs) for rule in reached], used)


def _member_rules(now: datetime, active_until: datetime) -> Iterator[_Rule]:
    was_active = pl.col("last_active_at").is_not_null()
    until = pl.when(was_active).then(_moment(active_until)).otherwise(_moment(now))
    since = pl.coalesce("last_active_at", "created_at")
    is_called = until - since <= CALLED_WITHIN
    # Of `> 0.8` alone Polars would say that it holds for NaN.
    is_feared = pl.col("churn_probability").is_between(CHURN_ABOVE, 1, closed="right")
    is_by_a_model = pl.col("churn_model") != "heuristic"
    absence = occasions.absence(since, until)
    yield _Rule(
        "churn", "re_engagement", is_feared & is_by_a_model & is_called, occasions.churn(since)
    )
    yield _Rule(
        "declining",
        "personalized_checkin",
        pl.col("is_declining"),
        pl.lit(occasions.declining(now)),
    )
    yield _Rule(
        "low_mood",
        "mood_support",
        pl.col("mood_now") < MOOD_BELOW,
        pl.lit(occasions.low_mood(now)),
    )
    yield _Rule(
        "new_member",
        "personalized_checkin",
        pl.col("segment") == "new_user",
        pl.lit(occasions.WELCOME),
    )
    yield _Rule("absent", "re_engagement", absence.is_not_null() & is_called, absence)
    yield _Rule(
        "topic",
        "topic_follow_up",
        pl.col("topic_id").is_not_null(),
        occasions.topic(pl.col("topic_id")),
        (("topic", "topic"),),
    )
    yield _Rule(
        "feature",
        "feature_suggestion",
        pl.col("feature").is_not_null(),
        occasions.feature(pl.col("feature")),
        (("feature", "feature"),),
    )


def _milestone_rules(now: datetime) -> Iterator[_Rule]:
    moment, milestone_id = _moment(now), pl.col("milestone_id")
    named = (("milestone_id", "milestone_id"), ("milestone", "name"))
    reached_at = pl.col("reached_at")
    is_told = ~pl.col("metric").is_in(_FOR_THE_TEAM)
    yield _Rule(
        "milestone_reached",
        "milestone_celebration",
        reached_at.is_between(moment - CELEBRATED_WITHIN, moment)
        & pl.col("celebrated_at").is_null()
        & is_told,
        occasions.milestone_reached(milestone_id),
        named,
    )
    yield _Rule(
        "milestone_near",
        "milestone_celebration",
        reached_at.is_null()
        & pl.col("share").is_between(NEAR_ABOVE, 1, closed="right")
        & ~pl.col("metric").is_in(_COME_BY_THEMSELVES)
        & is_told,
        occasions.milestone_near(milestone_id),
        named,
    )


def _moment(now: datetime) -> pl.Expr:
    if now.utcoffset() is None:
        raise ValueError(f"now: expected a time zone, found none in {now.isoformat()}")
    return pl.lit(now.astimezone(UTC), dtype=INSTANT)


def _best_of_each_type(found: list[pl.LazyFrame], used: pl.DataFrame | None) -> pl.DataFrame:
    rows = pl.concat(found)
    if used is not None:
        gone = _checked(used, USED_SCHEMA, "used", []).lazy()
        rows = rows.join(gone, on=USED_SCHEMA.names(), how="anti")
    by = [*_PAIR, "priority", "outreach_type", "occasion"]
    in_order = rows.sort(by, descending=[name == "priority" for name in by])
    return (
        in_order.unique([*_PAIR, "outreach_type"], keep="first", maintain_order=True)
        .select(CANDIDATES_SCHEMA.names())
        .collect()
    )


def _checked(frame: pl.DataFrame, schema: pl.Schema, name: str, key: list[str]) -> pl.DataFrame:
    """The columns of a schema, typed. A column of nothing but nulls may have no type of its own."""
    for column, dtype in schema.items():
        found = frame.schema.get(column)
        if found is None:
            raise CandidatesInputError(
                f"{name}: expected a column {column}, found {', '.join(frame.columns)}"
            )
        if found not in (dtype, pl.Null):
            raise CandidatesInputError(f"{name}: expected {column} as {dtype}, found {found}")
    typed = frame.select(pl.col(column).cast(dtype) for column, dtype in schema.items())
    if key and typed.select(key).is_duplicated().any():
        row = typed.select(key).filter(typed.select(key).is_duplicated()).row(0)
        raise CandidatesInputError(f"{name}: expected one row for each {key}, found two of {row}")
    return typed
