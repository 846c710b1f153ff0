"""What a simulated year of outreach came to: what was learned, whether it helped, and the rules.

The rules are looked at by plain loops over all messages that share nothing with the pipeline. How a
year is lived through is in `benchmarks.outreach_year`.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.outreach_learning import Sent
from benchmarks.outreach_people import (
    DAY,
    HORIZON_DAYS,
    NEVER,
    START,
    UPLIFT,
    People,
    hours_apart,
    local_hour,
    template_rate,
)
from benchmarks.outreach_year import SALT, SHARE, Year
from engagement_pipeline.outreach.policy import Policy
from engagement_pipeline.outreach.rendering import usable_slots
from engagement_pipeline.outreach.templates import catalogue
from engagement_pipeline.outreach.uplift import estimate

QUARTERS = 4
_HORIZON_SECONDS = HORIZON_DAYS * 86_400


def findings(year: Year, days: int) -> dict[str, Any]:
    """All that is told of a year, by name."""
    log = year.log
    decided = [stats.total for stats in log.stats]
    return {
        "members": len(year.who.pairs),
        "days": days,
        "decisions": sum(decided),
        "eligible": sum(stats.eligible for stats in log.stats),
        "messages": len(log.sent),
        "withheld": len(log.withheld),
        "cancelled": dict(log.cancelled),
        "quarters": learning(year, days),
        "uplift": uplift(year, days),
        "broken_rules": broken_rules(year.who, log.sent, year.policy),
    }


# The rules


def broken_rules(who: People, sent: Sequence[Sent], policy: Policy) -> list[str]:
    """Every rule that some message breaks, in words; none where all were kept."""
    broken = []
    by_member = defaultdict(list)
    for message in sent:
        by_member[message.member].append(message.sent_at)
        broken += [f"{rule}: {message}" for rule in _broken_by(who, message)]
    least = timedelta(hours=max(policy.message_frequency_hours, policy.min_gap_hours))
    for member, moments in by_member.items():
        moments.sort()
        if any(later - earlier < least for earlier, later in pairwise(moments)):
            broken.append(f"gap: {who.pairs[member]}")
        for first in moments:
            if sum(first <= at < first + DAY for at in moments) > policy.daily_cap:
                broken.append(f"daily cap: {who.pairs[member]} from {first}")
    ids = Counter(message.message_id for message in sent)
    said = Counter((message.member, message.outreach_type, message.occasion) for message in sent)
    for counted in (ids, said):
        broken += [f"sent twice: {what}" for what, times in counted.items() if times > 1]
    return broken


def _broken_by(who: People, message: Sent) -> Iterator[str]:
    member, at = message.member, message.sent_at
    told = json.dumps([SALT, *who.pairs[member]], separators=(",", ":"))
    if int(hashlib.sha256(told.encode()).hexdigest(), 16) % 10_000 < 500:
        yield "holdout"
    for start, end in who.opted_out[member]:
        if start <= at < end:
            yield "opted out"
    erased_at = who.erased_at[member]
    if erased_at is not None and at >= erased_at:
        yield "erased"
    if at < who.created[member]:
        yield "no member yet"
    hours = who.quiet[member][0 if at < who.changes_at else 1]
    if hours is not None:
        clock = at.astimezone(ZoneInfo(who.zones[member])).strftime("%H:%M")
        begins, ends = hours
        is_quiet = begins <= clock < ends if begins < ends else not ends <= clock < begins
        if is_quiet:
            yield "quiet hours"


# Learning


def learning(year: Year, days: int) -> list[dict[str, float]]:
    """By quarter: how often the best template was sent, and what was lost by others being sent.

    The best of those that fit the message; where only one fits, there was nothing to choose.
    `regret` is how much less likely the chosen template is to be answered than the best one, on
    average, at the member's own hour; `regret_alike` that of choosing among all that fit alike.
    """
    length = days * DAY / QUARTERS
    parts: list[list[Sent]] = [[] for _ in range(QUARTERS)]
    for message in year.log.sent:
        parts[min(int((message.planned_at - START) / length), QUARTERS - 1)].append(message)
    return [_learned(year.who, part) for part in parts]


def _learned(who: People, messages: Sequence[Sent]) -> dict[str, float]:
    rows = []
    for message in messages:
        rates = _rates(message.outreach_type, message.tone, message.trigger, _known(message.slots))
        if len(rates) < 2:
            continue
        best, chosen = max(rates), template_rate(message.template_id)
        off = hours_apart(
            local_hour(who.zones[message.member], message.sent_at), int(who.peak[message.member])
        )
        rows.append(
            (chosen == best, 1 / len(rates), best - chosen, best - np.mean(rates), off <= 1)
        )
    names = ("best", "best_alike", "regret", "regret_alike", "own_hour")
    means = np.array(rows, dtype=np.float64).mean(axis=0) if rows else np.full(len(names), np.nan)
    return {"messages": len(messages), **dict(zip(names, means.tolist(), strict=True))}


@cache
def _known(slots: tuple[tuple[str, str | None], ...]) -> frozenset[str]:
    return frozenset(usable_slots(dict(slots)))


@cache
def _rates(kind: str, tone: str, trigger: str, known: frozenset[str]) -> tuple[float, ...]:
    fitting = catalogue().fitting(kind, tone, known, trigger=trigger)
    return tuple(template_rate(one.template_id) for one in fitting)


# Whether it helped


def uplift(year: Year, days: int) -> dict[str, Any]:
    """What the pipeline estimates of all members, beside what is true.

    `true` is the share of treated members who came back within the horizon of their first
    enrolment, less the share that would have come back anyway. `of_all_enrolments` is what every
    enrolment would have said, and `true_of_all_enrolments` is true of them: who answers is active
    on the next day and so is not enrolled again, which thins out those treated members who would
    have come back anyway, but not those held out.
    """
    members, at, arms = zip(*year.log.enrolled, strict=True)
    who, is_treated = np.array(members), np.array(arms) == "treated"
    seconds = np.array([(moment - START).total_seconds() for moment in at], dtype=np.int64)
    would = _within_horizon(_natural(year.who), who, seconds)
    returned = would | _within_horizon(_responses(year), who, seconds)
    # Two of a member at one moment are one enrolment.
    every = np.unique(who * _MEMBER_SECONDS + seconds, return_index=True)[1]
    every = every[seconds[every] <= (days - HORIZON_DAYS) * 86_400]
    first = every[np.unique(who[every], return_index=True)[1]]
    pairs = [year.who.pairs[member] for member in who[first]]
    rows = estimate(
        pl.DataFrame(
            {
                "org_id": [org_id for org_id, _ in pairs],
                "user_id": [user_id for _, user_id in pairs],
                "arm": np.array(arms)[first],
                "returned": returned[first],
            }
        ),
        as_of=START + days * DAY,
        window_start=START - DAY,
        horizon_days=HORIZON_DAYS,
        holdout_share=SHARE,
    ).filter(org_id="*")
    gained = returned & ~would
    treated, held_out = every[is_treated[every]], every[~is_treated[every]]
    return {
        **rows.row(0, named=True),
        "true": float(gained[first][is_treated[first]].mean()),
        "of_all_enrolments": float(returned[treated].mean() - returned[held_out].mean()),
        "true_of_all_enrolments": float(gained[treated].mean()),
    }


_Places = npt.NDArray[np.int64]
_MEMBER_SECONDS = 10**10
"""More than there are in the time looked at: a member and a second as one number."""


def _natural(who: People) -> _Places:
    members, columns = np.nonzero(who.natural != NEVER)
    return np.sort(members * _MEMBER_SECONDS + who.natural[members, columns])


def _responses(year: Year) -> _Places:
    found = [
        member * _MEMBER_SECONDS + int((at - START).total_seconds())
        for member, at in year.log.responses
    ]
    return np.sort(np.array(found, dtype=np.int64))


def _within_horizon(done: _Places, members: _Places, seconds: _Places) -> npt.NDArray[np.bool_]:
    """Whether each member did something after so many seconds, within the horizon."""
    after = np.searchsorted(done, members * _MEMBER_SECONDS + seconds, side="right")
    until = np.searchsorted(
        done, members * _MEMBER_SECONDS + seconds + _HORIZON_SECONDS, side="right"
    )
    found: npt.NDArray[np.bool_] = until > after
    return found


# Telling


def told(found: dict[str, Any]) -> str:
    """The findings as tables of Markdown."""
    lines = [
        f"{found['members']:,} members, {found['days']} days: {found['decisions']:,} decisions, "
        f"{found['eligible']:,} of them eligible, {found['messages']:,} messages, "
        f"{found['cpu_seconds']:.0f} s of CPU.",
        "",
        "| quarter | messages | best template | drawn alike | regret | drawn alike | own hour |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for number, of in enumerate(found["quarters"], start=1):
        lines.append(
            f"| {number} | {of['messages']:,} | {of['best']:.1%} | {of['best_alike']:.1%} "
            f"| {of['regret']:.3f} | {of['regret_alike']:.3f} | {of['own_hour']:.1%} |"
        )
    row = found["uplift"]
    lines += [
        "",
        f"| uplift ({UPLIFT:.0%} of first messages) | treated | held out | 95 % interval | true "
        "| sample ratio p |",
        "| ---: | ---: | ---: | --- | ---: | ---: |",
        f"| {row['uplift']:+.3f} | {row['treated_members']:,} | {row['held_out_members']:,} "
        f"| {row['uplift_lower']:+.3f} to {row['uplift_upper']:+.3f} | {row['true']:+.3f} "
        f"| {row['sample_ratio_p']:.2f} |",
    ]
    cancelled = ", ".join(f"{reason} {n:,}" for reason, n in sorted(found["cancelled"].items()))
    return "\n".join(
        [
            *lines,
            "",
            f"All enrolments would have said {row['of_all_enrolments']:+.3f}, where "
            f"{row['true_of_all_enrolments']:+.3f} is true: who answers is active, and is not "
            "enrolled again the next day, as those held out are.",
            "",
            f"Rules broken by any message: {len(found['broken_rules'])}. Written to members held "
            f"out: none of {found['withheld']:,} that would have been. Not sent: {cancelled}.",
        ]
    )
