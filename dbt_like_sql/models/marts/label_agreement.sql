-- What was learned expires 30 days after its window; 720 hours, because a day of an instant is 23
-- to 25 hours long where clocks change.
SELECT
    a.org_id,
    a.prompt_version,
    a.model_version,
    a.computed_level,
    a.admin_level,
    a.judgements,
    a.n,
    a.agreement,
    a.kappa,
    a.window_start,
    a.window_end
FROM {{ source('loops', 'label_agreement') }} AS a
INNER JOIN {{ ref('stg_loops_now') }} AS n
    ON a.window_end <= n.as_of AND a.window_end > n.as_of - INTERVAL 720 HOUR
