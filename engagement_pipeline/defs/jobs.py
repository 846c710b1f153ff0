"""The jobs: which assets run together. What each asset does is its own business."""

from collections.abc import Sequence

import dagster as dg

from engagement_pipeline.defs.gate import gate
from engagement_pipeline.defs.ingest import ingest
from engagement_pipeline.defs.marts import publish_marts
from engagement_pipeline.defs.overrides import clear_override, override_engagement
from engagement_pipeline.defs.scoring import classify_orgs, override_history
from engagement_pipeline.defs.signals import member_signals_asset


def _job(name: str, assets: Sequence[dg.AssetsDefinition], description: str) -> object:
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*assets),
        description=description,
        executor_def=dg.in_process_executor,
    )


refresh = _job(
    "refresh",
    [ingest, member_signals_asset],
    "Take in new and changed source files, and compute the signals of all members.",
)
classify = _job(
    "classify",
    [classify_orgs, override_history, publish_marts, gate],
    "Classify the organisations that are due, apply overrides, publish, and fail if an "
    "organisation was left failed.",
)
publish = _job(
    "publish",
    [publish_marts],
    "Build the marts, test them, and swap in the published file, without classifying anew.",
)

JOBS = [refresh, classify, publish, override_engagement, clear_override]
EXCLUSIVE_JOBS = ("refresh", "classify", "publish")
"""Jobs of which no two run at once."""
