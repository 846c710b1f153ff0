"""The assets of behaviour: interactions scored, patterns, and what is predicted of each member.

What is computed belongs to `behavior`; what is read and written for it, to `interaction_scoring`,
`pattern_analysis` and `predicting`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from engagement_pipeline.contracts import Contract, contract
from engagement_pipeline.defs.ingest import RAW_KEYS
from engagement_pipeline.defs.interaction_scoring import score_new_interactions
from engagement_pipeline.defs.metadata import (
    DAILY,
    WAREHOUSE_POOL,
    Metadata,
    asset_key,
    contract_check,
    contract_check_spec,
    counts_table,
    table_spec,
)
from engagement_pipeline.defs.pattern_analysis import analyze_patterns
from engagement_pipeline.defs.predicting import as_metadata, predict
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import behavior_snapshots as snapshots
from engagement_pipeline.warehouse import classifications as stored_scores
from engagement_pipeline.warehouse import member_predictions as stored
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.model_files import library_versions
from engagement_pipeline.warehouse.quality import Violation, row_count, violations
from engagement_pipeline.warehouse.schema import upgrade

if TYPE_CHECKING:
    from engagement_pipeline.defs.asking_sentiments import SentimentAsker

INTERACTIONS = contract("behavior.interactions_scored")
PATTERNS = contract("behavior.patterns")
PREDICTIONS = contract("behavior.predictions")
TRAININGS = contract("behavior.trainings")
SNAPSHOTS = contract("behavior.snapshots")
TABLES = (INTERACTIONS, PATTERNS, PREDICTIONS)
VERSION = "1"
"""Raised when the meaning of a pattern or a prediction changes: then all are computed anew."""

_NOT_AGAIN = (
    "what is shown was predicted for an earlier moment than was trained for, and stands: the next "
    "refresh predicts by the new models"
)
_SERVES = "a_model_serves"
A_MODEL_SERVES = dg.AssetCheckSpec(
    _SERVES,
    asset=asset_key(PREDICTIONS),
    description="Churn is predicted by a model that beat its baseline. Otherwise the heuristic "
    "serves, with confidence 0, and this says why.",
)


def succeeded(table: Contract) -> dg.AssetCheckSpec:
    """The check that a table could be computed; what could not be stays as it was."""
    return dg.AssetCheckSpec(
        "computation_succeeded",
        asset=asset_key(table),
        description="The rows could be computed. Where they could not, those of the last time "
        "stand, and no level waits for them.",
    )


class AnalysisConfig(dg.Config):
    """Whose patterns are described."""

    user_id: str = Field(default="", description="Describe only this person. Empty: everybody.")
    batch_size: int = Field(
        default=0, ge=0, description="Members described at a time. 0: as many as memory allows."
    )


@dataclass
class Done:
    """What a run made of the tables of behaviour.

    Attributes:
        metadata: by table.
        failed: table -> why it could not be computed.
        warned: table -> what went wrong on the way, though it could be computed.
        not_served: why no model predicts churn, where none does.
    """

    metadata: dict[str, Metadata] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    warned: dict[str, str] = field(default_factory=dict)
    not_served: str | None = None


def _spec(table: Contract, deps: Sequence[dg.AssetKey], *kinds: str) -> dg.AssetSpec:
    return table_spec(
        table,
        group="behavior",
        deps=deps,
        kinds=(*kinds, "duckdb"),
        skippable=True,
        freshness_policy=DAILY,
    )


@dg.multi_asset(
    name="behavior",
    can_subset=True,
    specs=[
        _spec(INTERACTIONS, [RAW_KEYS["interactions"]], "python"),
        _spec(
            PATTERNS,
            [
                asset_key(INTERACTIONS),
                *(RAW_KEYS[name] for name in ("memberships", "profiles", "organizations")),
            ],
            "polars",
        ),
        _spec(
            PREDICTIONS,
            [
                asset_key(INTERACTIONS),
                asset_key(TRAININGS),
                asset_key(contract("loops.calibration_maps")),
                *(
                    RAW_KEYS[name]
                    for name in (
                        "organizations",
                        "memberships",
                        "profiles",
                        "attendance",
                        "event_views",
                        "notifications",
                        "notification_reads",
                        "interactions",
                    )
                ),
            ],
            "scikitlearn",
        ),
    ],
    check_specs=[
        *(contract_check_spec(table, is_blocking=False) for table in TABLES),
        *(succeeded(table) for table in TABLES),
        A_MODEL_SERVES,
    ],
    pool=WAREHOUSE_POOL,
)
def behavior(
    context: dg.AssetExecutionContext, config: AnalysisConfig, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Score new interactions, describe members' patterns, and predict what they will do.

    None of it may keep the levels of a day back: what cannot be computed is told by a red check,
    and stays as it was.
    """
    settings = pipeline.settings()
    now = run_start(context)
    tables = [table for table in TABLES if asset_key(table) in context.selected_asset_keys]
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        as_of = _moment(connection, pipeline, tables, now)
        if as_of is None:
            context.log.info(_NOT_AGAIN)
            return
        work = _Work(context, connection, settings, config, as_of, now)
        done = work.done(tables)
        rows = {table.full_name: row_count(connection, table) for table in tables}
        broken = {table.full_name: violations(connection, table) for table in tables}
    for table in tables:
        yield dg.MaterializeResult(
            asset_key=asset_key(table),
            metadata={
                "dagster/row_count": rows[table.full_name],
                "as_of": as_of.isoformat(),
                **done.metadata.get(table.full_name, {}),
            },
        )
    yield from _checks(context, tables, broken, done)


def _moment(
    connection: Connection,
    pipeline: PipelineResource,
    tables: Sequence[Contract],
    now: datetime,
) -> datetime | None:
    """The run's moment; none where there is nothing to predict anew.

    What is only predicted anew, as after a training, is predicted for the moment that is shown:
    beside levels of another one it would not show. Models trained for a later one may not do that.
    """
    moment = pipeline.moment(now)
    if list(tables) != [PREDICTIONS]:
        return moment
    shown = stored.predicted_as_of(connection) or stored_scores.shown_as_of(connection)
    if shown is None:
        return moment
    trained_for = [row["as_of"] for row in stored.last_trainings(connection).values()]
    return None if any(as_of > shown for as_of in trained_for) else shown


@dataclass(frozen=True)
class _Work:
    """The stages of one run, each of which fills one table."""

    context: dg.AssetExecutionContext
    connection: Connection
    settings: Settings
    config: AnalysisConfig
    as_of: datetime
    now: datetime

    def done(self, tables: Sequence[Contract]) -> Done:
        """Fill these tables, one after another; one that cannot be filled stays as it was.

        Where interactions could not be scored so do the others: those who spoke would be described
        as silent, and predicted to stay so.
        """
        stages: dict[str, Callable[[Done], Metadata]] = {
            INTERACTIONS.full_name: self._score,
            PATTERNS.full_name: self._describe,
            PREDICTIONS.full_name: self._predict,
        }
        done = Done()
        for table in tables:
            if INTERACTIONS.full_name in done.failed:
                done.failed[table.full_name] = (
                    f"waits for {INTERACTIONS.full_name}: {done.failed[INTERACTIONS.full_name]}"
                )
                continue
            try:
                done.metadata[table.full_name] = stages[table.full_name](done)
            except Exception as error:
                done.failed[table.full_name] = f"{type(error).__name__}: {error}"
                self.context.log.exception(f"{table.full_name}: nothing could be computed: {error}")
        return done

    def _score(self, done: Done) -> Metadata:
        table = INTERACTIONS.full_name
        asker: SentimentAsker | None = None

        def ask(texts: Sequence[str], org_ids: Sequence[str]) -> Sequence[float | None]:
            nonlocal asker
            if table not in done.warned:
                try:
                    asker = asker or self._asker()
                    return [None] * len(texts) if asker is None else asker(texts, org_ids)
                except Exception as error:
                    done.warned[table] = (
                        "the model could not be asked how texts sound, and VADER's word stands "
                        f"alone: {error}"
                    )
                    self.context.log.exception(done.warned[table])
            return [None] * len(texts)

        scored = score_new_interactions(
            self.connection,
            self.settings,
            as_of=self.as_of,
            model_sentiments=ask if self.settings.sentiment_llm else None,
        )
        told: Metadata = {"new_interactions": scored.new, "texts": scored.texts}
        return told if asker is None else {**told, "asked_the_model": asker.counts.as_dict()}

    def _describe(self, _done: Done) -> Metadata:
        is_whole = not self.config.user_id
        digest = self._digest()
        if is_whole and snapshots.is_unchanged(self.connection, PATTERNS.full_name, digest):
            return {"is_unchanged": True}
        progress: Progress | None = None

        def report(described: int, total: int) -> None:
            nonlocal progress
            progress = progress or Progress(self.context.log, "patterns", total, "members")
            progress.advance(described - progress.done)

        self._record(PATTERNS, None)
        found = analyze_patterns(
            self.connection,
            self.settings,
            as_of=self.as_of,
            user_id=self.config.user_id or None,
            batch_size=self.config.batch_size or None,
            report=report,
        )
        if is_whole:
            self._record(PATTERNS, digest)
        flags = {
            "highly engaged": found.highly_engaged,
            "declining": found.declining,
            "needing re-engagement": found.needing,
        }
        return {
            "members": found.members,
            "flags": dg.MetadataValue.md(counts_table(flags.items(), title="flag", unit="members")),
        }

    def _predict(self, done: Done) -> Metadata:
        digest = self._digest()
        if snapshots.is_unchanged(self.connection, PREDICTIONS.full_name, digest):
            shown = stored.overview(self.connection)
            done.not_served = shown["churn_reason"]
            return {"is_unchanged": True, **as_metadata(shown)}
        # Whoever breaks after the rows are written must not leave the word of the ones before.
        self._record(PREDICTIONS, None)
        found = predict(self.connection, self.settings, as_of=self.as_of, log=self.context.log)
        self._record(PREDICTIONS, digest)
        done.not_served = found.not_served
        return found.metadata

    def _asker(self) -> "SentimentAsker | None":
        # The API's client takes seconds to import, and nearly nobody asks it about texts.
        from engagement_pipeline.defs.asking_sentiments import model_sentiments

        return model_sentiments(
            self.connection,
            self.settings,
            run_id=self.context.run.run_id,
            as_of=self.as_of,
            log=self.context.log,
        )

    def _digest(self) -> str:
        return snapshots.inputs_digest(
            self.connection,
            as_of=self.as_of,
            settings={
                "version": VERSION,
                "libraries": library_versions(),
                "churn_horizon_days": self.settings.churn_horizon_days,
                "loops_enabled": self.settings.loops_enabled,
            },
            models=self.settings.models_folder,
        )

    def _record(self, table: Contract, digest: str | None) -> None:
        snapshots.record(
            self.connection,
            table.full_name,
            digest,
            as_of=self.as_of,
            computed_at=self.now,
        )


def _checks(
    context: dg.AssetExecutionContext,
    tables: Sequence[Contract],
    broken: dict[str, list[Violation]],
    done: Done,
) -> Iterator[dg.AssetCheckResult]:
    wanted = context.selected_asset_check_keys
    found = []
    for table in tables:
        is_failed = table.full_name in done.failed
        why = done.failed.get(table.full_name) or done.warned.get(table.full_name)
        found.append(contract_check(table, broken[table.full_name]))
        found.append(
            dg.AssetCheckResult(
                asset_key=asset_key(table),
                check_name=succeeded(table).name,
                passed=why is None,
                severity=dg.AssetCheckSeverity.ERROR if is_failed else dg.AssetCheckSeverity.WARN,
                description=why,
            )
        )
    if PREDICTIONS in tables:
        why = done.failed.get(PREDICTIONS.full_name) or done.not_served
        found.append(
            dg.AssetCheckResult(
                asset_key=asset_key(PREDICTIONS),
                check_name=_SERVES,
                passed=why is None,
                severity=dg.AssetCheckSeverity.WARN,
                description=why,
            )
        )
    yield from (
        check
        for check in found
        if dg.AssetCheckKey(check.asset_key or dg.AssetKey([]), str(check.check_name)) in wanted
    )


WRITTEN_ALONG = [table_spec(SNAPSHOTS, group="behavior", deps=[asset_key(PREDICTIONS)])]
"""Written along with the tables above, and by nothing else."""
