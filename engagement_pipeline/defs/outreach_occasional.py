"""Messages outside the cycle: milestones reached are celebrated, and people ask for messages.

All engines share one ledger, and so the caps. Being active is no reason against these.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.defs.outreach_planner import (
    PAIR,
    STATE_COLUMNS,
    Planner,
    check_freshness,
    isolated,
    occasions_of,
)
from engagement_pipeline.outreach import occasions
from engagement_pipeline.outreach.candidates import celebrations
from engagement_pipeline.outreach.caps import refusal
from engagement_pipeline.outreach.decision import TONE_OF_SEGMENT, segment_of
from engagement_pipeline.outreach.planning import (
    Candidate,
    Planned,
    evaluate_whether_active_or_not,
    plan_member,
    time_to_send,
)
from engagement_pipeline.outreach.templates import Templates
from engagement_pipeline.scoring.due import UnknownOrgError
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import outreach_members as members_store
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.outreach_members import MemberSlice

MILESTONES, MANUAL = "milestones", "manual"

REFUSALS = {
    "opted_out": "the member wants no messages",
    "held_out": "the member is in the holdout, to whom nothing is ever sent",
    "erased": "the person asked to be forgotten",
    "recently_messaged": "another message goes, or went, less than message_frequency_hours away",
    "too_soon_after_last": "another message goes, or went, less than min_gap_hours away",
    "daily_cap": "there would be more than daily_cap messages in 24 hours",
    "channel_opted_out": "the channel says that the member can no longer be reached by it",
}
"""Why a message that somebody asked for is not planned, in words."""


class UnknownMemberError(ValueError):
    """Somebody asked for a message to who is no member; the text names the person."""


@dataclass
class OccasionalOutcome:
    """What came of planning outside the cycle.

    Attributes:
        cycle_id: what was planned is known by.
        planned: messages, and those withheld from members of the holdout.
        added: how many messages were added; others were there already.
        withheld: how many withheld ones were.
        failed: organisation -> why nothing was planned there.
        refused: organisation -> why the message that was asked for is not sent there, one of
            `REFUSALS`.
    """

    cycle_id: str
    planned: list[Planned] = field(default_factory=list)
    added: int = 0
    withheld: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def plan_celebrations(
    connection: Connection,
    settings: Settings,
    *,
    as_of: datetime,
    computed_at: datetime,  # noqa: ARG001  as all engines take it
    log: dg.DagsterLogManager,
    templates: Templates | None = None,
) -> OccasionalOutcome:
    """Plan a message for milestones that were reached of late and not celebrated.

    To whom a message may go is told as in the cycle, but that active members are written to too.
    Members of the holdout go to `outreach.withheld`. Where there is nothing to celebrate, no member
    is read. Trouble with an organisation is told in the outcome, and stops no other.

    Args:
        connection: to the warehouse.
        settings: in force.
        as_of: the moment, with a time zone.
        computed_at: when that is.
        log: told of what goes wrong.
        templates: to choose among; by default those of the package, in their own words.

    Raises:
        StaleSignalsError: there is something to celebrate, but what is known of members is not of
            the moment.
    """
    reached = celebrations(
        members_store.reached_milestones(
            connection, now=as_of, gamification_enabled=settings.gamification_enabled
        ),
        as_of,
    )
    if reached.is_empty():
        return OccasionalOutcome(occasions.cycle_id(MILESTONES, as_of))
    check_freshness(connection, settings, as_of)
    planner = Planner.of(connection, settings, MILESTONES, as_of, log, templates)
    outcome = OccasionalOutcome(planner.cycle.cycle_id)

    def plan(part: MemberSlice) -> list[Planned]:
        members = _with_segments(planner, part.members)
        used, cancelled = occasions_of(part)
        theirs = part.milestones.join(members, on=PAIR, how="semi")
        return planner.plan(members, celebrations(theirs, as_of, used), cancelled)

    people = reached.select(PAIR).unique().sort(PAIR)
    for part in members_store.slices_of(connection, planner.reading, people):
        for planned in isolated(part, plan, outcome.failed, log):
            added, withheld = planner.write(planned)
            outcome.planned += planned
            outcome.added += added
            outcome.withheld += withheld
    planner.record_uses()
    return outcome


def plan_manual(
    connection: Connection,
    settings: Settings,
    *,
    user_id: str,
    outreach_type: str,
    org_id: str | None = None,
    as_of: datetime,
    log: dg.DagsterLogManager,
    templates: Templates | None = None,
) -> OccasionalOutcome:
    """Plan a message to a person that somebody asked for, in one organisation or in each.

    It is refused where the member wants none, is held out, or has had enough messages; being
    active is no reason against it.

    Args:
        connection: to the warehouse.
        settings: in force.
        user_id: the person.
        outreach_type: what it is for, one of `vocabulary.OUTREACH_TYPES`.
        org_id: the organisation; by default all that the person is a member of.
        as_of: the moment, with a time zone.
        log: told of what goes wrong.
        templates: to choose among; by default those of the package, in their own words.

    Raises:
        ValueError: there is no such type.
        StaleSignalsError: what is known of members is not of the moment.
        UnknownOrgError: there is no such organisation.
        UnknownMemberError: the person is a member of no organisation, or not of this one.
    """
    if outreach_type not in vocabulary.OUTREACH_TYPES:
        listed = ", ".join(vocabulary.OUTREACH_TYPES)
        raise ValueError(f"type: expected one of {listed}, found {outreach_type!r}")
    check_freshness(connection, settings, as_of)
    known = members_store.known_org_ids(connection)
    if org_id is not None and org_id not in known:
        raise UnknownOrgError([org_id], known)
    planner = Planner.of(connection, settings, MANUAL, as_of, log, templates)
    outcome = OccasionalOutcome(planner.cycle.cycle_id)
    orgs = [] if org_id is None else [org_id]
    for part in members_store.slices(connection, planner.reading, org_ids=orgs, user_id=user_id):
        for row in part.members.iter_rows(named=True):
            planned, refused = _asked_for(planner, row, outreach_type)
            outcome.planned += planned
            if refused is not None:
                outcome.refused[row["org_id"]] = refused
    if not outcome.planned and not outcome.refused:
        where = "any organisation" if org_id is None else f"the organisation {org_id}"
        raise UnknownMemberError(
            f"member {user_id!r}: expected a member of {where} at {as_of:%Y-%m-%d %H:%M} UTC, "
            "found none"
        )
    outcome.added, outcome.withheld = planner.write(outcome.planned)
    planner.record_uses()
    return outcome


def _with_segments(planner: Planner, members: pl.DataFrame) -> pl.DataFrame:
    """Those who may be written to but for the holdout, with `segment` and `tone`."""
    policy, now = planner.cycle.policy, planner.cycle.now
    segments = []
    for row in members.select(*STATE_COLUMNS).iter_rows():
        state = planner.state(row)._replace(is_held_out=False)
        is_fit = evaluate_whether_active_or_not(state, policy, now).eligible
        segments.append(segment_of(state.created_at, state.last_active_at, now) if is_fit else None)
    segment = pl.Series("segment", segments, pl.String)
    tone = segment.replace_strict(TONE_OF_SEGMENT, return_dtype=pl.String).alias("tone")
    rows = members.with_columns(segment, tone)
    return rows.filter(pl.col("segment").is_not_null() & ~pl.col("is_unreachable"))


def _asked_for(
    planner: Planner, row: dict[str, Any], outreach_type: str
) -> tuple[list[Planned], str | None]:
    """The message to one member, or why there is none."""
    cycle = planner.cycle
    state = planner.state([row[name] for name in STATE_COLUMNS])
    decision = evaluate_whether_active_or_not(state, cycle.policy, cycle.now)
    reason = decision.reason or ("channel_opted_out" if row["is_unreachable"] else None)
    if reason is not None:
        return [], reason
    segment = segment_of(state.created_at, state.last_active_at, cycle.now)
    recipient = planner.recipient(row, segment, TONE_OF_SEGMENT[segment])
    slots = tuple((name, row[name]) for name in ("topic", "feature"))
    said = Candidate(outreach_type, "manual", occasions.manual(cycle.now), 1.0, 0, slots)
    planned = plan_member(recipient, [said], cycle, planner.wording)
    if planned:
        return planned, None
    times = [*recipient.times, *recipient.standing.values()]
    return [], refusal(times, time_to_send(recipient, cycle), cycle.policy)
