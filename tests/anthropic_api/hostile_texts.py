"""What a model may not write, in forms that hide it: material for spoilt answers.

Which answer they go into belongs to `spoilt_answers`.
"""

AT_RISK_SPELLINGS: tuple[str, ...] = (
    "at risk",
    "At-Risk",
    "AT_RISK",
    "at\u00a0risk",
    "at  risk",
    "atrisk",
    "a t r i s k",
    "a.t. r.i.s.k.",
    "at\u2011risk",
    "at\u2014risk",
    "at/risk",
    "at\u200brisk",
    "at r\u00adisk",
    "\uff41\uff54 \uff52\uff49\uff53\uff4b",
    "\u0430t r\u0456sk",
    "at r\u00eesk",
    "a\u0301t ri\u0308sk",
    "\U0001d41a\U0001d42d \U0001d42b\U0001d422\U0001d42c\U0001d424",
    "at (high) risk",
    "at\trisk",
    "at\u2060risk",
    "At.Risk",
)
"""Over twenty ways to write what a member is never told."""

NUMBER_WORDS = ("three", "Dozens of", "twenty-five", "a hundred", "seven")
LEVEL_NAMES = ("highly engaged", "moderate", "at risk", "a new member", "inactive")
URLS = ("https://example.org/join", "www.example.org", "example.org/join")
MARKUP = ("**welcome back**", "<b>welcome back</b>", "[welcome](back)", "`welcome`")
DIGITS = ("3 events", "\u0663 events", "\uff13 events", "\u00b3 events", "\u2462 events")
UNKNOWN_PLACEHOLDERS = ("{events_attended_last_week}", "{name}", "{}", "{0}")
BROKEN_BRACES = ("{events_attended_90d", "events_attended_90d}", "{events_attended_90d:event}")
UNKNOWN_LEVELS = ("super_engaged", "High", "AT_RISK", "")
TOO_LONG = "We would be very glad indeed to see you again at any of our gatherings. " * 12
