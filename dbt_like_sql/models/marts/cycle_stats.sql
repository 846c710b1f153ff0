-- All cycles, also those decided since the moment shown.
SELECT
    c.cycle_id,
    c.org_id,
    o.name AS org_name,
    c.as_of,
    c.total,
    c.eligible,
    c.skipped,
    c.dormant,
    c.new_user,
    c.normal,
    c.opted_out,
    c.held_out,
    c.erased,
    c.active,
    c.recently_messaged,
    c.too_soon_after_last,
    c.daily_cap,
    c.messages,
    c.withheld
FROM {{ source('outreach', 'cycles') }} AS c
INNER JOIN {{ source('raw', 'organizations') }} AS o ON c.org_id = o.org_id
