"""The few figures of the published file that are drawn for people."""

import polars as pl

from engagement_pipeline.contracts.vocabulary import LEVELS, SEGMENTS, SKIP_REASONS
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.frames import query


def level_shares_over_time(connection: Connection, *, moments: int) -> pl.DataFrame:
    """`as_of` and a column per level: its share of all members, for the last so many moments."""
    shares = ", ".join(
        f"count(*) FILTER (WHERE effective_level = '{level}') / count(*) AS {level}"
        for level in LEVELS
    )
    return query(
        connection,
        f"SELECT as_of, {shares} FROM marts.engagement_history WHERE as_of IN (SELECT DISTINCT "
        f"as_of FROM marts.engagement_history ORDER BY as_of DESC LIMIT {moments}) "
        "GROUP BY as_of ORDER BY as_of",
    )


def members_by_level(connection: Connection, *, orgs: int) -> pl.DataFrame:
    """`org_name` and a column per level: its members, for the so many largest organisations."""
    counts = ", ".join(f"{level}_count AS {level}" for level in LEVELS)
    return query(
        connection,
        f"SELECT org_name, {counts} FROM marts.org_summary "
        f"ORDER BY members DESC, org_id LIMIT {orgs}",
    )


def read_rates(connection: Connection, *, rows: int) -> pl.DataFrame:
    """`org_id`, `feature`, `read_rate`, its interval and `read_rate_shrunk`, for the so many
    features of which most was sent."""
    return query(
        connection,
        "SELECT org_id, feature, read_rate, read_rate_lower, read_rate_upper, read_rate_shrunk "
        "FROM marts.digest_plan WHERE read_rate IS NOT NULL "
        f"ORDER BY n_sent DESC, org_id, feature LIMIT {rows}",
    )


def level_agreement(connection: Connection) -> pl.DataFrame:
    """`computed_level`, `admin_level` and `judgements`, over all organisations."""
    return query(
        connection,
        "SELECT computed_level, admin_level, CAST(sum(judgements) AS BIGINT) AS judgements "
        "FROM marts.label_agreement GROUP BY computed_level, admin_level ORDER BY ALL",
    )


def loop_states(connection: Connection) -> pl.DataFrame:
    """`archetype`, `state` and `orgs`: how many organisations' loops stand where."""
    return query(
        connection,
        "SELECT archetype, state, count(org_id) AS orgs FROM marts.loop_status "
        "GROUP BY archetype, state ORDER BY ALL",
    )


def response_rates(connection: Connection, *, rows: int) -> pl.DataFrame:
    """`org_id`, `template_id`, `response_rate`, its interval and `posterior_mean`, for the so many
    templates of an organisation that were judged most often."""
    return query(
        connection,
        "SELECT org_id, template_id, response_rate, response_rate_lower, response_rate_upper, "
        "posterior_mean FROM marts.outreach_effectiveness WHERE response_rate IS NOT NULL "
        f"ORDER BY judged DESC, org_id, outreach_type, template_id LIMIT {rows}",
    )


def uplifts(connection: Connection, *, orgs: int) -> pl.DataFrame:
    """`org_id`, `org_name`, `uplift` and its interval, of all organisations together and of the so
    many with the most members."""
    return query(
        connection,
        "SELECT org_id, org_name, uplift, uplift_lower, uplift_upper FROM (SELECT * "
        "FROM marts.outreach_uplift WHERE uplift IS NOT NULL ORDER BY org_id = '*' DESC, "
        f"treated_members + held_out_members DESC, org_id LIMIT {orgs + 1}) AS largest "
        "ORDER BY org_id = '*' DESC, org_name, org_id",
    )


def last_cycle(connection: Connection) -> pl.DataFrame:
    """`word` and `members`: eligible members by segment, and why others were skipped, in the cycle
    decided for the latest moment; none before the first."""
    words = (*SEGMENTS, *SKIP_REASONS)
    counts = " UNION ALL ".join(
        f"SELECT {place} AS place, '{word}' AS word, CAST(sum({word}) AS BIGINT) AS members "
        "FROM last_one"
        for place, word in enumerate(words)
    )
    return query(
        connection,
        "WITH last_one AS (SELECT * FROM marts.cycle_stats WHERE cycle_id = (SELECT "
        "arg_max(cycle_id, (as_of, cycle_id)) FROM marts.cycle_stats)) SELECT word, members "
        f"FROM ({counts}) AS counted WHERE members IS NOT NULL ORDER BY place",
    )
