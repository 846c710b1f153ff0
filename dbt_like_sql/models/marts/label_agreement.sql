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
INNER JOIN {{ ref('stg_last_learned') }} AS l
    ON a.org_id = l.org_id AND l.archetype = 'suggestion' AND a.window_end = l.learned_at
