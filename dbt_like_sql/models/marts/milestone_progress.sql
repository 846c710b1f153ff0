SELECT
    p.org_id,
    o.name AS org_name,
    p.user_id,
    p.milestone_id,
    c.name,
    c.category,
    c.difficulty,
    c.points,
    p.as_of,
    p.current,
    p.target,
    p.share,
    p.velocity_per_day,
    p.estimated_at,
    p.reached_at,
    p.celebrated_at
FROM {{ source('milestones', 'progress') }} AS p
INNER JOIN {{ source('milestones', 'catalogue') }} AS c ON p.milestone_id = c.milestone_id
INNER JOIN {{ source('raw', 'organizations') }} AS o ON p.org_id = o.org_id
