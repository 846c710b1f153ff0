-- A week counts with the last moment at which the member was scored in it; weeks without any are
-- passed over.
WITH weekly AS (
    SELECT
        org_id,
        user_id,
        CAST(
            date_trunc('week', CAST(make_timestamp(epoch_us(as_of)) AS DATE)) AS DATE
        ) AS week,
        arg_max(effective_level, as_of) AS level
    FROM {{ ref('engagement_history') }}
    GROUP BY 1, 2, 3
),

paired AS (
    SELECT
        org_id,
        user_id,
        lag(level) OVER (PARTITION BY org_id, user_id ORDER BY week) AS from_level,
        level AS to_level,
        week
    FROM weekly
)

SELECT
    org_id,
    from_level,
    to_level,
    week,
    count(user_id) AS members
FROM paired
WHERE from_level <> to_level
GROUP BY org_id, from_level, to_level, week
