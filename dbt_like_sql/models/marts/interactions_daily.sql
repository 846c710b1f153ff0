-- Only what was known at the moment shown. The days are in UTC whatever the session's zone. Means are
-- taken of whole billionths: sums of fractions differ with the order that rows are added up in.
SELECT
    s.org_id,
    CAST(make_timestamp(epoch_us(s.sent_at)) AS DATE) AS day,
    count(s.interaction_id) AS interactions,
    count(DISTINCT s.user_id) AS members,
    count(DISTINCT s.session_id) AS sessions,
    count(s.interaction_id) FILTER (WHERE s.is_meaningful) AS meaningful,
    count(s.sentiment) AS texts,
    CAST(sum(CAST(round(s.sentiment * 1000000000) AS BIGINT)) AS DOUBLE)
    / (1000000000 * count(s.sentiment)) AS mean_sentiment,
    CAST(sum(CAST(round(s.quality * 1000000000) AS BIGINT)) AS DOUBLE)
    / (1000000000 * count(s.quality)) AS mean_quality
FROM {{ source('behavior', 'interactions_scored') }} AS s
INNER JOIN {{ source('raw', 'organizations') }} AS o ON s.org_id = o.org_id
INNER JOIN {{ ref('stg_shown_run') }} AS r ON s.sent_at <= r.as_of
GROUP BY s.org_id, CAST(make_timestamp(epoch_us(s.sent_at)) AS DATE)
