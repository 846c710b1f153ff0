"""Drawing loop signals from what has happened: the producers of the six loops.

What counts as a signal is decided in `loops`; here tables are read, handed over, and what comes
back is added. Everything may be drawn again: a signal is added once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from engagement_pipeline.loops.calibration import WINDOW
from engagement_pipeline.outreach.responses import RESPONDS_WITHIN
from engagement_pipeline.settings import Settings
from engagement_pipeline.signals import SignalSources
from engagement_pipeline.warehouse import loop_signals as stored
from engagement_pipeline.warehouse import outreach_outcomes as stored_outcomes
from engagement_pipeline.warehouse import predictions as stored_predictions
from engagement_pipeline.warehouse import signals as stored_signals
from engagement_pipeline.warehouse import vocabulary as stored_vocabulary
from engagement_pipeline.warehouse.connection import Connection, transaction


@dataclass
class Drawn:
    """What came of drawing: new signals by kind, and the loops whose signals could not be drawn."""

    new: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def draw(
    connection: Connection, settings: Settings, *, as_of: datetime, computed_at: datetime
) -> Drawn:
    """Draw all signals of what was known at `as_of`.

    One loop's trouble stops no other, and is tried again the next time. Leaves the facts about
    notifications in place, for whoever learns from them next. Where the loops are off nothing is
    drawn.

    Args:
        connection: to the warehouse.
        settings: in force.
        as_of: the moment.
        computed_at: when this is done.
    """
    drawn = Drawn()
    if not settings.loops_enabled:
        return drawn
    before = stored.signal_counts(connection)
    since = stored.drawn_last_at(connection)
    producers: dict[str, Callable[[], object]] = {
        "engagement": lambda: _draw_engagements(connection, settings, as_of),
        "suggestion": lambda: _draw_judgements(connection, as_of - WINDOW, as_of),
        "threshold": lambda: stored.emit(
            connection, stored.override_signals(connection, as_of=as_of)
        ),
        "prediction": lambda: _draw_outcomes(connection, as_of),
        "vocabulary": lambda: _draw_unknown_values(connection, settings, since),
        "ranking": lambda: _draw_responses(connection, as_of),
    }
    for archetype, produce in producers.items():
        try:
            with transaction(connection):
                produce()
        except Exception as error:
            drawn.failed[archetype] = f"{type(error).__name__}: {error}"
    after = stored.signal_counts(connection)
    drawn.new = {kind: count - before.get(kind, 0) for kind, count in after.items()}
    if not drawn.failed:
        # The next time begins here, which must not pass over what could not be drawn.
        stored.record_production(
            connection, as_of=as_of, signals=sum(drawn.new.values()), computed_at=computed_at
        )
    return drawn


def _draw_engagements(connection: Connection, settings: Settings, as_of: datetime) -> None:
    # It takes a second to import, and the daily commands that do not draw need not wait for it.
    from engagement_pipeline.loops.engagement import notification_facts

    facts = notification_facts(**stored.notification_relations(connection), as_of=as_of)
    sent_since = as_of - timedelta(days=settings.engagement_lookback_days)
    stored.keep_facts(connection, facts.to_native(), sent_since=sent_since)
    stored.emit_engagements(connection)


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
    due = stored_predictions.due_predictions(connection, as_of=as_of)
    if due.is_empty():
        return
    from engagement_pipeline.loops.churn import CHURN
    from engagement_pipeline.loops.cost_forecast import KINDS, actuals
    from engagement_pipeline.loops.prediction import outcome_signals

    costs = due.filter(pl.col("kind").is_in(KINDS))
    calls = stored_predictions.calls_of(connection, costs["subject"].unique().to_list())
    stored.emit(connection, outcome_signals(actuals(costs, calls)))
    churn = due.filter(pl.col("kind") == CHURN)
    for (due_at,), predicted in churn.partition_by("due_at", as_dict=True).items():
        stored.emit(connection, outcome_signals(_churned(connection, predicted, due_at)))


def _churned(connection: Connection, predicted: pl.DataFrame, due_at: datetime) -> pl.DataFrame:
    from engagement_pipeline.behavior.last_activity import last_activity
    from engagement_pipeline.loops.churn import churn_outcomes

    last = last_activity(SignalSources(**stored_signals.relations(connection)), at=due_at)
    return churn_outcomes(predicted, pl.DataFrame(last.to_native()))


def _draw_responses(connection: Connection, as_of: datetime) -> None:
    found = stored_outcomes.outcomes_without_signal(
        connection, since=as_of - WINDOW, as_of=as_of, responds_within=RESPONDS_WITHIN
    )
    if found.is_empty():
        return
    from engagement_pipeline.loops.routing import response_signals

    stored.emit(connection, response_signals(found))


def _draw_unknown_values(connection: Connection, settings: Settings, since: datetime) -> None:
    from engagement_pipeline.loops.vocabulary import unknown_value_signals

    rejects = stored_vocabulary.rejected_rows_with_unknown_values(connection, since)
    if not rejects.is_empty():
        stored.emit(connection, unknown_value_signals(rejects))
    _refresh_candidates(connection, settings)


def _refresh_candidates(connection: Connection, settings: Settings) -> None:
    from engagement_pipeline.ingest.vocabulary import input_vocabularies
    from engagement_pipeline.loops.vocabulary import candidates

    rejected = stored_vocabulary.rejected_values(connection)
    mappings = stored_vocabulary.mappings(connection)
    found = candidates(rejected, mappings, input_vocabularies(settings.known_features))
    stored_vocabulary.replace_candidates(connection, found)
