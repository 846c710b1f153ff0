-- Rejected rows by file and reason. Requests made by hand have no file, so no log row either.
SELECT
    j.table_name,
    j.ingested_at,
    j.reason,
    count(j.row_number) AS rows_rejected,
    count(j.row_number) FILTER (WHERE f.path IS NULL) AS rows_without_file
FROM {{ source('raw', 'rejects') }} AS j
LEFT JOIN (
    SELECT DISTINCT table_name, path, ingested_at FROM {{ source('raw', 'ingested_files') }}
) AS f
    ON j.table_name = f.table_name AND j.path = f.path AND j.ingested_at = f.ingested_at
GROUP BY j.table_name, j.ingested_at, j.reason
