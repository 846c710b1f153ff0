-- The last decision holds until what it rests on has expired; then nothing is known any more, and
-- the figures would mislead.
WITH decisions AS (
    SELECT
        d.org_id,
        d.feature,
        d.delivery,
        d.reason,
        d.engagement_rate,
        d.read_rate,
        d.read_rate_lower,
        d.read_rate_upper,
        d.read_rate_shrunk,
        d.n_sent,
        d.n_read,
        d.decided_at,
        coalesce(d.expires_at <= n.as_of, false) AS is_expired
    FROM {{ source('loops', 'digest_decisions') }} AS d
    INNER JOIN {{ ref('stg_loops_now') }} AS n ON d.decided_at <= n.as_of
    QUALIFY row_number() OVER (PARTITION BY d.org_id, d.feature ORDER BY d.decided_at DESC) = 1
)

SELECT
    org_id,
    feature,
    CASE WHEN is_expired THEN 'immediate' ELSE delivery END AS delivery,
    CASE WHEN is_expired THEN 'expired' ELSE reason END AS reason,
    CASE WHEN NOT is_expired THEN engagement_rate END AS engagement_rate,
    CASE WHEN NOT is_expired THEN read_rate END AS read_rate,
    CASE WHEN NOT is_expired THEN read_rate_lower END AS read_rate_lower,
    CASE WHEN NOT is_expired THEN read_rate_upper END AS read_rate_upper,
    CASE WHEN NOT is_expired THEN read_rate_shrunk END AS read_rate_shrunk,
    CASE WHEN NOT is_expired THEN n_sent END AS n_sent,
    CASE WHEN NOT is_expired THEN n_read END AS n_read,
    decided_at
FROM decisions
