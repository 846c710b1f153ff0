"""Looking whether a batch has been answered, for those who wait without holding a run open."""

from collections.abc import Sequence
from dataclasses import replace

from engagement_pipeline.defs.model import way_of
from engagement_pipeline.scoring.anthropic.batch_run import has_news
from engagement_pipeline.scoring.anthropic.ledger import Row
from engagement_pipeline.scoring.anthropic.session import Way
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import llm
from engagement_pipeline.warehouse.connection import Warehouse

__all__ = ["has_news", "open_batches", "quick_way_of"]

_LOOK_SECONDS = 10.0


def open_batches(settings: Settings, *, patience_seconds: float) -> Sequence[Row]:
    """Batches that are out; waits no longer than so many seconds for the warehouse."""
    warehouse = replace(Warehouse.of(settings), lock_timeout_seconds=patience_seconds)
    with warehouse.open() as connection:
        return llm.open_batches(connection)


def quick_way_of(settings: Settings) -> Way:
    """The way to the model for a mere look: Dagster gives a sensor a minute.

    Raises:
        MissingKeyError: there is no key.
    """
    way = way_of(settings)
    return replace(way, connection=replace(way.connection, timeout_seconds=_LOOK_SECONDS))
