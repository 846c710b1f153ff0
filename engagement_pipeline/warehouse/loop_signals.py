"""What loop signals are drawn from, and the signals themselves, as they are stored.

What counts as a signal is decided in `loops`; here tables are cut to the shape that it takes, and
what comes back is added once and no more.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.frames import append, query, read_table

Relation = duckdb.DuckDBPyRelation
"""Rows in DuckDB that are not computed yet; Narwhals understands it."""

_SIGNALS = contract("loops.signals")
_JUDGEMENTS = contract("loops.judgements")
_PRODUCTIONS = contract("loops.productions")
_HISTORY = contract("scores.override_history")
_CLASSIFICATIONS = contract("scores.classifications")
_ORG_RUNS = contract("scores.org_runs")

FACTS = "notification_facts"
"""The temporary table of `keep_facts`."""

_SETTLED_AFTER = timedelta(days=14)
"""How far behind the last production spells are looked at again: a week until a level counts as
accepted, and a week to spare."""

_LANDS_WITHIN = timedelta(hours=24)
"""How long after the moment that it is stamped with a row may still land, in a long run."""

# A member's rows are numbered by their organisation's moments, so that a gap shows in the numbers.
# Of the first moment that is looked at, nothing is known of before, unless it is the first ever.
_SPELLS = f"""
    WITH named AS (
        SELECT DISTINCT org_id, user_id FROM {_HISTORY.full_name}
    ), moments AS (
        SELECT org_id, as_of,
               row_number() OVER (PARTITION BY org_id ORDER BY as_of) AS number
        FROM {_ORG_RUNS.full_name} WHERE outcome = 'classified' AND as_of <= $as_of
    ), looked_from AS (
        SELECT org_id, coalesce(max(number) FILTER (WHERE as_of < $since), 1) AS number
        FROM moments GROUP BY org_id HAVING max(as_of) >= $since
    ), looked_at AS (
        SELECT c.org_id, c.user_id, c.as_of, c.level, c.prompt_version, c.model_version,
               m.number,
               n.org_id IS NOT NULL OR m.number = 1
                   OR m.number > f.number AS is_before_known
        FROM {_CLASSIFICATIONS.full_name} AS c
        INNER JOIN moments AS m ON c.org_id = m.org_id AND c.as_of = m.as_of
        LEFT JOIN looked_from AS f ON c.org_id = f.org_id
        LEFT JOIN named AS n ON c.org_id = n.org_id AND c.user_id = n.user_id
        WHERE m.number >= f.number OR n.org_id IS NOT NULL
    ), edges AS (
        SELECT *,
               lag(level) OVER moves IS DISTINCT FROM level
                   OR lag(number) OVER moves <> number - 1 AS is_first,
               lead(level) OVER moves IS DISTINCT FROM level
                   OR lead(number) OVER moves <> number + 1 AS is_last
        FROM looked_at
        WINDOW moves AS (PARTITION BY org_id, user_id ORDER BY number)
    ), spells AS (
        SELECT *, CASE WHEN is_last THEN number ELSE lead(number) OVER (
                   PARTITION BY org_id, user_id ORDER BY number) END AS last_number
        FROM edges WHERE is_first OR is_last
    )
    SELECT s.org_id, s.user_id, s.level, s.prompt_version, s.model_version,
           s.as_of AS began_at, e.as_of AS ended_at
    FROM spells AS s
    LEFT JOIN moments AS e ON s.org_id = e.org_id AND s.last_number + 1 = e.number
    WHERE s.is_first AND s.is_before_known
    ORDER BY s.org_id, s.user_id, s.as_of"""


def notification_relations(connection: Connection) -> dict[str, Relation]:
    """Notifications, reads and memberships, instants as whole microseconds, for Narwhals."""
    return {
        "notifications": connection.sql(
            "SELECT notification_id, user_id, org_id, feature, epoch_us(sent_at) AS sent_at "
            "FROM raw.notifications"
        ),
        "reads": connection.sql(
            "SELECT notification_id, epoch_us(read_at) AS read_at FROM raw.notification_reads"
        ),
        "memberships": connection.sql(
            "SELECT user_id, org_id, epoch_us(joined_at) AS joined_at, "
            "epoch_us(left_at) AS left_at FROM raw.memberships"
        ),
    }


def keep_facts(connection: Connection, facts: Any, *, sent_since: datetime) -> None:
    """Compute a relation of notifications with their organisation and first read, once.

    Kept are those sent after `sent_since`, for rates, and those read of which no signal tells yet:
    writing all of them down would take as long as finding them.
    """
    connection.execute(f"DROP TABLE IF EXISTS temp.{FACTS}")
    since = (sent_since - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    facts.query(
        "facts",
        f"""CREATE TEMP TABLE {FACTS} AS
            SELECT f.*, f.first_read_at IS NOT NULL AND s.source_key IS NULL AS is_new
            FROM facts AS f
            LEFT JOIN (SELECT source_key FROM {_SIGNALS.full_name} WHERE kind = 'ENGAGE') AS s
                ON f.notification_id = s.source_key
            WHERE f.sent_at > {since} OR (f.first_read_at IS NOT NULL AND s.source_key IS NULL)""",
    )


def emit_engagements(connection: Connection) -> None:
    """An ENGAGE signal for each first read in `FACTS` that has none yet."""
    connection.execute(
        f"""INSERT INTO {_SIGNALS.full_name} BY NAME
            SELECT {_id("'ENGAGE'", "notification_id")} AS signal_id, 'engagement' AS archetype,
                   'ENGAGE' AS kind, org_id, feature AS subject, user_id,
                   make_timestamptz(first_read_at) AS occurred_at, attribution,
                   notification_id AS source_key
            FROM {FACTS} WHERE is_new"""
    )


def emit(connection: Connection, signals: pl.DataFrame) -> int:
    """Add the signals that are new, frames with all columns but `signal_id`; gives how many."""
    if signals.is_empty():
        return 0
    columns = [name for name in _SIGNALS.column_names if name != "signal_id"]
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE incoming_signals AS SELECT {', '.join(columns)} "
        f"FROM {_SIGNALS.full_name} LIMIT 0"
    )
    append(connection, "incoming_signals", signals.select(columns))
    added = _count(
        connection,
        f"""INSERT INTO {_SIGNALS.full_name} BY NAME
            SELECT {_id("kind", "source_key")} AS signal_id, i.* FROM incoming_signals AS i
            WHERE NOT EXISTS (SELECT 1 AS one FROM {_SIGNALS.full_name} AS s
                              WHERE s.source_key = i.source_key AND s.kind = i.kind)""",
    )
    connection.execute("DROP TABLE temp.incoming_signals")
    return added


def add_judgements(connection: Connection, judgements: pl.DataFrame) -> None:
    """Add the judgements that are new: those whose source key is not there yet."""
    if judgements.is_empty():
        return
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE incoming_judgements AS FROM {_JUDGEMENTS.full_name} LIMIT 0"
    )
    append(connection, "incoming_judgements", _JUDGEMENTS.validate(judgements))
    connection.execute(
        f"""INSERT INTO {_JUDGEMENTS.full_name} BY NAME
            SELECT i.* FROM incoming_judgements AS i
            ANTI JOIN {_JUDGEMENTS.full_name} AS j ON i.source_key = j.source_key"""
    )
    connection.execute("DROP TABLE temp.incoming_judgements")


def judgements(
    connection: Connection, *, window_start: datetime, as_of: datetime, accepted_after: timedelta
) -> pl.DataFrame:
    """The judgements settled in `(window_start, as_of]`, so far as they still hold.

    An override may be taken in days after it was performed, when its spell counts as accepted
    already. Such an acceptance stays on record, but it is left out here, so that what is learned
    does not depend on what arrived first: any for which `loops.suggestion.judgements` would now
    find an override performed in the spell's first days, or in force when it began.
    """
    names = ", ".join(f"j.{name}" for name in _JUDGEMENTS.column_names)
    return query(
        connection,
        f"""WITH steps AS (
                SELECT org_id, user_id, action, performed_at, expires_at,
                       lead(performed_at) OVER (
                           PARTITION BY org_id, user_id ORDER BY performed_at, request_id
                       ) AS next_at
                FROM {_HISTORY.full_name} WHERE action <> 'expire'
            ), overridden AS (
                SELECT org_id, user_id, performed_at, least(expires_at, next_at) AS held_until
                FROM steps WHERE action = 'override'
            )
            SELECT {names} FROM {_JUDGEMENTS.full_name} AS j
            WHERE j.occurred_at > $start AND j.occurred_at <= $as_of
              AND NOT (j.kind = 'ACCEPT' AND starts_with(j.source_key, 'spell:') AND EXISTS (
                  SELECT 1 AS one FROM overridden AS o
                  WHERE o.org_id = j.org_id AND o.user_id = j.user_id
                    AND o.performed_at < j.occurred_at
                    AND (o.performed_at >= j.occurred_at - $stood::INTERVAL
                         OR coalesce(o.held_until > j.occurred_at - $stood::INTERVAL, true))))
            ORDER BY j.source_key""",
        {"start": window_start, "as_of": as_of, "stood": accepted_after},
    ).cast(_JUDGEMENTS.polars_schema)


def overrides(connection: Connection, *, as_of: datetime) -> pl.DataFrame:
    """The override history known at `as_of`."""
    return read_table(connection, _HISTORY).filter(pl.col("performed_at") <= as_of)


def override_signals(connection: Connection, *, as_of: datetime) -> pl.DataFrame:
    """An OVERRIDE signal for each override that an admin set, as `emit` takes them."""
    return query(
        connection,
        f"""SELECT 'threshold' AS archetype, 'OVERRIDE' AS kind, org_id, new_level AS subject,
                   user_id, NULL::DOUBLE AS value, performed_at AS occurred_at,
                   NULL::VARCHAR AS attribution, request_id AS source_key
            FROM {_HISTORY.full_name}
            WHERE action = 'override' AND new_level IS NOT NULL AND performed_at <= $as_of
            ORDER BY source_key""",
        {"as_of": as_of},
    )


def level_spells(
    connection: Connection, *, window_start: datetime, as_of: datetime
) -> pl.DataFrame:
    """Stretches of an organisation's scored moments in a row at which a member's level was one.

    A spell ends at the next moment that the organisation was scored after the member's last row
    of it: the level is another then, or the member is not there, who may be back later in a new
    spell. A moment counts as scored if classifying ended well at it.

    Those of members whom an override names are complete; of the others, those that begin after
    the last production, or two weeks before it: the earlier ones have been judged. What was so
    already is no beginning: for each organisation the last scored moment before that is looked at
    too, however long ago, and only one that was never scored before begins with all its members.

    Returns:
        `org_id`, `user_id`, `level`, `prompt_version`, `model_version` (of its first row),
        `began_at`, `ended_at` (null: not scored since its last row).
    """
    last = _last_production(connection, before=as_of)
    since = max(window_start, last - _SETTLED_AFTER) if last else window_start
    return query(
        connection,
        _SPELLS,
        {"as_of": as_of, "since": since},
    )


def overridden_members(connection: Connection, *, since: datetime, as_of: datetime) -> pl.DataFrame:
    """Members whom admins gave a level in `(since, as_of]`, with the signals they were judged by.

    Returns:
        `org_id`, `user_id`, `performed_at`, `admin_level`, `source_key` (of the judgement),
        `scored_at` and the columns of `signals.member_90d`; none of a member not scored before.
    """
    return query(
        connection,
        f"""WITH overridden AS (
                SELECT org_id, user_id, performed_at, new_level AS admin_level,
                       'override:' || request_id AS source_key
                FROM {_HISTORY.full_name}
                WHERE action = 'override' AND new_level IS NOT NULL
                  AND performed_at > $since AND performed_at <= $as_of
            ), scored AS (
                SELECT c.* FROM {_CLASSIFICATIONS.full_name} AS c
                SEMI JOIN overridden AS o ON c.org_id = o.org_id AND c.user_id = o.user_id
            )
            SELECT o.*, s.as_of AS scored_at, s.events_attended_90d, s.days_since_joined,
                   s.days_since_active
            FROM overridden AS o
            ASOF INNER JOIN scored AS s ON o.org_id = s.org_id AND o.user_id = s.user_id
                AND o.performed_at >= s.as_of
            ORDER BY o.org_id, o.performed_at, o.source_key""",
        {"since": since, "as_of": as_of},
    )


def scored_members(connection: Connection, org_id: str, scored_at: datetime) -> pl.DataFrame:
    """The signals by which all members of an organisation were judged at one scored moment."""
    names = ", ".join(f'"{name}"' for name in contract("signals.member_90d").column_names)
    return query(
        connection,
        f"SELECT {names} FROM {_CLASSIFICATIONS.full_name} "
        "WHERE org_id = $org_id AND as_of = $scored_at ORDER BY user_id",
        {"org_id": org_id, "scored_at": scored_at},
    )


def signals_of(
    connection: Connection, archetype: str, *, window_start: datetime, as_of: datetime
) -> pl.DataFrame:
    """The signals of one loop in `(window_start, as_of]`."""
    names = ", ".join(_SIGNALS.column_names)
    return query(
        connection,
        f"SELECT {names} FROM {_SIGNALS.full_name} WHERE archetype = $archetype "
        "AND occurred_at > $start AND occurred_at <= $as_of ORDER BY signal_id",
        {"archetype": archetype, "start": window_start, "as_of": as_of},
    ).cast(_SIGNALS.polars_schema)


def engaged_counts(
    connection: Connection, *, window_start: datetime, as_of: datetime
) -> pl.DataFrame:
    """ENGAGE signals in `(window_start, as_of]`: `org_id`, `feature`, `attribution`, `n`."""
    return query(
        connection,
        f"""SELECT org_id, subject AS feature, attribution, count(*) AS n
            FROM {_SIGNALS.full_name}
            WHERE kind = 'ENGAGE' AND occurred_at > $start AND occurred_at <= $as_of
            GROUP BY ALL ORDER BY ALL""",
        {"start": window_start, "as_of": as_of},
    )


def sent_counts(connection: Connection, *, window_start: datetime) -> pl.DataFrame:
    """Notifications of `FACTS` sent since: `org_id`, `feature`, `attribution`, `n_sent`,
    `n_read`."""
    return query(
        connection,
        f"""SELECT org_id, feature, attribution, count(*) AS n_sent,
                   count(first_read_at) AS n_read
            FROM {FACTS} WHERE sent_at > epoch_us($start::TIMESTAMPTZ)
            GROUP BY ALL ORDER BY ALL""",
        {"start": window_start},
    )


def record_production(
    connection: Connection, *, as_of: datetime, signals: int, computed_at: datetime
) -> None:
    """Write down that signals were drawn up to `as_of`.

    Drawn again for the same moment, those that are new now add to those that were new before.
    """
    before = query(
        connection,
        f"SELECT sum(signals)::BIGINT AS signals FROM {_PRODUCTIONS.full_name} "
        "WHERE as_of = $as_of",
        {"as_of": as_of},
    )["signals"].item()
    connection.execute(f"DELETE FROM {_PRODUCTIONS.full_name} WHERE as_of = ?", [as_of])
    connection.execute(
        f"INSERT INTO {_PRODUCTIONS.full_name} BY NAME "
        "SELECT $as_of AS as_of, $signals AS signals, $computed_at AS computed_at",
        {"as_of": as_of, "signals": signals + (before or 0), "computed_at": computed_at},
    )


def signal_counts(connection: Connection) -> Mapping[str, int]:
    """Signals there are, by kind."""
    rows: Sequence[tuple[str, int]] = connection.execute(
        f"SELECT kind, count(*) FROM {_SIGNALS.full_name} GROUP BY kind ORDER BY kind"
    ).fetchall()
    return dict(rows)


def drawn_last_at(connection: Connection) -> datetime:
    """From when on what is stamped by the clock is to be looked at; long ago if never drawn.

    A day before signals were last drawn: what was stamped before that may have landed after it,
    since a run stamps all its rows with the moment that it began, and another clock may differ.
    What is looked at twice is still told of once, for `emit` adds no signal again.
    """
    frame = query(connection, f"SELECT max(computed_at) AS last FROM {_PRODUCTIONS.full_name}")
    last: datetime | None = frame["last"].item()
    return last - _LANDS_WITHIN if last else datetime.min.replace(tzinfo=UTC)


def _last_production(connection: Connection, *, before: datetime) -> datetime | None:
    frame = query(
        connection,
        f"SELECT max(as_of) AS last FROM {_PRODUCTIONS.full_name} WHERE as_of < $before",
        {"before": before},
    )
    last: datetime | None = frame["last"].item()
    return last


def _id(kind: str, source_key: str) -> str:
    """SQL of a signal's id. The kind has no separator in it, so that no two pairs are alike."""
    return f"sha256({kind} || ':' || {source_key})"


def _count(connection: Connection, statement: str) -> int:
    found = connection.execute(statement).fetchall()[0]
    return int(found[0])
