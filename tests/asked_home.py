"""A warehouse whose signals are there, and what asking the model about them comes to.

Without Dagster and without publishing: for what is about asking alone, and has to be done often.
"""

import logging
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from engagement_pipeline.defs.asking import Asking, ModelLabels
from engagement_pipeline.defs.guidance import guides_at
from engagement_pipeline.defs.model import model_classifier
from engagement_pipeline.scoring.org_scoring import score_org
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import classifications as stored
from engagement_pipeline.warehouse.connection import Warehouse
from tests.varied_source import AS_OF


@dataclass
class Asked:
    """What one run of asking came to.

    Attributes:
        labels: what is known once the model has been asked.
        rows: the levels of all organisations that could be labelled.
        failed: why the others could not, besides those that wait.
    """

    labels: ModelLabels
    rows: pl.DataFrame
    failed: dict[str, str] = field(default_factory=dict)


def copy_home(prepared: Path, home: Path) -> Path:
    """A home of one's own with the same warehouse."""
    (home / "data").mkdir(parents=True)
    shutil.copy(prepared / "data" / "warehouse.duckdb", home / "data" / "warehouse.duckdb")
    return home


def ask_and_label(
    settings: Settings, run_id: str, *, as_of: datetime = AS_OF, only: Collection[str] = ()
) -> Asked:
    """Ask whatever has no answer yet, and write the levels of every organisation, or some."""
    now = datetime.now(UTC)
    with Warehouse.of(settings).open() as connection:
        guides = guides_at(connection, settings, as_of=as_of)
        orgs = [o for o in stored.stored_orgs(connection) if not only or o.org_id in only]
        labels = Asking(
            logging.getLogger("asked"),  # type: ignore[arg-type]
            connection,
            settings,
            model_classifier(settings),
            run_id,
            as_of,
            now,
        ).prepare(orgs, guides)
        classifier = labels.answers_for(connection, settings, [o.org_id for o in orgs], as_of)
        frames, runs = [], []
        for org in orgs:
            if org.org_id in labels.waiting or org.org_id in labels.failed:
                continue
            signals = stored.signals_of(connection, [org.org_id])[org.org_id]
            frames.append(
                score_org(guides.context_of(org), signals, classifier, as_of=as_of, computed_at=now)
            )
            runs.append(stored.OrgRun(org.org_id, "classified", frames[-1].height, "digest"))
        stored.write_levels(connection, frames, runs, as_of=as_of, computed_at=now)
    rows = pl.concat(frames) if frames else pl.DataFrame()
    return Asked(labels, rows, labels.failed)
