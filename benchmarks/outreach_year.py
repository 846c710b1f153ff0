"""A year of outreach on members of whom all is known: does it learn, help, and keep to rules?

    python -m benchmarks.outreach_year --members 5000 --days 365 --out results.json

The pure parts of the pipeline, day by day, without a warehouse and without Dagster: who may be
written to, about what, in which words and when; what came of it; what is learned of it, every week.
Who the members are, and what is true of them, is in `benchmarks.outreach_people`; what a year came
to, and whether it kept to the rules, is told by `benchmarks.outreach_findings`; what is learned on
the way, by `benchmarks.outreach_learning`.
"""

import argparse
import heapq
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.outreach_learning import Learning, Log, Sent
from benchmarks.outreach_people import (
    DAY,
    HORIZON_DAYS,
    NEVER,
    START,
    People,
    hours_apart,
    local_hour,
    people,
    response_rate,
)
from engagement_pipeline.outreach.candidates import (
    MEMBERS_SCHEMA,
    MILESTONES_SCHEMA,
    USED_SCHEMA,
    candidates,
)
from engagement_pipeline.outreach.caps import refusal
from engagement_pipeline.outreach.cycle_stats import CycleStats
from engagement_pipeline.outreach.decision import Decision, MemberState, evaluate_member
from engagement_pipeline.outreach.holdout import is_held_out
from engagement_pipeline.outreach.occasions import cycle_id
from engagement_pipeline.outreach.planning import Candidate, Cycle, Planned, Recipient, plan_member
from engagement_pipeline.outreach.policy import Policy
from engagement_pipeline.outreach.send_times import QuietHours, quiet_until

SEED = 20_260_101
SALT, SHARE = "year", 0.05
CALLED_BACK = {"absent", "churn"}
_WEEK = 7
_TARGETS = (1, 5, 10, 20, 40, 80)
"""Days of activity that there is a milestone for."""
_FEATURES = ("voice", "document", "reaction", "sticker")


class Year:
    """The pipeline's days with some people, one after another."""

    def __init__(self, who: People, seed: int, policy: Policy, share: float) -> None:
        self.who, self.policy, self.log = who, policy, Log()
        members = len(who.pairs)
        self._learned = Learning(who, seed)
        self._place = {pair: member for member, pair in enumerate(who.pairs)}
        self._is_held_out = [is_held_out(*pair, salt=SALT, share=share) for pair in who.pairs]
        self._last_active = list(who.last_before)
        self._times: list[list[datetime]] = [[] for _ in range(members)]
        self._queue: list[tuple[datetime, float, str, int, datetime, Planned]] = []
        self._coming: list[tuple[datetime, int]] = []
        self._episode_ends = [0] * members
        self._used = pl.DataFrame(schema=USED_SCHEMA)
        self._tries: Counter[tuple[int, str, str]] = Counter()
        self._chance = random.Random(seed)
        self._moods = np.random.default_rng(seed).normal(0.1, 0.35, (members, 40))
        self._active_days = (who.natural != NEVER).cumsum(axis=1)

    def run(self, days: int) -> Log:
        """Live through so many days."""
        for day in range(days):
            now = START + day * DAY
            self._notice(day, now)
            if day and day % _WEEK == 0:
                self._learned.learn(self.log, now)
            targets = self._decide(now)
            self._plan(targets, day, now)
            self._deliver(now + DAY)
        return self.log

    # What is known of members

    def _notice(self, day: int, now: datetime) -> None:
        """Take in what was done since the day before."""
        if day:
            at = self.who.natural[:, day - 1]
            for member in np.flatnonzero(at != NEVER).tolist():
                self._was_active(member, START + timedelta(seconds=int(at[member])))
        while self._coming and self._coming[0][0] <= now:
            moment, member = heapq.heappop(self._coming)
            self._was_active(member, moment)

    def _was_active(self, member: int, at: datetime) -> None:
        self._last_active[member] = max(self._last_active[member], at)

    # Deciding and planning

    def _decide(self, now: datetime) -> dict[int, Decision]:
        """Who is to be planned for, held out or not, and how."""
        who, decisions, targets = self.who, [], {}
        for member, (org_id, user_id) in enumerate(who.pairs):
            if who.created[member] > now:
                continue
            if self._times[member]:
                self._times[member] = [at for at in self._times[member] if at > now - 3 * DAY]
            state = MemberState(
                org_id,
                user_id,
                who.created[member],
                self._last_active[member],
                who.is_opted_out(member, now),
                self._is_held_out[member],
                who.is_erased(member, now),
                tuple(at for at in self._times[member] if at <= now),
            )
            decision = evaluate_member(state, self.policy, now)
            decisions.append(decision)
            if decision.reason == "held_out":
                decision = evaluate_member(state._replace(is_held_out=False), self.policy, now)
            if decision.eligible:
                targets[member] = decision
        self.log.stats.append(CycleStats.of(decisions))
        return targets

    def _plan(self, targets: dict[int, Decision], day: int, now: datetime) -> None:
        found = candidates(
            self._facts(targets, day),
            self._milestones(list(targets), day),
            now=now,
            used=self._used,
        )
        cycle = Cycle("engagement", cycle_id("engagement", now), now, self.policy)
        planned: list[Planned] = []
        for pair, rows in groupby(found.iter_rows(), key=lambda row: row[:2]):
            member = self._place[pair]
            theirs = self._candidates(member, rows)
            decision = targets[member]
            new = plan_member(
                self._recipient(member, decision, now), theirs, cycle, self._learned.wording
            )
            planned += new
            for one in new:
                self._times[member].append(one.send_at)
                self._enrol(member, one, now)
        used = [
            (*one.recipient[:2], one.candidate.outreach_type, one.candidate.occasion)
            for one in planned
        ]
        self._used = self._used.vstack(pl.DataFrame(used, schema=USED_SCHEMA, orient="row"))

    def _candidates(self, member: int, rows: Iterator[tuple[Any, ...]]) -> Iterator[Candidate]:
        for _, _, kind, trigger, occasion, priority, _, milestone, topic, feature in rows:
            slots = {"milestone": milestone, "topic": topic, "feature": feature}
            known = tuple((name, value) for name, value in slots.items() if value)
            tries = self._tries[member, kind, occasion]
            yield Candidate(kind, trigger, occasion, priority, tries, known)

    def _recipient(self, member: int, decision: Decision, now: datetime) -> Recipient:
        who, hours = self.who, self.who.quiet_hours(member, now)
        assert decision.segment is not None
        assert decision.tone is not None
        return Recipient(
            *who.pairs[member],
            segment=decision.segment,
            tone=decision.tone,
            zone=who.zones[member],
            best_hour=self._learned.best_hour[member],
            quiet=QuietHours.of(*hours) if hours else None,
            times=self._times[member],
            slots=(("name", who.names[member]), ("org", f"The {who.pairs[member][0]}")),
            is_held_out=self._is_held_out[member],
        )

    def _enrol(self, member: int, one: Planned, now: datetime) -> None:
        arm = "held_out" if self._is_held_out[member] else "treated"
        self.log.enrolled.append((member, now, arm))
        if self._is_held_out[member]:
            self.log.withheld.append((member, one.send_at))
        else:
            self._enqueue(one.send_at, member, now, one)

    def _facts(self, targets: dict[int, Decision], day: int) -> pl.DataFrame:
        """What candidates are told from: partly what members do, partly made up."""
        who, members = self.who, np.fromiter(targets, dtype=np.int64)
        active = self._active_days[members]
        lately, before = (
            active[:, max(day - back, 0)] - active[:, max(day - back - 30, 0)] for back in (0, 30)
        )
        event = (day - 1) // _WEEK * _WEEK
        came = who.natural[members, max(event, 0)] != NEVER if event > 0 else np.zeros(len(members))
        feature = (members + day // 60) % 9
        columns = {
            "org_id": [who.pairs[m][0] for m in targets],
            "user_id": [who.pairs[m][1] for m in targets],
            "segment": [decision.segment for decision in targets.values()],
            "created_at": [who.created[m] for m in targets],
            "last_active_at": [self._last_active[m] for m in targets],
            "churn_probability": (1 - who.chance[members]) ** 30,
            "churn_model": [
                "heuristic" if who.pairs[m][0] == "garden" else "random_forest 2026-01-01"
                for m in targets
            ],
            "is_declining": lately * 2 < before,
            "mood_now": np.clip(self._moods[members, day // 30], -1, 1),
            "topic_id": [f"e{event}" if there else None for there in came],
            "topic": ["Open evening" if there else None for there in came],
            "feature": [_FEATURES[n] if n < len(_FEATURES) else None for n in feature],
        }
        return pl.DataFrame(
            {name: pl.Series(name, columns[name], dtype) for name, dtype in MEMBERS_SCHEMA.items()}
        )

    def _milestones(self, members: Sequence[int], day: int) -> pl.DataFrame:
        rows = []
        if day:
            done = self._active_days[members, day - 1]
            for target in _TARGETS:
                near = np.flatnonzero((done > 0.8 * target) & (done <= target)).tolist()
                for place in near:
                    is_reached = done[place] == target
                    reached_at = self._last_active[members[place]] if is_reached else None
                    name, share = f"{target} days", done[place] / target
                    pair = self.who.pairs[members[place]]
                    rows.append(
                        (*pair, f"days_{target}", name, "active_days", share, reached_at, None)
                    )
        return pl.DataFrame(rows, schema=MILESTONES_SCHEMA, orient="row")

    # Sending, and what comes of it

    def _enqueue(self, at: datetime, member: int, planned_at: datetime, one: Planned) -> None:
        place = (at, -one.candidate.priority, one.message_id, member, planned_at, one)
        heapq.heappush(self._queue, place)

    def _deliver(self, until: datetime) -> None:
        freed = []
        while self._queue and self._queue[0][0] < until:
            at, _, _, member, planned_at, one = heapq.heappop(self._queue)
            self._times[member].remove(at)
            hours = self.who.quiet_hours(member, at)
            quiet = QuietHours.of(*hours) if hours else None
            later = quiet_until(at, self.who.zones[member], quiet)
            if later is not None:
                self.log.cancelled["put off"] += 1
                self._times[member].append(later)
                self._enqueue(later, member, planned_at, one)
                continue
            reason = self._why_not(at, member, planned_at, one)
            if reason is None:
                self._times[member].append(at)
                self._send(at, member, planned_at, one)
                continue
            self.log.cancelled[reason] += 1
            kind, occasion = one.candidate.outreach_type, one.candidate.occasion
            self._tries[member, kind, occasion] += 1
            freed.append((*self.who.pairs[member], kind, occasion))
        if freed:
            gone = pl.DataFrame(freed, schema=USED_SCHEMA, orient="row")
            self._used = self._used.join(gone, on=USED_SCHEMA.names(), how="anti")

    def _why_not(self, at: datetime, member: int, planned_at: datetime, one: Planned) -> str | None:
        """What the gate at sending looks at, in its order."""
        if self.who.is_opted_out(member, at):
            return "opted_out"
        if self.who.is_erased(member, at):
            return "erased"
        if one.candidate.trigger in CALLED_BACK and self._came_between(member, planned_at, at):
            return "no_longer_due"
        others = [other for other in self._times[member] if other <= at]
        return refusal(others, at, self.policy)

    def _came_between(self, member: int, after: datetime, until: datetime) -> bool:
        first, last = ((moment - START) // DAY for moment in (after, until))
        bounds = [(moment - START).total_seconds() for moment in (after, until)]
        at = self.who.natural[member, first : last + 1]
        if ((at > bounds[0]) & (at <= bounds[1])).any():
            return True
        return any(who == member and after < moment <= until for moment, who in self._coming)

    def _send(self, at: datetime, member: int, planned_at: datetime, one: Planned) -> None:
        assert one.worded is not None
        what = one.candidate
        self.log.sent.append(
            Sent(
                one.message_id,
                member,
                what.outreach_type,
                one.recipient.tone,
                what.trigger,
                what.occasion,
                one.worded.template_id,
                one.recipient.slots + what.slots,
                planned_at,
                at,
            )
        )
        if self._responds(at, member, (planned_at - START).days, one.worded.template_id):
            later = min(1 + self._chance.expovariate(1 / 90), 1_439)
            answered_at = at + timedelta(minutes=later)
            heapq.heappush(self._coming, (answered_at, member))
            self.log.responses.append((member, answered_at))

    def _responds(self, at: datetime, member: int, day: int, template_id: str) -> bool:
        is_first = self._episode_ends[member] <= day
        if is_first:
            self._episode_ends[member] = day + HORIZON_DAYS
        # Only who would be back before the first message's week is over, or a later one would
        # bring back some of whom that is not the effect.
        if self.who.comes_of_itself(member, day, self._episode_ends[member] - day):
            off = hours_apart(local_hour(self.who.zones[member], at), int(self.who.peak[member]))
            return self._chance.random() < response_rate(template_id, off)
        return is_first and self._chance.random() < self.who.added_chance(member)


def simulate(members: int, days: int, seed: int = SEED, share: float = SHARE) -> Year:
    """So many members over so many days, a share of them held out; the same of the same seed."""
    year = Year(people(members, days, seed), seed, Policy(), share)
    year.run(days)
    return year


def main() -> None:
    from benchmarks.outreach_findings import findings, told

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=5_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    started = time.process_time()
    year = simulate(arguments.members, arguments.days, arguments.seed)
    found = findings(year, arguments.days)
    found["cpu_seconds"] = time.process_time() - started
    print(told(found))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2, default=str), encoding="utf-8")


if __name__ == "__main__":
    main()
