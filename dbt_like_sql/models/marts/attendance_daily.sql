WITH facts AS (
    SELECT org_id, user_id, answered_day AS day, 'registered' AS fact
    FROM {{ ref('stg_attendance') }}
    WHERE known_status NOT IN ('cancelled', 'waitlisted')
    UNION ALL
    SELECT org_id, user_id, settled_day AS day, 'attended' AS fact
    FROM {{ ref('stg_attendance') }}
    WHERE known_status IN ('attended', 'partial')
    UNION ALL
    SELECT org_id, user_id, settled_day AS day, 'no_show' AS fact
    FROM {{ ref('stg_attendance') }}
    WHERE known_status = 'no_show'
)

SELECT
    org_id,
    day,
    count(user_id) FILTER (WHERE fact = 'registered') AS registered,
    count(user_id) FILTER (WHERE fact = 'attended') AS attended,
    count(user_id) FILTER (WHERE fact = 'no_show') AS no_shows,
    count(DISTINCT user_id) AS distinct_members
FROM facts
GROUP BY org_id, day
