"""The job by which a person says what a value of the sources means, from the launchpad."""

import json
from enum import Enum

import dagster as dg
from pydantic import Field

from engagement_pipeline.contracts import contract
from engagement_pipeline.defs.metadata import WAREHOUSE_POOL, asset_key
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.ingest.vocabulary import input_vocabularies
from engagement_pipeline.loops.vocabulary import VocabularyError, new_mapping
from engagement_pipeline.warehouse import vocabulary as stored
from engagement_pipeline.warehouse.loading import known_org_ids
from engagement_pipeline.warehouse.schema import upgrade

MAPPINGS = asset_key(contract("loops.vocabulary_mappings"))

_COLUMNS = [f"{table}.{column}" for table, column in input_vocabularies()]
VocabularyColumn = Enum("VocabularyColumn", {name: name for name in _COLUMNS})  # type: ignore[misc]


class MappingConfig(dg.Config):
    """What a value means, and to whom."""

    column: VocabularyColumn = Field(description="The input table's column that has the value.")
    value: str = Field(
        description="The value, as the files have it; case, spaces and hyphens do not matter."
    )
    term: str = Field(description="The known term of the column that it means.")
    org_id: str = Field(
        default="", description="The organisation that means it so. Empty: every organisation."
    )


@dg.op(
    description="Record what the value means; the run fails if that cannot be. Quarantined rows "
    "that it explains load at the next run.",
    pool=WAREHOUSE_POOL,
)
def accept_term(
    context: dg.OpExecutionContext, config: MappingConfig, pipeline: PipelineResource
) -> None:
    """One mapping, from the launchpad or the terminal, into the warehouse."""
    column: Enum = config.column
    now = run_start(context)
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        try:
            mapping = new_mapping(
                str(column.value),
                config.value,
                config.term,
                org_id=config.org_id or None,
                accepted_at=now,
                known_features=pipeline.settings().known_features,
                known_org_ids=known_org_ids(connection).to_list(),
            )
        except VocabularyError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        is_new = stored.record_mapping(connection, mapping)
    (row,) = mapping.to_dicts()
    context.log.info(f"{'recorded' if is_new else 'stood already'}: {json.dumps(row, default=str)}")
    if is_new:
        context.log_event(
            dg.AssetMaterialization(
                MAPPINGS, metadata={name: row[name] or "" for name in ("org_id", "value", "term")}
            )
        )


@dg.job(
    executor_def=dg.in_process_executor,
    description="Say what a value that no vocabulary knows means.",
)
def accept_vocabulary() -> None:
    accept_term()
