"""What a model is told: the system text, the answer's schema, and the user turn.

Everything that could change an answer and is ours to write stands here, under one version. No
member is ever in it: profiles go as numbers in a row, and figures come back as placeholders. How
a model takes it (a forced tool or JSON, a thinking switch) is in `anthropic.models`; what it
answers is checked in `answers`.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from engagement_pipeline.contracts import vocabulary
from engagement_pipeline.scoring.levels import OrgContext
from engagement_pipeline.scoring.profiles import Profile, corrections_as_sent, org_as_sent

TOOL_NAME = "classify_engagement"

SYSTEM = """\
Judge how engaged an organisation's members are. A row is a group with like signals; numbers are \
lower bounds, * is not told.
Columns: row; events attended in the last 90 days; in the 90 days before; sign-ups; no-shows; \
days since last attended (x never); days since active; days since joined; % of notices read \
(? unknown); messages (? unknown); days since profile update (x never); trend + = -.
Levels: highly_engaged; moderate; at_risk (drifting away); new (just joined); inactive (long \
gone). Thresholds are hints: weigh all signals. Members below new_member_days are never at_risk \
or inactive.
Give every row once. admin_explanation, at most 20 words: what is seen, one thing to do. \
user_explanation, at most 12 words: warm words to the member, no pressure; never at risk, \
inactive, disengaged, score, or a level's name.
Write plain English: no digits, number words (nor one, once, first), dates, links, markup or the \
organisation's name. Cite figures only as placeholders: \
{events_attended_90d} {events_attended_prev_90d} {events_attended_total} {rsvp_count_90d} \
{no_show_count_90d} {days_since_active} {days_since_joined} {joined_at}; if known \
{last_attended_at} {days_since_attended} {notifications_read_90d} {interaction_count_90d}; \
plurals as {events_attended_90d:event|events}."""
"""Rules and bans, the same for every organisation."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "classifications": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "row": {"type": "integer"},
                    "level": {"type": "string", "enum": list(vocabulary.LEVELS)},
                    "admin_explanation": {"type": "string"},
                    "user_explanation": {"type": "string"},
                },
                "required": ["row", "level", "admin_explanation", "user_explanation"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["classifications"],
    "additionalProperties": False,
}
"""The answer's shape. Strict mode holds it to types and names; counts and lengths are ours to
check, since it would turn them into mere descriptions."""


def user_turn(org: OrgContext, profiles: Sequence[Profile]) -> str:
    """The user's message for some profiles of one organisation, a line a profile.

    What admins corrected stands in a line before them, where there is any.

    Args:
        org: the organisation; its name and description go encoded and capped.
        profiles: what is asked; row numbers are 1 for the first, and so on.

    Raises:
        MalformedProfileError: a correction is of no profile.
    """
    context = json.dumps(org_as_sent(org), ensure_ascii=False, separators=(",", ":"))
    rows = (f"{row} {profile.text}" for row, profile in enumerate(profiles, start=1))
    guidance = corrections_as_sent(org.corrections)
    return "\n".join((context, _thresholds(org), *([guidance] if guidance else ()), *rows))


def _thresholds(org: OrgContext) -> str:
    return " ".join(f"{name}={value}" for name, value in vars(org.thresholds).items())


def _version() -> str:
    written = json.dumps([SYSTEM, SCHEMA, TOOL_NAME], sort_keys=True)
    return f"prompt-1-{hashlib.sha256(written.encode()).hexdigest()[:12]}"


PROMPT_VERSION = _version()
"""Changes with every word above; its first part, by hand, with the encoding of rows."""
