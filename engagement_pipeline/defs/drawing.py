"""Drawing loop signals from what has happened: the producers of the six loops.

What counts as a signal is decided in `loops`; here tables are read, handed over, and what comes
back is added. Everything may be drawn again: a signal is added once.
"""

from datetime import UTC, datetime, timedelta

import polars as pl

from engagement_pipeline.settings import Settings
from engagement_pipeline.signals import SignalSources
from engagement_pipeline.warehouse import calibrations
from engagement_pipeline.warehouse import loop_signals as stored
from engagement_pipeline.warehouse import signals as stored_signals
from engagement_pipeline.warehouse import vocabulary as stored_vocabulary
from engagement_pipeline.warehouse.connection import Connection, transaction

WINDOW = timedelta(days=180)
"""What is learned from, but for engagement, whose window is a setting."""

# Values are quarantined by the clock, which a past day's `as_of` lies far behind.
_EVER, _FOREVER = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


def draw(
    connection: Connection,
    settings: Settings,
    *,
    as_of: datetime,
    computed_at: datetime,
) -> dict[str, int]:
    """Draw all signals of what was known at `as_of`; gives how many are new, by kind.

    Leaves the facts about notifications in place, for whoever learns from them next. Where the
    loops are off nothing is drawn.

    Args:
        connection: to the warehouse.
        settings: in force.
        as_of: the moment.
        computed_at: when this is done.
    """
    if not settings.loops_enabled:
        return {}
    before = stored.signal_counts(connection)
    keep_facts(connection, as_of)
    drawn_last_at = stored.drawn_last_at(connection)
    with transaction(connection):
        stored.emit_engagements(connection)
        _draw_judgements(connection, as_of - WINDOW, as_of)
        stored.emit(connection, stored.override_signals(connection, as_of=as_of))
        _draw_outcomes(connection, as_of)
        _draw_unknown_values(connection, drawn_last_at)
        after = stored.signal_counts(connection)
        new = {kind: count - before.get(kind, 0) for kind, count in after.items()}
        stored.record_production(
            connection, as_of=as_of, signals=sum(new.values()), computed_at=computed_at
        )
    _refresh_candidates(connection, settings, as_of)
    return new


def keep_facts(connection: Connection, as_of: datetime) -> None:
    """Compute what is known of every notification, once, for signals and rates alike."""
    # It takes a second to import, and the daily commands that do not draw need not wait for it.
    from engagement_pipeline.loops.engagement import notification_facts

    facts = notification_facts(**stored.notification_relations(connection), as_of=as_of)
    stored.keep_facts(connection, facts.to_native())


def _draw_judgements(connection: Connection, window_start: datetime, as_of: datetime) -> None:
    from engagement_pipeline.loops.suggestion import judgements

    found = judgements(
        stored.level_spells(connection, window_start=window_start, as_of=as_of),
        stored.overrides(connection, as_of=as_of),
        as_of=as_of,
        window_start=window_start,
    )
    stored.add_judgements(connection, found)
    accepted = (pl.col("kind") == "ACCEPT").cast(pl.Float64)
    stored.emit(
        connection,
        found.with_columns(
            archetype=pl.lit("suggestion"),
            subject="computed_level",
            value=accepted,
            attribution=pl.lit(None, dtype=pl.String),
        ),
    )


def _draw_outcomes(connection: Connection, as_of: datetime) -> None:
    predictions = stored.predictions(connection, as_of=as_of)
    if predictions.is_empty():
        return
    from engagement_pipeline.loops.churn import CHURN
    from engagement_pipeline.loops.cost_forecast import KINDS, actuals
    from engagement_pipeline.loops.prediction import outcome_signals, outcomes_due

    due = outcomes_due(predictions, stored.settled(connection), as_of=as_of)
    costs = due.filter(pl.col("kind").is_in(KINDS))
    calls = stored.calls_of(connection, costs["subject"].unique().to_list())
    stored.emit(connection, outcome_signals(actuals(costs, calls)))
    churn = due.filter(pl.col("kind") == CHURN)
    for (due_at,), predicted in churn.partition_by("due_at", as_dict=True).items():
        stored.emit(connection, outcome_signals(_churned(connection, predicted, due_at)))


def _churned(connection: Connection, predicted: pl.DataFrame, due_at: datetime) -> pl.DataFrame:
    from engagement_pipeline.loops.churn import churn_outcomes, last_activity

    last = last_activity(SignalSources(**stored_signals.relations(connection)), at=due_at)
    return churn_outcomes(predicted, pl.DataFrame(last.to_native()))


def _draw_unknown_values(connection: Connection, since: datetime) -> None:
    from engagement_pipeline.loops.vocabulary import unknown_value_signals

    rejects = stored_vocabulary.rejected_rows_with_unknown_values(connection, since)
    if not rejects.is_empty():
        stored.emit(connection, unknown_value_signals(rejects))


def _refresh_candidates(connection: Connection, settings: Settings, as_of: datetime) -> None:
    from engagement_pipeline.ingest.vocabulary import input_vocabularies
    from engagement_pipeline.loops.vocabulary import candidates, settled_by_mappings

    rejected = stored_vocabulary.rejected_values(connection)
    mappings = stored_vocabulary.mappings(connection)
    found = candidates(rejected, mappings, input_vocabularies(settings.known_features))
    stored_vocabulary.replace_candidates(connection, found)
    used = settled_by_mappings(
        stored.signals_of(connection, "vocabulary", window_start=_EVER, as_of=_FOREVER),
        mappings,
        found,
    )
    calibrations.record_uses(connection, "vocabulary", "ingestion", used, as_of=as_of)
