-- A row for every organisation and loop, also where nothing has happened: what is missing is what
-- people look for here. A mapping for every organisation counts for each of them.
-- A window is as long as that of the loop's learner: 30 or 180 days, in hours, because a day of an
-- instant is 23 to 25 hours long where clocks change. What happens to the vocabulary happens by the
-- clock, which a past day's moment lies far behind: of it there is no later.
WITH archetypes AS (
    SELECT
        unnest(
            ['suggestion', 'prediction', 'vocabulary', 'threshold', 'ranking', 'engagement']
        ) AS archetype
),

loops AS (
    SELECT
        o.org_id,
        a.archetype,
        n.as_of,
        n.as_of - CASE
            WHEN a.archetype IN ('engagement', 'vocabulary') THEN INTERVAL 720 HOUR
            ELSE INTERVAL 4320 HOUR
        END AS window_start
    FROM {{ source('raw', 'organizations') }} AS o
    CROSS JOIN archetypes AS a
    INNER JOIN {{ ref('stg_loops_now') }} AS n ON n.as_of IS NOT NULL
),

signals AS (
    SELECT
        s.org_id,
        s.archetype,
        count(s.signal_id) AS signals_in_window
    FROM {{ source('loops', 'signals') }} AS s
    INNER JOIN loops AS l
        ON
            s.org_id = l.org_id
            AND s.archetype = l.archetype
            AND (s.occurred_at <= l.as_of OR l.archetype = 'vocabulary')
            AND s.occurred_at > l.window_start
    GROUP BY s.org_id, s.archetype
),

learned AS (
    SELECT
        org_id,
        archetype,
        count(key) FILTER (WHERE is_in_force) AS in_force,
        count(key) FILTER (WHERE NOT is_in_force) AS expired
    FROM {{ ref('stg_calibrations') }}
    GROUP BY org_id, archetype
),

mapped AS (
    SELECT
        l.org_id,
        count(m.value) AS mappings
    FROM loops AS l
    INNER JOIN {{ source('loops', 'vocabulary_mappings') }} AS m
        ON m.org_id = l.org_id OR m.org_id IS NULL
    WHERE l.archetype = 'vocabulary'
    GROUP BY l.org_id
),

last_runs AS (
    SELECT
        r.org_id,
        r.archetype,
        r.as_of,
        r.error
    FROM {{ source('loops', 'learning_runs') }} AS r
    INNER JOIN {{ ref('stg_loops_now') }} AS n ON r.as_of <= n.as_of
    QUALIFY row_number() OVER (PARTITION BY r.org_id, r.archetype ORDER BY r.as_of DESC) = 1
),

last_uses AS (
    SELECT
        u.org_id,
        u.archetype,
        u.consumer,
        u.used_at
    FROM {{ source('loops', 'consumer_uses') }} AS u
    INNER JOIN {{ ref('stg_loops_now') }} AS n ON u.used_at <= n.as_of
    QUALIFY
        row_number() OVER (
            PARTITION BY u.org_id, u.archetype ORDER BY u.used_at DESC, u.consumer
        ) = 1
),

told AS (
    SELECT
        l.org_id,
        l.archetype,
        l.window_start,
        l.as_of AS window_end,
        coalesce(s.signals_in_window, 0) AS signals_in_window,
        CASE
            WHEN l.archetype = 'vocabulary' THEN coalesce(m.mappings, 0)
            ELSE coalesce(c.in_force, 0)
        END AS calibrations_in_force,
        coalesce(c.expired, 0) AS calibrations_expired,
        r.as_of AS learned_at,
        r.error AS learning_error,
        u.consumer,
        u.used_at AS consumer_last_used_at
    FROM loops AS l
    LEFT JOIN signals AS s ON l.org_id = s.org_id AND l.archetype = s.archetype
    LEFT JOIN learned AS c ON l.org_id = c.org_id AND l.archetype = c.archetype
    LEFT JOIN mapped AS m ON l.org_id = m.org_id
    LEFT JOIN last_runs AS r ON l.org_id = r.org_id AND l.archetype = r.archetype
    LEFT JOIN last_uses AS u ON l.org_id = u.org_id AND l.archetype = u.archetype
)

SELECT
    org_id,
    archetype,
    CASE
        WHEN learning_error IS NOT NULL THEN 'failed'
        WHEN
            signals_in_window > 0
            AND calibrations_in_force > 0
            AND consumer_last_used_at > window_start
            THEN 'closed'
        WHEN calibrations_in_force > 0 THEN 'learned'
        WHEN calibrations_expired > 0 THEN 'expired'
        WHEN signals_in_window > 0 THEN 'gathering'
        ELSE 'idle'
    END AS state,
    window_start,
    window_end,
    signals_in_window,
    calibrations_in_force,
    calibrations_expired,
    learned_at,
    learning_error,
    consumer,
    consumer_last_used_at
FROM told
