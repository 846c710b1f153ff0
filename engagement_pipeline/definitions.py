"""The code location: everything that Dagster finds, put together and nothing more."""

import dagster as dg

from engagement_pipeline.defs.behavior import WRITTEN_ALONG as WRITTEN_BY_BEHAVIOR
from engagement_pipeline.defs.behavior import behavior
from engagement_pipeline.defs.delivery import outreach_delivery
from engagement_pipeline.defs.gate import gate
from engagement_pipeline.defs.ingest import JOURNAL, ingest
from engagement_pipeline.defs.jobs import JOBS
from engagement_pipeline.defs.loops import WRITTEN_ALONG as WRITTEN_BY_LOOPS
from engagement_pipeline.defs.loops import loops
from engagement_pipeline.defs.marts import publish_marts
from engagement_pipeline.defs.milestones import WRITTEN_ALONG as WRITTEN_BY_MILESTONES
from engagement_pipeline.defs.milestones import milestones
from engagement_pipeline.defs.models import train
from engagement_pipeline.defs.outcomes import outreach_outcomes
from engagement_pipeline.defs.outreach import WRITTEN_ALONG as WRITTEN_BY_OUTREACH
from engagement_pipeline.defs.outreach import outreach_cycle
from engagement_pipeline.defs.resources import PipelineResource
from engagement_pipeline.defs.schedules import SCHEDULES
from engagement_pipeline.defs.scoring import WRITTEN_ALONG, classify_orgs, override_history
from engagement_pipeline.defs.sensors import SENSORS
from engagement_pipeline.defs.signals import member_signals_asset


def build_defs(**resource_overrides: object) -> dg.Definitions:
    """All definitions; `resource_overrides` is the door for tests."""
    return dg.Definitions(
        assets=[
            ingest,
            member_signals_asset,
            behavior,
            train,
            classify_orgs,
            override_history,
            loops,
            milestones,
            outreach_cycle,
            outreach_outcomes,
            outreach_delivery,
            publish_marts,
            gate,
            *JOURNAL,
            *WRITTEN_ALONG,
            *WRITTEN_BY_LOOPS,
            *WRITTEN_BY_BEHAVIOR,
            *WRITTEN_BY_MILESTONES,
            *WRITTEN_BY_OUTREACH,
        ],
        jobs=JOBS,  # type: ignore[arg-type]
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={"pipeline": PipelineResource(), **resource_overrides},
        executor=dg.in_process_executor,
    )


defs = build_defs()
