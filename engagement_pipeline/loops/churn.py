"""What came of predictions that members would churn: whether they did anything since.

When members were last active belongs to `behavior.last_activity`; who predicts churn, and by what,
to the rest of that room.
"""

import polars as pl

from engagement_pipeline.signals.activity import PAIR

CHURN = "churn"
"""The kind of these predictions in `loops.predictions`."""


def churn_outcomes(due: pl.DataFrame, last: pl.DataFrame) -> pl.DataFrame:
    """Whether members of whom it was predicted churned: did nothing until the horizon's end.

    Args:
        due: rows of `loops.predictions` of this kind, all with the same `due_at`.
        last: `org_id`, `user_id`, `last_at`, as `behavior.last_activity` gives them for that
            moment.

    Returns:
        The rows of `due` with `outcome`: 1 for who did nothing after `made_at`, else 0.
    """
    made_at = pl.col("made_at").dt.epoch("us")
    was_active = (pl.col("last_at") > made_at).fill_null(False)
    return (
        due.join(last, on=list(PAIR), how="left", maintain_order="left")
        .with_columns(outcome=(~was_active).cast(pl.Float64))
        .drop("last_at")
    )
