WITH labelled AS (
    SELECT
        org_id,
        computed_level,
        count(user_id) AS members
    FROM {{ ref('member_engagement') }}
    GROUP BY org_id, computed_level
)

SELECT
    q.org_id,
    o.name AS org_name,
    q.level,
    coalesce(l.members, 0) AS members,
    q.acceptance_rate,
    q.acceptance_rate_lower,
    q.acceptance_rate_upper,
    q.n,
    q.queued_at,
    q.expires_at
FROM {{ source('loops', 'review_queue') }} AS q
INNER JOIN {{ source('raw', 'organizations') }} AS o ON q.org_id = o.org_id
INNER JOIN {{ ref('stg_last_learned') }} AS s
    ON q.org_id = s.org_id AND s.archetype = 'suggestion' AND q.queued_at = s.learned_at
LEFT JOIN labelled AS l ON q.org_id = l.org_id AND q.level = l.computed_level
