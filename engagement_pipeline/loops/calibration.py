"""Calibrations: versions of what was learned, and which of them is in force.

What is learned belongs to the modules of the six loops; where versions are kept belongs to the
warehouse.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from engagement_pipeline.contracts import contract

TABLE = "loops.calibrations"

WINDOW = timedelta(days=180)
"""What is learned from, but for engagement, whose window is a setting."""

ACCEPTANCE_RATE = "acceptance-rate:"
COST_RATIO = "cost-ratio:"
THRESHOLD = "threshold:"
"""What keys begin with that also those read who learn nothing; the level, the kind of tokens, the
threshold follows."""

EXPIRES_AFTER = timedelta(days=30)
"""How long after the end of its window a calibration stays in force."""

LEARNED_SCHEMA = pl.Schema(
    {
        name: contract(TABLE).polars_schema[name]
        for name in ("org_id", "key", "value", "lower", "upper", "n")
    }
)
"""What a learner gives: a row per organisation and key; `lower` and `upper` may be null."""


@dataclass(frozen=True)
class Calibration:
    """One calibration in force, as `loops.calibrations` has it."""

    org_id: str
    key: str
    value: float
    lower: float | None
    upper: float | None
    n: int
    window_start: datetime
    window_end: datetime
    computed_at: datetime
    expires_at: datetime
    previous_value: float | None


def new_versions(
    learned: pl.DataFrame, *, window_start: datetime, as_of: datetime, versions: pl.DataFrame
) -> pl.DataFrame:
    """What was learned, as rows to add to `loops.calibrations`.

    Args:
        learned: rows of `LEARNED_SCHEMA`.
        window_start: start of the window, excluded, with a time zone.
        as_of: its end, included, with a time zone; the moment that they are computed for.
        versions: rows of `loops.calibrations`; those of `as_of` and later are not looked at.

    Raises:
        ContractViolationError: a row breaks the contract, or a key comes twice.
    """
    table = contract(TABLE)
    instant = table.polars_schema["computed_at"]
    before = (
        versions.filter(pl.col("computed_at") < as_of)
        .sort("computed_at")
        .unique(["org_id", "key"], keep="last")
        .select("org_id", "key", previous_value="value")
    )
    rows = learned.join(before, on=["org_id", "key"], how="left").with_columns(
        window_start=pl.lit(window_start, dtype=instant),
        window_end=pl.lit(as_of, dtype=instant),
        computed_at=pl.lit(as_of, dtype=instant),
        expires_at=pl.lit(as_of + EXPIRES_AFTER, dtype=instant),
    )
    return table.validate(rows.select(table.column_names).sort(table.key))


def in_force(versions: pl.DataFrame, *, as_of: datetime) -> pl.DataFrame:
    """The calibrations in force at `as_of`: at most one per organisation and key.

    Args:
        versions: rows of `loops.calibrations`, in any order; those computed for later moments are
            invisible.
        as_of: the moment, with a time zone.

    Returns:
        Rows of `versions`, sorted by `org_id, key`.
    """
    return (
        versions.filter((pl.col("computed_at") <= as_of) & (pl.col("expires_at") > as_of))
        .sort("computed_at")
        .unique(["org_id", "key"], keep="last", maintain_order=True)
        .sort("org_id", "key")
    )


def get_calibration(
    versions: pl.DataFrame, org_id: str, key: str, as_of: datetime
) -> Calibration | None:
    """The calibration in force for an organisation and key at `as_of`; None where there is none.

    Whoever gets None falls back to a default of their own, never to zero.
    """
    of_key = versions.filter((pl.col("org_id") == org_id) & (pl.col("key") == key))
    found = in_force(of_key, as_of=as_of).to_dicts()
    return Calibration(**found[0]) if found else None
