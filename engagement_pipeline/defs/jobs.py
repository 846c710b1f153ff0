"""The jobs: which assets run together. What each asset does is its own business."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from engagement_pipeline.defs.behavior import INTERACTIONS, PATTERNS, PREDICTIONS, behavior
from engagement_pipeline.defs.cleanup import cleanup
from engagement_pipeline.defs.delivery import outreach_delivery
from engagement_pipeline.defs.gate import gate
from engagement_pipeline.defs.ingest import ingest
from engagement_pipeline.defs.loops import CALIBRATIONS, SIGNALS, loops
from engagement_pipeline.defs.marts import publish_marts
from engagement_pipeline.defs.metadata import asset_key
from engagement_pipeline.defs.milestones import CATALOGUE, milestones
from engagement_pipeline.defs.models import train
from engagement_pipeline.defs.outcomes import outreach_outcomes
from engagement_pipeline.defs.outreach import outreach_cycle, schedule_message
from engagement_pipeline.defs.overrides import clear_override, override_engagement
from engagement_pipeline.defs.scoring import classify_orgs, override_history
from engagement_pipeline.defs.signals import member_signals_asset
from engagement_pipeline.defs.vocabulary import accept_vocabulary


def _job(
    name: str,
    assets: Sequence[dg.AssetsDefinition | dg.AssetKey],
    description: str,
    ops: Mapping[str, Any] | None = None,
) -> object:
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*assets),
        description=description,
        config={"ops": dict(ops)} if ops else {},
        executor_def=dg.in_process_executor,
    )


LEARNED = {
    job_name: {loops.op.name: {"config": {"archetypes": list(archetypes)}}}
    for job_name, archetypes in {
        "tune_thresholds": ("threshold",),
        "tune_engagement": ("suggestion", "prediction", "vocabulary", "ranking", "engagement"),
    }.items()
}
"""What each tuning job learns, as configuration of its ops."""


refresh = _job(
    "refresh",
    [ingest, member_signals_asset, behavior, outreach_outcomes],
    "Take in new and changed source files, compute the signals of all members, score what they "
    "said, describe their patterns, predict, and tell which messages were answered.",
)
classify = _job(
    "classify",
    [classify_orgs, override_history, asset_key(SIGNALS), publish_marts, gate],
    "Classify the organisations that are due, apply overrides, draw loop signals, publish, and "
    "fail if an organisation was left failed.",
)
publish = _job(
    "publish",
    [publish_marts],
    "Build the marts, test them, and swap in the published file, without classifying anew.",
)

tune_thresholds = _job(
    "tune_thresholds",
    [asset_key(SIGNALS), asset_key(CALIBRATIONS)],
    "Learn from overrides where each organisation's levels should begin. `publish` follows.",
    LEARNED["tune_thresholds"],
)
tune_engagement = _job(
    "tune_engagement",
    [loops],
    "Learn how notifications are read, which levels admins accept, how good predictions were and "
    "which messages are answered; decide how notifications are delivered. `publish` follows.",
    LEARNED["tune_engagement"],
)

analyze_patterns = _job(
    "analyze_patterns",
    [asset_key(INTERACTIONS), asset_key(PATTERNS)],
    "Score new interactions and describe members' patterns. `publish` follows.",
)
train_models = _job(
    "train_models",
    [train, asset_key(PREDICTIONS)],
    "Train models of churn, mood and timing, and predict anew by those that beat their baselines. "
    "`publish` follows.",
)

SENT_AT_ONCE = 10_000
"""Messages that a run sends at most where nobody says how many: fifty every five minutes would let
most of a large community's messages miss their hour. A run is bounded in time, too."""

check_milestones = _job(
    "check_milestones",
    [milestones],
    "Count what members did day by day, tell how far they are on the way to each milestone, and "
    "plan celebrations. `publish` follows.",
)
seed_milestones = _job(
    "seed_milestones",
    [asset_key(CATALOGUE)],
    "Put the milestones of the catalogue's file into the warehouse. `publish` follows.",
)

schedule_outreach = _job(
    "schedule_outreach",
    [outreach_cycle],
    "Decide for every member whether there is something to say, and plan it. Sends nothing.",
)
process_outreach = _job(
    "process_outreach",
    [outreach_delivery],
    "Send the messages that are due, each once. This reaches members.",
    {outreach_delivery.op.name: {"config": {"limit": SENT_AT_ONCE}}},
)

JOBS = [
    refresh,
    classify,
    publish,
    tune_thresholds,
    tune_engagement,
    analyze_patterns,
    train_models,
    check_milestones,
    seed_milestones,
    schedule_outreach,
    process_outreach,
    schedule_message,
    override_engagement,
    clear_override,
    accept_vocabulary,
    cleanup,
]
TUNING_JOBS = tuple(LEARNED)
BEHAVIOR_JOBS = ("analyze_patterns", "train_models")
MILESTONE_JOBS = ("check_milestones", "seed_milestones")
OUTREACH_JOBS = ("schedule_outreach", "process_outreach", "schedule_message")
EXCLUSIVE_JOBS = (
    "refresh",
    "classify",
    "publish",
    *TUNING_JOBS,
    *BEHAVIOR_JOBS,
    *MILESTONE_JOBS,
    *OUTREACH_JOBS,
    "cleanup",
)
"""Jobs of which no two run at once."""
