"""How this server's model decides: a level and two explanations for each profile.

Deterministic, row by row, whatever else is asked beside it. It is not the written rules: a client
that fell back to them unnoticed would be found out by its levels. What goes wrong with an answer
belongs to `spoilt_answers`.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .wire import NEVER, NOT_TOLD, UNKNOWN, Question, ThresholdsLike, WireThresholds, cells_of

Texts = tuple[str, str]


def expected_level(cells: str | Mapping[str, str], thresholds: ThresholdsLike | None = None) -> str:
    """The level that this server gives a profile.

    Args:
        cells: the profile, as text or by name of the cell.
        thresholds: the organisation's; the default ones if not given.

    Raises:
        UnreadableMessageError: the text is no profile.
    """
    found = cells_of(cells) if isinstance(cells, str) else cells
    limits = thresholds if thresholds is not None else WireThresholds()
    attended = int(found["attended"])
    interactions, rsvps = _count(found["interactions"]), _count(found["rsvps"])
    is_present = attended >= limits.highly_engaged_min
    if int(found["joined"]) < limits.new_member_days and not is_present:
        return "new"
    warmth = attended + (rsvps >= 3) + (interactions >= 5)
    if is_present or warmth >= limits.highly_engaged_min:
        return "highly_engaged"
    if attended >= 1 or interactions >= 20:
        return "moderate"
    return "inactive" if int(found["last_active"]) >= 91 else "at_risk"


def _count(cell: str) -> int:
    """What a cell counts; none where that is not known, or not told."""
    return 0 if cell in (UNKNOWN, NOT_TOLD) else int(cell)


def _highly_engaged(cells: Mapping[str, str]) -> Texts:
    if cells["trend"] == "-":
        return (
            "Came to {events_attended_90d} of your events lately, fewer than before, yet still "
            "among the most present. Ask what they would enjoy next, and plan it with them.",
            "We love having you around so often. Tell us what you would enjoy next, and we will "
            "try!",
        )
    if cells["previous"] == "0":
        return (
            "Came to {events_attended_90d} of your events lately, after a quiet time before. "
            "Ask what brought them along, and introduce them warmly to some of your regulars.",
            "It is lovely to see so much of you lately. Thank you for being part of it!",
        )
    return (
        "A steady regular who came to {events_attended_90d} of your events lately. Thank them "
        "warmly, and ask whether they would like to host an evening or greet guests.",
        "Your company makes every evening better. Thank you so much for being there again and "
        "again!",
    )


def _moderate(cells: Mapping[str, str]) -> Texts:
    if cells["attended"] == "0":
        return (
            "Talks with others often, {interaction_count_90d} {interaction_count_90d:time|times} "
            "lately, yet rarely comes along. Invite them in person to the next event that suits "
            "what they like to talk about.",
            "It is a joy to hear from you so often. Come along to an event when it suits you!",
        )
    if cells["trend"] == "-":
        return (
            "Came to {events_attended_90d} of your events lately, down from "
            "{events_attended_prev_90d} in the time before. Ask kindly whether times and topics "
            "still suit them, and adapt where you can.",
            "It was good to have you with us lately. What would you like to see more of?",
        )
    return (
        "Came to {events_attended_90d} {events_attended_90d:event|events} in the last "
        "{window_days} days. Interest is steady: suggest something close to what they enjoyed "
        "last time, with somebody they know.",
        "Thank you for joining in lately! We hope you had fun, and look forward to seeing you "
        "soon.",
    )


def _at_risk(cells: Mapping[str, str]) -> Texts:
    if cells["last_attended"] == NEVER:
        return (
            "Has not come to any event since joining {days_since_joined} days ago, though still "
            "seen around. Send a personal note, and invite them to an easy, friendly evening.",
            "We would love to meet you in person. Look at what is coming up, and pick what "
            "appeals.",
        )
    if cells["last_attended"] == NOT_TOLD:
        return (
            "Has not been at your events lately; the latest sign of them is {days_since_active} "
            "days old. Write a short personal note, and ask what they would like to come to.",
            "We would love to see you. Have a look at what is coming up, and pick what appeals.",
        )
    return (
        "Last came {days_since_attended} days ago, and has been rather quiet since then. Write a "
        "personal note, ask how they are, and mention an event that they may like.",
        "We have missed your company. Come along when it suits you; we will gladly save you a "
        "seat.",
    )


def _new(cells: Mapping[str, str]) -> Texts:
    if cells["attended"] == "0":
        return (
            "Joined {days_since_joined} {days_since_joined:day|days} ago and has not been to an "
            "event yet. Send a warm welcome, and suggest a friendly evening where they will meet "
            "people.",
            "Welcome, we are so glad you joined us! Pick an event that sounds fun, and say hello.",
        )
    return (
        "Joined {days_since_joined} days ago and came along already, a lovely start. Introduce "
        "them to people who share their interests, and ask what they liked best.",
        "Welcome! You came to {events_attended_90d} {events_attended_90d:event|events} already, "
        "and we hope you liked the company. See you soon!",
    )


def _inactive(cells: Mapping[str, str]) -> Texts:
    if cells["last_attended"] == NEVER:
        return (
            "Nothing was seen of them for {days_since_active} days, nor did they ever come to an "
            "event. Ask whether they still wish to hear from you, and about what.",
            "Our door is always open to you. If something coming up appeals, we would love to see "
            "you.",
        )
    return (
        "Quiet for {days_since_active} days, after {events_attended_total} events over the years. "
        "Send a short personal note without any pressure, and ask what would bring them back.",
        "It has been a while, and we think of you fondly. You are always welcome to join us.",
    )


_TEXTS = {
    "highly_engaged": _highly_engaged,
    "moderate": _moderate,
    "at_risk": _at_risk,
    "new": _new,
    "inactive": _inactive,
}


@lru_cache(maxsize=65_536)
def _answer(profile: str, thresholds: WireThresholds) -> tuple[str, str, str]:
    cells = cells_of(profile)
    level = expected_level(cells, thresholds)
    return level, *_TEXTS[level](cells)


def texts_of(profile: str, level: str) -> Texts:
    """The explanations that this server gives a profile of that level: for admins, for the user."""
    return _TEXTS[level](cells_of(profile))


def classify(question: Question) -> list[dict[str, Any]]:
    """The answer to a message: one classification for each row, in order."""
    rows = []
    for number, profile in enumerate(question.profiles, start=1):
        level, admin, user = _answer(profile, question.thresholds)
        rows.append(
            {
                "row": number,
                "level": level,
                "admin_explanation": admin,
                "user_explanation": user,
            }
        )
    return rows
