"""Small communities to compute behaviour of, drawn at random, and features of them in plain loops.

The loops share nothing with the package: no Polars, no windows. A community is a dict from table
name to rows (dicts), or to `None` where the source lacks the table; instants are whole
microseconds.
"""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import strategies as st

from engagement_pipeline.behavior.sources import BehaviorSources
from engagement_pipeline.contracts.vocabulary import ATTENDANCE_STATUSES
from tests.unit.signals.oracle import DAY, _attendance, _holds, _org_at

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AS_OF = 1_700_000_000_123_457

_TEXT, _TIME = pl.String, pl.Int64
SCHEMAS = {
    "memberships": {"org_id": _TEXT, "user_id": _TEXT, "joined_at": _TIME, "left_at": _TIME},
    "attendance": {
        "org_id": _TEXT,
        "event_id": _TEXT,
        "user_id": _TEXT,
        "status": _TEXT,
        "created_at": _TIME,
        "responded_at": _TIME,
    },
    "event_views": {"org_id": _TEXT, "event_id": _TEXT, "user_id": _TEXT, "viewed_at": _TIME},
    "notifications": {
        "notification_id": _TEXT,
        "user_id": _TEXT,
        "org_id": _TEXT,
        "sent_at": _TIME,
    },
    "notification_reads": {"notification_id": _TEXT, "read_at": _TIME},
    "interactions": {
        "org_id": _TEXT,
        "user_id": _TEXT,
        "sent_at": _TIME,
        "sentiment": pl.Float64,
        "quality": pl.Float64,
        "is_meaningful": pl.Boolean,
    },
}


def instant_of(microseconds):
    return EPOCH + timedelta(microseconds=microseconds)


def ago(days):
    return AS_OF - int(days * DAY)


def sources_of(tables):
    """The frames of a community; what it does not name is empty, not absent."""
    frames = {
        table: None
        if tables.get(table, []) is None
        else pl.LazyFrame(tables.get(table, []), schema, orient="row")
        for table, schema in SCHEMAS.items()
    }
    return BehaviorSources(**frames)


def stay(user_id="u1", joined_days_ago=400.0, left_days_ago=None, org_id="o1"):
    left_at = None if left_days_ago is None else ago(left_days_ago)
    return {
        "org_id": org_id,
        "user_id": user_id,
        "joined_at": ago(joined_days_ago),
        "left_at": left_at,
    }


def answer(days_ago, status="registered", responded_days_ago=None, user_id="u1", org_id="o1"):
    responded_at = None if responded_days_ago is None else ago(responded_days_ago)
    return {
        "org_id": org_id,
        "event_id": "e1",
        "user_id": user_id,
        "status": status,
        "created_at": ago(days_ago),
        "responded_at": responded_at,
    }


def said(days_ago, sentiment=None, quality=0.5, user_id="u1", org_id="o1"):
    return {
        "org_id": org_id,
        "user_id": user_id,
        "sent_at": ago(days_ago),
        "sentiment": sentiment,
        "quality": quality,
        "is_meaningful": True,
    }


# Instants crowd at the edges of the windows and of days: there a wrong comparison shows.
_DAYS = (-31, -30, -1, 0, 1, 29, 30, 31, 59, 60, 61, 89, 90, 91, 180, 181, 300)
_instants = st.builds(
    lambda days, nudge: AS_OF - days * DAY + nudge,
    st.sampled_from(_DAYS),
    st.sampled_from((-DAY // 2, -1, 0, 1, -(AS_OF % DAY))),
)
_pairs = {
    "org_id": st.sampled_from(("o1", "O2", "ö3")),
    "user_id": st.sampled_from(("u1", "u2")),
}
_ids = st.sampled_from([f"n{number}" for number in range(5)])


def _rows(max_size=12, unique_by=None, **columns):
    return st.lists(st.fixed_dictionaries(columns), max_size=max_size, unique_by=unique_by)


histories = st.fixed_dictionaries(
    {
        "memberships": _rows(
            unique_by=lambda row: (row["org_id"], row["user_id"], row["joined_at"]),
            **_pairs,
            joined_at=_instants,
            left_at=st.none() | _instants,
        ).filter(bool),
        "attendance": _rows(
            max_size=20,
            **_pairs,
            event_id=st.sampled_from(("e1", "e2")),
            status=st.sampled_from(ATTENDANCE_STATUSES),
            created_at=_instants,
            responded_at=st.none() | _instants,
        ),
        "event_views": st.none() | _rows(**_pairs, event_id=st.just("e1"), viewed_at=_instants),
        "notifications": st.none()
        | _rows(
            unique_by=lambda row: row["notification_id"],
            notification_id=_ids,
            user_id=_pairs["user_id"],
            org_id=st.none() | _pairs["org_id"],
            sent_at=_instants,
        ),
        "notification_reads": st.none() | _rows(notification_id=_ids, read_at=_instants),
        "interactions": st.none()
        | _rows(
            **_pairs,
            sent_at=_instants,
            sentiment=st.none() | st.sampled_from((-1.0, -0.4019, 0.0, 0.1, 0.7, 1.0)),
            quality=st.sampled_from((0.0, 0.1, 0.3, 0.7, 1.0)),
            is_meaningful=st.booleans(),
        ),
    }
)
moments = st.sampled_from((AS_OF, AS_OF - 40 * DAY, AS_OF - AS_OF % DAY, AS_OF + 20 * DAY))


def expected_features(tables, as_of):
    """Rows of `member_features` as dicts, sorted by organisation and person."""
    joined = {}
    for row in tables["memberships"]:
        if _holds(row, as_of):
            pair = (row["org_id"], row["user_id"])
            joined[pair] = min(joined.get(pair, row["joined_at"]), row["joined_at"])
    return [
        {"org_id": org, "user_id": user} | _of_member(tables, as_of, org, user, joined_at)
        for (org, user), joined_at in sorted(joined.items())
    ]


def activity_of(tables, as_of, org, user):
    """Moments of coming, of answering, of first reading and of interacting, each as a list."""
    attended, _, answered = _attendance(tables, as_of, org, user)
    _, read = _told(tables, as_of, org, user)
    spoken = [row["sent_at"] for row in _known(tables, "interactions", "sent_at", as_of, org, user)]
    return attended, answered, read, spoken


def _of_member(tables, as_of, org, user, joined_at):
    attended, answered, read, spoken = activity_of(tables, as_of, org, user)
    _, missed, _ = _attendance(tables, as_of, org, user)
    sent, _ = _told(tables, as_of, org, user)
    views = [r["viewed_at"] for r in _known(tables, "event_views", "viewed_at", as_of, org, user)]
    interactions = _known(tables, "interactions", "sent_at", as_of, org, user)
    recent = [row for row in interactions if row["sent_at"] > as_of - 30 * DAY]
    texts = [row["sentiment"] for row in recent if row["sentiment"] is not None]
    active = attended + answered + read + spoken
    days = sorted({moment // DAY for moment in active})
    sent_90d = [was_read for moment, was_read in sent if moment > as_of - 90 * DAY]

    def inside(instants, days_ago, until=0):
        start, end = as_of - days_ago * DAY, as_of - until * DAY
        return sum(start < moment <= end for moment in instants)

    def active_days(days_ago, until=0):
        start, end = as_of - days_ago * DAY, as_of - until * DAY
        return len({moment // DAY for moment in active if start < moment <= end})

    def since(instants):
        return None if not instants else (as_of - max(instants)) / DAY

    def known(table, value):
        return None if tables[table] is None else value

    return {
        "days_since_joined": (as_of - joined_at) / DAY,
        "days_since_active": since(active),
        "days_since_attended": since(attended),
        "days_since_answered": since(answered),
        "days_since_read": since(read),
        "days_since_interaction": since(spoken),
        "events_attended_30d": inside(attended, 30),
        "events_attended_90d": inside(attended, 90),
        "events_attended_prev_90d": inside(attended, 180, 90),
        "events_attended_total": len(attended),
        "rsvps_90d": inside(answered, 90),
        "rsvps_total": len(answered),
        "no_shows_90d": inside(missed, 90),
        "event_views_90d": known("event_views", inside(views, 90)),
        "notifications_sent_90d": known("notifications", len(sent_90d)),
        "notifications_read_share_90d": _mean(sent_90d),
        "interactions_30d": known("interactions", len(recent)),
        "interactions_prev_30d": known("interactions", inside(spoken, 60, 30)),
        "mean_sentiment_30d": _mean(texts),
        "mean_quality_30d": _mean([row["quality"] for row in recent]),
        "meaningful_share_30d": _mean([row["is_meaningful"] for row in recent]),
        "active_days_30d": active_days(30),
        "active_days_90d": active_days(90),
        "active_days_total": len(days),
        "active_days_trend_30d": active_days(30) - active_days(60, 30),
        "mean_days_between_active_days": (days[-1] - days[0]) / (len(days) - 1)
        if len(days) > 1
        else None,
        "days_from_first_to_last_active": days[-1] - days[0] if days else 0,
        "days_since_first_active": as_of // DAY - (days[0] if days else joined_at // DAY),
    }


def _mean(values):
    return sum(values) / len(values) if values else None


def _known(tables, table, time_column, as_of, org, user):
    return [
        row
        for row in tables[table] or []
        if (row["org_id"], row["user_id"]) == (org, user) and row[time_column] <= as_of
    ]


def _told(tables, as_of, org, user):
    """Sendings as pairs of their moment and whether read by now; and moments of first reads."""
    sent, read = [], []
    for row in tables["notifications"] or []:
        if row["user_id"] != user or row["sent_at"] > as_of:
            continue
        visits = [
            visit["read_at"]
            for visit in tables["notification_reads"] or []
            if visit["notification_id"] == row["notification_id"] and visit["read_at"] <= as_of
        ]
        if _org_at(tables, row, row["sent_at"]) == org:
            sent.append((row["sent_at"], bool(visits)))
        if visits and _org_at(tables, row, min(visits)) == org:
            read.append(min(visits))
    return sent, read
