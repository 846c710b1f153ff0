"""The closed word lists that columns take their values from, and built-in spellings of them.

Only words belong here, and between which bounds the number lies that a word names; what a level
*means* is in `scoring.levels`, and how a raw value is folded onto a word is in `ingest.vocabulary`.
"""

from collections.abc import Mapping

LEVELS = ("highly_engaged", "moderate", "at_risk", "new", "inactive")
"""Engagement levels, from most to least engaged, with `new` apart from the scale."""

USER_LABELS = {
    "highly_engaged": "Highly engaged",
    "moderate": "Active",
    "at_risk": "Reconnecting",
    "new": "New",
    "inactive": "Taking a break",
}
"""What a member may be told of a level. A member never reads the level's own name."""

AT_RISK_REASONS = ("lapsed", "never_activated")

MODEL_CLASSIFIERS = ("anthropic", "anthropic-batch")
CLASSIFIERS = ("auto", "rules", *MODEL_CLASSIFIERS)

LABEL_SOURCES = ("llm", "llm_cached", "rules", "vetoed", "fallback", "budget")

ATTENDANCE_STATUSES = (
    "registered",
    "attended",
    "partial",
    "no_show",
    "cancelled",
    "waitlisted",
)

ATTENDANCE_STATUS_SPELLINGS = {
    "yes": "registered",
    "going": "registered",
    "rsvp": "registered",
    "no": "cancelled",
    "declined": "cancelled",
    "waitlist": "waitlisted",
    "noshow": "no_show",
    "absent": "no_show",
    "present": "attended",
    "checked_in": "attended",
}

INTERACTION_TYPES = (
    "message",
    "command",
    "callback",
    "voice",
    "document",
    "sticker",
    "reaction",
    "inline_query",
)

ROLES = ("member", "admin")

OVERRIDE_ACTIONS = ("override", "clear")
OVERRIDE_HISTORY_ACTIONS = ("override", "clear", "expire")

THRESHOLD_BOUNDS: Mapping[str, tuple[int, int]] = {
    "highly_engaged_min": (1, 1_000),
    "moderate_min": (1, 1_000),
    "new_member_days": (0, 3_650),
    "inactive_days": (1, 3_650),
}
"""Where levels begin: per threshold its lowest and its highest value."""

THRESHOLDS = tuple(THRESHOLD_BOUNDS)

ORG_SETTING_BOUNDS: Mapping[str, tuple[int, int]] = {
    **THRESHOLD_BOUNDS,
    "gamification_enabled": (0, 1),
}
"""Per setting that an organisation may set for itself: its lowest and its highest value."""

ORG_SETTINGS = tuple(ORG_SETTING_BOUNDS)
"""The settings that an organisation may set for itself."""

ARCHETYPES = ("suggestion", "prediction", "vocabulary", "threshold", "ranking", "engagement")
"""The six loops, by what they learn from, in the order of their numbers."""

SIGNAL_KINDS = (
    "ACCEPT",
    "REJECT",
    "OUTCOME",
    "UNKNOWN_VALUE",
    "OVERRIDE",
    "RESPONSE",
    "SILENCE",
    "ENGAGE",
)
"""What a loop signal can tell of.

A level that was left to stand or overruled (suggestion), what a prediction came to, a value outside
a vocabulary, an override (threshold), an outreach answered or not (ranking), a first read
(engagement).
"""

CALIBRATION_ARCHETYPES: Mapping[str, str] = {
    "acceptance-rate": "suggestion",
    "churn-brier": "prediction",
    "churn-calibration-error": "prediction",
    "cost-ratio": "prediction",
    "threshold": "threshold",
    "response-rate": "ranking",
    "engagement-rate": "engagement",
    "engagement-rate-primary": "engagement",
    "read-rate": "engagement",
    "read-rate-primary": "engagement",
    "read-rate-shrunk": "engagement",
}
"""What a calibration's key is up to its first colon -> the loop that learns it."""

ATTRIBUTIONS = ("explicit", "sole", "primary")

DELIVERIES = ("immediate", "daily_digest", "weekly_digest")
"""How a feature's notifications are delivered, from the most to the least often."""

DIGEST_REASONS = (
    "cold_start",
    "expired",
    "read_often",
    "read_sometimes",
    "read_rarely",
    "read_less",
    "read_more",
    "kept",
)
"""Why: nothing known yet; nothing known any more; how often they are surely read; surely read less,
or more, than fits what was decided before; not surely otherwise than it was."""

FLAG_SEVERITIES = ("low", "medium", "high")

LOOP_STATES = ("closed", "learned", "gathering", "expired", "failed", "idle")
"""Where a loop stands: all three parts run; nobody has used yet what was learned; signals only;
what was learned is no longer in force; the last learning failed; nothing happened."""

SENTIMENT_LABELS = ("positive", "neutral", "negative")
SENTIMENT_SOURCES = ("vader", "vader_and_model")
MOODS = ("excitement", "frustration", "confusion", "gratitude")

LIFECYCLE_STATES = ("new", "returning", "resurrecting", "dormant")
"""By periods of 30 days: first active in this one; in this and the one before; in this one again
after a pause; not in this one."""

PREDICTION_TARGETS = ("churn", "mood", "timing")
"""What is predicted of a member, each by models of its own."""

CHURN_BASELINES = ("recency", "frequency", "bg_nbd", "heuristic")
CHURN_MODELS = ("random_forest", "logistic_regression", "hist_gradient_boosting")
MOOD_BASELINES = ("unchanged",)
MOOD_MODELS = ("gradient_boosting",)
TIMING_BASELINES = ("org_hours", "own_hours")
TIMING_MODELS = ("logistic_regression",)

TRAINING_OUTCOMES = ("champion", "no_champion", "too_few_samples", "one_class", "off", "failed")
"""How a training ended: a model won and serves; none beat the baseline surely; too few samples, or
only one class among them, to train on; the source has nothing to train on; it broke."""

CURVES = ("reliability", "precision_recall", "importance")
"""What can be drawn of a model: predicted against observed, precision against recall, and how much
each feature counts."""

OUTREACH_TYPES = (
    "milestone_celebration",
    "re_engagement",
    "personalized_checkin",
    "feature_suggestion",
    "mood_support",
    "topic_follow_up",
)
"""What a message to a member may be for."""

SEGMENTS = ("dormant", "new_user", "normal")
"""Whom a message is for: absent for three days or more, here for less than a day, or neither."""

TONES = ("playful", "warm", "neutral")

SKIP_REASONS = (
    "opted_out",
    "held_out",
    "erased",
    "active",
    "recently_messaged",
    "too_soon_after_last",
    "daily_cap",
)
"""Why a member is not written to, in the order in which it is looked at."""

TRIGGERS = (
    "churn",
    "milestone_reached",
    "milestone_near",
    "declining",
    "low_mood",
    "new_member",
    "absent",
    "topic",
    "feature",
    "manual",
)
"""What makes a message worth sending."""

OUTREACH_ENGINES = ("engagement", "milestones", "manual")
"""Who planned a message. All of them share one ledger of caps."""

CHANNELS = ("log", "webhook")
"""How a message leaves: `log`, where its row is the message, or `webhook`, by HTTP."""

MESSAGE_STATUSES = (
    "scheduled",
    "reserved",
    "sent",
    "delivered",
    "read",
    "responded",
    "failed",
    "cancelled",
)
SENT_STATUSES = ("sent", "delivered", "read", "responded")
"""The statuses of what has left for sure; `reserved` is what may have left."""

CANCEL_REASONS = (
    "opted_out",
    "held_out",
    "erased",
    "recently_messaged",
    "too_soon_after_last",
    "daily_cap",
    "missed_window",
    "channel_opted_out",
    "left",
    "no_longer_due",
)
"""Why a planned message was not sent after all. `left`: the person is no member any more;
`no_longer_due`: what it was for has passed, such as an absence."""

ATTEMPT_OUTCOMES = (
    "accepted",
    "refused",
    "gone",
    "rate_limited",
    "server_error",
    "timed_out",
    "connection_lost",
    "misconfigured",
)
"""What came of one attempt to send: taken (2xx); refused for good (4xx); the member wants none by
this channel (410); 429; 5xx; no answer in time; no connection, or one that broke before the answer;
the address or the key is wrong (401, 403, 404, redirect)."""

UPLIFT_ARMS = ("treated", "held_out")

MILESTONE_CATEGORIES = (
    "communication",
    "consistency",
    "quality",
    "exploration",
    "mood",
    "special",
    "loyalty",
)
MILESTONE_METRICS = (
    "messages",
    "interactions",
    "active_days",
    "longest_streak_days",
    "weekly_streak_weeks",
    "meaningful_interactions",
    "voice_messages",
    "quality_days",
    "interaction_types",
    "events_attended",
    "notifications_read",
    "positive_days",
    "gratitude_interactions",
    "night_days",
    "early_days",
    "weekend_days",
    "days_since_joined",
)
"""What milestones count, of a member's days or the days in their window."""
