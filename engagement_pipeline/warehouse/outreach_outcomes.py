"""What came of messages, as it is stored: what it is made of, and what is made of it.

What counts as a response, and how an uplift is estimated, is decided in `outreach`; here tables are
cut to the shape that it takes, and what comes back is written down.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.contracts.vocabulary import SENT_STATUSES
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import append, query, replace_all

_MESSAGES = contract("outreach.messages")
_WITHHELD = contract("outreach.withheld")
_OUTCOMES = contract("outreach.outcomes")
_UPLIFT = contract("outreach.uplift")
_SIGNALS = contract("loops.signals")

_FOUND = "found_outcomes"
_SENT = ", ".join(f"'{status}'" for status in SENT_STATUSES)

_MARK_RESPONDED = f"""UPDATE {_MESSAGES.full_name} AS m
    SET status = 'responded', responded_at = f.responded_at
    FROM {_FOUND} AS f
    WHERE m.message_id = f.message_id AND f.responded_at IS NOT NULL AND m.status IN ({_SENT})
      AND (m.status <> 'responded' OR m.responded_at IS DISTINCT FROM f.responded_at)"""

# What counts as activity is what `signals.activity` counts, to the letter; a notification that
# names no organisation speaks for the oldest membership that held when it was read.
_ACTIVITY = f"""attended AS (
        SELECT t.org_id, t.user_id, t.status, t.created_at,
               coalesce(t.responded_at, t.created_at) AS settled_at
        FROM raw.attendance AS t
        SEMI JOIN members AS m ON t.org_id = m.org_id AND t.user_id = m.user_id
        WHERE t.created_at <= $known
    ), first_reads AS (
        SELECT n.notification_id, n.org_id, n.user_id, min(r.read_at) AS read_at
        FROM raw.notifications AS n
        INNER JOIN raw.notification_reads AS r ON n.notification_id = r.notification_id
        SEMI JOIN members AS m ON n.user_id = m.user_id
        ANTI JOIN {_MESSAGES.full_name} AS o ON n.notification_id = o.message_id
        WHERE n.sent_at <= $known AND r.read_at <= $known
        GROUP BY n.notification_id, n.org_id, n.user_id
    ), unnamed_reads AS (
        SELECT arg_min(s.org_id, (s.joined_at, s.org_id)) AS org_id, f.user_id, f.read_at
        FROM first_reads AS f
        INNER JOIN raw.memberships AS s
            ON f.user_id = s.user_id AND s.joined_at <= f.read_at
            AND (s.left_at IS NULL OR s.left_at > f.read_at)
        WHERE f.org_id IS NULL
        GROUP BY f.notification_id, f.user_id, f.read_at
    ), activity AS (
        SELECT org_id, user_id, settled_at AS at FROM attended
        WHERE settled_at <= $known AND status IN ('attended', 'partial')
        UNION ALL
        SELECT org_id, user_id, created_at FROM attended
        WHERE settled_at > $known OR status NOT IN ('cancelled', 'waitlisted')
        UNION ALL
        SELECT org_id, user_id, read_at FROM first_reads WHERE org_id IS NOT NULL
        UNION ALL
        SELECT org_id, user_id, read_at FROM unnamed_reads
        UNION ALL
        SELECT i.org_id, i.user_id, i.sent_at
        FROM raw.interactions AS i
        SEMI JOIN members AS m ON i.org_id = m.org_id AND i.user_id = m.user_id
        WHERE i.sent_at <= $known
        UNION ALL
        SELECT m.org_id, m.user_id, p.updated_at
        FROM raw.profile_updates AS p
        INNER JOIN members AS m ON p.user_id = m.user_id
        WHERE p.updated_at <= $known AND p.section IN (SELECT unnest($sections))
    )"""


@dataclass(frozen=True)
class Planned:
    """How many messages there are on record: planned ones, and ones that were withheld."""

    messages: int
    withheld: int


def planned(connection: Connection) -> Planned:
    """Whether there is anything to look at."""
    row = connection.execute(
        f"SELECT (SELECT count(*) FROM {_MESSAGES.full_name}), "
        f"(SELECT count(*) FROM {_WITHHELD.full_name})"
    ).fetchall()[0]
    return Planned(*row)


def slices(
    connection: Connection, *, since: datetime, until: datetime, slice_messages: int
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Messages sent in `(since, until]`, and what their members said since, slice by slice.

    All that concerns a person is in one slice, so that memory does not grow with the messages.

    Yields:
        `message_id`, `org_id`, `user_id`, `outreach_type`, `template_id`, `sent_at`; and of the
        same people up to `until`: `interaction_id`, `org_id`, `user_id`, `sent_at`, `sentiment`,
        `is_meaningful`, the last two null of what is not scored yet.
    """
    moments = {"since": since, "until": until}
    sent = (
        f"FROM {_MESSAGES.full_name} WHERE status IN ({_SENT}) "
        "AND sent_at > $since AND sent_at <= $until"
    )
    messages = query(connection, f"SELECT count(*) AS messages {sent}", moments)["messages"].item()
    parts = -(-messages // slice_messages)
    for part in range(parts):
        own = f"hash(user_id) % {parts} = {part}"
        yield (
            query(
                connection,
                f"SELECT message_id, org_id, user_id, outreach_type, template_id, sent_at {sent} "
                f"AND {own}",
                moments,
            ),
            query(
                connection,
                f"""WITH called AS (
                        SELECT org_id, user_id, min(sent_at) AS since {sent} AND {own}
                        GROUP BY org_id, user_id
                    )
                    SELECT i.interaction_id, i.org_id, i.user_id, i.sent_at, s.sentiment,
                           s.is_meaningful
                    FROM raw.interactions AS i
                    INNER JOIN called AS c
                        ON i.org_id = c.org_id AND i.user_id = c.user_id AND i.sent_at > c.since
                    LEFT JOIN behavior.interactions_scored AS s
                        ON i.interaction_id = s.interaction_id
                    WHERE i.sent_at <= $until""",
                moments,
            ),
        )


def write_outcomes(connection: Connection, outcomes: pl.DataFrame) -> int:
    """Add outcomes, and change those that are otherwise now; gives how many were written.

    An answered message is marked so in `outreach.messages`. What is on record of other messages
    stays.
    """
    names = ", ".join(_OUTCOMES.column_names)
    otherwise = " OR ".join(
        f"o.{name} IS DISTINCT FROM f.{name}"
        for name in _OUTCOMES.column_names
        if name not in _OUTCOMES.key
    )
    with transaction(connection):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_FOUND} AS SELECT {names} "
            f"FROM {_OUTCOMES.full_name} LIMIT 0"
        )
        append(connection, _FOUND, outcomes)
        connection.execute(
            f"DELETE FROM {_OUTCOMES.full_name} AS o USING {_FOUND} AS f "
            f"WHERE o.message_id = f.message_id AND ({otherwise})"
        )
        written = connection.execute(
            f"INSERT INTO {_OUTCOMES.full_name} BY NAME SELECT {names} FROM {_FOUND} AS f "
            f"ANTI JOIN {_OUTCOMES.full_name} AS o ON f.message_id = o.message_id"
        ).fetchall()[0][0]
        connection.execute(_MARK_RESPONDED)
        connection.execute(f"DROP TABLE {_FOUND}")
    return int(written)


def mark_responded(connection: Connection, responses: pl.DataFrame) -> int:
    """Mark messages that were sent as answered; gives how many were changed.

    Args:
        connection: to the warehouse.
        responses: `message_id` and `responded_at`, one row a message.
    """
    if responses.is_empty():
        return 0
    with transaction(connection):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {_FOUND} (message_id VARCHAR, responded_at TIMESTAMPTZ)"
        )
        append(connection, _FOUND, responses.select("message_id", "responded_at"))
        marked = connection.execute(_MARK_RESPONDED).fetchall()[0][0]
        connection.execute(f"DROP TABLE {_FOUND}")
    return int(marked)


def mark_received(connection: Connection, *, until: datetime) -> tuple[int, int]:
    """Mark messages as delivered and read where the source says so; gives how many of each.

    The source says it of a notification whose id is the message's: so whoever delivers messages
    for us reports back by the files that come in anyway. What is on record stays, and a message
    that was answered stays answered.
    """
    with transaction(connection):
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE received AS
                WITH told AS (
                    SELECT n.notification_id AS message_id, n.delivered_at
                    FROM raw.notifications AS n
                    SEMI JOIN {_MESSAGES.full_name} AS m ON n.notification_id = m.message_id
                ), reads AS (
                    SELECT r.notification_id AS message_id, min(r.read_at) AS read_at
                    FROM raw.notification_reads AS r
                    SEMI JOIN told AS t ON r.notification_id = t.message_id
                    WHERE r.read_at <= $until GROUP BY r.notification_id
                )
                SELECT t.message_id,
                       CASE WHEN t.delivered_at <= $until THEN t.delivered_at END AS delivered_at,
                       r.read_at
                FROM told AS t LEFT JOIN reads AS r ON t.message_id = r.message_id""",
            {"until": until},
        )
        marked = {
            name: connection.execute(
                f"""UPDATE {_MESSAGES.full_name} AS m
                    SET {name}_at = r.{name}_at,
                        status = CASE WHEN m.status IN ({before}) THEN '{name}' ELSE m.status END
                    FROM received AS r
                    WHERE m.message_id = r.message_id AND m.{name}_at IS NULL
                      AND r.{name}_at IS NOT NULL AND m.status IN ({_SENT})"""
            ).fetchall()[0][0]
            for name, before in (("delivered", "'sent'"), ("read", "'sent', 'delivered'"))
        }
        connection.execute("DROP TABLE received")
    return int(marked["delivered"]), int(marked["read"])


def outcomes_without_signal(
    connection: Connection, *, since: datetime, as_of: datetime, responds_within: timedelta
) -> pl.DataFrame:
    """Outcomes that no loop signal tells of yet, of messages sent after `since`.

    Only what was over at `as_of`. Responses and silences alike are of the moment when the time to
    respond was over: if responses were of when they came, those who answer at once would count
    before those who are silent, at any moment that is learned for.

    Returns:
        `org_id`, `user_id`, `outreach_type`, `template_id`, `kind`, `value` (its effectiveness),
        `occurred_at` and `source_key` (the message).
    """
    return query(
        connection,
        f"""WITH told AS (
                SELECT org_id, user_id, outreach_type, template_id, effectiveness AS value,
                       CASE WHEN is_response THEN 'RESPONSE' ELSE 'SILENCE' END AS kind,
                       sent_at + $within AS occurred_at,
                       message_id AS source_key
                FROM {_OUTCOMES.full_name} WHERE sent_at > $since
            )
            SELECT t.* FROM told AS t
            ANTI JOIN {_SIGNALS.full_name} AS s
                ON t.kind = s.kind AND t.source_key = s.source_key
            WHERE t.occurred_at <= $as_of ORDER BY t.source_key""",
        {"since": since, "as_of": as_of, "within": responds_within},
    )


def first_enrolments(
    connection: Connection,
    *,
    window_start: datetime,
    window_end: datetime,
    known_until: datetime,
    horizon: timedelta,
    significant_sections: Collection[str],
) -> pl.DataFrame:
    """Each member's first enrolment in the window, and whether the member came back.

    An enrolment is an occasion that the engagement engine planned a message for, or would have:
    once, however often it was tried, and whatever became of the message. It ends in a return if
    within the horizon the member came to an event, answered an invitation, read a notification for
    the first time, said something, or changed a section of the profile that counts. Our own
    messages are no such notifications: nobody who was held out could read one.

    Returns:
        `org_id`, `user_id`, `arm` and `returned`, a row a member. Where the first moment has both
        arms on record, the member counts as held out.
    """
    return query(
        connection,
        f"""WITH occasions AS (
                SELECT org_id, user_id, planned_at AS enrolled_at, 'treated' AS arm
                FROM {_MESSAGES.full_name} WHERE engine = 'engagement' AND tries = 0
                UNION ALL
                SELECT org_id, user_id, planned_at, 'held_out'
                FROM {_WITHHELD.full_name} WHERE engine = 'engagement' AND tries = 0
            ), members AS (
                SELECT org_id, user_id, min(enrolled_at) AS enrolled_at,
                       arg_min(arm, (enrolled_at, arm)) AS arm
                FROM occasions
                WHERE enrolled_at > $window_start AND enrolled_at <= $window_end
                GROUP BY org_id, user_id
            ), {_ACTIVITY}
            SELECT m.org_id, m.user_id, m.arm,
                   coalesce(a.at <= m.enrolled_at + $horizon, false) AS returned
            FROM members AS m
            ASOF LEFT JOIN activity AS a
                ON m.org_id = a.org_id AND m.user_id = a.user_id AND m.enrolled_at < a.at
            ORDER BY m.org_id, m.user_id""",
        {
            "window_start": window_start,
            "window_end": window_end,
            "known": known_until,
            "horizon": horizon,
            "sections": sorted(significant_sections),
        },
    )


def write_uplift(connection: Connection, uplift: pl.DataFrame) -> None:
    """Make these the estimates on record."""
    with transaction(connection):
        replace_all(connection, _UPLIFT, _UPLIFT.validate(uplift))
