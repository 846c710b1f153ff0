"""The ledger of messages as delivery reads and writes it: what is due, and how each fared.

Every function that writes is one transaction, if only because it is one statement. What a message's
fate is, and when it may leave, is decided in `outreach.delivery`; how messages are planned belongs
to `outreach_plans`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.warehouse.connection import Connection, transaction
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.quality import Violation

_MESSAGES = contract("outreach.messages")
_DELIVERIES = contract("outreach.deliveries")
_CHANNELS = contract("outreach.channels")
_OPT_OUTS = contract("outreach.channel_opt_outs")

Row = Mapping[str, Any]

_LEFT = ", ".join(f"'{status}'" for status in vocabulary.SENT_STATUSES)
_IS_DUE = "status IN ('reserved', 'scheduled') AND send_at <= $now"

# Outcomes after which the member may have the message all the same.
_MAY_HAVE_LEFT = "outcome IN ('server_error', 'timed_out', 'connection_lost')"

# What a preference says of quiet hours counts only with both ends.
_HAS_HOURS = "quiet_start IS NOT NULL AND {0}.quiet_end IS NOT NULL"
_QUIET = (
    f"CASE WHEN here.{_HAS_HOURS.format('here')} THEN here.quiet_{{0}} "
    f"WHEN anywhere.{_HAS_HOURS.format('anywhere')} THEN anywhere.quiet_{{0}} END AS quiet_{{0}}"
)
_DUE = f"""
WITH due AS (
    SELECT message_id, org_id, user_id, outreach_type, trigger, template_id, text, planned_at,
           send_at, status, priority, occasion, reserved_at
    FROM {_MESSAGES.full_name} WHERE {_IS_DUE}
    ORDER BY status = 'reserved' DESC, send_at, priority DESC, message_id LIMIT $limit
), failed AS (
    SELECT d.message_id, count(*) AS failures,
           count(*) FILTER (WHERE d.{_MAY_HAVE_LEFT}) > 0 AS may_have_left
    FROM {_DELIVERIES.full_name} AS d
    SEMI JOIN due USING (message_id)
    WHERE d.{_MAY_HAVE_LEFT} OR d.outcome = 'rate_limited'
    GROUP BY d.message_id
), theirs AS (
    SELECT due.message_id AS due_id, m.message_id, m.status, m.reserved_at, m.sent_at
    FROM due INNER JOIN {_MESSAGES.full_name} AS m
    ON m.org_id = due.org_id AND m.user_id = due.user_id AND m.message_id <> due.message_id
), tried AS (
    SELECT d.message_id, max(d.attempted_at) AS attempted_at FROM {_DELIVERIES.full_name} AS d
    SEMI JOIN theirs USING (message_id)
    WHERE d.{_MAY_HAVE_LEFT}
    GROUP BY d.message_id
), timed AS (
    SELECT theirs.due_id, theirs.message_id,
           CASE WHEN theirs.status = 'reserved' THEN theirs.reserved_at
                WHEN theirs.status IN ({_LEFT}) THEN theirs.sent_at
                ELSE tried.attempted_at END AS counts_at
    FROM theirs LEFT JOIN tried USING (message_id)
), others AS (
    SELECT due_id AS message_id, list(counts_at ORDER BY message_id) AS message_times
    FROM timed WHERE counts_at IS NOT NULL GROUP BY due_id
)
SELECT due.* EXCLUDE (priority),
       coalesce(failed.failures, 0) AS failures,
       due.status = 'reserved' OR coalesce(failed.may_have_left, false) AS may_have_left,
       EXISTS (
           SELECT 1 AS one FROM raw.memberships AS b
           WHERE b.org_id = due.org_id AND b.user_id = due.user_id AND b.joined_at <= $now
             AND (b.left_at IS NULL OR b.left_at > $now) AND g.org_id IS NOT NULL
       ) AS is_member,
       coalesce(here.opted_out, false) OR coalesce(anywhere.opted_out, false) AS is_opted_out,
       EXISTS (
           SELECT 1 AS one FROM raw.erasure_requests AS e
           WHERE e.user_id = due.user_id AND e.requested_at <= $now
       ) AS is_erased,
       EXISTS (
           SELECT 1 AS one FROM {_OPT_OUTS.full_name} AS o
           WHERE o.org_id = due.org_id AND o.user_id = due.user_id AND o.channel = $channel
             -- Who has said since that messages are wanted can be reached again.
             AND NOT coalesce(NOT here.opted_out AND here.updated_at > o.opted_out_at, false)
             AND NOT coalesce(
                 NOT anywhere.opted_out AND anywhere.updated_at > o.opted_out_at, false)
       ) AS is_channel_opted_out,
       EXISTS (
           SELECT 1 AS one FROM milestones.progress AS r
           WHERE r.org_id = due.org_id AND r.user_id = due.user_id AND r.reached_at <= $now
             AND due.occasion = 'milestone_near:' || r.milestone_id
       ) AS is_reached,
       try_cast(w.value AS INTEGER) <> 0 AS gamification_enabled,
       coalesce(p.timezone, f.timezone, g.timezone) AS zone,
       {_QUIET.format("start")},
       {_QUIET.format("end")},
       CASE WHEN s.last_active_at <= $now THEN s.last_active_at END AS last_active_at,
       coalesce(others.message_times, []) AS message_times
FROM due
LEFT JOIN failed USING (message_id)
LEFT JOIN others USING (message_id)
LEFT JOIN raw.preferences AS here
    ON here.user_id = due.user_id AND here.org_id = due.org_id AND here.updated_at <= $now
LEFT JOIN raw.preferences AS anywhere
    ON anywhere.user_id = due.user_id AND anywhere.org_id IS NULL AND anywhere.updated_at <= $now
LEFT JOIN behavior.predictions AS p
    ON p.org_id = due.org_id AND p.user_id = due.user_id AND p.as_of <= $now
LEFT JOIN raw.profiles AS f ON f.user_id = due.user_id
LEFT JOIN raw.organizations AS g ON g.org_id = due.org_id
LEFT JOIN raw.org_settings AS w
    ON w.org_id = due.org_id AND w.setting = 'gamification_enabled'
LEFT JOIN signals.member_90d AS s ON s.org_id = due.org_id AND s.user_id = due.user_id
ORDER BY due.status = 'reserved' DESC, due.send_at, due.priority DESC, due.message_id
"""


def due(connection: Connection, *, channel: str, now: datetime, limit: int) -> list[dict[str, Any]]:
    """Messages to be sent by now, whatever channel they were planned for, with the facts that tell
    whether they may be.

    Reserved ones come first; then by `send_at`, the highest priority, and id. What became known
    later than `now` is not known.

    Args:
        connection: to the warehouse.
        channel: by which they would leave: whose opt-outs count.
        now: the moment.
        limit: how many at most.

    Returns:
        Of each message what its row says of it, and `failures` (attempts that failed in a way that
        may pass), `may_have_left`, `is_member`, `is_opted_out`, `is_erased`,
        `is_channel_opted_out` (unless the member has wished for messages since), `is_reached` (of
        a milestone that was near), `gamification_enabled` (null: the organisation does not say),
        `zone`, `quiet_start` and `quiet_end` (both or none), `last_active_at`, and `message_times`
        (of the member's other messages that have left, or may have: those tried last in such a way
        too, whatever became of them).
    """
    return query(connection, _DUE, {"channel": channel, "now": now, "limit": limit}).to_dicts()


def count_due(connection: Connection, *, now: datetime) -> int:
    """How many messages are to be sent by now."""
    rows = connection.execute(
        f"SELECT count(*) FROM {_MESSAGES.full_name} WHERE {_IS_DUE}", {"now": now}
    ).fetchall()
    return int(rows[0][0])


def channel(connection: Connection, name: str) -> dict[str, Any] | None:
    """How a channel fares; None before its first trouble."""
    found = query(
        connection, f"SELECT * FROM {_CHANNELS.full_name} WHERE channel = $name", {"name": name}
    ).to_dicts()
    return found[0] if found else None


def reserve(
    connection: Connection,
    message_id: str,
    *,
    planned_at: datetime,
    channel: str,
    reserved_at: datetime,
) -> int:
    """Take a message in hand; gives how many attempts there have been with the one that begins.

    Args:
        connection: to the warehouse.
        message_id: the message.
        planned_at: of the message: by it the engine finds the row without looking at all of them.
        channel: by which it is to leave.
        reserved_at: when that is.
    """
    rows = connection.execute(
        f"""UPDATE {_MESSAGES.full_name}
            SET status = 'reserved', channel = $channel, reserved_at = $reserved_at,
                attempts = attempts + 1
            WHERE planned_at = $planned_at AND message_id = $message_id
            RETURNING attempts""",
        {
            "channel": channel,
            "reserved_at": reserved_at,
            "planned_at": planned_at,
            "message_id": message_id,
        },
    ).fetchall()
    return int(rows[0][0])


def settle(
    connection: Connection,
    delivery: Row,
    *,
    planned_at: datetime,
    changes: Row,
    channel: Row | None = None,
    opt_out: Row | None = None,
) -> list[str]:
    """Put down what came of an attempt; gives the other messages that are cancelled for it.

    Args:
        connection: to the warehouse.
        delivery: a row of `outreach.deliveries`.
        planned_at: of its message.
        changes: columns of the message's row that change, with their new values.
        channel: the row of `outreach.channels` from now on, if that changes.
        opt_out: a row of `outreach.channel_opt_outs`, if the member is gone. Whatever is scheduled
            for the member by that channel is cancelled then.
    """
    with transaction(connection):
        _insert(connection, _DELIVERIES.full_name, delivery)
        change(connection, delivery["message_id"], planned_at=planned_at, changes=changes)
        if channel is not None:
            _keep_channel(connection, channel)
        return [] if opt_out is None else _opt_out(connection, opt_out)


def change(connection: Connection, message_id: str, *, planned_at: datetime, changes: Row) -> None:
    """Change columns of a message's row."""
    assignments = ", ".join(f"{name} = ${name}" for name in changes)
    connection.execute(
        f"UPDATE {_MESSAGES.full_name} SET {assignments} "
        "WHERE planned_at = $of_planned_at AND message_id = $of_message_id",
        {**changes, "of_planned_at": planned_at, "of_message_id": message_id},
    )


def give_up(connection: Connection, message_id: str, *, planned_at: datetime, error: str) -> None:
    """Let a message end as failed. A last attempt that nobody knows the end of lost its connection.

    Args:
        connection: to the warehouse.
        message_id: the message.
        planned_at: of the message.
        error: why.
    """
    whose = {"planned_at": planned_at, "message_id": message_id}
    with transaction(connection):
        # So whoever looks at attempts finds when it may have left.
        connection.execute(
            f"""INSERT INTO {_DELIVERIES.full_name}
                    (message_id, attempt, channel, attempted_at, outcome, error)
                SELECT m.message_id, m.attempts, m.channel, m.reserved_at, 'connection_lost', $error
                FROM {_MESSAGES.full_name} AS m
                ANTI JOIN {_DELIVERIES.full_name} AS d
                    ON d.message_id = m.message_id AND d.attempt = m.attempts
                WHERE m.planned_at = $planned_at AND m.message_id = $message_id
                  AND m.status = 'reserved' AND m.reserved_at IS NOT NULL""",
            {**whose, "error": error},
        )
        changes = {"status": "failed", "last_error": error}
        change(connection, message_id, planned_at=planned_at, changes=changes)


def violations(connection: Connection, *, since: datetime) -> list[Violation]:
    """The promises that attempts since a moment break; those before were looked at in their time.

    Args:
        connection: to the warehouse.
        since: the moment, included.
    """
    rows = f"(SELECT * FROM {_DELIVERIES.full_name} WHERE attempted_at >= $since)"
    found = connection.execute(_DELIVERIES.violations_query(rows), {"since": since}).fetchall()
    return [Violation(*row) for row in found]


def _keep_channel(connection: Connection, row: Row) -> None:
    connection.execute(f"DELETE FROM {_CHANNELS.full_name} WHERE channel = ?", [row["channel"]])
    _insert(connection, _CHANNELS.full_name, row)


def _opt_out(connection: Connection, row: Row) -> list[str]:
    whose = {name: row[name] for name in _OPT_OUTS.key}
    condition = "org_id = $org_id AND user_id = $user_id AND channel = $channel"
    connection.execute(f"DELETE FROM {_OPT_OUTS.full_name} WHERE {condition}", whose)
    _insert(connection, _OPT_OUTS.full_name, row)
    cancelled = connection.execute(
        f"UPDATE {_MESSAGES.full_name} SET status = 'cancelled', reason = 'channel_opted_out' "
        f"WHERE {condition} AND status = 'scheduled' RETURNING message_id",
        whose,
    ).fetchall()
    return sorted(message_id for (message_id,) in cancelled)


def _insert(connection: Connection, target: str, row: Row) -> None:
    # To hand over a frame takes longer than all else that is done for a message.
    names, values = ", ".join(row), ", ".join(f"${name}" for name in row)
    connection.execute(f"INSERT INTO {target} ({names}) VALUES ({values})", dict(row))
