SELECT
    table_name,
    column_name,
    org_id,
    value,
    rows,
    nearest_term,
    similarity,
    accepted_term,
    first_seen_at,
    last_seen_at
FROM {{ source('loops', 'vocabulary_candidates') }}
