-- The interval is Wilson's, with z = 1.959963984540054 (95 %); z2 is its square.
-- Changes are on the newest scored moment at least 7 (28) days back and at most twice that; in
-- hours, because a day of an instant is 23 to 25 hours long where clocks change.
WITH orgs AS (
    SELECT
        g.org_id,
        g.name AS org_name,
        coalesce(m.as_of, r.as_of) AS as_of
    FROM {{ source('raw', 'organizations') }} AS g
    CROSS JOIN {{ ref('stg_shown_run') }} AS r
    LEFT JOIN {{ ref('stg_scored_moments') }} AS m ON g.org_id = m.org_id AND m.is_shown
),

before AS (
    SELECT
        o.org_id,
        max(m.as_of) FILTER (
            WHERE m.as_of <= o.as_of - INTERVAL 168 HOUR
            AND m.as_of >= o.as_of - INTERVAL 336 HOUR
        ) AS as_of_7d,
        max(m.as_of) FILTER (
            WHERE m.as_of <= o.as_of - INTERVAL 672 HOUR
            AND m.as_of >= o.as_of - INTERVAL 1344 HOUR
        ) AS as_of_28d
    FROM orgs AS o
    INNER JOIN {{ ref('stg_scored_moments') }} AS m ON o.org_id = m.org_id
    GROUP BY o.org_id
),

counted_now AS (
    SELECT org_id, effective_level AS level, count(effective_level) AS members
    FROM {{ ref('member_engagement') }}
    GROUP BY org_id, effective_level
),

counted_then AS (
    SELECT
        b.org_id,
        h.effective_level AS level,
        count(h.effective_level) FILTER (WHERE h.as_of = b.as_of_7d) AS members_7d,
        count(h.effective_level) FILTER (WHERE h.as_of = b.as_of_28d) AS members_28d
    FROM before AS b
    INNER JOIN {{ ref('engagement_history') }} AS h
        ON b.org_id = h.org_id AND h.as_of IN (b.as_of_7d, b.as_of_28d)
    GROUP BY b.org_id, h.effective_level
),

levels AS (
    SELECT unnest(['highly_engaged', 'moderate', 'at_risk', 'new', 'inactive']) AS level
),

counted AS (
    SELECT
        o.org_id,
        o.org_name,
        o.as_of,
        l.level,
        coalesce(n.members, 0) AS k,
        CAST(sum(coalesce(n.members, 0)) OVER (PARTITION BY o.org_id) AS BIGINT) AS n,
        CASE
            WHEN b.as_of_7d IS NOT NULL THEN coalesce(n.members, 0) - coalesce(t.members_7d, 0)
        END AS change_7d,
        CASE
            WHEN b.as_of_28d IS NOT NULL THEN coalesce(n.members, 0) - coalesce(t.members_28d, 0)
        END AS change_28d
    FROM orgs AS o
    CROSS JOIN levels AS l
    LEFT JOIN before AS b ON o.org_id = b.org_id
    LEFT JOIN counted_now AS n ON o.org_id = n.org_id AND l.level = n.level
    LEFT JOIN counted_then AS t ON o.org_id = t.org_id AND l.level = t.level
),

shares AS (
    SELECT
        *,
        k / nullif(n, 0) AS p,
        CAST(1.959963984540054 AS DOUBLE) AS z,
        CAST(1.959963984540054 AS DOUBLE) * CAST(1.959963984540054 AS DOUBLE) AS z2
    FROM counted
),

intervals AS (
    SELECT
        *,
        (p + z2 / (2 * n)) / (1 + z2 / n) AS center,
        z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n) AS half_width
    FROM shares
),

estimated AS (
    SELECT
        *,
        -- greatest() and least() pass over nulls, and without members there is no interval.
        CASE WHEN n > 0 THEN greatest(center - half_width, 0.0) END AS lower_end,
        CASE WHEN n > 0 THEN least(center + half_width, 1.0) END AS upper_end
    FROM intervals
)

SELECT
    org_id,
    org_name,
    as_of,
    n AS members,
    max(k) FILTER (WHERE level = 'highly_engaged') AS highly_engaged_count,
    max(p) FILTER (WHERE level = 'highly_engaged') AS highly_engaged_share,
    max(lower_end) FILTER (WHERE level = 'highly_engaged') AS highly_engaged_share_lower,
    max(upper_end) FILTER (WHERE level = 'highly_engaged') AS highly_engaged_share_upper,
    max(change_7d) FILTER (WHERE level = 'highly_engaged') AS highly_engaged_change_7d,
    max(change_28d) FILTER (WHERE level = 'highly_engaged') AS highly_engaged_change_28d,
    max(k) FILTER (WHERE level = 'moderate') AS moderate_count,
    max(p) FILTER (WHERE level = 'moderate') AS moderate_share,
    max(lower_end) FILTER (WHERE level = 'moderate') AS moderate_share_lower,
    max(upper_end) FILTER (WHERE level = 'moderate') AS moderate_share_upper,
    max(change_7d) FILTER (WHERE level = 'moderate') AS moderate_change_7d,
    max(change_28d) FILTER (WHERE level = 'moderate') AS moderate_change_28d,
    max(k) FILTER (WHERE level = 'at_risk') AS at_risk_count,
    max(p) FILTER (WHERE level = 'at_risk') AS at_risk_share,
    max(lower_end) FILTER (WHERE level = 'at_risk') AS at_risk_share_lower,
    max(upper_end) FILTER (WHERE level = 'at_risk') AS at_risk_share_upper,
    max(change_7d) FILTER (WHERE level = 'at_risk') AS at_risk_change_7d,
    max(change_28d) FILTER (WHERE level = 'at_risk') AS at_risk_change_28d,
    max(k) FILTER (WHERE level = 'new') AS new_count,
    max(p) FILTER (WHERE level = 'new') AS new_share,
    max(lower_end) FILTER (WHERE level = 'new') AS new_share_lower,
    max(upper_end) FILTER (WHERE level = 'new') AS new_share_upper,
    max(change_7d) FILTER (WHERE level = 'new') AS new_change_7d,
    max(change_28d) FILTER (WHERE level = 'new') AS new_change_28d,
    max(k) FILTER (WHERE level = 'inactive') AS inactive_count,
    max(p) FILTER (WHERE level = 'inactive') AS inactive_share,
    max(lower_end) FILTER (WHERE level = 'inactive') AS inactive_share_lower,
    max(upper_end) FILTER (WHERE level = 'inactive') AS inactive_share_upper,
    max(change_7d) FILTER (WHERE level = 'inactive') AS inactive_change_7d,
    max(change_28d) FILTER (WHERE level = 'inactive') AS inactive_change_28d
FROM estimated
GROUP BY org_id, org_name, as_of, n
