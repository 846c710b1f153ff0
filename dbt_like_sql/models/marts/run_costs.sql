WITH billed AS (
    SELECT
        run_id,
        count(call_id) AS calls,
        count(call_id) FILTER (WHERE attempt > 1 OR purpose <> 'first') AS calls_repeated,
        count(call_id) FILTER (WHERE outcome NOT IN ('answered', 'partly', 'pending'))
            AS calls_unanswered,
        CAST(sum(input_tokens) AS BIGINT) AS input_tokens,
        CAST(sum(cache_write_tokens) AS BIGINT) AS cache_write_tokens,
        CAST(sum(cache_read_tokens) AS BIGINT) AS cache_read_tokens,
        CAST(sum(output_tokens) AS BIGINT) AS output_tokens,
        sum(spent_usd) AS spent_usd,
        sum(CASE WHEN is_spent_certain THEN 0.0 ELSE spent_usd END) AS uncertain_usd
    FROM {{ source('scores', 'llm_calls') }}
    GROUP BY run_id
)

SELECT
    r.run_id,
    r.as_of,
    r.classifier,
    r.model,
    r.members,
    r.profiles,
    r.profiles_cached,
    r.profiles_waiting,
    r.profiles_fallen_back,
    r.profiles_over_budget,
    coalesce(b.calls, 0) AS calls,
    coalesce(b.calls_repeated, 0) AS calls_repeated,
    coalesce(b.calls_unanswered, 0) AS calls_unanswered,
    coalesce(b.input_tokens, 0) AS input_tokens,
    coalesce(b.cache_write_tokens, 0) AS cache_write_tokens,
    coalesce(b.cache_read_tokens, 0) AS cache_read_tokens,
    coalesce(b.output_tokens, 0) AS output_tokens,
    r.estimated_usd,
    coalesce(b.spent_usd, 0.0) AS spent_usd,
    coalesce(b.uncertain_usd, 0.0) AS uncertain_usd,
    r.one_call_a_member_usd,
    r.one_call_a_member_usd - coalesce(b.spent_usd, 0.0) AS saved_usd,
    r.computed_at
FROM {{ source('scores', 'llm_runs') }} AS r
LEFT JOIN billed AS b ON r.run_id = b.run_id
