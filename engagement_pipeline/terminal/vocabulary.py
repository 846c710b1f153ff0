"""Values that no vocabulary knows, and what people say that they mean, from a terminal."""

from datetime import UTC, datetime
from typing import Any

from engagement_pipeline.ingest.vocabulary import input_vocabularies
from engagement_pipeline.loops.vocabulary import candidates, new_mapping
from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal.running import JobRun, dagster_instance, run_job, turn
from engagement_pipeline.warehouse import vocabulary as stored
from engagement_pipeline.warehouse.connection import Warehouse
from engagement_pipeline.warehouse.loading import known_org_ids
from engagement_pipeline.warehouse.schema import upgrade

Row = dict[str, Any]


def listed(settings: Settings) -> dict[str, list[Row]]:
    """The `candidates` there are by now, and the `mappings` on record.

    Without a warehouse there are none, and none is made. One of an older version is brought up to
    this one; beyond that nothing is written.
    """
    if not settings.warehouse_path.exists():
        return {"candidates": [], "mappings": []}
    with Warehouse.of(settings).open() as connection:
        # A warehouse of an older version may lack the tables.
        upgrade(connection, now=datetime.now(UTC))
        mappings = stored.mappings(connection)
        rejected = stored.rejected_values(connection)
    found = candidates(rejected, mappings, input_vocabularies(settings.known_features))
    return {"candidates": found.to_dicts(), "mappings": mappings.to_dicts()}


def check(settings: Settings, table_column: str, value: str, term: str, org_id: str | None) -> Row:
    """The mapping that `accept` would record, where it would not fail for what it is given.

    Raises:
        VocabularyError: names what was expected and what was found.
    """
    known: list[str] = []
    if org_id is not None and settings.warehouse_path.exists():
        with Warehouse.of(settings).open() as connection:
            upgrade(connection, now=datetime.now(UTC))
            known = known_org_ids(connection).to_list()
    (row,) = new_mapping(
        table_column,
        value,
        term,
        org_id=org_id,
        accepted_at=datetime.now(UTC),
        known_features=settings.known_features,
        known_org_ids=known,
    ).to_dicts()
    return row


def accept(
    settings: Settings,
    table_column: str,
    value: str,
    term: str,
    org_id: str | None,
    *,
    is_verbose: bool = False,
) -> JobRun:
    """Record a mapping by a run of the job `accept_vocabulary`."""
    config = {"column": table_column.strip(), "value": value, "term": term, "org_id": org_id or ""}
    with turn(settings), dagster_instance(settings) as instance:
        return run_job(
            instance,
            "accept_vocabulary",
            options={"home": str(settings.home)},
            ops={"accept_term": {"config": config}},
            is_verbose=is_verbose,
        )


def rows_waiting(settings: Settings, table_column: str, value: str, org_id: str | None) -> int:
    """How many rows are in quarantine for a folded value; all organisations', or those of one."""
    table, _, column = table_column.strip().partition(".")
    return sum(
        row["rows"]
        for row in listed(settings)["candidates"]
        if (row["table_name"], row["column_name"], row["value"]) == (table, column, value)
        and org_id in (None, row["org_id"])
    )
