-- All messages, also those planned since the moment shown: whoever looks wants to see today's. What
-- came of them is known as far as the source had been taken in at the last refresh.
SELECT
    m.message_id,
    m.org_id,
    o.name AS org_name,
    m.user_id,
    m.engine,
    m.cycle_id,
    m.outreach_type,
    m.trigger,
    m.occasion,
    m.tries,
    m.priority,
    m.planned_at,
    m.send_at,
    m.segment,
    m.tone,
    m.template_id,
    m.is_rewritten,
    m.propensity,
    m.channel,
    m.status,
    m.reason,
    m.attempts,
    m.last_error,
    m.text,
    m.reserved_at,
    m.sent_at,
    m.delivered_at,
    m.read_at,
    m.responded_at,
    c.effectiveness
FROM {{ source('outreach', 'messages') }} AS m
INNER JOIN {{ source('raw', 'organizations') }} AS o ON m.org_id = o.org_id
LEFT JOIN {{ source('outreach', 'outcomes') }} AS c ON m.message_id = c.message_id
