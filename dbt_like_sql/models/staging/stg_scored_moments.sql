-- An organisation without members was scored too, and then left only a row in org_runs.
WITH found AS (
    SELECT org_id, as_of FROM {{ source('scores', 'classifications') }}
    UNION
    SELECT org_id, as_of FROM {{ source('scores', 'org_runs') }} WHERE outcome = 'classified'
)

SELECT
    f.org_id,
    o.name AS org_name,
    f.as_of,
    f.as_of = max(f.as_of) OVER (PARTITION BY f.org_id) AS is_shown
FROM found AS f
INNER JOIN {{ source('raw', 'organizations') }} AS o ON f.org_id = o.org_id
INNER JOIN {{ ref('stg_shown_run') }} AS r ON f.as_of <= r.as_of
