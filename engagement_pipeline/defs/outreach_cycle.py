"""A cycle of outreach: every member is decided on, and messages are planned.

Reads slices of the members, lets `outreach` decide and plan, and writes; or writes nothing, for a
look at what would come of it. Messages outside the cycle, for milestones and by hand, are
`outreach_occasional`'s; the assets are in `defs.outreach`.
"""

import gc
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import dagster as dg
import polars as pl

from engagement_pipeline.defs.outreach_planner import (
    PAIR,
    STATE_COLUMNS,
    Planner,
    check_freshness,
    isolated,
    occasions_of,
)
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.outreach.candidates import MEMBERS_SCHEMA, candidates
from engagement_pipeline.outreach.cycle_stats import CycleStats
from engagement_pipeline.outreach.decision import Decision, evaluate_member
from engagement_pipeline.outreach.planning import Planned
from engagement_pipeline.outreach.templates import Templates
from engagement_pipeline.scoring.due import UnknownOrgError
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import outreach_members as members_store
from engagement_pipeline.warehouse import outreach_plans as stored
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.outreach_members import MemberSlice

ENGINE = "engagement"
_NO_STATS = CycleStats.of(())


@dataclass
class CycleOutcome:
    """What a cycle came to.

    Attributes:
        cycle_id: the cycle.
        as_of: its moment.
        by_org: organisation -> what was decided there. Those that failed are not in it.
        failed: organisation -> why nothing was decided there.
        messages: type of outreach -> messages of this cycle, with those of an earlier computation.
        added: messages that this computation added.
        withheld: what was added that members of the holdout would have been sent.
        decisions: rows of `outreach.decisions`; only of a dry run.
        planned: what would be sent, or withheld; only of a dry run.
    """

    cycle_id: str
    as_of: datetime
    by_org: dict[str, CycleStats] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    added: int = 0
    withheld: int = 0
    decisions: list[pl.DataFrame] = field(default_factory=list)
    planned: list[Planned] = field(default_factory=list)

    @property
    def stats(self) -> CycleStats:
        """What was decided in all organisations together."""
        return sum(self.by_org.values(), start=_NO_STATS)


def run_cycle(
    connection: Connection,
    settings: Settings,
    *,
    as_of: datetime,
    computed_at: datetime,
    log: dg.DagsterLogManager,
    is_dry_run: bool = False,
    org_ids: Sequence[str] = (),
    templates: Templates | None = None,
) -> CycleOutcome:
    """Decide on every current member at a moment, and plan what is to be said.

    Each slice of the members lands in a transaction of its own. The same cycle computed again
    takes the place of what it decided and counted, and adds no message twice. Decisions that are
    older than `decision_retention_days` go: hourly ones would fill the disk. Trouble with an
    organisation is told in the outcome and stops no other; of that organisation nothing stays.

    Args:
        connection: to the warehouse.
        settings: in force.
        as_of: the moment, with a time zone.
        computed_at: when that is.
        log: told of what goes wrong, and how far the work is.
        is_dry_run: whether nothing is to be written, and all that would be is in the outcome.
        org_ids: only these organisations; by default all.
        templates: to choose among; by default those of the package, in their own words.

    Raises:
        StaleSignalsError: what is known of members is older than `max_signal_age_hours`, or later
            than `as_of`.
        UnknownOrgError: there is no such organisation.
    """
    known = members_store.known_org_ids(connection)
    if unknown := sorted(set(org_ids) - set(known)):
        raise UnknownOrgError(unknown, known)
    check_freshness(connection, settings, as_of)
    planner = Planner.of(connection, settings, ENGINE, as_of, log, templates)
    run = _CycleRun(connection, planner, CycleOutcome(planner.cycle.cycle_id, as_of), is_dry_run)
    if not is_dry_run:
        stored.begin(
            connection,
            planner.cycle.cycle_id,
            as_of,
            org_ids,
            kept_for=timedelta(days=settings.decision_retention_days),
        )
    total = members_store.member_count(connection, now=as_of, org_ids=org_ids)
    progress = Progress(log, "members decided on", total, "members")
    slices = members_store.slices(
        connection,
        planner.reading,
        org_ids=org_ids,
        slice_members=min(members_store.SLICE_MEMBERS, settings.slice_rows),
    )
    with _no_collecting():
        for part in slices:
            run.work_off(part)
            progress.advance(part.members.height)
    run.count()
    outcome = run.outcome
    if is_dry_run:
        counted = Counter(p.candidate.outreach_type for p in outcome.planned if p.worded)
        outcome.messages = dict(sorted(counted.items()))
        return outcome
    counts = _counts(outcome, computed_at)
    cycle_id = outcome.cycle_id
    stored.finish(connection, counts, outcome.failed, cycle_id=cycle_id, as_of=as_of)
    outcome.messages = stored.planned_by_type(connection, cycle_id, org_ids)
    planner.record_uses()
    return outcome


@dataclass
class _Computed:
    """What came of some members, not written yet."""

    decisions: pl.DataFrame
    by_org: dict[str, Counter[Decision]]
    planned: list[Planned]


@dataclass
class _CycleRun:
    """The work of one cycle, slice by slice."""

    connection: Connection
    planner: Planner
    outcome: CycleOutcome
    is_dry_run: bool
    decided: dict[str, Counter[Decision]] = field(default_factory=dict)

    def count(self) -> None:
        """Count what was decided, once all slices are worked off."""
        self.outcome.by_org = {
            org_id: CycleStats.of(decided.elements())
            for org_id, decided in sorted(self.decided.items())
            if org_id not in self.outcome.failed
        }

    def work_off(self, part: MemberSlice) -> None:
        """Decide and plan for the members of a slice, and write what came of it."""
        outcome = self.outcome
        done = list(isolated(part, self._computed, outcome.failed, self.planner.log))
        for computed in done:
            for org_id, decided in computed.by_org.items():
                self.decided.setdefault(org_id, Counter()).update(decided)
            if self.is_dry_run:
                outcome.decisions.append(computed.decisions)
                outcome.planned += computed.planned
        if done and not self.is_dry_run:
            added, withheld = self.planner.write(
                [one for computed in done for one in computed.planned],
                pl.concat(computed.decisions for computed in done),
            )
            outcome.added += added
            outcome.withheld += withheld

    def _computed(self, part: MemberSlice) -> _Computed:
        members = part.members
        decided, targets = self._decided(members)
        by_org: dict[str, Counter[Decision]] = defaultdict(Counter)
        for (org_id, decision), count in Counter(
            zip(members["org_id"].to_list(), decided, strict=True)
        ).items():
            by_org[org_id][decision] = count
        rows = members.with_columns(_columns(targets, ("segment", "tone")))
        reachable = rows.filter(pl.col("segment").is_not_null() & ~pl.col("is_unreachable"))
        used, cancelled = occasions_of(part)
        found = candidates(
            reachable.select(MEMBERS_SCHEMA.names()),
            part.milestones,
            now=self.planner.cycle.now,
            active_until=self.planner.active_until,
            used=used,
        )
        planned = self.planner.plan(reachable, found, cancelled)
        return _Computed(self._rows(members, decided, targets), by_org, planned)

    def _decided(self, members: pl.DataFrame) -> tuple[list[Decision], list[Decision]]:
        """The decision on each member, and what it would be but for the holdout."""
        policy, now, state_of = (
            self.planner.cycle.policy,
            self.planner.cycle.now,
            self.planner.state,
        )
        decided, targets = [], []
        columns = [members[name].to_list() for name in STATE_COLUMNS]
        for row in zip(*columns, strict=True):
            state = state_of(row)
            decision = evaluate_member(state, policy, now)
            decided.append(decision)
            if state.is_held_out:
                decision = evaluate_member(state._replace(is_held_out=False), policy, now)
            targets.append(decision)
        return decided, targets

    def _rows(
        self, members: pl.DataFrame, decided: Sequence[Decision], targets: Sequence[Decision]
    ) -> pl.DataFrame:
        schema = stored.DECISIONS.polars_schema
        rows = members.select(*PAIR).with_columns(
            *_columns(decided, Decision._fields),
            *(one.alias("is_target") for one in _columns(targets, ("eligible",))),
            cycle_id=pl.lit(self.planner.cycle.cycle_id),
            decided_at=pl.lit(self.planner.cycle.now, dtype=schema["decided_at"]),
        )
        return rows.select(schema.names())


def _columns(decisions: Sequence[Decision], names: Sequence[str]) -> list[pl.Series]:
    """Columns of what decisions say. There are few distinct ones, so each is looked up."""
    places: dict[Decision, int] = {}
    found = pl.Series([places.setdefault(one, len(places)) for one in decisions], dtype=pl.UInt32)
    schema = stored.DECISIONS.polars_schema
    return [
        pl.Series(name, [getattr(one, name) for one in places], schema[name]).gather(found)
        for name in names
    ]


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Leave cycles of garbage alone for the while: Python looks for them among all that a slice
    holds, again and again, which takes a quarter of the planning and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _counts(outcome: CycleOutcome, computed_at: datetime) -> pl.DataFrame:
    """Rows of `outreach.cycles`, but for what was planned."""
    rows = [
        {
            "cycle_id": outcome.cycle_id,
            "org_id": org_id,
            "as_of": outcome.as_of,
            "total": stats.total,
            "eligible": stats.eligible,
            "skipped": stats.skipped,
            **stats.by_segment,
            **stats.skip_reasons,
            "computed_at": computed_at,
        }
        for org_id, stats in sorted(outcome.by_org.items())
    ]
    schema = stored.CYCLES.polars_schema
    names = [name for name in schema if name not in ("messages", "withheld")]
    return pl.DataFrame(rows, schema={name: schema[name] for name in names})
