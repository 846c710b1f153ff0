-- The run whose moment the marts show; no row before the first one.
-- An admin's decision counts at once: overrides are shown as of the last one recorded since the run
-- was computed. Those that the run itself recorded bear its computed_at, so they are not later.
WITH last_run AS (
    SELECT run_number, as_of, computed_at
    FROM {{ source('scores', 'scoring_runs') }}
    QUALIFY row_number() OVER (ORDER BY run_number DESC, run_id DESC) = 1
)

SELECT
    r.run_number,
    r.as_of,
    greatest(r.as_of, coalesce(max(h.recorded_at), r.as_of)) AS overrides_at
FROM last_run AS r
LEFT JOIN {{ source('scores', 'override_history') }} AS h
    ON r.computed_at < h.recorded_at AND h.action IN ('override', 'clear')
GROUP BY r.run_number, r.as_of
