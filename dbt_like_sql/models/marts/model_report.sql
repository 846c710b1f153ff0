-- Of each target the training done last: its models are in place. One that failed left those before
-- it in place, and shows only where there is none. One that had too little to measure anything by
-- keeps a row, so that it is seen why.
WITH last_trainings AS (
    SELECT
        target,
        as_of,
        outcome,
        reason,
        population,
        base_rate,
        samples,
        members,
        horizon_days,
        cutoffs,
        last_cutoff
    FROM {{ source('behavior', 'trainings') }}
    QUALIFY
        row_number() OVER (
            PARTITION BY target ORDER BY outcome = 'failed', computed_at DESC, as_of DESC
        ) = 1
)

SELECT
    t.target,
    t.as_of,
    coalesce(m.model, 'none') AS model,
    coalesce(m.metric, 'none') AS metric,
    m.value,
    m.lower,
    m.upper,
    coalesce(m.n, 0) AS n,
    coalesce(m.is_baseline, false) AS is_baseline,
    coalesce(m.is_champion, false) AS is_champion,
    t.outcome,
    t.reason,
    t.population,
    t.base_rate,
    t.samples,
    t.members,
    t.horizon_days,
    t.cutoffs,
    t.last_cutoff
FROM last_trainings AS t
LEFT JOIN {{ source('behavior', 'model_metrics') }} AS m
    ON t.target = m.target AND t.as_of = m.as_of
