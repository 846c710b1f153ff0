"""The YAML that dbt reads beside the models, written from the contracts.

Descriptions and promises have one home, the contract; dbt needs them on disk, and a test holds the
files equal to this text. `python -m engagement_pipeline.warehouse.schema_yaml dbt_like_sql` writes
them anew. Staging models have no contract: their schema.yml is written by hand.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from engagement_pipeline.contracts import Column, Contract, contracts
from engagement_pipeline.warehouse.schema import SCHEMAS

_HEADER = (
    "# Written from the contracts; do not edit, run:\n"
    "#   python -m engagement_pipeline.warehouse.schema_yaml dbt_like_sql\n"
)

_SCHEMA_DESCRIPTIONS = {
    "raw": "The source's tables as ingestion landed them, and its own log.",
    "signals": "What is known of each member at a moment.",
    "behavior": "What members say and do, and what is predicted of them.",
    "scores": "Levels over time, scoring runs and overrides.",
    "loops": "What happened after the pipeline had acted, and what was learned from it.",
    "milestones": "What members reach over time.",
    "outreach": "Whom the pipeline writes to, what, when, and what came of it.",
}

_RELATIONSHIPS = {
    ("member_engagement", "org_id"): ("org_summary", "org_id"),
    ("engagement_history", "org_id"): ("org_summary", "org_id"),
    ("level_transitions", "org_id"): ("org_summary", "org_id"),
    ("attendance_daily", "org_id"): ("org_summary", "org_id"),
}
"""(mart, column) → (mart, column) in which each of its values must be found."""


def files(folder: Path) -> dict[Path, str]:
    """Each generated file of the SQL folder, and the text it must have."""
    written = {path.stem for path in (folder / "models" / "marts").glob("*.sql")}
    return {
        folder / "models" / "sources.yml": sources_yaml(),
        folder / "models" / "marts" / "schema.yml": marts_yaml(written),
    }


def sources_yaml() -> str:
    """All tables of the warehouse as dbt sources."""
    sources = [
        {
            "name": schema,
            "schema": schema,
            "description": _SCHEMA_DESCRIPTIONS.get(schema, f"The schema `{schema}`."),
            "tables": [
                {
                    "name": found.name,
                    "description": found.description,
                    "columns": [_described(column) for column in found.columns],
                }
                for found in contracts(schema)
            ],
        }
        for schema in SCHEMAS
    ]
    return _text({"version": 2, "sources": sources})


def marts_yaml(written: set[str]) -> str:
    """The marts that have a SQL file, with what their contracts promise as dbt tests."""
    models = [
        {
            "name": found.name,
            "description": found.description,
            "columns": [_described(column) | _tested(found, column) for column in found.columns],
        }
        for found in contracts("marts")
        if found.name in written
    ]
    return _text({"version": 2, "models": models})


def _described(column: Column) -> dict[str, Any]:
    return {"name": column.name, "description": column.description}


def _tested(table: Contract, column: Column) -> dict[str, Any]:
    """dbt's form of the column's promises, as far as dbt has one and it says more than the table.

    A key of several columns has none, and that a column other than the key's is not null the table
    itself and the audit of its contract hold: a test more for each would be a hundred more events
    to record in every run, each of which costs Dagster some 20 ms.
    """
    is_never_null = column.name in table.key and not column.is_nullable
    tests: list[Any] = ["not_null"] if is_never_null else []
    if table.key == (column.name,):
        tests.append("unique")
    if column.allowed is not None:
        tests.append({"accepted_values": {"arguments": {"values": list(column.allowed)}}})
    if target := _RELATIONSHIPS.get((table.name, column.name)):
        model, field = target
        tests.append({"relationships": {"arguments": {"to": f"ref('{model}')", "field": field}}})
    return {"data_tests": tests} if tests else {}


def _text(content: dict[str, Any]) -> str:
    return _HEADER + yaml.safe_dump(content, sort_keys=False, width=96, allow_unicode=True)


if __name__ == "__main__":
    for path, text in files(Path(sys.argv[1] if len(sys.argv) > 1 else "dbt_like_sql")).items():
        path.write_text(text, encoding="utf-8")
