"""When the pipeline runs by itself."""

import dagster as dg

from engagement_pipeline.defs.jobs import refresh
from engagement_pipeline.defs.runs import busy_with


@dg.schedule(
    name="daily_engagement",
    job=refresh,  # type: ignore[arg-type]
    cron_schedule="0 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every day at 04:00 UTC: refresh. Classify and publish follow by themselves.",
)
def daily_engagement(
    context: dg.ScheduleEvaluationContext,
) -> dg.RunRequest | dg.SkipReason:
    """Start `refresh` for the day, unless one is running."""
    busy = busy_with(context.instance, "refresh")
    if busy:
        return dg.SkipReason(busy)
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


SCHEDULES = [daily_engagement]
