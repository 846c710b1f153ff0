"""The written explanations: for each situation what admins read, and what the member may read.

Only words belong here. An admin learns what was seen and one thing to do next; a member is
spoken to warmly, without pressure, and is not told what was observed of them beyond their own
attendance. Figures are placeholders (see `explanations`), also those that never change.
"""

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Explanation:
    """The two templates of one situation."""

    admin: str
    user: str


_EVENTS = "{events_attended_90d} {events_attended_90d:event|events}"
_EVENTS_EVER = "{events_attended_total} {events_attended_total:event|events}"
_NO_SHOWS = "{no_show_count_90d} {no_show_count_90d:event|events}"
_SIGN_UPS = "{rsvp_count_90d} {rsvp_count_90d:event|events}"
_MESSAGES = "{interaction_count_90d} {interaction_count_90d:time|times}"
_VIEWS = "{event_view_count_90d} {event_view_count_90d:time|times}"
_READS = "{notifications_read_90d} {notifications_read_90d:notification|notifications}"
_QUIET_DAYS = "{days_since_active} {days_since_active:day|days}"
_LATELY = "in the last {window_days} days"
_BEFORE = "in the {window_days} days before"

_HIGHLY_ENGAGED = {
    "highly_engaged.starting": Explanation(
        f"Attended {_EVENTS} {_LATELY}, having never come before; a member since {{joined_at}}. "
        "A strong start: ask what drew them in, and introduce them to other regulars.",
        f"You have come to {_EVENTS} {_LATELY}. What a lovely start! Thank you for being part "
        "of it.",
    ),
    "highly_engaged.returning": Explanation(
        f"Back with energy: attended {_EVENTS} {_LATELY}, after none {_BEFORE}. "
        "Thank them in person, and ask what made them come back.",
        f"It is wonderful to see you again. You have come to {_EVENTS} {_LATELY}, and it shows "
        "how much you bring to the room.",
    ),
    "highly_engaged.rising": Explanation(
        f"Attended {_EVENTS} {_LATELY}, up from {{events_attended_prev_90d}} {_BEFORE}. "
        "Interest is growing: invite them to host, speak or bring a friend.",
        f"You have come to {_EVENTS} {_LATELY}, more often than before. It is a pleasure to see "
        "so much of you. Thank you!",
    ),
    "highly_engaged.falling": Explanation(
        f"Attended {_EVENTS} {_LATELY}, down from {{events_attended_prev_90d}} {_BEFORE}. "
        "Still very present: thank them, and ask what they would like to see more of.",
        f"You have come to {_EVENTS} {_LATELY}. Thank you for being there so often. We would "
        "love to hear what you enjoy most.",
    ),
    "highly_engaged.steady": Explanation(
        f"Attended {_EVENTS} {_LATELY}, just as many as {_BEFORE}. "
        "A reliable regular: consider asking them to welcome newcomers or help run an event.",
        f"You have come to {_EVENTS} {_LATELY}. Thank you for being somebody the whole "
        "community can count on.",
    ),
}

_NEW = {
    "new.attending": Explanation(
        f"Joined on {{joined_at}} and attended {_EVENTS} {_LATELY}. "
        "Say hello by name at the next event, and ask what they hope to find here.",
        f"Welcome, and thank you for coming to {_EVENTS} already. It is great to have you with "
        "us, and we look forward to getting to know you.",
    ),
    "new.attended_before": Explanation(
        f"Joined on {{joined_at}} and attended {_EVENTS_EVER} in all, but none {_LATELY}. "
        "Send a short personal note with an upcoming event that suits them.",
        f"It is good to have you with us. You have come to {_EVENTS_EVER} so far, and you are "
        "welcome back whenever something appeals to you.",
    ),
    "new.no_shows": Explanation(
        f"Joined on {{joined_at}}, signed up and missed {_NO_SHOWS} {_LATELY}, and has not "
        "attended yet. Ask kindly whether the time or place was a difficulty.",
        "Welcome! It is a pity that we have missed each other so far. Plans change, and that is "
        "fine: join us whenever it suits you.",
    ),
    "new.signed_up": Explanation(
        f"Joined on {{joined_at}} and signed up for {_SIGN_UPS} {_LATELY}, with no attendance "
        "recorded yet. Write before the event, so that they know somebody to look for.",
        f"Welcome! You have signed up for {_SIGN_UPS}, and we look forward to meeting you. "
        "If you have any questions beforehand, just ask.",
    ),
    "new.talking": Explanation(
        f"Joined on {{joined_at}} and took part in conversations {_MESSAGES} {_LATELY}, but has "
        "not signed up for an event yet. Suggest an event on what they talk about.",
        "Welcome! It is great to hear from you in our conversations. If you would like to meet "
        "the people behind the names, our events are a friendly place to do so.",
    ),
    "new.browsing": Explanation(
        f"Joined on {{joined_at}} and looked at event pages {_VIEWS} {_LATELY}, but has not "
        "signed up yet. Offer to help them choose an event to begin with.",
        "Welcome! There is plenty going on here. If you are not sure where to begin, ask "
        "us, and we will gladly suggest an event that suits you.",
    ),
    "new.reading": Explanation(
        f"Joined on {{joined_at}} and read {_READS} {_LATELY}, but has not signed up for an "
        "event yet. Send a personal invitation to a small, easy event.",
        "Welcome! It is good to have you with us. Whenever an event catches your eye, you will "
        "find friendly faces there.",
    ),
    "new.elsewhere": Explanation(
        "Joined on {joined_at} and was last active on {last_active_at}, but has not signed up "
        "for an event yet. Send a personal invitation that fits their profile.",
        "Welcome! It is good to have you with us. Take your time to look around, and join an "
        "event whenever you like.",
    ),
    "new.quiet": Explanation(
        f"Joined on {{joined_at}}, has not attended yet, and has not been active for "
        f"{_QUIET_DAYS}. Send a short note that asks what they hoped to find.",
        "It is good to have you with us. If there is anything you were hoping to find here, "
        "we would love to hear about it.",
    ),
    "new.silent": Explanation(
        "Joined on {joined_at}, and no activity has been seen since. "
        "Send a personal welcome, and name an upcoming event that is easy to join.",
        "Welcome! We are glad that you joined us. Take your time to look around, and come along "
        "whenever something appeals to you.",
    ),
}

_MODERATE = {
    "moderate.no_shows": Explanation(
        f"Attended {_EVENTS} {_LATELY}, and signed up for {_NO_SHOWS} without coming. "
        "Ask whether time or place is the difficulty, and show how to cancel a sign-up.",
        f"Thank you for coming to {_EVENTS} {_LATELY}. Plans change, and that is fine. If "
        "another time or place would suit you better, do tell us.",
    ),
    "moderate.starting": Explanation(
        f"Has begun to come: attended {_EVENTS} {_LATELY} and none before that; a member since "
        "{joined_at}. Ask how they liked it, and suggest what to come to next.",
        f"You have come to {_EVENTS} {_LATELY}, and it was good to meet you. We hope to see you "
        "again whenever it suits you.",
    ),
    "moderate.returning": Explanation(
        f"Back after a break: attended {_EVENTS} {_LATELY}, after none {_BEFORE}. "
        "A personal word of thanks now would help them settle in again.",
        f"It was good to see you again. You have come to {_EVENTS} {_LATELY}, and we are glad "
        "to have you back among us.",
    ),
    "moderate.rising": Explanation(
        f"Attended {_EVENTS} {_LATELY}, up from {{events_attended_prev_90d}} {_BEFORE}. "
        "Interest is growing: point them to a series or group that meets regularly.",
        f"You have come to {_EVENTS} {_LATELY}, more often than before. It is lovely to see more "
        "of you.",
    ),
    "moderate.falling": Explanation(
        f"Attended {_EVENTS} {_LATELY}, down from {{events_attended_prev_90d}} {_BEFORE}. "
        "Check in before the habit fades: ask which events they would not want to miss.",
        f"Thank you for coming to {_EVENTS} {_LATELY}. If there is something you would like to "
        "see more of, we would love to hear it.",
    ),
    "moderate.steady": Explanation(
        f"Attended {_EVENTS} {_LATELY}, just as many as {_BEFORE}. "
        "A dependable visitor: invite them to bring a friend or try a different kind of event.",
        f"You have come to {_EVENTS} {_LATELY}, as you did before. Thank you for making us part "
        "of your plans.",
    ),
}

_LAPSED = {
    "at_risk.lapsed.no_shows": Explanation(
        f"Last attended on {{last_attended_at}}, and has since missed {_NO_SHOWS} after signing "
        "up. The wish to come is there: ask what got in the way.",
        "It has been a while since we met, and plans do change. You are welcome any time, "
        "and if another time or place would suit you better, do tell us.",
    ),
    "at_risk.lapsed.signed_up": Explanation(
        f"Last attended on {{last_attended_at}}, but signed up for {_SIGN_UPS} {_LATELY}. "
        "A way back is open: write to them before the next event they signed up for.",
        f"You have signed up for {_SIGN_UPS} {_LATELY}. It would be lovely to see you again.",
    ),
    "at_risk.lapsed.talking": Explanation(
        "Last attended on {last_attended_at}, but still takes part in conversations "
        f"({_MESSAGES} {_LATELY}). Reply to something they wrote, and invite them along.",
        "It is always good to hear from you in our conversations. You were last with us on "
        "{last_attended_at}, and you are welcome back any time.",
    ),
    "at_risk.lapsed.browsing": Explanation(
        f"Last attended on {{last_attended_at}}, but looked at event pages {_VIEWS} {_LATELY}. "
        "Ask what they are looking for, and suggest an event to match.",
        "You were last with us on {last_attended_at}. If you are looking for something in "
        "particular, ask us, and we will gladly help you find it.",
    ),
    "at_risk.lapsed.reading": Explanation(
        f"Last attended on {{last_attended_at}}, but still reads what is sent ({_READS} "
        f"{_LATELY}). A personal invitation has a fair chance of being read: send it soon.",
        "It is good to have you with us. You were last at an event on {last_attended_at}, and "
        "there is a place for you whenever you feel like coming.",
    ),
    "at_risk.lapsed.elsewhere": Explanation(
        "Last attended on {last_attended_at}, but was active in other ways as lately as "
        "{last_active_at}. Write a personal note, and mention an event close to their interests.",
        "It is good to have you with us. You were last at an event on {last_attended_at}, and "
        "you are welcome back whenever you like.",
    ),
    "at_risk.lapsed.quiet": Explanation(
        f"Attended {_EVENTS_EVER} in all, the latest on {{last_attended_at}}; no activity of any "
        f"kind for {_QUIET_DAYS}. Have somebody they know get in touch, without an agenda.",
        "It has been a while! You were last with us on {last_attended_at}, and it would be "
        "lovely to see you again whenever the time is right.",
    ),
    "at_risk.lapsed.undated": Explanation(
        f"Attended {_EVENTS_EVER} in all, but none {_LATELY}. "
        "Write a personal note, and ask what they would come back for.",
        "It has been a while, and it would be lovely to see you again whenever the time is right.",
    ),
    "at_risk.seldom": Explanation(
        f"Attended {_EVENTS} {_LATELY}, and {{events_attended_prev_90d}} {_BEFORE}: fewer than "
        "this organisation hopes for. Ask what would make it easier to come more often.",
        f"Thank you for coming to {_EVENTS} {_LATELY}. We would love to hear what would make "
        "our events suit you even better.",
    ),
}

_NEVER_ACTIVATED = {
    "at_risk.never_activated.no_shows": Explanation(
        f"Signed up for {_NO_SHOWS} without coming {_LATELY}, and has never attended. "
        "Ask kindly what got in the way, and offer to meet them at the door.",
        "It is a pity that we have missed each other so far. Plans change, and that is fine: "
        "you are welcome whenever it suits you.",
    ),
    "at_risk.never_activated.signed_up": Explanation(
        f"Signed up for {_SIGN_UPS} {_LATELY}, but no attendance has been recorded since joining "
        "on {joined_at}. Write before the next event, so that they know somebody to look for.",
        f"You have signed up for {_SIGN_UPS} {_LATELY}, and we would love to meet you there. "
        "If anything would help you to come, just ask.",
    ),
    "at_risk.never_activated.talking": Explanation(
        f"Takes part in conversations ({_MESSAGES} {_LATELY}), but has never attended an event. "
        "Find out whether events suit them at all, or whether an online role would.",
        "It is great to hear from you in our conversations. If you ever feel like meeting the "
        "people behind the names, you would be very welcome.",
    ),
    "at_risk.never_activated.browsing": Explanation(
        f"Looked at event pages {_VIEWS} {_LATELY}, but has never attended. "
        "Ask what they are looking for, and offer to introduce them to somebody who is going.",
        "There is plenty going on here. If you are not sure what would suit you, ask us, and we "
        "will gladly suggest an event.",
    ),
    "at_risk.never_activated.reading": Explanation(
        f"Reads what is sent ({_READS} {_LATELY}), but has never attended since joining on "
        "{joined_at}. Send a personal invitation to a small, easy event.",
        "It is good to have you with us. Whenever an event catches your eye, you will find "
        "friendly faces there.",
    ),
    "at_risk.never_activated.elsewhere": Explanation(
        "A member since {joined_at}, last active on {last_active_at}, who has never attended an "
        "event. Write a personal note, and mention an event close to their interests.",
        "It is good to have you with us. If an event ever catches your eye, you would be very "
        "welcome.",
    ),
    "at_risk.never_activated.quiet": Explanation(
        "A member since {joined_at} who has never attended an event and has not been active for "
        f"{_QUIET_DAYS}. Send a short note that asks what they hoped to find.",
        "It is good to have you with us. If there is anything you were hoping to find here, we "
        "would love to hear about it.",
    ),
    "at_risk.never_activated.silent": Explanation(
        "Joined on {joined_at}, and no activity of any kind has been seen since. "
        "Have somebody welcome them in person, and ask what made them join.",
        "We are glad that you joined us. Whenever you feel like looking in, you will find a warm "
        "welcome.",
    ),
}

_INACTIVE = {
    "inactive.browsing": Explanation(
        f"Not active for {_QUIET_DAYS}, but looked at event pages {_VIEWS} {_LATELY}. "
        "Some interest is left: suggest an upcoming event in a personal note.",
        "There is always a place for you here. If you are looking for something in particular, "
        "ask us, and we will gladly help you find it.",
    ),
    "inactive.attended_before": Explanation(
        f"Attended {_EVENTS_EVER} in all, the latest on {{last_attended_at}}; not active for "
        f"{_QUIET_DAYS}. Ask in a friendly note whether they wish to stay in touch.",
        "It has been a while since you were with us on {last_attended_at}. Everybody needs a "
        "break at times, and you are welcome back whenever you like.",
    ),
    "inactive.undated": Explanation(
        f"Attended {_EVENTS_EVER} in all, but has not been active for {_QUIET_DAYS}. "
        "Ask in a friendly note whether they wish to stay in touch.",
        "It has been a while. Everybody needs a break at times, and you are welcome back "
        "whenever you like.",
    ),
    "inactive.never_attended": Explanation(
        "A member since {joined_at} who has never attended an event and was last active on "
        "{last_active_at}. Ask whether they wish to stay, and respect the answer.",
        "There is always a place for you here. If there is anything we could do to make our "
        "events suit you, we would love to hear it.",
    ),
    "inactive.silent": Explanation(
        "Joined on {joined_at}, and no activity of any kind has ever been seen. "
        "Check that messages reach them, and ask whether they wish to stay.",
        "There is always a place for you here. Whenever you feel like looking in, you will find "
        "a warm welcome.",
    ),
}

TEMPLATES: dict[str, Explanation] = {
    **_HIGHLY_ENGAGED,
    **_NEW,
    **_MODERATE,
    **_LAPSED,
    **_NEVER_ACTIVATED,
    **_INACTIVE,
}
"""Every situation's explanation. `situations` says which member is in which."""


def _version() -> str:
    written = json.dumps({name: asdict(e) for name, e in TEMPLATES.items()}, sort_keys=True)
    return f"templates-{hashlib.sha256(written.encode()).hexdigest()[:12]}"


TEMPLATES_VERSION = _version()
"""Changes with every word above, so that no edit can go out under the old version."""
