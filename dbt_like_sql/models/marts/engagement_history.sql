SELECT
    c.org_id,
    c.user_id,
    c.as_of,
    CASE WHEN o.org_id IS NULL THEN c.level ELSE o.level END AS effective_level,
    c.level AS computed_level,
    c.baseline_level,
    o.org_id IS NOT NULL AS is_overridden,
    c.source
FROM {{ source('scores', 'classifications') }} AS c
INNER JOIN {{ source('raw', 'organizations') }} AS g ON c.org_id = g.org_id
INNER JOIN {{ ref('stg_shown_run') }} AS r ON c.as_of <= r.as_of
LEFT JOIN {{ ref('stg_override_spans') }} AS o
    ON
        c.org_id = o.org_id
        AND c.user_id = o.user_id
        AND c.as_of >= o.holds_from
        AND c.as_of < o.holds_until
