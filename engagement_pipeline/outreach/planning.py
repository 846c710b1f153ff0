"""Which of the things that there are to say to a member are said, and when.

Here belong the walk through a member's candidates, the cut to what the caps allow, and the rows
that come of it. Who may be written to is told by `decision`, what there is to say by `candidates`,
in which words by `wording`, at what time by `send_times`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.outreach.candidates import MAX_PER_CYCLE
from engagement_pipeline.outreach.caps import DAY, refusal
from engagement_pipeline.outreach.decision import Decision, MemberState, evaluate_member
from engagement_pipeline.outreach.occasions import message_id
from engagement_pipeline.outreach.policy import Policy
from engagement_pipeline.outreach.send_times import QuietHours, send_at
from engagement_pipeline.outreach.wording import Worded, Wording

_MESSAGES = contract("outreach.messages")
_WITHHELD = contract("outreach.withheld")
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
_NOTHING: Mapping[str, datetime] = {}


class StaleSignalsError(ValueError):
    """What is known of members is not of the moment; the text names both moments."""


@dataclass(frozen=True)
class Cycle:
    """One planning: who plans, for which moment, and by what.

    Attributes:
        engine: one of `vocabulary.OUTREACH_ENGINES`.
        cycle_id: what its decisions and messages are known by.
        now: the moment, in UTC.
        policy: the caps.
        channel: how messages are to leave, one of `vocabulary.CHANNELS`.
    """

    engine: str
    cycle_id: str
    now: datetime
    policy: Policy
    channel: str = "log"


class Candidate(NamedTuple):
    """Something that there is to say.

    Attributes:
        outreach_type: what it is for, one of `vocabulary.OUTREACH_TYPES`.
        trigger: what makes it worth sending, one of `vocabulary.TRIGGERS`.
        occasion: what it is about, of which nothing was sent yet.
        priority: how much it matters, in [0, 1].
        tries: how many messages for the same occasion were cancelled before.
        slots: what the text may name of it, such as `topic`, as it was found.
    """

    outreach_type: str
    trigger: str
    occasion: str
    priority: float
    tries: int = 0
    slots: tuple[tuple[str, str | None], ...] = ()


class Recipient(NamedTuple):
    """A member who may be written to, or might be but for the holdout.

    Attributes:
        org_id: the organisation.
        user_id: the member.
        segment: whom messages are for, one of `vocabulary.SEGMENTS`.
        tone: how they are to sound, one of `vocabulary.TONES`.
        zone: the member's time zone.
        best_hour: when to write, 0 to 23 by the member's clock.
        quiet: when not to.
        times: when the member's other messages went, go or are to go.
        slots: what a text may name of the member, as it was found.
        is_held_out: whether nothing is ever sent to the member: then nothing is put in words.
        standing: what this very cycle planned when it was computed before: message -> when.
    """

    org_id: str
    user_id: str
    segment: str
    tone: str
    zone: str | None
    best_hour: int
    quiet: QuietHours | None
    times: Sequence[datetime]
    slots: tuple[tuple[str, str | None], ...] = ()
    is_held_out: bool = False
    standing: Mapping[str, datetime] = _NOTHING


class Planned(NamedTuple):
    """A message to be, or what a member of the holdout would have been sent: then without words."""

    recipient: Recipient
    candidate: Candidate
    message_id: str
    send_at: datetime
    worded: Worded | None


def plan_member(
    recipient: Recipient, candidates: Iterable[Candidate], cycle: Cycle, wording: Wording
) -> list[Planned]:
    """What is planned for one member: as much as the caps allow, at most two messages.

    Each is planned for the member's best hour outside the quiet hours, and looked at together with
    all other messages, those planned for later and those of this call included. Members of the
    holdout go the very same way, but for the words.

    Args:
        recipient: the member.
        candidates: what there is to say, the best first; no two of one occasion and type.
        cycle: the planning.
        wording: what texts are made by.

    Returns:
        What is planned, the best first. The same of the same, whoever else is planned for.
    """
    planned: list[Planned] = []
    times = [*recipient.times, *recipient.standing.values()]
    at = time_to_send(recipient, cycle)
    for candidate in candidates:
        if len(planned) == MAX_PER_CYCLE:
            break
        known_as = message_id(
            recipient.org_id,
            recipient.user_id,
            candidate.outreach_type,
            candidate.occasion,
            candidate.tries,
        )
        stands = recipient.standing.get(known_as)
        if stands is None:
            if refusal(times, at, cycle.policy) is not None:
                continue
            times.append(at)
        worded = None if recipient.is_held_out else _words(recipient, candidate, wording, known_as)
        planned.append(Planned(recipient, candidate, known_as, stands or at, worded))
    return planned


def time_to_send(recipient: Recipient, cycle: Cycle) -> datetime:
    """When a message to a member goes that is planned now: see `send_times.send_at`."""
    return send_at(
        cycle.now, zone=recipient.zone, best_hour=recipient.best_hour, quiet=recipient.quiet
    )


def _words(recipient: Recipient, candidate: Candidate, wording: Wording, known_as: str) -> Worded:
    return wording.words(
        recipient.org_id,
        candidate.outreach_type,
        candidate.trigger,
        recipient.tone,
        recipient.slots + candidate.slots,
        key=known_as,
    )


def evaluate_whether_active_or_not(state: MemberState, policy: Policy, now: datetime) -> Decision:
    """`evaluate_member` without the reason `active`: for celebrations, and what people ask for.

    The segment is no member's then: who is written to while active is told by
    `decision.segment_of`.
    """
    return evaluate_member(state._replace(last_active_at=_LONG_AGO), policy, now)


def caps_reach(policy: Policy) -> timedelta:
    """How far from a message others still count against it."""
    return max(policy.message_frequency, policy.min_gap, DAY)


def check_signals(as_of: datetime | None, now: datetime, *, max_age_hours: int) -> None:
    """Make sure that what is known of members is of the moment that is decided for.

    Args:
        as_of: the moment of the last refresh; None if there was none.
        now: the moment decided for.
        max_age_hours: how much older the first may be.

    Raises:
        StaleSignalsError: there is none, or it is older, or it is later than `now`.
    """
    if as_of is None:
        raise StaleSignalsError(
            f"signals: expected those of a refresh no more than {max_age_hours} h before "
            f"{_told(now)}, found none, so nobody is decided on. Run: engagement run"
        )
    if as_of > now:
        raise StaleSignalsError(
            f"signals: expected those of a refresh up to {_told(now)}, found those of "
            f"{_told(as_of)}, which was not known yet, so nobody is decided on. Decide for that "
            f"moment or a later one, or go back first: engagement run --as-of {_iso(now)}"
        )
    if now - as_of > timedelta(hours=max_age_hours):
        raise StaleSignalsError(
            f"signals: expected those of a refresh no more than {max_age_hours} h before "
            f"{_told(now)} (max_signal_age_hours), found those of {_told(as_of)}, so nobody is "
            "decided on: their absence may only be ours. Refresh first (engagement run), or decide "
            f"for that moment: --as-of {_iso(as_of)}"
        )


def message_rows(planned: Sequence[Planned], cycle: Cycle) -> pl.DataFrame:
    """Rows of `outreach.messages`, of what is in words."""
    worded = [(one, one.worded) for one in planned if one.worded is not None]
    rows = _planned_rows([one for one, _ in worded], cycle)
    words = [words for _, words in worded]
    texts: dict[str, list[Any]] = {
        "segment": [one.recipient.segment for one, _ in worded],
        "tone": [one.recipient.tone for one, _ in worded],
        "template_id": [one.template_id for one in words],
        "is_rewritten": [one.is_rewritten for one in words],
        "propensity": [one.propensity for one in words],
        "text": [one.text for one in words],
    }
    whole = rows.with_columns(
        *(pl.Series(name, values, _MESSAGES.polars_schema[name]) for name, values in texts.items()),
        channel=pl.lit(cycle.channel),
        status=pl.lit("scheduled"),
        attempts=pl.lit(0),
    )
    return _in_columns(whole, _MESSAGES)


def withheld_rows(planned: Sequence[Planned], cycle: Cycle) -> pl.DataFrame:
    """Rows of `outreach.withheld`, of what is for members of the holdout."""
    return _in_columns(
        _planned_rows([one for one in planned if one.recipient.is_held_out], cycle), _WITHHELD
    )


def _planned_rows(planned: Sequence[Planned], cycle: Cycle) -> pl.DataFrame:
    schema = _WITHHELD.polars_schema
    columns: dict[str, list[Any]] = {
        "message_id": [one.message_id for one in planned],
        "org_id": [one.recipient.org_id for one in planned],
        "user_id": [one.recipient.user_id for one in planned],
        "outreach_type": [one.candidate.outreach_type for one in planned],
        "trigger": [one.candidate.trigger for one in planned],
        "occasion": [one.candidate.occasion for one in planned],
        "tries": [one.candidate.tries for one in planned],
        "priority": [one.candidate.priority for one in planned],
        "send_at": [one.send_at for one in planned],
    }
    rows = pl.DataFrame(
        {name: pl.Series(name, values, schema[name]) for name, values in columns.items()}
    )
    return rows.with_columns(
        engine=pl.lit(cycle.engine),
        cycle_id=pl.lit(cycle.cycle_id),
        planned_at=pl.lit(cycle.now, dtype=schema["planned_at"]),
    )


def _in_columns(rows: pl.DataFrame, table: Contract) -> pl.DataFrame:
    """The table's columns in their order and types; what is not known yet is null."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in table.polars_schema.items()
    )


def _told(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
