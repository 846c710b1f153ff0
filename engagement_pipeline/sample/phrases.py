"""What people write and what admins note, and the words around notifications.

Data only. How often something is said, by whom and when, is decided in `conversations`,
`notices` and `governance`.
"""

from __future__ import annotations

MESSAGES: dict[str, tuple[str, ...]] = {
    "plain": (
        "See you at {event}.",
        "I can bring a spare key.",
        "Running ten minutes late, start without me",
        "The side door is open tonight.",
        "I'll take minutes this time.",
        "ok",
        "On my way",
        "Same place as last week.",
        "I left my scarf behind, the blue one.",
        "Two of us from work are coming.",
    ),
    "question": (
        "What time does {event} start?",
        "Is there parking near the venue?",
        "Can I bring a friend?",
        "Do I need to sign up again for {event}?",
        "Who has the keys this week?",
        "Is {event} still on if it rains?",
    ),
    "excitement": (
        "That was brilliant, best {event} so far!",
        "So excited for {event}!!",
        "Yes! Count me in 🎉",
        "Can't wait, I love this group",
        "Wow, what a turnout tonight!",
    ),
    "gratitude": (
        "Thank you all for a lovely evening.",
        "Thanks so much for organising {event}",
        "Really grateful for the help with the move.",
        "Obrigada, gente! ❤️",
        "Many thanks, that was kind of you.",
    ),
    "confusion": (
        "I don't understand the new sign-up page.",
        "Confused: is it Tuesday or Thursday?",
        "The reminder says seven, the page says half past. Which one?",
        "Not sure I follow, who decides that?",
    ),
    "frustration": (
        "Third cancellation in a row, this is annoying.",
        "Nobody answered my last message.",
        "The app keeps signing me out, terrible",
        "I'm tired of hearing about changes on the day.",
        "Honestly, I feel left out of {event}.",
    ),
}
"""Messages by mood; `{event}` is filled with one of the organisation's own titles."""

COMMANDS: tuple[str, ...] = ("/events", "/rsvp", "/help", "/mute 1d", "/digest weekly", "/who")
CALLBACKS: tuple[str, ...] = ("rsvp:yes", "rsvp:no", "poll:2", "more")
INLINE_QUERIES: tuple[str, ...] = ("next event", "map", "minutes", "contacts")
DOCUMENTS: tuple[str, ...] = ("minutes.pdf", "route-map.gpx", "setlist.pdf", "photo album", "rota")
EMOJI: tuple[str, ...] = ("👍", "❤️", "😂", "🙏", "🎉", "😢")

FEATURE_READ_RATES: dict[str, float] = {
    "event_reminder": 0.75,
    "weekly_digest": 0.40,
    "new_event": 0.50,
    "direct_message": 0.90,
    "platform_news": 0.15,
}
"""Notification features, with the share of notices that a warm member reads."""

CHANNELS: dict[str | None, float] = {"push": 0.5, "email": 0.35, "chat": 0.1, None: 0.05}

OVERRIDE_NOTES: dict[str, tuple[str, ...]] = {
    "highly_engaged": (
        "Runs the kitchen behind the scenes; never signs the sheet.",
        "On the committee, meets us every week outside events.",
    ),
    "moderate": (
        "On parental leave until spring, told us in person.",
        "Comes with a partner who signs in for both.",
        "Works shifts; shows up whenever possible.",
    ),
    "at_risk": (
        "Told me they are thinking of leaving after the fee change.",
        "Upset about the cancelled evenings, needs a call.",
    ),
    "inactive": ("Moved abroad, asked to stay on the list.", "Long illness; please do not chase."),
    "new": ("Joined years ago but only started this month.",),
}
"""An admin's reason, by the level the admin gives."""

CLEAR_NOTES: tuple[str, ...] = ("Back as usual.", "No longer needed, the figures caught up.")

STATUS_SPELLINGS: dict[str, tuple[str, ...]] = {
    "registered": ("yes", "going", "RSVP", "Registered"),
    "attended": ("Attended", "checked-in", "Checked In", "present"),
    "partial": ("Partial", "PARTIAL"),
    "no_show": ("No Show", "no-show", "noshow", "absent"),
    "cancelled": ("no", "Declined", "Cancelled"),
    "waitlisted": ("waitlist", "Waitlisted"),
}
"""Ways in which sources write a status that all mean the same."""
