SELECT
    org_id,
    key,
    value,
    lower,
    upper,
    n,
    window_start,
    window_end,
    computed_at,
    expires_at,
    previous_value,
    versions
FROM {{ ref('stg_calibrations') }}
WHERE is_in_force
