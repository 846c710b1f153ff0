SELECT
    p.org_id,
    o.name AS org_name,
    p.user_id,
    p.as_of,
    p.churn_probability,
    p.churn_raw,
    p.churn_heuristic,
    p.churn_model,
    p.confidence,
    p.churn_reason,
    p.horizon_days,
    p.mood_now,
    p.mood_predicted,
    p.best_hour,
    p.best_weekday,
    p.timing_model,
    p.timezone
FROM {{ source('behavior', 'predictions') }} AS p
INNER JOIN {{ source('raw', 'organizations') }} AS o ON p.org_id = o.org_id
