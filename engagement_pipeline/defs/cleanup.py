"""The job that removes what was kept long enough, once a month or from the launchpad.

Here the parts are put in their order, and what they did is told. What has to stay belongs to
`warehouse.retention` and to `run_records`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from engagement_pipeline.defs.metadata import WAREHOUSE_POOL, Metadata, asset_key
from engagement_pipeline.defs.milestones import count_days
from engagement_pipeline.defs.partitions import ORGS
from engagement_pipeline.defs.progress import Progress
from engagement_pipeline.defs.resources import PipelineResource, run_start
from engagement_pipeline.defs.run_records import delete_runs, superfluous_runs
from engagement_pipeline.settings import Settings
from engagement_pipeline.warehouse import milestones, retention
from engagement_pipeline.warehouse.connection import Connection
from engagement_pipeline.warehouse.schema import upgrade

MOST_RUNS = 20_000
"""Runs that are deleted at once at most, the oldest first: each takes a hundredth of a second."""

_SPOOL_AGE = timedelta(days=1)
_FURTHEST_BEHIND = timedelta(hours=12)
"""How far the clocks of a zone are behind UTC at most: on ships."""
_RUNS = "dagster runs"


class UnscoredInteractionsError(RuntimeError):
    """Interactions were to go that have not been counted by anything."""


@dg.op(
    description="Remove what is older than the settings `retention_days`, "
    "`decision_retention_days` and `run_retention_days` say, and what is left over. Levels, "
    "milestones and the status of partitions stay as they are.",
    pool=WAREHOUSE_POOL,
)
def clean_up(context: dg.OpExecutionContext, pipeline: PipelineResource) -> None:
    """All parts, one after another; the run fails at the end if one of them did."""
    now = run_start(context)
    as_of = pipeline.moment(now)
    if as_of > now:
        raise dg.Failure(
            f"as_of: expected a moment that has come, found {as_of.isoformat()}: everything would "
            "be old then",
            allow_retries=False,
        )
    settings = pipeline.settings()
    before = retention.warehouse_megabytes(settings.warehouse_path)
    done = _Done()
    with pipeline.warehouse().open() as connection:
        upgrade(connection, now=now)
        _Cleaning(context, connection, settings, as_of, now).do_all(done)
    # What is free for DuckDB only once that connection is closed, another can cut off.
    with _telling(context, "warehouse", done), pipeline.warehouse().open() as connection:
        retention.compact(connection)
    after = retention.warehouse_megabytes(settings.warehouse_path)
    told: Metadata = {
        "as_of": as_of.isoformat(),
        "warehouse_mb_before": before,
        "warehouse_mb_after": after,
        **{f"removed: {what}": rows for what, rows in done.removed.items()},
    }
    if done.failed:
        listed = "; ".join(f"{part}: {why}" for part, why in done.failed.items())
        raise dg.Failure(f"not all was cleaned up: {listed}", metadata=told, allow_retries=False)
    context.add_output_metadata(told)


@dg.job(
    executor_def=dg.in_process_executor,
    description="Remove interactions, texts of messages, decisions and records of runs that were "
    "kept long enough.",
)
def cleanup() -> None:
    clean_up()


@dataclass
class _Done:
    """What was removed, by what it is, and which parts failed, with why."""

    removed: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@contextmanager
def _telling(context: dg.OpExecutionContext, part: str, done: _Done) -> Iterator[None]:
    """Whatever goes wrong in this part is told, and stops no other."""
    try:
        yield
    except Exception as error:
        done.failed[part] = f"{type(error).__name__}: {error}"
        context.log.exception(f"{part}: could not be cleaned up: {error}")


@dataclass(frozen=True)
class _Cleaning:
    """The parts of one run of the job, each of which says what it removed."""

    context: dg.OpExecutionContext
    connection: Connection
    settings: Settings
    as_of: datetime
    now: datetime

    def do_all(self, done: _Done) -> None:
        """Do all parts; one that fails stops no other."""
        parts: dict[str, Callable[[], dict[str, int]]] = {
            "interactions": self._interactions,
            "messages": self._messages,
            "decisions": self._decisions,
            "runs": self._runs,
            "files": self._files,
        }
        for part, remove in parts.items():
            with _telling(self.context, part, done):
                removed = remove()
                done.removed |= removed
                self.context.log.info(f"{part}: removed {removed}")

    def _interactions(self) -> dict[str, int]:
        # Days that lose interactions must have been counted, by all that is known now, and must
        # not be counted again: where that fails, nothing is removed.
        before = self._before(self.settings.retention_days)
        frozen = milestones.first_day_untouched(before)
        self._check_all_are_scored(frozen)
        count_days(self.connection, self.settings, as_of=self.now)
        milestones.freeze(self.connection, frozen, as_of=self.as_of)
        self.context.log_event(
            dg.AssetMaterialization(
                asset_key(milestones.RETENTION), metadata={"frozen_before": frozen.isoformat()}
            )
        )
        return retention.remove_interactions(self.connection, before=before, as_of=self.as_of)

    def _check_all_are_scored(self, frozen: date) -> None:
        # Days are counted from scored interactions. One that is not scored yet would be lost to
        # its day for good, be it removed or only of a day that is frozen in some zone.
        end = datetime.combine(frozen, time(0), UTC) + _FURTHEST_BEHIND
        unscored = retention.unscored_interactions(self.connection, before=end)
        if unscored:
            raise UnscoredInteractionsError(
                f"expected every interaction sent before {end:%Y-%m-%d %H:%M} UTC to be scored, "
                f"found {unscored:,} that were not: milestones do not count them yet. No "
                "interaction was removed and no day frozen. Run `refresh` or `analyze_patterns`, "
                "which score them, and then this job again"
            )

    def _messages(self) -> dict[str, int]:
        before = self._before(self.settings.retention_days)
        return retention.remove_outreach(self.connection, before=before, as_of=self.as_of)

    def _decisions(self) -> dict[str, int]:
        before = self._before(self.settings.decision_retention_days)
        return retention.remove_decisions(self.connection, before=before)

    def _runs(self) -> dict[str, int]:
        instance = self.context.instance
        found = superfluous_runs(
            instance,
            # Runs are as old as the clock says, whatever moment is cleaned up for.
            before=self.now - timedelta(days=self.settings.run_retention_days),
            partition_keys=instance.get_dynamic_partitions(str(ORGS.name)),
        )
        if len(found) > MOST_RUNS:
            self.context.log.warning(
                f"{len(found):,} runs are old enough, and {MOST_RUNS:,} of them go: the rest goes "
                "when this job runs again"
            )
        going = found[:MOST_RUNS]
        progress = Progress(self.context.log, "deleting runs", len(going), "runs")
        gone = 0
        for _ in delete_runs(instance, going):
            gone += 1
            progress.advance(1)
        return {_RUNS: gone}

    def _files(self) -> dict[str, int]:
        settings = self.settings
        history = settings.published_path.parent / "history"
        snapshots = retention.remove_snapshots(history, keep=settings.keep_snapshots)
        leftovers = retention.remove_leftovers(settings.spool_folder, before=self.now - _SPOOL_AGE)
        return {"published files": len(snapshots), "leftovers": len(leftovers)}

    def _before(self, days: int) -> datetime:
        return self.as_of - timedelta(days=days)
