"""What all engines of outreach plan by: rules, wording, reading, and adding what was planned.

The cycle itself is `outreach_cycle`'s, messages for milestones and by hand `outreach_occasional`'s.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import dagster as dg
import polars as pl

from engagement_pipeline.defs.delivering import rules_of
from engagement_pipeline.loops.routing import arms_in_force
from engagement_pipeline.outreach import occasions
from engagement_pipeline.outreach.candidates import USED_SCHEMA
from engagement_pipeline.outreach.decision import MemberState
from engagement_pipeline.outreach.delivery.gate import Rules
from engagement_pipeline.outreach.holdout import is_held_out
from engagement_pipeline.outreach.planning import (
    Candidate,
    Cycle,
    Planned,
    Recipient,
    caps_reach,
    check_signals,
    message_rows,
    plan_member,
    withheld_rows,
)
from engagement_pipeline.outreach.send_times import QuietHours
from engagement_pipeline.outreach.templates import Templates, catalogue
from engagement_pipeline.outreach.wording import Wording
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import calibrations as stored_calibrations
from engagement_pipeline.warehouse import outreach_plans as stored
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.outreach_members import MemberSlice, Reading
from engagement_pipeline.warehouse.signals import snapshot

DEFAULT_BEST_HOUR = 14
PAIR = ("org_id", "user_id")
STATE_COLUMNS = (
    *PAIR,
    "created_at",
    "last_active_at",
    "is_opted_out",
    "is_erased",
    "message_times",
    "withheld_times",
)
"""What of `MemberSlice.members` a decision is taken by."""

_OCCASION = (*PAIR, "outreach_type", "occasion")
_SAID = (*_OCCASION, "trigger", "priority", "tries", "milestone", "topic", "feature")
_Computed = TypeVar("_Computed")


def check_freshness(connection: Connection, settings: Settings, as_of: datetime) -> None:
    """Make sure that what was taken in last is of the moment that is planned for.

    Raises:
        StaleSignalsError: nothing was, or it is older than `max_signal_age_hours`, or later than
            the moment.
    """
    found = snapshot(connection)
    check_signals(
        found.as_of if found else None, as_of, max_age_hours=settings.max_signal_age_hours
    )


@dataclass
class Planner:
    """What all planning of one moment goes by, whichever engine plans.

    Attributes:
        connection: to the warehouse.
        rules: whom messages may go to, and when.
        cycle: the planning.
        reading: what is read for.
        wording: how texts are made.
        standing: member -> messages that this very cycle has planned before -> when they go.
        active_until: up to when members' activity is known; not after the moment planned for.
        log: told of what goes wrong.
        uses: organisation -> messages whose template was chosen by what was learned.
    """

    connection: Connection
    rules: Rules
    cycle: Cycle
    reading: Reading
    wording: Wording
    standing: dict[tuple[str, str], dict[str, datetime]]
    active_until: datetime
    log: dg.DagsterLogManager
    uses: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(
        cls,
        connection: Connection,
        settings: Settings,
        engine: str,
        as_of: datetime,
        log: dg.DagsterLogManager,
        templates: Templates | None = None,
    ) -> "Planner":
        """What planning of an engine goes by at a moment."""
        rules, channel = rules_of(settings), settings.outreach_channel
        taken_in = snapshot(connection)
        cycle_id = occasions.cycle_id(engine, as_of)
        return cls(
            connection,
            rules,
            Cycle(engine, cycle_id, as_of, rules.policy, channel),
            Reading(
                as_of,
                cycle_id,
                channel,
                caps_reach(rules.policy),
                timedelta(hours=settings.max_signal_age_hours),
                settings.gamification_enabled,
            ),
            Wording(
                catalogue() if templates is None else templates,
                arms=_arms(connection, as_of) if settings.loops_enabled else None,
                floor=settings.exploration_floor,
                seed=settings.seed,
            ),
            stored.standing(connection, cycle_id),
            min(taken_in.as_of, as_of) if taken_in else as_of,
            log,
        )

    def state(self, row: Sequence[Any]) -> MemberState:
        """A member as decisions are taken by; what is withheld of the holdout counts as sent.

        Activity is known up to `active_until` only, and who is active every day is not silent
        because of what has not been taken in. So the silence is that of then: the last activity is
        as long before `now` as it was before that. Without any, it counts from the account's
        creation, which is known at once.

        Args:
            row: the member's `STATE_COLUMNS`.
        """
        org_id, user_id, created_at, last_active_at, is_opted_out, is_erased, sent, withheld = row
        is_out = self.is_held_out(org_id, user_id)
        times = tuple(sent) if sent else ()
        if is_out and withheld:
            times += tuple(at for at in withheld if at <= self.cycle.now)
        if last_active_at is not None:
            last_active_at += self.cycle.now - self.active_until
        return MemberState(
            org_id, user_id, created_at, last_active_at, is_opted_out, is_out, is_erased, times
        )

    def is_held_out(self, org_id: str, user_id: str) -> bool:
        """Whether nothing is ever sent to a member."""
        salt, share = self.rules.holdout_salt, self.rules.holdout_share
        return is_held_out(org_id, user_id, salt=salt, share=share)

    def recipient(self, row: dict[str, Any], segment: str, tone: str) -> Recipient:
        """A member as messages are planned for."""
        org_id, user_id = row["org_id"], row["user_id"]
        is_out = self.is_held_out(org_id, user_id)
        times = [*(row["message_times"] or ()), *(row["planned_times"] or ())]
        if is_out:
            times += row["withheld_times"] or ()
        hour = row["best_hour"]
        return Recipient(
            org_id,
            user_id,
            segment,
            tone,
            row["zone"],
            DEFAULT_BEST_HOUR if hour is None else hour,
            self.quiet_hours(row["quiet_start"], row["quiet_end"]),
            times,
            (("name", row["display_name"]), ("org", row["org_name"])),
            is_out,
            self.standing.get((org_id, user_id), {}),
        )

    def quiet_hours(self, start: str | None, end: str | None) -> QuietHours | None:
        """A member's quiet hours, else those of the settings."""
        if start is None or end is None:
            start, end = self.rules.quiet_start, self.rules.quiet_end
        return _quiet_hours(start, end)

    def plan(
        self, members: pl.DataFrame, found: pl.DataFrame, cancelled: pl.DataFrame
    ) -> list[Planned]:
        """Plan for each member what there is to say.

        Args:
            members: with `segment` and `tone`, as `outreach_members` reads them.
            found: rows of `candidates.CANDIDATES_SCHEMA`, the best of each member first.
            cancelled: occasions with `tries`: how many of their messages were cancelled.
        """
        tried = found.join(cancelled, on=_OCCASION, how="left", maintain_order="left").with_columns(
            pl.col("tries").fill_null(0)
        )
        people = {
            (row["org_id"], row["user_id"]): row
            for row in members.join(tried, on=PAIR, how="semi").iter_rows(named=True)
        }
        planned: list[Planned] = []
        columns = (*_OCCASION, "trigger", "priority", "tries", "milestone", "topic", "feature")
        rows = tried.select(columns).iter_rows()
        for pair, theirs in groupby(rows, key=itemgetter(0, 1)):
            row = people[pair]
            recipient = self.recipient(row, row["segment"], row["tone"])
            listed = [_candidate(*one[2:]) for one in theirs]
            planned += plan_member(recipient, listed, self.cycle, self.wording)
        return planned

    def write(
        self, planned: Sequence[Planned], decisions: pl.DataFrame | None = None
    ) -> tuple[int, int]:
        """Add what was planned; gives how many messages came in, and how many withheld ones."""
        added = stored.add(
            self.connection,
            decisions=decisions,
            messages=message_rows(planned, self.cycle),
            withheld=withheld_rows(planned, self.cycle),
        )
        self.uses.update(
            one.recipient.org_id for one in planned if one.worded and one.worded.is_learned
        )
        return added

    def record_uses(self) -> None:
        """Write down which organisations' templates were chosen by what was learned."""
        if self.uses:
            stored_calibrations.record_uses(
                self.connection, "ranking", "template_choice", self.uses, as_of=self.cycle.now
            )


def isolated(
    part: MemberSlice,
    compute: Callable[[MemberSlice], _Computed],
    failed: dict[str, str],
    log: dg.DagsterLogManager,
) -> Iterator[_Computed]:
    """What `compute` makes of a slice; where it breaks, of all but the organisations to blame.

    Those are looked for by halves, so that one among thousands is soon found.

    Args:
        part: the slice; organisations that have failed before are left out.
        compute: what is done.
        failed: organisation -> why; what fails is added.
        log: told of what fails.
    """
    rest = _of_orgs(part, failed, are_in=False) if failed else part
    if rest.members.is_empty():
        return
    try:
        computed = compute(rest)
    except Exception as error:
        org_ids = rest.members["org_id"].unique().sort().to_list()
        if len(org_ids) == 1:
            failed[org_ids[0]] = f"{type(error).__name__}: {error}"
            log.exception(f"{org_ids[0]}: nobody was decided on: {error}")
            return
        middle = len(org_ids) // 2
        for half in (org_ids[:middle], org_ids[middle:]):
            yield from isolated(_of_orgs(rest, half, are_in=True), compute, failed, log)
    else:
        yield computed


def occasions_of(part: MemberSlice) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The occasions that had their message, and those whose messages were cancelled: `tries`."""
    is_cancelled = pl.col("is_cancelled")
    used = part.occasions.filter(~is_cancelled).select(USED_SCHEMA.names())
    tries = part.occasions.filter(is_cancelled).group_by(_OCCASION).agg(tries=pl.len())
    return used, tries


def _of_orgs(part: MemberSlice, org_ids: Any, *, are_in: bool) -> MemberSlice:
    listed = pl.col("org_id").is_in(list(org_ids))
    theirs = listed if are_in else ~listed
    return MemberSlice(
        part.members.filter(theirs), part.milestones.filter(theirs), part.occasions.filter(theirs)
    )


def _candidate(
    outreach_type: str,
    occasion: str,
    trigger: str,
    priority: float,
    tries: int,
    milestone: str | None,
    topic: str | None,
    feature: str | None,
) -> Candidate:
    slots = (("milestone", milestone), ("topic", topic), ("feature", feature))
    return Candidate(outreach_type, trigger, occasion, priority, tries, slots)


def _arms(connection: Connection, as_of: datetime) -> pl.DataFrame | None:
    """The posteriors in force; None where nothing is believed of any template."""
    known = stored.posteriors(connection, as_of=as_of)
    if known.is_empty():
        return None
    return arms_in_force(known, as_of=as_of)


@lru_cache(maxsize=4_096)
def _quiet_hours(start: str | None, end: str | None) -> QuietHours | None:
    return QuietHours.of(start, end)
