-- As last estimated; `as_of` says for when.
SELECT
    u.org_id,
    CASE WHEN u.org_id = '*' THEN 'All organisations' ELSE o.name END AS org_name,
    u.as_of,
    u.window_start,
    u.window_end,
    u.horizon_days,
    u.treated_members,
    u.held_out_members,
    u.treated_rate,
    u.held_out_rate,
    u.uplift,
    u.uplift_lower,
    u.uplift_upper,
    u.holdout_share,
    u.sample_ratio_p,
    u.is_sample_ratio_ok
FROM {{ source('outreach', 'uplift') }} AS u
LEFT JOIN {{ source('raw', 'organizations') }} AS o ON u.org_id = o.org_id
WHERE u.org_id = '*' OR o.org_id IS NOT NULL
