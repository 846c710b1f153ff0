"""Raw rows into rows that keep a table's contract, and rejects with one reason each.

Pure: frames in, frames out. A single column's reading is in `values`. Rules that need a whole file
or the warehouse (one row per key, erased persons, too many rejects) are not here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engagement_pipeline.contracts import Column, Contract, contract
from engagement_pipeline.contracts.vocabulary import ORG_SETTING_BOUNDS
from engagement_pipeline.ingest.rejects import REJECTS_SCHEMA, rejects_of_rows
from engagement_pipeline.ingest.source_columns import EXTRA_COLUMNS, source_columns
from engagement_pipeline.ingest.values import Fault, ReadColumn, read_column, tidy
from engagement_pipeline.ingest.vocabulary import Vocabulary, vocabularies_of

UNKNOWN = "unknown_"
"""How the reason begins for which a value is rejected that its column does not know."""
UNKNOWN_ORG = "unknown_org"


@dataclass(frozen=True)
class CheckedRows:
    """What became of a batch: every row of it is in `rows` or in `rejects`, never in both.

    `rows`: `row_number` (Int64) and the contract's columns in its types.
    `rejects`: `row_number`, `reason`, `row_json` (see `rejects`).
    `reads`: for a table whose files may bring reads along (notifications), `row_number` and the
    columns of `raw.notification_reads`, for those of `rows` that have one; else None.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame
    reads: pl.DataFrame | None = None


def check_rows(
    batch_frame: pl.DataFrame,
    contract: Contract,
    *,
    now: datetime,
    known_org_ids: pl.Series | None = None,
    vocabularies: Mapping[str, Vocabulary] | None = None,
) -> CheckedRows:
    """Read and check the rows of one batch.

    A rejected row has one reason, the first that holds: the columns in the contract's order (in
    each: missing, too long, unknown or bad timestamp, future), then the extra columns, then the
    table's own rules, then `unknown_org`.

    Args:
        batch_frame: `row_number` and source columns, as `RawBatch.frame` has them. A column that
            is not there is one of nulls.
        contract: of the table in the schema `raw`.
        now: the moment of ingestion, with its time zone.
        known_org_ids: String; None: no row is rejected for its organisation.
        vocabularies: column -> what its values mean; for others, what the contract says of them.
    """
    known = vocabularies_of(contract) | dict(vocabularies or {})
    org_ids = _org_ids(batch_frame, contract, known)
    columns: dict[str, ReadColumn] = {
        column.name: read_column(
            _found(batch_frame, column),
            column,
            now=now,
            vocabulary=known.get(column.name),
            org_ids=org_ids,
        )
        for column in source_columns(contract)
    }
    values = pl.DataFrame([read.values for read in columns.values()])
    faults = [fault for read in columns.values() for fault in read.faults]
    for reason, rule in _ROW_RULES.get(contract.full_name, ()):
        faults.append(Fault(reason, values.select(rule.fill_null(False)).to_series()))
    faults += _unknown_org(values, contract, known_org_ids)
    values.insert_column(0, batch_frame.get_column("row_number"))
    return _parted(batch_frame, values, [f for f in faults if f.rows.any()], contract)


def now_explained(
    quarantined: pl.DataFrame,
    *,
    vocabularies: Mapping[str, Vocabulary],
    known_org_ids: pl.Series,
) -> pl.DataFrame:
    """Those of one table's rejected values that `check_rows` would no longer reject.

    Args:
        quarantined: `reason`, `org_id`, `value` (the value that `unknown_<column>` is about), as
            they were found.
        vocabularies: column -> what its values mean.
        known_org_ids: String.
    """
    known = set(known_org_ids)
    tidied = quarantined.select("reason", pl.col("org_id", "value").str.strip_chars())
    return quarantined.filter(
        pl.Series(
            [
                org_id in known
                if reason == UNKNOWN_ORG
                else _is_explained(vocabularies.get(reason.removeprefix(UNKNOWN)), value, org_id)
                for reason, org_id, value in tidied.iter_rows()
            ],
            dtype=pl.Boolean,
        )
    )


def _is_explained(vocabulary: Vocabulary | None, value: str | None, org_id: str | None) -> bool:
    if vocabulary is None or not value:
        return False
    return vocabulary.meaning(value, org_id) is not None


_IS_WITHIN_BOUNDS = pl.any_horizontal(
    (pl.col("setting") == setting)
    & pl.col("value").cast(pl.Int64, strict=False).is_between(*bounds)
    for setting, bounds in ORG_SETTING_BOUNDS.items()
)

_ROW_RULES: dict[str, tuple[tuple[str, pl.Expr], ...]] = {
    "raw.org_settings": (
        (
            "unknown_value",
            # The cast alone would also take a sign.
            ~(pl.col("value").str.contains(r"^[0-9]{1,9}$") & _IS_WITHIN_BOUNDS),
        ),
    ),
    "raw.override_requests": (
        ("missing_level", (pl.col("action") == "override") & pl.col("level").is_null()),
    ),
}
"""Per table: (reason, condition that is true on a row that breaks the rule)."""


def _found(frame: pl.DataFrame, column: Column) -> pl.Series:
    if column.name in frame.columns:
        return frame.get_column(column.name)
    return pl.repeat(None, frame.height, dtype=pl.Null, eager=True).alias(column.name)


def _org_ids(
    frame: pl.DataFrame, contract: Contract, vocabularies: Mapping[str, Vocabulary]
) -> pl.Series | None:
    """The rows' organisations as found, trimmed; None where it does not matter which they are."""
    column = next((c for c in contract.columns if c.name == "org_id"), None)
    if column is None or not any(known.org_spellings for known in vocabularies.values()):
        return None
    return tidy(_found(frame, column), column)


def _unknown_org(
    values: pl.DataFrame, contract: Contract, known_org_ids: pl.Series | None
) -> list[Fault]:
    """A row of an organisation that is not known; the organisations themselves make it known."""
    is_organizations = contract.full_name == "raw.organizations"
    if known_org_ids is None or is_organizations or "org_id" not in values.columns:
        return []
    org_ids = values.get_column("org_id")
    is_known = org_ids.is_in(known_org_ids.cast(pl.String).implode())  # null where there is no id
    return [Fault(UNKNOWN_ORG, (~is_known).fill_null(False))]


def _parted(
    found: pl.DataFrame, values: pl.DataFrame, faults: list[Fault], contract: Contract
) -> CheckedRows:
    rejects = pl.DataFrame(schema=REJECTS_SCHEMA)
    if faults:
        reason = pl.coalesce(pl.when(fault.rows).then(pl.lit(fault.reason)) for fault in faults)
        reasons = values.select(reason.alias("reason")).to_series()
        is_bad = reasons.is_not_null()
        named = ["row_number", *(c.name for c in source_columns(contract) if c.name in found)]
        rejects = rejects_of_rows(found.select(named).filter(is_bad), reasons.filter(is_bad))
        values = values.filter(~is_bad)
    rows = values.select("row_number", *contract.column_names)
    if contract.full_name not in EXTRA_COLUMNS:
        return CheckedRows(rows, rejects)
    return CheckedRows(rows, rejects, _reads(values))


def _reads(values: pl.DataFrame) -> pl.DataFrame:
    reads = contract("raw.notification_reads").column_names
    return values.filter(pl.col("read_at").is_not_null()).select("row_number", *reads)
