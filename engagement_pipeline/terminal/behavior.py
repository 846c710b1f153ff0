"""Behaviour from a terminal: patterns, predictions, how models did, and a community's month."""

from collections.abc import Sequence
from typing import Any

from engagement_pipeline.settings import Settings
from engagement_pipeline.terminal import reading
from engagement_pipeline.terminal.daily import Outcome
from engagement_pipeline.terminal.publishing import run_and_publish
from engagement_pipeline.warehouse.frames import query
from engagement_pipeline.warehouse.published import open_published

Row = dict[str, Any]
REPORT_METRICS: dict[str, Sequence[str]] = {
    "churn": ("roc_auc", "average_precision", "brier", "calibration_error"),
    "mood": ("mae", "rmse"),
    "timing": ("roc_auc", "log_loss"),
}
"""The figures that are shown of each target's models, in this order."""


def analyze(
    settings: Settings,
    *,
    user_id: str | None,
    batch_size: int | None,
    as_of: str | None,
    is_verbose: bool = False,
) -> Outcome:
    """Score what is new, describe members' patterns, and publish."""
    config = {"user_id": user_id or "", "batch_size": batch_size or 0}
    return run_and_publish(
        settings,
        "analyze_patterns",
        as_of=as_of,
        ops={"behavior": {"config": config}},
        is_verbose=is_verbose,
    )


def train(
    settings: Settings, *, min_samples: int | None, as_of: str | None, is_verbose: bool = False
) -> Outcome:
    """Train all models, predict by them, and publish."""
    config = {} if min_samples is None else {"min_samples": min_samples}
    return run_and_publish(
        settings,
        "train_models",
        as_of=as_of,
        ops={"train": {"config": config}},
        is_verbose=is_verbose,
    )


def patterns_by_org(settings: Settings) -> list[Row]:
    """Each organisation's members, and how many of them stand out."""
    return reading.ask(
        settings,
        """SELECT org_id, any_value(as_of) AS as_of, count(*) AS members,
                  count(*) FILTER (WHERE interactions > 0) AS active_30d,
                  count(*) FILTER (WHERE is_highly_engaged) AS highly_engaged,
                  count(*) FILTER (WHERE is_declining) AS declining,
                  count(*) FILTER (WHERE needs_reengagement) AS needing_reengagement
           FROM marts.member_patterns GROUP BY org_id ORDER BY org_id""",
    ).to_dicts()


def insights(settings: Settings, user_id: str) -> dict[str, list[Row]]:
    """What is published of one person, in every organisation: level, patterns, predictions.

    Raises:
        NotFoundError: the person is a current member of no organisation.
    """
    found = {}
    with open_published(settings.published_path) as connection:
        for title, select in _INSIGHTS.items():
            found[title] = query(
                connection, f"{select} WHERE user_id = $user ORDER BY org_id", {"user": user_id}
            ).to_dicts()
    if not any(found.values()):
        raise reading.NotFoundError(
            f"member {user_id!r}: expected a current member of some organisation in "
            f"{settings.published_path}, found none"
        )
    return found


_INSIGHTS = {
    "engagement": "SELECT org_id, org_name, as_of, effective_level, user_label, flag_severity, "
    "admin_explanation FROM marts.member_engagement",
    "patterns": "SELECT * EXCLUDE (user_id, org_name) FROM marts.member_patterns",
    "predictions": "SELECT * EXCLUDE (user_id, org_name) FROM marts.member_predictions",
}


def trainings(settings: Settings) -> list[Row]:
    """How the last training of each target ended."""
    return reading.ask(
        settings,
        """SELECT target, any_value(outcome) AS outcome,
                  any_value(model) FILTER (WHERE is_champion) AS champion,
                  any_value(samples) AS samples, any_value(members) AS members,
                  any_value(base_rate) AS base_rate, any_value(reason) AS reason
           FROM marts.model_report GROUP BY target ORDER BY target""",
    ).to_dicts()


def metrics(settings: Settings) -> dict[str, list[Row]]:
    """By target: a row per model and baseline, each figure with its 95 % interval in words."""
    rows = reading.ask(settings, "SELECT * FROM marts.model_report ORDER BY ALL").to_dicts()
    found: dict[str, list[Row]] = {}
    for target, names in REPORT_METRICS.items():
        own = [row for row in rows if row["target"] == target and row["value"] is not None]
        by_model: dict[str, Row] = {}
        for row in sorted(own, key=lambda row: (not row["is_baseline"], row["model"])):
            told = by_model.setdefault(
                row["model"],
                {
                    "model": row["model"] + (" (serves)" if row["is_champion"] else ""),
                    "kind": "baseline" if row["is_baseline"] else "model",
                    **dict.fromkeys(names, ""),
                },
            )
            if row["metric"] in names:
                told[row["metric"]] = _with_interval(row)
        if by_model:
            found[target] = list(by_model.values())
    return found


def _with_interval(row: Row) -> str:
    if row["lower"] is None or row["upper"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"


def analytics(settings: Settings, days: int) -> list[Row]:
    """Each organisation's last `days` whole days (UTC) before that of the moment shown.

    Interactions, how many members a day they come from on average, how they sound, how many came
    to events, and the mean probability that a member does nothing in the days to come, where a
    model tells it.
    """
    with open_published(settings.published_path) as connection:
        return query(connection, _ANALYTICS, {"days": days}).to_dicts()


_ANALYTICS = """
WITH orgs AS (
    SELECT org_id, org_name, as_of, members, CAST(make_timestamp(epoch_us(as_of)) AS DATE) AS today
    FROM marts.org_summary
), said AS (
    SELECT o.org_id, sum(d.interactions) AS interactions, sum(d.members) AS member_days,
           sum(d.meaningful) / sum(d.interactions) AS meaningful_share,
           sum(d.mean_sentiment * d.texts) / nullif(sum(d.texts), 0) AS mean_sentiment,
           sum(d.mean_quality * d.interactions) / sum(d.interactions) AS mean_quality
    FROM orgs AS o INNER JOIN marts.interactions_daily AS d
        ON o.org_id = d.org_id AND d.day >= o.today - CAST($days AS INTEGER) AND d.day < o.today
    GROUP BY o.org_id
), came AS (
    SELECT o.org_id, sum(d.attended) AS attended, sum(d.no_shows) AS no_shows
    FROM orgs AS o INNER JOIN marts.attendance_daily AS d
        ON o.org_id = d.org_id AND d.day >= o.today - CAST($days AS INTEGER) AND d.day < o.today
    GROUP BY o.org_id
), foreseen AS (
    SELECT org_id, avg(churn_probability) AS mean_churn_probability
    FROM marts.member_predictions WHERE churn_model <> 'heuristic' GROUP BY org_id
)
SELECT o.org_id, o.as_of, o.members,
       CAST(coalesce(s.interactions, 0) AS BIGINT) AS interactions,
       coalesce(s.member_days, 0) / $days AS daily_active_members,
       s.meaningful_share, s.mean_sentiment, s.mean_quality,
       CAST(coalesce(c.attended, 0) AS BIGINT) AS attended,
       CAST(coalesce(c.no_shows, 0) AS BIGINT) AS no_shows,
       f.mean_churn_probability
FROM orgs AS o
LEFT JOIN said AS s USING (org_id)
LEFT JOIN came AS c USING (org_id)
LEFT JOIN foreseen AS f USING (org_id)
ORDER BY o.org_id
"""
