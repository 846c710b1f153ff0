"""Rows of the schema `behavior` for the world of the marts' tests: awkward on purpose.

Whatever has an edge stands on it and a microsecond beside it. What the marts must make of the rows
does not belong here.
"""

import random
from datetime import timedelta
from typing import Any

from engagement_pipeline.contracts import vocabulary

Row = dict[str, Any]

TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
ORGS = ("steady", "busy", "failed", "never_scored", "gone")
"""`gone` is no organisation any more."""


def add_behavior(world: Any, dice: random.Random) -> None:
    """Interactions, patterns, predictions and trainings around the moment shown."""
    _add_interactions(world, dice)
    for org_id in ORGS:
        for n in range(25):
            _add_patterns(world, dice, org_id, f"user-{n}", is_silent=n % 6 == 0)
            # Of another moment than the labels, where the organisation failed, and now and then.
            as_of = world.shown - (DAY if org_id == "failed" and n % 2 else timedelta())
            _add_prediction(
                world, dice, org_id, f"user-{n}", as_of + (TICK if n % 7 == 3 else 0 * TICK)
            )
    _add_trainings(world, dice)


def _add_interactions(world: Any, dice: random.Random) -> None:
    midnight = world.shown.replace(hour=0)
    moments = [world.shown, world.shown + TICK, midnight, midnight - TICK]
    moments += [midnight - timedelta(hours=dice.randrange(1, 24 * 6)) for _ in range(300)]
    for number, sent_at in enumerate(moments):
        sentiment = None if number % 4 == 0 else round(dice.uniform(-1, 1), 3)
        world.rows("behavior.interactions_scored").append(
            {
                "interaction_id": f"interaction-{number}",
                "org_id": ORGS[number % len(ORGS)],
                "user_id": f"user-{dice.randrange(9)}",
                "type": dice.choice(vocabulary.INTERACTION_TYPES),
                "sent_at": sent_at,
                "sentiment": sentiment,
                "sentiment_label": None if sentiment is None else "neutral",
                "sentiment_by": None if sentiment is None else "vader",
                "mood": None,
                "quality": round(dice.random(), 3),
                "is_meaningful": dice.random() < 0.5,
                "session_id": f"session-{dice.randrange(40)}",
            }
        )


def _add_patterns(
    world: Any, dice: random.Random, org_id: str, user_id: str, *, is_silent: bool
) -> None:
    days = 0 if is_silent else dice.randrange(1, 20)
    world.rows("behavior.patterns").append(
        {
            "org_id": org_id,
            "user_id": user_id,
            "as_of": world.shown,
            "timezone": "Asia/Kolkata",
            "interactions": 3 * days,
            "active_days": days,
            "messages_per_active_day": None if is_silent else 2.5,
            "sessions": days,
            "mean_quality": None if is_silent else dice.random(),
            "mean_sentiment": None if is_silent else dice.uniform(-1, 1),
            "meaningful_share": None if is_silent else dice.random(),
            "top_types": None if is_silent else "message,reaction",
            "active_hours": None if is_silent else "0,14",
            "active_weekdays": None if is_silent else "7,1",
            "trend": None if days < 4 else dice.uniform(-1, 1),
            "last_interaction_at": None if is_silent else world.shown - days * DAY,
            "days_since_interaction": None if is_silent else days,
            "stickiness": days / 30,
            "lifecycle_state": None if is_silent else dice.choice(vocabulary.LIFECYCLE_STATES),
            "is_highly_engaged": days > 15,
            "is_declining": days % 2 == 0,
            "needs_reengagement": days < 5,
        }
    )


def _add_prediction(world: Any, dice: random.Random, org_id: str, user_id: str, as_of: Any) -> None:
    is_modelled = dice.random() < 0.5
    world.rows("behavior.predictions").append(
        {
            "org_id": org_id,
            "user_id": user_id,
            "as_of": as_of,
            "churn_probability": dice.random(),
            "churn_raw": dice.random(),
            "churn_heuristic": dice.random(),
            "churn_model": "random_forest@2026-03-16" if is_modelled else "heuristic",
            "confidence": 0.5 if is_modelled else 0.0,
            "churn_reason": None if is_modelled else "no model has been trained",
            "horizon_days": 30,
            "mood_now": dice.uniform(-1, 1),
            "mood_predicted": dice.uniform(-1, 1) if is_modelled else None,
            "best_hour": dice.randrange(24),
            "best_weekday": 7 if is_modelled else None,
            "timing_model": "logistic_regression" if is_modelled else "default",
            "timezone": "UTC",
        }
    )


def _add_trainings(world: Any, dice: random.Random) -> None:
    """Churn was trained for a later moment first, and failed last; timing had too little."""
    trainings = [
        ("churn", world.shown + DAY, "champion", world.shown - 9 * DAY),
        ("churn", world.shown - DAY, "no_champion", world.shown - 2 * DAY),
        ("mood", world.shown - 2 * DAY, "champion", world.shown),
        ("mood", world.shown - 3 * DAY, "no_champion", world.shown),
        ("churn", world.shown - 2 * DAY, "failed", world.shown),
        ("timing", world.shown, "too_few_samples", world.shown),
    ]
    for target, as_of, outcome, computed_at in trainings:
        is_won = outcome == "champion"
        world.rows("behavior.trainings").append(
            {
                "target": target,
                "as_of": as_of,
                "outcome": outcome,
                "champion": "a_model" if is_won else None,
                "reason": None if is_won else "it did not win",
                "samples": 600,
                "members": 99,
                "organisations": 3,
                "base_rate": None if target == "timing" else 0.25,
                "horizon_days": 30,
                "cutoffs": 4,
                "first_cutoff": as_of - 120 * DAY,
                "last_cutoff": as_of - 30 * DAY,
                "population": "all members",
                "computed_at": computed_at,
            }
        )
        if outcome in ("too_few_samples", "failed"):
            continue
        for model, metric in [
            ("a_model", "roc_auc"),
            ("a_baseline", "roc_auc"),
            ("a_model", "brier"),
        ]:
            world.rows("behavior.model_metrics").append(
                {
                    "target": target,
                    "as_of": as_of,
                    "model": model,
                    "metric": metric,
                    "value": dice.random(),
                    "lower": 0.1 if metric == "roc_auc" else None,
                    "upper": 0.9 if metric == "roc_auc" else None,
                    "n": 200,
                    "is_baseline": model == "a_baseline",
                    "is_champion": is_won and model == "a_model",
                }
            )
