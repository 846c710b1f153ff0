"""What the published file tells, as plain rows: for `status`, `explain`, `query` and `export`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from engagement_pipeline.contracts import contract, contracts
from engagement_pipeline.contracts.signals import SIGNAL_COLUMNS
from engagement_pipeline.contracts.vocabulary import LEVELS
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.published import open_published

Row = dict[str, Any]
_REASONS_SHOWN = 4


class NotFoundError(LookupError):
    """What was asked for is not in the published file; the text names what there is."""


@dataclass(frozen=True)
class Explanation:
    """All that the published file says of one member."""

    member: Row
    signals: Row
    history: list[Row]


def ask(settings: Settings, sql: str) -> pl.DataFrame:
    """The rows of any query on the published file."""
    with open_published(settings.published_path) as connection:
        return query(connection, sql)


def explain(settings: Settings, org_id: str, user_id: str) -> Explanation:
    """Signals, level, why, and the levels before.

    Raises:
        NotFoundError: there is no such organisation, or no such current member of it.
    """
    with open_published(settings.published_path) as connection:
        rows = query(
            connection,
            "SELECT * FROM marts.member_engagement WHERE org_id = $org AND user_id = $user",
            {"org": org_id, "user": user_id},
        ).to_dicts()
        if not rows:
            orgs = query(connection, "SELECT org_id FROM marts.org_summary ORDER BY ALL LIMIT 20")
            raise NotFoundError(
                f"member {user_id!r} of organisation {org_id!r}: not among the current members "
                f"in {settings.published_path}. Organisations there: "
                f"{', '.join(orgs['org_id'].to_list()) or 'none'}"
            )
        history = query(
            connection,
            "SELECT as_of, effective_level, computed_level, is_overridden, source "
            "FROM marts.engagement_history WHERE org_id = $org AND user_id = $user ORDER BY as_of",
            {"org": org_id, "user": user_id},
        ).to_dicts()
    member = {name: value for name, value in rows[0].items() if name not in SIGNAL_COLUMNS}
    signals = {name: rows[0][name] for name in SIGNAL_COLUMNS}
    return Explanation(member, signals, history)


def overrides(settings: Settings, org_id: str | None) -> list[Row]:
    """The overrides in force, as published."""
    columns = (
        "org_id, user_id, override_level, computed_level, override_notes, overridden_by, "
        "overridden_at, override_expires_at, is_stale_override"
    )
    with open_published(settings.published_path) as connection:
        return query(
            connection,
            f"SELECT {columns} FROM marts.member_engagement WHERE is_overridden "
            "AND ($org IS NULL OR org_id = $org) ORDER BY org_id, user_id",
            {"org": org_id},
        ).to_dicts()


def published_tables(settings: Settings) -> list[Row]:
    """The published marts with their rows and what they hold."""
    with open_published(settings.published_path) as connection:
        return [
            {
                "table": mart.full_name,
                "rows": query(connection, f"SELECT count(*) AS n FROM {mart.full_name}")["n"][0],
                "what": mart.description.split(":")[0].rstrip("."),
            }
            for mart in contracts("marts")
        ]


def levels_by_org(settings: Settings) -> list[Row]:
    """Each organisation's members by effective level, and the moment that is shown."""
    counts = ", ".join(f"{level}_count AS {level}" for level in LEVELS)
    with open_published(settings.published_path) as connection:
        return query(
            connection,
            f"SELECT org_id, org_name, as_of, members, {counts} FROM marts.org_summary "
            "ORDER BY org_id",
        ).to_dicts()


def rejects_by_reason(settings: Settings) -> list[Row]:
    """What was rejected so far, by table, with the commonest reasons."""
    with open_published(settings.published_path) as connection:
        return query(
            connection,
            f"""WITH counted AS (
                SELECT table_name, reason, sum(rows_rejected)::BIGINT AS n
                FROM marts.data_quality WHERE reason IS NOT NULL GROUP BY table_name, reason
            )
            SELECT table_name, sum(n)::BIGINT AS rows_rejected,
                   array_to_string(
                       list(reason || ' ' || n ORDER BY n DESC, reason)[1:{_REASONS_SHOWN}], ', '
                   ) AS commonest_reasons
            FROM counted GROUP BY table_name ORDER BY table_name""",
        ).to_dicts()


def export(settings: Settings, folder: Path, marts: Sequence[str], kind: str) -> list[Path]:
    """Write marts as `<mart>.<kind>` files into `folder`; gives the paths.

    Raises:
        NotFoundError: a name is no mart.
    """
    known = [mart.name for mart in contracts("marts")]
    wanted = list(marts) or known
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise NotFoundError(f"mart: expected one of {', '.join(known)}, found {unknown[0]}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with open_published(settings.published_path) as connection:
        for name in wanted:
            frame = query(connection, f"SELECT * FROM {contract(f'marts.{name}').full_name}")
            path = folder / f"{name}.{kind}"
            _WRITERS[kind](frame, path)
            paths.append(path)
    return paths


_WRITERS = {
    "csv": lambda frame, path: frame.write_csv(path),
    "jsonl": lambda frame, path: frame.write_ndjson(path),
    "parquet": lambda frame, path: frame.write_parquet(path),
}
EXPORT_KINDS = tuple(_WRITERS)
