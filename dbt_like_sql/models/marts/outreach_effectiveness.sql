-- A row for every template that an organisation has sent, or that something is believed of there:
-- by the latter the next choice is made. The interval is Wilson's, with z = 1.959963984540054
-- (95 %); z2 is its square. Messages count whenever they were sent, also since the moment shown.
WITH sent AS (
    SELECT
        org_id,
        outreach_type,
        template_id,
        count(message_id) AS sent,
        max(sent_at) AS last_sent_at
    FROM {{ source('outreach', 'messages') }}
    WHERE status IN ('sent', 'delivered', 'read', 'responded')
    GROUP BY org_id, outreach_type, template_id
),

judged AS (
    SELECT
        org_id,
        outreach_type,
        template_id,
        count(message_id) AS n,
        count(message_id) FILTER (WHERE is_response) AS k,
        avg(effectiveness) AS mean_effectiveness,
        median(response_minutes) FILTER (WHERE is_response) AS median_response_minutes
    FROM {{ source('outreach', 'outcomes') }}
    GROUP BY org_id, outreach_type, template_id
),

believed AS (
    SELECT
        p.org_id,
        p.outreach_type,
        p.template_id,
        p.alpha / (p.alpha + p.beta) AS posterior_mean
    FROM {{ source('loops', 'arm_posteriors') }} AS p
    INNER JOIN {{ ref('stg_loops_now') }} AS w
        ON p.computed_at <= w.as_of AND p.expires_at > w.as_of
    QUALIFY
        row_number() OVER (
            PARTITION BY p.org_id, p.outreach_type, p.template_id ORDER BY p.computed_at DESC
        ) = 1
),

arms AS (
    SELECT org_id, outreach_type, template_id FROM sent
    UNION
    SELECT org_id, outreach_type, template_id FROM judged
    UNION
    SELECT org_id, outreach_type, template_id FROM believed
),

counted AS (
    SELECT
        a.org_id,
        o.name AS org_name,
        a.outreach_type,
        a.template_id,
        coalesce(s.sent, 0) AS sent,
        coalesce(j.n, 0) AS n,
        coalesce(j.k, 0) AS k,
        j.k / nullif(j.n, 0) AS p,
        j.mean_effectiveness,
        j.median_response_minutes,
        b.posterior_mean,
        s.last_sent_at,
        CAST(1.959963984540054 AS DOUBLE) AS z,
        CAST(1.959963984540054 AS DOUBLE) * CAST(1.959963984540054 AS DOUBLE) AS z2
    FROM arms AS a
    INNER JOIN {{ source('raw', 'organizations') }} AS o ON a.org_id = o.org_id
    LEFT JOIN sent AS s
        ON
            a.org_id = s.org_id
            AND a.outreach_type = s.outreach_type
            AND a.template_id = s.template_id
    LEFT JOIN judged AS j
        ON
            a.org_id = j.org_id
            AND a.outreach_type = j.outreach_type
            AND a.template_id = j.template_id
    LEFT JOIN believed AS b
        ON
            a.org_id = b.org_id
            AND a.outreach_type = b.outreach_type
            AND a.template_id = b.template_id
),

intervals AS (
    SELECT
        *,
        (p + z2 / (2 * n)) / (1 + z2 / n) AS center,
        z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n) AS half_width
    FROM counted
)

SELECT
    org_id,
    org_name,
    outreach_type,
    template_id,
    sent,
    n AS judged,
    k AS responses,
    p AS response_rate,
    -- greatest() and least() pass over nulls, and without messages there is no interval.
    CASE WHEN n > 0 THEN greatest(center - half_width, 0.0) END AS response_rate_lower,
    CASE WHEN n > 0 THEN least(center + half_width, 1.0) END AS response_rate_upper,
    mean_effectiveness,
    median_response_minutes,
    posterior_mean,
    last_sent_at
FROM intervals
