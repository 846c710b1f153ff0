"""Which model serves, if any: the best, if it is surely better than the simplest baseline.

The figures that decide belong to `classification_metrics`; what is done with the champion, to
`churn_training`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engagement_pipeline.behavior.classification_metrics import Assessment

METRIC = "average_precision"
BASELINE = "recency"


@dataclass(frozen=True)
class Choice:
    """The best model, and whether it is the champion.

    Attributes:
        best: the model of the highest average precision.
        champion: the same if it won, else None.
        reason: why it did not; None if it did.
    """

    best: str
    champion: str | None
    reason: str | None


def choose_champion(
    assessment: Assessment, models: Sequence[str], *, baseline: str = BASELINE
) -> Choice:
    """The best model by average precision, if the 95 % interval of its gain lies above zero.

    The gain is against the baseline on the same held-out rows, with churn as the positive class,
    and its interval by the paired bootstrap of members. Only the best is asked: to ask every model
    would be to ask chance several times.

    Args:
        assessment: of all models and the baseline.
        models: who may win; of equals the first.
        baseline: who must be beaten.

    Raises:
        ValueError: there is no model, or one of them or the baseline was not assessed.
    """
    if not models:
        raise ValueError("expected at least one model to choose from, found none")
    found = {name: assessment.figure(name, METRIC).value for name in models}
    best = max(models, key=lambda name: found[name])
    gain = assessment.gain(best, baseline, METRIC)
    # Also false where there is no interval.
    if gain.lower > 0:
        return Choice(best=best, champion=best, reason=None)
    beaten = assessment.figure(baseline, METRIC).value
    return Choice(
        best=best,
        champion=None,
        reason=(
            f"No model is surely better than {baseline}. The best, {best}, has an average "
            f"precision of {found[best]:.3f} against {beaten:.3f}: a gain of {gain.value:+.3f}, "
            f"95 % interval {gain.lower:+.3f} to {gain.upper:+.3f}."
        ),
    )
