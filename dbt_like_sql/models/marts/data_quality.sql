-- A rejected row that came from no file was read and not loaded, so it adds to the totals.
WITH logged AS (
    SELECT
        table_name,
        ingested_at,
        rows_read,
        rows_loaded,
        rows_rejected,
        newest_row_at
    FROM {{ source('raw', 'ingested_files') }}
    UNION ALL
    SELECT
        table_name,
        ingested_at,
        rows_without_file AS rows_read,
        0 AS rows_loaded,
        rows_without_file AS rows_rejected,
        CAST(NULL AS TIMESTAMPTZ) AS newest_row_at
    FROM {{ ref('stg_rejects') }}
),

totals AS (
    SELECT
        table_name,
        ingested_at,
        CAST(sum(rows_read) AS BIGINT) AS rows_read,
        CAST(sum(rows_loaded) AS BIGINT) AS rows_loaded,
        CAST(sum(rows_rejected) AS BIGINT) AS rows_rejected,
        max(newest_row_at) AS newest_row_at
    FROM logged
    GROUP BY table_name, ingested_at
)

SELECT
    table_name,
    ingested_at,
    rows_read,
    rows_loaded,
    rows_rejected,
    CAST(NULL AS VARCHAR) AS reason,
    newest_row_at
FROM totals
UNION ALL
SELECT
    t.table_name,
    t.ingested_at,
    t.rows_read,
    t.rows_loaded,
    j.rows_rejected,
    j.reason,
    t.newest_row_at
FROM totals AS t
INNER JOIN {{ ref('stg_rejects') }} AS j
    ON t.table_name = j.table_name AND t.ingested_at = j.ingested_at
