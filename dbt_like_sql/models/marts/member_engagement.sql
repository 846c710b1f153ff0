-- A failed organisation keeps its last good labels, under their own as_of; overrides are those of
-- the run shown, or of an admin's decision since. An override without an end is stale after 90
-- days; 2160 hours, because a day of an instant is 23 to 25 hours long where clocks change.
SELECT
    c.org_id,
    m.org_name,
    c.user_id,
    p.display_name,
    c.as_of,
    CASE WHEN o.org_id IS NULL THEN c.level ELSE o.level END AS effective_level,
    c.level AS computed_level,
    c.baseline_level,
    c.source,
    c.reason,
    CASE CASE WHEN o.org_id IS NULL THEN c.level ELSE o.level END
        WHEN 'highly_engaged' THEN 'Highly engaged'
        WHEN 'moderate' THEN 'Active'
        WHEN 'at_risk' THEN 'Reconnecting'
        WHEN 'new' THEN 'New'
        WHEN 'inactive' THEN 'Taking a break'
    END AS user_label,
    c.admin_explanation,
    c.user_explanation,
    o.org_id IS NOT NULL AS is_overridden,
    o.level AS override_level,
    o.notes AS override_notes,
    o.performed_by AS overridden_by,
    o.holds_from AS overridden_at,
    o.expires_at AS override_expires_at,
    o.org_id IS NOT NULL
    AND o.expires_at IS NULL
    AND o.holds_from < r.overrides_at - INTERVAL 2160 HOUR AS is_stale_override,
    CASE
        WHEN CASE WHEN o.org_id IS NULL THEN c.level ELSE o.level END = 'at_risk'
            THEN c.flag_severity
    END AS flag_severity,
    b.churn_probability,
    c.events_attended_90d,
    c.events_attended_prev_90d,
    c.events_attended_total,
    c.last_attended_at,
    c.no_show_count_90d,
    c.rsvp_count_90d,
    c.event_view_count_90d,
    c.notifications_sent_90d,
    c.notifications_read_90d,
    c.interaction_count_90d,
    c.profile_updated_at,
    c.joined_at,
    c.days_since_joined,
    c.last_active_at,
    c.days_since_active,
    c.model_version,
    c.prompt_version,
    c.classified_at
FROM {{ source('scores', 'classifications') }} AS c
INNER JOIN {{ ref('stg_scored_moments') }} AS m
    ON c.org_id = m.org_id AND c.as_of = m.as_of AND m.is_shown
CROSS JOIN {{ ref('stg_shown_run') }} AS r
LEFT JOIN {{ ref('stg_override_spans') }} AS o
    ON
        c.org_id = o.org_id
        AND c.user_id = o.user_id
        AND r.overrides_at >= o.holds_from
        AND r.overrides_at < o.holds_until
LEFT JOIN {{ source('behavior', 'predictions') }} AS b
    ON c.org_id = b.org_id AND c.user_id = b.user_id
LEFT JOIN {{ source('raw', 'profiles') }} AS p ON c.user_id = p.user_id
