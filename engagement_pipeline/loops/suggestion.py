"""Suggestion and acceptance: a computed level is a suggestion, and what admins make of it teaches.

Judgements belong here, what is learned from them (rates, agreement with admins), and what they
change: profiles that the model is told were corrected, levels that people should look at. How an
override comes about belongs to `scoring.overrides`, how far judges agree to `scoring.agreement`,
what a correction reads like in the prompt to `scoring.profiles`.
"""

from datetime import datetime, timedelta

import polars as pl

from engagement_pipeline.contracts import contract
from engagement_pipeline.loops.calibration import ACCEPTANCE_RATE
from engagement_pipeline.loops.intervals import wilson
from engagement_pipeline.scoring.agreement import cohens_kappa
from engagement_pipeline.scoring.levels import MOST_CORRECTIONS

ACCEPTED_AFTER = timedelta(days=7)
"""How long a level has to stand without an override until it counts as accepted."""

ACCEPT, REJECT = "ACCEPT", "REJECT"

_INSTANT = pl.Datetime("us", "UTC")
_MEMBER = ("org_id", "user_id")

SPELLS_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "level": pl.String(),
        "prompt_version": pl.String(),
        "model_version": pl.String(),
        "began_at": _INSTANT,
        "ended_at": _INSTANT,
    }
)
"""A spell: a stretch of scored moments over which a member's computed level stayed the same.

`ended_at` is the first moment of another level, null where there is none yet.
"""

JUDGEMENTS_SCHEMA = pl.Schema(
    {
        "org_id": pl.String(),
        "user_id": pl.String(),
        "kind": pl.String(),
        "computed_level": pl.String(),
        "admin_level": pl.String(),
        "prompt_version": pl.String(),
        "model_version": pl.String(),
        "occurred_at": _INSTANT,
        "source_key": pl.String(),
    }
)
"""A judgement: what admins made of a suggested level. No value is null.

`kind` is `ACCEPT` or `REJECT`; `admin_level` is the level that they set or left; `source_key` is
unique, and the same however often the judgement is found.
"""


def judgements(
    spells: pl.DataFrame, overrides: pl.DataFrame, *, as_of: datetime, window_start: datetime
) -> pl.DataFrame:
    """What admins made of suggested levels, so far as it happened in `(window_start, as_of]`.

    An override is a judgement of the level that is computed when it is performed: a rejection, or
    an acceptance where the admin sets that very level. A level is accepted seven days after its
    spell began (`ACCEPTED_AFTER`) if it lasted that long, no override was performed meanwhile, and
    none was in force when it began, since then nobody saw it.

    Args:
        spells: rows of `SPELLS_SCHEMA`; those of a member do not overlap. More columns may come.
        overrides: rows of `scores.override_history`, in any order; those of before the window
            count too, since an override may still have been in force.
        as_of: the end of the window, included, with a time zone; later things are invisible.
        window_start: its start, excluded, with a time zone.

    Returns:
        Rows of `JUDGEMENTS_SCHEMA`, sorted by `org_id, user_id, occurred_at, source_key`.

    Raises:
        ValueError: a time has no time zone, the window ends before it starts, spells lack a
            column, or two spells of a member begin at once.
    """
    _check_window(window_start, as_of)
    _check_spells(spells)
    known = spells.select(SPELLS_SCHEMA.names())
    found = pl.concat([_overridden(known, overrides), _left_to_stand(known, overrides)])
    # Whatever makes or prevents a judgement happens before it, so that this hides what is later.
    return found.filter(
        (pl.col("occurred_at") > window_start) & (pl.col("occurred_at") <= as_of)
    ).sort(*_MEMBER, "occurred_at", "source_key")


def learn_acceptance(judgements: pl.DataFrame) -> pl.DataFrame:
    """How often admins of each organisation leave each level standing.

    Args:
        judgements: rows of `JUDGEMENTS_SCHEMA`.

    Returns:
        Rows of `calibration.LEARNED_SCHEMA`, sorted: `acceptance-rate:<computed level>` is the
        share accepted, with its Wilson 95 % interval; `n` is the number of judgements. A level
        without a judgement has no row.
    """
    counted = (
        judgements.group_by("org_id", "computed_level")
        .agg(n=pl.len().cast(pl.Int64), accepted=(pl.col("kind") == ACCEPT).sum())
        .sort("org_id", "computed_level")
    )
    lower, upper = wilson(counted["accepted"].to_numpy(), counted["n"].to_numpy())
    return counted.select(
        "org_id",
        key=pl.lit(ACCEPTANCE_RATE) + pl.col("computed_level"),
        value=pl.col("accepted") / pl.col("n"),
        lower=pl.Series(lower, dtype=pl.Float64),
        upper=pl.Series(upper, dtype=pl.Float64),
        n="n",
    )


def label_agreement(
    judgements: pl.DataFrame, *, window_start: datetime, as_of: datetime
) -> pl.DataFrame:
    """Computed levels against admins' levels: the confusion matrix, agreement and Cohen's kappa.

    Args:
        judgements: rows of `JUDGEMENTS_SCHEMA` of the window.
        window_start: the window's start, excluded, with a time zone.
        as_of: its end, included, with a time zone.

    Returns:
        Rows of `loops.label_agreement`, sorted by key: one per pair of levels that met, with the
        figures of its organisation, prompt and model.

    Raises:
        ValueError: a time has no time zone, or the window ends before it starts.
        ContractViolationError: a row breaks the table's contract.
    """
    _check_window(window_start, as_of)
    table = contract("loops.label_agreement")
    judged = ("org_id", "prompt_version", "model_version")
    pairs = judgements.group_by(*judged, "computed_level", "admin_level").agg(
        judgements=pl.len().cast(pl.Int64)
    )
    agreed = pl.col("computed_level") == pl.col("admin_level")
    judges = (
        pairs.sort(*judged, "computed_level", "admin_level")
        .group_by(judged, maintain_order=True)
        .agg(
            pl.col("computed_level", "admin_level", "judgements"),
            n=pl.col("judgements").sum(),
            agreement=pl.col("judgements").filter(agreed).sum() / pl.col("judgements").sum(),
        )
    )
    kappa = [
        cohens_kappa(computed, by_admins, weights=counts)
        for computed, by_admins, counts in judges.select(
            "computed_level", "admin_level", "judgements"
        ).iter_rows()
    ]
    figures = judges.select(*judged, "n", "agreement", kappa=pl.Series(kappa, dtype=pl.Float64))
    rows = pairs.join(figures, on=judged, how="left").with_columns(
        window_start=pl.lit(window_start, dtype=_INSTANT), window_end=pl.lit(as_of, dtype=_INSTANT)
    )
    return table.validate(rows.select(table.column_names).sort(table.key))


def review_levels(
    calibrations_in_force: pl.DataFrame, *, below: float, as_of: datetime
) -> pl.DataFrame:
    """The levels that admins surely leave standing less often than a setting asks.

    Args:
        calibrations_in_force: rows of `loops.calibrations` in force at `as_of`, of any key.
        below: the share under which the whole interval has to lie.
        as_of: the moment, with a time zone.

    Returns:
        Rows of `loops.review_queue`, sorted by key.

    Raises:
        ContractViolationError: a row breaks the table's contract.
    """
    table = contract("loops.review_queue")
    is_rate = pl.col("key").str.starts_with(ACCEPTANCE_RATE)
    rows = calibrations_in_force.filter(is_rate & (pl.col("upper") < below)).select(
        "org_id",
        level=pl.col("key").str.strip_prefix(ACCEPTANCE_RATE),
        acceptance_rate="value",
        acceptance_rate_lower="lower",
        acceptance_rate_upper="upper",
        n="n",
        queued_at=pl.lit(as_of, dtype=_INSTANT),
        expires_at="expires_at",
    )
    return table.validate(rows.select(table.column_names).sort(table.key))


def corrections(
    judgements: pl.DataFrame,
    profiles: pl.DataFrame,
    *,
    as_of: datetime,
    at_most: int = MOST_CORRECTIONS,
) -> pl.DataFrame:
    """The profiles that a model is told admins corrected, a few for each organisation.

    The most often corrected come first, then the newest, then in the order of their texts. Where
    admins contradicted each other on a profile, the newest correction of it stands alone.

    Args:
        judgements: rows of `JUDGEMENTS_SCHEMA`; only rejections count.
        profiles: `source_key` of a judgement and `profile`, the text of the profile that the
            member shared then; a rejection without one does not count.
        as_of: the moment that is learned for, with a time zone: `computed_at` of the rows.
        at_most: how many profiles of an organisation to give.

    Returns:
        Rows of `loops.corrections`, sorted by `org_id, place`; an organisation's profiles differ.

    Raises:
        ContractViolationError: a row breaks the table's contract.
    """
    table = contract("loops.corrections")
    newest_first = ["corrected_at", "times", "admin_level", "computed_level"]
    found = (
        judgements.filter(pl.col("kind") == REJECT)
        .join(profiles.select("source_key", "profile"), on="source_key")
        .group_by("org_id", "profile", "computed_level", "admin_level")
        .agg(times=pl.len(), corrected_at=pl.col("occurred_at").max())
        .sort(newest_first, descending=[True, True, False, False])
        .unique(["org_id", "profile"], keep="first", maintain_order=True)
        .sort("org_id", "times", "corrected_at", "profile", descending=[False, True, True, False])
        .with_columns(place=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("org_id"))
        .filter(pl.col("place") <= at_most)
        .with_columns(computed_at=pl.lit(as_of, dtype=_INSTANT))
    )
    return table.validate(found.select(table.column_names))


def _overridden(spells: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    """A judgement for each override that was performed in a spell."""
    performed = overrides.filter(
        (pl.col("action") == "override") & pl.col("new_level").is_not_null()
    ).sort("performed_at")
    # Of a million spells, only those of the few whom an admin decided on are sorted.
    concerned = spells.join(performed, on=_MEMBER, how="semi").sort("began_at")
    is_acceptance = pl.col("new_level") == pl.col("level")
    return (
        performed.select(*_MEMBER, "performed_at", "new_level", "request_id")
        .join_asof(
            concerned,
            left_on="performed_at",
            right_on="began_at",
            by=_MEMBER,
            strategy="backward",
            check_sortedness=False,
        )
        .filter(
            pl.col("level").is_not_null()
            & (pl.col("ended_at").is_null() | (pl.col("performed_at") < pl.col("ended_at")))
        )
        .select(
            *_MEMBER,
            kind=pl.when(is_acceptance).then(pl.lit(ACCEPT)).otherwise(pl.lit(REJECT)),
            computed_level="level",
            admin_level="new_level",
            prompt_version="prompt_version",
            model_version="model_version",
            occurred_at="performed_at",
            source_key=pl.lit("override:") + pl.col("request_id"),
        )
    )


def _left_to_stand(spells: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    """A judgement for each spell that was published long enough without an override."""
    stood_at = pl.col("began_at") + ACCEPTED_AFTER
    lasting = spells.filter(pl.col("ended_at").is_null() | (pl.col("ended_at") >= stood_at))
    decided_on = lasting.join(overrides, on=_MEMBER, how="semi")
    accepted = pl.concat(
        [
            lasting.join(overrides, on=_MEMBER, how="anti"),
            decided_on.join(_seen_to(decided_on, overrides), on=[*_MEMBER, "began_at"], how="anti"),
        ]
    )
    return accepted.select(
        *_MEMBER,
        kind=pl.lit(ACCEPT),
        computed_level="level",
        admin_level="level",
        prompt_version="prompt_version",
        model_version="model_version",
        occurred_at=stood_at,
        source_key=_spell_key(),
    )


def _seen_to(spells: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    """Those of the spells in whose first days an override was performed, or held when they began.

    What holds is what `scoring.overrides.in_force` says, at many moments at once.
    """
    began = spells.select(*_MEMBER, "began_at").sort("began_at")
    steps = (
        overrides.filter(pl.col("action") != "expire")
        .sort("performed_at", "request_id")
        .select(*_MEMBER, "performed_at", "action", "expires_at")
    )
    before = steps.unique([*_MEMBER, "performed_at"], keep="last", maintain_order=True)
    expires_at = pl.col("expires_at")
    in_force = began.join_asof(
        before,
        left_on="began_at",
        right_on="performed_at",
        by=_MEMBER,
        strategy="backward",
        check_sortedness=False,
    ).filter(
        (pl.col("action") == "override")
        & (expires_at.is_null() | (expires_at > pl.col("began_at")))
    )
    performed = began.join_asof(
        steps.filter(pl.col("action") == "override"),
        left_on="began_at",
        right_on="performed_at",
        by=_MEMBER,
        strategy="forward",
        check_sortedness=False,
    ).filter(pl.col("performed_at") < pl.col("began_at") + ACCEPTED_AFTER)
    return pl.concat([frame.select(*_MEMBER, "began_at") for frame in (in_force, performed)])


def _spell_key() -> pl.Expr:
    """A spell's name, the same at every run.

    Lengths go with the ids, since an id may hold a colon: two spells must never be one.
    """
    org_id, user_id = (
        pl.format("{}:{}", pl.col(name).str.len_chars(), pl.col(name)) for name in _MEMBER
    )
    return pl.format(
        "spell:{}:{}:{}:{}", org_id, user_id, pl.col("level"), pl.col("began_at").dt.timestamp("us")
    )


def _check_spells(spells: pl.DataFrame) -> None:
    if missing := [name for name in SPELLS_SCHEMA if name not in spells.columns]:
        raise ValueError(
            f"spells: expected the columns {', '.join(SPELLS_SCHEMA)}, found none of "
            f"{', '.join(missing)}"
        )
    starts = spells.select(*_MEMBER, "began_at")
    doubled = starts.filter(starts.is_duplicated())
    if not doubled.is_empty():
        org_id, user_id, began_at = doubled.row(0)
        raise ValueError(
            f"spells: expected one spell of a member at a time, found several of {user_id!r} in "
            f"the org {org_id!r} that begin at {began_at.isoformat()}"
        )


def _check_window(window_start: datetime, as_of: datetime) -> None:
    for name, moment in (("window_start", window_start), ("as_of", as_of)):
        if moment.utcoffset() is None:
            raise ValueError(f"{name}: expected a time zone, found none in {moment.isoformat()}")
    if window_start > as_of:
        raise ValueError(
            f"window_start: expected a moment up to {as_of.isoformat()}, found "
            f"{window_start.isoformat()}"
        )
