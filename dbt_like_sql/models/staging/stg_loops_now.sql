-- The moment that what was learned is shown for: of the run shown, or of what was drawn and learned
-- since. Null before either.
WITH drawn AS (
    SELECT as_of
    FROM {{ source('loops', 'productions') }}
    QUALIFY row_number() OVER (ORDER BY computed_at DESC, as_of DESC) = 1
),

moments AS (
    SELECT as_of FROM {{ ref('stg_shown_run') }}
    UNION ALL
    SELECT as_of FROM drawn
)

SELECT max(as_of) AS as_of FROM moments
