"""May a member be written to at a moment, and in which tone? If not, why not?

Here belongs the decision on one member: a function of the member's state, the policy and the
moment. What a message is about belongs to `candidates`, its words to `templates`, when it goes to
`send_times`, and counting decisions to `cycle_stats`.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from engagement_pipeline.contracts.vocabulary import SKIP_REASONS
from engagement_pipeline.outreach.caps import refusal
from engagement_pipeline.outreach.policy import Policy

DORMANT_AFTER = timedelta(days=3)
"""From how long a silence on a member is `dormant`."""

NEW_USER_FOR = timedelta(days=1)
"""How old an account has to be for its member not to be a `new_user` any more."""

TONE_OF_SEGMENT = {"dormant": "playful", "new_user": "warm", "normal": "neutral"}


class MemberState(NamedTuple):
    """What a decision on a member is taken by. All instants are in UTC, and known by its moment.

    A named tuple, because a cycle makes a million of them.

    Attributes:
        org_id: the organisation.
        user_id: the member.
        created_at: when the account was made.
        last_active_at: when the member was last active; None: never since the account was made.
        is_opted_out: whether the member wants no messages.
        is_held_out: whether the member is in the holdout (`holdout.is_held_out`).
        is_erased: whether the member asked to be forgotten.
        message_times: when the member's messages were reserved or sent; in any order.
    """

    org_id: str
    user_id: str
    created_at: datetime
    last_active_at: datetime | None
    is_opted_out: bool
    is_held_out: bool
    is_erased: bool
    message_times: tuple[datetime, ...] = ()


class Decision(NamedTuple):
    """Whether a member may be written to.

    Attributes:
        eligible: whether so.
        segment: whom a message is for, one of `vocabulary.SEGMENTS`; None if not eligible.
        tone: how it is to sound, one of `vocabulary.TONES`; None if not eligible.
        reason: why not, one of `vocabulary.SKIP_REASONS`; None if eligible.
    """

    eligible: bool
    segment: str | None
    tone: str | None
    reason: str | None


_ELIGIBLE = {
    segment: Decision(True, segment, tone, None) for segment, tone in TONE_OF_SEGMENT.items()
}
_SKIPPED = {reason: Decision(False, None, None, reason) for reason in SKIP_REASONS}
_NO_TIME = timedelta(0)


def evaluate_member(state: MemberState, policy: Policy, now: datetime) -> Decision:
    """May a member be written to at `now`?

    The first of these that holds says why not: `opted_out`, `held_out`, `erased`, `active` (last
    active no longer ago than the inactivity threshold, or than `new_user_delay_seconds` where the
    account is younger than a day), and then what `caps.refusal` says. Who was never active counts
    as last active when the account was made. A last activity after `now` counts as one just now,
    an account made after it as made just now.

    Returns:
        The decision. There are ten of them, and each is always the same object.

    Raises:
        ValueError: `now` has no time zone.
        TypeError: an instant of the state has none.
    """
    if now.tzinfo is None:
        raise ValueError(f"now: expected a time zone, found none in {now.isoformat()}")
    if state.is_opted_out:
        return _SKIPPED["opted_out"]
    if state.is_held_out:
        return _SKIPPED["held_out"]
    if state.is_erased:
        return _SKIPPED["erased"]
    silence = _silence(state.created_at, state.last_active_at, now)
    is_new = now - state.created_at < NEW_USER_FOR
    if silence <= (policy.new_user_delay if is_new else policy.inactivity_threshold):
        return _SKIPPED["active"]
    refused = refusal(state.message_times, now, policy)
    if refused is not None:
        return _SKIPPED[refused]
    return _ELIGIBLE[_segment(silence, is_new)]


def segment_of(created_at: datetime, last_active_at: datetime | None, now: datetime) -> str:
    """Whom a message to a member would be for, eligible or not: one of `vocabulary.SEGMENTS`.

    Silent for three days or more: `dormant`; else with an account younger than a day: `new_user`;
    else `normal`. For messages that are planned whether or not a member is active.
    """
    return _segment(
        _silence(created_at, last_active_at, now), is_new=now - created_at < NEW_USER_FOR
    )


def _silence(created_at: datetime, last_active_at: datetime | None, now: datetime) -> timedelta:
    silence = now - (created_at if last_active_at is None else last_active_at)
    return silence if silence > _NO_TIME else _NO_TIME


def _segment(silence: timedelta, is_new: bool) -> str:
    if silence >= DORMANT_AFTER:
        return "dormant"
    return "new_user" if is_new else "normal"
