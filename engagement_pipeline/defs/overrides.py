"""The jobs by which an admin's decision is taken in from the launchpad."""

import json
from datetime import datetime
from enum import Enum

import dagster as dg
import polars as pl
from pydantic import Field

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.defs.metadata import WAREHOUSE_POOL
from engagement_pipeline.defs.resources import PipelineResource, parse_moment, run_start
from engagement_pipeline.defs.scoring import OVERRIDE_HISTORY, apply_overrides
from engagement_pipeline.scoring.overrides import REJECTION_MEANINGS
from engagement_pipeline.warehouse import overrides as stored

Level = Enum("Level", {level: level for level in vocabulary.LEVELS})  # type: ignore[misc]
_REQUESTS = contract("raw.override_requests")


class MemberConfig(dg.Config):
    """Whose level, and who decides."""

    org_id: str = Field(description="The organisation's id.")
    user_id: str = Field(description="The member's id in that organisation.")
    notes: str = Field(description="Why, in the admin's words. Must not be blank.")
    performed_by: str = Field(
        description="User id of the admin who decides; must be an admin of the organisation."
    )
    performed_at: str = Field(
        default="", description="When it was decided, ISO 8601 in UTC. Empty: the run's start."
    )


class OverrideConfig(MemberConfig):
    """A level that an admin sets."""

    level: Level = Field(description="The level that counts from now on.")
    expires_at: str = Field(
        default="", description="When the override ends by itself, ISO 8601 in UTC. Empty: never."
    )


class ClearConfig(MemberConfig):
    """An override that an admin takes back."""


@dg.op(
    description="Record the override and apply it; the run fails if the request is not valid.",
    pool=WAREHOUSE_POOL,
)
def set_override(
    context: dg.OpExecutionContext, config: OverrideConfig, pipeline: PipelineResource
) -> None:
    """One override request, from the launchpad or the terminal, into the history."""
    level: Enum = config.level
    _apply(context, config, pipeline, "override", str(level.value), config.expires_at)


@dg.op(
    description="Take back the override in force; the run fails if the request is not valid.",
    pool=WAREHOUSE_POOL,
)
def remove_override(
    context: dg.OpExecutionContext, config: ClearConfig, pipeline: PipelineResource
) -> None:
    """One request to clear an override, from the launchpad or the terminal, into the history."""
    _apply(context, config, pipeline, "clear", None, "")


@dg.job(
    executor_def=dg.in_process_executor,
    description="Set a member's level by an admin's decision.",
)
def override_engagement() -> None:
    set_override()


@dg.job(
    executor_def=dg.in_process_executor,
    description="Take back the override of a member's level.",
)
def clear_override() -> None:
    remove_override()


def _apply(
    context: dg.OpExecutionContext,
    config: MemberConfig,
    pipeline: PipelineResource,
    action: str,
    level: str | None,
    expires_at: str,
) -> None:
    now = run_start(context)
    performed_at = parse_moment(config.performed_at) if config.performed_at else now
    if performed_at > now:
        raise dg.Failure(
            f"performed_at: expected a moment that has come, found {performed_at.isoformat()}",
            allow_retries=False,
        )
    made_at = "cli" if context.run.tags.get("engagement/started_by") == "cli" else "dagster"
    # Of two requests for one moment the later made counts last: ids settle the order.
    request_id = f"{made_at}:{now:%Y%m%dT%H%M%S.%fZ}:{context.run.run_id}"
    request: dict[str, object] = {
        "request_id": request_id,
        "org_id": config.org_id,
        "user_id": config.user_id,
        "action": action,
        "level": level,
        "notes": config.notes,
        "performed_by": config.performed_by,
        "performed_at": performed_at,
        "expires_at": parse_moment(expires_at) if expires_at else None,
    }
    added, rejected = _take_in(pipeline, request, now=now)
    refused = rejected.filter(pl.col("request_id") == request_id)
    if refused.height:
        reason = refused["reason"].item()
        raise dg.Failure(
            f"the request changed no level: {REJECTION_MEANINGS[reason]} ({reason}; organisation "
            f"{config.org_id}, member {config.user_id}, decided by {config.performed_by})",
            metadata={"reason": reason},
            allow_retries=False,
        )
    row = added.filter(pl.col("request_id") == request_id).to_dicts()
    context.log.info(f"recorded: {json.dumps(row, default=str)}")
    context.log_event(dg.AssetMaterialization(OVERRIDE_HISTORY, metadata={"rows_added": len(row)}))


def _take_in(
    pipeline: PipelineResource, request: dict[str, object], *, now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    with pipeline.warehouse().open() as connection:
        stored.add_request(connection, pl.DataFrame([request], schema=_REQUESTS.polars_schema))
        return apply_overrides(connection, as_of=now, now=now)
