-- Only what was known at the moment shown. A status holds from `responded_at` on; before that the
-- row says no more than that the person answered. The days are in UTC whatever the session's zone.
SELECT
    a.org_id,
    a.event_id,
    a.user_id,
    CAST(make_timestamp(epoch_us(a.created_at)) AS DATE) AS answered_day,
    CAST(make_timestamp(epoch_us(coalesce(a.responded_at, a.created_at))) AS DATE) AS settled_day,
    CASE
        WHEN coalesce(a.responded_at, a.created_at) <= r.as_of THEN a.status ELSE 'registered'
    END AS known_status
FROM {{ source('raw', 'attendance') }} AS a
INNER JOIN {{ source('raw', 'organizations') }} AS o ON a.org_id = o.org_id
INNER JOIN {{ ref('stg_shown_run') }} AS r ON a.created_at <= r.as_of
