"""Dagster's own records of runs: which of them may go, and how they go.

With a run go its events, and by them Dagster knows what was materialised, and which partitions were
left failed. So the runs that something shown rests on stay, however old they are.
"""

import shutil
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from dagster import AssetKey, DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.event_api import EventRecordsFilter
from dagster._core.storage.event_log import SqliteEventLogStorage

_FINISHED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
_PAGE = 500


def superfluous_runs(
    instance: DagsterInstance, *, before: datetime, partition_keys: Collection[str]
) -> list[str]:
    """The finished runs created before a moment that nothing shown rests on, the oldest first.

    These stay: of each job the last of them and the last that succeeded; the last run that
    materialised or was to materialise an asset; and the same of each partition that is still there.

    Args:
        instance: whose runs.
        before: runs created then or later stay.
        partition_keys: the partitions that are still there.

    Returns:
        Ids of runs.
    """
    old = list(_old_runs(instance, before))
    kept = {
        *_last_of_jobs(instance, {job_name for _, job_name in old}),
        *_last_of_assets(instance, set(partition_keys)),
    }
    return [run_id for run_id, _ in reversed(old) if run_id not in kept]


def delete_runs(instance: DagsterInstance, run_ids: Sequence[str]) -> Iterator[str]:
    """Delete runs one after another, with their files; gives each that is gone."""
    for run_id in run_ids:
        instance.delete_run(run_id)
        # Dagster empties these files, and leaves each where it is.
        for path in _files_of(instance, run_id):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        yield run_id


def _old_runs(instance: DagsterInstance, before: datetime) -> Iterator[tuple[str, str]]:
    """Id and job of the finished runs created before a moment, the newest first."""
    filters = RunsFilter(statuses=_FINISHED, created_before=before)
    cursor = None
    while True:
        runs = instance.get_runs(filters, cursor=cursor, limit=_PAGE)
        yield from ((run.run_id, run.job_name) for run in runs)
        if len(runs) < _PAGE:
            return
        cursor = runs[-1].run_id


def _last_of_jobs(instance: DagsterInstance, job_names: Collection[str]) -> Iterator[str]:
    for job_name in job_names:
        for statuses in (_FINISHED, [DagsterRunStatus.SUCCESS]):
            filters = RunsFilter(job_name=job_name, statuses=statuses)
            yield from (run.run_id for run in instance.get_runs(filters, limit=1))


def _last_of_assets(instance: DagsterInstance, partition_keys: set[str]) -> Iterator[str]:
    for record in instance.get_asset_records():
        entry = record.asset_entry
        last = (
            entry.last_materialization and entry.last_materialization.run_id,
            entry.last_observation and entry.last_observation.run_id,
            entry.last_planned_materialization_run_id,
            entry.last_run_id,
        )
        yield from (run_id for run_id in last if run_id)
        if partition_keys:
            yield from _last_of_partitions(instance, entry.asset_key, partition_keys)


def _last_of_partitions(
    instance: DagsterInstance, key: AssetKey, partition_keys: set[str]
) -> Iterator[str]:
    events = instance.event_log_storage
    materialization = DagsterEventType.ASSET_MATERIALIZATION
    latest = events.get_latest_storage_id_by_partition(key, materialization)
    places = [place for name, place in latest.items() if name in partition_keys]
    for start in range(0, len(places), _PAGE):
        found = events.get_event_records(
            EventRecordsFilter(
                materialization, asset_key=key, storage_ids=places[start : start + _PAGE]
            )
        )
        yield from (record.run_id for record in found)
    failed = events.get_latest_asset_partition_materialization_attempts_without_materializations(
        key
    )
    yield from (run_id for name, (run_id, _) in failed.items() if name in partition_keys)


def _files_of(instance: DagsterInstance, run_id: str) -> Iterator[Path]:
    """Where Dagster keeps a run's events and what its steps printed, by files of its own."""
    yield Path(instance.storage_directory()) / run_id
    events = instance.event_log_storage
    if isinstance(events, SqliteEventLogStorage):
        shard = events.path_for_shard(run_id)
        yield from (Path(f"{shard}{ending}") for ending in ("", "-wal", "-shm", "-journal"))
