"""Notifications, their reads and memberships, straight into a warehouse: many rows, made by DuckDB.

Three in ten notifications name no organisation, one person in five has two memberships, and one
membership in ten has ended; two reads a notification on average, of six notifications in ten.
"""

from datetime import datetime, timedelta

from engagement_pipeline.warehouse.connection import Connection

DAYS = 90
FEATURES = 8
_NOTIFICATIONS_A_PERSON = 50


def fill(connection: Connection, *, notifications: int, orgs: int, as_of: datetime) -> None:
    """Fill `raw.organizations`, `memberships`, `notifications` and `notification_reads`.

    What happens lies in the 90 days before `as_of`. The warehouse's tables must be there.
    """
    people = max(1, notifications // _NOTIFICATIONS_A_PERSON)
    end = f"TIMESTAMPTZ '{as_of.isoformat()}'"
    started = f"TIMESTAMPTZ '{(as_of - timedelta(days=DAYS)).isoformat()}'"
    seconds = DAYS * 86_400
    org = "'org-' || lpad(CAST(hash({}) % " + str(orgs) + " AS VARCHAR), 4, '0')"
    joined = f"{started} - to_seconds(CAST(86400 * (1 + hash({{}}) % 900) AS BIGINT))"
    connection.execute(
        f"""INSERT INTO raw.organizations BY NAME
            SELECT 'org-' || lpad(CAST(i AS VARCHAR), 4, '0') AS org_id,
                   'Organisation ' || i AS name, 'UTC' AS timezone FROM range({orgs}) AS t(i)"""
    )
    connection.execute(
        f"""INSERT INTO raw.memberships BY NAME
            SELECT {org.format("i")} AS org_id, 'user-' || i AS user_id, 'member' AS role,
                   {joined.format("i + 7")} AS joined_at,
                   CASE WHEN hash(i + 1) % 10 = 0
                        THEN {end} - to_seconds(CAST(hash(i + 3) % {seconds} AS BIGINT))
                   END AS left_at
            FROM range({people}) AS t(i)
            UNION ALL BY NAME
            SELECT {org.format("i + 99")} AS org_id, 'user-' || i AS user_id, 'member' AS role,
                   {joined.format("i + 17")} AS joined_at
            FROM range({people // 5}) AS t(i) WHERE {org.format("i")} <> {org.format("i + 99")}"""
    )
    person = f"CAST(hash(i) % {people} AS BIGINT)"
    connection.execute(
        f"""INSERT INTO raw.notifications BY NAME
            SELECT 'ntf-' || i AS notification_id, 'user-' || {person} AS user_id,
                   CASE WHEN hash(i + 5) % 10 < 7 THEN {org.format(person)} END AS org_id,
                   'feature-' || (hash(i + 2) % {FEATURES}) AS feature, 'email' AS channel,
                   {end} - to_seconds(CAST(hash(i + 11) % {seconds} AS BIGINT)) AS sent_at
            FROM range({notifications}) AS t(i)"""
    )
    connection.execute(
        f"""INSERT INTO raw.notification_reads BY NAME
            SELECT 'ntf-' || i AS notification_id, least({end},
                   {end} - to_seconds(CAST(hash(i + 11) % {seconds} AS BIGINT))
                   + to_seconds(CAST(60 + hash(j + 3) % 86400 AS BIGINT))
                   + to_microseconds(j)) AS read_at
            FROM (SELECT j, CAST(hash(j) % {notifications * 6 // 10} AS BIGINT) AS i
                  FROM range({2 * notifications}) AS t(j))"""
    )
