-- Of every calibration the newest version that has not expired, or the newest where all have, and
-- the loop that learns it. What its key is up to the first colon tells the loop.
SELECT
    c.org_id,
    c.key,
    CASE split_part(c.key, ':', 1)
        WHEN 'acceptance-rate' THEN 'suggestion'
        WHEN 'churn-brier' THEN 'prediction'
        WHEN 'churn-calibration-error' THEN 'prediction'
        WHEN 'cost-ratio' THEN 'prediction'
        WHEN 'threshold' THEN 'threshold'
        WHEN 'response-rate' THEN 'ranking'
        WHEN 'engagement-rate' THEN 'engagement'
        WHEN 'engagement-rate-primary' THEN 'engagement'
        WHEN 'read-rate' THEN 'engagement'
        WHEN 'read-rate-primary' THEN 'engagement'
        WHEN 'read-rate-shrunk' THEN 'engagement'
    END AS archetype,
    c.value,
    c.lower,
    c.upper,
    c.n,
    c.window_start,
    c.window_end,
    c.computed_at,
    c.expires_at,
    c.previous_value,
    count(c.value) OVER (PARTITION BY c.org_id, c.key) AS versions,
    c.expires_at > n.as_of AS is_in_force
FROM {{ source('loops', 'calibrations') }} AS c
INNER JOIN {{ ref('stg_loops_now') }} AS n ON c.computed_at <= n.as_of
QUALIFY
    row_number() OVER (
        PARTITION BY c.org_id, c.key ORDER BY c.expires_at > n.as_of DESC, c.computed_at DESC
    ) = 1
