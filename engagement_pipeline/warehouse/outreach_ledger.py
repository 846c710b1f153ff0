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

_MESSAGES = contract("outreach.messages")
_DELIVERIES = contract("outreach.deliveries")
_CHANNELS = contract("outreach.channels")
_OPT_OUTS = contract("outreach.channel_opt_outs")

Row = Mapping[str, Any]

_LEFT = ", ".join(f"'{status}'" for status in vocabulary.SENT_STATUSES)
_IS_DUE = "status IN ('reserved', 'scheduled') AND send_at <= $now"

# What a preference says of quiet hours counts only with both ends.
_HAS_HOURS = "quiet_start IS NOT NULL AND {0}.quiet_end IS NOT NULL"
_QUIET = (
    f"CASE WHEN here.{_HAS_HOURS.format('here')} THEN here.quiet_{{0}} "
    f"WHEN anywhere.{_HAS_HOURS.format('anywhere')} THEN anywhere.quiet_{{0}} END AS quiet_{{0}}"
)
_DUE = f"""
WITH due AS (
    SELECT message_id, org_id, user_id, outreach_type, trigger, template_id, text, planned_at,
           send_at, status, priority
    FROM {_MESSAGES.full_name} WHERE {_IS_DUE}
    ORDER BY status = 'reserved' DESC, send_at, priority DESC, message_id LIMIT $limit
), failed AS (
    SELECT d.message_id, count(*) AS failures FROM {_DELIVERIES.full_name} AS d
    SEMI JOIN due USING (message_id)
    WHERE d.outcome IN ('rate_limited', 'server_error', 'timed_out', 'connection_lost')
    GROUP BY d.message_id
), others AS (
    SELECT due.message_id,
           list(CASE WHEN m.status = 'reserved' THEN m.reserved_at ELSE m.sent_at END
                ORDER BY m.message_id) AS message_times
    FROM due INNER JOIN {_MESSAGES.full_name} AS m
    ON m.org_id = due.org_id AND m.user_id = due.user_id AND m.message_id <> due.message_id
    WHERE m.status IN ('reserved', {_LEFT})
    GROUP BY due.message_id
)
SELECT due.* EXCLUDE (priority),
       coalesce(failed.failures, 0) AS failures,
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
       ) AS is_channel_opted_out,
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
        may pass), `is_member`, `is_opted_out`, `is_erased`, `is_channel_opted_out`, `zone`,
        `quiet_start` and `quiet_end` (both or none), `last_active_at`, and `message_times` (of the
        member's other messages that have left, or may have).
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
