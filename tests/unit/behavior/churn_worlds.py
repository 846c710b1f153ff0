"""Made-up samples of churn: members whose outcomes follow from their features, or from nothing."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
HORIZON_DAYS = 30
FEATURES = ("days_since_active", "visits", "mood", "messages")
"""The second counts only together with the third; the fourth is unknown of everybody."""


def cutoff(number):
    return FIRST + timedelta(days=HORIZON_DAYS * number)


def made_samples(*, people=60, cutoffs=6, seed=1, organisations=3, is_by_chance=False):
    """Everybody at every cut-off; every fifth person is in two organisations."""
    generator = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        for number in range(cutoffs):
            days, mood = generator.exponential(20), generator.normal()
            visits = float(generator.poisson(3))
            chance = 1 / (1 + np.exp(-(days / 20 - 1 + 1.5 * mood * (visits - 3))))
            outcome = float(generator.random() < (0.4 if is_by_chance else chance))
            for copy in range(2 if person % 5 == 0 else 1):
                rows.append(
                    {
                        "org_id": f"o{(person + copy) % organisations}",
                        "user_id": f"u{person:04d}",
                        "cutoff": cutoff(number),
                        "outcome": outcome,
                        "days_since_active": days,
                        "visits": visits,
                        "mood": mood if person % 7 else None,
                        "messages": None,
                    }
                )
    instant = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        rows, schema_overrides={"cutoff": instant, "mood": pl.Float64, "messages": pl.Float64}
    )


def made_baselines(train, test, *, horizon_days):
    """Days since the last activity, and a rule that knows how many of `train` churned."""
    return {
        "recency": test["days_since_active"].to_numpy(),
        "frequency": train["outcome"].mean() * horizon_days - test["visits"].to_numpy(),
    }
