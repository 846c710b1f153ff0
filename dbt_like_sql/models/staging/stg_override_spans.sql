-- An `expire` row ends its own override and no other, and `expires_at` says the same already:
-- read as a change like the others, one that was overtaken would end the override after it.
WITH changes AS (
    SELECT
        org_id,
        user_id,
        action,
        new_level,
        notes,
        performed_by,
        performed_at,
        expires_at,
        lead(performed_at) OVER (
            PARTITION BY org_id, user_id ORDER BY performed_at, request_id
        ) AS overtaken_at
    FROM {{ source('scores', 'override_history') }}
    WHERE action IN ('override', 'clear')
)

SELECT
    org_id,
    user_id,
    new_level AS level,
    notes,
    performed_by,
    performed_at AS holds_from,
    -- Never null, so that the span joins by two plain comparisons: by hash, not row against row.
    least(
        coalesce(expires_at, CAST('infinity' AS TIMESTAMPTZ)),
        coalesce(overtaken_at, CAST('infinity' AS TIMESTAMPTZ))
    ) AS holds_until,
    expires_at
FROM changes
WHERE action = 'override' AND (overtaken_at IS NULL OR overtaken_at > performed_at)
