"""When the pipeline runs by itself."""

import dagster as dg

from engagement_pipeline.defs.cleanup import cleanup
from engagement_pipeline.defs.jobs import (
    analyze_patterns,
    check_milestones,
    process_outreach,
    refresh,
    schedule_outreach,
    train_models,
    tune_engagement,
    tune_thresholds,
)
from engagement_pipeline.defs.runs import busy_with


def _schedule(
    name: str,
    job: object,
    cron: str,
    description: str,
    status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.RUNNING,
) -> dg.ScheduleDefinition:
    """A schedule in UTC that skips a tick while a run of its job is in progress."""
    job_name: str = job.name  # type: ignore[attr-defined]

    @dg.schedule(
        name=name,
        job=job,  # type: ignore[arg-type]
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=status,
        description=description,
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        busy = busy_with(context.instance, job_name)
        if busy:
            return dg.SkipReason(busy)
        return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    return tick


daily_engagement = _schedule(
    "daily_engagement",
    refresh,
    "0 4 * * *",
    "Every day at 04:00 UTC: refresh. Classify and publish follow by themselves.",
)
weekly_thresholds = _schedule(
    "weekly_thresholds",
    tune_thresholds,
    "0 5 * * 1",
    "Mondays at 05:00 UTC: tune thresholds by overrides. Publish follows by itself.",
)
weekly_engagement = _schedule(
    "weekly_engagement",
    tune_engagement,
    "30 5 * * 1",
    "Mondays at 05:30 UTC: learn from what was read, accepted and answered. Publish follows.",
)

weekly_models = _schedule(
    "weekly_models",
    train_models,
    "0 3 * * 1",
    "Mondays at 03:00 UTC: train models of churn, mood and timing. Publish follows.",
)
frequent_patterns = _schedule(
    "frequent_patterns",
    analyze_patterns,
    "*/30 * * * *",
    "Every 30 minutes, where it is turned on: describe members' patterns. Publish follows.",
    dg.DefaultScheduleStatus.STOPPED,
)

daily_milestones = _schedule(
    "daily_milestones",
    check_milestones,
    "0 2 * * *",
    "Every day at 02:00 UTC: bring milestones up to date, and plan celebrations.",
)
hourly_outreach = _schedule(
    "hourly_outreach",
    schedule_outreach,
    "0 * * * *",
    "Every hour, where it is turned on: decide for every member, and plan messages.",
    dg.DefaultScheduleStatus.STOPPED,
)
frequent_deliveries = _schedule(
    "frequent_deliveries",
    process_outreach,
    "*/5 * * * *",
    "Every 5 minutes, where it is turned on: send the messages that are due. Reaches members.",
    dg.DefaultScheduleStatus.STOPPED,
)

monthly_cleanup = _schedule(
    "monthly_cleanup",
    cleanup,
    "30 3 1 * *",
    "The 1st of the month at 03:30 UTC: remove what has been kept for long enough.",
)

SCHEDULES = [
    daily_engagement,
    weekly_thresholds,
    weekly_engagement,
    weekly_models,
    frequent_patterns,
    daily_milestones,
    hourly_outreach,
    frequent_deliveries,
    monthly_cleanup,
]
