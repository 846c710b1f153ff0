-- Of every organisation and loop the last learning that succeeded, whose findings are the ones that
-- count, so that one that found nothing empties what there was. They expire after 30 days; 720
-- hours, because a day of an instant is 23 to 25 hours long where clocks change.
SELECT
    r.org_id,
    r.archetype,
    max(r.as_of) AS learned_at
FROM {{ source('loops', 'learning_runs') }} AS r
INNER JOIN {{ ref('stg_loops_now') }} AS n
    ON r.as_of <= n.as_of AND r.as_of > n.as_of - INTERVAL 720 HOUR
WHERE r.outcome = 'learned'
GROUP BY r.org_id, r.archetype
