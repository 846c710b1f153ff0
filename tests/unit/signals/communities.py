"""Small communities to compute signals of: how they are drawn at random, and how they are run.

A community is a dict from table name to rows (dicts), or to `None` where the source lacks the
table. Instants are whole microseconds.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
from hypothesis import strategies as st

from engagement_pipeline.contracts.vocabulary import ATTENDANCE_STATUSES
from engagement_pipeline.signals import SignalSources, member_signals
from tests.unit.signals.oracle import DAY

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AS_OF = 1_700_000_000_123_457
SECTIONS = ("skills", "work_history")
ENGINES = ("polars", "polars streaming", "duckdb")

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
    "interactions": {"org_id": _TEXT, "user_id": _TEXT, "sent_at": _TIME},
    "profile_updates": {"user_id": _TEXT, "section": _TEXT, "updated_at": _TIME},
}


def instant_of(microseconds):
    return EPOCH + timedelta(microseconds=microseconds)


@dataclass
class _ArrowStream:
    """DuckDB takes a Polars frame through pyarrow only, but any Arrow stream without it."""

    frame: pl.DataFrame

    def __arrow_c_stream__(self, requested_schema=None):
        return self.frame.__arrow_c_stream__(requested_schema)


def computed(tables, engine="polars", as_of=AS_OF, sections=SECTIONS):
    """The frame of `member_signals` for a community, collected by `engine`."""
    frames = {
        table: None
        if tables.get(table) is None
        else pl.DataFrame(tables[table], schema, orient="row")
        for table, schema in SCHEMAS.items()
    }
    if engine == "duckdb":
        with duckdb.connect() as connection:
            relations = {}
            for table, frame in frames.items():
                if frame is not None:
                    source = _ArrowStream(frame)
                    connection.register("arriving", source)
                    connection.execute(f"CREATE TABLE {table} AS FROM arriving")
                    relations[table] = connection.table(table)
            found = _signals(SignalSources(**relations), as_of, sections)
            return pl.DataFrame(found)
    sources = SignalSources(**{t: None if f is None else f.lazy() for t, f in frames.items()})
    mode = "streaming" if engine == "polars streaming" else "in-memory"
    return _signals(sources, as_of, sections).collect(engine=mode)


def _signals(sources, as_of, sections):
    moment = instant_of(as_of)
    return member_signals(sources, as_of=moment, significant_sections=sections).to_native()


def signals_of(tables, engine="polars", as_of=AS_OF, sections=SECTIONS):
    """The rows of `member_signals`, sorted, as dicts."""
    return computed(tables, engine, as_of, sections).sort("org_id", "user_id").to_dicts()


def only_member(tables, **options):
    """The signals of the one member of the community."""
    (member,) = signals_of({"attendance": [], **tables}, **options)
    return member


def stay(org_id="o1", user_id="u1", joined_days_ago=400.0, left_days_ago=None):
    return {
        "org_id": org_id,
        "user_id": user_id,
        "joined_at": ago(joined_days_ago),
        "left_at": None if left_days_ago is None else ago(left_days_ago),
    }


def answer(status, created_at, responded_at=None, org_id="o1", user_id="u1"):
    return {
        "org_id": org_id,
        "event_id": "e1",
        "user_id": user_id,
        "status": status,
        "created_at": created_at,
        "responded_at": responded_at,
    }


def ago(days):
    return AS_OF - int(days * DAY)


# Instants crowd at the edges of the windows and of days: there a wrong comparison shows.
_instants = st.builds(
    lambda days, nudge: AS_OF - days * DAY + nudge,
    st.sampled_from((-100, -1, 0, 1, 40, 89, 90, 91, 130, 180, 181, 300)),
    st.sampled_from((-1, 0, 1)),
)
_orgs = st.sampled_from(("o1", "O2", "ö3"))
_users = st.sampled_from(("u1", "u2"))
_events = st.sampled_from(("e1", "e2"))
_notification_ids = st.sampled_from([f"n{number}" for number in range(4)])


def _rows(max_size=12, unique_by=None, **columns):
    return st.lists(st.fixed_dictionaries(columns), max_size=max_size, unique_by=unique_by)


communities = st.fixed_dictionaries(
    {
        "memberships": _rows(
            unique_by=lambda row: (row["org_id"], row["user_id"], row["joined_at"]),
            org_id=_orgs,
            user_id=_users,
            joined_at=_instants,
            left_at=st.none() | _instants,
        ).filter(bool),
        "attendance": _rows(
            max_size=20,
            org_id=_orgs,
            event_id=_events,
            user_id=_users,
            status=st.sampled_from(ATTENDANCE_STATUSES),
            created_at=_instants,
            responded_at=st.none() | _instants,
        ),
        "event_views": st.none()
        | _rows(org_id=_orgs, event_id=_events, user_id=_users, viewed_at=_instants),
        "notifications": st.none()
        | _rows(
            unique_by=lambda row: row["notification_id"],
            notification_id=_notification_ids,
            user_id=_users,
            org_id=st.none() | _orgs,
            sent_at=_instants,
        ),
        "notification_reads": st.none()
        | _rows(notification_id=_notification_ids, read_at=_instants),
        "interactions": st.none() | _rows(org_id=_orgs, user_id=_users, sent_at=_instants),
        "profile_updates": st.none()
        | _rows(
            user_id=_users,
            section=st.sampled_from((*SECTIONS, "photo")),
            updated_at=_instants,
        ),
    }
)
as_of_moments = st.sampled_from((AS_OF, AS_OF - 40 * DAY, AS_OF - 90 * DAY, AS_OF + 95 * DAY))
