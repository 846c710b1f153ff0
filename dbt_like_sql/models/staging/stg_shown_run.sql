-- The run whose moment the marts show; no row before the first one.
SELECT
    run_number,
    as_of
FROM {{ source('scores', 'scoring_runs') }}
QUALIFY row_number() OVER (ORDER BY run_number DESC, run_id DESC) = 1
