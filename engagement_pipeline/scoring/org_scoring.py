"""Scoring one organisation: from its members' signals to rows of `scores.classifications`.

Here a classifier's labels are checked, explained and put beside the signals they came from. How
a label is found belongs to the classifiers; which organisations are due, and where rows are
kept, belong to the caller.
"""

from datetime import UTC, datetime

import polars as pl

from engagement_pipeline.contracts import contract, vocabulary
from engagement_pipeline.scoring.classifier import LABEL_SCHEMA, Classifier
from engagement_pipeline.scoring.explanations import render
from engagement_pipeline.scoring.levels import OrgContext, with_baseline
from engagement_pipeline.scoring.severity import severity

TABLE = "scores.classifications"


class ScoringInputError(ValueError):
    """The signals are not those of the organisation and moment to be scored."""


class InvalidLabelsError(ValueError):
    """A classifier broke its promise; the text names it, the organisation and an example."""


def score_org(
    org: OrgContext,
    signals: pl.DataFrame,
    classifier: Classifier,
    *,
    as_of: datetime,
    computed_at: datetime,
    tuned_inactive_days: int | None = None,
) -> pl.DataFrame:
    """The levels of one organisation's members, explained.

    Args:
        org: the organisation.
        signals: rows of `signals.member_90d` of this organisation at `as_of`; may be none.
        classifier: who gives the levels. It is not asked where there are no members.
        as_of: the moment that the signals describe, with a time zone.
        computed_at: when the rows are computed, with a time zone.
        tuned_inactive_days: the tuned threshold in force, in whole days, that `flag_severity` is
            judged by; None: the organisation's own.

    Returns:
        One row per member, as `scores.classifications` has them, sorted by `user_id`.

    Raises:
        ScoringInputError: a time has no time zone, or the signals are of another organisation
            or moment, or hold a member twice.
        ValueError: `tuned_inactive_days` is below 1.
        InvalidLabelsError: the classifier left out, doubled or invented a member, gave an unknown
            level, or a frame that is not `LABEL_SCHEMA`.
        TemplateError: a template of a label cannot be filled.
        ContractViolationError: the result breaks the table's contract.
    """
    table = contract(TABLE)
    moment, computed = _utc(as_of, "as_of"), _utc(computed_at, "computed_at")
    if signals.is_empty():
        return table.empty()
    _check_signals(org, signals, moment)
    members = with_baseline(signals, org.thresholds)
    labels = classifier.classify(org, members, as_of=moment)
    _check_labels(labels, members, f"the classifier {classifier.name!r}, org {org.org_id!r}")
    labelled = members.join(labels, on="user_id", how="left", maintain_order="left")
    inactive_days = (
        org.thresholds.inactive_days if tuned_inactive_days is None else tuned_inactive_days
    )
    rows = (
        render(labelled)
        .with_columns(
            # Of everybody: whether the flag holds shows only beside the overrides.
            flag_severity=severity(pl.col("days_since_active"), inactive_days),
            computed_at=pl.lit(computed, dtype=table.polars_schema["computed_at"]),
        )
        .select(table.column_names)
        .sort("user_id")
    )
    return table.validate(rows)


def _utc(moment: datetime, name: str) -> datetime:
    if moment.utcoffset() is None:
        raise ScoringInputError(f"{name} must have a time zone, and {moment.isoformat()} has none")
    return moment.astimezone(UTC)


def _check_signals(org: OrgContext, signals: pl.DataFrame, as_of: datetime) -> None:
    strays = signals.filter((pl.col("org_id") != org.org_id) | (pl.col("as_of") != as_of))
    if not strays.is_empty():
        found_org, found_as_of = strays.select("org_id", "as_of").row(0)
        raise ScoringInputError(
            f"signals: expected the org {org.org_id!r} at {as_of.isoformat()}, found the org "
            f"{found_org!r} at {found_as_of.isoformat()}"
        )
    if twice := _doubled(signals["user_id"]):
        raise ScoringInputError(f"org {org.org_id!r}: signals hold the member {twice!r} twice")


def _check_labels(labels: pl.DataFrame, members: pl.DataFrame, whose: str) -> None:
    """Raise `InvalidLabelsError` unless `labels` are one good label for each of `members`."""
    if dict(labels.schema) != dict(LABEL_SCHEMA):
        raise InvalidLabelsError(
            f"{whose}: expected labels with {dict(LABEL_SCHEMA)}, found {dict(labels.schema)}"
        )
    if with_nulls := [column.name for column in labels if column.null_count()]:
        raise InvalidLabelsError(f"{whose}: found nulls in {', '.join(with_nulls)}")
    if twice := _doubled(labels["user_id"]):
        raise InvalidLabelsError(f"{whose}: expected one label a member, {twice!r} has several")
    for problem, left, right in (("left out", members, labels), ("invented", labels, members)):
        stray = left.join(right, on="user_id", how="anti")["user_id"]
        if len(stray):
            raise InvalidLabelsError(f"{whose}: {len(stray)} members {problem}, e.g. {stray[0]!r}")
    unknown = labels.filter(~pl.col("level").is_in(vocabulary.LEVELS))
    if not unknown.is_empty():
        user_id, level = unknown.select("user_id", "level").row(0)
        raise InvalidLabelsError(
            f"{whose}: expected one of {', '.join(vocabulary.LEVELS)}, found {level!r} of "
            f"{user_id!r}"
        )


def _doubled(user_ids: pl.Series) -> str | None:
    doubled = user_ids.filter(user_ids.is_duplicated())
    return str(doubled[0]) if len(doubled) else None
