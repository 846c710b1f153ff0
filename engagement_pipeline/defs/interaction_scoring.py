"""Scoring the interactions that are new, for the asset `behavior.interactions_scored`.

Here belongs which processes read texts, and what is read and written in which order. How an
interaction is scored is decided in `behavior`, which tables it comes from and goes to, in
`warehouse`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from engagement_pipeline.behavior.interactions import ModelSentiments, score
from engagement_pipeline.behavior.sentiment import compound_scores
from engagement_pipeline.behavior.sessions import SESSION_GAP, join_spans, spans_of
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.interactions import (
    forget_new,
    scored_rows,
    set_new_apart,
    store,
)

_TEXTS_FOR_WORKERS = 50_000
"""From so many texts on, other processes read them too: to start one takes a second, in which this
one reads half as many by itself."""

_TEXTS_A_TASK = 5_000


@dataclass(frozen=True)
class Scored:
    """What a run scored.

    Attributes:
        new: interactions that were scored now.
        total: interactions that are scored, those included.
        texts: of the new ones, those with a text.
    """

    new: int
    total: int
    texts: int


def score_new_interactions(
    connection: Connection,
    settings: Settings,
    *,
    as_of: datetime,
    model_sentiments: ModelSentiments | None = None,
) -> Scored:
    """Score the interactions sent by `as_of` that are not scored yet.

    Each batch is one transaction: a run that is killed leaves whole batches, and the next one does
    the rest. In which order interactions arrive makes no difference in the end.
    """
    new = set_new_apart(connection, as_of=as_of, batch_rows=settings.batch_rows)
    texts = 0
    try:
        for batch in new.batches():
            rows = new.read(batch)
            scored = score(rows, compound_on_all_cores, model_sentiments)
            texts += scored["sentiment"].count()
            singles = spans_of(rows)
            near = new.sessions_near(batch, gap=SESSION_GAP).cast(singles.schema)
            joined = join_spans(pl.concat([singles, near])).select("first_id", "session_id")
            ids = joined.rename({"first_id": "interaction_id"})
            moved = joined.join(near, on="first_id", how="semi").filter(
                pl.col("first_id") != pl.col("session_id")
            )
            store(
                connection,
                scored.join(ids, on="interaction_id", how="left", maintain_order="left"),
                moved.rename({"first_id": "session_id", "session_id": "joined_id"}),
            )
    finally:
        forget_new(connection)
    return Scored(new=new.rows, total=scored_rows(connection), texts=texts)


def compound_on_all_cores(texts: Sequence[str]) -> list[float]:
    """VADER's compound score of each text: many are read by one process a core, few by this one."""
    if len(texts) < _TEXTS_FOR_WORKERS:
        return compound_scores(texts)
    # A fifth of a second to import, and only large batches need it. Its workers begin as fresh
    # interpreters without this one's main module, so that they neither inherit the threads of
    # Polars nor import Dagster, and end by themselves when nobody needs them any more.
    from joblib import Parallel, delayed

    tasks = [texts[at : at + _TEXTS_A_TASK] for at in range(0, len(texts), _TEXTS_A_TASK)]
    found = Parallel(n_jobs=-1, backend="loky", max_nbytes=None)(
        delayed(compound_scores)(task) for task in tasks
    )
    return [compound for part in found for compound in part]
