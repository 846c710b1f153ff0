"""What a simulated year of outreach teaches: which templates answer best, and members' own hours.

By the pipeline's own rooms, once a week. How a year is lived through is in
`benchmarks.outreach_year`.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.outreach_people import DAY, NEVER, START, People
from engagement_pipeline.behavior.local_time import INSTANT, with_local_time
from engagement_pipeline.behavior.timing import DEFAULT_HOUR, best_times
from engagement_pipeline.loops.calibration import WINDOW
from engagement_pipeline.loops.routing import (
    RESPONSE,
    SILENCE,
    arms_in_force,
    arms_seen,
    learn_arms,
)
from engagement_pipeline.outreach.cycle_stats import CycleStats
from engagement_pipeline.outreach.responses import outcomes
from engagement_pipeline.outreach.templates import catalogue
from engagement_pipeline.outreach.wording import Wording

FLOOR = 0.05
_SIGNALS = dict.fromkeys(("org_id", "subject", "kind"), pl.String()) | {"sent_at": INSTANT}


class Sent(NamedTuple):
    """A message that went out."""

    message_id: str
    member: int
    outreach_type: str
    tone: str
    trigger: str
    occasion: str
    template_id: str
    slots: tuple[tuple[str, str | None], ...]
    planned_at: datetime
    sent_at: datetime


@dataclass
class Log:
    """What happened.

    Attributes:
        sent: all messages, in their order.
        withheld: what members of the holdout would have been sent: member and when.
        enrolled: member, moment and arm of all that was planned.
        cancelled: why planned messages were not sent, and how often.
        responses: what came of messages alone: member and when.
        stats: the counts of each cycle.
    """

    sent: list[Sent] = field(default_factory=list)
    withheld: list[tuple[int, datetime]] = field(default_factory=list)
    enrolled: list[tuple[int, datetime, str]] = field(default_factory=list)
    cancelled: Counter[str] = field(default_factory=Counter)
    responses: list[tuple[int, datetime]] = field(default_factory=list)
    stats: list[CycleStats] = field(default_factory=list)


class Learning:
    """What is known so far.

    Attributes:
        wording: what texts are chosen by.
        best_hour: of each member, by the own clock.
    """

    def __init__(self, who: People, seed: int) -> None:
        self._who, self._seed = who, seed
        self._place = {pair: member for member, pair in enumerate(who.pairs)}
        self._signals = pl.DataFrame(schema=_SIGNALS)
        counts = {"member": pl.Int64, "local_hour": pl.Int8, "n": pl.Int64}
        self._hours = pl.DataFrame(schema=counts)
        self._learned_until = START
        self.best_hour = [DEFAULT_HOUR] * len(who.pairs)
        self.wording = self._words(None)

    def learn(self, log: Log, now: datetime) -> None:
        """Take in what came of messages, and what members did, since the last time."""
        done = self._interactions(log, self._learned_until, now)
        self._learn_hours(done, now)
        sent = [
            (m.message_id, *self._who.pairs[m.member], m.outreach_type, m.template_id, m.sent_at)
            for m in log.sent
            if m.sent_at > self._learned_until - DAY
        ]
        names = ("message_id", "org_id", "user_id", "outreach_type", "template_id")
        schema = dict.fromkeys(names, pl.String()) | {"sent_at": INSTANT}
        messages = pl.DataFrame(sent, schema=schema, orient="row")
        since = self._interactions(log, self._learned_until - DAY, now)
        learned = pl.col("sent_at").is_between(self._learned_until - DAY, now - DAY, closed="right")
        found = outcomes(messages, since, known_until=now).filter(learned)
        new = found.select(
            "org_id",
            pl.concat_str("outreach_type", "template_id", separator=":").alias("subject"),
            pl.when("is_response").then(pl.lit(RESPONSE)).otherwise(pl.lit(SILENCE)).alias("kind"),
            "sent_at",
        )
        self._signals = pl.concat([self._signals, new]).filter(pl.col("sent_at") > now - WINDOW)
        arms = arms_seen(self._signals, sorted({org_id for org_id, _ in self._who.pairs}))
        self.wording = self._words(
            arms_in_force(learn_arms(self._signals, arms, as_of=now), as_of=now)
        )
        self._learned_until = now

    def _words(self, arms: pl.DataFrame | None) -> Wording:
        return Wording(catalogue(), arms=arms, floor=FLOOR, seed=self._seed)

    def _interactions(self, log: Log, after: datetime, until: datetime) -> pl.DataFrame:
        """All that was done in `(after, until]`, of oneself or in response."""
        first, last = ((moment - START) // DAY for moment in (after, until))
        at = self._who.natural[:, max(first, 0) : last]
        members, columns = np.nonzero(at != NEVER)
        rows = [
            (int(member), START + timedelta(seconds=int(at[member, column])))
            for member, column in zip(members, columns, strict=True)
        ]
        rows += [(m, moment) for m, moment in log.responses if after < moment <= until]
        return pl.DataFrame(
            [(f"{m}:{moment}", *self._who.pairs[m], m, moment, None, None) for m, moment in rows],
            schema={
                **dict.fromkeys(("interaction_id", "org_id", "user_id"), pl.String()),
                "member": pl.Int64,
                "sent_at": INSTANT,
                "sentiment": pl.Float64,
                "is_meaningful": pl.Boolean,
            },
            orient="row",
        )

    def _learn_hours(self, done: pl.DataFrame, now: datetime) -> None:
        zones = pl.Series(list(self._who.zones))
        seen = with_local_time(done.with_columns(timezone=zones[done["member"]]), "sent_at")
        counted = seen.group_by("member", "local_hour").agg(n=pl.len().cast(pl.Int64))
        both = pl.concat([self._hours, counted])
        self._hours = both.group_by("member", "local_hour").agg(pl.col("n").sum())
        members = pl.DataFrame(list(self._who.pairs), schema=["org_id", "user_id"], orient="row")
        members = members.with_columns(timezone=zones)
        activity = (
            members.with_row_index("member")
            .cast({"member": pl.Int64})
            .join(self._hours, on="member")
            .with_columns(known_at=pl.lit(now, dtype=INSTANT))
        )
        best = best_times(activity, members, None, as_of=now)
        for org_id, user_id, hour in best.select("org_id", "user_id", "best_hour").iter_rows():
            self.best_hour[self._place[org_id, user_id]] = hour
